# SPDX-License-Identifier: GPL-2.0
"""Boots seeds and prints their results; counts the seeds that it takes to find each mutant."""

import concurrent.futures
import os
import statistics
import threading
import time

import mutants

from ..base import SetupError, read
from .boot import Booter

# Distance between the first seeds of searches for a mutant.
STRIDE = 1000
# After so many searches that all found nothing, a mutant is given up.
HOPELESS = 3


def always(path, scenario):
    """The seeds for a scenario in a list with a line 'SCENARIO SEED WHY' for each."""
    seeds = []
    for number, line in enumerate(read(path).splitlines(), 1):
        words = line.split("#", 1)[0].split(None, 2)
        if not words:
            continue
        if len(words) < 3 or not words[1].isdigit():
            raise SetupError(f"{path}:{number}: write SCENARIO SEED and why it always runs")
        if words[0] == scenario:
            seeds.append(int(words[1]))
    return seeds


def onward(seeds, first, count, end):
    """These seeds, and count more from `first` on; with `end`, as many as start before it."""
    yield from seeds
    number = 0
    while number < count if end is None else time.monotonic() < end:
        yield first + number
        number += 1


class _Search:
    """Boots seeds, on several CPUs of the host."""

    def __init__(self, booter, case, seeds):
        self._booter = booter
        self._case = case
        self._seeds = iter(seeds)
        self._lock = threading.Lock()
        self._began = 0
        self.results, self.failed, self.unsteady = [], [], []

    def _next(self):
        """(A seed, whether it is the first one), or None."""
        with self._lock:
            if self._booter.stopped:
                return None
            for seed in self._seeds:
                self._began += 1
                return seed, self._began == 1
            return None

    def work(self, cpu):
        while (found := self._next()) is not None:
            self._one(*found, cpu)

    def _one(self, seed, first, cpu):
        result = self._booter.go(self._case(seed), cpu=cpu)
        if self._booter.stopped:
            return
        lines = [_line(result)]
        if not result.good:
            lines += [f"  {text}" for text in result.what()]
            lines += [f"  logs: {self._booter.folder(result.case)}", f"  replay: {_replay(result, self._booter)}"]
        with self._lock:
            self.results.append(result)
            if not result.good:
                self.failed.append(seed)
            print("\n".join(lines), flush=True)
        if (first or not result.good) and not self._again(result, cpu):
            with self._lock:
                self.unsteady.append(seed)
        # Only the numbers are needed later.
        result.data = result.lines = None

    def _again(self, result, cpu):
        """Boots a seed again. Returns whether it was the same."""
        other = self._booter.go(result.case, cpu=cpu)
        if self._booter.stopped:
            return True
        if other.digest == result.digest:
            print(f"seed {result.case.seed}: the same again", flush=True)
            return True
        number, here, there = result.differs(other)
        why = "something from outside gets in"
        if os.geteuid() != 0:
            why += " (without CAP_SYS_NICE it may, on a busy host: qemu/lib/sim/boot.py)"
        print(f"seed {result.case.seed}: NOT THE SAME again, digest {other.digest}: {why}. "
              f"Line {number}:\n  {here}\n  {there}", flush=True)
        folder = self._booter.folder(result.case)
        (folder / "console.log.first").write_bytes(result.data)
        return False


def _line(result):
    state = "ok" if result.good else "FAILED"
    redirected = f"redirected {result.redirected} " if result.case.takeover else ""
    return f"seed {result.case.seed}: {state} digest {result.digest} objects {result.count('objects')} " \
           f"nmis {result.count('nmis')} {redirected}{result.seconds:.0f} s ({result.case.describe()})"


def _replay(result, booter):
    return f"make replay SEED={result.case.seed} SCENARIO={booter.scenario.name}" + \
        (" LONG=1" if result.case.long else "")


def _on_each_cpu(booter, jobs, work):
    """Calls work(cpu) for several CPUs of the host in parallel. When one fails the others are stopped."""
    cpus = sorted(os.sched_getaffinity(0))
    if jobs > len(cpus):
        raise SetupError(f"--jobs {jobs}: {len(cpus)} CPUs are all there are")
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            for done in concurrent.futures.as_completed([pool.submit(work, cpu) for cpu in cpus[-jobs:]]):
                done.result()
        except BaseException:
            booter.stop()
            raise


def run(booter, case, seeds, jobs=1):
    """Boots all seeds. Returns the exit code."""
    started = time.monotonic()
    search = _Search(booter, case, seeds)
    _on_each_cpu(booter, jobs, search.work)
    return _close(booter, search, (time.monotonic() - started) / 3600)


def _close(booter, search, hours):
    """Prints the totals. Returns the exit code."""
    results, failed = search.results, search.failed
    total = {name: sum(result.count(name) for result in results)
             for name in ("objects", "nmis", "looks", "early", "lost", "double", "broken", "left", "stuck")}
    if any(result.case.takeover for result in results):
        total["redirected"] = sum(result.redirected for result in results)
    print(f"{len(results)} seeds on {booter.scenario.name}, {len(results) / hours:.0f} seeds per hour: " +
          ", ".join(f"{value} {name}" for name, value in total.items()), flush=True)
    if failed:
        print(f"seeds that failed: {' '.join(map(str, failed))}", flush=True)
    bad = len(set(failed + search.unsteady))
    print(f"{len(results) - bad} passed, {bad} failed, 0 skipped", flush=True)
    return 1 if bad or not results else 0


class Broken:
    """A copy of the tree that is broken in one way after the other."""

    def __init__(self, args):
        self.out = args.out / "mutants"
        self._strip = args.strip
        self._tree = mutants.Tree(self.out, args.make_arg)

    def booter(self, mutant, scenario, detector):
        """A Booter for the modules of a mutant, or None and the reason."""
        why = self._tree.break_by(mutant)
        if why:
            return None, why
        log = self.out / mutant.name / "build.log"
        if self._tree.build(scenario.name, scenario.kdir, log) is None:
            return None, f"it can't be built: {log}"
        paths = {path.name: path for path in (self.out / f"build-{scenario.name}").rglob("rcu_ptr*.ko")}
        return Booter(scenario, detector, self.out / mutant.name, self._strip, paths), ""


def _why(result):
    """How the failure was detected, in a few words."""
    for text in result.what():
        if "FAILURE!" in text:
            return text.split("FAILURE!", 1)[1].split(":")[0].strip(" :")
    texts = [text for text in result.what() if "splat:" in text] or result.what()
    return texts[0].split("splat:", 1)[-1].strip()[:60]


class Row:
    """The results of the searches for one mutant."""

    def __init__(self, name):
        self.name = name
        self.tries = []
        self.lost = 0
        self.why = {}

    def add(self, tries, why):
        """Adds a search that found it after so many seeds."""
        self.tries.append(tries)
        self.why[why] = self.why.get(why, 0) + 1

    def text(self, most):
        starts = len(self.tries) + self.lost
        if not self.tries:
            return f"| {self.name} | {starts} | not in {most} | - | - |"
        worst = f"not in {most}" if self.lost else str(max(self.tries))
        numbers = self.tries + [float("inf")] * self.lost
        median = statistics.median_low(numbers)
        median = f"not in {most}" if median == float("inf") else f"{median:g}"
        why = max(self.why, key=self.why.get)
        return f"| {self.name} | {starts} | {median} | {worst} | {why} |"


def run_mutants(args, scenario, detector, case):
    """Counts the seeds that it takes to find each mutant, in several searches with other first seeds. A mutant is
    found if a boot fails in any way: a FAILURE! of the module, a report of the kernel, a hang, an end that is not in
    order. Prints a table. Returns the exit code."""
    broken = Broken(args)
    rows, left = [], []
    for mutant in (mutant for mutant in mutants.load(args.mutant) if not mutant.host):
        booter, why = broken.booter(mutant, scenario, detector)
        if not booter:
            print(f"# {mutant.name}: {why}", flush=True)
            left.append(mutant.name)
            continue
        # The engine that is broken: seeds with the other one could not find it.
        engine = mutant.name.split("-")[0]
        row = Row(mutant.name)
        _searches(row, booter, case, args, engine if engine in ("rfc", "lockless") else None)
        rows.append(row)
        print(row.text(args.most), flush=True)
    print("\n| mutant | starts | median | worst | mostly seen as |\n|---|---|---|---|---|")
    for row in rows:
        print(row.text(args.most))
    if left:
        print(f"\nnot built: {', '.join(left)}")
    return 0 if rows else 1


def _searches(row, booter, case, args, engine):
    """All searches, on several CPUs of the host."""
    starts = iter(range(args.starts))
    lock = threading.Lock()

    def work(cpu):
        while True:
            with lock:
                start = next(starts, None)
            hopeless = row.lost >= HOPELESS and not row.tries
            if start is None or hopeless or booter.stopped:
                return
            found = _search(booter, case, 1 + STRIDE * start, args.most, engine, cpu)
            with lock:
                if found:
                    row.add(*found)
                else:
                    row.lost += 1

    _on_each_cpu(booter, args.jobs, work)


def _search(booter, case, first, most, engine, cpu):
    """(The number of seeds that it took, how it was detected), or None."""
    for number in range(most):
        tried = case(first + number)
        if engine:
            tried.use(engine)
        result = booter.go(tried, cpu=cpu, hasty=True)
        if not result.good:
            return number + 1, _why(result)
    return None
