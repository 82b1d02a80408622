# SPDX-License-Identifier: GPL-2.0
"""The command line of QEMU, and of the kernel in it."""

import shutil

from .errors import SetupError

PROGRAMS = {
    "x86_64": ("qemu-system-x86_64", "qemu-system-x86"),
    "arm64": ("qemu-system-aarch64", "qemu-system-arm"),
}
CONSOLES = {"x86_64": "ttyS0", "arm64": "ttyAMA0"}


def program(arch):
    """Returns the path of QEMU for the guest's architecture."""
    name, package = PROGRAMS[arch]
    path = shutil.which(name)
    if not path:
        raise SetupError(f"{name} is missing: install the package {package}")
    return path


def kernel_args(scenario):
    """The kernel's parameters."""
    return [
        f"console={CONSOLES[scenario.arch]}",
        "ignore_loglevel",
        "printk.devkmsg=on",
        "panic=-1",
        "oops=panic",
        # For guests that share two CPUs with a build: soft lockups from 60 s on, hard ones from 30.
        "watchdog_thresh=30",
        "workqueue.watchdog_thresh=60",
        # insmod waits for a test, which may take 300 s.
        "sysctl.kernel.hung_task_timeout_secs=310",
        "kunit.enable=1",
        "kunit.autorun=1",
        # Leaves the kernel's own suites out.
        "kunit.filter_glob=rcu_ptr*",
        *scenario.boot,
    ]


def command(scenario, accel, initrd, smp=None, mem=None):
    """Returns the argv of QEMU; accel is 'kvm' or 'tcg'."""
    how = scenario.settings
    cpu = how["cpu"]
    if accel == "kvm":
        words = ["-accel", "kvm"]
        cpu = ",".join(["host"] + [o for o in cpu.split(",")[1:] if not o.startswith("pauth")])
    else:
        words = ["-accel", f"tcg,thread={how['thread']}"]
        if "icount" in how:
            words += ["-icount", how["icount"]]
    return [
        program(scenario.arch),
        "-M", how["machine"],
        *words,
        "-cpu", cpu,
        "-smp", str(smp or how["smp"]),
        "-m", str(mem or how["mem"]),
        "-display", "none", "-vga", "none", "-net", "none", "-monitor", "none",
        "-serial", "stdio",
        "-no-reboot",
        *how.get("args", "").split(),
        "-kernel", str(scenario.image),
        "-initrd", str(initrd),
        "-append", " ".join(kernel_args(scenario)),
    ]
