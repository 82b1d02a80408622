# SPDX-License-Identifier: GPL-2.0
"""Console logs and the expected verdicts."""

import types
import unittest

from .common import PLAN, PLANS, failed, judge, wanted as wanted_cases
from lib import report
from lib import verdict as verdicts
from lib.plan import Plan
from .logs import LOGS, data as log


def belonging(want):
    """The plan and the expected cases of a log: 'plan: NAME' and 'cases: NAME' override the default, 'skip: CASE
    REASON' allows a skip."""
    plan = PLANS.get(want.get("plan"), PLAN)
    skips = [tuple(skip.split(" ", 1)) for skip in want["skip"]]
    return plan, wanted_cases(plan, want.get("cases", "usual"), skips)


class Golden(unittest.TestCase):
    """Each log must get the verdict of golden/edits.txt."""

    def test_logs(self):
        self.assertGreater(len(LOGS), 40)
        for name, known in LOGS.items():
            with self.subTest(name):
                want = known.want
                code = None if want["code"] == "none" else int(want["code"])
                plan, cases = belonging(want)
                verdict = judge(known.data(), want["ended"], code, expected=cases, plan=plan)
                self.assertEqual(failed(verdict.suites), want["failed"])
                self.assertEqual(report.closing(verdict.counts()), want["counts"])
                self.assertEqual(verdict.state, want["state"])
                self.assertEqual(verdict.engine or "none", want["engine"])
                good = want["state"] == "PASS"
                self.assertEqual(report.exit_code([verdict]), 0 if good else 1)

    def test_why_nothing_booted(self):
        verdict = judge(log("boot_error"))
        text = "\n".join(report.scenario(verdict, 1))
        self.assertIn("the last line on its console: Kernel panic - not syncing: VFS", text)
        text = "\n".join(report.scenario(judge(b"", "timed out", None), 1))
        self.assertIn("nothing was on its console", text)
        self.assertIn("gave up waiting", text)

    def test_reason_is_shown(self):
        verdict = judge(log("failing_test"))
        text = "\n".join(report.scenario(verdict, 1))
        self.assertIn("# Expected freed == 100, but", text)
        verdict = judge(log("qemu_refuses"), code=1,
                        stderr="qemu: could not load kernel\n")
        self.assertIn("# qemu: qemu: could not load kernel", "\n".join(report.scenario(verdict, 1)))

    def test_what_came_first_is_first(self):
        verdict = judge(log("stopped"))
        verdict.folder = "out/BASE"
        self.assertEqual(report.failures([verdict]), [
            "# FAILED BASE: rcu_ptr_list: forced",
            "#     ASSERTION FAILED at suites/list.rs:40",
            "#   log: out/BASE/console.log",
            "# FAILED BASE: guest: insmod_rcu_ptr_kunit",
            "#     step 2 'insmod rcu_ptr_kunit.ko' ended with code 1",
            "# FAILED BASE: guest: stopped",
            "#     step 2 'insmod rcu_ptr_kunit.ko': rcu_ptr is still loaded, used 1 times; modules:",
            "#     1 steps behind it, with 0 cases, did not run"])

    def test_cases_behind_a_stop(self):
        plan = Plan("for a b\ninsmod rcu_ptr_kunit.ko\ndone\n", "golden")
        data = b"rcu_ptr_guest: init\nrcu_ptr_guest: step 1/2 x\nrcu_ptr_guest: step 1 rc=1\n" \
               b"rcu_ptr_guest: stop 1: x\nrcu_ptr_guest: end\nreboot: Power down\n"
        verdict = judge(data, plan=plan, expected=wanted_cases(plan))
        self.assertEqual(failed(verdict.suites), ["guest: a.insmod_rcu_ptr_kunit", "guest: stopped",
                                                  "a.rcu_ptr_queue ERROR", "a.rcu_ptr_list ERROR"])
        self.assertIn("#     1 steps behind it, with 5 cases, did not run", report.failures([verdict]))

    def test_list_of_failures_is_short(self):
        verdict = judge(log("failing_test"))
        case = next(case for case in verdict.suites[2].children if not case.passed())
        verdict.suites[2].children += 50 * [case]
        for verdicts_of_all in ([verdict], [verdict, verdict, judge(log("good"))]):
            listed = report.failures(verdicts_of_all)
            self.assertLessEqual(len(listed), report.MOST)
            self.assertGreater(len(listed), report.MOST - 10)
            self.assertIn("and ", listed[-1])
            self.assertIn("    Expected freed == 100, but", listed[2])

    def test_shell_says_why_and_where(self):
        result = report.ktap.Result.failed("a", *(f"    # {i}" for i in range(9)))
        verdict = verdicts.Verdict("X", [result], "FAIL")
        self.assertEqual(report.failures([verdict]),
                         ["# FAILED X: a", "#     0", "#     1", "#     7", "#     8"])

    def test_demo_is_read(self):
        verdict = judge(log("interleaved"))
        self.assertEqual(verdict.demo, [{"kind": "kmalloc", "objects": "1000"},
                                        {"grace_periods": "12"}])

    def test_host_nmis(self):
        data = log("good")
        for requests, sent, error, bad in ((0, 0, None, []), (1, 5, None, []),
                                           (1, 0, None, ["guest: host_nmis"]),
                                           (1, 5, "no NMIs here", ["guest: host_nmis"])):
            nmi = types.SimpleNamespace(requests=requests, sent=sent, error=error)
            with self.subTest(nmi):
                self.assertEqual(failed(judge(data, nmi=nmi).suites), bad)

    def test_all_skipped(self):
        verdict = judge(log("good"))
        for suite in verdict.suites[1:]:
            for leaf in suite.leaves():
                leaf.status = "skip"
        self.assertEqual(report.exit_code([verdict]), 4)
        self.assertEqual(report.exit_code([verdict, judge(log("good"))]), 0)

    def test_left_out(self):
        out = verdicts.left_out("DEBUG", "no time")
        self.assertEqual(report.exit_code([out]), 4)
        self.assertEqual(report.totals([out]), (0, 0, 1))
        self.assertEqual(report.scenario(out, 2), ["ok 2 DEBUG # SKIP no time"])
        good = judge(log("good"))
        self.assertEqual(report.exit_code([good, out]), 0)

    def test_unbuilt(self):
        good = judge(log("good"))
        bad = verdicts.unbuilt("DEBUG", "no kernel")
        self.assertEqual(report.exit_code([good, bad]), 1)
        self.assertIn("# no kernel", "\n".join(report.scenario(bad, 1)))
        self.assertEqual(report.failures([good, bad]), ["# FAILED DEBUG: guest ERROR", "#     no kernel"])

    def test_nothing_ran(self):
        self.assertEqual(report.exit_code([]), 1)
        self.assertEqual(report.closing(report.totals([])), "0 passed, 1 failed, 0 skipped")
