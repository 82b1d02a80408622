# SPDX-License-Identifier: GPL-2.0
"""Helpers of the runner's tests."""

import pathlib

from lib import expected as lists_of
from lib import verdict
from lib.plan import Plan
from lib.splat import Detector

QEMU = pathlib.Path(__file__).resolve().parent.parent

# The plans and cases of the golden logs.
PLAN = Plan("insmod rcu_ptr.ko\ninsmod rcu_ptr_kunit.ko\nrmmod rcu_ptr\n", "golden")
PLANS = {"engines": Plan("for rfc lockless\ninsmod rcu_ptr.ko engine={}\nonce rcu_ptr_kunit.ko\nrmmod rcu_ptr\ndone\n",
                         "engines")}
CASES = {"usual": {"rcu_ptr_queue": ["kmalloc", "vmalloc", "barrier"], "rcu_ptr_list": ["forced", "order"]},
         "parametrised": {"rcu_ptr_queue": ["kmalloc", "vmalloc", "barrier"], "rcu_ptr_list": ["sizes", "order"]},
         "engines": {"rcu_ptr_queue": ["kmalloc", "vmalloc"]}}


def wanted(plan=PLAN, cases="usual", skips=()):
    """The Expected of a plan."""
    return lists_of.Expected(lists_of.of_plan(plan, CASES[cases], {}), skips)


detector = Detector.of_tree


def judge(data, ended="exited", code=0, stderr="", expected=None, plan=PLAN, nmi=None):
    """Judges a log as the runner would."""
    return verdict.judge("BASE", data, plan, expected or wanted(), detector(), ended, code, stderr,
                         nmi)


def failed(results, path=""):
    """The names of failures, as in the golden files."""
    names = []
    for result in results:
        if result.passed():
            continue
        below = failed(result.children, f"{path}{result.name}: ")
        names += below or [f"{path}{result.name} {result.directive}".rstrip()]
    return names
