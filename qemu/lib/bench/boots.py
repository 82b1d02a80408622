# SPDX-License-Identifier: GPL-2.0
"""The boots of a benchmark: what each measures, the kernel, the machine, and the environment of the numbers.

Under icount the guest's clock counts executed instructions: one vCPU thread, one nanosecond an instruction, and
time jumps ahead while every CPU is idle. Wall time is measured without it, with a thread per vCPU."""

import collections
import hashlib
import os
import platform
import subprocess

from .. import machine

# name; scenario; counts instructions; CPUs; MiB; timeout in seconds; commands of the guest
Boot = collections.namedtuple("Boot", "name scenario icount smp mem timeout body")

# The two functions for the ordinary case.
BOTH = "frees=kfree_rcu,rcu_ptr_kvfree"


def _lines(*lines, rounds=1):
    """The file for the guest's bench.sh."""
    return f"ROUNDS={rounds}\nbody() {{\n" + "".join(f"\tbench test={line}\n" for line in lines) + "}\n"


def boots(quick, smp=None):
    """All boots. smp: CPUs of the wall-time runs, and the maximum in those with a growing number."""
    def of(short, full):
        return short if quick else full

    parallel = f"parallel object=kmalloc-64 objects=4000 reps={of(3, 9)}"
    threads = f"kfree_nthreads=2 kfree_loops={of(20, 200)}"
    many = of(40000, 200000)
    every = [
        # One CPU, so that nothing else runs.
        Boot("costs", "PERF", True, 1, 1024, 900, _lines(
            f"calls object=kmalloc-64 objects=2000 reps={of(5, 31)}",
            f"nmi object=kmalloc-64 objects={of(5000, 50000)}",
            "backlog object=kmalloc-64 objects=2000",
            "backlog object=kmalloc-64 objects=32000",
            f"cycle object=kmalloc-64 objects={many} reps={of(2, 3)}",
            f"series object=cache-256 objects={many} {BOTH}",
            parallel)),
        # With one CPU the kernel removes its lock prefixes.
        Boot("path", "PERF", True, 2, 1024, 400, _lines(
            f"path object=kmalloc-64 objects={of(150, 1100)}", parallel)),
        *(Boot(f"cpus-{cpus}", "PERF", True, cpus, 1024 + 64 * cpus, 600, _lines(parallel))
          for cpus in of((), (4, 8, 16)) if not smp or cpus <= smp),
        # No CPU is idle, and everything that both execute is counted, including workers and waiting.
        Boot("saturated", "PERF", True, 2, 3072, 600, _lines(f"scale {threads} {BOTH}")),
        Boot("scale", "BASE", False, smp or 2, 2048, 600, _lines(f"scale {threads} {BOTH}", rounds=of(3, 7))),
        Boot("sheaf", "PERF", True, 1, 1024, 400, _lines(
            f"sheaf objects={of(20000, 100000)} reps={of(3, 7)}")),
        Boot("sheafscale", "BASE", False, smp or 2, 2048, 600, _lines(f"sheafscale {threads}", rounds=of(1, 3))),
    ]
    if not quick:
        every.append(Boot("large", "BASE", False, 2, 3072, 600, _lines(
            f"scale kfree_nthreads=2 kfree_loops=625 {BOTH}", rounds=3)))
    return every


def _said(*argv):
    """The output of a program, or nothing."""
    try:
        return subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    except OSError:
        return ""


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def about(scenarios, toolchain, quick):
    """Kernel, configuration, toolchain, QEMU, host: a dict for results.json."""
    kernels = {}
    for name, scenario in scenarios.items():
        kernels[name] = {
            "release": scenario.release,
            "arch": scenario.arch,
            "config_sha256": _sha256(scenario.kdir / ".config"),
            "image_sha256": _sha256(scenario.image),
            "compiler": scenario.options.get("CC_VERSION_TEXT", "").strip('"'),
            "rustc": scenario.options.get("RUSTC_VERSION_TEXT", "").strip('"'),
            "modules_sha256": {module: _sha256(scenario.module(module))
                               for module in ("rcu_ptr.ko", "rcu_ptr_bench.ko")},
        }
    archs = {scenario.arch for scenario in scenarios.values()}
    return {
        "quick": quick,
        "kernels": kernels,
        "toolchain": toolchain,
        "qemu": {arch: _said(machine.program(arch), "--version").split("\n")[0].strip() or "unknown"
                 for arch in sorted(archs)},
        "host": {"machine": platform.machine(), "system": platform.release(),
                 "cpus": os.cpu_count()},
    }
