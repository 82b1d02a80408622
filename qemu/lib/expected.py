# SPDX-License-Identifier: GPL-2.0
"""The cases that must run in a boot: those of expected/cases that the plan selects; and the ones that may be
skipped: expected/skips.

expected/cases has each suite with its cases, one a line; qemu/run.py list writes it from the sources,
and 'make check' compares them. Those of the kernel's slub_kunit are in expected/upstream in the same form:

    rcu_ptr_reader              a suite of rcu_ptr_kunit.ko; rcu_ptr_sweep is of nmi_sweep.ko
            blocks
    sh rcu_ptr_params           one under qemu/guest/tests
            defaults

expected/skips has 'on' as in plans, cases of a suite, with the label of the plan's loop or without, and the
message of the skip:

    on arm64 rcu_ptr_nmi.from_breakpoints the machine has no such source of NMIs
    on RT rfc.rcu_ptr_bench.calls,path not on PREEMPT_RT
"""

import fnmatch
import re

from .base import QEMU, ROOT, SetupError, read
from .plan import Source

FOLDER = QEMU / "expected"
KUNIT = ROOT / "rust" / "rcu_ptr_kunit" / "suites"
SWEEP = ROOT / "rust" / "nmi_sweep"
SHELL = QEMU / "guest" / "tests"
SUITE = re.compile(r"^#\[kunit_tests\((\w+)\)\]", re.M)
CASE = re.compile(r"#\[test\]\s+(?:#\[[^\]]*\]\s+)*fn (\w+)\(")
SHELL_SUITE = re.compile(r"^suite ((?:.*\\\n)*.*)$", re.M)
# The suite of nmi_sweep.ko.
SWEPT = "rcu_ptr_sweep"
SLUB = ("slub_kunit.ko", "slub_kunit_short.ko")
HEADER = """# SPDX-License-Identifier: GPL-2.0
# The cases of each suite, as qemu/run.py list finds them in the sources: qemu/lib/expected.py.
"""


def sources():
    """The files with KUnit suites."""
    return [*sorted(KUNIT.glob("*.rs")), SWEEP / "suite.rs"]


def in_sources():
    """The cases in the sources, as parse() returns them."""
    kunit, shell = {}, {}
    for path in sources():
        text = read(path)
        for suite in SUITE.finditer(text):
            kunit[suite.group(1)] = CASE.findall(text, suite.end())
    for path in sorted(SHELL.glob("*.sh")):
        for suite in SHELL_SUITE.finditer(read(path)):
            name, *cases = suite.group(1).replace("\\\n", " ").split()
            shell[name] = cases
    return kunit, shell


def names(suites):
    """All cases as SUITE.CASE."""
    return [f"{suite}.{case}" for suite, cases in suites.items() for case in cases]


def selected(glob, suites):
    """The cases that match KUnit's filter: SUITE or SUITE.CASE, a glob each."""
    suite, _, case = glob.partition(".")
    return [name for name in names(suites)
            if fnmatch.fnmatchcase(name.split(".")[0], suite)
            and fnmatch.fnmatchcase(name.split(".")[1], case or "*")]


class Expected:
    def __init__(self, suites, skips=()):
        # (step, counted from 1; name, with the label in front; cases), in the order of the steps
        self.suites = suites
        self._skips = list(skips)

    def may_skip(self, name, reason):
        """Whether a case, LABEL.SUITE.CASE, may be skipped for this reason."""
        return any(reason == why and (name == case or name.endswith(f".{case}"))
                   for case, why in self._skips)


def parse(text, name="expected/cases"):
    """Two dicts {SUITE: [CASE, ...]}: of KUnit, and of the shell."""
    kunit, shell, cases = {}, {}, None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if line[0].isspace() and len(words) == 1 and cases is not None:
            cases.append(words[0])
        elif not line[0].isspace() and len(words) == 1 + (words[0] == "sh"):
            cases = []
            (shell if words[0] == "sh" else kunit)[words[-1]] = cases
        else:
            raise SetupError(f"{name}:{number}: write SUITE or sh SUITE, and its cases behind tabs")
    return kunit, shell


def parse_skips(text, name="expected/skips", where=()):
    """(name, reason) of each skip, for one scenario."""
    source, skips = Source(text, name, where), []
    for _, words, at in source.lines:
        suite, dot, cases = words[0].rpartition(".")
        if len(words) < 2 or not dot:
            raise source.wrong("write SUITE.CASE[,CASE...] and the reason", at)
        skips += [(f"{suite}.{case}", " ".join(words[1:])) for case in cases.split(",")]
    return skips


def write(kunit, shell):
    """The text that parse() reads."""
    out = [HEADER]
    for kind, suites in (("", kunit), ("sh ", shell)):
        for suite in sorted(suites):
            out.append(f"{kind}{suite}\n")
            out += [f"\t{case}\n" for case in suites[suite]]
    return "".join(out)


def by_module(kunit, slub=None):
    """{module: its suites}."""
    sweep = {name: cases for name, cases in kunit.items() if name == SWEPT}
    tests = {name: cases for name, cases in kunit.items() if name != SWEPT}
    return {"rcu_ptr_kunit.ko": tests, "nmi_sweep.ko": sweep, **dict.fromkeys(SLUB, slub or {})}


def of_plan(plan, kunit, shell, slub=None):
    """(step, name, cases) of each suite that a plan runs."""
    suites, filtered = [], "*"
    modules = by_module(kunit, slub)
    for number, (label, words) in enumerate(zip(plan.labels, plan.steps), 1):
        ran = {}
        if words[0] == "tests":
            filtered = words[1]
        elif words[0] == "modules":
            filtered = "*"
        elif words[0] == "insmod" and words[1] in modules:
            for name in selected(filtered, modules[words[1]]):
                suite, case = name.split(".")
                ran.setdefault(suite, []).append(case)
        elif words[0] == "sh":
            suite = words[1].removesuffix(".sh")
            ran[suite] = shell.get(suite, [])
        suites += [(number, f"{label}.{suite}".lstrip("."), cases) for suite, cases in ran.items()]
    return suites


def load(plan, where):
    """The Expected of a plan in a scenario; where: Scenario.where."""
    kunit, shell = parse(read(FOLDER / "cases"), FOLDER / "cases")
    slub, _ = parse(read(FOLDER / "upstream"), FOLDER / "upstream")
    skips = parse_skips(read(FOLDER / "skips"), FOLDER / "skips", where)
    return Expected(of_plan(plan, kunit, shell, slub), skips)


def add_skips(scenario, skipped, folder=FOLDER):
    """Appends skips, each (name, reason), without labels."""
    path = folder / "skips"
    text = read(path)
    for name, reason in dict.fromkeys(skipped):
        line = f"on {scenario} {name} {reason}\n"
        if line not in text:
            text += line
    path.write_text(text, encoding="utf-8")
