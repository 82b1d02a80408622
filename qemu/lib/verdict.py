# SPDX-License-Identifier: GPL-2.0
"""Judges one boot of a scenario by its console log and the end of QEMU."""

import collections
import re

from . import console as consoles
from . import ktap

# How QEMU ended.
EXITED, TIMED_OUT, NO_TIMER = "exited", "timed out", "no timer"

# The suite about the guest itself.
GUEST = "guest"

DOWN = re.compile(r"^reboot: Power down\b")
HALTED = re.compile(r"^reboot: (?:Power off not available: )?System halted|^reboot: Power off not av")
DEMO = re.compile(r"^rcu_ptr_kunit: demo: (.*)$")


class Verdict:
    """The suites of one boot, with one about the guest itself in front."""

    def __init__(self, name, suites, state):
        self.name = name
        self.suites = suites
        # PASS, FAIL, TIMEOUT, ERROR or SKIP
        self.state = state
        self.engine = None
        # Where its logs are.
        self.folder = None
        # Boots before this one, which had no timer.
        self.before = 0
        self.demo = []
        # Skips that are not allowed: (SUITE.CASE, reason).
        self.unlisted = []

    def leaves(self):
        return [leaf for suite in self.suites for leaf in suite.leaves()]

    def counts(self, tests=False):
        """Passed, failed and skipped cases; with `tests` without those about the guest."""
        return add_up(count(suite) for suite in self.suites if not (tests and suite.name == GUEST))


def left_out(name, why):
    """The verdict on a boot that was left out for lack of time."""
    return Verdict(name, [ktap.Result(name, ktap.SKIPPED, "SKIP", why)], "SKIP")


def unbuilt(name, why):
    """The verdict on a boot whose kernel or modules were not built."""
    return Verdict(name, [ktap.Result.failed(GUEST, why, directive="ERROR", reason="no boot")],
                   "ERROR")


def add_up(counts):
    """The sum of what count() returns."""
    return tuple(sum(column) for column in zip((0, 0, 0), *counts))


def count(result):
    """Passed, failed and skipped cases of a suite. A suite that failed without a failed case in it
    counts as one."""
    if not result.children:
        if result.status == ktap.SKIPPED:
            return 0, 0, 1
        return (1, 0, 0) if result.passed() else (0, 1, 0)
    passed, failed, skipped = add_up(map(count, result.children))
    return passed, failed or int(not result.passed()), skipped


def _case(name, log, directive="", reason=""):
    if log:
        return ktap.Result.failed(name, *log, directive=directive, reason=reason)
    return ktap.Result(name, ktap.OK)


def _boot_case(marks, texts, ended, code, stderr):
    if marks.init:
        return _case("boot", [])
    how = "gave up waiting" if ended == TIMED_OUT else f"QEMU exited with code {code}"
    said = [text for text in texts if text.strip()]
    log = [f"the guest's init never started ({how})",
           *(f"qemu: {line}" for line in stderr.splitlines()[:10]),
           f"the last line on its console: {said[-1]}" if said else
           "nothing was on its console: the kernel lacks the driver, or has too little memory"]
    return _case("boot", log, "ERROR", "no boot")


def _stopped_case(plan, marks, behind):
    """The steps that the guest did not run, as one failure."""
    left = len(plan.steps) - marks.stop
    return _case("stopped", [f"step {marks.stop} '{' '.join(plan.steps[marks.stop - 1])}': {marks.why}",
                             f"{left} steps behind it, with {behind} cases, did not run"])


def _step_cases(plan, marks, ended):
    cases = []
    for number, (name, words) in enumerate(zip(plan.names(), plan.steps), 1):
        if marks.stop and number > marks.stop:
            break
        step = " ".join(words)
        if number not in marks.started:
            cases.append(_case(name, [f"step {number} '{step}' was never reached"]))
        elif number not in marks.codes:
            timeout = ended == TIMED_OUT
            cases.append(_case(name, [f"step {number} '{step}' never ended"],
                               "TIMEOUT" if timeout else "ERROR",
                               "still running" if timeout else "the guest ended first"))
        else:
            code = marks.codes[number]
            log = [f"step {number} '{step}' ended with code {code}"] if code else []
            wanted, engine = plan.engine(number), marks.engines.get(number)
            if not code and wanted and engine != wanted:
                log.append(f"the log says engine {engine}, not {wanted}" if engine else
                           f"no line in the log says that engine {wanted} is there")
            cases.append(_case(name, log))
            cases[-1].at = marks.lines[number]
    return cases


def _splat_case(detector, texts):
    unexpected, problems = detector.find(texts)
    log = list(problems)
    for splat in unexpected:
        log.append(f"splat: {splat.line}")
        log += [f"  {text}" for text in splat.block[:12] if text != splat.line]
    case = _case("no_splats", log)
    if unexpected:
        case.at = unexpected[0].at
    return case


def _power_case(marks, texts, ended, code):
    if ended == TIMED_OUT:
        if any(HALTED.match(text) for text in texts):
            return _case("power_off", ["the guest halted but can't power off: its kernel lacks the "
                                       "driver for it (CONFIG_ACPI with CONFIG_PCI, or PSCI)"])
        return _case("power_off", ["the guest had not ended when its time was over"], "TIMEOUT")
    log = []
    if not marks.end:
        log.append("the guest ended before its plan did: it crashed or was killed")
    elif not any(DOWN.match(text) for text in texts) and code != 0:
        log.append("neither 'reboot: Power down' nor a clean exit of QEMU was seen")
    if code not in (0, None):
        log.append(f"QEMU exited with code {code}")
    return _case("power_off", log)


def _settle_unfinished(result, ended):
    """Sets the reason of suites and cases whose result is missing."""
    for child in result.children:
        _settle_unfinished(child, ended)
    if result.status == ktap.UNFINISHED:
        result.status = ktap.FAILED
        timeout = ended == TIMED_OUT
        result.directive = "TIMEOUT" if timeout else "ERROR"
        result.reason = "still running" if timeout else "never ended"
        missing = (result.plan or 0) - len(result.children)
        if missing > 0:
            after = result.children[-1].name if result.children else "its start"
            lost = ktap.Result.failed(f"after_{after}".replace(" ", "_"), *result.log,
                                      f"{missing} of {result.plan} cases never came",
                                      directive=result.directive, reason=result.reason)
            lost.at = result.at
            result.children.append(lost)
            result.log = []
            result.plan = None


def _nmi_case(nmi):
    """The NMIs that the guest requested. There may be fewer: the guest checks how many it received."""
    log = []
    if nmi.error:
        log = [f"the host can't inject NMIs: {nmi.error} ({nmi.sent} were sent)"]
    elif not nmi.sent:
        log = ["the guest asked the host for NMIs, and none was sent"]
    return _case("host_nmis", log)


def _suites(texts, plan):
    """All suites of the log, named by the label of the step that ran them."""
    parser, label, done = ktap.Parser(), "", 0

    def name_new():
        for suite in parser.suites[done:]:
            if label:
                suite.name = f"{label}.{suite.name}"
        return len(parser.suites)

    for text in texts:
        found = consoles.MARK.match(text)
        if found and found.group(4):
            # A document that a step did not complete ends here.
            parser.end()
            done = name_new()
            number = int(found.group(4))
            label = plan.labels[number - 1] if number <= len(plan.labels) else ""
        parser.feed(text)
    parser.end()
    name_new()
    return parser.suites


def _unique(suites):
    """Adds a number to the name of a suite that ran again."""
    seen = collections.Counter()
    for suite in suites:
        seen[suite.name] += 1
        if seen[suite.name] > 1:
            suite.name = f"{suite.name}.{seen[suite.name]}"


def _cut_short(suite):
    """Whether a case says that the rest of the suite is missing."""
    return any(case.directive in ("TIMEOUT", "ERROR") for case in [suite, *suite.children])


def _compare(suites, expected, ended, stop):
    """Compares suites with the expected ones. Returns those that did not run, as failures, and the number of
    cases after the step where the guest stopped, if it did."""
    left = list(suites)
    missing, behind = [], 0
    for step, name, cases in expected.suites:
        if stop and step > stop:
            behind += len(cases)
            continue
        suite = next((suite for suite in left if suite.name == name), None)
        if not suite:
            directive = "TIMEOUT" if ended == TIMED_OUT else "ERROR"
            missing.append(ktap.Result.failed(name, "this suite is expected and did not run",
                                              directive=directive, reason="missing"))
            continue
        left.remove(suite)
        seen = collections.Counter(case.name for case in suite.children)
        if not _cut_short(suite) and seen:
            if suite.plan == len(suite.children):
                # Its structure has no errors.
                suite.plan = None
            suite.children += [ktap.Result.failed(case, "this case is expected and did not run",
                                                  directive="ERROR", reason="missing")
                               for case in cases if case not in seen]
        for case in suite.children:
            if seen[case.name] > cases.count(case.name) and not _cut_short(suite):
                case.status = ktap.FAILED
                case.log.append("this case is not in qemu/expected/cases, or ran too often")
    for suite in left:
        suite.status = ktap.FAILED
        suite.log.append("this suite is not expected here")
    return missing, behind


def _check_skips(result, name, expected):
    """Makes skips that are not allowed failures. Returns their names and reasons."""
    unlisted = []
    for child in result.children:
        unlisted += _check_skips(child, f"{name}.{child.name}", expected)
    if result.status == ktap.SKIPPED and not result.children and \
            not expected.may_skip(name, result.reason):
        unlisted.append((".".join(name.split(".")[-2:]), result.reason))
        result.log.append(f"skipped: '{result.reason}' is not in qemu/expected/skips")
        result.status, result.directive, result.reason = ktap.FAILED, "ERROR", "skipped"
    return unlisted


def _empty(suites):
    """Makes a suite without cases a failure."""
    for suite in suites:
        if not suite.children and suite.status == ktap.OK:
            suite.status = ktap.FAILED
            suite.log.append("no case of this suite ran")


def judge(name, data, plan, expected, detector, ended, code=None, stderr="", nmi=None):
    """Judges one boot. data: the console's bytes; expected: an Expected, or None where anything may
    run; nmi: the qmp.Injector, if there was one."""
    console = consoles.lines(data)
    texts = [line.text for line in console]
    marks = consoles.Marks(console)
    suites = _suites(texts, plan)
    for suite in suites:
        _settle_unfinished(suite, ended)
    _empty(suites)
    missing, unlisted, behind = [], [], 0
    if expected:
        missing, behind = _compare(suites, expected, ended, marks.stop)
        for suite in suites:
            unlisted += _check_skips(suite, suite.name, expected)
    _unique(suites)
    guest = ktap.Result(GUEST, ktap.OK)
    boot = _boot_case(marks, texts, ended, code, stderr)
    guest.children = [boot]
    if boot.passed():
        guest.children += _step_cases(plan, marks, ended)
    if marks.stop:
        guest.children.append(_stopped_case(plan, marks, behind))
    if nmi and nmi.requests:
        guest.children.append(_nmi_case(nmi))
    guest.children.append(_splat_case(detector, texts))
    if boot.passed():
        guest.children.append(_power_case(marks, texts, ended, code))
    guest.status = ktap.OK if guest.passed() else ktap.FAILED
    suites = [guest, *suites, *missing]
    verdict = Verdict(name, suites, _state(suites, marks, ended))
    verdict.unlisted = unlisted
    engines = []
    for text in texts:
        engine, demo = consoles.ENGINE.match(text), DEMO.match(text)
        if engine and engine.group(1) not in engines:
            engines.append(engine.group(1))
            verdict.engine = ", ".join(engines)
        if demo:
            verdict.demo.append(dict(word.partition("=")[::2] for word in demo.group(1).split()))
    return verdict


def _state(suites, marks, ended):
    if not marks.init:
        return "ERROR"
    if ended == TIMED_OUT and not marks.end:
        return "TIMEOUT"
    return "PASS" if all(suite.passed() for suite in suites) else "FAIL"
