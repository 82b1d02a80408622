# SPDX-License-Identifier: GPL-2.0
"""Shows on stderr what a guest is at: in place on a terminal, else a line a step."""

import sys
import time

# Without a terminal, a step that takes longer than this says that it still runs.
STILL = 30.0


class Progress:
    """The display for one guest. On a terminal several share a line."""

    _drawn = []

    def __init__(self, name, out=sys.stderr):
        self._name = name
        self._out = out
        self._tty = out.isatty()
        self._started = time.monotonic()
        self._step = "booting"
        self._detail = ""
        self._shown = 0.0
        self.step("boot")

    def _prefix(self):
        seconds = int(time.monotonic() - self._started)
        return f"[{self._name} {seconds // 60:02}:{seconds % 60:02}]"

    def step(self, text):
        """The guest starts something new."""
        self._step, self._detail = text, ""
        self._shown = time.monotonic()
        if self._tty:
            self._draw()
        else:
            print(f"{self._prefix()} {text}", file=self._out, flush=True)

    def detail(self, text):
        """What it does within the step."""
        self._detail = text

    def tick(self):
        """Called now and then."""
        since = time.monotonic() - self._shown
        if self._tty and since > 0.2:
            self._draw()
        elif not self._tty and since > STILL:
            self._shown = time.monotonic()
            detail = f": {self._detail}" if self._detail else ""
            print(f"{self._prefix()} still {self._step}{detail}", file=self._out, flush=True)

    def _text(self):
        detail = f": {self._detail}" if self._detail else ""
        return f"{self._prefix()} {self._step}{detail}"

    def _draw(self):
        self._shown = time.monotonic()
        if self not in self._drawn:
            self._drawn.append(self)
        width = 100 // len(self._drawn)
        self._out.write("\r\033[K" + "  ".join(each._text()[:width] for each in self._drawn))
        self._out.flush()

    def close(self, state):
        """The guest has ended."""
        if self._tty:
            self._drawn.remove(self)
            self._out.write("\r\033[K")
        print(f"{self._prefix()} {state}", file=self._out, flush=True)
