# SPDX-License-Identifier: GPL-2.0
"""Parses a console log: the kernel's log, and the marks of the guest's init.

Any script or module in the guest may print one more mark, also after a prefix:

    rcu_ptr_guest: nmi HZ [COUNT]    asks the host to inject NMIs, at most COUNT; 'nmi 0' stops it
"""

import re

STAMP = re.compile(r"^(?:<\d+>)?\[\s*(\d+\.\d+)\](?:\[\s*[TC]\d+\])? ?(.*)$")
MARK = re.compile(r"^rcu_ptr_guest: (init|end|step (\d+) rc=(\d+)|step (\d+)/(\d+) (.*))$")
# A module can't be unloaded: the steps after this one did not run.
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
    """Splits the data of the serial line; bytes that are no text are replaced.

    If another context takes over the console during a message, the kernel prints the message again as a whole:
    its first part is dropped.
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
    """The progress of the guest's init."""

    def __init__(self, console):
        self.init = self.end = False
        self.started = []
        self.codes = {}
        # {step: the line with its exit code}
        self.lines = {}
        # (The last step that ran, the reason), if the guest stopped there.
        self.stop = self.why = None
        # {step: the engine that it loaded}
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
    """The kernel's log, as text; complete, as the guest boots with ignore_loglevel."""
    return "".join(line.raw + "\n" for line in console if line.time is not None)
