#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Names in comments and documents that are not there (any more).

names.py KSRC: looks at the comments of the Rust and C files and at the documents, and prints

- files that exist neither here nor in the kernel's source;
- `names` in backticks that no code has, here or in the kernel; of `module::name` the name has to be in
  the code of a file of that module.

Exit codes: 0 nothing found, 1 something, 2 usage.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TICKED = re.compile(r"`([^`\s]+)`")
FILE = re.compile(r"(?<![\w/.{*$<-])(?:[\w.-]+/)*[\w-]+\.(?:rs|c|h|py|sh|md|litmus|patch)\b(?![*(])")
# What is checked: a name, with a path and with brackets or not.
NAME = re.compile(r"^&?(?:\w+(?:::|\.))*\w+(?:\(\))?!?$")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
# Where the kernel's names come from.
KERNEL = ("include/linux", "include/asm-generic", "include/trace", "include/kunit", "include/uapi/linux",
          "kernel", "mm", "lib", "rust", "arch/x86/include", "arch/arm64/include", "arch/x86/kernel",
          "tools/testing/kunit", "tools/memory-model")
# Of languages and tools.
KNOWN = {"asm", "bindgen", "clippy", "core", "false", "loom", "make", "proptest", "repr", "rustc",
         "sh", "true", "unsafe", "u64", "usize", "NMI"}
# Names that stand for others.
PLACEHOLDERS = ("NAME", "FILE", "my_", "mine", "_")


def _tracked():
    out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                         capture_output=True, text=True, check=True).stdout
    return [name for name in out.splitlines() if (ROOT / name).is_file()]


def _text(path):
    return path.read_text(encoding="utf-8", errors="replace")


def _names_of(text):
    return set(IDENT.findall(text))


def _kernel_names(source):
    names = set()
    for folder in KERNEL:
        for path in (source / folder).rglob("*"):
            if path.suffix in (".c", ".h", ".rs", ".py") and path.is_file():
                names |= _names_of(_text(path))
    return names


class Tree:
    """The files of this tree, and what is in their code."""

    def __init__(self):
        self.files = _tracked()
        self.texts = {}
        self.modules = {}
        self.names = set(KNOWN)
        for name in self.files:
            if name.endswith((".lock", ".log")) or name.startswith("docs/") or name.endswith("README.md"):
                continue
            text = _text(ROOT / name)
            self.texts[name] = text
            code = COMMENT.sub("", text) if name.endswith((".rs", ".c", ".h")) else text
            own = _names_of(code)
            self.names |= own
            path = pathlib.PurePath(name)
            self.names.add(path.stem)
            if path.suffix == ".rs":
                module = path.parent.name if path.stem == "mod" else path.stem
                self.modules.setdefault(module, set()).update(own)
        # A folder has the names of its files.
        for name in self.files:
            path = pathlib.PurePath(name)
            if path.suffix == ".rs" and path.parent.name in self.modules:
                self.modules[path.parent.name] |= self.modules.get(path.stem, set())

    def has_file(self, name):
        """Whether a file is called so, with part of its path or not."""
        return any(known == name or known.endswith("/" + name) for known in self.files)

    def comments(self):
        """(file, line number, text) of what is checked."""
        for name in self.files:
            if name.startswith("docs/") or name == "README.md":
                text = _text(ROOT / name)
                yield from ((name, n, line) for n, line in enumerate(text.splitlines(), 1))
            elif name.endswith((".rs", ".c", ".h")):
                text = self.texts[name]
                for found in COMMENT.finditer(text):
                    first = text.count("\n", 0, found.start()) + 1
                    yield from ((name, first + i, line)
                                for i, line in enumerate(found.group().splitlines()))


def _wrong(tree, kernel, source, line):
    """What is wrong with a line."""
    for file in FILE.findall(line):
        file = file.removeprefix("srctree/")
        places = (file, f"include/{file}", f"tools/testing/kunit/{file}")
        if not tree.has_file(file) and not any((source / place).is_file() for place in places):
            yield f"there is no file {file}"
    for word in TICKED.findall(line):
        if not NAME.match(word) or FILE.fullmatch(word):
            continue
        parts = IDENT.findall(word)
        if word.startswith(PLACEHOLDERS):
            continue
        lost = [part for part in parts if part not in tree.names and part not in kernel]
        if lost:
            yield f"no code has {lost[0]}: `{word}`"
        elif "::" in word and parts[-2] in tree.modules and parts[-1] not in tree.modules[parts[-2]]:
            yield f"{parts[-2]} has no {parts[-1]}: `{word}`"


def main():
    """See above."""
    if len(sys.argv) != 2 or not (pathlib.Path(sys.argv[1]) / "kernel").is_dir():
        print("usage: names.py KSRC, the source of the kernel", file=sys.stderr)
        return 2
    source = pathlib.Path(sys.argv[1])
    tree = Tree()
    kernel = _kernel_names(source)
    bad = 0
    for name, number, line in tree.comments():
        for why in _wrong(tree, kernel, source, line):
            print(f"{name}:{number}: {why}")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
