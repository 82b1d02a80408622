# SPDX-License-Identifier: GPL-2.0
"""A mutant: a patch that breaks the modules in one way, and what has to detect it.

A file of qemu/mutants/ has several. Each begins with a line '== NAME'; lines '# ...' that state what is
broken, lines 'KEY: VALUE', and the diff follow:

    scenario: BASE                      the kernel; several names make several runs
    engine: rfc                         the engine of the core
    tests: rcu_ptr_reader.blocks        the KUnit cases that run, a glob, of one module; then parameters of
                                        this module
    plan: sh rcu_ptr_debugfs.sh         instead of 'engine' and 'tests': a step of a plan, see plan.py
    red: rcu_ptr_reader.blocks          a SUITE.CASE, a glob, that has to fail; with neither 'red' nor
                                        'splat' it is that of 'tests'
    splat: REGEX                        a report that the kernel has to print, or a message that an
                                        announced one is missing: expect-splat '...' came 0 times
    may: REGEX                          a report that may be printed as well
    end: panic                          how the guest ends, if not in order: panic, or hang
    boot: OPTION...                     more parameters for the kernel
    machine: KEY=VALUE...               settings, as in qemu/configs/NAME.qemu
    timeout: SECONDS                    for the boot, instead of the default and of TIMEOUT=
    host: COMMAND                       instead of a boot: a command in the tree that has to fail;
                                        'red' is a test that it reports as failed
    always: WHY                         .ci/run runs it before all others

With 'plan' at least one 'red' or 'splat' is needed, with 'host' a 'red'; 'plan', 'red', 'splat' and 'may' may
be repeated. Nothing else may fail. With 'end', cases that did not complete count as red: SUITE.after_CASE.

A diff is that of git without what is not needed: '--- a/FILE', '@@' between the hunks of a file, and lines
with '-', '+' and ' '. A hunk has lines with ' ' only if those with '-' are not enough, or if there are none:
together they have to be in the file once. An empty line is one of the file, but for those at the end.
"""

import fnmatch
import re

from . import console as consoles
from . import expected, ktap
from . import verdict as verdicts
from .base import SetupError, read
from .plan import Plan
from .scenario import parse_settings

BEGIN = re.compile(r"^== ([a-z0-9]+(?:-[a-z0-9]+)*)$")
LINE = re.compile(r"^([a-z]+): (\S.*)$")
FILE = "--- a/"
# Lines of a diff by git that are not used.
UNUSED = ("diff ", "index ", "+++ b/", "\\ ")
ONCE = ("scenario", "engine", "tests", "end", "boot", "machine", "timeout", "host", "always")
OFTEN = ("plan", "red", "splat", "may")
ENDS = ("panic", "hang")
PANIC = re.compile(r"^Kernel panic - not syncing: ")
AGAIN = re.compile(r"\.\d+$")
# Failures in the output of Python's and Cargo's tests.
HOST_FAILED = re.compile(r"^(?:FAIL|ERROR): (\w+) |^test (\S+) .*\bFAILED$", re.M)


def _without_mutant(glob):
    """The cases that 'red' stands for without the mutant, when there is no SUITE.after_CASE."""
    return glob.split(".after_")[0] + ".*" if ".after_" in glob else glob


def of_file(text, file):
    """The mutants of a file, in its order."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("=="):
            begin = BEGIN.match(line)
            if not begin:
                raise SetupError(f"{file}:{number}: '{line}': write '== NAME', of small letters, digits and -")
            found.append((begin.group(1), number, []))
        elif found:
            found[-1][2].append(line)
        elif line and not line.startswith("#"):
            raise SetupError(f"{file}:{number}: '{line}': above the first '== NAME' write '# TEXT'")
    return [Mutant("\n".join(lines) + "\n", name, file, number) for name, number, lines in found]


def _hunks(lines, file, number):
    """[FILE, its old lines, its new lines, where it is] of each hunk of a diff, which begins in line `number`."""
    hunks, name = [], ""
    for at, line in enumerate(lines, number):
        if line.startswith(UNUSED):
            continue
        if line.startswith((FILE, "@@")):
            name = line.removeprefix(FILE) if line.startswith(FILE) else name
            hunks.append([name, "\n", "\n", f"{file}:{at}"])
        elif hunks and line[:1] in (" ", "-", "+", ""):
            hunks[-1][1] += line[1:] + "\n" if line[:1] != "+" else ""
            hunks[-1][2] += line[1:] + "\n" if line[:1] != "-" else ""
        else:
            raise SetupError(f"{file}:{at}: '{line}': in a diff")
    return [hunk for hunk in hunks if hunk[1] != hunk[2]]


class Mutant:
    """The text below the line '== NAME', which is line `number` of the file."""

    def __init__(self, text, name, file="-", number=0):
        self.name = name
        self.where = f"{file}:{number}: {name}"
        self.what = []
        self._once = {}
        self._often = {key: [] for key in OFTEN}
        lines = text.rstrip("\n").splitlines()
        header = next((i for i, line in enumerate(lines) if line.startswith(("diff ", "--- "))), len(lines))
        for at, line in enumerate(lines[:header], number + 1):
            self._take(line.rstrip(), f"{file}:{at}")
        self._hunks = _hunks(lines[header:], file, number + 1 + header)
        # A command on the host, or ''.
        self.host = self._once.get("host", "")
        self.always = "always" in self._once
        self.scenarios = [] if self.host else self._once.get("scenario", "BASE").split()
        # The glob of the cases that run, and parameters of their module.
        self._tests = self._once.get("tests", "").split()
        # Globs of the cases that have to fail.
        self.red = self._often["red"] or ([] if self._often["splat"] else self._tests[:1])
        # '', 'panic' or 'hang'.
        self.end = self._once.get("end", "")
        # Parameters of the kernel.
        self.boot = self._once.get("boot", "").split()
        self._check()
        self.machine = parse_settings("\n".join(self._once.get("machine", "").split()), self.where)
        self.timeout = int(self._once.get("timeout", 0)) or None
        # Whether it needs a guest of its own.
        self.alone = bool(self.end or self.boot or self.machine or self.timeout or self._often["splat"] or
                          self._often["may"])
        # The steps, as text.
        self.plan = "" if self.host else "".join(step + "\n" for step in self._often["plan"] or self._steps())

    def _take(self, line, where):
        if line.startswith("#"):
            self.what.append(line.lstrip("# "))
            return
        if not line:
            return
        found = LINE.match(line)
        key, value = found.groups() if found else ("", "")
        if key in self._often:
            self._often[key].append(value)
        elif key in ONCE and key not in self._once:
            self._once[key] = value
        else:
            known = ", ".join(ONCE + OFTEN)
            raise SetupError(f"{where}: '{line}': write '# TEXT' or 'KEY: VALUE' above the diff, "
                             f"each key once but {', '.join(OFTEN)}; there are: {known}")

    def _check(self):
        def wrong(what):
            raise SetupError(f"{self.where}: {what}")
        if not self._hunks:
            wrong("there is no diff")
        if not self.what:
            wrong("write in '# ...' what is broken")
        if not self.red and not self._often["splat"]:
            wrong("neither 'red' nor 'splat' names what has to detect it")
        if self.host:
            if set(self._once) - {"host", "always"} or self._often["plan"] or not self.red:
                wrong("with 'host' only 'red' and 'always' are possible, and 'red' is needed")
        elif bool(self._often["plan"]) == ("engine" in self._once and "tests" in self._once) or \
                self._often["plan"] and ("engine" in self._once or "tests" in self._once):
            wrong("write 'engine' and 'tests', or 'plan'")
        if self.end not in ("", *ENDS):
            wrong(f"end: {self.end}: there are: {', '.join(ENDS)}")
        if not self._once.get("timeout", "1").isdigit():
            wrong("timeout: a number of seconds")
        for pattern in self._often["splat"] + self._often["may"]:
            try:
                re.compile(pattern)
            except re.error as error:
                wrong(f"'{pattern}' is no regular expression: {error}")

    def _steps(self):
        tests, *params = self._tests
        module = "nmi_sweep" if tests.split(".")[0] == expected.SWEPT else "rcu_ptr_kunit"
        return [f"insmod rcu_ptr.ko engine={self._once['engine']}", f"tests {tests}",
                " ".join([f"insmod {module}.ko", *params]), f"rmmod {module}", "rmmod rcu_ptr"]

    def broken(self, tree):
        """{FILE: its text with this mutant}; a SetupError if a hunk does not fit, or in more than one place."""
        texts = {}
        for name, old, new, where in self._hunks:
            text = texts.get(name) or "\n" + read(tree / name)
            if old == "\n":
                raise SetupError(f"{where}: a line with '-' or ' ' has to say where")
            at = text.find(old)
            if at < 0 or text.find(old, at + 1) >= 0:
                raise SetupError(f"{where}: these lines are {'not' if at < 0 else 'more than once'} in {name}")
            texts[name] = text[:at] + new + text[at + len(old):]
        return {name: text[1:] for name, text in texts.items()}

    def unknown(self):
        """Errors for tests in the header that do not exist, or that its plan does not run."""
        if self.host:
            return []
        bad = []
        for scenario in self.scenarios:
            plan = Plan(self.plan, self.where, (scenario,))
            ran = expected.of_plan(plan, *expected.in_sources())
            run = expected.names({suite: ran_cases for _, suite, ran_cases in ran})
            if not run:
                bad.append("its plan runs no case")
                continue
            for glob in self.red:
                if not fnmatch.filter(run, _without_mutant(glob)):
                    bad.append(f"red: {glob}: its plan runs no such case")
        return list(dict.fromkeys(bad))

    def judge_host(self, code, output):
        """As judge(), for a command."""
        failed = [one or other for one, other in HOST_FAILED.findall(output)]
        caught, problems = [], []
        for glob in self.red:
            hits = fnmatch.filter(failed, glob)
            caught += hits
            if not hits:
                problems.append(f"{glob} did not fail")
        if code == 0:
            problems.append("the command ended with 0")
        return list(dict.fromkeys(caught)), problems

    def judge(self, verdict, texts, detector):
        """Two lists of texts: what caught the mutant, and why it doesn't count as caught."""
        caught, problems = [], []
        guest, *suites = verdict.suites
        failed = [name for name, passed in cases(suites) if not passed]
        for glob in self.red:
            hits = [name for name in failed if fnmatch.fnmatchcase(name, glob)]
            caught += hits
            if not hits:
                problems.append(f"{glob} did not fail")
        problems += [f"{name} failed, which should not" for name in failed
                     if not any(fnmatch.fnmatchcase(name, glob) for glob in self.red)]
        self._judge_splats(texts, detector, caught, problems)
        self._judge_end(guest, texts, caught, problems)
        if verdict.state == "ERROR":
            problems.append("the guest did not boot")
        return list(dict.fromkeys(caught)), problems

    def _judge_splats(self, texts, detector, caught, problems):
        splats, broken = detector.find(texts)
        for pattern in self._often["splat"]:
            regex = re.compile(pattern)
            hits = [splat.line for splat in splats if splat.matches(regex)]
            hits += [text for text in broken if regex.search(text)]
            caught += [f"'{line.strip()[:90]}'" for line in hits[:1]]
            if not hits:
                problems.append(f"the kernel did not report '{pattern}'")
        known = [re.compile(pattern) for pattern in self._often["splat"] + self._often["may"]]
        problems += [text for text in broken if not any(regex.search(text) for regex in known)]
        if self.end == "panic":
            known.append(PANIC)
        for splat in splats:
            if not any(splat.matches(regex) for regex in known):
                problems.append(f"the kernel reported something else: {splat.line.strip()[:120]}")

    def _judge_end(self, guest, texts, caught, problems):
        steps = [case for case in guest.children if case.name not in ("no_splats", "power_off")
                 and not case.passed()]
        power = next((case for case in guest.children if case.name == "power_off"), None)
        in_order = power is not None and power.passed() and not steps
        if not self.end:
            for case in steps + ([power] if power and not power.passed() else []):
                problems += [f"{case.name}: {text}" for text in case.log]
            return
        if in_order:
            problems.append(f"the guest came to its end in order, not by a {self.end}")
        timed_out = power is not None and power.directive == "TIMEOUT"
        panics = [text for text in texts if PANIC.match(text)]
        if self.end == "panic" and not panics:
            problems.append("the guest ended without a panic" if not timed_out else
                            "the guest hung without a panic")
        if self.end == "hang" and not timed_out and not in_order:
            problems.append("the guest ended by itself instead of hanging")
        if panics:
            caught.append(f"'{panics[0].strip()[:90]}'")


def cases(suites):
    """(SUITE.CASE, passed) of all that ran; a suite that ran again has the same name."""
    out = []
    for suite in suites:
        name = AGAIN.sub("", suite.name)
        out += [(f"{name}.{leaf.name}" if leaf is not suite else name, leaf.passed())
                for leaf in suite.leaves()]
        if not suite.passed() and all(leaf.passed() for leaf in suite.leaves()):
            out.append((name, False))
    return out


def judge_control(mutants, verdict):
    """Why the boot of the unchanged modules is no valid control for these mutants."""
    problems = [f"{name} failed" for name, passed in cases(verdict.suites) if not passed]
    passed = set()
    for suite in verdict.suites:
        name = AGAIN.sub("", suite.name)
        passed |= {f"{name}.{leaf.name}" for leaf in suite.leaves()
                   if verdicts.count(leaf) == (1, 0, 0)}
    for mutant in mutants:
        for glob in mutant.red:
            if not fnmatch.filter(passed, _without_mutant(glob)):
                problems.append(f"{mutant.name}: no case {_without_mutant(glob)} ran and passed")
    return problems


def unloading(plan):
    """The text of a plan with steps that unload what it leaves loaded, so that another can follow."""
    loaded = []
    for words in map(str.split, plan.splitlines()):
        if words[:1] == ["insmod"]:
            loaded.insert(0, words[1].removesuffix(".ko"))
        elif words[:1] == ["rmmod"] and words[1] in loaded:
            loaded.remove(words[1])
    return plan + "".join(f"rmmod {name}\n" for name in loaded)


def part(verdict, texts, plan, label):
    """(verdict, lines) of the steps under a label. They count as ended in order if the guest continued after
    them."""
    numbers = [number for number, name in enumerate(plan.labels, 1) if name == label]
    guest = ktap.Result(verdicts.GUEST, ktap.OK)
    names = plan.names()
    wanted = {"boot", *(names[number - 1] for number in numbers)}
    guest.children = [case for case in verdict.suites[0].children if case.name in wanted]
    lines, inside, after = [], False, False
    for text in texts:
        found = consoles.MARK.match(text)
        step = found and (found.group(2) or found.group(4))
        if step:
            inside = int(step) in numbers
            after = after or int(step) > numbers[-1]
        if inside:
            lines.append(text)
    after = after or any(case.name == "power_off" and case.passed()
                         for case in verdict.suites[0].children)
    guest.children.append(ktap.Result("power_off", ktap.OK) if after else
                          ktap.Result.failed("power_off", "the guest did not go on"))
    suites = []
    for suite in verdict.suites[1:]:
        if suite.name.startswith(f"{label}."):
            suite.name = suite.name.removeprefix(f"{label}.")
            suites.append(suite)
    return verdicts.Verdict(verdict.name, [guest, *suites], verdict.state), lines
