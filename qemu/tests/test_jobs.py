# SPDX-License-Identifier: GPL-2.0
"""The order of boots, and which are left out."""

import os
import threading
import time
import types
import unittest

from lib import jobs


def job(name, minutes=1):
    """A boot of a scenario of that name."""
    return types.SimpleNamespace(name=name, scenario=name, minutes=minutes)


class Feed:
    """Scenarios that are ready; with `ended` no others will be."""

    def __init__(self, ready=(), ended=False):
        self.ready = dict.fromkeys(ready)
        self.ended = ended

    def take(self, _timeout):
        """No other becomes ready."""


class Next(unittest.TestCase):
    def choose(self, pending, feed, until=None, busy=""):
        """Its name, and its state if it is not booted; None: it has to wait."""
        chosen, result = jobs.choose(pending, feed, lambda job: job.name not in busy, until)
        return chosen and (chosen.name, result and result.state)

    def test_in_order(self):
        self.assertEqual(self.choose([job("A"), job("B")], Feed("AB")), ("A", None))

    def test_what_is_ready_first(self):
        self.assertEqual(self.choose([job("A"), job("B")], Feed("B")), ("B", None))
        self.assertIsNone(self.choose([job("A"), job("B")], Feed()))

    def test_whose_lane_is_free(self):
        self.assertEqual(self.choose([job("A"), job("B")], Feed("AB"), busy="A"), ("B", None))
        self.assertIsNone(self.choose([job("A"), job("B")], Feed("AB"), busy="AB"))
        self.assertIsNone(self.choose([job("A")], Feed("A", True), busy="A"))

    def test_never_built(self):
        self.assertEqual(self.choose([job("A")], Feed(ended=True)), ("A", "ERROR"))

    def test_no_time(self):
        until = time.time() + 90
        self.assertEqual(self.choose([job("A", 2), job("B")], Feed("AB"), until), ("A", "SKIP"))
        self.assertEqual(self.choose([job("B")], Feed("AB"), until), ("B", None))
        self.assertEqual(self.choose([job("A", 2)], Feed(), until), ("A", "SKIP"))


SCENARIO = types.SimpleNamespace(settings={"smp": 1})


class Side(unittest.TestCase):
    def test_lanes(self):
        lanes, go = jobs.Lanes(), threading.Event()

        def boot(name, wait):
            return types.SimpleNamespace(name=name, folder=name, scenario=SCENARIO,
                                         go=lambda: (wait and go.wait(60), name)[1])
        lanes.start("multi", boot("A", True))
        self.assertFalse(lanes.is_free("multi"))
        self.assertTrue(lanes.is_free("single"))
        lanes.start("single", boot("B", False))
        self.assertEqual(lanes.take(60), "B")
        self.assertTrue(lanes.is_free("single") and lanes.busy())
        self.assertIsNone(lanes.take(0.01))
        go.set()
        self.assertEqual(lanes.take(60), "A")
        self.assertFalse(lanes.busy())

    def test_a_lane_without_work_takes_the_others(self):
        lanes, go, host = jobs.Lanes(), threading.Event(), os.cpu_count()
        boot = types.SimpleNamespace(name="A", folder="A", scenario=SCENARIO, go=lambda: go.wait(60))
        multi = {"B": "multi"}
        self.assertEqual(lanes.choose(job("B"), multi, 64 * host), "multi")
        lanes.start("multi", boot)
        self.assertEqual(lanes.choose(job("B"), multi, 1), "single")
        self.assertIsNone(lanes.choose(job("B"), multi, 2 * host))
        self.assertIsNone(lanes.choose(job("B"), {"B": "multi", "C": "single"}, 1))
        lanes.start("single", boot)
        self.assertIsNone(lanes.choose(job("B"), multi, 1))
        go.set()
        lanes.take(60)
        lanes.take(60)

    def test_a_boot_that_fails_is_an_error(self):
        lanes = jobs.Lanes()
        lanes.start("multi", types.SimpleNamespace(name="A", folder="A", scenario=SCENARIO,
                                                   go=lambda: None))
        with self.assertRaises(RuntimeError):
            lanes.take(60)
