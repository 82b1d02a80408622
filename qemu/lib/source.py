# SPDX-License-Identifier: GPL-2.0
"""Which source lines the instructions of a module come from, inlined calls and all."""

import os
import pathlib
import tempfile

from . import llvm
from .errors import SetupError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


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


def look_up(objdump, path, data, bases, places):
    """The source lines of instructions, each as (section, offset): by those, the (file, line) of the
    calls that it is in, innermost first. data: the file, with sections that begin at bases."""
    folder, name = os.path.split(objdump)
    program = os.path.join(folder, name.replace("objdump", "symbolizer"))
    known = [place for place in places if place[0] in bases]
    asked = "".join(f"{bases[section] + offset:#x}\n" for section, offset in known)
    with tempfile.NamedTemporaryFile(suffix=".ko") as copy:
        copy.write(data)
        copy.flush()
        argv = [program, f"--obj={copy.name}", "--inlines", "--functions=none"]
        answers = llvm.run(argv, path, "apt-get install llvm", asked).split("\n\n")
    if len(answers) < len(known):
        raise SetupError(f"{program} can't read {path}: it leaves addresses out")
    return {place: _frames(answer.split()) for place, answer in zip(known, answers)}
