#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Breaks the modules on purpose, by one patch of qemu/mutants/ at a time, and reports whether the tests detect it.
lib/mutant.py describes these files.

The patches are applied to a copy of the tree, out/mutants/tree, so the tree may have uncommitted changes. Several
mutants share a guest, each with a set of modules. The last set is the control: the same tests on the unchanged
modules have to pass, which shows that no mutant has damaged the guest. A mutant that is not caught there is tried
again in a guest of its own. stdout is KTAP, its last line 'N passed, N failed, N skipped'; a mutant that was not
caught has failed. Logs of builds and boots are in out/mutants/NAME/.

Scenarios are read from stdin, a line NAME:KDIR:BUSYBOX each, as soon as their kernels are built.

Exit codes: 0 all caught, 1 not all, 2 set-up or usage.
"""

import concurrent.futures
import fcntl
import filecmp
import fnmatch
import os
import pathlib
import shutil
import subprocess
import sys
import time

from lib import base, report
from lib import mutant as mutants
from lib.base import QEMU, ROOT, SetupError, read
from lib.boot import Run
from lib.jobs import Feed
from lib.plan import Plan, scenario_names
from lib.scenario import SLOW, Scenario
from lib.splat import Detector

FILES = QEMU / "mutants"
# The sources of the modules.
SOURCES = ("Kbuild", "rust", "include")
# Timeout of the tests of a mutant, unless its header has one.
SECONDS = 120
# Mutants that share a guest.
BATCH = 6
# Estimates for --until.
MUTANT_SECONDS = 90


def _arguments():
    parser = base.parser(__doc__, scenario=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants, globs; otherwise all")
    parser.add_argument("--check", action="store_true",
                        help="only check that all patches are complete, apply, and name existing tests")
    parser.add_argument("--always", action="store_true", help="only those with the key 'always'")
    parser.add_argument("--not-always", action="store_true", help="only those without it")
    parser.add_argument("--until", type=float, metavar="EPOCH",
                        help="skip and name what would not end by then")
    parser.add_argument("--list-scenarios", action="store_true",
                        help="only print the scenarios of the mutants")
    parser.add_argument("--make-arg", action="append", default=[], metavar="NAME=VALUE",
                        help="argument of the make that builds the modules; repeatable")
    parser.add_argument("--objdump", default="llvm-objdump", metavar="PROGRAM")
    parser.add_argument("--timeout", type=int, metavar="SECONDS", help="for each boot")
    return parser.parse_args()


def load(globs):
    """The mutants that match these globs, in their order, or all."""
    names, found = {}, {}
    for path in sorted(FILES.iterdir()):
        every = mutants.of_file(read(path), path.relative_to(ROOT))
        if not every:
            raise SetupError(f"{path}: there is no mutant in it: no line '== NAME'")
        for mutant in every:
            other = names.setdefault(mutant.name, mutant)
            if other is not mutant:
                raise SetupError(f"{mutant.where}: the same name as {other.where}")
    for glob in globs or ["*"]:
        hits = fnmatch.filter(names, glob)
        if not hits:
            raise SetupError(f"there is no mutant '{glob}'; there are: {', '.join(names)}")
        found.update((name, names[name]) for name in hits)
    return list(found.values())


def _load(args):
    found = [m for m in load(args.names) if m.always or not args.always]
    found = [m for m in found if not m.always or not args.not_always]
    for mutant in found:
        for name in mutant.scenarios:
            if name not in scenario_names():
                raise SetupError(f"{mutant.where}: there is no scenario '{name}'")
            Plan(mutant.plan, mutant.where, (name,))
    return found


def _check(found, is_all):
    bad = 0
    for mutant in found:
        problems = mutant.unknown()
        try:
            mutant.broken(ROOT)
        except SetupError as error:
            problems.append(str(error))
        bad += bool(problems)
        for text in problems:
            print(f"{mutant.where}: {text}")
    for kind in ("rfc", "lockless", "sheaf", "runner"):
        if is_all and not any(m.always and m.name.startswith(kind) for m in found):
            print(f"no mutant {kind}-* has 'always': .ci/run would not try one")
            bad += 1
    print(f"{len(found) - bad} of {len(found)} mutants apply and name their tests")
    return 1 if bad else 0


def _make_same(source, copy, names):
    """Makes `copy` contain these files of `source`, and no others. Files that are the same keep their time, so
    that make does little."""
    for name in names:
        if not (copy / name).exists() or not filecmp.cmp(source / name, copy / name, shallow=False):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, copy / name)
    for path in copy.rglob("*"):
        if path.is_file() and str(path.relative_to(copy)) not in names:
            path.unlink()


def _listed(sources):
    """The tracked and new files of these folders."""
    done = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--",
                           *sources], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


class Tree:
    """A copy of the sources that is broken, restored, and built."""

    def __init__(self, out, make_args, sources=SOURCES, name="tree"):
        self.folder = out / name
        self._out = out
        self._make_args = make_args
        # A copy: changes of the tree meanwhile must not become part of a mutant.
        self._clean = out / f"{name}.clean"
        self._names = _listed(sources)
        _make_same(ROOT, self._clean, self._names)

    def refresh(self):
        """Restores it."""
        _make_same(self._clean, self.folder, self._names)

    def break_by(self, mutant):
        """Breaks it in this way only. Returns why that is not possible, or nothing."""
        self.refresh()
        try:
            for name, text in mutant.broken(self.folder).items():
                (self.folder / name).write_text(text, encoding="utf-8")
        except SetupError as error:
            return str(error)
        return ""

    def build(self, scenario, kdir, log):
        """Builds the modules. Returns {name: content}, or None if they can't be built."""
        moddir = self._out / f"build-{scenario}"
        moddir.mkdir(parents=True, exist_ok=True)
        arch = "arm64" if "CONFIG_ARM64=y\n" in (kdir / ".config").read_text() else "x86_64"
        log.parent.mkdir(parents=True, exist_ok=True)
        argv = ["make", "-C", kdir, f"M={self.folder}", f"MO={moddir}", f"ARCH={arch}",
                *self._make_args, f"-j{os.cpu_count()}", "modules"]
        if (kdir / "build-root").exists():
            # The compilers of a distribution's kernel are in a root of their own.
            argv = ["bash", "-c", 'source "$0/scripts/lib/all.sh"; in_root "$(cat "$1/build-root")" '
                    'make -f GNUmakefile -C "$1" "${@:2}"', ROOT, kdir, f"M={self.folder}",
                    f"MO={moddir}", f"-j{os.cpu_count()}", "modules"]
        with open(log, "wb") as file:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            return None
        return {path.name: path.read_bytes() for path in moddir.rglob("*.ko")}


class Job:
    """A mutant in a scenario, or on the host."""

    def __init__(self, mutant, scenario, many):
        self.mutant = mutant
        self.scenario = scenario
        self.name = mutant.name + (f".{scenario}" if many else "")
        self.modules = None


class Guest:
    """Boots a scenario with sets of modules."""

    def __init__(self, spec, out, args, detector):
        self.name, self._kdir, self._busybox = spec.split(":")
        self.kdir = pathlib.Path(self._kdir)
        self._out = out
        self._args = args
        self._detector = detector

    def boot(self, sets, name, seconds, like=None):
        """Boots with sets of modules, each (modules, plan text), and the settings of mutant `like`. Returns
        (verdict, lines of the log) of each, and the run."""
        folder = self._out / name / "modules"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for module, content in sets[0][0].items():
            (folder / module).write_bytes(content)
        scen = Scenario(f"{self.name}:{self._kdir}:{folder}:{self._busybox}")
        if like:
            scen = scen.adjusted(like.machine)
            scen.boot = [*scen.boot, *like.boot]
        text = sets[0][1]
        extra = []
        if len(sets) > 1:
            text = "".join(f"for set{i}\nmodules {{}}\n{plan}done\n" for i, (_, plan) in enumerate(sets))
            extra = [(f"sets/set{i}/{module}", content) for i, (modules, _) in enumerate(sets)
                     for module, content in modules.items()]
        seconds *= SLOW if scen.slow else 1
        # A mutant that hangs says itself when that is sure.
        if self._args.timeout and not (like and like.timeout and len(sets) == 1):
            seconds = self._args.timeout
        plan = Plan(text, name, (scen.name, scen.arch))
        scen.leave_out(plan)
        run = Run(scen, plan, None, self._detector, self._args.objdump, seconds, self._out / name, extra=extra)
        verdict = run.go()
        shutil.rmtree(folder, ignore_errors=True)
        if len(sets) == 1:
            return [(verdict, run.texts)], run
        return [mutants.part(verdict, run.texts, plan, f"set{i}") for i in range(len(sets))], run


class Session:
    """The state that all runs share."""

    def __init__(self, args, out):
        self._args = args
        self._out = out
        self._tree = Tree(out, args.make_arg)
        self._number = 0
        self._good = {}
        self.passed = self.failed = self.skipped = 0
        # For each failure, its lines.
        self.bad = []
        self._detector = Detector.of_tree()

    def guest(self, spec):
        return Guest(spec, self._out, self._args, self._detector)

    def say(self, name, comment, problems=(), folder=None):
        """Prints a result."""
        self._number += 1
        ok = not problems
        self.passed, self.failed = self.passed + ok, self.failed + (not ok)
        lines = [line for problem in problems for line in problem.splitlines()]
        for line in lines + ([f"logs: {folder}"] if lines and folder else []):
            print(f"# {line}")
        if problems:
            self.bad.append([f"# FAILED mutant {name}: {comment}",
                             *(f"#     {line[:200]}" for line in lines[:report.MOST_SAID]),
                             *([f"#   logs: {folder}"] if folder else [])])
        print(f"{'ok' if ok else 'not ok'} {self._number} {name} # {comment}", flush=True)

    def late(self, job, seconds=0):
        """Whether there is no time for a mutant, and `seconds` besides; if so, prints that as its result."""
        seconds += MUTANT_SECONDS + (job.mutant.timeout or 0)
        if not self._args.until or time.time() + seconds <= self._args.until:
            return False
        self._number += 1
        self.skipped += 1
        print(f"ok {self._number} {job.name} # SKIP no time", flush=True)
        return True

    def build(self, job, guest):
        """Builds the modules of a mutant. Returns an error or nothing."""
        why = self._tree.break_by(job.mutant)
        if why:
            return ["the patch does not apply", why]
        log = self._out / job.name / "build.log"
        job.modules = self._tree.build(guest.name, guest.kdir, log)
        if job.modules is None:
            return ["it can't be built", f"log: {log}"]
        if job.modules == self._good[guest.name]:
            return ["the modules are those of the unchanged tree", f"log: {log}"]
        return []

    def build_control(self, guest):
        """Builds the unchanged modules. Returns whether that worked."""
        self._tree.refresh()
        log = self._out / f"control.{guest.name}" / "build.log"
        self._good[guest.name] = self._tree.build(guest.name, guest.kdir, log)
        return self._good[guest.name] is not None

    def judge(self, job, verdict, texts, run, where):
        """Prints whether a mutant was caught. With `where` '' it is tried again if not."""
        caught, problems = job.mutant.judge(verdict, texts, self._detector)
        if not problems:
            self.say(job.name, f"caught by {', '.join(caught)} ({job.scenario}{where})")
        elif not where:
            self.say(job.name, f"NOT CAUGHT ({job.scenario})", [*job.mutant.what, *problems],
                     run.folder)
        return not problems or not where

    def batch(self, guest, jobs):
        """Runs some mutants and the control in one guest. Returns those that need one of their own."""
        plans = list(dict.fromkeys(job.mutant.plan for job in jobs))
        sets = [(job.modules, job.mutant.plan) for job in jobs]
        sets.append((self._good[guest.name], "".join(map(mutants.unloading, plans))))
        name = f"batch.{guest.name}.{jobs[0].name}"
        parts, run = guest.boot(sets, name, SECONDS * (len(jobs) + 1))
        problems = mutants.judge_control([job.mutant for job in jobs], parts[-1][0])
        if problems or not parts[-1][0].suites[0].passed():
            print(f"# in {run.folder} the control failed: each of the mutants gets a guest of its own",
                  flush=True)
            return jobs
        return [job for job, (verdict, texts) in zip(jobs, parts)
                if not self.judge(job, verdict, texts, run, ", in one guest with others")]

    def control(self, guest, jobs):
        """Runs the unchanged modules alone. Returns whether they pass."""
        good = True

        def start(job):
            return tuple(job.mutant.boot), tuple(sorted(job.mutant.machine.items()))

        # Other parameters of the kernel or the machine need a boot of their own.
        for i, how in enumerate(dict.fromkeys(map(start, jobs))):
            same = [job for job in jobs if start(job) == how]
            plans = {job.mutant.plan: job.mutant.timeout or SECONDS for job in same}
            name = f"control.{guest.name}" + (f".{i}" if i else "")
            text = "".join(map(mutants.unloading, plans))
            [(verdict, _)], run = guest.boot([(self._good[guest.name], text)], name,
                                             sum(plans.values()), same[0].mutant)
            problems = mutants.judge_control([job.mutant for job in same], verdict)
            self.say(name, f"{len(plans)} plans over the unchanged modules", problems, run.folder)
            good = good and not problems
        return good

    def alone(self, guest, job):
        mutant = job.mutant
        [(verdict, texts)], run = guest.boot([(job.modules, mutant.plan)], job.name,
                                             mutant.timeout or SECONDS, mutant)
        self.judge(job, verdict, texts, run, "")

    def scenario(self, guest, jobs):
        """Runs all mutants of a scenario: a batch boots while the next one is built."""
        # The control takes as long as a mutant.
        jobs = [job for job in jobs if not self.late(job, MUTANT_SECONDS)]
        if not jobs:
            return
        if not self.build_control(guest):
            for job in jobs:
                self.say(job.name, "ERROR not tried", ["the unchanged modules can't be built"])
            return
        together = [job for job in jobs if not job.mutant.alone]
        batches = [together[i:i + BATCH] for i in range(0, len(together), BATCH)]
        batches += [[job] for job in jobs if job.mutant.alone]
        again, waiting = [], None
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for batch in batches:
                built = []
                for job in batch:
                    if self.late(job):
                        continue
                    problems = self.build(job, guest)
                    if problems:
                        self.say(job.name, "ERROR", problems)
                    else:
                        built.append(job)
                if waiting:
                    again += waiting.result()
                waiting = None
                if built and not built[0].mutant.alone:
                    waiting = pool.submit(self.batch, guest, built)
                else:
                    again += built
            if waiting:
                again += waiting.result()
        again = [job for job in again if not self.late(job)]
        if not again:
            return
        good = self.control(guest, again)
        for job in again:
            if good:
                self.alone(guest, job)
            else:
                self.say(job.name, "ERROR not tried", ["see the control"])

    def host(self, jobs):
        """Runs mutants that a command on the host has to catch."""
        # Tests of the runner and the scripts read any file.
        tree = Tree(self._out, [], (".",), "host-tree")

        def run(command):
            return subprocess.run(command, shell=True, cwd=tree.folder, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors="replace", timeout=1200, check=False)

        controls = {}
        for job in jobs:
            command = job.mutant.host
            if self.late(job):
                continue
            if command not in controls:
                tree.refresh()
                done = run(command)
                controls[command] = done.returncode == 0
                if done.returncode:
                    self.say(f"control.host.{job.name}", command, [done.stdout[-2000:]])
            if not controls[command]:
                self.say(job.name, "ERROR not tried", ["see the control"])
                continue
            why = tree.break_by(job.mutant)
            if why:
                self.say(job.name, "ERROR the patch does not apply", [why])
                continue
            done = run(command)
            caught, problems = job.mutant.judge_host(done.returncode, done.stdout)
            if problems:
                self.say(job.name, "NOT CAUGHT (host)", [*job.mutant.what, *problems])
            else:
                self.say(job.name, f"caught by {', '.join(caught)} (host)")


def _specs(args):
    """The scenarios as they become ready, until there is no time left."""
    feed, seen = Feed(sys.stdin, str), 0
    while not feed.ended and (not args.until or time.time() < args.until):
        feed.take(1)
        specs = list(feed.ready.values())
        yield from specs[seen:]
        seen = len(specs)


def _run(args, found):
    out = ROOT / "out" / "mutants"
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        session = Session(args, out)
        print("KTAP version 1", flush=True)
        session.host([Job(mutant, "host", False) for mutant in found if mutant.host])
        todo = [Job(mutant, name, len(mutant.scenarios) > 1)
                for mutant in found for name in mutant.scenarios]
        for spec in _specs(args):
            guest = session.guest(spec)
            jobs = [job for job in todo if job.scenario == guest.name]
            todo = [job for job in todo if job.scenario != guest.name]
            if jobs:
                session.scenario(guest, jobs)
        for job in todo:
            if not session.late(job):
                session.say(job.name, "ERROR not tried", [f"there is no kernel of {job.scenario}"])
    for text in report.shorten(session.bad, report.MOST, lambda n: f"#   and {n} more"):
        print(text, flush=True)
    print(report.closing((session.passed, session.failed, session.skipped)), flush=True)
    if session.failed:
        return 1
    return 0 if session.passed or session.skipped else 1


def _work(args):
    found = _load(args)
    if args.list_scenarios:
        print(" ".join(dict.fromkeys(name for m in found for name in m.scenarios)))
        return 0
    if args.check:
        return _check(found, not args.names)
    return _run(args, found)


if __name__ == "__main__":
    base.main(_work, _arguments())
