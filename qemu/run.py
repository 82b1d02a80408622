#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boots kernels with the rcu_ptr modules in QEMU and says whether all is well.

run    a short demonstration; stdout is a summary for people
test   every suite; stdout is one KTAP stream, its last line 'N passed, N failed, N skipped'
list   writes qemu/expected/cases from the sources, no more

The steps are qemu/guest/plan.VERB; --plan names others. qemu/lib/expected.py says which cases must
have run, and what may be skipped. With --jobs the boots are those of a set in qemu/jobs; the scenarios come on stdin, a line each
as in --scenario, as soon as their modules are built.

Exit codes: 0 all good, 1 a failure, 2 set-up or usage, 4 everything was skipped.
"""

import argparse
import os
import pathlib
import queue
import signal
import sys
import threading
import time

from lib import bpftrace, cases, expected, guest, jobs, report, settings, verdict
from lib.errors import SetupError, guarded
from lib.plan import Plan
from lib.run import Run
from lib.scenario import Scenario
from lib.splat import Detector

HERE = pathlib.Path(__file__).resolve().parent


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("run", "test", "list"))
    parser.add_argument("--scenario", action="append", default=[],
                        metavar="NAME:KDIR:MODDIR[:BUSYBOX]",
                        help="kernel build, modules built for it, the guest's busybox; repeatable")
    parser.add_argument("--jobs", choices=jobs.SETS, metavar="SET",
                        help=f"the boots of a set of qemu/jobs: {', '.join(jobs.SETS)}")
    parser.add_argument("--only", action="append", default=[], metavar="SCENARIO",
                        help="of a set, the boots of this scenario; repeatable")
    parser.add_argument("--until", type=float, metavar="EPOCH",
                        help="boots that would not have ended by then are left out, and named")
    parser.add_argument("--ksrc", type=pathlib.Path, metavar="DIR",
                        help="kernel source, for the hint how to read the results")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "out", metavar="DIR",
                        help="where logs and results are kept, a folder per boot")
    parser.add_argument("--smp", type=int, metavar="N", help="CPUs of the guest")
    parser.add_argument("--mem", type=int, metavar="MB", help="memory of the guest")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="how the machine is started, as in qemu/configs/NAME.qemu; repeatable")
    parser.add_argument("--plan", metavar="NAME|FILE",
                        help="qemu/guest/plan.NAME; or, if there is a '/' in it, a file")
    parser.add_argument("--define", action="append", default=[], metavar="NAME=VALUE",
                        help="a {NAME} in the plan; repeatable")
    parser.add_argument("--timeout", type=int, metavar="SECONDS",
                        help="for the whole boot, instead of the scenario's")
    parser.add_argument("--bpftrace", type=pathlib.Path, metavar="DIR",
                        help="a root folder with bpftrace in it, for the plan of that name")
    parser.add_argument("--objdump", default="llvm-objdump", metavar="PROGRAM",
                        help="disassembles the modules")
    parser.add_argument("--write-expected", action="store_true",
                        help="adds what was skipped, and may not be, to qemu/expected/skips")
    parser.add_argument("--keep", action="store_true", help="keep the initramfs too")
    args = parser.parse_args()
    if not all("=" in text for text in args.define):
        parser.error("--define NAME=VALUE")
    if args.verb != "list" and bool(args.jobs) == bool(args.scenario):
        parser.error("--scenario or --jobs")
    return args


def _read(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from error


def _detector():
    return Detector(_read(HERE / "splat-deny.txt"), _read(HERE / "splat-allow.txt"))


def _machine(scenario, args, job=None):
    """The scenario as it is started here."""
    how = {**(job.settings if job else {}), **settings.parse("\n".join(args.set), "--set")}
    how.update((key, value) for key, value in (("smp", args.smp), ("mem", args.mem)) if value)
    return scenario.adjusted(how)


def _prepare(scenario, name, detector, args, job=None):
    """A run of plan NAME in a scenario. Everything that can be wrong before the boot is found here."""
    path = pathlib.Path(name) if "/" in name else HERE / "guest" / f"plan.{name}"
    defines = dict(pair.split("=", 1) for pair in args.define)
    if job:
        defines.setdefault("LENGTH", job.length)
    scenario = _machine(scenario, args, job)
    plan = Plan(_read(path), path, scenario.where, defines)
    for module in plan.modules():
        scenario.module(module)
    if "DEBUG_KMEMLEAK" not in scenario.options:
        plan.drop("kmemleak")
    extra = ()
    if ["sh", "rcu_ptr_bpftrace.sh"] in [words[:2] for words in plan.steps]:
        if not args.bpftrace:
            raise SetupError("this plan needs --bpftrace: PLAN=bpftrace scripts/qemu.sh test gives it")
        extra = tuple(bpftrace.files(args.bpftrace))
    return Run(scenario, plan, expected.load(plan, scenario.where), detector, args, job,
               extra)


def _runs(args):
    detector = _detector()
    return [_prepare(Scenario(spec), args.plan or args.verb, detector, args)
            for spec in args.scenario]


class Feed:
    """Scenarios that get ready one after the other: lines as in --scenario."""

    def __init__(self, file):
        self._lines = queue.Queue()
        self.ready = {}
        self.ended = False
        threading.Thread(target=self._read, args=(file,), daemon=True).start()

    def _read(self, file):
        for line in file:
            self._lines.put(line.strip())
        self._lines.put(None)

    def take(self, timeout):
        """Takes over what is there, and waits for something if a timeout is given."""
        try:
            line = self._lines.get(timeout is not None, timeout)
            while not self.ended:
                if line is None:
                    self.ended = True
                else:
                    self.ready[line.split(":")[0]] = Scenario(line)
                    line = self._lines.get_nowait()
        except queue.Empty:
            pass


class Lanes:
    """Boots side by side: one whose guest has a thread for each CPU, and one whose CPUs share a thread,
    which leaves the host's other CPUs alone and, under -icount, does not see what else they do. A lane that
    has nothing else to do takes a boot of the other."""

    NAMES = ("multi", "single")

    def __init__(self):
        self._done = queue.Queue()
        self._threads = {}
        self._cpus = {}

    def is_free(self, lane):
        """Whether nothing runs in this lane."""
        return lane not in self._threads

    def choose(self, job, kinds, cpus):
        """The lane for a job, or None. kinds: the kind of each job that might begin now, by name; cpus: the
        job's. Where all in all there are more than two for each of the host's, it is not put beside others."""
        own = kinds[job.name]
        if self.is_free(own):
            return own
        other = next(name for name in self.NAMES if name != own)
        if not self.is_free(other) or other in kinds.values():
            return None
        return other if sum(self._cpus.values()) + cpus <= 2 * os.cpu_count() else None

    def busy(self):
        """Whether anything runs."""
        return bool(self._threads)

    def start(self, lane, run):
        """Begins to boot."""
        def work():
            result = None
            try:
                result = run.go()
            finally:
                self._done.put((lane, run, result))
        self._cpus[lane] = run.scenario.settings["smp"]
        self._threads[lane] = threading.Thread(target=work)
        self._threads[lane].start()

    def take(self, timeout):
        """Returns the verdict of a boot that has ended, or None if none ends in that time."""
        try:
            lane, run, result = self._done.get(timeout=timeout)
        except queue.Empty:
            return None
        self._threads.pop(lane).join()
        self._cpus.pop(lane)
        if result is None:
            raise RuntimeError(f"{run.name}: see above")
        print(f"logs: {run.folder}", file=sys.stderr)
        return result

    def stop(self):
        """Ends what runs."""
        guest.STOP.set()
        for thread in self._threads.values():
            thread.join()


def _next(pending, feed, is_free, until):
    """The next job, and None, or the verdict if it is not to be booted; (None, None): none can begin now,
    as nothing is ready whose lane is free."""
    feed.take(None)
    for job in pending:
        if until and time.time() + 60 * job.minutes > until:
            return job, verdict.left_out(job.name, f"no time: it takes {job.minutes} minutes")
        if job.scenario in feed.ready:
            if is_free(job):
                return job, None
        elif feed.ended:
            return job, verdict.unbuilt(job.name, f"there are no kernel and modules of {job.scenario}")
    return None, None


def _end(verdicts):
    """What failed, and the sum."""
    for text in [*report.failures(verdicts), report.closing(report.totals(verdicts))]:
        print(text, flush=True)


def _of_set(args):
    """The boots of a set, whichever is ready first of all in their order."""
    detector = _detector()
    feed = Feed(sys.stdin)
    pending = jobs.load(args.jobs, args.only)
    if not pending:
        raise SetupError(f"set {args.jobs} has no boot of {', '.join(args.only)}")
    print("\n".join(report.header(len(pending))), flush=True)
    verdicts, lanes = [], Lanes()

    def how(job):
        return _machine(feed.ready[job.scenario], args, job).settings

    def lane(job):
        kinds = {other.name: how(other)["thread"] for other in pending if other.scenario in feed.ready}
        own = kinds[job.name]
        # What is built last is to find its lane free.
        return lanes.choose(job, kinds, how(job)["smp"]) if feed.ended else lanes.is_free(own) and own

    try:
        while pending or lanes.busy():
            job, result = _next(pending, feed, lane, args.until)
            if job and not result:
                run = _prepare(feed.ready[job.scenario], job.plan, detector, args, job)
                lanes.start(lane(job), run)
            if job:
                pending.remove(job)
            if job and not result:
                continue
            result = result or lanes.take(1.0)
            if result:
                verdicts.append(result)
                print("\n".join(report.scenario(result, len(verdicts))), flush=True)
    finally:
        lanes.stop()
    _end(verdicts)
    return verdicts


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
    _end(verdicts)
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
        if args.verb == "list":
            text = expected.write(cases.kunit(), cases.shell())
            (expected.FOLDER / "cases").write_text(text, encoding="utf-8")
            return 0
        if args.jobs:
            return report.exit_code(_of_set(args))
        runs = _runs(args)
        return report.exit_code(_test(runs, args) if args.verb == "test" else _run(runs))

    return guarded("qemu/run.py", work)


if __name__ == "__main__":
    sys.exit(main())
