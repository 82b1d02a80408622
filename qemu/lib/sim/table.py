# SPDX-License-Identifier: GPL-2.0
"""How many seeds it takes to find each of the faults of qemu/mutants/: several searches for each, which
start at other seeds. Found is what any boot would fail of: a FAILURE! of the module, a report of the
kernel, a hang, an end that was not in order."""

import concurrent.futures
import fnmatch
import os
import statistics
import threading
import time

import mutants

from ..mutant import Mutant
from .boot import Booter

# Searches start so far apart.
STRIDE = 1000
# After so many that found nothing, with none that did, a mutant is given up.
HOPELESS = 3
ENGINE_OF = {"rfc": "rfc", "lockless": "lockless"}


def chosen(globs):
    """The mutants with these names, in this order, or all; those of the host are none."""
    found = [Mutant(path.read_text(encoding="utf-8"), path.stem)
             for path in sorted(mutants.PATCHES.glob("*.patch"))]
    found = [mutant for mutant in found if not mutant.host]
    wanted = {}
    for glob in globs or ["*"]:
        wanted.update((mutant.name, mutant) for mutant in found
                      if mutant.name not in wanted and fnmatch.fnmatchcase(mutant.name, glob))
    return list(wanted.values())


class Broken:
    """A copy of the tree that is broken in one way after the other."""

    def __init__(self, args):
        self.out = args.out / "mutants"
        self._strip = args.strip
        self._tree = mutants.Tree(self.out, args.make_arg)

    def booter(self, mutant, scenario, detector):
        """For the modules of a mutant; or None, and why."""
        self._tree.refresh()
        why = mutants.apply(mutant, self._tree.folder)
        if why:
            return None, why
        log = self.out / mutant.name / "build.log"
        if self._tree.build(scenario.name, scenario.kdir, log) is None:
            return None, f"it can't be built: {log}"
        paths = {path.name: path for path in (self.out / f"build-{scenario.name}").rglob("rcu_ptr*.ko")}
        return Booter(scenario, detector, self.out / mutant.name, self._strip, paths), ""


def _why(result):
    """What gave it away, in a few words."""
    for text in result.what():
        if "FAILURE!" in text:
            return text.split("FAILURE!", 1)[1].split(":")[0].strip(" :")
    texts = [text for text in result.what() if "splat:" in text] or result.what()
    return texts[0].split("splat:", 1)[-1].strip()[:60]


class Row:
    """What the searches for one mutant came to."""

    def __init__(self, name):
        self.name = name
        self.tries = []
        self.lost = 0
        self.why = {}

    def add(self, tries, why):
        """A search that found it after so many seeds."""
        self.tries.append(tries)
        self.why[why] = self.why.get(why, 0) + 1

    def text(self, most):
        """The line of the table."""
        starts = len(self.tries) + self.lost
        if not self.tries:
            return f"| {self.name} | {starts} | not in {most} | - | - |"
        worst = f"not in {most}" if self.lost else str(max(self.tries))
        numbers = self.tries + [float("inf")] * self.lost
        median = statistics.median_low(numbers)
        median = f"not in {most}" if median == float("inf") else f"{median:g}"
        why = max(self.why, key=self.why.get)
        return f"| {self.name} | {starts} | {median} | {worst} | {why} |"


def run(args, scenario, detector, case):
    """Prints the table. Returns the exit code."""
    broken = Broken(args)
    rows, left = [], []
    for mutant in chosen(args.mutant):
        if args.until and time.time() > args.until:
            left.append(mutant.name)
            continue
        booter, why = broken.booter(mutant, scenario, detector)
        if not booter:
            print(f"# {mutant.name}: {why}", flush=True)
            left.append(mutant.name)
            continue
        # The engine that it is in: seeds of the other one could not find it.
        row = Row(mutant.name)
        _searches(row, booter, case, args, ENGINE_OF.get(mutant.name.split("-")[0]))
        rows.append(row)
        print(row.text(args.most), flush=True)
    print("\n| mutant | starts | median | worst | mostly seen as |\n|---|---|---|---|---|")
    for row in rows:
        print(row.text(args.most))
    if left:
        print(f"\nno time, or not built: {', '.join(left)}")
    return 0 if rows else 1


def _searches(row, booter, case, args, engine):
    """All starts, on as many CPUs of the host as there may be."""
    starts = iter(range(args.starts))
    lock = threading.Lock()

    def work(cpu):
        while True:
            with lock:
                start = next(starts, None)
            hopeless = row.lost >= HOPELESS and not row.tries
            if start is None or hopeless or start and args.until and time.time() > args.until:
                return
            found = _search(booter, case, 1 + STRIDE * start, args.most, engine, cpu)
            with lock:
                if found:
                    row.add(*found)
                else:
                    row.lost += 1

    cpus = sorted(os.sched_getaffinity(0))[-args.jobs:]
    with concurrent.futures.ThreadPoolExecutor(len(cpus)) as pool:
        for done in [pool.submit(work, cpu) for cpu in cpus]:
            done.result()


def _search(booter, case, first, most, engine, cpu):
    """How many seeds it took to find it, and by what; or None."""
    for number in range(most):
        tried = case(first + number)
        if engine:
            tried.use(engine)
        result = booter.go(tried, cpu=cpu, hasty=True)
        if not result.good:
            return number + 1, _why(result)
    return None
