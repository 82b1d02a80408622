#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Finds names in comments and documents that no longer exist.

names.py KSRC checks comments and documents against this tree and the kernel's source, and reports

- files that neither of them has;
- `names` in backticks that no code has. Of `module::name` the module has to exist, and to have the name;
- tests: `SUITE.CASE`, and the names after "suite", that qemu/expected/cases or qemu/guest/tests lack;
- in the documents, `mutants` that no file of qemu/mutants has;
- pictures: FILE of "picture in FILE" or "FILE has a picture" has to contain a drawing.

Exit codes: 0 nothing found, 1 something, 2 usage.
"""

import fnmatch
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
HASH = re.compile(r"(?:^|\s)#(.*)")
# Files whose comments begin with #.
HASHED = re.compile(r".*\.(?:sh|py)|qemu/(?:guest/|configs/|jobs).*|Makefile|(?:.*/)?Kbuild|\.ci/run")
SUITES = re.compile(r"\bsuites? ((?:`\w+`(?:, | and )?)+)")
MUTANT = re.compile(r"[a-z]+(?:-[a-z0-9*]+)+")
PICTURE = re.compile(r"\bpicture (?:is )?in ([\w/]+\.\w+)|([\w/]+\.\w+) has a picture")
# An arrow, or the border of a box.
DRAWING = re.compile(r"-->|<--|--\+|\+--")
# Where the kernel's names come from.
KERNEL = ("include/linux", "include/asm-generic", "include/trace", "include/kunit", "include/uapi/linux",
          "kernel", "mm", "lib", "rust", "arch/x86/include", "arch/arm64/include", "arch/x86/kernel",
          "tools/testing/kunit", "tools/memory-model")
# Of languages and tools.
KNOWN = {"asm", "bindgen", "clippy", "core", "false", "loom", "make", "proptest", "repr", "rustc",
         "sh", "true", "unsafe", "u64", "usize", "NMI"}
# Modules of Rust that are no file.
MODULES = {"bindings", "core", "crate", "loom", "self", "std", "super"}
# Names that stand for others.
PLACEHOLDERS = ("NAME", "FILE", "my_", "mine", "_")


def _text(path):
    return path.read_text(encoding="utf-8", errors="replace")


def _names_of(text):
    return set(IDENT.findall(text))


class Kernel:
    """The names in the kernel's source, and what may stand before "::": Rust modules, structures."""

    def __init__(self, source):
        self.source = source
        self.names = set()
        self.modules = set(MODULES)
        for folder in KERNEL:
            for path in (source / folder).rglob("*"):
                if path.suffix in (".c", ".h", ".rs", ".py") and path.is_file():
                    text = _text(path)
                    self.names |= _names_of(text)
                    self.modules.update(re.findall(r"^struct (\w+) \{", text, re.M))
                    if path.suffix == ".rs":
                        self.modules |= {path.stem, path.parent.name}
        self.names |= self.modules

    def has_file(self, name):
        """Whether a file is called so, as #include has it too."""
        return any((self.source / folder / name).is_file() for folder in (".", "include", "tools/testing/kunit"))


class Tree:
    """The files of this tree, and the names in their code."""

    def __init__(self, root):
        self.root = root
        listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root,
                                capture_output=True, text=True, check=True).stdout
        self.files = [name for name in listed.splitlines() if (root / name).is_file()]
        self.texts = {}
        self.modules = {}
        self.names = set(KNOWN)
        for name in self.files:
            if name.endswith((".lock", ".log")) or name.startswith("docs/") or name.endswith("README.md"):
                continue
            text = _text(root / name)
            self.texts[name] = text
            code = COMMENT.sub("", text) if name.endswith((".rs", ".c", ".h")) else text
            own = _names_of(code)
            self.names |= own
            path = pathlib.PurePath(name)
            self.names.add(path.stem)
            if path.suffix == ".rs":
                module = path.parent.name if path.stem == "mod" else path.stem
                self.modules.setdefault(module, set()).update(own)
                for inner in re.findall(r"\bmod (\w+)", code):
                    self.modules.setdefault(inner, set()).update(own)
        # A folder has the names of its files.
        for name in self.files:
            path = pathlib.PurePath(name)
            if path.suffix == ".rs" and path.parent.name in self.modules:
                self.modules[path.parent.name] |= self.modules.get(path.stem, set())
        self.cases = {}
        suite = None
        for line in self.texts.get("qemu/expected/cases", "").splitlines():
            if line.startswith("\t"):
                self.cases[suite].add(line.strip())
            elif not line.startswith("#"):
                suite = line.strip()
                self.cases[suite] = set()
        self.scripts = {pathlib.PurePath(name).stem for name in self.files if name.startswith("qemu/guest/tests/")}
        self.mutants = {mutant for name, text in self.texts.items() if name.startswith("qemu/mutants/")
                        for mutant in re.findall(r"^== (\S+)$", text, re.M)}

    def has_file(self, name):
        """Whether a file is called so, with part of its path or not."""
        return any(known == name or known.endswith("/" + name) for known in self.files)

    def has_drawing(self, name):
        """Whether a file of that name contains one."""
        return any(DRAWING.search(re.sub("<!--.*?-->", "", _text(self.root / known))) for known in self.files
                   if known == name or known.endswith("/" + name))

    def comments(self):
        """(file, line number, text) of what is checked."""
        for name in self.files:
            if name.startswith("docs/") or name == "README.md":
                text = _text(self.root / name)
                yield from ((name, n, line) for n, line in enumerate(text.splitlines(), 1))
            elif name.endswith((".rs", ".c", ".h")):
                text = self.texts[name]
                for found in COMMENT.finditer(text):
                    first = text.count("\n", 0, found.start()) + 1
                    yield from ((name, first + i, line)
                                for i, line in enumerate(found.group().splitlines()))
            elif HASHED.fullmatch(name):
                yield from ((name, n, found[1]) for n, line in enumerate(self.texts[name].splitlines(), 1)
                            for found in HASH.finditer(line))


def _wrong_names(tree, kernel, line):
    """The names in backticks of a line that are wrong."""
    for word in TICKED.findall(line):
        if not NAME.match(word) or FILE.fullmatch(word) or word.startswith(PLACEHOLDERS):
            continue
        parts = IDENT.findall(word)
        lost = [part for part in parts if part not in tree.names and part not in kernel.names]
        if lost:
            yield f"no code has {lost[0]}: `{word}`"
        elif "::" in word and parts[-2].islower() and parts[-2] not in {*tree.modules, *kernel.modules}:
            yield f"there is no module {parts[-2]}: `{word}`"
        elif "::" in word and parts[-2] in tree.modules and parts[-1] not in tree.modules[parts[-2]]:
            yield f"{parts[-2]} has no {parts[-1]}: `{word}`"
        elif "." in word and parts[0] in tree.cases and parts[1] not in tree.cases[parts[0]]:
            yield f"{parts[0]} has no case {parts[1]}: `{word}`"


def _wrong(tree, kernel, name, line):
    """What is wrong with a line of a file."""
    for file in FILE.findall(line):
        file = file.removeprefix("srctree/")
        if not tree.has_file(file) and not kernel.has_file(file):
            yield f"there is no file {file}"
    for files in PICTURE.findall(line):
        file = "".join(files)
        if tree.has_file(file) and not tree.has_drawing(file):
            yield f"there is no picture in {file}"
    yield from _wrong_names(tree, kernel, line)
    for suites in SUITES.findall(line):
        for suite in TICKED.findall(suites):
            if not {suite, f"rcu_ptr_{suite}"} & {*tree.cases, *tree.scripts}:
                yield f"there is no suite {suite}"
    if name.startswith("docs/"):
        for mutant in TICKED.findall(line):
            if MUTANT.fullmatch(mutant) and not fnmatch.filter(tree.mutants, mutant):
                yield f"there is no mutant {mutant}"


def main(arguments, root=ROOT):
    """See above."""
    if len(arguments) != 1 or not (pathlib.Path(arguments[0]) / "kernel").is_dir():
        print("usage: names.py KSRC, the source of the kernel", file=sys.stderr)
        return 2
    tree = Tree(root)
    kernel = Kernel(pathlib.Path(arguments[0]))
    bad = 0
    for name, number, line in tree.comments():
        for why in _wrong(tree, kernel, name, line):
            print(f"{name}:{number}: {why}")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
