# SPDX-License-Identifier: GPL-2.0
"""The instructions of the usual call as a listing, disassembled by binutils from the bytes that were
executed. What it says of locks and barriers must agree with what the module has counted."""

import re
import subprocess
import tempfile

# Room for an instruction of 15 bytes that begins on the last byte of another.
STRIDE = 32
LINE = re.compile(r"^\s*([0-9a-f]+):\t[^\t]*\t(.*)$")
FULL = re.compile(r"^(?:mfence|lock (?:add|or)[lq] +\$0x0,(?:-?0x[0-9a-f]+)?\(%rsp\))")


def disassemble(codes):
    """The text of the first instruction of each of these byte strings."""
    with tempfile.NamedTemporaryFile(prefix="rcu_ptr-") as file:
        for code in codes:
            file.write(code.ljust(STRIDE, b"\x90"))
        file.flush()
        out = subprocess.run(["objdump", "-D", "-z", "-b", "binary", "-m", "i386:x86-64", file.name],
                             check=True, capture_output=True, text=True).stdout
    found = {}
    for line in out.splitlines():
        match = LINE.match(line)
        if match:
            found[int(match.group(1), 16)] = match.group(2).split("#")[0].strip()
    return [found.get(i * STRIDE, "(bad)") for i in range(len(codes))]


def write(rows, path):
    """Writes the listings of all functions. Returns where they disagree with the module."""
    wrong, out = [], []
    for row in rows:
        steps = row.get("steps")
        if row["kind"] != "path" or not steps:
            continue
        texts = disassemble([bytes.fromhex(step["bytes"]) for step in steps])
        full = sum(1 for text in texts if FULL.match(text))
        locked = sum(1 for text in texts if text.startswith("lock ") or
                     re.match(r"xchg[bwlq]? .*\(", text)) - sum(
                         1 for text in texts if FULL.match(text) and text.startswith("lock"))
        if (locked, full) != (row["locked"], row["barriers"]):
            wrong.append(f"path: {row['free']}: objdump finds {locked} locked instructions and {full} "
                         f"full barriers, the module {row['locked']} and {row['barriers']}")
        out.append(f"{row['free']}, engine {row['engine']}: {row['instructions']} instructions, "
                   f"{row['locked']} locked, {row['barriers']} full barriers")
        out += [f"  {step['at']:<52} {text}" for step, text in zip(steps, texts)]
        out.append("")
    if out:
        path.write_text("\n".join(out), encoding="utf-8")
    return wrong
