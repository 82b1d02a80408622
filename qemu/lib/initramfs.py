# SPDX-License-Identifier: GPL-2.0
"""What the guest's root file system holds."""

import pathlib
import re
import stat
import subprocess

from . import costs, insns
from .base import QEMU, ROOT, SetupError, read

GUEST = QEMU / "guest"
# The kernel's own tests, and a core with another layout, where they were built.
OPTIONAL = ("rcu_ptr_changed.ko", "torture.ko", "rcuscale.ko", "rcutorture.ko", "test_vmalloc.ko")
FOLDER = stat.S_IFDIR | 0o755
# Where a distribution has bpftrace's loader and libraries.
LOADER = "lib64/ld-linux-x86-64.so.2"
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/llvm-*/lib")


class Archive:
    """An uncompressed newc cpio archive, written to a binary file; with device nodes, without being root."""

    def __init__(self, out):
        self._out = out
        self._count = 0
        self._folders = {""}

    def _write(self, data, align):
        self._out.write(data)
        self._out.write(b"\0" * (-self._out.tell() % align))

    def _entry(self, number, name, mode, data=b"", rdev=(0, 0)):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, 0, len(data), 0, 0, *rdev, len(raw), 0)
        self._write(b"070701" + b"".join(b"%08X" % field for field in fields) + raw, 4)
        self._write(data, 4)

    def add(self, name, mode, *content):
        """Adds an entry, behind the folders above it. content: bytes; of a device also its numbers."""
        above = name.rpartition("/")[0]
        if above not in self._folders:
            self.add(above, FOLDER)
        if mode == FOLDER:
            self._folders.add(name)
        self._count += 1
        self._entry(self._count, name, mode, *content)

    def close(self):
        """Writes the trailer."""
        self._entry(0, "TRAILER!!!", 0)
        self._write(b"", 512)


def pack(path, scenario, files):
    """Writes an initramfs with busybox and these files, as (name, bytes) or with a mode."""
    with open(path, "wb") as out:
        archive = Archive(out)
        for folder in ("bin", "dev", "proc", "sys", "tmp", "modules", "tests"):
            archive.add(folder, FOLDER)
        # For kernels without devtmpfs.
        for name, mode, numbers in (("console", 0o600, (5, 1)), ("null", 0o666, (1, 3)), ("kmsg", 0o644, (1, 11))):
            archive.add(f"dev/{name}", stat.S_IFCHR | mode, b"", numbers)
        archive.add("bin/busybox", stat.S_IFREG | 0o755, scenario.busybox.read_bytes())
        archive.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
        for name, content, *mode in files:
            archive.add(name, stat.S_IFREG | (mode[0] if mode else 0o644), content)
        archive.close()


def sources():
    """The modules of this tree, each with its folder under rust/."""
    return {f"{name}.ko": path.parent.relative_to(ROOT / "rust").as_posix()
            for path in sorted((ROOT / "rust").rglob("Kbuild"))
            for name in re.findall(r"^obj-m := (\w+)\.o$", read(path), re.MULTILINE)}


def of_script(name):
    """The modules of this tree that a shell suite may load: those that it names, and the core."""
    path = GUEST / "tests" / name
    # The benchmark's is not one of the suites.
    text = read(path if path.exists() else GUEST / name)
    if ". /upstream.sh" in text:
        text += read(GUEST / "upstream.sh")
    return {"rcu_ptr.ko", *(module for module in sources() if re.search(rf"\b{module[:-3]}\b", text))}


def folders(text):
    """The folders under rust/ of the modules that the text of a plan needs in some scenario or other."""
    modules = set(re.findall(r"^(?:on \S+ )?(?:insmod|once) (\S+)", text, re.MULTILINE))
    modules.update(*map(of_script, re.findall(r"^(?:on \S+ )?sh (\S+)", text, re.MULTILINE)))
    return {folder for module, folder in sources().items() if module in modules}


def swept(plan):
    """The modules whose instructions nmi_sweep.ko asks for: a list of all would take longer to make
    than some guests to boot."""
    found = set()
    for words in plan.steps:
        if words[:2] == ["insmod", "nmi_sweep.ko"]:
            names = [word.partition("=")[2] for word in words if word.startswith("module=")]
            found.update(names or ["rcu_ptr"])
    return found


def _files(scenario, plan, objdump, extra):
    """What carries out a plan: (name, bytes) of each file, or with a mode."""
    modules = set(plan.modules())
    scripts = {words[1] for words in plan.steps if words[0] == "sh"}
    modules.update(*map(of_script, scripts))
    if scripts:
        modules.update(name for name in OPTIONAL if scenario.has(name))
    yield "init", (GUEST / "init").read_bytes(), 0o755
    for name in ("lib.sh", "upstream.sh"):
        yield name, (GUEST / name).read_bytes()
    yield "plan", plan.text.encode()
    yield "slow", b"%d\n" % scenario.slow
    yield "costs", costs.text().encode()
    for script in sorted((GUEST / "tests").glob("*.sh")):
        yield f"tests/{script.name}", script.read_bytes()
    yield from extra
    for module in [scenario.module(name) for name in sorted(modules)]:
        yield f"modules/{module.name}", module.read_bytes()
        if not scenario.stock and module.stem in swept(plan):
            yield f"modules/{module.stem}.insns", insns.of_module(objdump, module)
    if plan.functions:
        found = insns.generate(objdump, scenario.kdir / "vmlinux", plan.functions)
        yield "modules/vmlinux.insns", found.encode()


def write(path, scenario, plan, objdump, extra=()):
    """Writes the initramfs that carries out a plan. extra: more files, as (name, bytes) or with a mode."""
    pack(path, scenario, _files(scenario, plan, objdump, extra))


def _libraries(root, program):
    """Paths of all that it is linked against, as its own loader finds them."""
    folders = [str(folder) for name in LIBRARIES for folder in sorted(root.glob(name))]
    loader = root / "usr" / LOADER
    done = subprocess.run([loader, "--library-path", ":".join(folders), "--list", program], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    found = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if "=>" in words and words[2].startswith("/"):
            found[words[0]] = pathlib.Path(words[2])
        elif "=>" in words:
            raise SetupError(f"bpftrace needs {words[0]}, which is not under {root}: remove that folder")
    if done.returncode or not found:
        raise SetupError(f"{program} can't be looked at: {done.stderr.strip() or 'it has no libraries'}")
    return found


def bpftrace(root):
    """(name in the guest, bytes, mode) of a distribution's bpftrace: the program, its libraries, and
    scripts/bpftrace/."""
    program = root / "usr" / "bin" / "bpftrace"
    if not program.exists():
        raise SetupError(f"{program} is missing: PLAN=bpftrace scripts/qemu.sh fetches it")
    yield "usr/bin/bpftrace", program.read_bytes(), 0o755
    yield LOADER, (root / "usr" / LOADER).read_bytes(), 0o755
    for name, path in _libraries(root, program).items():
        yield f"lib/{pathlib.Path(name).name}", path.read_bytes(), 0o755
    for path in sorted((ROOT / "scripts" / "bpftrace").glob("*.bt")):
        yield f"bpftrace/{path.name}", path.read_bytes(), 0o644
