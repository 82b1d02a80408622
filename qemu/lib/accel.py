# SPDX-License-Identifier: GPL-2.0
"""KVM or TCG. KVM is used only where a guest was seen to boot and power off under it: /dev/kvm can
exist, even create a machine, and still be of no use."""

import hashlib
import json
import os
import pathlib
import platform
import re
import subprocess
import tempfile

from . import initramfs, machine

PROBE_SECONDS = 20


def _cache_file():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "rcu_ptr" / "kvm-probes.json"


def _read(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def cpu_can(cpuinfo, host, guest):
    """Whether this host's CPU claims to run guests of this architecture."""
    if host == "x86_64":
        return guest == "x86_64" and bool(re.search(r"^flags\s*:.*\b(vmx|svm)\b", cpuinfo, re.M))
    return host == "aarch64" and guest == "arm64"


def _key(scenario):
    version = subprocess.run([machine.program(scenario.arch), "--version"], check=False,
                             capture_output=True, text=True).stdout.split("\n")[0]
    image = hashlib.sha256(scenario.image.read_bytes()).hexdigest()
    parts = (_read("/proc/sys/kernel/random/boot_id").strip(), image, version)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _probe(scenario):
    with tempfile.TemporaryDirectory(prefix="rcu_ptr-probe-") as folder:
        initrd = os.path.join(folder, "initrd.cpio")
        initramfs.write_probe(initrd, scenario)
        argv = machine.command(scenario, "kvm", initrd)
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                                  timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and b"reboot: Power down" in done.stdout


def _cached_probe(scenario):
    path = _cache_file()
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
