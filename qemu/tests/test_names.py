# SPDX-License-Identifier: GPL-2.0
"""What scripts/names.py reports, on a small tree with a kernel beside it."""

import contextlib
import importlib.util
import io
import pathlib
import subprocess
import tempfile
import unittest

from .common import QEMU

FILES = {
    "kernel/kernel/a.c": "int known_to_kernel;\nstruct kernel_ops {\n\tint set;\n};\n",
    "kernel/rust/kernel/sync.rs": "pub fn lock() {}\n",
    "tree/rust/queue.rs": "//! a --> b\nfn push() {}\nfn pop() {}\n",
    "tree/rust/plain.rs": "fn nothing() {}\n",
    "tree/qemu/expected/cases": "# C\nrcu_ptr_list\n\tgoes_on\n",
    "tree/qemu/guest/tests/rcu_ptr_debugfs.sh": "",
    "tree/qemu/mutants/core": "== list-loses-one\n",
}


class Lint(unittest.TestCase):
    """One document with one line."""

    def setUp(self):
        spec = importlib.util.spec_from_file_location("names", QEMU.parent / "scripts" / "names.py")
        self.names = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.names)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for name, text in {**FILES, "tree/docs/a.md": ""}.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text, encoding="utf-8")
        subprocess.run(["git", "init", "-q", self.root / "tree"], check=True)

    def reports(self, line, *reports, name="docs/a.md"):
        (self.root / "tree" / name).write_text(line + "\n", encoding="utf-8")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = self.names.main([self.root / "kernel"], self.root / "tree")
        with self.subTest(line):
            self.assertEqual(out.getvalue().splitlines(), [f"{name}:1: {report}" for report in reports])
            self.assertEqual(code, 1 if reports else 0)

    def test_files_and_names(self):
        self.reports("queue.rs, kernel/a.c, `push()`, `known_to_kernel`, `queue::push`")
        self.reports("gone.rs", "there is no file gone.rs")
        self.reports("`missing()`", "no code has missing: `missing()`")

    def test_comments(self):
        for name in ("a.sh", "Kbuild"):
            self.reports("gone.rs # queue.rs", name=name)
            self.reports("true\t#gone.rs", "there is no file gone.rs", name=name)
            (self.root / "tree" / name).unlink()

    def test_modules(self):
        self.reports("`queue::push`, `sync::lock`, `kernel_ops::set`")
        self.reports("`queue::nothing`", "queue has no nothing: `queue::nothing`")
        self.reports("`pop::push`", "there is no module pop: `pop::push`")

    def test_tests(self):
        self.reports("suites `list` and `rcu_ptr_debugfs`, suite `rcu_ptr_list`, `rcu_ptr_list.goes_on`")
        self.reports("suites `list`, `push`", "there is no suite push")
        self.reports("`rcu_ptr_list.pop`", "rcu_ptr_list has no case pop: `rcu_ptr_list.pop`")

    def test_mutants(self):
        self.reports("| `list-loses-one` | `list-loses-*` | list-lost")
        self.reports("`list-loses-two`", "there is no mutant list-loses-two")
        self.reports("`list-forgets-*`", "there is no mutant list-forgets-*")

    def test_pictures(self):
        self.reports("the picture is in queue.rs; rust/queue.rs has a picture")
        self.reports("(picture in plain.rs)", "there is no picture in plain.rs")
        self.reports("plain.rs has a picture", "there is no picture in plain.rs")
