# SPDX-License-Identifier: GPL-2.0
"""Boots one seed after the other and says what each came to."""

import os
import time

from ..errors import SetupError


def always(path, scenario):
    """The seeds of a list, 'SCENARIO SEED WHY' a line, that are for a scenario."""
    seeds = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split("#", 1)[0].split(None, 2)
        if not words:
            continue
        if len(words) < 3 or not words[1].isdigit():
            raise SetupError(f"{path}:{number}: write SCENARIO SEED and why it always runs")
        if words[0] == scenario:
            seeds.append(int(words[1]))
    return seeds


def onward(seeds, first, count, end):
    """These, and count more from the first on; with an end, as many as begin before it."""
    yield from seeds
    number = 0
    while number < count if end is None else time.monotonic() < end:
        yield first + number
        number += 1


def _line(result):
    state = "ok" if result.good else "FAILED"
    return f"seed {result.case.seed}: {state} digest {result.digest} objects {result.count('objects')} " \
           f"nmis {result.count('nmis')} {result.seconds:.0f} s ({result.case.describe()})"


def _again(booter, result):
    """Boots a seed again. Returns whether it was the same."""
    other = booter.go(result.case)
    if other.digest == result.digest:
        print(f"seed {result.case.seed}: the same again", flush=True)
        return True
    number, here, there = result.differs(other)
    why = "something from outside gets in"
    if os.geteuid() != 0:
        why += " (without CAP_SYS_NICE it may, on a busy host: qemu/lib/sim/boot.py)"
    print(f"seed {result.case.seed}: NOT THE SAME again, digest {other.digest}: {why}. "
          f"Line {number}:\n  {here}\n  {there}", flush=True)
    folder = booter.folder(result.case)
    (folder / "console.log.first").write_bytes(result.data)
    return False


def run(booter, case, seeds, twice):
    """Runs them. Returns the exit code."""
    started = time.monotonic()
    results, failed, unsteady = [], [], []
    for seed in seeds:
        result = booter.go(case(seed))
        results.append(result)
        print(_line(result), flush=True)
        if not result.good:
            failed.append(seed)
            for text in result.what():
                print(f"  {text}", flush=True)
            print(f"  logs: {booter.folder(result.case)}\n"
                  f"  replay: make replay SEED={seed} SCENARIO={booter.scenario.name}", flush=True)
        if twice or len(results) == 1 or not result.good:
            if not _again(booter, result):
                unsteady.append(seed)
    hours = (time.monotonic() - started) / 3600
    total = {name: sum(result.count(name) for result in results)
             for name in ("objects", "nmis", "looks", "early", "lost", "double", "broken")}
    print(f"{len(results)} seeds on {booter.scenario.name}, {len(results) / hours:.0f} seeds per hour: " +
          ", ".join(f"{value} {name}" for name, value in total.items()), flush=True)
    if failed:
        print(f"seeds that failed: {' '.join(map(str, failed))}", flush=True)
    bad = len(set(failed + unsteady))
    print(f"{len(results) - bad} passed, {bad} failed, 0 skipped", flush=True)
    return 1 if bad or not results else 0
