#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Compares rcu_ptr with the kernel's own functions, in QEMU.

stdout has tables in Markdown. The folder named at the end has the same tables, results.json, plots as
SVG and PNG (with matplotlib), and the log of each boot.

Exit codes: 0 all measured, 1 something failed, 2 set-up or usage.
"""

import json
import pathlib
import time

from lib import base
from lib.base import QEMU, SetupError
from lib.bench import boots, plots, results, tables
from lib.boot import Run, new_folder
from lib.plan import Plan
from lib.scenario import Scenario
from lib.splat import Detector


def _arguments():
    parser = base.parser(__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs, two minutes")
    parser.add_argument("--smp", type=int, metavar="N",
                        help="CPUs of the wall-time runs, and the maximum of those with a growing number")
    parser.add_argument("--only", metavar="BOOT,...", help="these boots only, by their names")
    parser.add_argument("--objdump", default="llvm-objdump", metavar="PROGRAM",
                        help="disassembler for the guest's lists of instructions")
    parser.add_argument("--toolchain", default="", help="the toolchain of the build, for the record")
    return parser.parse_args()


def _boot(boot, scenario, folder, detector, objdump):
    """Boots once. Returns the rows, the errors, and the QEMU command."""
    how = {"smp": boot.smp, "mem": boot.mem}
    if boot.icount:
        how |= {"icount": "shift=0,sleep=off", "timeout_boot": 300}
    plan = Plan("insmod rcu_ptr.ko\nrmmod rcu_ptr\nsh bench.sh\n", "the plan of the benchmark")
    extra = (("tests/bench.sh", (QEMU / "guest" / "bench.sh").read_bytes()), ("bench.body", boot.body.encode()))
    run = Run(scenario.adjusted(how), plan, None, detector, objdump, boot.timeout, folder, boot.name, extra,
              stamped=False)
    judged = run.go()
    rows = results.parse(run.texts, boot.name)
    wrong = [] if judged.state == "PASS" else [
        f"{boot.name}: {leaf.name}: {'; '.join([*leaf.problems(), *leaf.log][:5])}"
        for leaf in judged.leaves() if not leaf.passed()]
    wrong += [f"{boot.name}: {row['parameters']} failed with engine {row['engine']}"
              for row in results.of(rows, "failed")]
    return rows, wrong, {"accel": run.accel, "why": run.why, "smp": boot.smp, "icount": boot.icount}


def _work(args):
    started = time.monotonic()
    detector = Detector.of_tree()
    scenarios = {s.name: s for s in map(Scenario, args.scenario)}
    wanted = boots.boots(args.quick, args.smp)
    if args.only:
        names = args.only.split(",")
        unknown = set(names) - {boot.name for boot in wanted}
        if unknown:
            raise SetupError(f"--only: there is no boot {', '.join(sorted(unknown))}; there are: "
                             + ", ".join(boot.name for boot in wanted))
        wanted = [boot for boot in wanted if boot.name in names]
    for boot in wanted:
        if boot.scenario not in scenarios:
            raise SetupError(f"boot {boot.name} needs --scenario {boot.scenario}:...")
        scenarios[boot.scenario].module("rcu_ptr_bench.ko")
    folder = new_folder(args.out.resolve(), "bench")
    rows, wrong, machines = [], [], {}
    for boot in wanted:
        more, bad, machines[boot.name] = _boot(boot, scenarios[boot.scenario], folder, detector,
                                               args.objdump)
        rows += more
        wrong += bad
    wrong += results.list_paths(rows, folder / "paths.txt")
    record = {
        "about": boots.about(scenarios, args.toolchain, args.quick),
        "machines": machines,
        "seconds": round(time.monotonic() - started, 1),
        "failures": wrong,
        "results": rows,
    }
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = tables.markdown(record)
    (folder / "bench.md").write_text(text, encoding="utf-8")
    print(text)
    note = plots.draw(record, folder)
    for line in wrong:
        print(f"FAILED {line}")
    print(f"{note}results: {folder}")
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    base.main(_work, _arguments())
