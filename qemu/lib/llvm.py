# SPDX-License-Identifier: GPL-2.0
"""Runs a program of LLVM's over a file."""

import subprocess

from .errors import SetupError


def run(argv, path, mends, text=None):
    """What argv says of path; text: its input, mends: what mends it where there is no such program."""
    try:
        done = subprocess.run(argv, input=text, check=False, capture_output=True, text=True)
    except OSError as error:
        raise SetupError(f"{argv[0]}: {error.strerror}: {mends}") from error
    if done.returncode:
        raise SetupError(f"{argv[0]} can't read {path}: {done.stderr.strip()}")
    return done.stdout
