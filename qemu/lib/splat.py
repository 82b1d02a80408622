# SPDX-License-Identifier: GPL-2.0
"""Finds reports of errors in a kernel log.

splat-deny.txt has a regular expression a line, each after at least one '# sample: ' line that it must
match; splat-allow.txt too, each after a '# YYYY-MM-DD why' line. The deny list is tried on its samples
before each use: a check that doesn't work must not look like a clean log.

Every line that the deny list matches is the headline of a report, wherever it is, as reports of other CPUs
may be in the middle of one. Only between 'cut here' and 'WARNING:' such a line may be the message of that
warning; the patterns for these are below a line '# message'.

A test that provokes a splat prints BEGIN and a regular expression before it, END after it: in between
exactly one headline must match, and only that one is allowed. If one error causes several reports, there is
a regular expression for each, separated by ' ;; '. With '+ ' in front of it, one or more must match.

rcutorture's console-badness.sh has such a list too, but no reports that are expected, no samples, and no
reports inside others.
"""

import re

from .base import QEMU, SetupError, read

SAMPLE = "# sample: "
DATED = re.compile(r"^# \d{4}-\d\d-\d\d \S")
BEGIN = re.compile(r"^rcu_ptr: expect-splat begin (.*)$")
END = re.compile(r"^rcu_ptr: expect-splat end$")
SEPARATOR = " ;; "
SEVERAL = "+ "
MESSAGE = "# message"
CUT_HERE = "------------[ cut here ]------------"
WARNING = "WARNING: "
# Lines of a warning's message, and of others in between.
MESSAGE_LINES = 20
# Lines that are shown with a headline.
REPORT_LINES = 40
CLEAN = (
    "rcu_ptr: engine rfc, 2 CPUs, 5 cached blocks, drain after 5000 ms",
    "    # rcu_ptr_debug: pass:3 fail:0 skip:0 total:3",
    "rcu_ptr: loading out-of-tree module taints kernel.",
    "kmemleak: Automatic memory scanning thread started",
    "reboot: Power down",
)


def _compile(line, where):
    try:
        return re.compile(line)
    except re.error as error:
        raise SetupError(f"{where}: '{line}' is no regular expression: {error}") from error


class Splat:
    """A report: its headline, including the message before a warning, and the lines after it."""

    def __init__(self, *headline):
        # The line that the deny list matched.
        self.line = headline[-1]
        # Its number in the log.
        self.at = 0
        self.headline, self.block = list(headline), list(headline)

    def matches(self, regex):
        """Whether a test announced this report."""
        return any(regex.search(text) for text in self.headline)


class Detector:
    """The two lists."""

    def __init__(self, deny_text, allow_text, name="splat-deny.txt"):
        self._deny = []
        self._messages = []
        samples, message = [], False
        for number, line in enumerate(deny_text.splitlines(), 1):
            where = f"{name}:{number}"
            if line.startswith(SAMPLE):
                samples.append(line[len(SAMPLE):])
            elif line == MESSAGE:
                message = True
            elif line.strip() and not line.startswith("#"):
                regex = _compile(line, where)
                if not samples:
                    raise SetupError(f"{where}: '{line}' has no '{SAMPLE}' line above it")
                for sample in samples:
                    if not regex.search(sample):
                        raise SetupError(f"{where}: '{line}' doesn't find its sample '{sample}'")
                self._deny.append(regex)
                if message:
                    self._messages.append(regex)
                samples, message = [], False
        if not self._deny:
            raise SetupError(f"{name}: the list is empty: no splat would be seen")
        self._allow = self._load_allow(allow_text)
        for text in CLEAN:
            if self.is_splat(text):
                raise SetupError(f"{name}: an ordinary line is taken for a splat: '{text}'")

    @classmethod
    def of_tree(cls):
        return cls(*(read(QEMU / f"splat-{name}.txt") for name in ("deny", "allow")))

    @staticmethod
    def _load_allow(text):
        allow = []
        above = ""
        for number, line in enumerate(text.splitlines(), 1):
            where = f"splat-allow.txt:{number}"
            if line.strip() and not line.startswith("#"):
                if not DATED.match(above):
                    raise SetupError(f"{where}: '{line}' has no '# YYYY-MM-DD reason' line above it")
                allow.append(_compile(line, where))
            above = line
        return allow

    def is_splat(self, text):
        return any(r.search(text) for r in self._deny) and \
            not any(r.search(text) for r in self._allow)

    def _reports(self, texts):
        """(text, the report that it is the first headline of) for each line."""
        recent = opened = None
        # The lines since 'cut here': the message of a warning, which is not always a splat by itself.
        cut = None
        for at, text in enumerate(texts):
            found = None
            if text.startswith(CUT_HERE):
                cut, opened = [], None
            elif BEGIN.match(text) or END.match(text):
                cut = None
            elif self.is_splat(text):
                ends = text.startswith(WARNING)
                if cut is not None and opened and (ends or self._is_message(text)):
                    opened.headline.append(text)
                elif cut is not None and (ends or self._is_message(text)):
                    found = opened = Splat(*cut, text)
                else:
                    found = Splat(text)
                cut = None if ends else cut
            elif cut is not None:
                cut = [*cut, text] if len(cut) < MESSAGE_LINES else None
            if found:
                recent, found.at = found, at
            elif recent and len(recent.block) < REPORT_LINES:
                recent.block.append(text)
            yield text, found

    def _is_message(self, text):
        """Whether it is the message of a warning."""
        return any(r.search(text) for r in self._messages)

    def find(self, texts):
        """Returns the splats that were not announced, and the errors of announced ones."""
        unexpected, problems = [], []
        expected, bracket = None, []
        for text, splat in self._reports(texts):
            begin, end = BEGIN.match(text), END.match(text)
            if begin or end:
                if expected is not None:
                    unexpected += self._settle(expected, bracket, problems, closed=bool(end))
                elif end:
                    problems.append("an expect-splat end without a begin")
                expected = begin.group(1) if begin else None
                bracket = []
            elif splat:
                (unexpected if expected is None else bracket).append(splat)
        if expected is not None:
            unexpected += self._settle(expected, bracket, problems, closed=False)
        return unexpected, problems

    @staticmethod
    def _settle(expected, bracket, problems, closed):
        """Judges one bracket; returns the splats in it that aren't allowed."""
        if not closed:
            problems.append(f"expect-splat '{expected}' was never ended")
            return bracket
        left = list(bracket)
        for wanted in expected.split(SEPARATOR):
            several = wanted.startswith(SEVERAL)
            try:
                regex = re.compile(wanted.removeprefix(SEVERAL))
            except re.error as error:
                problems.append(f"expect-splat '{wanted}' is no regular expression: {error}")
                continue
            matching = [splat for splat in left if splat.matches(regex)]
            if not matching or len(matching) > 1 and not several:
                problems.append(
                    f"expect-splat '{wanted}' came {len(matching)} times instead of once")
            excused = matching if several else matching[:1]
            left = [splat for splat in left if splat not in excused]
        return left
