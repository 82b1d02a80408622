# SPDX-License-Identifier: GPL-2.0
"""Which boot of a set comes next, and which are left out."""

import time
import types
import unittest

from common import QEMU  # noqa: F401 pylint: disable=unused-import
import run


def job(name, minutes=1):
    """A boot of a scenario of that name."""
    return types.SimpleNamespace(name=name, scenario=name, minutes=minutes)


class Feed:
    """Scenarios that are ready, and later ones."""

    def __init__(self, ready=(), later=()):
        self.ready = dict.fromkeys(ready)
        self.later = list(later)
        self.ended = False

    def take(self, timeout):
        """One more each time that somebody waits."""
        if timeout is None:
            return
        if self.later:
            self.ready[self.later.pop(0)] = None
        else:
            self.ended = True


class Next(unittest.TestCase):
    """The choice."""

    def choose(self, pending, feed, until=None):
        """Its name, and how it counts without a boot."""
        chosen, result = run._next(pending, feed, until)  # pylint: disable=protected-access
        return chosen.name, result and result.state

    def test_in_order(self):
        self.assertEqual(self.choose([job("A"), job("B")], Feed("AB")), ("A", None))

    def test_what_is_ready_first(self):
        self.assertEqual(self.choose([job("A"), job("B")], Feed("B", "A")), ("B", None))
        self.assertEqual(self.choose([job("A"), job("B")], Feed("", "BA")), ("B", None))

    def test_never_built(self):
        self.assertEqual(self.choose([job("A")], Feed()), ("A", "ERROR"))

    def test_no_time(self):
        until = time.time() + 90
        self.assertEqual(self.choose([job("A", 2), job("B")], Feed("AB"), until), ("A", "SKIP"))
        self.assertEqual(self.choose([job("B")], Feed("AB"), until), ("B", None))
        self.assertEqual(self.choose([job("A", 2)], Feed(), until), ("A", "SKIP"))


if __name__ == "__main__":
    unittest.main()
