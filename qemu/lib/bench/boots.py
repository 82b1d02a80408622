# SPDX-License-Identifier: GPL-2.0
"""The boots of a benchmark: what each measures, on which kernel, how the machine is started, and what the numbers
depend on.

Under icount the guest's clock counts executed instructions: one vCPU thread, one nanosecond an
instruction, and time jumps ahead where every CPU is idle. Wall time is measured without it, with a
thread per vCPU."""

import collections
import hashlib
import os
import platform
import subprocess

from .. import machine

# name; scenario; counts instructions; CPUs; MiB; what the guest does; seconds until it is given up
Boot = collections.namedtuple("Boot", "name scenario icount smp mem body timeout")

# The two that compete for the ordinary case.
BOTH = "frees=kfree_rcu,rcu_ptr_kvfree"
SIZES = "kmalloc-32,kmalloc-64,kmalloc-256,kmalloc-1024,kmalloc-4096,kmalloc-16384"


def _lines(*lines, rounds=1):
    """The file that the guest's bench.sh reads."""
    return f"ROUNDS={rounds}\nbody() {{\n" + "".join(f"\t{line}\n" for line in lines) + "}\n"


def _costs(quick):
    """Everything that is measured on one CPU, so that nothing else goes on."""
    reps = 5 if quick else 31
    many = 40000 if quick else 200000
    sizes = "kmalloc-64,kmalloc-1024" if quick else SIZES + ",cache-64"
    lines = [
        f"bench test=calls object=kmalloc-64 objects=2000 reps={reps}",
        f"bench test=nmi object=kmalloc-64 objects={5000 if quick else 50000}",
        "bench test=backlog object=kmalloc-64 objects=2000",
        "bench test=backlog object=kmalloc-64 objects=32000",
        f"bench test=cycle object={sizes} objects={many} reps={2 if quick else 3}",
        f"bench test=series object=cache-256 objects={many} {BOTH}",
        _parallel(quick),
    ]
    if not quick:
        lines.append("bench test=cycle object=vmalloc-8192 objects=5070 reps=3")
        lines += [f"bench test=cycle object=kmalloc-64 objects={n} reps={3 if n < 10**5 else 1} {BOTH}"
                  for n in (10, 100, 1000, 100000)]
    return Boot("costs", "PERF", True, 1, 1024, _lines(*lines), 900)


def _parallel(quick):
    return f"bench test=parallel object=kmalloc-64 objects=4000 reps={3 if quick else 9}"


def _path(quick):
    # With one CPU the kernel patches its lock prefixes away.
    return Boot("path", "PERF", True, 2, 1024, _lines(
        f"bench test=path object=kmalloc-64 objects={150 if quick else 1100}", _parallel(quick)), 400)


def _more_cpus(quick, cpus):
    return Boot(f"cpus-{cpus}", "PERF", True, cpus, 1024 + 64 * cpus, _lines(_parallel(quick)), 600)


def _scale(quick, smp):
    loops = 20 if quick else 200
    return Boot("scale", "BASE", False, smp, 2048, _lines(
        f"bench test=scale kfree_nthreads=2 kfree_loops={loops} {BOTH}", rounds=3 if quick else 7), 600)


def _sheaf(quick):
    """Caches with sheaves: what a pair of calls costs, and the whole cycle."""
    many = 20000 if quick else 100000
    return Boot("sheaf", "PERF", True, 1, 1024, _lines(
        f"bench test=sheaf objects={many} reps={3 if quick else 7}"), 400)


def _sheaf_scale(quick, smp):
    loops = 20 if quick else 200
    return Boot("sheafscale", "BASE", False, smp, 2048, _lines(
        f"bench test=sheafscale kfree_nthreads=2 kfree_loops={loops}", rounds=1 if quick else 3), 600)


def _saturated(quick):
    """No CPU is idle, and all that both of them execute is counted, workers and waiting included."""
    loops = 20 if quick else 200
    return Boot("saturated", "PERF", True, 2, 3072, _lines(
        f"bench test=scale kfree_nthreads=2 kfree_loops={loops} {BOTH}"), 600)


def _large():
    return Boot("large", "BASE", False, 2, 3072, _lines(
        f"bench test=scale kfree_nthreads=2 kfree_loops=625 {BOTH}", rounds=3), 600)


def boots(quick, smp=None):
    """All of them. smp: CPUs of the wall-time runs, and the most of the growth."""
    every = [_costs(quick), _path(quick)]
    every += [_more_cpus(quick, n) for n in (() if quick else (4, 8, 16)) if not smp or n <= smp]
    every += [_saturated(quick), _scale(quick, smp or 2)]
    every += [_sheaf(quick), _sheaf_scale(quick, smp or 2)]
    if not quick:
        every.append(_large())
    return every


def _said(*argv):
    """What a program says, or nothing."""
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
