# SPDX-License-Identifier: GPL-2.0
"""The table of the kernel's own tests."""

import unittest

import upstream
from lib.base import SetupError

LOG = """rcu_ptr_guest: step 1/9 sh rcu_ptr_upstream.sh ENGINE=kernel
    # rcuscale both: 5000000 ns, loops: 8, batches: 30, memory footprint: 12MB
    # mixed load: 20.5 s, slabs 1024 kB before, 3072 kB at most
rcu_ptr_guest: step 2/9 sh rcu_ptr_upstream.sh ENGINE=rfc
    # rcuscale both: 7000000 ns, loops: 8, batches: 10, memory footprint: 4MB
    # redirected 100 objects, 0 of them in NMI
    # redirected 50 objects, 2 of them in NMI
rcu_ptr_guest: step 3/9 tests slub_test.test_*[!b]?
# slub_test: pass:7 fail:0 skip:1 total:8
rcu_ptr_guest: step 4/9 insmod rcu_ptr.ko engine=lockless
# slub_test: pass:7 fail:0 skip:1 total:8
"""


class Table(unittest.TestCase):
    def test_rows(self):
        lines = upstream.table([LOG.splitlines()])
        self.assertIn("| rcuscale, both: time | 5 ms | 7 ms | - |", lines)
        self.assertIn("| mixed load: slabs at most, over those before | 2048 kB | - | - |", lines)
        self.assertIn("| objects redirected | - | 150 | - |", lines)
        self.assertIn("| slub_kunit: passed | 7 of 8, 1 skipped | - | 7 of 8, 1 skipped |", lines)

    def test_median(self):
        more = LOG.replace("5000000", "9000000").splitlines()
        most = LOG.replace("5000000", "20000000").splitlines()
        self.assertIn("| rcuscale, both: time | 9 ms | 7 ms | - |", upstream.table([LOG.splitlines(), more, most]))

    def test_nothing(self):
        with self.assertRaises(SetupError):
            upstream.table([["nothing"]])
