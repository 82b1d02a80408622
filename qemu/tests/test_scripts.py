# SPDX-License-Identifier: GPL-2.0
"""A set-up that scripts/ can't use: exit code 2 and one reason, before anything is built."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from .common import QEMU

ROOT = QEMU.parent

RUSTC = "rustc 1.85.0 (of another machine)"
CONFIG = {"MODULES": "y", "64BIT": "y", "X86_64": "y", "SMP": "y", "RUST": "y", "RUSTC_VERSION_TEXT": f'"{RUSTC}"'}
CRATES = [f"rust/{name}" for name in ("libcore.rmeta", "libkernel.rmeta", "libbindings.rmeta", "libpin_init.rmeta",
                                      "libmacros.so", "helpers/helpers_module.bc")]


def config(**options):
    """The text of a configuration; None: without this option."""
    return "".join(f"CONFIG_{name}={value}\n" for name, value in {**CONFIG, **options}.items() if value)


class Scripts(unittest.TestCase):
    """Runs scripts without the environment of the tests."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def refused(self, *reasons, script="build.sh", args=("modules",), **variables):
        """The script ends with 2 and one line, which contains all reasons."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **variables}
        done = subprocess.run(["bash", ROOT / "scripts" / script, *args], env=env, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        said = done.stdout + done.stderr
        with self.subTest(reasons):
            self.assertEqual((done.returncode, len(said.splitlines())), (2, 1), said)
            for reason in reasons:
                self.assertIn(reason, said)

    def write(self, name, text=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def program(self, name, *lines):
        """A program that replaces the real one."""
        path = self.write(name, "\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o755)
        return str(path)


class Kdir(Scripts):
    """Kernel builds that KDIR= names."""

    def unusable(self, *reasons, without=(), release="7.3.4-other", **options):
        """A build that is complete except for some files."""
        files = {"include/config/auto.conf": config(**options), ".config": config(**options), "Module.symvers": "",
                 "include/config/kernel.release": release, **dict.fromkeys(CRATES, "")}
        shutil.rmtree(self.folder / "kdir", ignore_errors=True)
        for name, text in files.items():
            if name not in without:
                self.write(f"kdir/{name}", text)
        self.refused(*reasons, KDIR=str(self.folder / "kdir"))

    def test_files(self):
        self.refused("no such directory", KDIR=str(self.folder / "kdir"))
        self.unusable("no prepared kernel build", without=["include/config/auto.conf"])
        self.unusable("no Module.symvers", without=["Module.symvers"])
        self.unusable("rust/libcore.rmeta", "rust/libmacros.so", "make modules_prepare", without=CRATES)
        self.unusable(CRATES[-1], "make modules_prepare", without=CRATES[-1:], RUST_INLINE_HELPERS="y")

    def test_configurations(self):
        self.unusable("no CONFIG_RUST=y", RUST=None)
        self.unusable("no CONFIG_SMP=y", SMP=None)
        self.unusable("64-bit kernels for x86_64 and arm64 only", **{"64BIT": None, "X86_64": None, "X86_32": "y"})
        self.unusable("is Linux 7.2.9", release="7.2.9")
        self.unusable(f"was built with '{RUSTC}'")


class Install(Scripts):
    """Packaged headers, checked by scripts/install.sh probe."""

    def probe(self, *reasons, options=None, **variables):
        """The modules can't be built for a kernel with these options."""
        self.write(".config", config(**(options or {})))
        self.refused(*reasons, script="install.sh", args=("probe",),
                     **{"KDIR": str(self.folder), "KERNELRELEASE": "7.3.4-other", **variables})

    def rustc(self, sysroot):
        """The one that the kernel was built with."""
        return self.program("rustc", f"case $1 in --print) echo {sysroot};; *) echo '{RUSTC}';; esac")

    def test_headers(self):
        self.probe("headers of 7.3.4-none are missing", KDIR="", KERNELRELEASE="7.3.4-none")
        self.probe("no CONFIG_RUST=y", options={"RUST": None})
        self.probe("older than Linux 7.3", KERNELRELEASE="7.2.9+deb13-amd64")
        self.write("include/config/kernel.release", "7.3.4-of-others\n")
        self.probe("headers of 7.3.4-of-others", "vermagic")

    def test_rustc(self):
        self.probe(f"was built with '{RUSTC}'", RUSTC=self.program("rustc", "echo rustc 1.86.0"))
        self.probe(f"was built with '{RUSTC}'", RUSTC="", LLVM="", ARCH="")
        self.probe("library source is missing", "rust-src", RUSTC=self.rustc("/no"))

    def test_other_tools(self):
        self.write("lib/rustlib/src/rust/library/core/src/lib.rs")
        tools = {"RUSTC": self.rustc(self.folder), "PATH": f"{self.folder}:{os.environ['PATH']}"}
        self.probe("bindgen is missing", "apt-get install bindgen", BINDGEN="/no/bindgen", **tools)
        self.probe("bindgen is older than", BINDGEN=self.program("bindgen", "echo bindgen 0.65.1"), **tools)
        self.program("bindgen", "echo bindgen 0.99.0")
        self.probe("no-such-gcc is missing", **tools,
                   options={"CC_VERSION_TEXT": '"no-such-gcc (of another machine) 14.2.0"'})
        self.probe("no Rust crates", "linux-source-7.3", **tools,
                   options={"CC_VERSION_TEXT": '"gcc (of another machine) 14.2.0"'})

    def test_tools_for_crates(self):
        done = subprocess.run(["bash", "-c", 'source scripts/lib/all.sh; '
                               'have() { [ "$2" != python3 ] && [ "$2" != libelf.h ]; }; missing tree stock; '
                               'echo "${MISSING[@]}"'], text=True, check=False, capture_output=True, timeout=60, cwd=ROOT)
        self.assertEqual((done.returncode, done.stdout), (0, "libelf-dev python3-minimal\n"))


class Stock(Scripts):
    """The input of scripts/stock-tree.sh."""

    def tree(self, *reasons, text="CONFIG_RUST=y\n", files=("Module.symvers", "rust/kernel/lib.rs"), **variables):
        """The build tree can't be prepared."""
        self.write(".config", text)
        for name in files:
            self.write(name)
        folder = str(self.folder)
        self.refused(*reasons, script="stock-tree.sh", args=(folder, folder, str(self.folder / "tree")), **variables)

    def test_refused(self):
        self.tree("no Module.symvers", "no kernel headers", files=())
        self.tree("is no kernel source", files=["Module.symvers"])
        self.tree("no CONFIG_RUST=y", text="CONFIG_SMP=y\n")
        self.program("rustc", "echo rustc 1.80.0")
        self.tree(f"was built with '{RUSTC}'", text=config(),
                  PATH=f"{self.folder}:{os.environ['PATH']}", RUSTC="", LLVM="", BINDGEN="")


class Library(unittest.TestCase):
    """scripts/lib/, all of which is sourced by every script."""

    def test_functions_have_names_of_their_own(self):
        text = "".join(path.read_text() for path in sorted((ROOT / "scripts" / "lib").glob("*.sh")))
        names = re.findall(r"^(\w+)\(\)", text, re.M)
        self.assertEqual(sorted(names), sorted(set(names)))


class Kernel(Scripts):
    """The kernel that 'make run' boots."""

    def chosen(self, *built, stock="true", **variables):
        """The chosen scenarios, if these kernels were built before."""
        for name in built:
            self.write(f"kernel/{name}-1/rcu_ptr.complete")
        script = f"source scripts/lib/all.sh; can_stock() {{ {stock}; }}; check_variables; choose_kernel; " \
                 "choose_scenarios run; echo ${NAMES[*]}"
        env = {"PATH": os.environ["PATH"], "RCU_PTR_CACHE": str(self.folder), **variables}
        done = subprocess.run(["bash", "-euc", script], cwd=ROOT, env=env, text=True, check=True,
                              capture_output=True, timeout=60)
        return done.stdout.strip()

    def test_soonest(self):
        self.assertEqual(self.chosen(), "DEBIAN")
        self.assertEqual(self.chosen(stock="false"), "BASE")
        self.assertEqual(self.chosen(KERNEL="", LLVM="", ARCH="x86_64"), "DEBIAN")
        self.assertEqual(self.chosen(ARCH="arm64"), "ARM64")
        self.assertEqual(self.chosen("BASE"), "BASE")
        self.assertEqual(self.chosen("BASE", "DEBIAN"), "DEBIAN")

    def test_variables(self):
        self.assertEqual(self.chosen(KERNEL="base"), "BASE")
        self.assertEqual(self.chosen("BASE", KERNEL="debian"), "DEBIAN")
        self.assertEqual(self.chosen(SCENARIOS="RT DEBUG"), "RT DEBUG")
        self.assertEqual(self.chosen(LLVM="-19"), "BASE")

    def test_another(self):
        self.refused("KERNEL=x: there are 'debian'", KERNEL="x")


class Dkms(unittest.TestCase):
    """dkms.conf, as DKMS reads it."""

    def test_modules(self):
        read = "kernelver=7.3.4-x; source dkms.conf; " \
               "for i in ${!BUILT_MODULE_NAME[@]}; do " \
               "echo ${BUILT_MODULE_NAME[i]} ${BUILT_MODULE_LOCATION[i]} ${DEST_MODULE_LOCATION[i]}; done; " \
               "echo \"${MAKE[0]}\""
        done = subprocess.run(["bash", "-euc", read], cwd=ROOT, text=True, check=True, capture_output=True,
                              timeout=60)
        *modules, make = done.stdout.splitlines()
        script = (ROOT / "scripts/install.sh").read_text(encoding="utf-8")
        wanted = next(line for line in script.splitlines() if line.startswith("MODULES=")).split('"')[1]
        self.assertEqual([line.split()[0] for line in modules], wanted.split())
        for line in modules:
            name, location, dest = line.split()
            self.assertEqual((location, dest), (f"build/install-7.3.4-x/rust/{name}", "/updates/rcu_ptr"))
            self.assertTrue((ROOT / "rust" / name / "Kbuild").exists())
        self.assertEqual(make, "env KERNELRELEASE=7.3.4-x scripts/install.sh build")


class Toolchain(Scripts):
    """Tools that are missing, or are not what they should be."""

    def test_refused(self):
        self.refused("64-bit kernels for x86_64 and arm64 only", ARCH="i386")
        self.refused("no such program", RUSTC="/no/rustc")
        self.refused("is 1.80.1, the kernel needs", RUSTC=self.program("old", "echo rustc 1.80.1"))
        rustc = self.program("rustc", "case $1 in --print) echo /no;; *) echo rustc 1.99.0;; esac")
        self.refused("has no library source", RUSTC=rustc)
        self.refused("clang-1 is missing", LLVM="-1")
        self.refused("no bindgen of at least", args=("env", "build"), BINDGEN="/no/bindgen")
        bindgen = self.program("bindgen", "case $1 in --version) echo bindgen 0.99.0;; *) exit 1;; esac")
        self.refused("finds no libclang", args=("env", "build"), BINDGEN=bindgen)


class Sums(unittest.TestCase):
    """The last line of .ci/run and of test.sh test-all."""

    def closing(self, *commands, lines=1):
        """The last lines of the total, and the exit code."""
        script = "set -euo pipefail; source scripts/lib/sums.sh\n"
        script += "".join(f"sum_of one bash -c '{command}'\n" for command in commands) + "closing\n"
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, text=True, check=False,
                              capture_output=True, timeout=60)
        return "\n".join(done.stdout.splitlines()[-lines:]), done.returncode

    def test_sums(self):
        good = "echo 2 passed, 0 failed, 1 skipped"
        for commands, last, code in (
                ([good, good], "4 passed, 0 failed, 2 skipped", 0),
                ([good, "echo 0 passed, 0 failed, 3 skipped; exit 4"], "2 passed, 0 failed, 4 skipped", 0),
                ([good, "echo 1 passed, 2 failed, 0 skipped; exit 1"], "3 passed, 2 failed, 1 skipped", 1),
                ([good, "exit 1"], "2 passed, 1 failed, 1 skipped", 1),
                ([good, "true"], "2 passed, 1 failed, 1 skipped", 1),
                ([good, good + "; exit 3"], "4 passed, 1 failed, 2 skipped", 1),
                (["echo 0 passed, 0 failed, 3 skipped; exit 4"], "0 passed, 0 failed, 3 skipped", 1)):
            with self.subTest(commands):
                self.assertEqual(self.closing(*commands), (last, code))

    def test_failures_are_repeated_before_the_total(self):
        many = "for i in {1..60}; do echo \\# FAILED x $i; done; echo 0 passed, 60 failed, 0 skipped; exit 1"
        one = "echo \\# FAILED y; echo \"#     why\"; echo \\# z; echo 1 passed, 1 failed, 0 skipped; exit 1"
        last, code = self.closing(many, one, "echo 5 passed, 0 failed, 0 skipped", "echo w; false", lines=19)
        self.assertEqual(last.splitlines(), [f"# FAILED x {i}" for i in range(1, 14)] +
                         ["#   and 47 lines more above", "# FAILED y", "#     why", "# FAILED one",
                          "#     w", "6 passed, 62 failed, 0 skipped"])
        self.assertEqual(code, 1)
