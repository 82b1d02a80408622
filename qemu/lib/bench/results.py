# SPDX-License-Identifier: GPL-2.0
"""Reads what the benchmark module said in the log: lines of key=value."""

import re

KINDS = ("call", "latency", "path", "step", "cycle", "nmi", "stretch", "series", "sample", "parallel",
         "scale", "pair", "recycle", "sheafscale", "memory", "engines", "failed", "note")
LINE = re.compile(r"^rcu_ptr_bench: (" + "|".join(KINDS) + r") (.*=.*)$")
TOTAL = re.compile(r"^rcu_ptr_bench: Total time taken by all kfree'ers: .*")
NUMBER = re.compile(r"^-?\d+(\.\d+)?$")


def _value(key, text):
    if key not in ("bytes", "ip", "at", "values") and NUMBER.match(text):
        return float(text) if "." in text else int(text)
    return text


def parse(texts, boot):
    """Returns a list of dicts: kind, boot, and what the line said."""
    found = []
    for text in texts:
        match = LINE.match(text)
        if not match or TOTAL.match(text):
            continue
        row = {"kind": match.group(1), "boot": boot}
        for word in match.group(2).split(" "):
            key, equals, value = word.partition("=")
            if equals:
                row[key] = _value(key, value)
        found.append(row)
    return _joined(found)


def _joined(rows):
    """Puts the samples of a series and the steps of a path, which come in lines of their own, into
    the line about it."""
    kept = []
    series = path = None
    for row in rows:
        if row["kind"] == "step":
            if path is not None and path["free"] == row["free"]:
                path["steps"].append({"at": row["at"], "bytes": str(row["bytes"])})
            continue
        if row["kind"] == "path":
            path = row
            row["steps"] = []
        if row["kind"] == "sample":
            if series is not None and series["free"] == row["free"]:
                series["samples"] += [[int(n) for n in pair.split(":")]
                                      for pair in str(row["values"]).split(",")]
            continue
        if row["kind"] == "series":
            series = row
            row["samples"] = []
        kept.append(row)
    return kept


def of(rows, kind, **wanted):
    """The rows of one kind that have these values."""
    return [row for row in rows if row["kind"] == kind
            and all(row.get(key) == value for key, value in wanted.items())]
