# SPDX-License-Identifier: GPL-2.0
"""The test cases that the sources have: KUnit's, and those of the shell suites."""

import fnmatch
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KUNIT = ROOT / "rust" / "rcu_ptr_kunit" / "suites"
SHELL = ROOT / "qemu" / "guest" / "tests"

SUITE = re.compile(r"^#\[kunit_tests\((\w+)\)\]", re.M)
CASE = re.compile(r"#\[test\]\s+(?:#\[[^\]]*\]\s+)*fn (\w+)\(")
SHELL_SUITE = re.compile(r"^suite ((?:.*\\\n)*.*)$", re.M)


def kunit(folder=KUNIT):
    """{SUITE: [CASE, ...]} of the modules."""
    found = {}
    for path in sorted(folder.glob("*.rs")):
        text = path.read_text(encoding="utf-8")
        for suite in SUITE.finditer(text):
            found[suite.group(1)] = CASE.findall(text, suite.end())
    return found


def shell(folder=SHELL):
    """The same of the shell suites."""
    found = {}
    for path in sorted(folder.glob("*.sh")):
        for suite in SHELL_SUITE.finditer(path.read_text(encoding="utf-8")):
            name, *cases = suite.group(1).replace("\\\n", " ").split()
            found[name] = cases
    return found


def names(suites):
    """SUITE.CASE of all."""
    return [f"{suite}.{case}" for suite, cases in suites.items() for case in cases]


def selected(glob, suites):
    """Those that KUnit's filter takes: SUITE or SUITE.CASE, a glob each."""
    suite, _, case = glob.partition(".")
    return [name for name in names(suites)
            if fnmatch.fnmatchcase(name.split(".")[0], suite)
            and fnmatch.fnmatchcase(name.split(".")[1], case or "*")]
