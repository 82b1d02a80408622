# SPDX-License-Identifier: GPL-2.0
"""Parses KTAP in a kernel log: several documents, one per loaded test module or shell suite, with other
lines of the log in between.

The kernel's kunit_parser.py reads one document, prints while it does, and has no lines of the log with a
result that failed."""

import math
import re

VERSION = re.compile(r"^( *)(?:K?TAP) version \d+$")
SUBTEST = re.compile(r"^( *)# Subtest: (.*)$")
PLAN = re.compile(r"^( *)1\.\.(\d+)(?:\s|$)")
RESULT = re.compile(r"^( *)(ok|not ok) (\d+)(?: -)?(?: ([^#]*?))?(?:\s+# ?(.*))?$")
DIRECTIVE = re.compile(r"^(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\b:?\s*(.*)$", re.I)
TOTALS = re.compile(r"^\s*# (?:Totals: |\S+: )pass:\d+")

OK, FAILED, SKIPPED = "ok", "not ok", "skip"
# A result line is missing.
UNFINISHED = "unfinished"
# Lines of the log that are kept for a failure.
LOG_LINES = 60


class Result:
    """A test case, or a suite with its cases."""

    def __init__(self, name, status, directive="", reason=""):
        self.name = name
        self.status = status
        self.directive = directive
        self.reason = reason
        # The line of the log with the result, if there is one.
        self.at = math.inf
        self.log = []
        self.children = []
        self.plan = None

    @classmethod
    def failed(cls, name, *log, directive="", reason=""):
        """A case that failed, and why."""
        result = cls(name, FAILED, directive, reason)
        result.log = list(log)
        return result

    def passed(self):
        """Whether this and everything below it passed."""
        return self.status in (OK, SKIPPED) and not self.problems() and \
            all(child.passed() for child in self.children)

    def problems(self):
        """Errors in the structure of a suite, whatever its result is."""
        if self.plan is not None and self.plan != len(self.children):
            return [f"{self.plan} cases planned, {len(self.children)} seen"]
        return []

    def leaves(self):
        """The cases, without the suites that contain them."""
        if not self.children:
            return [self]
        return [leaf for child in self.children for leaf in child.leaves()]


class _Level:
    """The results of one indentation."""

    def __init__(self, indent):
        self.indent = indent
        self.name = ""
        self.plan = None
        self.results = []
        self.log = []
        # Its last line.
        self.at = 0


class Parser:
    """Parses line by line, without time stamps, and collects the suites of all documents."""

    def __init__(self):
        self.suites = []
        self.running = ""
        self._levels = []
        self._line = -1

    def _close(self, indent):
        """Closes the levels from this indentation inwards; returns the outermost of them."""
        level = None
        while self._levels and self._levels[-1].indent >= indent:
            if level:
                self._abandon(level)
            level = self._levels.pop()
        return level

    def _abandon(self, level):
        """The result line of this level's suite is missing."""
        result = Result(level.name or "unnamed", UNFINISHED)
        result.at = level.at
        result.children = level.results
        result.plan = level.plan
        result.log = level.log
        if self._levels:
            self._levels[-1].results.append(result)
        else:
            self.suites.append(result)

    def _end_document(self):
        """A new document starts, or the log ends."""
        level = self._close(1)
        if level:
            self._abandon(level)
        level = self._close(0)
        if not level:
            return
        self.suites += level.results
        missing = (level.plan or 0) - len(level.results)
        if missing > 0:
            lost = Result(f"after_{level.results[-1].name}" if level.results else "document",
                          UNFINISHED)
            lost.at = level.at
            lost.log = level.log + [f"{missing} of {level.plan} planned suites never came"]
            self.suites.append(lost)

    def _level(self, indent):
        """The level of this indentation, opened if necessary."""
        if self._levels and self._levels[-1].indent == indent:
            return self._levels[-1]
        level = _Level(indent)
        self._levels.append(level)
        return level

    def feed(self, text):
        self._line += 1
        for pattern, action in ((VERSION, self._version), (SUBTEST, self._subtest),
                                (PLAN, self._plan), (RESULT, self._result)):
            found = pattern.match(text)
            if found:
                action(len(found.group(1)), *found.groups()[1:])
                break
        else:
            self._diagnostic(text)
        if self._levels:
            self._levels[-1].at = self._line

    def _diagnostic(self, text):
        if self._levels and not TOTALS.match(text):
            log = self._levels[-1].log
            log.append(text)
            del log[:-LOG_LINES]

    def _version(self, indent):
        if indent == 0:
            self._end_document()
        else:
            abandoned = self._close(indent)
            if abandoned:
                self._abandon(abandoned)
        self._level(indent)

    def _subtest(self, indent, name):
        if not self._levels:
            return
        self._level(indent).name = name.strip()
        self.running = name.strip()

    def _plan(self, indent, count):
        if self._levels:
            self._level(indent).plan = int(count)

    def _result(self, indent, status, _number, name, comment):
        if not self._levels:
            return
        below = self._close(indent + 1)
        level = self._level(indent)
        found = DIRECTIVE.match(comment or "")
        directive, reason = found.groups() if found else ("", comment or "")
        directive = directive.upper()
        if directive in ("SKIP", "TODO", "XFAIL"):
            status = SKIPPED
        elif directive:
            status = FAILED
        name = (name or "").strip() or (below.name if below else "") or "unnamed"
        result = Result(name, status, directive, reason)
        result.at = self._line
        result.log = level.log
        level.log = []
        if below:
            result.children = below.results
            result.plan = below.plan
            result.log = below.log + result.log
        level.results.append(result)
        self.running = name
        if indent == 0 and level.plan == len(level.results):
            self._end_document()

    def end(self):
        """Ends the log, and returns the suites."""
        self._end_document()
        return self.suites


def parse(texts):
    parser = Parser()
    for text in texts:
        parser.feed(text)
    return parser.end()
