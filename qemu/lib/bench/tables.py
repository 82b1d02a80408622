# SPDX-License-Identifier: GPL-2.0
"""The results as tables in Markdown, aligned so that they are as good to read in a terminal."""

import statistics

from .. import costs
from .results import of

# kfree_bulk is no way to free after a grace period: the cost of one that took no time.
KERNEL = ("kfree_rcu", "kfree_rcu_nolock", "call_rcu", "kfree", "kfree_bulk")
RCU_PTR = ("rcu_ptr_kvfree", "rcu_ptr_kfree_nolock", "rcu_ptr_try_kfree_nolock", "rcu_ptr_call",
           "rcu_ptr_call_sleepable")
CONTEXTS = (("task", "task"), ("irqs_off", "interrupts off"), ("hardirq", "hardirq"), ("nmi", "NMI"))


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
    if kind == "cycle" and found[-1].get("kept"):
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
    grids = [_grid(name, rows, cols, [(title, "call", "median", {"context": context, "object": name})
                                      for context, title in CONTEXTS]) for name in _objects(rows, "call")]
    if not any(grids):
        return []
    spread = max(((row["max"] - row["min"]) / max(row["median"], 1) for row in of(rows, "call")
                  if row["context"] == "irqs_off"), default=0)
    return _section("Instructions per call", *grids, [
        f"Medians; with interrupts off the repetitions differ by at most {100 * spread:.1f} %.", ""])


def _objects(rows, kind):
    return list(dict.fromkeys(row["object"] for row in of(rows, kind)))


def _kept(rows, _):
    """Headless calls that were refused: the caller kept the object."""
    out = []
    for row in of(rows, "call") + of(rows, "cycle"):
        if row.get("kept"):
            share = 100 * row["kept"] / (row.get("calls", row.get("count")) * row["reps"])
            where = row.get("context", "whole cycles, left out below")
            out += [f"{_label((row['free'], row['engine']))} refused {share:.1f} % of the objects "
                    f"({row['object']}, {where}).", ""]
    return out


def _latency(rows, cols):
    wanted = []
    for context, title in (("irqs_off", "interrupts off"), ("nmi", "NMI")):
        wanted += [(f"{title}: usual", "latency", "p50", {"context": context}),
                   ("99 %", "latency", "p99", {"context": context}),
                   ("worst", "latency", "max", {"context": context})]
    return _section("Single calls, instructions", _grid("kmalloc-64", rows, cols, wanted))


def _cycles(rows, cols):
    wanted = [(name, "cycle", "median", {"object": name, "boot": "costs", "count": count})
              for name in _objects(rows, "cycle")
              for count in [max((r["count"] for r in of(rows, "cycle", object=name, boot="costs")
                                 if r["count"] != 1000000), default=0)]]
    return _section("Alloc, free, grace period, reclaim: instructions of the whole system",
                    _grid("per object", rows, cols, wanted))


def _path(rows, cols):
    keys = (("instructions", "instructions"), ("locked", "locked"), ("full barriers", "barriers"),
            ("other fences", "fences"), ("irq flag", "interrupts"), ("msr, in, out", "slow"),
            ("mean instructions", "mean_instructions"), ("mean locked", "mean_locked"),
            ("mean barriers", "mean_barriers"), ("longest", "max_instructions"))
    return _section("Instructions by kind, single-stepped (every locked one is a full barrier too)",
                    _grid("usual call", rows, cols, [(title, "path", key, {}) for title, key in keys]))


def _nmi(rows, cols):
    keys = (("self-IPIs per 1000", "ipis_per_1000"), ("irq_works per 1000", "irq_works_per_1000"),
            ("self-IPIs, with the barrier", "ipis_with_barrier"),
            ("irq_works, with the barrier", "irq_works_with_barrier"))
    for row in of(rows, "nmi"):
        if not row["irq_works_counted"]:
            row["irq_works_per_1000"] = row["irq_works_with_barrier"] = None
    return _section("What frees in NMI cause",
                    _grid("one free per NMI", rows, cols, [(title, "nmi", key, {}) for title, key in keys]))


def _stretch(rows, cols):
    keys = (("irq_work", "irq_work"), ("timer interrupt", "timer"), ("RCU softirq", "rcu_softirq"),
            ("timer softirq", "timer_softirq"))
    return _section("Longest interrupt and softirq, instructions",
                    _grid("longest", rows, cols, [(title, "stretch", key, {}) for title, key in keys]))


def _memory(rows, cols):
    wanted = []
    for boot, title in (("costs", ""), ("volume", "10^7: ")):
        wanted += [(f"{title}peak KiB", "series", "peak_kib", {"boot": boot}),
                   (f"{title}of all memory", "series", "peak_all_kib", {"boot": boot}),
                   (f"{title}left KiB", "series", "left_kib", {"boot": boot}),
                   (f"{title}grace periods", "series", "grace_periods", {"boot": boot})]
    for row in of(rows, "series"):
        row["peak_kib"], row["left_kib"] = row["peak_bytes"] // 1024, row["left_bytes"] // 1024
        row["peak_all_kib"] = row["peak_available_bytes"] // 1024
    wanted.append(("grace periods per 10^6", "cycle", "grace_periods_per_million",
                   {"object": "kmalloc-64", "boot": "costs"}))
    out = _grid("memory", rows, cols, wanted)
    engines = [[row["engine"], row["percpu_bytes"], row["module_bytes"]] for row in of(rows, "memory", boot="costs")]
    unique = [line for i, line in enumerate(engines) if line not in engines[:i]]
    if unique:
        out += table(["static memory", "bytes per CPU", "bytes of the module"], unique)
    return _section("Memory and grace periods", out)


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
        ratio = ratios(rows, boot, "ns")
        some = of(rows, "scale", boot=boot)[0]
        lines = []
        for column in cols:
            if column in times:
                spread = (max(each[column]) - min(each[column])) / times[column]
                lines.append([_label(column), f"{times[column] / 1e6:.1f}", f"{ratio[column]:.2f}",
                              f"{100 * spread:.0f} %", f"{periods[column]:.0f}",
                              len(each[column])])
        title = (f"{some['nthreads']} threads x {some['loops']} loops x {some['alloc_num']}")
        out += table([title, unit, "ratio", "spread", "batches", "rounds"], lines)
    return _section("rcuscale's kfree_rcu_test: wall time, and instructions of both CPUs", out)


def _sheaves(rows, _):
    """Objects that go round: caches with sheaves, and what the kernel has."""
    ways = []
    for row in of(rows, "pair") + of(rows, "recycle") + of(rows, "sheafscale"):
        way = (row["functions"], row["engine"])
        if way not in ways and row["functions"] != "nothing":
            ways.append(way)
    ways.sort(key=lambda way: way[1] != "kernel")

    def value(kind, way, key, **wanted):
        found = of(rows, kind, functions=way[0], engine=way[1], **wanted)
        return found[-1].get(key) if found else None

    # What the NMIs themselves cost is in both.
    empty = of(rows, "recycle", functions="nothing", context="nmi")
    lines, scale = [], []
    for way in ways:
        label = way[0] if way[1] == "kernel" else f"{way[1]}: {way[0]}"
        cells = [value("pair", way, key, context=context)
                 for context in ("task", "nmi") for key in ("alloc_cost", "free_cost")]
        cells.append(value("recycle", way, "median", context="task"))
        in_nmi = value("recycle", way, "median", context="nmi")
        cells.append(in_nmi - empty[-1]["median"] if in_nmi is not None and empty else None)
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
                *table(["", "alloc", "free", "alloc in NMI", "free in NMI", "whole cycle", "cycle in NMI"], lines)]
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
        value = found[0][key] if found and not (kind == "cycle" and found[0].get("kept")) else None
        return costs.NONE if value is None else f"{value:.3g}"

    ways = dict.fromkeys((row["engine"], row["functions"]) for row in of(rows, "pair")
                         if row["functions"] != "nothing" and row["engine"] in ("kernel", "lockless"))
    calls = [[costs.label(engine, free),
              *(value(words, key, free=free, engine=engine) for _, words, key, _ in costs.CALLS)]
             for free, engine in cols if free not in ("kfree", "kfree_bulk", "rcu_ptr_try_kfree_nolock",
                                                      "rcu_ptr_call_sleepable")]
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
    for part in (_calls, _kept, _latency, _path, _cycles, _growth, _nmi, _stretch,
                 _memory, _parallel, _scale, _sheaves, _readme):
        out += part(rows, cols)
    krc = kernel.get("krc_bytes_per_cpu")
    if krc:
        out += [f"The kernel's kfree_rcu() has {krc} bytes per CPU (krc) beside its sheaves.", ""]
    if record["failures"]:
        out += ["## Failures", "", *(f"- {line}" for line in record["failures"]), ""]
    return "\n".join(out)
