# SPDX-License-Identifier: GPL-2.0
"""Which source lines the instructions of a module come from, inlined calls and all."""

import os
import pathlib
import struct
import subprocess
import tempfile

from .errors import SetupError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHF_EXECINSTR = 4
# Between sections, for addresses: in a module that is not loaded they all begin at 0.
APART = 1 << 28


def _set_apart(data):
    """Gives each section of code addresses of its own. Returns them by the section's name."""
    table, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    found = {}
    for i, (name, _, flags, *_) in enumerate(headers):
        if flags & SHF_EXECINSTR:
            at = headers[names][4] + name
            base = len(found) * APART
            found[bytes(data[at:data.index(b"\0", at)]).decode()] = base
            struct.pack_into("<Q", data, table + i * size + 16, base)
    return found


def _frames(lines):
    """What lies in this tree, as (file, line)."""
    found = []
    for line in lines:
        name, number, _ = line.rsplit(":", 2)
        path = os.path.normpath(name)
        # Line 0: of several lines, or of none.
        if path.startswith(f"{ROOT}{os.sep}") and int(number):
            found.append((os.path.relpath(path, ROOT), int(number)))
    return found


def look_up(objdump, path, places):
    """The source lines of instructions, each as (section, offset): by those, the (file, line) of the
    calls that it is in, innermost first."""
    folder, name = os.path.split(objdump)
    program = os.path.join(folder, name.replace("objdump", "symbolizer"))
    data = bytearray(path.read_bytes())
    bases = _set_apart(data)
    known = [place for place in places if place[0] in bases]
    asked = "".join(f"{bases[section] + offset:#x}\n" for section, offset in known)
    with tempfile.NamedTemporaryFile(suffix=".ko") as copy:
        copy.write(data)
        copy.flush()
        argv = [program, f"--obj={copy.name}", "--inlines", "--functions=none"]
        try:
            done = subprocess.run(argv, input=asked, check=False, capture_output=True, text=True)
        except OSError as error:
            raise SetupError(f"{program}: {error.strerror}: apt-get install llvm") from error
    answers = done.stdout.split("\n\n")
    if done.returncode or len(answers) < len(known):
        raise SetupError(f"{program} can't read {path}: {done.stderr.strip()}")
    return {place: _frames(answer.split()) for place, answer in zip(known, answers)}
