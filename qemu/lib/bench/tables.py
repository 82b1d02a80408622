# SPDX-License-Identifier: GPL-2.0
"""The results as tables in Markdown, aligned to be readable in a terminal."""

import statistics

from .. import costs
from .results import of

# kfree_bulk() does not wait for a grace period: it shows the cost of everything else.
KERNEL = ("kfree_rcu", "kfree_rcu_nolock", "call_rcu", "kfree", "kfree_bulk")
RCU_PTR = ("rcu_ptr_kvfree", "rcu_ptr_kfree_nolock", "rcu_ptr_try_kfree_nolock", "rcu_ptr_call",
           "rcu_ptr_call_sleepable", "rcu_ptr_cache_free_rcu")


def columns(rows):
    """(function, engine) of all columns, the kernel's first."""
    found = {(row["free"], row["engine"]) for row in rows if "free" in row and row["engine"] != "none"}
    order = KERNEL + RCU_PTR
    kernel = sorted((c for c in found if c[1] == "kernel"), key=lambda c: order.index(c[0]))
    ours = sorted((c for c in found if c[1] != "kernel"),
                  key=lambda c: (c[1] != "rfc", c[1], order.index(c[0])))
    return kernel + ours


def _label(column):
    free, engine = column
    short = free.removeprefix("rcu_ptr_")
    return f"{short}()" if engine == "kernel" else f"{engine}: {short}()"


def _number(value):
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
    return costs.NONE if value is None else str(value)


def table(head, lines):
    """Markdown, the columns padded."""
    cells = [head, *lines]
    widths = [max(len(str(line[i])) for line in cells) for i in range(len(head))]

    def row(line):
        first, *rest = (str(cell) for cell in line)
        padded = [first.ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(rest, widths[1:])]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join([":" + "-" * (widths[0] + 1)] + ["-" * (w + 1) + ":" for w in widths[1:]])
    return [row(head), rule + "|", *(row(line) for line in lines), ""]


def _pick(rows, words, key, **which):
    """The value in the last row of this kind with these values: 'KIND KEY=VALUE...'."""
    kind, *words = words.split()
    wanted = dict(word.split("=") for word in words)
    found = [row for row in of(rows, kind, **which)
             if all(str(row.get(key)) == value for key, value in wanted.items())]
    # Objects for which a headless call returned false were freed at once: their cycle has no grace period.
    if not found or kind == "cycle" and found[-1].get("refused"):
        return None
    return found[-1].get(key)


def _grid(title, rows, cols, wanted, label=_label, name="free"):
    """A line per function; wanted: the columns, each (title, words of its row, key)."""
    lines = []
    for column in cols:
        values = [_pick(rows, words, key, **{name: column[0], "engine": column[1]}) for _, words, key, *_ in wanted]
        if any(value is not None for value in values):
            lines.append([label(column), *map(_number, values)])
    return [f"## {title}", "", *table(["", *(head for head, *_ in wanted)], lines)] if lines else []


def _costs(rows, cols):
    """The README's table for all functions, with more columns."""
    for row in of(rows, "nmi"):
        if not row["irq_works_counted"]:
            del row["irq_works_per_1000"]
    more = (("a call in NMI", "call context=nmi object=kmalloc-64", "median"),
            ("stepped", "path object=kmalloc-64", "instructions"),
            ("longest", "path object=kmalloc-64", "max_instructions"),
            ("grace periods per 10^6", "cycle object=kmalloc-64", "grace_periods_per_million"))
    return _grid("Instructions per object of 64 bytes", rows, cols, costs.CALLS + more)


def _refused(rows, _):
    """Headless calls that returned false."""
    out = []
    for row in of(rows, "call") + of(rows, "cycle"):
        if row["refused"]:
            share = 100 * row["refused"] / (row["count"] * row["reps"])
            where = row.get("context", "whole cycles, left out")
            out += [f"{_label((row['free'], row['engine']))} refused {share:.1f} % of the objects "
                    f"({row['object']}, {where}).", ""]
    return out


def _backlog(rows, cols):
    counts = sorted({row["count"] for row in of(rows, "backlog")})
    return _grid("Longest interrupt or softirq after objects were freed at once, instructions", rows, cols,
                 [(f"{n} objects", f"backlog count={n}", "longest") for n in counts])


def _memory(rows, cols):
    return _grid("Memory that waits, bytes", rows, cols, [
        (title, "series", key) for title, key in (
            ("peak", "peak_bytes"), ("of all memory", "peak_available_bytes"), ("left", "left_bytes"),
            ("grace periods", "grace_periods"))])


def _parallel(rows, cols):
    cpus = sorted({row["cpus"] for row in of(rows, "parallel")})
    return _grid("Instructions per call with all CPUs at it", rows, cols,
                 [(f"CPUs: {n}", f"parallel cpus={n}", "median") for n in cpus])


def _threads(rows, boot, kind, name, unit):
    """Times of threads in several rounds: medians, and the median of the ratios within a round."""
    ways = {}
    for row in of(rows, kind, boot=boot):
        ways.setdefault((row[name], row["engine"]), []).append(row)
    # The functions of the kernel come first: all are compared with kfree_rcu().
    base = next((each for (name, _), each in ways.items() if name.endswith("kfree_rcu")), [])
    lines = []
    for way, each in ways.items():
        def median(key, each=each):
            return statistics.median(row[key] for row in each)

        times = [row["ns"] for row in each]
        ratio = statistics.median(a / max(b["ns"], 1) for a, b in zip(times, base)) if base else 0
        lines.append([_label(way), f"{median('ns') / 1e6:.1f}", f"{ratio:.2f}",
                      f"{100 * (max(times) - min(times)) / median('ns'):.0f} %", f"{median('batches'):.0f}",
                      f"{max(row['peak_bytes'] for row in each) / 1e6:.1f}", len(each),
                      *(f"{min(row[key] for row in each):.2f} %" if way[1] != "kernel" and key in each[0] else ""
                        for key in ("hit_percent", "recycled_percent"))])
    if not lines:
        return []
    some = of(rows, kind, boot=boot)[0]
    title = f"{some['nthreads']} threads x {some['loops']} loops x {some['alloc_num']}"
    return table([title, unit, "ratio", "spread", "batches", "peak MB", "rounds", "found a sheaf", "recycled"], lines)


def _scale(rows, _):
    parts = [_threads(rows, "scale", "scale", "free", "ms"),
             _threads(rows, "large", "scale", "free", "ms"),
             _threads(rows, "saturated", "scale", "free", "10^6 instructions"),
             _threads(rows, "sheafscale", "sheafscale", "functions", "ms")]
    lines = [line for part in parts for line in part]
    return ["## As rcuscale's kfree_rcu_test: wall time, and instructions of both CPUs", "", *lines] if lines else []


def _readme(rows, cols):
    """The two tables of the README, which suite rcu_ptr_costs reads."""
    def label(column):
        return costs.label(column[1], column[0])

    stated = [column for column in cols if column[0] not in (
        "kfree", "kfree_bulk", "rcu_ptr_try_kfree_nolock", "rcu_ptr_call_sleepable", "rcu_ptr_cache_free_rcu")]
    pairs = dict.fromkeys((row["functions"], row["engine"]) for row in of(rows, "pair")
                          if row["engine"] in ("kernel", "lockless"))
    return [*_grid("For the README: calls", rows, stated, costs.CALLS, label),
            *_grid("For the README: caches", rows, pairs, costs.PAIRS, label, "functions")]


def markdown(record):
    rows = record["results"]
    cols = columns(rows)
    about = record["about"]
    kernel = next(iter(about["kernels"].values()))
    out = [f"# rcu_ptr and Linux {kernel['release']}", "",
           f"{kernel['arch']}, {kernel['rustc']}, {next(iter(about['qemu'].values()))}. An instruction "
           "is one executed under QEMU's -icount; wall time is a ratio within one boot.", ""]
    for part in (_costs, _refused, _backlog, _memory, _parallel, _scale, _readme):
        out += part(rows, cols)
    if record["failures"]:
        out += ["## Failures", "", *(f"- {line}" for line in record["failures"]), ""]
    return "\n".join(out)
