# SPDX-License-Identifier: GPL-2.0
"""The console logs that the runner is tested on: two whole ones, golden/*.log, and edits of them,
golden/edits.txt, which says how they are written."""

import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parent / "golden"
STAMP = re.compile(r"^\[ *\d+\.\d{6}\] ")
# Where times start, and how far lines are apart.
START, STEP = 0.1, 0.013


class Log:
    """A log, and what the runner must say about it."""

    def __init__(self, base):
        self._lines = _whole(base)
        # Where edits are.
        self._at = 0
        self.want = {"ended": "exited", "code": "0", "failed": [], "skip": []}

    def take(self, line):
        """One line of edits.txt."""
        sign, text = line[0], line[2:]
        if line == "-...":
            del self._lines[self._at:]
        elif sign == "+":
            self._lines.insert(self._at, text)
            self._at += 1
        elif sign in "=-":
            # A line that is not there is an edit of another log.
            self._at = self._lines.index(text, self._at)
            if sign == "-":
                del self._lines[self._at]
            else:
                self._at += 1
        else:
            key, _, value = line.partition(": ")
            if isinstance(self.want.get(key), list):
                self.want[key].append(value)
            else:
                self.want[key] = value

    def data(self):
        """As it comes from the console."""
        caller = f"[{self.want['caller']:>5}]" if "caller" in self.want else ""
        newline = "\n" if self.want.get("newlines") == "plain" else "\r\n"
        stamped = (text[1:] if text.startswith("|") else
                   f"[{START + STEP * number:12.6f}]{caller} {text}"
                   for number, text in enumerate(self._lines))
        return (newline.join(stamped) + "\n").encode()


def _whole(name):
    text = (FOLDER / f"{name}.log").read_text(encoding="utf-8")
    return [STAMP.sub("", line) if STAMP.match(line) else f"|{line}" for line in text.splitlines()]


def _read():
    logs = {}
    log = None
    for line in (FOLDER / "edits.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            name, _, base = line[3:].partition(" of ")
            log = logs[name] = Log(base)
        elif line and not line.startswith("#"):
            log.take(line)
    return logs


LOGS = _read()


def data(name):
    """The bytes of one of them."""
    return LOGS[name].data()
