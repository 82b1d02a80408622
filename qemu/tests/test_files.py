# SPDX-License-Identifier: GPL-2.0
"""The input of a guest: the archive, the plan, the scenario's files."""

import pathlib
import re
import struct
import subprocess
import tempfile
import types
import unittest

from lib import costs, expected, initramfs, jobs, machine
from lib.base import SetupError
from lib.bench import tables
from lib.plan import CONFIGS, Plan, scenario_names
from lib.scenario import Scenario, parse_settings, why_not_static

from .common import QEMU


class Archive(unittest.TestCase):
    def test_entries(self):
        """Returns the list of an archive, which must be the same when it is written again."""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "busybox").write_bytes(b"12")
            scenario = types.SimpleNamespace(busybox=folder / "busybox")
            archives = [folder / "first", folder / "second"]
            for archive in archives:
                initramfs.pack(archive, scenario, [("init", b"12345", 0o755), ("a/b/c", b"")])
            self.assertEqual(*(archive.read_bytes() for archive in archives))
            done = subprocess.run(["cpio", "--list", "--verbose", "--numeric-uid-gid", "--quiet", f"--file={archives[0]}"],
                                  text=True, capture_output=True, check=True)
        found = {line.split(maxsplit=8)[8]: line.split()[:5:2] for line in done.stdout.splitlines()}
        self.assertEqual(found["init"], ["-rwxr-xr-x", "0", "5"])
        self.assertEqual(found["a/b"], ["drwxr-xr-x", "0", "0"])
        self.assertEqual(found["a/b/c"], ["-rw-r--r--", "0", "0"])
        self.assertEqual(found["bin/sh -> busybox"], ["lrwxrwxrwx", "0", "7"])


def program(machine=62, interpreter=False):
    """An ELF header with one program header."""
    header = struct.pack("<4s5B7xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 0, 2, machine, 1, 0, 64, 0,
                         0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<I", 3 if interpreter else 1) + bytes(52)


class Elf(unittest.TestCase):
    """Whether a busybox can run in the guest."""

    def test_reasons(self):
        self.assertIsNone(why_not_static(program(), "x86_64"))
        self.assertIsNone(why_not_static(program(183), "arm64"))
        self.assertEqual(why_not_static(program(), "arm64"), "is not built for arm64")
        self.assertEqual(why_not_static(program(interpreter=True), "x86_64"),
                         "is dynamically linked")
        self.assertEqual(why_not_static(b"#!/bin/sh", "x86_64"), "is not a 64-bit ELF program")


class Suites(unittest.TestCase):
    """What runner.awk makes of the suites for kernels without KUnit."""

    def test_lines_are_found_again(self):
        folder = QEMU.parent / "rust/rcu_ptr_kunit"
        files = sorted(path for path in (folder / "suites").glob("*.rs") if path.name != "mod.rs")
        done = subprocess.run(["awk", "-f", folder / "runner.awk", *files], text=True, capture_output=True, check=True)
        lines = done.stdout.splitlines()
        sources = re.search(r"SOURCES: .*? = &\[(.*)\];", done.stdout)[1]
        starts = {name: int(before) for before, name in re.findall(r'\((\d+), "([^"]+)"\)', sources)}
        self.assertEqual(list(starts), [path.name for path in files])
        for path in files:
            for number, line in enumerate(path.read_text().splitlines()):
                if "check!(" in line:
                    self.assertEqual(lines[starts[path.name] + number], line)


class Plans(unittest.TestCase):
    def test_names(self):
        plan = Plan("# c\ninsmod a.ko x=1\nsh t.sh # c\n\ninsmod a.ko\nkmemleak\n", "p")
        self.assertEqual(plan.text, "insmod a.ko x=1\nsh t.sh\ninsmod a.ko\nkmemleak\n")
        self.assertEqual(plan.names(), ["insmod_a", "sh_t", "insmod_a.2", "kmemleak"])
        self.assertEqual(plan.modules(), ["a.ko"])
        self.assertEqual(Plan("once a.ko x=1\n", "p").text, "insmod a.ko x=1\nrmmod a\n")

    def test_loop(self):
        plan = Plan("insmod a.ko\nfor x y\ninsmod rcu_ptr.ko engine={}\nsh t.sh E={}\ndone\n"
                    "rmmod a\n", "p")
        self.assertEqual(plan.text, "insmod a.ko\n"
                         "insmod rcu_ptr.ko engine=x\nsh t.sh E=x\n"
                         "insmod rcu_ptr.ko engine=y\nsh t.sh E=y\nrmmod a\n")
        self.assertEqual(plan.labels, ["", "x", "x", "y", "y", ""])
        self.assertEqual(plan.names()[:4], ["insmod_a", "x.insmod_rcu_ptr", "x.sh_t",
                                            "y.insmod_rcu_ptr"])
        self.assertEqual([plan.engine(n) for n in (1, 2, 3, 4)], [None, "x", None, "y"])

    def test_conditions(self):
        text = "rmmod a\non x86_64 rmmod b\non !DEBUG rmmod c\non BASE,ARM64 rmmod d\n" \
               "on x86_64,!DEBUG rmmod e\n"
        for where, want in ((("BASE", "x86_64"), "abcde"), (("DEBUG", "x86_64"), "ab"),
                            (("ARM64", "arm64"), "acd")):
            with self.subTest(where):
                plan = Plan(text, "p", where)
                self.assertEqual("".join(words[1] for words in plan.steps), want)

    def test_variables(self):
        plan = Plan("insmod a.ko x={A} y={B:-2} z={C:-}\n", "p", (), {"A": "1", "C": "3"})
        self.assertEqual(plan.text, "insmod a.ko x=1 y=2 z=3\n")
        with self.assertRaisesRegex(SetupError, "p:1: A has to be given"):
            Plan("insmod a.ko x={A}\n", "p")

    def test_functions(self):
        plan = Plan("insns vmlinux kfree vfree\nrmmod a\n", "p")
        self.assertEqual((plan.functions, plan.text), (["kfree", "vfree"], "rmmod a\n"))

    def test_drop(self):
        plan = Plan("insmod a.ko\nkmemleak\nrmmod a\nkmemleak\n", "p")
        plan.drop("kmemleak")
        self.assertEqual(plan.names(), ["insmod_a", "rmmod_a"])
        self.assertEqual(plan.text, "insmod a.ko\nrmmod a\n")

    def test_mistakes(self):
        for text in ("", "# nothing\n", "reboot now\n", "insmod\n", "rmmod a b\n", "for x\nrmmod a\n",
                     "done\n", "for\nrmmod a\ndone\n", "for x x\nrmmod a\ndone\n", "rmmod {}\n",
                     "for x\nfor y\nrmmod a\ndone\ndone\n", "on NOWHERE rmmod a\n", "on x86_64\n",
                     "nmi fast\n", "nmi 1 2 3\n", "insns rcu_ptr a\nrmmod a\n"):
            with self.subTest(text), self.assertRaises(SetupError):
                Plan(text, "p")

    def test_swept(self):
        for text, names in (("insmod a.ko\nrmmod a\n", set()),
                            ("for x y\ninsmod nmi_sweep.ko length=short\ndone\n", {"rcu_ptr"}),
                            ("insmod nmi_sweep.ko module=mine func=a\n", {"mine"})):
            self.assertEqual(initramfs.swept(Plan(text, "p")), names)

    def test_own_plans(self):
        for verb in ("run", "test", "short", "debug", "numa", "costs", "step"):
            path = QEMU / "guest" / f"plan.{verb}"
            for where in (("BASE", "x86_64"), ("ARM64", "arm64"), ("DEBUG", "x86_64"),
                          ("RT", "x86_64")):
                plan = Plan(path.read_text(encoding="utf-8"), path, where)
                for _, name, wanted in expected.load(plan, where).suites:
                    self.assertTrue(wanted, name)


class Costs(unittest.TestCase):
    HEAD = f"{costs.BEGIN}: -->\n"
    CALLS = "| | a call | whole cycle | locked instructions | full barriers | self-IPIs | irq_works |\n"
    PAIRS = "| | alloc | alloc in NMI | free | free in NMI | whole cycle |\n"
    GOOD = (f"{HEAD}{CALLS}| rfc: a() | 1 | 2 | 3 | 4 | 5 | - |\n| kernel: b() | 1 | - | - | - | - | - |\n"
            f"\n{PAIRS}| rcu_ptr_x(), rcu_ptr_cache_y() | 1 | 2 | 3 | 4 | 5 |\n{costs.END} -->\n")

    def test_own(self):
        lines = costs.text().splitlines()
        for engine in ("rfc", "lockless"):
            self.assertTrue(any(line.split()[1] == engine for line in lines))
        self.assertFalse(any(line.split()[1] == "kernel" for line in lines))

    def test_rows(self):
        rows = costs.parse(self.GOOD)
        self.assertIn(("calls", "rfc", "median", 1.0,
                       "call context=task object=kmalloc-64 free=a engine=rfc"), rows)
        self.assertIn(("sheaves", "lockless", "median", 5.0,
                       "recycle context=task functions=rcu_ptr_x+y engine=lockless"), rows)
        self.assertEqual(len(rows), 11)

    def test_lost(self):
        for lost in (costs.BEGIN, "| a call ", "| free in NMI ", "rcu_ptr_x", "| 5 | - "):
            with self.subTest(lost), self.assertRaises(SetupError):
                costs.parse(self.GOOD.replace(lost, ""))


class Bench(unittest.TestCase):
    def test_each_function_has_a_row(self):
        text = (QEMU.parent / "rust" / "rcu_ptr_bench" / "bench_fn.rs").read_text(encoding="utf-8")
        names = re.findall(r'^    function::<[\w:]+>\(c"(\w+)".*,$', text, re.MULTILINE)
        self.assertGreater(len(names), 5)
        for name in names:
            self.assertIn(name, tables.KERNEL + tables.RCU_PTR)


class Jobs(unittest.TestCase):
    """The boots of 'make test' and 'make test-all'."""

    def test_own(self):
        for which in jobs.SETS:
            self.assertTrue(jobs.load(which))
            for job in jobs.load(which):
                path = QEMU / "guest" / f"plan.{job.plan}"
                arch = "arm64" if job.scenario == "ARM64" else "x86_64"
                plan = Plan(path.read_text(encoding="utf-8"), path, (job.scenario, arch),
                            {"LENGTH": job.length})
                for words in plan.steps:
                    if words[:2] in (["insmod", "rcu_ptr_kunit.ko"], ["insmod", "nmi_sweep.ko"]):
                        self.assertIn(f"length={job.length}", words)
                self.assertTrue(expected.load(plan, (job.scenario, arch)).suites)

    def test_mistakes(self):
        good = "test A BASE test short 1\n"
        self.assertEqual(len(jobs.parse(good)), 1)
        for text in (good + good, "test A BASE test short\n", "some A BASE test short 1\n",
                     "test A NOWHERE test short 1\n", "test A BASE test long 1\n",
                     "test A BASE test short soon\n", "test A BASE test short 1 cpus=2\n"):
            with self.subTest(text), self.assertRaises(SetupError):
                jobs.parse(text)

    def test_selection(self):
        self.assertEqual([job.scenario for job in jobs.load("test", ["DEBUG"])], ["DEBUG"])


class Modules(unittest.TestCase):
    """The modules that a boot needs."""

    def test_of_a_plan(self):
        self.assertEqual(initramfs.folders("insmod rcu_ptr.ko engine={}\n# insmod rcu_ptr_torture.ko\n"
                                           "on !DEBIAN once nmi_sweep.ko\ninsmod slub_kunit.ko\n"),
                         {"rcu_ptr", "nmi_sweep"})
        self.assertEqual(initramfs.folders("sh rcu_ptr_costs.sh ENGINE=rfc\n"), {"rcu_ptr", "rcu_ptr_bench"})
        self.assertEqual(initramfs.folders("on x86_64 sh rcu_ptr_upstream.sh\n"), {"rcu_ptr", "rcu_ptr_takeover"})

    def test_modules_of_scripts(self):
        known = initramfs.sources()
        for path in (QEMU / "guest" / "tests").glob("*.sh"):
            loaded = re.findall(r"\b(?:load|once) (\w+)|/modules/(\w+)\.ko", path.read_text(encoding="utf-8"))
            loaded = {f"{''.join(names)}.ko" for names in loaded}.intersection(known)
            self.assertLessEqual(loaded, initramfs.of_script(path.name))


class Cases(unittest.TestCase):
    """Test cases in the sources."""

    def test_own(self):
        kunit, shell = expected.in_sources()
        self.assertIn("blocks", kunit["rcu_ptr_reader"])
        self.assertIn("refuses_nonsense", shell["rcu_ptr_bench"])
        self.assertTrue(all(kunit.values()) and all(shell.values()))
        self.assertEqual(sum(map(len, kunit.values())),
                         sum(path.read_text(encoding="utf-8").count("#[test]\n")
                             for path in expected.sources()))

    def test_filter(self):
        suites = {"a_b": ["x", "y"], "a_c": ["x"]}
        self.assertEqual(expected.selected("a_*", suites), ["a_b.x", "a_b.y", "a_c.x"])
        self.assertEqual(expected.selected("a_[!b]*", suites), ["a_c.x"])
        self.assertEqual(expected.selected("*.y", suites), ["a_b.y"])


class Settings(unittest.TestCase):
    def test_values(self):
        self.assertEqual(parse_settings("# c\nthread = single\nmem=512 # c\n\ncpu=max,la57=off\nboot=a=1 b\n", "f"),
                         {"thread": "single", "mem": 512, "cpu": "max,la57=off", "boot": "a=1 b"})

    def test_mistakes(self):
        for text in ("thread=many\n", "mem=lots\n", "mem=0\n", "memory=1\n", "single\n"):
            with self.subTest(text), self.assertRaises(SetupError):
                parse_settings(text, "f")


class Expected(unittest.TestCase):
    """Cases that must run, and those that may be skipped."""

    KUNIT = {"k_a": ["x", "y"], "k_b": ["x"]}
    SHELL = {"s_a": ["z"]}

    def test_written_and_read(self):
        text = expected.write(self.KUNIT, self.SHELL)
        self.assertEqual(expected.parse(text), (self.KUNIT, self.SHELL))
        for bad in ("\tx\n", "a b\n", "sh\n", "a\n\tx y\n"):
            with self.subTest(bad), self.assertRaises(SetupError):
                expected.parse(bad)

    def test_own_is_what_the_sources_have(self):
        text = (expected.FOLDER / "cases").read_text(encoding="utf-8")
        self.assertEqual(text, expected.write(*expected.in_sources()),
                         "run 'qemu/run.py list', and look at what has changed")

    def test_suites_have_check(self):
        for path in expected.sources():
            # assert!() ends the thread of the case without running destructors.
            self.assertNotRegex(path.read_text(encoding="utf-8"), r"\bassert(_eq|_ne)?!", path.name)

    def test_of_plan(self):
        plan = Plan("for p q\ninsmod rcu_ptr_kunit.ko\ndone\nsh s_a.sh\ntests *.y\n"
                    "insmod rcu_ptr_kunit.ko\n", "p")
        self.assertEqual(expected.of_plan(plan, self.KUNIT, self.SHELL),
                         [(1, "p.k_a", ["x", "y"]), (1, "p.k_b", ["x"]), (2, "q.k_a", ["x", "y"]),
                          (2, "q.k_b", ["x"]), (3, "s_a", ["z"]), (5, "k_a", ["y"])])

    def test_of_modules(self):
        plan = Plan("insmod rcu_ptr_kunit.ko\ninsmod nmi_sweep.ko\n", "p")
        kunit = {"rcu_ptr_a": ["x"], expected.SWEPT: ["y"]}
        self.assertEqual(expected.of_plan(plan, kunit, {}), [(1, "rcu_ptr_a", ["x"]), (2, expected.SWEPT, ["y"])])

    def test_skips(self):
        text = "on arm64 k_a.w,x no  such thing # c\nq.k_b.x never\n"
        skips = expected.parse_skips(text, "s", ("ARM64", "arm64"))
        wanted = expected.Expected([], skips)
        self.assertTrue(wanted.may_skip("p.k_a.x", "no such thing"))
        self.assertFalse(wanted.may_skip("p.k_a.x", "another reason"))
        self.assertTrue(wanted.may_skip("q.k_b.x", "never"))
        self.assertFalse(wanted.may_skip("p.k_b.x", "never"))
        base = expected.Expected([], expected.parse_skips(text, "s", ("BASE", "x86_64")))
        self.assertFalse(base.may_skip("p.k_a.x", "no such thing"))
        with self.assertRaises(SetupError):
            expected.parse_skips("k_a.x\n", "s")

    def test_cases_of_the_kernel(self):
        plan = Plan("insmod slub_kunit.ko\ntests slub_test.test_*[!b]?\ninsmod slub_kunit.ko\n", "p")
        slub = {"slub_test": ["test_zone", "test_kprobe"]}
        self.assertEqual(expected.of_plan(plan, {}, {}, slub),
                         [(1, "slub_test", ["test_zone", "test_kprobe"]), (3, "slub_test", ["test_zone"])])

    def test_own_skips_name_cases(self):
        text = (expected.FOLDER / "skips").read_text(encoding="utf-8")
        upstream = (expected.FOLDER / "upstream").read_text(encoding="utf-8")
        kunit, shell = expected.in_sources()
        names = expected.names({**kunit, **shell, **expected.parse(upstream)[0]})
        for scenario in scenario_names():
            config = (CONFIGS / scenario).read_text(encoding="utf-8")
            where = (scenario, "arm64" if "CONFIG_ARM64=y" in config else "x86_64")
            for name, _ in expected.parse_skips(text, "skips", where):
                self.assertIn(".".join(name.split(".")[-2:]), names)

    def test_added_skips(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "skips").write_text("# c\n", encoding="utf-8")
            for _ in range(2):
                expected.add_skips("BASE", [("k_a.x", "why"), ("k_a.x", "why")], folder)
            self.assertEqual((folder / "skips").read_text(encoding="utf-8"),
                             "# c\non BASE k_a.x why\n")


class Scenarios(unittest.TestCase):
    """Settings that follow from a configuration."""

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
        scenario = self.scenario("CONFIG_KASAN=y\n", qemu="mem=4096\nboot=a=1 b\n")
        self.assertEqual((scenario.settings["mem"], scenario.settings["cpu"], scenario.boot),
                         (4096, "max,la57=off", ["a=1", "b"]))
        self.assertEqual(scenario.adjusted({"boot": "c"}).boot, ["a=1", "b", "c"])

    def test_missing_parts(self):
        with self.assertRaisesRegex(SetupError, "write NAME:KDIR:MODDIR"):
            Scenario("BASE")
        with self.assertRaisesRegex(SetupError, r"\.config is missing: build the kernel"):
            Scenario("BASE:/nonexistent:/nonexistent")
        with self.assertRaisesRegex(SetupError, "is not built for x86_64: install"):
            self.scenario("CONFIG_X86_64=y\n", machine=183)


class Bpftrace(unittest.TestCase):
    """The files of bpftrace in the guest."""

    def test_missing(self):
        with tempfile.TemporaryDirectory() as name, self.assertRaisesRegex(SetupError, "bpftrace is missing"):
            list(initramfs.bpftrace(pathlib.Path(name)))


class Accel(unittest.TestCase):
    """Whether KVM is tried."""

    def test_cpu(self):
        self.assertTrue(machine.cpu_can("flags\t\t: fpu vmx sse\n", "x86_64", "x86_64"))
        self.assertTrue(machine.cpu_can("flags\t\t: fpu svm\n", "x86_64", "x86_64"))
        self.assertFalse(machine.cpu_can("flags\t\t: fpu svmx\n", "x86_64", "x86_64"))
        self.assertFalse(machine.cpu_can("vmx flags\t\t: none\n", "x86_64", "x86_64"))
        self.assertFalse(machine.cpu_can("flags\t\t: vmx\n", "x86_64", "arm64"))
        self.assertTrue(machine.cpu_can("", "aarch64", "arm64"))


class RustApi(unittest.TestCase):
    """The table in rust/api/mod.rs: which compiled module uses which item."""

    def test_examples(self):
        text = (QEMU.parent / "rust" / "api" / "mod.rs").read_text(encoding="utf-8")
        used = set()
        for items, name in re.findall(r"^//! \| (\[.*) \| (rust/\S+\.rs) \|$", text, re.MULTILINE):
            words = set(re.findall(r"\w+", (QEMU.parent / name).read_text(encoding="utf-8")))
            for item in re.findall(r"`([\w:]+)(?:\(\))?`", items):
                self.assertLessEqual({item.rpartition("::")[2]}, words, f"{name} has no {item}")
                used.add(item)
        public = re.findall(r"^pub use \w+::\{?([^;}]*)", text, re.MULTILINE)
        items = {item for group in public for item in re.findall(r"\w+", group)}
        self.assertGreater(len(items), 20)
        self.assertEqual(items - used, set())
