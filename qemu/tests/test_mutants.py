# SPDX-License-Identifier: GPL-2.0
"""Mutants: their headers, and whether a boot has caught them."""

import pathlib
import tempfile
import unittest

from .common import detector
from lib import console, verdict
from lib import mutant as mutants
from lib.base import SetupError
from lib.mutant import Mutant
from lib.plan import Plan

DIFF = "\n--- a/x\n-a\n"
HEAD = "# Frees early.\nengine: rfc\ntests: rcu_ptr_a.*\n"
SPLAT = "BUG rcu_ptr_pool (Tainted: G O): Object already free"
LOST = "BUG rcu_ptr_pool (Tainted: G O): Objects remaining on __kmem_cache_shutdown()"


def mutant(*lines):
    """A mutant with additional lines in its header."""
    return Mutant(HEAD + "\n".join(lines) + "\n" + DIFF, "name")


def log(*results, splats=(), tail=()):
    """A console log: the plan of a mutant with the suite rcu_ptr_a of these (CASE, 'ok')."""
    out = ["rcu_ptr_guest: init"]
    for step in range(1, 6):
        out.append(f"rcu_ptr_guest: step {step}/5 x")
        if step == 1:
            out.append("rcu_ptr: engine rfc, 2 CPUs")
        if step == 3:
            out += ["KTAP version 1", "1..1", "    KTAP version 1", "    # Subtest: rcu_ptr_a",
                    f"    1..{len(results)}"]
            out += splats
            for number, (case, how) in enumerate(results, 1):
                if how == "stuck":
                    return "\n".join([*out, *tail]).encode()
                out.append(f"    {how} {number} {case}")
            bad = any(how != "ok" for _, how in results)
            out.append("not ok 1 rcu_ptr_a" if bad else "ok 1 rcu_ptr_a")
        out.append(f"rcu_ptr_guest: step {step} rc=0")
    return "\n".join([*out, "rcu_ptr_guest: end", "reboot: Power down", *tail]).encode()


def texts_of(data):
    return [line.text for line in console.lines(data)]


def judge(broken, data, ended=verdict.EXITED, code=0):
    """The two lists for a boot."""
    plan = Plan(broken.plan, "name", ("BASE", "x86_64"))
    result = verdict.judge("BASE", data, plan, None, detector(), ended, code)
    return broken.judge(result, texts_of(data), detector())


class Hunks(unittest.TestCase):
    def broken(self, diff):
        """The file x with this diff."""
        with tempfile.TemporaryDirectory() as name:
            (pathlib.Path(name) / "x").write_text("a\n}\n\nb\n}\n", encoding="utf-8")
            return Mutant(f"{HEAD}--- a/x\n{diff}", "name").broken(pathlib.Path(name))["x"]

    def test_fit(self):
        for diff, text in (("-b\n", "a\n}\n\n}\n"), ("-b\n+c\n+d\n", "a\n}\n\nc\nd\n}\n"),
                           ("+c\n a\n@@\n b\n }\n+d\n", "c\na\n}\n\nb\n}\nd\n"),
                           ("+++ b/x\n@@ -2,2 +2,2 @@ a\n }\n-\n+c\n b\n", "a\n}\nc\nb\n}\n")):
            with self.subTest(diff):
                self.assertEqual(self.broken(diff), text)

    def test_do_not_fit(self):
        for diff, why in (("-c\n", ":4: these lines are not in x"), (" }\n+c\n", "more than once in x"),
                          ("+c\n", ":4: a line with"), ("-a\n+b\n@@\n-b\n", ":7: these lines are more than once"),
                          ("--- a/y\n-b\n", "y: No such")):
            with self.subTest(diff), self.assertRaisesRegex(SetupError, why):
                self.broken(diff)


class Header(unittest.TestCase):
    def test_plan_of_engine_and_tests(self):
        self.assertEqual(mutant("red: rcu_ptr_a.x").plan,
                         "insmod rcu_ptr.ko engine=rfc\ntests rcu_ptr_a.*\ninsmod rcu_ptr_kunit.ko\n"
                         "rmmod rcu_ptr_kunit\nrmmod rcu_ptr\n")
        sweep = Mutant("# Wrong.\nengine: rfc\ntests: rcu_ptr_sweep.calls a=1 b=2\n" + DIFF, "name")
        self.assertEqual(sweep.plan.splitlines()[1:4],
                         ["tests rcu_ptr_sweep.calls", "insmod nmi_sweep.ko a=1 b=2", "rmmod nmi_sweep"])

    def test_usual_values(self):
        broken = mutant("red: rcu_ptr_a.x")
        self.assertEqual((broken.scenarios, broken.end, broken.boot, broken.timeout, broken.what),
                         (["BASE"], "", [], None, ["Frees early."]))

    def test_red(self):
        for lines, red in (((), ["rcu_ptr_a.*"]), (("red: rcu_ptr_a.x",), ["rcu_ptr_a.x"]), (("splat: BUG",), [])):
            self.assertEqual(mutant(*lines).red, red)

    def test_wrong_ones(self):
        for lines in (["red: a", "reed: b"], ["red: a", "engine: lockless"], ["splat: ("],
                      ["red: a", "end: boom"], ["red: a", "timeout: soon"], ["red: a", "plan: kmemleak"],
                      ["red: a", "nonsense"]):
            with self.subTest(lines), self.assertRaises(SetupError):
                mutant(*lines)

    def test_incomplete_ones(self):
        for text in ("engine: rfc\ntests: a\n" + DIFF, HEAD, HEAD + "\n--- a/x\n", "# Wrong.\nplan: sh a.sh\n" + DIFF):
            with self.subTest(text), self.assertRaises(SetupError):
                Mutant(text, "name")


class Files(unittest.TestCase):
    TEXT = "# All.\n\n== one\n# A.\nhost: x\nred: a\n" + DIFF + "@@\n \n-== b\n+c\n\n" \
           "== two-2\n# B.\nhost: x\nred: b\n" + DIFF

    def test_each_has_its_own(self):
        one, two = mutants.of_file(self.TEXT, "file")
        self.assertEqual((one.name, one.what, one.red), ("one", ["A."], ["a"]))
        self.assertEqual((two.name, two.what, two.red), ("two-2", ["B."], ["b"]))
        self.assertEqual((one.where, two.where), ("file:3: one", "file:15: two-2"))

    def test_wrong_ones(self):
        for old, new, line in (("== one", "==one", 3), ("== two-2", "== Two", 15), ("# All.", "All.", 1),
                               ("red: a", "reed: a", 6), ("red: b", "reed: b", 18), ("# B.", "", 15),
                               ("-== b", "== b", 13), ("== two-2", "two-2", 15), ("-== b", "=- b", 12)):
            with self.subTest(new), self.assertRaisesRegex(SetupError, f"^file:{line}: "):
                mutants.of_file(self.TEXT.replace(old, new), "file")


class Unloading(unittest.TestCase):
    def test_unloading(self):
        for left in ("insmod a.ko x=1\ninsmod b.ko\n", "insmod c.ko\nrmmod c\ninsmod a.ko\ninsmod b.ko\n"):
            self.assertEqual(mutants.unloading(left), left + "rmmod b\nrmmod a\n")
        self.assertEqual(mutants.unloading("sh a.sh\ninsmod a.ko\nrmmod a\n"),
                         "sh a.sh\ninsmod a.ko\nrmmod a\n")


class Judge(unittest.TestCase):
    def test_cases_and_splats(self):
        red, y_red = ["red: rcu_ptr_a.x"], "rcu_ptr_a.y failed, which should not"
        splat = ["splat: already free"]
        for lines, data, caught, problems in (
                (red, log(("x", "not ok"), ("y", "ok")), ["rcu_ptr_a.x"], []),
                (red, log(("x", "ok")), [], ["rcu_ptr_a.x did not fail"]),
                (red, log(("x", "ok"), ("y", "not ok")), [], ["rcu_ptr_a.x did not fail", y_red]),
                (red, log(("x", "not ok"), ("y", "not ok")), ["rcu_ptr_a.x"], [y_red]),
                (splat, log(("x", "ok"), splats=[SPLAT]), [f"'{SPLAT}'"], []),
                (splat, log(("x", "ok")), [], ["the kernel did not report 'already free'"]),
                (red, log(("x", "not ok"), splats=[LOST]), ["rcu_ptr_a.x"],
                 [f"the kernel reported something else: {LOST}"]),
                (red + ["may: remaining"], log(("x", "not ok"), splats=[LOST]), ["rcu_ptr_a.x"], [])):
            with self.subTest(lines=lines, data=data):
                self.assertEqual(judge(mutant(*lines), data), (caught, problems))

    def test_announced_report_that_does_not_come(self):
        data = log(("x", "not ok"), splats=["rcu_ptr: expect-splat begin is queued twice",
                                            "rcu_ptr: expect-splat end"])
        problem = "expect-splat 'is queued twice' came 0 times instead of once"
        _, problems = judge(mutant("red: rcu_ptr_a.x"), data)
        self.assertEqual(problems, [problem])
        _, problems = judge(mutant("red: rcu_ptr_a.x", "may: 'is queued twice' came 0 times"), data)
        self.assertEqual(problems, [])
        caught, problems = judge(mutant("splat: queued twice' came 0", "red: rcu_ptr_a.x"), data)
        self.assertEqual((caught, problems), (["rcu_ptr_a.x", f"'{problem}'"], []))

    def test_no_boot(self):
        _, problems = judge(mutant("red: rcu_ptr_a.x"), b"SeaBIOS\n", code=1)
        self.assertIn("the guest did not boot", problems)

    def test_time_out_for_no_reason(self):
        data = log(("x", "stuck"))
        _, problems = judge(mutant("red: rcu_ptr_a.*"), data, verdict.TIMED_OUT, None)
        self.assertTrue(problems)

    def test_panic(self):
        stall = "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"
        broken = mutant("splat: detected stalls", "red: rcu_ptr_a.after_*", "end: panic")
        panic = "Kernel panic - not syncing: RCU Stall"
        caught, problems = judge(broken, log(("x", "stuck"), tail=[stall, panic]))
        self.assertEqual((len(caught), problems), (3, []))
        _, problems = judge(broken, log(("x", "stuck"), tail=[panic]))
        self.assertEqual(problems, ["the kernel did not report 'detected stalls'"])
        _, problems = judge(broken, log(("x", "stuck"), tail=[stall]), verdict.TIMED_OUT, None)
        self.assertIn("the guest hung without a panic", problems)
        _, problems = judge(broken, log(("x", "ok")))
        self.assertIn("the guest came to its end in order, not by a panic", problems)

    def test_hang(self):
        broken = mutant("red: rcu_ptr_a.after_*", "end: hang")
        caught, problems = judge(broken, log(("x", "stuck")), verdict.TIMED_OUT, None)
        self.assertEqual((caught, problems), (["rcu_ptr_a.after_its_start"], []))
        _, problems = judge(broken, log(("x", "stuck")))
        self.assertIn("the guest ended by itself instead of hanging", problems)


class Host(unittest.TestCase):
    def setUp(self):
        self.mutant = Mutant("# Wrong.\nhost: make\nred: test_a\n" + DIFF, "name")

    def test_header(self):
        self.assertEqual((self.mutant.host, self.mutant.scenarios), ("make", []))
        for text in ("host: make\n", "host: make\nred: a\nengine: rfc\n",
                     "host: make\nred: a\nplan: rmmod a\n"):
            with self.subTest(text), self.assertRaises(SetupError):
                Mutant("# Wrong.\n" + text + DIFF, "name")

    def test_judge(self):
        self.assertEqual(self.mutant.judge_host(1, "FAIL: test_a (test_x.X)\n"), (["test_a"], []))
        self.assertEqual(self.mutant.judge_host(1, "FAIL: test_b (test_x.X)\n")[1],
                         ["test_a did not fail"])
        self.assertEqual(len(self.mutant.judge_host(0, "OK\n")[1]), 2)
        rust = Mutant("# Wrong.\nhost: cargo\nred: a::*\n" + DIFF, "name")
        self.assertEqual(rust.judge_host(101, "test a::b ... FAILED\n"), (["a::b"], []))


class Together(unittest.TestCase):
    PLAN = "modules {}\ninsmod rcu_ptr.ko\nrmmod rcu_ptr\n"

    def parts(self, data):
        """The results of three sets."""
        plan = Plan("for set0 set1 set2\n" + self.PLAN + "done\n", "name")
        result = verdict.judge("BASE", data, plan, None, detector(), verdict.EXITED, 0)
        texts = texts_of(data)
        return [mutants.part(result, texts, plan, f"set{i}") for i in range(3)]

    @staticmethod
    def log(reds, steps=9, end=True):
        """A case in the second step of each set."""
        out = ["rcu_ptr_guest: init"]
        for step in range(1, steps + 1):
            out.append(f"rcu_ptr_guest: step {step}/9 x")
            if step % 3 == 2:
                how = "not ok" if step // 3 in reds else "ok"
                out += ["KTAP version 1", "1..1", "    KTAP version 1", "    # Subtest: rcu_ptr_a",
                        "    1..1", f"    {how} 1 x", f"{how} 1 rcu_ptr_a"]
            out.append(f"rcu_ptr_guest: step {step} rc=0")
        if end:
            out += ["rcu_ptr_guest: end", "reboot: Power down"]
        return "\n".join(out).encode()

    def test_each_has_its_own(self):
        broken = mutant("red: rcu_ptr_a.x")
        judged = [broken.judge(result, texts, detector())[1]
                  for result, texts in self.parts(self.log([0]))]
        self.assertEqual(judged, [[], ["rcu_ptr_a.x did not fail"], ["rcu_ptr_a.x did not fail"]])

    def test_a_guest_that_ends_early(self):
        broken = mutant("red: rcu_ptr_a.x")
        parts = self.parts(self.log([0, 1], steps=6, end=False))
        judged = [broken.judge(result, texts, detector())[1] for result, texts in parts]
        self.assertEqual(judged[0], [])
        self.assertIn("power_off: the guest did not go on", judged[1])
        self.assertIn("rcu_ptr_a.x did not fail", judged[2])


class Names(unittest.TestCase):
    """Tests that a header names have to exist, and to be run."""

    def test_names(self):
        def unknown(red, tests="rcu_ptr_reader.*"):
            text = f"# Wrong.\nengine: rfc\ntests: {tests}\n{red}\n"
            return Mutant(text + DIFF, "name").unknown()
        self.assertEqual(unknown("red: rcu_ptr_reader.blocks"), [])
        self.assertEqual(unknown("red: rcu_ptr_reader.after_*"), [])
        self.assertEqual(unknown("splat: x"), [])
        self.assertEqual(len(unknown("red: rcu_ptr_reader.no_such")), 1)
        self.assertEqual(len(unknown("red: rcu_ptr_reader.blocks", "rcu_ptr_list.*")), 1)
        self.assertEqual(len(unknown("splat: x", "rcu_ptr_list.no_such")), 1)


class Control(unittest.TestCase):
    def test_judge(self):
        broken = mutant("red: rcu_ptr_a.x")
        plan = Plan(broken.plan, "name", ("BASE", "x86_64"))
        for data, problems in ((log(("x", "ok"), ("y", "ok")), []),
                               (log(("x", "ok"), ("y", "not ok")), ["rcu_ptr_a.y failed"]),
                               (log(("y", "ok")), ["name: no case rcu_ptr_a.x ran and passed"]),
                               (log(("x # SKIP no such thing", "ok")), ["name: no case rcu_ptr_a.x ran and passed"])):
            result = verdict.judge("BASE", data, plan, None, detector(), verdict.EXITED, 0)
            self.assertEqual(mutants.judge_control([broken], result), problems)
