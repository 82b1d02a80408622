# SPDX-License-Identifier: GPL-2.0
"""Which source lines the instructions of a module come from."""

import os
import re
import tempfile

from .base import ROOT, SetupError, llvm


# In this tree, or in a copy of it, as mutants are.
KNOWN = re.compile(r".*/(rust/(?:rcu_ptr\w*|nmi_sweep|sys|api|clients)/.*)")


def _in_tree(path):
    """The path from the root of this tree, None if it is not in it."""
    known = KNOWN.fullmatch(path)
    if known:
        return known[1]
    return os.path.relpath(path, ROOT) if path.startswith(f"{ROOT}{os.sep}") else None


def _line(lines):
    """The innermost call that lies in this tree, as FILE:LINE, '-' if none does."""
    for line in lines:
        name, number, _ = line.rsplit(":", 2)
        path = _in_tree(os.path.normpath(name))
        # Line 0: of several lines, or of none.
        if path and int(number):
            return f"{path}:{number}"
    return "-"


def look_up(objdump, path, data, bases, places):
    """The source lines of instructions, each as (section, offset). data: the file, with sections that
    begin at bases."""
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
    return {place: _line(answer.split()) for place, answer in zip(known, answers)}
