# SPDX-License-Identifier: GPL-2.0
"""What all parts stand on: where files are, and the error that says what is missing."""

import argparse
import pathlib
import shutil
import signal
import subprocess
import sys

QEMU = pathlib.Path(__file__).resolve().parent.parent
ROOT = QEMU.parent


class SetupError(Exception):
    """Something is missing or misused. The text says what, and what mends it."""


def main(work, args):
    """Ends with the exit code that work(args) says: 2 if something is missing or misused."""
    name = f"qemu/{pathlib.Path(sys.argv[0]).name}"
    # So that guests end as well, and their logs are closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(work(args))
    except SetupError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        sys.exit(1)


def read(path):
    """The text of a file that has to be there."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from error


def program(names, package):
    """The path of a program, by the first of these names that there is."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise SetupError(f"{names[0]} is missing: install the package {package}")


def llvm(argv, path, mends, text=None):
    """What a program of LLVM's says of path; text: its input, mends: what mends it where there is no such
    program."""
    try:
        done = subprocess.run(argv, input=text, check=False, capture_output=True, text=True)
    except OSError as error:
        raise SetupError(f"{argv[0]}: {error.strerror}: {mends}") from error
    if done.returncode:
        raise SetupError(f"{argv[0]} can't read {path}: {done.stderr.strip()}")
    return done.stdout


def parser(doc, scenario=True):
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if scenario:
        made.add_argument("--scenario", action="append", default=[], metavar="NAME:KDIR:MODDIR[:BUSYBOX]",
                          help="kernel build, modules built for it, the guest's busybox; repeatable")
    return made
