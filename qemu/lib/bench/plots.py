# SPDX-License-Identifier: GPL-2.0
"""Plots of the results, as SVG and PNG."""

from . import tables
from .results import of

STYLES = {"kfree_nolock": "--", "kfree_rcu_nolock": "--", "call_rcu": ":", "kfree": "-.",
          "try_kfree_nolock": ":", "call": "-."}
COLOURS = {"kernel": "#888888", "rfc": "#1f77b4", "lockless": "#d62728"}


def _pyplot():
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    # So that the same input gives the same file.
    matplotlib.rcParams["svg.hashsalt"] = "rcu_ptr"
    from matplotlib import pyplot
    return pyplot


def _name(column):
    free, engine = column
    return f"{free}(), {'Linux' if engine == 'kernel' else 'engine ' + engine}"


def _save(figure, folder, name):
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=110)


def _pending(plt, rows, folder):
    series = of(rows, "series", boot="costs")
    if not series:
        return
    figure, both = plt.subplots(1, 2, figsize=(11, 4), gridspec_kw={"width_ratios": [3, 2]})
    for axes, title in zip(both, ("while objects are freed", "and afterwards, with nothing to do")):
        for row in series:
            # Bytes as a number of objects.
            axes.plot([t / 1000 for t, _ in row["samples"]], [b / row["size"] for _, b in row["samples"]],
                      label=_name((row["free"], row["engine"])), color=COLOURS.get(row["engine"]), linewidth=1.2)
        axes.set_title(title)
        axes.set_xlabel("million instructions (ms under -icount)")
        axes.grid(alpha=0.3)
    both[0].set_xlim(0, max(row["busy_us"] for row in series) / 1000 * 1.15)
    both[0].set_ylabel(f"slab memory, in {series[0]['size']}-byte objects")
    both[0].legend(fontsize=8)
    _save(figure, folder, "pending")
    plt.close(figure)


def _cpus(plt, rows, folder):
    found = of(rows, "parallel")
    if not found:
        return
    figure, axes = plt.subplots(figsize=(9.5, 4.2))
    for column in tables.columns(found):
        mine = sorted(of(found, "parallel", free=column[0], engine=column[1]),
                      key=lambda row: row["cpus"])
        axes.plot([row["cpus"] for row in mine], [row["median"] for row in mine], marker="o",
                  markersize=3, label=_name(column), color=COLOURS.get(column[1]),
                  linestyle=STYLES.get(column[0].removeprefix("rcu_ptr_"), "-"))
    axes.set_xscale("log", base=2)
    ticks = sorted({row["cpus"] for row in found})
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("CPUs, all of them freeing")
    axes.set_ylabel("instructions per call")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, folder, "cpus")
    plt.close(figure)


def draw(record, folder):
    """Draws the plots that there are results for. Returns a message if it can't."""
    plt = _pyplot()
    if not plt:
        return "no plots: python3-matplotlib is missing (apt-get install python3-matplotlib)\n"
    _pending(plt, record["results"], folder)
    _cpus(plt, record["results"], folder)
    return ""
