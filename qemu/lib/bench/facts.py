# SPDX-License-Identifier: GPL-2.0
"""What the numbers depend on: kernel, configuration, toolchain, QEMU, host."""

import hashlib
import os
import platform
import subprocess

from .. import machine


def _version(argv):
    try:
        out = subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    except OSError:
        return "unknown"
    return out.split("\n")[0].strip() or "unknown"


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _krc_bytes(vmlinux):
    """What the kernel's own kfree_rcu() has per CPU, beside its sheaves: the symbol krc."""
    if not vmlinux.exists():
        return None
    try:
        out = subprocess.run(["nm", "-S", str(vmlinux)], check=False, capture_output=True,
                             text=True).stdout
    except OSError:
        return None
    for line in out.splitlines():
        words = line.split()
        if len(words) == 4 and words[3] == "krc":
            return int(words[1], 16)
    return None


def about(scenarios, toolchain, quick):
    """A dict for results.json."""
    kernels = {}
    for name, scenario in scenarios.items():
        kernels[name] = {
            "release": scenario.release,
            "arch": scenario.arch,
            "config_sha256": _sha256(scenario.kdir / ".config"),
            "image_sha256": _sha256(scenario.image),
            "compiler": scenario.options.get("CC_VERSION_TEXT", "").strip('"'),
            "rustc": scenario.options.get("RUSTC_VERSION_TEXT", "").strip('"'),
            "krc_bytes_per_cpu": _krc_bytes(scenario.kdir / "vmlinux"),
            "modules_sha256": {module: _sha256(scenario.module(module))
                               for module in ("rcu_ptr.ko", "rcu_ptr_bench.ko")},
        }
    archs = {scenario.arch for scenario in scenarios.values()}
    return {
        "quick": quick,
        "kernels": kernels,
        "toolchain": toolchain,
        "qemu": {arch: _version([machine.program(arch), "--version"]) for arch in sorted(archs)},
        "host": {"machine": platform.machine(), "system": platform.release(),
                 "cpus": os.cpu_count()},
    }
