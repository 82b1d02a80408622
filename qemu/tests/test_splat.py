# SPDX-License-Identifier: GPL-2.0
"""The detector of splats: its lists, its self-check, its brackets."""

import unittest

from .common import QEMU, detector, judge
from lib.base import SetupError
from lib.splat import SAMPLE, Detector
from .logs import data as log


# Samples of messages of warnings in the deny list.
MESSAGES = ("kmem_cache_destroy", "BUG rcu_ptr_test", "ODEBUG", "list_", "refcount_t", "DEBUG_LOCKS")


def samples():
    """Every sample in the real deny list."""
    text = (QEMU / "splat-deny.txt").read_text(encoding="utf-8")
    return [line[len(SAMPLE):] for line in text.splitlines() if line.startswith(SAMPLE)]


class Splats(unittest.TestCase):
    def test_each_kind_fails_a_good_boot(self):
        lines = log("good").split(b"\r\n")
        middle = next(i for i, line in enumerate(lines) if b"ok 2 vmalloc" in line)
        for sample in samples():
            with self.subTest(sample):
                data = b"\r\n".join(lines[:middle] + [b"[    9.000000] " + sample.encode()] +
                                    lines[middle:])
                verdict = judge(data)
                self.assertEqual(verdict.state, "FAIL")
                self.assertEqual(verdict.counts(), (10, 1, 0))

    def test_each_kind_is_excused_only_in_a_bracket(self):
        for sample in samples():
            with self.subTest(sample):
                bracket = ["rcu_ptr: expect-splat begin .", sample, "rcu_ptr: expect-splat end"]
                self.assertEqual(detector().find(bracket), ([], []))
                self.assertEqual(len(detector().find([sample])[0]), 1)

    def test_self_check(self):
        for deny, why in (
                ("", "is empty"),
                ("# only a comment\n", "is empty"),
                ("BUG\n", "has no '# sample: ' line"),
                ("# sample: Oops\nBUG\n", "doesn't find its sample"),
                ("# sample: BUG\nBUG(\n", "no regular expression"),
                ("# sample: x\n.\n", "an ordinary line is taken for a splat"),
        ):
            with self.subTest(deny), self.assertRaisesRegex(SetupError, why):
                Detector(deny, "")

    def test_allow_needs_a_dated_reason(self):
        deny = "# sample: BUG: x\nBUG:\n"
        with self.assertRaisesRegex(SetupError, "YYYY-MM-DD reason"):
            Detector(deny, "BUG: harmless\n")
        with self.assertRaisesRegex(SetupError, "YYYY-MM-DD reason"):
            Detector(deny, "# because\nBUG: harmless\n")
        allowing = Detector(deny, "# 2026-01-31 a reason\nBUG: harmless\n")
        self.assertEqual(allowing.find(["BUG: harmless"]), ([], []))
        self.assertEqual(len(allowing.find(["BUG: harmful"])[0]), 1)

    def test_bracket_with_a_bad_regex(self):
        unexpected, problems = detector().find(
            ["rcu_ptr: expect-splat begin (", "BUG: x", "rcu_ptr: expect-splat end"])
        self.assertEqual((len(unexpected), len(problems)), (1, 1))

    def test_bracket_with_two_splats(self):
        begin, end = "rcu_ptr: expect-splat begin BUG: x ;; BUG: y", "rcu_ptr: expect-splat end"
        self.assertEqual(detector().find([begin, "BUG: x", "BUG: y", end]), ([], []))
        unexpected, problems = detector().find([begin, "BUG: x", end])
        self.assertEqual((len(unexpected), len(problems)), (0, 1))
        unexpected, problems = detector().find([begin, "BUG: x", "BUG: y", "BUG: z", end])
        self.assertEqual((len(unexpected), len(problems)), (1, 0))
        unexpected, problems = detector().find([begin, "BUG: x", "BUG: y", "BUG: y", end])
        self.assertEqual((len(unexpected), len(problems)), (1, 1))

    def test_bracket_with_several(self):
        begin, end = "rcu_ptr: expect-splat begin + BUG: x ;; BUG: y", "rcu_ptr: expect-splat end"
        self.assertEqual(detector().find([begin, "BUG: x", "BUG: y", "BUG: x", end]), ([], []))
        self.assertEqual(len(detector().find([begin, "BUG: y", end])[1]), 1)
        self.assertEqual(len(detector().find([begin, "BUG: x", "BUG: y", "BUG: y", end])[0]), 1)

    def test_end_without_begin(self):
        self.assertEqual(len(detector().find(["rcu_ptr: expect-splat end"])[1]), 1)

    def test_one_warning_is_one_splat(self):
        text = ["------------[ cut here ]------------", "refcount_t: underflow; use-after-free.",
                "WARNING: lib/refcount.c:28 at refcount_warn_saturate+0x9a/0xe0, CPU#0: sh/1",
                "---[ end trace 0000000000000000 ]---"]
        unexpected, _ = detector().find(text + text)
        self.assertEqual(len(unexpected), 2)

    def test_lost_end_of_trace_hides_nothing(self):
        text = ["------------[ cut here ]------------", "WARNING: a.c:1 at a+0x1/0x2, CPU#0: sh/1",
                "BUG: KASAN: slab-use-after-free in b+0x1/0x2",
                "------------[ cut here ]------------", "WARNING: c.c:1 at c+0x1/0x2, CPU#0: sh/1"]
        unexpected, _ = detector().find(text)
        self.assertEqual([splat.line.split()[0] for splat in unexpected],
                         ["WARNING:", "BUG:", "WARNING:"])

    def test_announced_warning_hides_no_other_report(self):
        cut = "------------[ cut here ]------------"
        warning = "WARNING: a.c:1 at a+0x1/0x2, CPU#0: sh/1"
        for sample in samples():
            for at in (1, 2, 3, 4):
                lines = [cut, "rcu_ptr: 1 is queued twice", warning, "Call Trace:"]
                lines.insert(at, sample)
                with self.subTest(sample=sample, at=at):
                    unexpected, problems = detector().find(
                        ["rcu_ptr: expect-splat begin is queued twice", *lines,
                         "---[ end trace 0000000000000000 ]---", "rcu_ptr: expect-splat end"])
                    # The message of a warning precedes it.
                    message = at < 3 and sample.startswith(MESSAGES) or at < 3 and \
                        sample.startswith("WARNING")
                    if not message:
                        self.assertEqual([splat.line for splat in unexpected], [sample])
                        self.assertEqual(problems, [])

    def test_announced_words_elsewhere_in_a_report(self):
        unexpected, problems = detector().find(
            ["rcu_ptr: expect-splat begin queued twice",
             "BUG: KASAN: slab-use-after-free in b+0x1/0x2", "Call Trace:", " queued twice+0x1/0x2",
             "rcu_ptr: expect-splat end"])
        self.assertEqual((len(unexpected), len(problems)), (1, 1))

    def test_message_without_its_warning(self):
        cut = "------------[ cut here ]------------"
        unexpected, _ = detector().find([cut, "refcount_t: underflow; use-after-free."])
        self.assertEqual(len(unexpected), 1)
        unexpected, _ = detector().find([cut, "kernel BUG at a.c:1!", "refcount_t: x"])
        self.assertEqual(len(unexpected), 2)
