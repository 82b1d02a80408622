# SPDX-License-Identifier: GPL-2.0
"""The lists of suites that must have run: expected/PLAN, and expected/PLAN.SCENARIO on top of it."""

import pathlib

from .errors import SetupError

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "expected"


def parse(text):
    """One suite name a line; one that stands there twice must run twice."""
    names = [line.split("#", 1)[0].strip() for line in text.splitlines()]
    return [name for name in names if name]


def load(verb, scenario, folder=FOLDER):
    """The suites for a plan ('run' or 'test') and a scenario."""
    path = folder / verb
    if not path.exists():
        raise SetupError(f"{path} is missing: without it nobody would notice a suite that didn't run")
    names = parse(path.read_text(encoding="utf-8"))
    more = folder / f"{verb}.{scenario}"
    if more.exists():
        names += parse(more.read_text(encoding="utf-8"))
    return names
