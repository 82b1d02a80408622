# SPDX-License-Identifier: GPL-2.0
"""The console logs for tests of the runner; golden/edits.txt describes their syntax."""

import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parent / "golden"
STAMP = re.compile(r"^\[ *\d+\.\d{6}\] ")
# The first time stamp, and the distance between lines.
START, STEP = 0.1, 0.013
# Keys that an edited log inherits.
INHERITED = ("plan", "cases", "newlines", "engine")


class Log:
    """A log, and the expected verdict."""

    def __init__(self, lines, base=None):
        self._lines = lines
        # The position of the next edit.
        self._at = 0
        self._base = base
        inherited = {key: base.want[key] for key in INHERITED if key in base.want} if base else {}
        self.want = {"engine": "rfc", **inherited, "ended": "exited", "failed": [], "skip": []}

    @classmethod
    def whole(cls, name):
        text = (FOLDER / f"{name}.log").read_text(encoding="utf-8")
        return cls([STAMP.sub("", line) if STAMP.match(line) else f"|{line}" for line in text.splitlines()])

    def edited(self):
        """A copy of this log for edits."""
        return Log(list(self._lines), self)

    def take(self, line):
        sign, _, text = line.partition(" ")
        if line == "-...":
            del self._lines[self._at:]
        elif sign == "+":
            self._lines.insert(self._at, text)
            self._at += 1
        elif sign in ("=", "-", "->"):
            # Raises ValueError if there is no such line.
            begin, end = self._at, self._lines.index(text, self._at)
            self._at = end + 1
            if sign != "=":
                self._at = begin if sign == "->" else end
                del self._lines[self._at:end + 1]
        else:
            key, _, value = line.partition(": ")
            if isinstance(self.want.get(key), list):
                self.want[key].append(value)
            else:
                self.want[key] = value

    def close(self):
        """Sets the default values of edits.txt."""
        failed = len(self.want["failed"])
        self.want.setdefault("code", "none" if self.want["ended"] == "timed out" else "0")
        self.want.setdefault("state", "FAIL" if failed else "PASS")
        if self._base:
            cases = sum(map(int, re.findall(r"\d+", self._base.want["counts"])))
            self.want.setdefault("counts", f"{cases - failed} passed, {failed} failed, 0 skipped")

    def data(self):
        """The data of the console."""
        caller = f"[{self.want['caller']:>5}]" if "caller" in self.want else ""
        newline = "\n" if self.want.get("newlines") == "plain" else "\r\n"
        stamped = (text[1:] if text.startswith("|") else
                   f"[{START + STEP * number:12.6f}]{caller} {text}"
                   for number, text in enumerate(self._lines))
        return (newline.join(stamped) + "\n").encode()


def _read():
    logs = {}
    log = None
    for line in (FOLDER / "edits.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            if log:
                log.close()
            name, _, base = line[3:].partition(" of ")
            log = logs[name] = logs[base].edited() if base else Log.whole(name)
        elif line and not line.startswith("#"):
            log.take(line)
    log.close()
    return logs


LOGS = _read()


def data(name):
    return LOGS[name].data()
