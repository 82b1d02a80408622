#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boots kernels with the rcu_ptr modules in QEMU and says whether all is well.

run    a short demonstration; stdout is a summary for people
test   every suite; stdout is one KTAP stream, its last line 'N passed, N failed, N skipped'

The steps are qemu/guest/plan.VERB, and the suites that must have run qemu/expected/VERB; --plan names
others.

Exit codes: 0 all good, 1 a failure, 2 set-up or usage, 4 everything was skipped.
"""

import argparse
import pathlib
import signal
import sys

from lib import expected, report
from lib.errors import SetupError, guarded
from lib.plan import Plan
from lib.run import Run
from lib.scenario import Scenario
from lib.splat import Detector

HERE = pathlib.Path(__file__).resolve().parent


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("run", "test"))
    parser.add_argument("--scenario", action="append", required=True,
                        metavar="NAME:KDIR:MODDIR[:BUSYBOX]",
                        help="kernel build, modules built for it, the guest's busybox; repeatable")
    parser.add_argument("--ksrc", type=pathlib.Path, metavar="DIR",
                        help="kernel source, for the hint how to read the results")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR",
                        help="where logs and results are kept, a folder per boot")
    parser.add_argument("--smp", type=int, metavar="N", help="CPUs of the guest")
    parser.add_argument("--mem", type=int, metavar="MB", help="memory of the guest")
    parser.add_argument("--plan", metavar="NAME|FILE",
                        help="qemu/guest/plan.NAME with qemu/expected/NAME; or, if there is a '/' in "
                             "it, a file: then no suite is expected")
    parser.add_argument("--define", action="append", default=[], metavar="NAME=VALUE",
                        help="a {NAME} in the plan; repeatable")
    parser.add_argument("--timeout", type=int, metavar="SECONDS",
                        help="for the whole boot, instead of the scenario's")
    parser.add_argument("--objdump", default="llvm-objdump", metavar="PROGRAM",
                        help="disassembles the modules")
    parser.add_argument("--keep", action="store_true", help="keep the initramfs too")
    args = parser.parse_args()
    if not all("=" in text for text in args.define):
        parser.error("--define NAME=VALUE")
    return args


def _read(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from error


def _runs(args):
    """Everything that can be wrong before the first boot is found here."""
    detector = Detector(_read(HERE / "splat-deny.txt"), _read(HERE / "splat-allow.txt"))
    name = args.plan or args.verb
    path = pathlib.Path(name) if "/" in name else HERE / "guest" / f"plan.{name}"
    text = _read(path)
    defines = dict(pair.split("=", 1) for pair in args.define)
    runs = []
    for spec in args.scenario:
        scenario = Scenario(spec)
        plan = Plan(text, path, (scenario.name, scenario.arch), defines)
        for module in plan.modules():
            scenario.module(module)
        suites = [] if "/" in name else expected.load(name, scenario.name, scenario.arch)
        if "DEBUG_KMEMLEAK" not in scenario.options:
            plan.drop("kmemleak")
        runs.append(Run(scenario, plan, suites, detector, args))
    return runs


def _test(runs, args):
    print("\n".join(report.header(len(runs))), flush=True)
    verdicts = []
    for number, run in enumerate(runs, 1):
        verdicts.append(run.go())
        print("\n".join(report.scenario(verdicts[-1], number)), flush=True)
        print(f"logs: {run.folder}", file=sys.stderr)
    if args.ksrc:
        print(f"read results with: {args.ksrc}/tools/testing/kunit/kunit.py parse FILE",
              file=sys.stderr)
    print(report.closing(report.totals(verdicts)), flush=True)
    return verdicts


def _run(runs):
    verdicts = []
    for run in runs:
        verdicts.append(run.go())
        print("\n".join(report.summary(verdicts[-1], run)), flush=True)
    return verdicts


def main():
    """Returns the exit code."""
    args = _arguments()
    args.out = args.out.resolve()
    # So that the guest ends as well, and its log is closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def work():
        runs = _runs(args)
        return report.exit_code(_test(runs, args) if args.verb == "test" else _run(runs))

    return guarded("qemu/run.py", work)


if __name__ == "__main__":
    sys.exit(main())
