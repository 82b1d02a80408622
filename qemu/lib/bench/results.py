# SPDX-License-Identifier: GPL-2.0
"""Reads the results of the benchmark module in the log, lines of key=value, and lists the instructions of the
usual call, disassembled by binutils from the executed bytes."""

import re
import subprocess
import tempfile

KINDS = ("call", "path", "step", "cycle", "nmi", "backlog", "series", "sample", "parallel", "scale", "pair",
         "recycle", "sheafscale", "failed", "note")
LINE = re.compile(r"^rcu_ptr_bench: (" + "|".join(KINDS) + r") (.*=.*)$")
NUMBER = re.compile(r"^-?\d+(\.\d+)?$")
# Room for an instruction of 15 bytes that begins on the last byte of another one.
STRIDE = 32
DISASSEMBLED = re.compile(r"^\s*([0-9a-f]+):\t[^\t]*\t(.*)$")
FULL = re.compile(r"^(?:mfence|lock (?:add|or)[lq] +\$0x0,(?:-?0x[0-9a-f]+)?\(%rsp\))")


def _value(key, text):
    if key not in ("bytes", "ip", "at", "values") and NUMBER.match(text):
        return float(text) if "." in text else int(text)
    return text


def parse(texts, boot):
    """Returns a list of dicts: kind, boot, and the keys of the line."""
    found = []
    for text in texts:
        match = LINE.match(text)
        if not match:
            continue
        row = {"kind": match.group(1), "boot": boot}
        for word in match.group(2).split(" "):
            key, equals, value = word.partition("=")
            if equals:
                row[key] = _value(key, value)
        found.append(row)
    return _joined(found)


def _joined(rows):
    """Adds the samples of a series and the steps of a path, which are lines of their own, to the row that they
    belong to."""
    kept = []
    for row in rows:
        last = kept[-1] if kept else {}
        if row["kind"] == "step":
            last.get("steps", []).append({"at": row["at"], "bytes": str(row["bytes"])})
        elif row["kind"] == "sample":
            last.get("samples", []).extend([int(n) for n in pair.split(":")] for pair in str(row["values"]).split(","))
        else:
            kept.append(row | {"path": {"steps": []}, "series": {"samples": []}}.get(row["kind"], {}))
    return kept


def of(rows, kind, **wanted):
    """The rows of one kind that have these values."""
    return [row for row in rows if row["kind"] == kind
            and all(row.get(key) == value for key, value in wanted.items())]


def _disassemble(codes):
    """The text of the first instruction of each of these byte strings."""
    with tempfile.NamedTemporaryFile(prefix="rcu_ptr-") as file:
        for code in codes:
            file.write(code.ljust(STRIDE, b"\x90"))
        file.flush()
        out = subprocess.run(["objdump", "-D", "-z", "-b", "binary", "-m", "i386:x86-64", file.name],
                             check=True, capture_output=True, text=True).stdout
    found = {}
    for line in out.splitlines():
        match = DISASSEMBLED.match(line)
        if match:
            found[int(match.group(1), 16)] = match.group(2).split("#")[0].strip()
    return [found.get(i * STRIDE, "(bad)") for i in range(len(codes))]


def list_paths(rows, path):
    """Writes the listings of all functions. Returns differences to the module's counts of locks and barriers."""
    wrong, out = [], []
    for row in rows:
        steps = row.get("steps")
        if row["kind"] != "path" or not steps:
            continue
        texts = _disassemble([bytes.fromhex(step["bytes"]) for step in steps])
        full = sum(1 for text in texts if FULL.match(text))
        locked = sum(1 for text in texts if text.startswith("lock ") or
                     re.match(r"xchg[bwlq]? .*\(", text)) - sum(
                         1 for text in texts if FULL.match(text) and text.startswith("lock"))
        if (locked, full) != (row["locked"], row["barriers"]):
            wrong.append(f"path: {row['free']}: objdump finds {locked} locked instructions and {full} "
                         f"full barriers, the module {row['locked']} and {row['barriers']}")
        out.append(f"{row['free']}, engine {row['engine']}: {row['instructions']} instructions, "
                   f"{row['locked']} locked, {row['barriers']} full barriers")
        # Around the loop the module reads clocks and turns stepping on and off.
        loop = [i for i, step in enumerate(steps) if "run_loop" in step["at"]] or [0, len(steps) - 1]
        out += [f"  {step['at']:<52} {text}" for step, text in list(zip(steps, texts))[loop[0]:loop[-1] + 1]]
        out.append("")
    if out:
        path.write_text("\n".join(out), encoding="utf-8")
    return wrong
