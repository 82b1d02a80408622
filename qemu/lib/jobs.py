# SPDX-License-Identifier: GPL-2.0
"""The boots of 'make test' and 'make test-all', and their order. qemu/jobs describes its columns."""

import os
import queue
import sys
import threading
import time

from . import boot, verdict
from .base import QEMU, SetupError, read
from .plan import scenario_names
from .scenario import Scenario, parse_settings

FILE = QEMU / "jobs"
SETS = ("test", "all")
LENGTHS = ("short", "full")


class Job:
    def __init__(self, words, where):
        if len(words) < 6:
            raise SetupError(f"{where}: write SET NAME SCENARIO PLAN LENGTH MINUTES [KEY=VALUE...]")
        self.set, self.name, self.scenario, self.plan, self.length, minutes, *how = words
        # Settings that override those of the scenario.
        self.settings = parse_settings("\n".join(how), where)
        if self.set not in SETS or self.length not in LENGTHS or not minutes.isdigit():
            raise SetupError(f"{where}: '{' '.join(words)}': there are sets {', '.join(SETS)}, lengths "
                             f"{', '.join(LENGTHS)}, and whole minutes")
        if self.scenario not in scenario_names():
            raise SetupError(f"{where}: there is no scenario '{self.scenario}'")
        self.minutes = int(minutes)


def parse(text, name=FILE):
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
    """The jobs of a set, of all scenarios or some."""
    jobs = [job for job in parse(read(FILE)) if job.set == which]
    return [job for job in jobs if not scenarios or job.scenario in scenarios]


class Feed:
    """Reads scenarios, a line each, as they become ready."""

    def __init__(self, file, make=Scenario):
        self._lines = queue.Queue()
        self._make = make
        # {name: scenario} of those read so far.
        self.ready = {}
        self.ended = False
        threading.Thread(target=self._read, args=(file,), daemon=True).start()

    def _read(self, file):
        for line in file:
            self._lines.put(line.strip())
        self._lines.put(None)

    def take(self, timeout):
        """Processes the lines that have arrived; with a timeout, waits for one."""
        try:
            line = self._lines.get(timeout is not None, timeout)
            while not self.ended:
                if line is None:
                    self.ended = True
                else:
                    self.ready[line.split(":")[0]] = self._make(line)
                    line = self._lines.get_nowait()
        except queue.Empty:
            pass


class Lanes:
    """Runs two boots at a time: one whose guest has a thread for each CPU, and one whose CPUs share a thread. The
    second uses one CPU of the host, and under -icount its results do not depend on the load. A lane without jobs
    of its kind runs one of the other kind. 'make -j' can't do this: which job is next depends on what is built,
    on the kinds of the running boots, and on the time left."""

    NAMES = ("multi", "single")

    def __init__(self):
        self._done = queue.Queue()
        self._threads = {}
        self._cpus = {}

    def is_free(self, lane):
        return lane not in self._threads

    def choose(self, job, kinds, cpus):
        """The lane for a job, or None. kinds: the kind of each job that could start now, by name; cpus: those of the
        job. A lane of the other kind is used only while all guests have at most two CPUs for each one of the host."""
        own = kinds[job.name]
        if self.is_free(own):
            return own
        other = next(name for name in self.NAMES if name != own)
        if not self.is_free(other) or other in kinds.values():
            return None
        return other if sum(self._cpus.values()) + cpus <= 2 * os.cpu_count() else None

    def busy(self):
        return bool(self._threads)

    def start(self, lane, run):
        def work():
            result = None
            try:
                result = run.go()
            finally:
                self._done.put((lane, run, result))
        self._cpus[lane] = run.scenario.settings["smp"]
        self._threads[lane] = threading.Thread(target=work)
        self._threads[lane].start()

    def take(self, timeout):
        """Returns the verdict of a boot that ended, or None after the timeout."""
        try:
            lane, run, result = self._done.get(timeout=timeout)
        except queue.Empty:
            return None
        self._threads.pop(lane).join()
        self._cpus.pop(lane)
        if result is None:
            raise RuntimeError(f"{run.name}: see above")
        print(f"logs: {run.folder}", file=sys.stderr)
        return result

    def stop(self):
        boot.STOP.set()
        for thread in self._threads.values():
            thread.join()


def choose(pending, feed, is_free, until):
    """The next job and None, or a job that is not booted and its verdict; (None, None) if no job is ready whose
    lane is free."""
    feed.take(None)
    for job in pending:
        if until and time.time() + 60 * job.minutes > until:
            return job, verdict.left_out(job.name, f"no time: it takes {job.minutes} minutes")
        if job.scenario in feed.ready:
            if is_free(job):
                return job, None
        elif feed.ended:
            return job, verdict.unbuilt(job.name, f"there are no kernel and modules of {job.scenario}")
    return None, None
