#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Compares the kernel's own tests on its functions and on each engine: a table in Markdown from the console logs
of boots with plan 'upstream'. With several logs of one scenario it has the median of each number.

Exit codes: 0, or 2 if a log has no numbers.
"""

import pathlib
import re
import statistics

from lib import base, console
from lib.base import SetupError

ENGINES = ("kernel", "rfc", "lockless")
SUITE = re.compile(r"sh rcu_ptr_upstream\w*\.sh ENGINE=(\w+)")
STEP = re.compile(r"insmod rcu_ptr\.ko engine=(\w+)$")
REDIRECTED = re.compile(r"redirected (\d+) objects, (\d+) of them in NMI")
# (REGEX, (ROW, UNIT, VALUE) of a match)
ROWS = (
    (re.compile(r"rcuscale (\w+): (\d+) ns, loops: \d+, batches: (\d+), memory footprint: (-?\d+)MB"),
     lambda name, nsecs, batches, megabytes: ((f"rcuscale, {name}: time", "ms", int(nsecs) // 10 ** 6),
                                              (f"rcuscale, {name}: grace periods", "", int(batches)),
                                              (f"rcuscale, {name}: footprint", "MB", int(megabytes)))),
    (re.compile(r"test_vmalloc: (\d+) of (\d+) passed"),
     lambda passed, of: (("test_vmalloc, kvfree_rcu: passed", f"of {of}", int(passed)),)),
    (re.compile(r"mixed load: ([\d.]+) s, slabs (\d+) kB before, (\d+) kB at most"),
     lambda seconds, before, peak: (("mixed load: time", "s", float(seconds)),
                                    ("mixed load: slabs at most, over those before", "kB", int(peak) - int(before)))),
    (re.compile(r"# slub_test: pass:(\d+) fail:(\d+) skip:(\d+)"),
     lambda passed, failed, skipped: (("slub_kunit: passed", f"of {int(passed) + int(failed) + int(skipped)}, "
                                       f"{skipped} skipped", int(passed)),)),
    (re.compile(r"rcutorture: no error in (\d+) s"),
     lambda seconds: (("rcutorture beside the mixed load: no error in", "s", int(seconds)),)),
)


class Numbers:
    """The numbers of one log: {(row, unit): {engine: value}}."""

    def __init__(self, lines):
        self.rows = {}
        self._engine = None
        self._redirected = {}
        for text in lines:
            self._feed(text)
        for engine, count in self._redirected.items():
            self._set("objects redirected", "", count, engine)

    def _set(self, row, unit, value, engine=None):
        self.rows.setdefault((row, unit), {})[engine or self._engine] = value

    def _feed(self, text):
        mark = console.MARK.match(text)
        if mark and mark.group(6):
            step = mark.group(6)
            found = SUITE.match(step) or STEP.match(step)
            if found:
                self._engine = found.group(1)
            elif step.startswith("tests slub_test"):
                self._engine = "kernel"
        for regex, rows in ROWS:
            found = regex.search(text)
            for row, unit, value in rows(*found.groups()) if found else ():
                self._set(row, unit, value)
        found = REDIRECTED.search(text)
        if found:
            self._redirected[self._engine] = self._redirected.get(self._engine, 0) + int(found.group(1))


def table(logs):
    every = [Numbers(lines) for lines in logs]
    rows = {}
    for numbers in every:
        for row, values in numbers.rows.items():
            for engine, value in values.items():
                rows.setdefault(row, {}).setdefault(engine, []).append(value)
    if not rows:
        raise SetupError("there is no result in these logs: PLAN=upstream makes them")
    lines = ["| | " + " | ".join(ENGINES) + " |", "|---" * (len(ENGINES) + 1) + "|"]
    for (row, unit), values in rows.items():
        cells = [f"{statistics.median(values[engine]):g} {unit}".strip() if engine in values else "-"
                 for engine in ENGINES]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def _arguments():
    parser = base.parser(__doc__, scenario=False)
    parser.add_argument("log", type=pathlib.Path, nargs="+", help="out/*/console.log")
    return parser.parse_args()


def _work(args):
    logs = [[console.Line(line).text for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
            for path in args.log]
    print("\n".join(table(logs)))
    return 0


if __name__ == "__main__":
    base.main(_work, _arguments())
