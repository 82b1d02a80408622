# SPDX-License-Identifier: GPL-2.0
"""A distribution's bpftrace for the guest: the program, its libraries, and scripts/bpftrace/."""

import pathlib
import subprocess

from .errors import SetupError

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts" / "bpftrace"
LOADER = "lib64/ld-linux-x86-64.so.2"
FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib/llvm-*/lib")


def _libraries(root, program):
    """Paths of all that it is linked against, as its own loader finds them."""
    folders = [str(folder) for name in FOLDERS for folder in sorted(root.glob(name))]
    loader = root / "usr" / LOADER
    done = subprocess.run([loader, "--library-path", ":".join(folders), "--list", program], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    found = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if "=>" in words and words[2].startswith("/"):
            found[words[0]] = pathlib.Path(words[2])
        elif "=>" in words:
            raise SetupError(f"bpftrace needs {words[0]}, which is not under {root}: remove that folder")
    if done.returncode or not found:
        raise SetupError(f"{program} can't be looked at: {done.stderr.strip() or 'it has no libraries'}")
    return found


def files(root):
    """(name in the guest, bytes, mode) of each."""
    program = root / "usr" / "bin" / "bpftrace"
    if not program.exists():
        raise SetupError(f"{program} is missing: PLAN=bpftrace scripts/qemu.sh fetches it")
    yield "usr/bin/bpftrace", program.read_bytes(), 0o755
    yield LOADER, (root / "usr" / LOADER).read_bytes(), 0o755
    for name, path in _libraries(root, program).items():
        yield f"lib/{pathlib.Path(name).name}", path.read_bytes(), 0o755
    for path in sorted(SCRIPTS.glob("*.bt")):
        yield f"bpftrace/{path.name}", path.read_bytes(), 0o644
