# SPDX-License-Identifier: GPL-2.0
"""Writes verdicts: KTAP for programs, a summary for people."""

import re

from . import ktap
from .verdict import add_up

INDENT = "    "
# Maximum lines of the list at the end of a stream, and of one failure in it.
MOST = 40
MOST_SAID = 4
# The first line of a case's output that matters.
WHY = re.compile(r"ASSERTION FAILED|EXPECTATION FAILED|\bsplat: |\bBUG: |\bWARNING: ")
# Lines about the run, not the failure.
CHATTER = re.compile(r"\.speed: \w+$|rcu_ptr_guest: ")


def _name(name):
    """A '#' in a name would start a directive."""
    return name.replace("#", "_").strip() or "unnamed"


def _result(result, number, depth, out):
    pad = INDENT * depth
    if result.children:
        _suite(_name(result.name), result.children, depth + 1, out)
    if not result.passed():
        for text in [*result.problems(), *result.log]:
            out.append(f"{pad}# {text.strip().removeprefix('#').strip()}")
    status = "ok" if result.passed() else "not ok"
    comment = ""
    if result.status == ktap.SKIPPED:
        comment = f" # SKIP {result.reason}".rstrip()
    elif result.directive:
        comment = f" # {result.directive} {result.reason}".rstrip()
    out.append(f"{pad}{status} {number} {_name(result.name)}{comment}")


def _suite(name, children, depth, out):
    pad = INDENT * depth
    out += [f"{pad}KTAP version 1", f"{pad}# Subtest: {name}", f"{pad}1..{len(children)}"]
    for number, child in enumerate(children, 1):
        _result(child, number, depth, out)


def header(scenarios):
    return ["KTAP version 1", f"1..{scenarios}"]


def scenario(verdict, number):
    whole = ktap.Result(verdict.name, ktap.OK)
    whole.children = verdict.suites
    if verdict.state == "SKIP":
        whole = verdict.suites[0]
    elif verdict.state != "PASS":
        whole.status = ktap.FAILED
        if verdict.state != "FAIL":
            whole.directive = verdict.state
    out = []
    if verdict.before:
        out.append(f"# {verdict.name}: booted again, {verdict.before} times: the host was too busy for the "
                   "kernel to find its timer")
    _result(whole, number, 0, out)
    return out


def totals(verdicts):
    """Passed, failed and skipped cases of all scenarios. Having no case is a failure."""
    sums = add_up(v.counts() for v in verdicts)
    return sums if any(sums) else (0, 1, 0)


def closing(sums):
    return "%d passed, %d failed, %d skipped" % sums


def exit_code(verdicts):
    """0 good, 1 failed, 4 all skipped, not counting the cases about the guest itself."""
    if totals(verdicts)[1] or not all(v.state in ("PASS", "SKIP") for v in verdicts):
        return 1
    passed, _, skipped = add_up(v.counts(tests=True) for v in verdicts)
    return 4 if skipped and not passed else 0


def _leaves(results, path=""):
    for result in results:
        name = f"{path}{result.name}"
        if result.passed():
            continue
        bad = [child for child in result.children if not child.passed()]
        if bad:
            yield from _leaves(bad, f"{name}: ")
        else:
            yield name, result


def _failures(verdict):
    """(name, result) of failures in their order: later ones may be caused by the first."""
    return sorted(_leaves(verdict.suites), key=lambda failure: failure[1].at)


def _said(result):
    """The most relevant lines of a failure's output."""
    texts = [text.strip().removeprefix("#").strip() for text in [*result.problems(), *result.log]]
    texts = [text for text in texts if text and not CHATTER.search(text)]
    start = next((i for i, text in enumerate(texts) if WHY.search(text)), None)
    if start is not None or len(texts) <= MOST_SAID:
        return texts[start or 0:][:MOST_SAID]
    # A shell's trace: the reason, and the last command.
    return texts[:2] + texts[-2:]


def shorten(blocks, most, rest):
    """Joins lists of lines to at most so many lines: the first list in any case, then complete ones; rest(n)
    is the line for n lists that are left out."""
    out = []
    for number, block in enumerate(blocks):
        # One line is for the rest.
        if out and len(out) + len(block) + (number + 1 < len(blocks)) > most:
            return [*out, rest(len(blocks) - number)]
        out += block
    return out


def failures(verdicts):
    """The failures and their output, for the end of a long stream. Each boot has a share of the lines."""
    bad = [verdict for verdict in verdicts if verdict.state not in ("PASS", "SKIP")]
    out = []
    for verdict in bad:
        blocks = [[f"# FAILED {verdict.name}: {name} {result.directive}".rstrip(),
                   *(f"#     {text[:200]}" for text in _said(result))]
                  for name, result in _failures(verdict)]
        if blocks and verdict.folder:
            # Without the line about those left out.
            blocks[0].append(f"#   log: {verdict.folder}/console.log")
        out += shorten(blocks, MOST // len(bad), lambda n: f"#   and {n} more")
    return out


def summary(verdict, run):
    """The summary of 'make run'. run: the Run of the verdict."""
    scen = run.scenario
    kinds = [(demo["kind"], demo.get("objects", "?")) for demo in verdict.demo if "kind" in demo]
    periods = [demo["grace_periods"] for demo in verdict.demo if "grace_periods" in demo]
    passed, failed, skipped = verdict.counts()
    out = [
        f"Scenario {scen.name}: {verdict.state}",
        f"  kernel         Linux {scen.release}, {scen.arch}, {run.accel} ({run.why})",
        f"  engine         {verdict.engine or 'none was loaded'}",
    ]
    if kinds:
        total = sum(int(n) for _, n in kinds if n.isdigit())
        width = max(len(kind) for kind, _ in kinds)
        out.append(f"  objects freed  {total}, each after a grace period:")
        out += [f"    {kind:<{width}}  {n:>8}" for kind, n in kinds]
    else:
        out.append("  objects freed  unknown: the demonstration did not run")
    out.append(f"  grace periods  {' + '.join(periods) if periods else 'unknown'}")
    out.append(f"  tests          {passed} passed, {failed} failed, {skipped} skipped")
    for name, result in _failures(verdict):
        out.append(f"    FAILED {name} {result.directive}".rstrip())
        out += [f"      {text.strip()}" for text in [*result.problems(), *result.log][:6]]
    out.append(f"  took           {run.seconds:.1f} s")
    out.append(f"  logs           {run.folder}")
    return out
