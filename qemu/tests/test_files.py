# SPDX-License-Identifier: GPL-2.0
"""What goes into a guest: the archive, the plan, the scenario's files."""

import io
import pathlib
import struct
import tempfile
import unittest

from common import QEMU
from lib import accel, cpio, elf, expected, settings
from lib.errors import SetupError
from lib.plan import Plan
from lib.scenario import Scenario


def unpack(data):
    """Reads a newc archive: name to mode, device, content."""
    entries, at = {}, 0
    while True:
        assert data[at:at + 6] == b"070701"
        field = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110:at + 110 + field[11] - 1].decode()
        at = (at + 110 + field[11] + 3) & ~3
        if name == "TRAILER!!!":
            return entries
        entries[name] = (oct(field[1]), (field[9], field[10]), data[at:at + field[6]])
        at = (at + field[6] + 3) & ~3


class Archive(unittest.TestCase):
    """The cpio writer."""

    def test_entries(self):
        out = io.BytesIO()
        archive = cpio.Archive(out)
        archive.chardev("dev/console", 5, 1)
        archive.file("a/b/c", b"12345", 0o755)
        archive.symlink("bin", "a/b")
        archive.close()
        data = out.getvalue()
        self.assertEqual(len(data) % 512, 0)
        self.assertEqual(unpack(data), {
            "dev": ("0o40755", (0, 0), b""),
            "dev/console": ("0o20600", (5, 1), b""),
            "a": ("0o40755", (0, 0), b""),
            "a/b": ("0o40755", (0, 0), b""),
            "a/b/c": ("0o100755", (0, 0), b"12345"),
            "bin": ("0o120777", (0, 0), b"a/b"),
        })


def program(machine=62, interpreter=False):
    """An ELF header with one program header."""
    header = struct.pack("<4s5B7xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 0, 2, machine, 1, 0, 64, 0,
                         0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<I", 3 if interpreter else 1) + bytes(52)


class Elf(unittest.TestCase):
    """Is this busybox of any use?"""

    def test_reasons(self):
        self.assertIsNone(elf.why_not_static(program(), "x86_64"))
        self.assertIsNone(elf.why_not_static(program(183), "arm64"))
        self.assertEqual(elf.why_not_static(program(), "arm64"), "is not built for arm64")
        self.assertEqual(elf.why_not_static(program(interpreter=True), "x86_64"),
                         "is dynamically linked")
        self.assertEqual(elf.why_not_static(b"#!/bin/sh", "x86_64"), "is not a 64-bit ELF program")


class Plans(unittest.TestCase):
    """Plan files."""

    def test_names(self):
        plan = Plan("# c\ninsmod a.ko x=1\nsh t.sh # c\n\ninsmod a.ko\nkmemleak\n", "p")
        self.assertEqual(plan.names(), ["insmod_a", "sh_t", "insmod_a.2", "kmemleak"])
        self.assertEqual(plan.modules(), ["a.ko"])

    def test_without(self):
        plan = Plan("insmod a.ko\nkmemleak\nrmmod a\nkmemleak\n", "p").without("kmemleak")
        self.assertEqual(plan.names(), ["insmod_a", "rmmod_a"])
        self.assertEqual(plan.text, "insmod a.ko\nrmmod a\n")

    def test_mistakes(self):
        for text in ("", "# nothing\n", "reboot now\n", "insmod\n"):
            with self.subTest(text), self.assertRaises(SetupError):
                Plan(text, "p")

    def test_own_plans(self):
        for verb in ("run", "test"):
            path = QEMU / "guest" / f"plan.{verb}"
            plan = Plan(path.read_text(encoding="utf-8"), path)
            for words in plan.steps:
                if words[0] == "sh":
                    script = QEMU / "guest" / "tests" / words[1]
                    self.assertTrue(script.exists(), script)
                    # A suite that runs is one that must run.
                    self.assertIn(script.stem, expected.load(verb, "BASE"))


class Settings(unittest.TestCase):
    """NAME.qemu and NAME.boot."""

    def test_values(self):
        self.assertEqual(settings.parse("# c\nthread = single\nmem=512 # c\n\ncpu=max,la57=off\n", "f"),
                         {"thread": "single", "mem": 512, "cpu": "max,la57=off"})
        self.assertEqual(settings.parse_boot("# c\na=1 b\nc=2\n"), ["a=1", "b", "c=2"])

    def test_mistakes(self):
        for text in ("thread=many\n", "mem=lots\n", "mem=0\n", "memory=1\n", "single\n"):
            with self.subTest(text), self.assertRaises(SetupError):
                settings.parse(text, "f")


class Expected(unittest.TestCase):
    """The lists of suites."""

    def test_scenario_adds(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            with self.assertRaises(SetupError):
                expected.load("test", "BASE", folder)
            (folder / "test").write_text("# c\na\nb # c\n", encoding="utf-8")
            (folder / "test.DEBUG").write_text("d\n", encoding="utf-8")
            self.assertEqual(expected.load("test", "BASE", folder), ["a", "b"])
            self.assertEqual(expected.load("test", "DEBUG", folder), ["a", "b", "d"])


class Scenarios(unittest.TestCase):
    """What a configuration means for the machine."""

    def scenario(self, config, image="arch/x86/boot/bzImage", machine=62, qemu=""):
        """A scenario with these files."""
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            for path, text in ((".config", config), ("include/config/kernel.release", "7.3.4\n"),
                               (image, "image"), ("T.qemu", qemu), ("mod/x/a.ko", "")):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
            (root / "busybox").write_bytes(program(machine))
            scenario = Scenario(f"T:{root}:{root}/mod:{root}/busybox", root)
            self.assertEqual(scenario.module("a.ko").name, "a.ko")
            with self.assertRaisesRegex(SetupError, "b.ko is nowhere under"):
                scenario.module("b.ko")
            return scenario

    def test_text_patching_needs_one_thread(self):
        self.assertEqual(self.scenario("CONFIG_X86_64=y\n").settings["thread"], "multi")
        patching = "CONFIG_X86_64=y\nCONFIG_JUMP_LABEL=y\n"
        self.assertEqual(self.scenario(patching).settings["thread"], "single")
        arm = self.scenario("CONFIG_ARM64=y\nCONFIG_JUMP_LABEL=y\n", "arch/arm64/boot/Image", 183)
        self.assertEqual((arm.arch, arm.settings["thread"]), ("arm64", "multi"))

    def test_file_overrides(self):
        scenario = self.scenario("CONFIG_KASAN=y\n", qemu="mem=4096\n")
        self.assertEqual((scenario.settings["mem"], scenario.settings["cpu"]),
                         (4096, "max,la57=off"))

    def test_missing_parts(self):
        with self.assertRaisesRegex(SetupError, "write NAME:KDIR:MODDIR"):
            Scenario("BASE")
        with self.assertRaisesRegex(SetupError, r"\.config is missing: build the kernel"):
            Scenario("BASE:/nonexistent:/nonexistent")
        with self.assertRaisesRegex(SetupError, "is not built for x86_64: install"):
            self.scenario("CONFIG_X86_64=y\n", machine=183)


class Accel(unittest.TestCase):
    """Whether KVM is worth a try."""

    def test_cpu(self):
        self.assertTrue(accel.cpu_can("flags\t\t: fpu vmx sse\n", "x86_64", "x86_64"))
        self.assertTrue(accel.cpu_can("flags\t\t: fpu svm\n", "x86_64", "x86_64"))
        self.assertFalse(accel.cpu_can("flags\t\t: fpu svmx\n", "x86_64", "x86_64"))
        self.assertFalse(accel.cpu_can("vmx flags\t\t: none\n", "x86_64", "x86_64"))
        self.assertFalse(accel.cpu_can("flags\t\t: vmx\n", "x86_64", "arm64"))
        self.assertTrue(accel.cpu_can("", "aarch64", "arm64"))


if __name__ == "__main__":
    unittest.main()
