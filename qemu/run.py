#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boots kernels with the rcu_ptr modules in QEMU and judges the boots.

run      a short demonstration; stdout is a summary for people
test     every suite; stdout is one KTAP stream, its last line 'N passed, N failed, N skipped'
list     only writes qemu/expected/cases from the sources
folders  with --jobs: only prints the folders under rust/ of the modules that the boots need

The steps are qemu/guest/plan.VERB, or those of --plan. qemu/lib/expected.py defines which cases must run, and
which may be skipped. With --jobs the boots are those of a set in qemu/jobs; scenarios are read from stdin, a line
each as in --scenario, as soon as their modules are built.

Exit codes: 0 all good, 1 a failure, 2 set-up or usage, 4 everything was skipped.
"""

import pathlib
import sys
import time

from lib import base, expected, initramfs, jobs, report
from lib.base import QEMU, ROOT, SetupError, read
from lib.boot import Run
from lib.plan import Plan
from lib.scenario import Scenario, parse_settings
from lib.splat import Detector


def _arguments():
    parser = base.parser(__doc__)
    parser.add_argument("verb", choices=("run", "test", "list", "folders"))
    parser.add_argument("--jobs", choices=jobs.SETS, metavar="SET",
                        help=f"the boots of a set of qemu/jobs: {', '.join(jobs.SETS)}")
    parser.add_argument("--only", action="append", default=[], metavar="SCENARIO",
                        help="only boots of this scenario; repeatable")
    parser.add_argument("--until", type=float, metavar="EPOCH",
                        help="skip and name boots that would not end by then")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out", metavar="DIR",
                        help="for logs and results, a folder per boot")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="a setting, as in qemu/configs/NAME.qemu; repeatable")
    parser.add_argument("--plan", metavar="NAME|FILE",
                        help="qemu/guest/plan.NAME; or, if there is a '/' in it, a file")
    parser.add_argument("--define", action="append", default=[], metavar="NAME=VALUE",
                        help="the value of {NAME} in the plan; repeatable")
    parser.add_argument("--timeout", type=int, metavar="SECONDS",
                        help="for the whole boot, instead of the scenario's")
    parser.add_argument("--bpftrace", type=pathlib.Path, metavar="DIR",
                        help="a root folder with bpftrace in it, for the plan of that name")
    parser.add_argument("--objdump", default="llvm-objdump", metavar="PROGRAM",
                        help="disassembler for the modules")
    parser.add_argument("--write-expected", action="store_true",
                        help="add skips that are not allowed to qemu/expected/skips")
    args = parser.parse_args()
    if not all("=" in text for text in args.define):
        parser.error("--define NAME=VALUE")
    if args.verb != "list" and bool(args.jobs) == bool(args.scenario):
        parser.error("--scenario or --jobs")
    return args


def _machine(scenario, args, job=None):
    """The scenario with the settings of this boot."""
    return scenario.adjusted({**(job.settings if job else {}), **parse_settings("\n".join(args.set), "--set")})


def _seconds(scenario, args, job):
    """The timeout of the guest: for a job three times its usual length, as CPUs may be busy, and not much more than
    the time left."""
    if args.timeout or not job:
        return args.timeout or scenario.settings[f"timeout_{args.verb}"]
    seconds = max(300, 180 * job.minutes)
    return min(seconds, args.until - time.time() + 200) if args.until else seconds


def _prepare(scenario, name, detector, args, job=None):
    """A run of plan NAME in a scenario, with all errors that can be found before the boot."""
    path = pathlib.Path(name) if "/" in name else QEMU / "guest" / f"plan.{name}"
    defines = dict(pair.split("=", 1) for pair in args.define)
    if job:
        defines.setdefault("LENGTH", job.length)
    scenario = _machine(scenario, args, job)
    plan = Plan(read(path), path, scenario.where, defines)
    for module in plan.modules():
        scenario.module(module)
    scenario.leave_out(plan)
    extra = ()
    if ["sh", "rcu_ptr_bpftrace.sh"] in [words[:2] for words in plan.steps]:
        if not args.bpftrace:
            raise SetupError("this plan needs --bpftrace: PLAN=bpftrace scripts/qemu.sh test passes it")
        extra = tuple(initramfs.bpftrace(args.bpftrace))
    return Run(scenario, plan, expected.load(plan, scenario.where), detector, args.objdump,
               _seconds(scenario, args, job), args.out, job and job.name, extra)


def _end(verdicts):
    """Prints the failures and the totals."""
    for text in [*report.failures(verdicts), report.closing(report.totals(verdicts))]:
        print(text, flush=True)


def _of_set(args):
    """Runs the boots of a set: always the first one that is ready."""
    detector = Detector.of_tree()
    feed = jobs.Feed(sys.stdin)
    pending = jobs.load(args.jobs, args.only)
    if not pending:
        raise SetupError(f"set {args.jobs} has no boot of {', '.join(args.only)}")
    print("\n".join(report.header(len(pending))), flush=True)
    verdicts, lanes = [], jobs.Lanes()

    def how(job):
        return _machine(feed.ready[job.scenario], args, job).settings

    def lane(job):
        kinds = {other.name: how(other)["thread"] for other in pending if other.scenario in feed.ready}
        own = kinds[job.name]
        # While scenarios are still being built a job runs only in the lane of its kind, to keep the other free.
        return lanes.choose(job, kinds, how(job)["smp"]) if feed.ended else lanes.is_free(own) and own

    try:
        while pending or lanes.busy():
            job, result = jobs.choose(pending, feed, lane, args.until)
            if job and not result:
                lanes.start(lane(job), _prepare(feed.ready[job.scenario], job.plan, detector, args, job))
            if job:
                pending.remove(job)
            else:
                result = lanes.take(1.0)
            if result:
                verdicts.append(result)
                print("\n".join(report.scenario(result, len(verdicts))), flush=True)
    finally:
        lanes.stop()
    _end(verdicts)
    return verdicts


def _each(args):
    """Runs the plan in each scenario."""
    detector, test = Detector.of_tree(), args.verb == "test"
    runs = [_prepare(Scenario(spec), args.plan or args.verb, detector, args) for spec in args.scenario]
    if test:
        print("\n".join(report.header(len(runs))), flush=True)
    verdicts = []
    for number, run in enumerate(runs, 1):
        result = run.go()
        verdicts.append(result)
        if args.write_expected:
            expected.add_skips(run.scenario.name, result.unlisted)
        print("\n".join(report.scenario(result, number) if test else report.summary(result, run)), flush=True)
        if test:
            print(f"logs: {run.folder}", file=sys.stderr)
    if test:
        _end(verdicts)
    return verdicts


def _work(args):
    args.out = args.out.resolve()
    if args.verb == "list":
        text = expected.write(*expected.in_sources())
        (expected.FOLDER / "cases").write_text(text, encoding="utf-8")
        return 0
    if args.verb == "folders":
        needed = {folder for job in jobs.load(args.jobs, args.only)
                  for folder in initramfs.folders(read(QEMU / "guest" / f"plan.{job.plan}"))}
        print(*sorted(needed))
        return 0
    return report.exit_code(_of_set(args) if args.jobs else _each(args))


if __name__ == "__main__":
    base.main(_work, _arguments())
