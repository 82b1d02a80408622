# SPDX-License-Identifier: GPL-2.0
"""How a guest is started: the command lines of QEMU and the kernel, and KVM or TCG. KVM is used only after a
probe guest booted and powered off with it: /dev/kvm may exist, and even create a machine, without working."""

import hashlib
import json
import os
import pathlib
import platform
import re
import subprocess
import tempfile

from . import base, initramfs

PROGRAMS = {
    "x86_64": ("qemu-system-x86_64", "qemu-system-x86"),
    "arm64": ("qemu-system-aarch64", "qemu-system-arm"),
}
PROBE_SECONDS = 20
CONSOLES = {"x86_64": "ttyS0", "arm64": "ttyAMA0"}


def program(arch):
    """Returns the path of QEMU for the guest's architecture."""
    name, package = PROGRAMS[arch]
    return base.program([name], package)


def kernel_args(scenario):
    return [
        f"console={CONSOLES[scenario.arch]}",
        "ignore_loglevel",
        "printk.devkmsg=on",
        "panic=-1",
        "oops=panic",
        # Guests may share two CPUs with a build: soft lockups are reported after 60 s, hard ones after 30.
        "watchdog_thresh=30",
        "workqueue.watchdog_thresh=60",
        # insmod waits for the tests, each of which may take 300 s.
        "sysctl.kernel.hung_task_timeout_secs=310",
        "kunit.enable=1",
        "kunit.autorun=1",
        # Disables the kernel's own suites.
        "kunit.filter_glob=rcu_ptr*",
        *scenario.boot,
    ]


def command(scenario, accel, initrd):
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
        "-smp", str(how["smp"]),
        "-m", str(how["mem"]),
        "-display", "none", "-vga", "none", "-net", "none", "-monitor", "none",
        "-serial", "stdio",
        "-no-reboot",
        *how.get("args", "").split(),
        "-kernel", str(scenario.image),
        "-initrd", str(initrd),
        "-append", " ".join(kernel_args(scenario)),
    ]


def _read(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def cpu_can(cpuinfo, host, guest):
    """Whether this host's CPU supports virtualization of this architecture."""
    if host == "x86_64":
        return guest == "x86_64" and bool(re.search(r"^flags\s*:.*\b(vmx|svm)\b", cpuinfo, re.M))
    return host == "aarch64" and guest == "arm64"


def _key(scenario):
    version = subprocess.run([program(scenario.arch), "--version"], check=False,
                             capture_output=True, text=True).stdout.split("\n")[0]
    image = hashlib.sha256(scenario.image.read_bytes()).hexdigest()
    parts = (_read("/proc/sys/kernel/random/boot_id").strip(), image, version)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _probe(scenario):
    with tempfile.TemporaryDirectory(prefix="rcu_ptr-probe-") as folder:
        initrd = os.path.join(folder, "initrd.cpio")
        initramfs.pack(initrd, scenario, [("init", b"#!/bin/sh\n/bin/busybox poweroff -f\n", 0o755)])
        argv = command(scenario, "kvm", initrd)
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                                  timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and b"reboot: Power down" in done.stdout


def _cached_probe(scenario):
    # As in scripts/lib/common.sh.
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.environ.get("RCU_PTR_CACHE") or os.path.join(home, "rcu_ptr")
    path = pathlib.Path(folder) / "kvm-probes.json"
    try:
        probes = json.loads(_read(path) or "{}")
    except ValueError:
        probes = {}
    key = _key(scenario)
    if key not in probes:
        probes[key] = _probe(scenario)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(probes, indent=1), encoding="utf-8")
        except OSError:
            pass
    return probes[key]


def choose(scenario):
    """Returns 'kvm' or 'tcg', and why."""
    if "icount" in scenario.settings:
        return "tcg", "the scenario counts instructions"
    if not cpu_can(_read("/proc/cpuinfo"), platform.machine(), scenario.arch):
        return "tcg", "the CPU has no vmx or svm, or is of another architecture"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg", "/dev/kvm can't be used"
    if not _cached_probe(scenario):
        return "tcg", "a probe guest did not boot under KVM"
    return "kvm", "a probe guest booted and powered off"
