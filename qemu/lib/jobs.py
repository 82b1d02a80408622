# SPDX-License-Identifier: GPL-2.0
"""The boots of 'make test' and 'make test-all': qemu/jobs says what its columns are."""

import pathlib

from . import settings
from .errors import SetupError
from .plan import scenario_names

FILE = pathlib.Path(__file__).resolve().parent.parent / "jobs"
SETS = ("test", "all")
LENGTHS = ("short", "full")


class Job:
    """A line of it."""

    def __init__(self, words, where):
        if len(words) < 6:
            raise SetupError(f"{where}: write SET NAME SCENARIO PLAN LENGTH MINUTES [KEY=VALUE...]")
        self.set, self.name, self.scenario, self.plan, self.length, minutes, *how = words
        # How the machine is started, where not as the scenario says.
        self.settings = settings.parse("\n".join(how), where)
        if self.set not in SETS or self.length not in LENGTHS or not minutes.isdigit():
            raise SetupError(f"{where}: '{' '.join(words)}': there are sets {', '.join(SETS)}, lengths "
                             f"{', '.join(LENGTHS)}, and whole minutes")
        if self.scenario not in scenario_names():
            raise SetupError(f"{where}: there is no scenario '{self.scenario}'")
        self.minutes = int(minutes)


def parse(text, name=FILE):
    """All jobs."""
    jobs = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if words:
            jobs.append(Job(words, f"{name}:{number}"))
    names = [job.name for job in jobs]
    for job in jobs:
        if names.count(job.name) > 1:
            raise SetupError(f"{name}: two jobs are called {job.name}")
    return jobs


def load(which, scenarios=()):
    """The jobs of a set, those of some scenarios only."""
    jobs = [job for job in parse(FILE.read_text(encoding="utf-8")) if job.set == which]
    return [job for job in jobs if not scenarios or job.scenario in scenarios]
