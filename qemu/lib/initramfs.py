# SPDX-License-Identifier: GPL-2.0
"""What the guest's root file system holds."""

import pathlib

from . import costs, cpio, insns

GUEST = pathlib.Path(__file__).resolve().parent.parent / "guest"
# The shell suites load these, whatever the plan names.
CLIENTS = ("rcu_ptr.ko", "rcu_ptr_client_c.ko", "rcu_ptr_client_rs.ko", "rcu_ptr_nmi_hash.ko", "rcu_ptr_sleepers.ko",
           "rcu_ptr_bench.ko", "rcu_ptr_takeover.ko", "rcu_ptr_kernel_client.ko")
# The kernel's own tests, and a core with another layout, where they were built.
OPTIONAL = ("rcu_ptr_changed.ko", "torture.ko", "rcuscale.ko", "rcutorture.ko", "test_vmalloc.ko")


def base(archive, scenario):
    """Folders, devices and busybox."""
    for folder in ("bin", "dev", "proc", "sys", "tmp", "modules", "tests"):
        archive.directory(folder)
    archive.chardev("dev/console", 5, 1)
    # For kernels without devtmpfs.
    archive.chardev("dev/null", 1, 3, 0o666)
    archive.chardev("dev/kmsg", 1, 11, 0o644)
    archive.file("bin/busybox", scenario.busybox.read_bytes(), 0o755)
    archive.symlink("bin/sh", "busybox")


def swept(plan):
    """The modules whose instructions suite rcu_ptr_sweep asks for: a list of all would take longer to make
    than some guests to boot."""
    found = set()
    for words in plan.steps:
        if words[:2] == ["insmod", "rcu_ptr_kunit.ko"]:
            names = [word.partition("=")[2] for word in words if word.startswith("sweep_module=")]
            found.update(names or ["rcu_ptr"])
    return found


def write(path, scenario, plan, objdump, extra=()):
    """Writes the initramfs that carries out a plan. extra: more files, as (name, bytes) or with a mode."""
    modules = set(plan.modules())
    if any(words[0] == "sh" for words in plan.steps):
        modules.update(CLIENTS)
        modules.update(name for name in OPTIONAL if scenario.has(name))
    paths = {name: scenario.module(name) for name in sorted(modules)}
    with open(path, "wb") as out:
        archive = cpio.Archive(out)
        base(archive, scenario)
        archive.file("init", (GUEST / "init").read_bytes(), 0o755)
        for name in ("lib.sh", "upstream.sh"):
            archive.file(name, (GUEST / name).read_bytes())
        archive.file("plan", plan.text.encode())
        archive.file("slow", b"%d\n" % scenario.slow)
        archive.file("costs", costs.text().encode())
        for script in sorted((GUEST / "tests").glob("*.sh")):
            archive.file(f"tests/{script.name}", script.read_bytes())
        for name, content, *mode in extra:
            archive.file(name, content, *mode)
        for name, module in paths.items():
            archive.file(f"modules/{name}", module.read_bytes())
            if not scenario.stock and module.stem in swept(plan):
                archive.file(f"modules/{module.stem}.insns", insns.of_module(objdump, module))
        if plan.functions:
            found = insns.generate(objdump, scenario.kdir / "vmlinux", plan.functions)
            archive.file("modules/vmlinux.insns", found.encode())
        archive.close()


def write_probe(path, scenario):
    """Writes an initramfs that powers off at once."""
    with open(path, "wb") as out:
        archive = cpio.Archive(out)
        base(archive, scenario)
        archive.file("init", b"#!/bin/sh\n/bin/busybox poweroff -f\n", 0o755)
        archive.close()
