# SPDX-License-Identifier: GPL-2.0
"""The results as tables in Markdown, aligned so that they are as good to read in a terminal."""

import statistics

from .. import costs
from .results import of

# kfree_bulk is no way to free after a grace period: the cost of one that took no time.
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
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value)


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


def _pick(rows, kind, column, key, **wanted):
    found = of(rows, kind, free=column[0], engine=column[1], **wanted)
    if not found:
        return None
    # Objects that a headless call refused were freed at once: their cycle has no grace period.
    if kind == "cycle" and found[-1].get("refused"):
        return None
    return found[-1].get(key)


def _grid(first, rows, cols, wanted):
    """A line per column: (label, function, engine) down, what was measured across."""
    lines = []
    for column in cols:
        values = [_number(_pick(rows, kind, column, key, **match)) for _, kind, key, match in wanted]
        if any(values):
            lines.append([_label(column), *values])
    return table([first] + [title for title, *_ in wanted], lines) if lines else []


def _section(title, *parts):
    """The parts under a heading, if there are any."""
    lines = [line for part in parts for line in part]
    return [f"## {title}", "", *lines] if lines else []


def _calls(rows, cols):
    return _section("Instructions per call, medians", _grid("kmalloc-64", rows, cols, [
        (title, "call", "median", {"context": context}) for context, title in (("task", "task"), ("nmi", "NMI"))]))


def _objects(rows, kind):
    return list(dict.fromkeys(row["object"] for row in of(rows, kind)))


def _refused(rows, _):
    """Headless calls that were refused: the caller kept the object."""
    out = []
    for row in of(rows, "call") + of(rows, "cycle"):
        if row["refused"]:
            share = 100 * row["refused"] / (row["count"] * row["reps"])
            where = row.get("context", "whole cycles, left out below")
            out += [f"{_label((row['free'], row['engine']))} refused {share:.1f} % of the objects "
                    f"({row['object']}, {where}).", ""]
    return out


def _cycles(rows, cols):
    wanted = [(name, "cycle", "median", {"object": name, "boot": "costs", "count": count})
              for name in _objects(rows, "cycle")
              for count in [max((r["count"] for r in of(rows, "cycle", object=name, boot="costs")), default=0)]]
    return _section("Alloc, free, grace period, reclaim: instructions of the whole system",
                    _grid("per object", rows, cols, wanted))


def _path(rows, cols):
    keys = (("instructions", "instructions"), ("locked", "locked"), ("full barriers", "barriers"),
            ("longest", "max_instructions"))
    return _section("Instructions by kind, single-stepped (every locked one is a full barrier too)",
                    _grid("usual call", rows, cols, [(title, "path", key, {}) for title, key in keys]))


def _nmi(rows, cols):
    keys = (("self-IPIs per 1000", "ipis_per_1000"), ("irq_works per 1000", "irq_works_per_1000"))
    for row in of(rows, "nmi"):
        if not row["irq_works_counted"]:
            row["irq_works_per_1000"] = None
    return _section("What frees in NMI cause",
                    _grid("one free per NMI", rows, cols, [(title, "nmi", key, {}) for title, key in keys]))


def _backlog(rows, cols):
    for row in of(rows, "backlog"):
        row["longest"] = max(row[key] for key in ("irq_work", "timer", "rcu_softirq", "timer_softirq"))
    counts = sorted({row["count"] for row in of(rows, "backlog")})
    return _section("Longest interrupt or softirq after a backlog, instructions",
                    _grid("objects", rows, cols, [(str(n), "backlog", "longest", {"count": n}) for n in counts]))


def _memory(rows, cols):
    for row in of(rows, "series"):
        row["peak_kib"], row["left_kib"] = row["peak_bytes"] // 1024, row["left_bytes"] // 1024
        row["peak_all_kib"] = row["peak_available_bytes"] // 1024
    keys = (("peak KiB", "peak_kib"), ("of all memory", "peak_all_kib"), ("left KiB", "left_kib"),
            ("grace periods", "grace_periods"))
    wanted = [(title, "series", key, {}) for title, key in keys]
    wanted.append(("grace periods per 10^6", "cycle", "grace_periods_per_million",
                   {"object": "kmalloc-64", "boot": "costs"}))
    return _section("Memory and grace periods", _grid("memory", rows, cols, wanted))


def _parallel(rows, cols):
    cpus = sorted({row["cpus"] for row in of(rows, "parallel")})
    return _section("Instructions per call with all CPUs at it", _grid(
        "CPUs", rows, cols, [(str(n), "parallel", "median", {"cpus": n}) for n in cpus]))


def _growth(rows, cols):
    counts = sorted({row["count"] for row in of(rows, "cycle", boot="costs", object="kmalloc-64")})
    if len(counts) < 2:
        return []
    return _section("Whole cycle by number of objects, instructions each", _grid("objects", rows, cols, [
        (str(n), "cycle", "median", {"count": n, "boot": "costs", "object": "kmalloc-64"}) for n in counts]))


def medians(rows, boot, key):
    """{(function, engine): median over the rounds of one boot}."""
    values = {}
    for row in of(rows, "scale", boot=boot):
        values.setdefault((row["free"], row["engine"]), []).append(row[key])
    return {column: statistics.median(v) for column, v in values.items()}, values


def ratios(rows, boot, key):
    """Median over the rounds of the ratio to kfree_rcu() of the same round."""
    _, values = medians(rows, boot, key)
    base = values.get(("kfree_rcu", "kernel"), [])
    return {column: statistics.median(a / max(b, 1) for a, b in zip(v, base))
            for column, v in values.items() if base}


def _scale(rows, cols):
    out = []
    for boot, unit in (("scale", "ms"), ("large", "ms"), ("saturated", "10^6 instructions")):
        times, each = medians(rows, boot, "ns")
        if not times:
            continue
        periods, _ = medians(rows, boot, "batches")
        _, peaks = medians(rows, boot, "peak_bytes")
        ratio = ratios(rows, boot, "ns")
        some = of(rows, "scale", boot=boot)[0]
        lines = []
        for column in cols:
            if column in times:
                spread = (max(each[column]) - min(each[column])) / times[column]
                lines.append([_label(column), f"{times[column] / 1e6:.1f}", f"{ratio[column]:.2f}",
                              f"{100 * spread:.0f} %", f"{periods[column]:.0f}",
                              f"{max(peaks[column]) / 1e6:.1f}", len(each[column])])
        title = (f"{some['nthreads']} threads x {some['loops']} loops x {some['alloc_num']}")
        out += table([title, unit, "ratio", "spread", "batches", "peak MB", "rounds"], lines)
    return _section("rcuscale's kfree_rcu_test: wall time, and instructions of both CPUs", out)


def _sheaves(rows, _):
    """Objects that go round: caches with sheaves, and what the kernel has."""
    ways = []
    for row in of(rows, "pair") + of(rows, "recycle") + of(rows, "sheafscale"):
        way = (row["functions"], row["engine"])
        if way not in ways:
            ways.append(way)
    ways.sort(key=lambda way: way[1] != "kernel")

    def value(kind, way, key, **wanted):
        found = of(rows, kind, functions=way[0], engine=way[1], **wanted)
        return found[-1].get(key) if found else None

    lines, scale = [], []
    for way in ways:
        label = way[0] if way[1] == "kernel" else f"{way[1]}: {way[0]}"
        cells = [value("pair", way, key, context=context)
                 for context in ("task", "nmi") for key in ("alloc_cost", "free_cost")]
        cells.append(value("recycle", way, "median", context="task"))
        if any(cell is not None for cell in cells):
            lines.append([label, *map(_number, cells)])
        rounds = of(rows, "sheafscale", functions=way[0], engine=way[1])
        if rounds:
            base = statistics.median(row["ns"] for row in
                                     of(rows, "sheafscale", functions="kmem_cache_alloc+kfree_rcu") or rounds)
            scale.append([label, f"{statistics.median(row['ns'] for row in rounds) / 1e6:.1f}",
                          f"{statistics.median(row['ns'] for row in rounds) / base:.2f}",
                          *(f"{min(row[key] for row in rounds):.2f} %" if way[1] != "kernel" else ""
                            for key in ("hit_percent", "recycled_percent"))])
    out = []
    if lines:
        out += ["## Objects of 64 bytes that go round: instructions", "",
                *table(["", "alloc", "free", "alloc in NMI", "free in NMI", "whole cycle"], lines)]
    if scale:
        some = of(rows, "sheafscale")[0]
        out += table([f"{some['nthreads']} threads x {some['loops']} x {some['alloc_num']}", "ms", "ratio",
                      "found a sheaf", "recycled"], scale)
    return out


def _readme(rows, cols):
    """The two tables that the README has, and the suite rcu_ptr_costs reads."""

    def value(text, key, **which):
        kind, *words = text.split()
        found = of(rows, kind, **dict(word.split("=") for word in words), **which)
        # What a call costs that nearly always refuses is no cycle.
        value = found[0][key] if found and not (kind == "cycle" and found[0].get("refused")) else None
        return costs.NONE if value is None else f"{value:.3g}"

    ways = dict.fromkeys((row["engine"], row["functions"]) for row in of(rows, "pair")
                         if row["engine"] in ("kernel", "lockless"))
    calls = [[costs.label(engine, free),
              *(value(words, key, free=free, engine=engine) for _, words, key, _ in costs.CALLS)]
             for free, engine in cols if free not in ("kfree", "kfree_bulk", "rcu_ptr_try_kfree_nolock",
                                                      "rcu_ptr_call_sleepable", "rcu_ptr_cache_free_rcu")]
    pairs = [[costs.label(engine, functions),
              *(value(words, key, functions=functions, engine=engine)
                for _, words, key, _ in costs.PAIRS)] for engine, functions in ways]
    if not calls or not pairs:
        return []
    return ["## For the README", "", *table(costs.title(costs.CALLS), calls),
            *table(costs.title(costs.PAIRS), pairs)]


def markdown(record):
    """The whole text."""
    rows = record["results"]
    cols = columns(rows)
    about = record["about"]
    kernel = next(iter(about["kernels"].values()))
    out = [f"# rcu_ptr and Linux {kernel['release']}", "",
           f"{kernel['arch']}, {kernel['rustc']}, {next(iter(about['qemu'].values()))}. An instruction "
           "is one executed under QEMU's -icount; wall time is a ratio within one boot.", ""]
    for part in (_calls, _refused, _path, _cycles, _growth, _nmi, _backlog, _memory, _parallel, _scale,
                 _sheaves, _readme):
        out += part(rows, cols)
    if record["failures"]:
        out += ["## Failures", "", *(f"- {line}" for line in record["failures"]), ""]
    return "\n".join(out)
