# SPDX-License-Identifier: GPL-2.0
"""Repeats a seed under gdb: QEMU's gdbstub stops the machine from outside, so the run up to there is the one that
failed. The console until then is compared with that of a boot without gdb.

The first boot, without gdb, gives the addresses of the modules, which follow from the seed as well. gdb stops in
rcu_ptr_torture_failed(), and where the kernel warns, oopses or panics. These functions are not in pages of code
that runs otherwise, as QEMU executes a page with a breakpoint in single instructions.
"""

import subprocess
import sys
import threading

from ..base import ROOT, program

# Functions to stop at; those that the kernel lacks are skipped.
SIGNS = ("rcu_ptr_torture_failed", "__warn", "oops_begin", "die", "vpanic", "panic", "kasan_report",
         "print_report")
SOCKET = "gdb.sock"
SECONDS = 1800


def _script(booter, sections, batch):
    scen = booter.scenario
    lines = ["set pagination off", "set confirm off", "set width 0", f"file {scen.kdir}/vmlinux",
             # Paths of sources in modules are relative to the top of the tree.
             f"directory {ROOT}"]
    for name, path in booter.modules.items():
        found = sections.get(name.removesuffix(".ko"))
        if found:
            others = " ".join(f"-s {section} {address}" for section, address in found.items()
                              if section != ".text")
            lines.append(f"add-symbol-file {path} {found['.text']} {others}")
    lines.append(f"target remote {SOCKET}")
    if booter.shortcut:
        lines += booter.shortcut.gdb
    path = scen.kdir / "System.map"
    # Distributions don't ship it: there gdb stops at rcu_ptr_torture_failed() only.
    lines_of_map = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    symbols = {line.split()[2] for line in lines_of_map}
    for sign in SIGNS:
        if sign in symbols or sign.startswith("rcu_ptr"):
            lines.append(f"break *(&{sign})" if sign in symbols else f"break {sign}")
    lines.append("continue")
    if batch:
        lines += ["echo \\n---- every CPU ----\\n", "thread apply all bt 16",
                  "echo \\n---- here ----\\n", "bt", "kill"]
    return "".join(line + "\n" for line in lines)


def run(booter, case, batch):
    """Returns the exit code: 0 if it failed again, in the same way."""
    gdb = program(["gdb-multiarch", "gdb"], "gdb-multiarch")
    print(f"seed {case.seed} without gdb ({case.describe()})", flush=True)
    first = booter.go(case)
    for text in first.what():
        print(f"  {text}")
    if first.good:
        print(f"seed {case.seed} doesn't fail here: digest {first.digest}", flush=True)
        return 1
    folder = booter.folder(case)
    (folder / "gdb.script").write_text(_script(booter, first.sections, batch), encoding="utf-8")
    stub = ["-chardev", f"socket,id=gdb,path={SOCKET},server=on,wait=off", "-gdb", "chardev:gdb", "-S"]
    results = []

    def guest():
        results.append(booter.go(case, stub, SECONDS))

    thread = threading.Thread(target=guest)
    thread.start()
    try:
        while thread.is_alive() and not (folder / SOCKET).exists():
            thread.join(0.05)
        command = [gdb, "-q", "-nx", "-iex", "set auto-load off", *(["-batch"] if batch else []),
                   "-x", "gdb.script"]
        print(f"in {folder}: {' '.join(command)}", flush=True)
        subprocess.run(command, cwd=folder, check=False,
                       stdin=subprocess.DEVNULL if batch else sys.stdin)
    finally:
        thread.join(SECONDS)
        (folder / SOCKET).unlink(missing_ok=True)
    return _compare(first, results[0])


def _compare(first, again):
    """Whether the console up to the stop is the same as in the first boot."""
    # The last line may be incomplete.
    here = again.lines[:-1]
    same = first.lines[:len(here)] == here
    if same:
        print(f"the console was the same under gdb: {len(here)} lines")
        return 0
    number, here, there = again.differs(first)
    print(f"NOT the same run under gdb, from line {number} on:\n  {there}\n  {here}")
    return 1
