# SPDX-License-Identifier: GPL-2.0
"""Takes a console log apart: what the kernel's log said, and the marks of the guest's init.

Any script or module in the guest may print one more, behind whatever its messages start with:

    rcu_ptr_guest: nmi HZ [COUNT]    the host shall inject NMIs, at most COUNT; 'nmi 0' ends it
"""

import re

STAMP = re.compile(r"^(?:<\d+>)?\[\s*(\d+\.\d+)\](?:\[\s*[TC]\d+\])? ?(.*)$")
MARK = re.compile(r"^rcu_ptr_guest: (init|end|step (\d+) rc=(\d+)|step (\d+)/(\d+) (.*))$")
# A module can't be unloaded: what is behind this step did not run.
STOP = re.compile(r"^rcu_ptr_guest: stop (\d+): (.*)$")
NMI = re.compile(r"\brcu_ptr_guest: nmi (\d+)(?: (\d+))?$")
ENGINE = re.compile(r"^rcu_ptr: engine (\w+)")
REPLAY = "** replaying previous printk message **"


class Line:
    __slots__ = ("raw", "time", "text")

    def __init__(self, raw):
        self.raw = raw.rstrip("\r\n")
        found = STAMP.match(self.raw)
        self.time = found.group(1) if found else None
        self.text = found.group(2) if found else self.raw


def lines(data):
    """Splits what came over the serial line; bytes that are no text don't matter.

    Where the console was taken away from a message, in the middle, at its end or before it began, the
    kernel prints all of it again: what there was of it before is left out.
    """
    found = []
    again = False
    for raw in data.decode("utf-8", "replace").split("\n"):
        text = raw.rstrip()
        if text.endswith(REPLAY):
            again = True
        elif text:
            if again and found and raw.startswith(found[-1].raw):
                del found[-1]
            again = False
            found.append(Line(raw))
    return found


class Marks:
    """How far the guest's init came."""

    def __init__(self, console):
        self.init = self.end = False
        self.started = []
        self.codes = {}
        # Step to the line that says how it ended.
        self.lines = {}
        # The last step that ran, of those that were to, and why.
        self.stop = self.why = None
        # Step to the engine that it brought up.
        self.engines = {}
        for number, line in enumerate(console):
            engine, stop, found = (regex.match(line.text) for regex in (ENGINE, STOP, MARK))
            if engine and self.started:
                self.engines[self.started[-1]] = engine.group(1)
            elif stop:
                self.stop, self.why = int(stop.group(1)), stop.group(2)
            elif found and found.group(2):
                self.codes[int(found.group(2))] = int(found.group(3))
                self.lines[int(found.group(2))] = number
            elif found and found.group(4):
                self.started.append(int(found.group(4)))
            elif found:
                setattr(self, found.group(1), True)


def dmesg(console):
    """The kernel's log, as text. The guest boots with ignore_loglevel: all of it is there."""
    return "".join(line.raw + "\n" for line in console if line.time is not None)
