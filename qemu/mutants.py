#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Breaks the modules on purpose, one patch of qemu/mutants/ at a time, and says whether the tests
notice: lib/mutant.py tells what a patch says of itself.

The patches are applied to a copy of the tree, out/mutants/tree, so the tree may be dirty. Before
them comes the control: the same tests over the unchanged modules have to pass. stdout is KTAP, its
last line 'N passed, N failed, N skipped'; a mutant that nobody caught has failed. Logs of builds
and boots are in out/mutants/NAME/.

Exit codes: 0 all caught, 1 not all, 2 set-up or usage.
"""

import argparse
import fcntl
import filecmp
import fnmatch
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

from lib import mutant as mutants
from lib import report
from lib.errors import SetupError, guarded
from lib.mutant import Mutant
from lib.plan import Plan, scenario_names
from lib.run import Run
from lib.scenario import SLOW, Scenario
from lib.splat import Detector

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PATCHES = HERE / "mutants"
# What the modules are built from.
SOURCES = ("Kbuild", "rust", "include")
# For a boot, where a mutant does not say.
SECONDS = 120


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants, globs; otherwise all")
    parser.add_argument("--check", action="store_true",
                        help="only see whether all patches are complete and apply")
    parser.add_argument("--list-scenarios", action="store_true",
                        help="only print the scenarios that the mutants need")
    parser.add_argument("--scenario", action="append", default=[], metavar="NAME:KDIR:BUSYBOX",
                        help="kernel build and the guest's busybox; repeatable")
    parser.add_argument("--make-arg", action="append", default=[], metavar="NAME=VALUE",
                        help="for the make that builds the modules; repeatable")
    parser.add_argument("--objdump", default="llvm-objdump", metavar="PROGRAM")
    parser.add_argument("--timeout", type=int, metavar="SECONDS", help="for each boot")
    return parser.parse_args()


def _load(globs):
    paths = sorted(PATCHES.glob("*.patch"))
    if not paths:
        raise SetupError(f"there are no patches in {PATCHES}")
    found = [Mutant(path.read_text(encoding="utf-8"), path.stem) for path in paths]
    for glob in globs:
        if not fnmatch.filter([mutant.name for mutant in found], glob):
            raise SetupError(f"there is no mutant '{glob}'; there are: "
                             f"{', '.join(mutant.name for mutant in found)}")
    found = [m for m in found if not globs or any(fnmatch.fnmatchcase(m.name, g) for g in globs)]
    for mutant in found:
        for name in mutant.scenarios:
            if name not in scenario_names():
                raise SetupError(f"{mutant.name}.patch: there is no scenario '{name}'")
            Plan(mutant.plan, f"{mutant.name}.patch", (name,))
    return found


def _apply(mutant, tree, *options):
    """Returns what git says against it, or nothing."""
    # Any repository around the tree is none of its business.
    where = dict(os.environ, GIT_CEILING_DIRECTORIES=str(tree.parent))
    done = subprocess.run(["git", "apply", *options, PATCHES / f"{mutant.name}.patch"], cwd=tree,
                          env=where, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr or "git apply failed").strip()


def _check(found):
    bad = 0
    for mutant in found:
        why = _apply(mutant, ROOT, "--check")
        if why:
            bad += 1
            print(f"{mutant.name}.patch does not apply any more: bring it up to date\n{why}")
    print(f"{len(found) - bad} of {len(found)} mutants apply")
    return 1 if bad else 0


def _make_same(source, copy, names):
    """Makes the folder copy hold these files of source, and no other; what is the same keeps its
    time, so that make does little."""
    for name in names:
        if not (copy / name).exists() or not filecmp.cmp(source / name, copy / name, shallow=False):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, copy / name)
    for path in copy.rglob("*"):
        if path.is_file() and str(path.relative_to(copy)) not in names:
            path.unlink()


class Tree:
    """A copy of the modules' sources that is broken and mended again, and built in their place."""

    def __init__(self, out, make_args):
        self.folder = out / "tree"
        self._out = out
        self._make_args = make_args
        # As they are now: whoever works on them meanwhile is no mutant.
        self._clean = out / "clean"
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others",
                                 "--exclude-standard", "--", *SOURCES],
                                cwd=ROOT, capture_output=True, text=True, check=True)
        self._names = {name for name in listed.stdout.split("\0")
                       if name and (ROOT / name).is_file()}
        _make_same(ROOT, self._clean, self._names)

    def refresh(self):
        """Mends it."""
        _make_same(self._clean, self.folder, self._names)

    def build(self, scenario, kdir, log):
        """Builds the modules. Returns where they are, or None if they can't be built."""
        moddir = self._out / f"build-{scenario}"
        moddir.mkdir(parents=True, exist_ok=True)
        arch = "arm64" if "CONFIG_ARM64=y\n" in (kdir / ".config").read_text() else "x86_64"
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as file:
            done = subprocess.run(["make", "-C", kdir, f"M={self.folder}", f"MO={moddir}",
                                   f"ARCH={arch}", *self._make_args, f"-j{os.cpu_count()}",
                                   "modules"],
                                  stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                  check=False)
        return moddir if done.returncode == 0 else None


class Session:
    """All that the runs share."""

    def __init__(self, args, out):
        self._args = args
        self._out = out
        self._tree = Tree(out, args.make_arg)
        self._kernels = dict(spec.split(":", 1) for spec in args.scenario)
        self._number = 0
        self._good = {}
        self.passed = self.failed = 0
        lists = [(HERE / f"splat-{name}.txt").read_text(encoding="utf-8")
                 for name in ("deny", "allow")]
        self._detector = Detector(*lists)

    def _say(self, name, comment, problems=(), folder=None):
        self._number += 1
        ok = not problems
        self.passed, self.failed = self.passed + ok, self.failed + (not ok)
        for problem in problems:
            for line in problem.splitlines():
                print(f"# {line}")
        if problems and folder:
            print(f"# logs: {folder}")
        print(f"{'ok' if ok else 'not ok'} {self._number} {name} # {comment}", flush=True)

    def failed_control(self, name):
        """A mutant that can't be tried."""
        self._say(name, "ERROR not tried: the control failed", ["see the control"])

    def _boot(self, scenario, plan_text, name, timeout=None, boot=()):
        kdir, busybox = self._kernels[scenario].split(":")
        scen = Scenario(f"{scenario}:{kdir}:{self._out / f'build-{scenario}'}:{busybox}")
        scen.boot = [*scen.boot, *boot]
        seconds = self._args.timeout or (timeout or SECONDS) * (SLOW if scen.slow else 1)
        how = types.SimpleNamespace(out=self._out / name, objdump=self._args.objdump, smp=None,
                                    mem=None, timeout=seconds, verb="test", keep=False)
        plan = Plan(plan_text, name, (scen.name, scen.arch))
        if "DEBUG_KMEMLEAK" not in scen.options:
            plan.drop("kmemleak")
        run = Run(scen, plan, [], self._detector, how)
        return run.go(), run

    def _modules(self, scenario):
        return {path.name: path.read_bytes()
                for path in (self._out / f"build-{scenario}").rglob("rcu_ptr*.ko")}

    def _build(self, scenario, log):
        kdir = pathlib.Path(self._kernels[scenario].split(":")[0])
        return self._tree.build(scenario, kdir, log)

    def control(self, scenario, found):
        """The unchanged modules, each plan once. Returns whether they are any good."""
        started = time.monotonic()
        name = f"control.{scenario}"
        self._tree.refresh()
        log = self._out / name / "build.log"
        if not self._build(scenario, log):
            self._say(name, "the modules can't be built", [f"log: {log}"])
            return False
        self._good[scenario] = self._modules(scenario)
        plans = list(dict.fromkeys(mutant.plan for mutant in found))
        seconds = sum({m.plan: m.timeout or SECONDS for m in found}.values())
        verdict, run = self._boot(scenario, "".join(plans), name, seconds)
        problems = mutants.judge_control(found, verdict)
        self._say(name, f"{len(plans)} plans over the unchanged modules "
                        f"({time.monotonic() - started:.0f} s)", problems, run.folder)
        return not problems

    def mutant(self, scenario, mutant, name):
        """One mutant in one scenario."""
        started = time.monotonic()
        self._tree.refresh()
        why = _apply(mutant, self._tree.folder)
        if why:
            self._say(name, "ERROR the patch does not apply", [why])
            return
        log = self._out / name / "build.log"
        if not self._build(scenario, log):
            self._say(name, "ERROR it can't be built", [f"log: {log}"])
            return
        if self._modules(scenario) == self._good[scenario]:
            self._say(name, "ERROR the modules are those of the unchanged tree", [f"log: {log}"])
            return
        verdict, run = self._boot(scenario, mutant.plan, name, mutant.timeout, mutant.boot)
        texts = mutants.texts_of((run.folder / "console.log").read_bytes())
        caught, problems = mutant.judge(verdict, texts, self._detector)
        took = f"({scenario}, {time.monotonic() - started:.0f} s)"
        if problems:
            problems = [*mutant.what, *problems]
            self._say(name, f"NOT CAUGHT {took}", problems, run.folder)
        else:
            self._say(name, f"caught by {', '.join(caught)} {took}")


def _run(args, found):
    out = ROOT / "out" / "mutants"
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        session = Session(args, out)
        names = [spec.split(":")[0] for spec in args.scenario]
        jobs = {name: [m for m in found if name in m.scenarios] for name in names}
        jobs = {name: some for name, some in jobs.items() if some}
        print(f"KTAP version 1\n1..{sum(1 + len(some) for some in jobs.values())}", flush=True)
        for scenario, some in jobs.items():
            good = session.control(scenario, some)
            for mutant in some:
                name = mutant.name + (f".{scenario}" if len(mutant.scenarios) > 1 else "")
                if good:
                    session.mutant(scenario, mutant, name)
                else:
                    session.failed_control(name)
    print(report.closing((session.passed, session.failed, 0)), flush=True)
    return 0 if not session.failed and session.passed else 1


def main():
    """Returns the exit code."""
    args = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def work():
        found = _load(args.names)
        if args.list_scenarios:
            print(" ".join(dict.fromkeys(name for m in found for name in m.scenarios)))
            return 0
        if args.check:
            return _check(found)
        return _run(args, found)

    return guarded("qemu/mutants.py", work)


if __name__ == "__main__":
    sys.exit(main())
