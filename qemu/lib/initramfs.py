# SPDX-License-Identifier: GPL-2.0
"""The guest's root file system."""

import os
import pathlib
import re
import subprocess
import tempfile

from . import base, costs, insns
from .base import QEMU, ROOT, SetupError, read

GUEST = QEMU / "guest"
# The kernel's own tests, and a core with another layout, if they were built.
OPTIONAL = ("rcu_ptr_changed.ko", "torture.ko", "rcuscale.ko", "rcutorture.ko", "test_vmalloc.ko")
# The kernel has /dev/console in an archive of its own.
FOLDERS = ("bin", "dev", "proc", "sys", "tmp", "modules", "tests")
# Directories of bpftrace's loader and libraries in a distribution.
LOADER = "lib64/ld-linux-x86-64.so.2"
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/llvm-*/lib")


def pack(path, scenario, files):
    """Writes an initramfs with busybox and these files: (name, bytes), or with a mode. The same files give the same
    archive, at any time and place."""
    command = [base.program(["cpio"], "cpio"), "--create", "--format=newc", "--owner=+0:+0", "--reproducible", "--quiet"]
    with tempfile.TemporaryDirectory(prefix="rcu_ptr-initramfs-") as tree:
        root = pathlib.Path(tree)
        for folder in FOLDERS:
            (root / folder).mkdir()
        (root / "bin/sh").symlink_to("busybox")
        for name, content, *mode in (("bin/busybox", scenario.busybox.read_bytes(), 0o755), *files):
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(mode[0] if mode else 0o644)
        entries = sorted(root.rglob("*"))
        for entry in entries:
            if entry.is_dir():
                entry.chmod(0o755)
            os.utime(entry, (0, 0), follow_symlinks=False)
        with open(path, "wb") as out:
            names = "".join(f"{entry.relative_to(root)}\n" for entry in entries)
            done = subprocess.run(command, cwd=root, input=names.encode(), stdout=out, stderr=subprocess.PIPE,
                                  check=False)
        if done.returncode:
            raise SetupError(f"cpio can't write {path}: {done.stderr.decode(errors='replace').strip()}")


def sources():
    """The modules of this tree, each with its folder under rust/."""
    return {f"{name}.ko": path.parent.relative_to(ROOT / "rust").as_posix()
            for path in sorted((ROOT / "rust").rglob("Kbuild"))
            for name in re.findall(r"^obj-m := (\w+)\.o$", read(path), re.MULTILINE)}


def of_script(name):
    """The modules of this tree that a shell suite names, and the core."""
    path = GUEST / "tests" / name
    # The script of the benchmark is no suite.
    text = read(path if path.exists() else GUEST / name)
    if ". /upstream.sh" in text:
        text += read(GUEST / "upstream.sh")
    return {"rcu_ptr.ko", *(module for module in sources() if re.search(rf"\b{module[:-3]}\b", text))}


def folders(text):
    """The folders under rust/ of the modules that the text of a plan needs in any scenario."""
    modules = set(re.findall(r"^(?:on \S+ )?(?:insmod|once) (\S+)", text, re.MULTILINE))
    modules.update(*map(of_script, re.findall(r"^(?:on \S+ )?sh (\S+)", text, re.MULTILINE)))
    return {folder for module, folder in sources().items() if module in modules}


def swept(plan):
    """The modules whose instructions nmi_sweep.ko reads: lists of all modules would take longer to generate
    than some guests to boot."""
    found = set()
    for words in plan.steps:
        if words[:2] == ["insmod", "nmi_sweep.ko"]:
            names = [word.partition("=")[2] for word in words if word.startswith("module=")]
            found.update(names or ["rcu_ptr"])
    return found


def _files(scenario, plan, objdump, extra):
    """The files that run a plan: (name, bytes) of each, or with a mode."""
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
    """Writes the initramfs that runs a plan. extra: more files, as (name, bytes) or with a mode."""
    pack(path, scenario, _files(scenario, plan, objdump, extra))


def _libraries(root, program):
    """Paths of the libraries that it is linked against, as its own loader finds them."""
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
        raise SetupError(f"{program} can't be read: {done.stderr.strip() or 'it has no libraries'}")
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
