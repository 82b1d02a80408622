# SPDX-License-Identifier: GPL-2.0
"""What scripts/ say of a set-up that can't be used: exit code 2, one reason, before anything is built."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from .common import QEMU

ROOT = QEMU.parent

CONFIG = {"MODULES": "y", "64BIT": "y", "X86_64": "y", "SMP": "y", "RUST": "y",
          "RUSTC_VERSION_TEXT": '"rustc 1.85.0 (of another machine)"'}
CRATES = ("libcore.rmeta", "libkernel.rmeta", "libbindings.rmeta", "libpin_init.rmeta", "libmacros.so",
          "helpers/helpers_module.bc")


class Scripts(unittest.TestCase):
    """Runs them in an environment without what the tests were started with."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def refused(self, *reasons, script="modules.sh", args=(), **variables):
        """It ends with 2 and one line, which has all of the reasons."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **variables}
        done = subprocess.run(["bash", ROOT / "scripts" / script, *args], env=env, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        said = done.stdout + done.stderr
        self.assertEqual((done.returncode, len(said.splitlines())), (2, 1), said)
        for reason in reasons:
            self.assertIn(reason, said)

    def program(self, name, *lines):
        """A program that is not what it should be."""
        path = self.folder / name
        path.write_text("\n".join(("#!/bin/sh", *lines, "")), encoding="utf-8")
        path.chmod(0o755)
        return str(path)


class Kdir(Scripts):
    """Kernel builds that KDIR= names."""

    def kernel(self, *without, release="7.3.4-other", **options):
        """A build that is complete but for some files."""
        config = "".join(f"CONFIG_{name}={value}\n" for name, value in {**CONFIG, **options}.items() if value)
        files = {"include/config/auto.conf": config, ".config": config, "Module.symvers": "",
                 "include/config/kernel.release": release, **{f"rust/{name}": "" for name in CRATES}}
        kdir = self.folder / "kdir"
        for name, text in files.items():
            if name not in without:
                path = kdir / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return str(kdir)

    def test_none(self):
        self.refused("no such directory", KDIR=str(self.folder / "kdir"))

    def test_not_prepared(self):
        self.refused("no prepared kernel build", KDIR=self.kernel("include/config/auto.conf"))

    def test_without_rust(self):
        self.refused("no CONFIG_RUST=y", KDIR=self.kernel(RUST=None))

    def test_without_smp(self):
        self.refused("no CONFIG_SMP=y", KDIR=self.kernel(SMP=None))

    def test_32_bit(self):
        kdir = self.kernel(**{"64BIT": None, "X86_64": None, "X86_32": "y"})
        self.refused("64-bit kernels for x86_64 and arm64 only", KDIR=kdir)

    def test_headers_without_crates(self):
        kdir = self.kernel(*(f"rust/{name}" for name in CRATES))
        self.refused("rust/libcore.rmeta", "rust/libmacros.so", "make modules_prepare", KDIR=kdir)

    def test_headers_without_helpers(self):
        kdir = self.kernel("rust/helpers/helpers_module.bc", RUST_INLINE_HELPERS="y")
        self.refused("rust/helpers/helpers_module.bc", "make modules_prepare", KDIR=kdir)

    def test_without_symbols(self):
        self.refused("no Module.symvers", KDIR=self.kernel("Module.symvers"))

    def test_too_old(self):
        self.refused("is Linux 7.2.9", KDIR=self.kernel(release="7.2.9"))

    def test_another_rustc(self):
        self.refused("was built with 'rustc 1.85.0 (of another machine)'", KDIR=self.kernel())


class Install(Scripts):
    """Headers as they are packaged, that scripts/install.sh probes."""

    def headers(self, **options):
        """Headers of a kernel with these options."""
        config = "".join(f"CONFIG_{name}={value}\n" for name, value in {**CONFIG, **options}.items() if value)
        (self.folder / ".config").write_text(config, encoding="utf-8")
        return str(self.folder)

    def probe(self, *reasons, rustc=None, release="7.3.4-other", **options):
        """The modules can't be built for it."""
        variables = {"RUSTC": rustc} if rustc is not None else {}
        self.refused(*reasons, script="install.sh", args=("probe",), KDIR=self.headers(**options),
                     KERNELRELEASE=release, **variables)

    def rustc(self, sysroot):
        """The one that the kernel was built with."""
        return self.program("rustc", f"case $1 in --print) echo {sysroot};; "
                                     "*) echo 'rustc 1.85.0 (of another machine)';; esac")

    def test_no_headers(self):
        self.refused("headers of 7.3.4-none are missing", script="install.sh", args=("probe",),
                     KERNELRELEASE="7.3.4-none")

    def test_without_rust(self):
        self.probe("no CONFIG_RUST=y", RUST=None)

    def test_other_headers(self):
        (self.folder / "include/config").mkdir(parents=True)
        (self.folder / "include/config/kernel.release").write_text("7.3.4-of-others\n", encoding="utf-8")
        self.probe("headers of 7.3.4-of-others", "vermagic")

    def test_too_old(self):
        self.probe("older than Linux 7.3", release="7.2.9+deb13-amd64")

    def test_another_rustc(self):
        self.probe("was built with 'rustc 1.85.0 (of another machine)'",
                   rustc=self.program("rustc", "echo rustc 1.86.0"))

    def test_empty_variables(self):
        (self.folder / ".config").write_text('CONFIG_RUST=y\nCONFIG_SMP=y\n'
                                             'CONFIG_RUSTC_VERSION_TEXT="rustc 1.85.0 (of another machine)"\n',
                                             encoding="utf-8")
        self.refused("was built with 'rustc 1.85.0 (of another machine)'", script="install.sh", args=("probe",),
                     KDIR=str(self.folder), KERNELRELEASE="7.3.4-other", RUSTC="", LLVM="", ARCH="")

    def test_without_library_source(self):
        self.probe("library source is missing", "rust-src", rustc=self.rustc("/no"))

    def library(self):
        """A rustc with all that belongs to it."""
        library = self.folder / "lib/rustlib/src/rust/library/core/src"
        library.mkdir(parents=True)
        (library / "lib.rs").touch()
        return self.rustc(self.folder)

    def test_without_bindgen(self):
        rustc = self.library()
        self.refused("bindgen is missing", "apt-get install bindgen", script="install.sh", args=("probe",),
                     KDIR=self.headers(), KERNELRELEASE="7.3.4-other", RUSTC=rustc,
                     BINDGEN="/no/bindgen")

    def test_old_bindgen(self):
        rustc = self.library()
        self.refused("bindgen is older than", script="install.sh", args=("probe",), KDIR=self.headers(),
                     KERNELRELEASE="7.3.4-other", RUSTC=rustc,
                     BINDGEN=self.program("bindgen", "echo bindgen 0.65.1"))

    def test_without_compiler(self):
        rustc = self.library()
        bindgen = self.program("bindgen", "echo bindgen 0.99.0")
        os.environ["PATH"] = f"{self.folder}:{os.environ['PATH']}"
        self.addCleanup(os.environ.__setitem__, "PATH", os.environ["PATH"].partition(":")[2])
        self.assertTrue(bindgen)
        self.probe("no-such-gcc is missing", rustc=rustc,
                   CC_VERSION_TEXT='"no-such-gcc (of another machine) 14.2.0"')

    def test_headers_without_crates(self):
        rustc = self.library()
        self.program("bindgen", "echo bindgen 0.99.0")
        os.environ["PATH"] = f"{self.folder}:{os.environ['PATH']}"
        self.addCleanup(os.environ.__setitem__, "PATH", os.environ["PATH"].partition(":")[2])
        self.probe("no Rust crates", "linux-source-7.3", rustc=rustc,
                   CC_VERSION_TEXT='"gcc (of another machine) 14.2.0"')

    def test_without_what_crates_are_made_with(self):
        script = (ROOT / "scripts/install.sh").read_text(encoding="utf-8")
        begin = script.index("PREPARATION=")
        check = script[begin:script.index("# tree_of RELEASE")]
        done = subprocess.run(["bash", "-uc", 'die() { echo "$*"; exit 2; }; RELEASE=r; '
                               'have() { [ "$2" != python3 ] && [ "$2" != libelf.h ]; }; '
                               + check + "check_preparation"], text=True, check=False, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("apt-get install python3-minimal libelf-dev\n", done.stdout)


class Stock(Scripts):
    """What scripts/stock-tree.sh is given."""

    def tree(self, *reasons, config="CONFIG_RUST=y\n", files=(".config", "Module.symvers", "rust/kernel/lib.rs"),
             **variables):
        """The build tree can't be made."""
        for name in files:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(config if name == ".config" else "", encoding="utf-8")
        folder = str(self.folder)
        self.refused(*reasons, script="stock-tree.sh", args=(folder, folder, str(self.folder / "tree")), **variables)

    def test_no_headers(self):
        self.tree("no Module.symvers", "no kernel headers", files=(".config",))

    def test_no_source(self):
        self.tree("is no kernel source", files=(".config", "Module.symvers"))

    def test_without_rust(self):
        self.tree("no CONFIG_RUST=y", config="CONFIG_SMP=y\n")

    def test_another_rustc(self):
        self.program("rustc", "echo rustc 1.80.0")
        self.tree("was built with 'rustc 1.85.0 (of another machine)'",
                  config='CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT="rustc 1.85.0 (of another machine)"\n',
                  PATH=f"{self.folder}:{os.environ['PATH']}", RUSTC="", LLVM="", BINDGEN="")


class Library(unittest.TestCase):
    """scripts/lib/, which every script reads as a whole."""

    def test_functions_have_names_of_their_own(self):
        text = "".join(path.read_text() for path in sorted((ROOT / "scripts" / "lib").glob("*.sh")))
        names = re.findall(r"^(\w+)\(\)", text, re.M)
        self.assertEqual(sorted(names), sorted(set(names)))


class Kernel(Scripts):
    """What 'make run' boots."""

    def chosen(self, *built, stock="true", **variables):
        """The scenarios, where these were built before."""
        for name in built:
            path = self.folder / "kernel" / f"{name}-1"
            path.mkdir(parents=True, exist_ok=True)
            (path / "rcu_ptr.complete").touch()
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

    def test_what_was_asked_for(self):
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

    def test_32_bit(self):
        self.refused("64-bit kernels for x86_64 and arm64 only", ARCH="i386")

    def test_no_rustc(self):
        self.refused("no such program", RUSTC="/no/rustc")

    def test_old_rustc(self):
        rustc = self.program("rustc", "echo rustc 1.80.1")
        self.refused("is 1.80.1, the kernel needs", RUSTC=rustc)

    def test_rustc_without_source(self):
        rustc = self.program("rustc", 'case $1 in --print) echo /no;; *) echo rustc 1.99.0;; esac')
        self.refused("has no library source", RUSTC=rustc)

    def test_incomplete_llvm(self):
        self.refused("clang-1 is missing", LLVM="-1")

    def test_no_bindgen(self):
        self.refused("no bindgen of at least", script="env.sh", args=("build",), BINDGEN="/no/bindgen")

    def test_bindgen_without_libclang(self):
        bindgen = self.program("bindgen", 'case $1 in --version) echo bindgen 0.99.0;; *) exit 1;; esac')
        self.refused("finds no libclang", script="env.sh", args=("build",), BINDGEN=bindgen)


class Sums(unittest.TestCase):
    """The last line of .ci/run and test-all.sh."""

    def closing(self, *commands, lines=1):
        """What the commands come to: the last lines, and the exit code."""
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

    def test_what_failed_is_in_front_of_the_sum(self):
        many = "for i in {1..60}; do echo \\# FAILED x $i; done; echo 0 passed, 60 failed, 0 skipped; exit 1"
        one = "echo \\# FAILED y; echo \"#     why\"; echo \\# z; echo 1 passed, 1 failed, 0 skipped; exit 1"
        last, code = self.closing(many, one, "echo 5 passed, 0 failed, 0 skipped", "echo w; false", lines=19)
        self.assertEqual(last.splitlines(), [f"# FAILED x {i}" for i in range(1, 14)] +
                         ["#   and 47 lines more above", "# FAILED y", "#     why", "# FAILED one",
                          "#     w", "6 passed, 62 failed, 0 skipped"])
        self.assertEqual(code, 1)
