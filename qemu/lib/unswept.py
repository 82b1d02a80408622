# SPDX-License-Identifier: GPL-2.0
"""Which source lines the instructions of a module come from, inlined calls and all; and qemu/unswept.txt: what
in the source a sweep may not get to, and why.

    = REASON
    FILE: REGEX
    FILE: +REGEX

Each REGEX stands for the lines of FILE that it is found in, and for the block that such a line
opens, up to the brace that closes it. The reason is for all up to the next one. An instruction is
excused if it comes from such a line, or from something that is inlined there; with a '+', for lines
of a rare branch, also what only runs before or after such instructions (flow.py).
"""

import os
import re
import tempfile

from .base import QEMU, ROOT, SetupError, llvm, read

FILE = QEMU / "unswept.txt"


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
        answers = llvm(argv, path, "apt-get install llvm", asked).split("\n\n")
    if len(answers) < len(known):
        raise SetupError(f"{program} can't read {path}: it leaves addresses out")
    return {place: _frames(answer.split()) for place, answer in zip(known, answers)}


def _block(lines, number):
    """The lines of the block that a line opens, if it does, and the line itself."""
    first = lines[number]
    if not first.rstrip().endswith(("{", "(", "[")):
        return range(number, number + 1)
    indent = len(first) - len(first.lstrip())
    for end in range(number + 1, len(lines)):
        text = lines[end]
        if text.strip() and len(text) - len(text.lstrip()) <= indent:
            return range(number, end + 1)
    return range(number, len(lines))


class Reasons:
    """The reasons, and which lines of the source each is for."""

    def __init__(self, text, root):
        self._texts = []
        self._lines = {}
        self._root = root
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if line and not line.startswith("#"):
                self._take(line, f"{FILE.name}:{number}")

    @classmethod
    def of_tree(cls):
        """What stands in the tree."""
        return cls(read(FILE), ROOT)

    def _take(self, line, where):
        if line.startswith("="):
            self._texts.append(line[1:].strip())
            return
        name, _, pattern = line.partition(": ")
        path = self._root / name
        if not self._texts or not pattern or not path.is_file():
            raise SetupError(f"{where}: write '= REASON', then 'FILE: REGEX' of files in the tree")
        spreads = pattern.startswith("+")
        pattern = pattern.removeprefix("+")
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [i for i, text in enumerate(lines) if re.search(pattern, text)]
        if not found:
            raise SetupError(f"{where}: no line of {name} has {pattern!r}")
        for i in found:
            for inside in _block(lines, i):
                self._lines.setdefault((name, inside + 1), (len(self._texts) - 1, spreads))

    def of(self, frames):
        """The number of the reason for an instruction, None if there is none, and whether it is one
        for what goes along with it."""
        found = (self._lines[frame] for frame in frames if frame in self._lines)
        return next(found, (None, False))

    def lines(self):
        """What stands at the top of NAME.insns."""
        return [f"# {number} {text}" for number, text in enumerate(self._texts)]
