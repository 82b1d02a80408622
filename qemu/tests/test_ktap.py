# SPDX-License-Identifier: GPL-2.0
"""The KTAP parser and writer, compared with each other and with the kernel's."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from .common import judge
from lib import ktap, report
from .logs import LOGS


class Parser(unittest.TestCase):
    def result(self, line):
        """The case in this line."""
        suites = ktap.parse(["KTAP version 1", "1..1", line])
        self.assertEqual(len(suites), 1)
        return suites[0]

    def test_result_lines(self):
        for line, name, status, directive, reason in (
                ("ok 1 a", "a", "ok", "", ""),
                ("ok 1 - a", "a", "ok", "", ""),
                ("not ok 1 a b", "a b", "not ok", "", ""),
                ("ok 1 a # SKIP no PMU", "a", "skip", "SKIP", "no PMU"),
                ("not ok 1 a # TIMEOUT", "a", "not ok", "TIMEOUT", ""),
                ("ok 1 a # ERROR lost", "a", "not ok", "ERROR", "lost"),
                ("ok 1 a # a comment", "a", "ok", "", "a comment"),
        ):
            with self.subTest(line):
                got = self.result(line)
                self.assertEqual((got.name, got.status, got.directive, got.reason),
                                 (name, status, directive, reason))

    def test_two_spaces_nest_as_well(self):
        suites = ktap.parse(["KTAP version 1", "1..1", "  KTAP version 1", "  1..2", "  ok 1 a",
                             "  not ok 2 b", "not ok 1 suite"])
        self.assertEqual([child.name for child in suites[0].children], ["a", "b"])

    def test_outside_a_document_nothing_counts(self):
        self.assertEqual(ktap.parse(["ok 1 a", "    ok 1 b", "1..2", "# Subtest: c"]), [])

    def test_new_document_ends_an_unfinished_one(self):
        suites = ktap.parse(["KTAP version 1", "1..1", "    KTAP version 1", "    # Subtest: s",
                             "    1..2", "    ok 1 a", "KTAP version 1", "1..1", "ok 1 t"])
        self.assertEqual([(s.name, s.status) for s in suites], [("s", "unfinished"), ("t", "ok")])


class Writer(unittest.TestCase):
    def stream(self):
        """All golden logs as scenarios of one stream."""
        verdicts = [judge(log.data()) for log in LOGS.values()]
        out = report.header(len(verdicts))
        for number, verdict in enumerate(verdicts, 1):
            verdict.name = f"SCENARIO{number}"
            out += report.scenario(verdict, number)
        sums = report.totals(verdicts)
        return out + [report.closing(sums)], sums

    def test_parses_itself(self):
        out, sums = self.stream()
        scenarios = ktap.parse(out)
        leaves = [leaf for scenario in scenarios for leaf in scenario.leaves()]
        self.assertEqual(sum(leaf.status == "skip" for leaf in leaves), sums[2])
        self.assertEqual(scenarios[0].problems(), [])
        self.assertEqual(out[-1], "%d passed, %d failed, %d skipped" % sums)

    @unittest.skipUnless(os.environ.get("KSRC"), "set KSRC to a kernel's source to try its kunit.py")
    def test_kunit_py_reads_all_of_it(self):
        tool = pathlib.Path(os.environ["KSRC"]).resolve() / "tools/testing/kunit/kunit.py"
        with tempfile.TemporaryDirectory() as folder:
            for log in ("good", "crash_mid_suite", "skip", "timeout_in_boot"):
                verdict = judge(LOGS[log].data())
                passed, failed, skipped = verdict.counts()
                path = pathlib.Path(folder) / log
                lines = report.header(2) + report.scenario(verdict, 1)
                verdict.name = "AGAIN"
                lines += report.scenario(verdict, 2)
                lines.append(report.closing((2 * passed, 2 * failed, 2 * skipped)))
                path.write_text("\n".join(lines) + "\n", encoding="utf-8")
                done = subprocess.run([sys.executable, tool, "parse", path], check=False,
                                      capture_output=True, text=True)
                text = done.stdout + done.stderr
                with self.subTest(log):
                    self.assertIn(f"passed: {2 * passed}" if passed else "", text)
                    if failed:
                        self.assertRegex(text, rf"failed: {2 * failed}\b")
                    self.assertNotIn("[ERROR]", text)
