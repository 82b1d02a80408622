# SPDX-License-Identifier: GPL-2.0
"""The costs of calls in the README's tables, the only place with these numbers. 'make bench' prints the tables,
and suite rcu_ptr_costs measures their entries again."""

import re

from .base import ROOT, SetupError, read

README = ROOT / "README.md"
BEGIN, END = "<!-- bench:begin", "<!-- bench:end"
NONE = "-"

# Each column: its title; words of its line in the log; the key of its value there; the case of the suite.
CALLS = (
    ("a call", "call context=task object=kmalloc-64", "median", "calls"),
    ("whole cycle", "cycle object=kmalloc-64", "median", "cycles"),
    ("locked instructions", "path object=kmalloc-64", "locked", "locked_and_barriers"),
    ("full barriers", "path object=kmalloc-64", "barriers", "locked_and_barriers"),
    ("self-IPIs", "nmi object=kmalloc-64", "ipis_per_1000", "interrupts"),
    ("irq_works", "nmi object=kmalloc-64", "irq_works_per_1000", "interrupts"),
)
PAIRS = (
    ("alloc", "pair context=task", "alloc_cost", "sheaves"),
    ("alloc in NMI", "pair context=nmi", "alloc_cost", "sheaves"),
    ("free", "pair context=task", "free_cost", "sheaves"),
    ("free in NMI", "pair context=nmi", "free_cost", "sheaves"),
    ("whole cycle", "recycle context=task", "median", "sheaves"),
)
# Names of engines and functions in the tables; caches are measured on engine lockless.
CALL = re.compile(r"^(kernel|rfc|lockless): (\w+)\(\)$")
PAIR = re.compile(r"^(?:kernel: )?(\w+)\(\), (\w+)\(\)$")


def title(columns):
    return ["", *(name for name, *_ in columns)]


def label(engine, function):
    """The name of a row: of a call, or of a pair 'ALLOC+FREE'."""
    if "+" not in function:
        return f"{engine}: {function}()"
    alloc, free = function.split("+")
    if engine != "kernel":
        free = f"rcu_ptr_cache_{free}"
    return ("kernel: " if engine == "kernel" else "") + f"{alloc}(), {free}()"


def _row(text, columns):
    """(engine, words that identify its line in the log), or None for a row of another table."""
    found = (CALL if columns is CALLS else PAIR).match(text)
    if not found:
        return None
    if columns is CALLS:
        engine, function = found.groups()
        return engine, f"free={function} engine={engine}"
    alloc, free = found.groups()
    if not alloc.startswith("rcu_ptr_"):
        return "kernel", f"functions={alloc}+{free} engine=kernel"
    return "lockless", f"functions={alloc}+{free.removeprefix('rcu_ptr_cache_')} engine=lockless"


def parse(text):
    """(case, engine, key, value, words) of each number in the tables."""
    inside, columns, found = False, None, []
    for line in text.splitlines():
        inside = line.startswith(BEGIN) or inside and not line.startswith(END)
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not inside or not line.startswith("|"):
            columns = None
            continue
        heads = [cols for cols in (CALLS, PAIRS) if cells == title(cols)]
        if heads:
            columns = heads[0]
        row = _row(cells[0], columns) if columns else None
        if not row:
            continue
        engine, which = row
        if len(cells) != len(columns) + 1:
            raise SetupError(f"{README}: '{cells[0]}' has {len(cells) - 1} numbers, not {len(columns)}")
        for (_, words, key, case), cell in zip(columns, cells[1:]):
            if cell != NONE:
                found.append((case, engine, key, float(cell), f"{words} {which}"))
    for case in {case for *_, case in CALLS + PAIRS}:
        if not any(case == row[0] and row[1] != "kernel" for row in found):
            raise SetupError(f"{README}: no number for {case} in the tables between {BEGIN} and {END}")
    return found


def text():
    """The file that the guest's suite reads: a line for each number of rcu_ptr's own."""
    rows = parse(read(README))
    return "".join(f"{case} {engine} {key} {value:g} {words}\n"
                   for case, engine, key, value, words in rows if engine != "kernel")
