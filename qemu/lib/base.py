# SPDX-License-Identifier: GPL-2.0
"""Shared by all programs: paths, exit codes, and the error for a wrong set-up."""

import argparse
import pathlib
import shutil
import signal
import subprocess
import sys

QEMU = pathlib.Path(__file__).resolve().parent.parent
ROOT = QEMU.parent


class SetupError(Exception):
    """Something is missing or misused. The text states what, and the remedy."""


def main(work, args):
    """Exits with the code that work(args) returns, or with 2 after a SetupError."""
    name = f"qemu/{pathlib.Path(sys.argv[0]).name}"
    # So that guests are terminated too, and their logs closed.
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
    """The text of a file; a SetupError if it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from error


def program(names, package):
    """The path of the first of these programs that is installed."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise SetupError(f"{names[0]} is missing: install the package {package}")


def llvm(argv, path, mends, text=None):
    """The output of one of LLVM's programs for path. text: its input; mends: the remedy if it is missing."""
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
