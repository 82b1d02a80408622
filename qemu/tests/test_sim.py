# SPDX-License-Identifier: GPL-2.0
"""Cases of seeds, and comparison of two runs of a seed."""

import os
import pathlib
import socket
import tempfile
import threading
import unittest

from lib import ktap, verdict
from lib.base import SetupError
from lib.plan import Plan
from lib.sim import search, shortcut
from lib.sim.boot import Result
from lib.sim.case import Case, Dice

from .common import QEMU

LOG = b"""[    0.000000] Linux version 7.3.4-rcu-ptr (root@%s) #1 SMP
[    0.488805] rcu_ptr_sim: section rcu_ptr .text 0xffffffffa0000000
[    0.787611] rcu_ptr_torture: seed=3 objects=16394 nmis=26 early=0
"""


def _result(data, state="PASS"):
    suites = [ktap.Result(verdict.GUEST, ktap.OK)]
    return Result(Case(3), data, verdict.Verdict("3", suites, state), 1.0)


class Seeds(unittest.TestCase):
    """The meaning of seeds changes only with VERSION."""

    def test_numbers(self):
        dice = Dice(1)
        self.assertEqual([dice.roll() for _ in range(2)],
                         [13819372491320860226, 10987583248141275951])

    def test_same_case(self):
        for seed in range(200):
            case = Case(seed)
            self.assertEqual(case.plan + case.script, Case(seed).plan + Case(seed).script)
            self.assertEqual(Plan(case.plan, "case").names(), ["insmod_rcu_ptr", "sh_sim", "rmmod_rcu_ptr"])
            self.assertLess(case.torture["slots"] * 4, 65536)

    def test_they_differ(self):
        cases = [Case(seed) for seed in range(100)]
        for what in (lambda case: case.engine, lambda case: case.smp, lambda case: case.mem,
                     lambda case: case.torture["hotplug_ms"] > 0, lambda case: case.torture["fail"] > 0):
            self.assertGreater(len({what(case) for case in cases}), 1)
        self.assertGreater(len({case.script for case in cases}), 99)

    def test_long_form(self):
        short, long = Case(5), Case(5, long=True)
        self.assertEqual((short.plan, short.smp, short.actions), (long.plan, long.smp, long.actions))
        self.assertGreater(long.torture["msecs"], 10 * short.torture["msecs"])

    def test_takeover(self):
        cases = [(Case(seed), Case(seed, takeover=True)) for seed in range(100)]
        for without, other in cases:
            self.assertEqual((without.plan, without.actions), (other.plan, other.actions))
            self.assertEqual(without.takeover, "")
        self.assertEqual({bool(other.takeover) for _, other in cases}, {False, True})
        self.assertEqual({"rcu_ptr_takeover.ko" in other.takeover.partition("}\n")[0] for _, other in cases},
                         {False, True})

    def test_engine_can_be_chosen(self):
        lockless, rfc = Case(5, "lockless"), Case(5, "rfc")
        self.assertEqual(lockless.script, rfc.script)
        lockless.use("rfc")
        self.assertEqual(lockless.plan, rfc.plan)


class _Gdbstub(threading.Thread):
    """Answers like QEMU's gdbstub."""

    def __init__(self, end):
        super().__init__()
        self._end = end
        self.heard = []

    def run(self):
        data = b""
        while more := self._end.recv(4096):
            data += more.replace(b"+", b"")
            while b"#" in data[:-2]:
                body, _, data = data.partition(b"#")
                data = data[2:]
                self.heard.append(body.decode().lstrip("$"))
                stop = self.heard[-1] in ("?", "c")
                answer = b"T05thread:01;" if stop else b"OK"
                self._end.sendall(b"+$" + answer + b"#%02x" % (sum(answer) & 0xff))


class Shortcuts(unittest.TestCase):
    def test_stop_write_and_leave(self):
        stub = shortcut.Stub()
        theirs = socket.socket(fileno=os.dup(stub.fds[0]))
        answering = _Gdbstub(theirs)
        answering.start()
        stub.take(shortcut.Shortcut(0xffff1000, 0xffff2000, 4000000))
        stub.close()
        answering.join()
        theirs.close()
        self.assertEqual(answering.heard, ["?", "Z0,ffff1000,1", "c", "Mffff2000,4:00093d00",
                                           "z0,ffff1000,1", "D"])

    def test_qemu_that_ends(self):
        stub = shortcut.Stub()
        stub.take(shortcut.Shortcut(1, 2, 3))
        stub.close()


class Digests(unittest.TestCase):
    def test_banner_is_left_out(self):
        self.assertEqual(_result(LOG % b"a").digest, _result(LOG % b"other").digest)

    def test_difference_is_named(self):
        one, other = _result(LOG % b"a"), _result(LOG.replace(b"objects=16394", b"objects=16395") % b"a")
        self.assertNotEqual(one.digest, other.digest)
        number, here, there = one.differs(other)
        self.assertEqual(number, 3)
        self.assertIn("16394", here)
        self.assertIn("16395", there)

    def test_one_that_goes_on(self):
        one = _result(LOG % b"a")
        self.assertEqual(one.differs(_result(LOG % b"a" + b"more\n"))[0], 4)
        self.assertIsNone(one.differs(_result(LOG % b"b")))

    def test_result_of_the_module_has_to_be_there(self):
        self.assertTrue(_result(LOG % b"a").good)
        silent = _result(b"[    0.1] rcu_ptr_guest: init\n")
        self.assertFalse(silent.good)
        self.assertTrue(silent.what())
        self.assertFalse(_result(LOG % b"a", "FAIL").good)

    def test_sections(self):
        self.assertEqual(_result(LOG % b"a").sections, {"rcu_ptr": {".text": "0xffffffffa0000000"}})


class Search(unittest.TestCase):
    def test_list(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "seeds"
            path.write_text("# x\nPERF 7 it was early\nRT 8 a hang\n", encoding="utf-8")
            self.assertEqual(search.always(path, "PERF"), [7])
            path.write_text("PERF seven\n", encoding="utf-8")
            with self.assertRaises(SetupError):
                search.always(path, "PERF")
        self.assertTrue(search.always(QEMU / "seeds.txt", "PERF"))

    def test_onward(self):
        self.assertEqual(list(search.onward([9], 3, 2, None)), [9, 3, 4])

    def test_row(self):
        row = search.Row("m")
        row.add(1, "early")
        row.add(3, "early")
        self.assertEqual(row.text(5), "| m | 2 | 1 | 3 | early |")
        row.lost = 3
        self.assertEqual(row.text(5), "| m | 5 | not in 5 | not in 5 | early |")
