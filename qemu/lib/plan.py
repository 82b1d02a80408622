# SPDX-License-Identifier: GPL-2.0
"""A plan: the steps of the guest. qemu/expected/skips uses part of the same syntax.

    # comment
    insmod rcu_ptr.ko drain_interval_msec=9  a module by file name, and parameters
    sh rcu_ptr_params.sh ENGINE=rfc          a suite under qemu/guest/tests, and its environment
    rmmod rcu_ptr
    tests rcu_ptr_list.*                     modules loaded from here on run only these KUnit cases
                                             (SUITE or SUITE.CASE, a glob each)
    kmemleak                                 scans for leaks; skipped in kernels without it
    nmi 500                                  from here on the host injects 500 NMIs a second,
    nmi 500 1000                             or 1000 of them and no more,
    nmi off                                  until here
    modules SET                              from here on modules are those of /sets/SET

The host expands these lines before the guest reads them:

    once rcu_ptr_client_c.ko objects=9       insmod and rmmod
    for rfc lockless                         once for each label, which replaces {} in the steps;
    insmod rcu_ptr.ko engine={}              suites and steps are reported as LABEL.NAME
    done
    on x86_64,!DEBUG STEP                    only for these scenarios or architectures, ! for not;
                                             UP is a guest with one CPU
    insmod a.ko what={WHAT:-all}             a variable of the command line, with its default; without
                                             a default it has to be given
    insns vmlinux FUNCTION...                puts the instructions of these functions into
                                             /modules/vmlinux.insns
"""

import re

from .base import QEMU, SetupError

CONFIGS = QEMU / "configs"
ARCHES = ("x86_64", "arm64")
# A guest with one CPU.
UP = "UP"
VARIABLE = re.compile(r"\{([A-Z][A-Z0-9_]*)(:-([^{}]*))?\}")
LABEL = re.compile(r"^[A-Za-z]\w*$")
# {verb: (minimum, maximum) of the words after it}
VERBS = {"insmod": (1, None), "sh": (1, None), "rmmod": (1, 1), "tests": (1, 1), "kmemleak": (0, 0),
         "nmi": (1, 2), "modules": (1, 1), "once": (1, None), "insns": (2, None)}


def scenario_names():
    """The names of all scenarios."""
    return {path.name for path in CONFIGS.iterdir()
            if "." not in path.name and not path.name.startswith("CF") and path.name != "README"}


class Source:
    """The lines of a plan or a list for one scenario, with comments, 'on', variables and loops expanded."""

    def __init__(self, text, name, where=(), defines=None):
        self._name = name
        self._where = frozenset(where)
        self._defines = defines or {}
        self._known = scenario_names() | {*ARCHES, UP} | self._where
        self._at = 0
        # (label, words, line number)
        self.lines = []
        loop = None
        for self._at, line in enumerate(text.splitlines(), 1):
            words = line.split("#", 1)[0].split()
            if words[:1] == ["for"]:
                if loop is not None:
                    raise self.wrong("a loop in a loop")
                if len(words) < 2 or len(set(words)) != len(words) or \
                        not all(LABEL.match(label) for label in words[1:]):
                    raise self.wrong("'for' needs labels, each a word of its own")
                loop = (words[1:], [])
            elif words == ["done"]:
                if loop is None:
                    raise self.wrong("'done' without 'for'")
                for label in loop[0]:
                    self.lines += [(label, [word.replace("{}", label) for word in body], at)
                                   for body, at in loop[1]]
                loop = None
            else:
                words = self._chosen(words)
                if words and loop is not None:
                    loop[1].append((words, self._at))
                elif words:
                    if any("{}" in word for word in words):
                        raise self.wrong("'{}' outside of a loop")
                    self.lines.append(("", words, self._at))
        if loop is not None:
            raise self.wrong("'for' without 'done'")

    def wrong(self, what, at=None):
        """An error with file and line."""
        return SetupError(f"{self._name}:{at or self._at}: {what}")

    def _chosen(self, words):
        """The words of a line after its condition, or none if it isn't for this scenario."""
        if words[:1] == ["on"]:
            if len(words) < 3:
                raise self.wrong("'on' needs scenarios, architectures or UP, and something to do there")
            wanted, unwanted = [], []
            for name in words[1].split(","):
                (unwanted if name.startswith("!") else wanted).append(name.removeprefix("!"))
            for name in wanted + unwanted:
                if name not in self._known:
                    known = ", ".join(sorted(self._known))
                    raise self.wrong(f"there is no '{name}'; there are: {known}")
            words = words[2:]
            if wanted and not self._where.intersection(wanted) or self._where.intersection(unwanted):
                return []
        return [VARIABLE.sub(self._value, word) for word in words]

    def _value(self, found):
        name, has_default, default = found.groups()
        if name in self._defines:
            return self._defines[name]
        if not has_default:
            raise self.wrong(f"{name} has to be given: {name}=VALUE")
        return default


class Plan:
    """The steps of one plan file, for one scenario."""

    def __init__(self, text, name, where=(), defines=None):
        self.steps = []
        self.labels = []
        # The functions in vmlinux.insns.
        self.functions = []
        source = Source(text, name, where, defines)
        for label, words, at in source.lines:
            least, most = VERBS.get(words[0], (0, -1))
            count = len(words) - 1
            if count < least or most is not None and count > most:
                known = ", ".join(VERBS)
                raise source.wrong(f"'{' '.join(words)}' is no step; there are: {known}", at)
            if words[0] == "insns":
                if words[1] != "vmlinux":
                    raise source.wrong("write 'insns vmlinux': the lists of modules are always there", at)
                self.functions += words[2:]
                continue
            if words[0] == "nmi" and words[1:] != ["off"] and not all(w.isdigit() for w in words[1:]):
                raise source.wrong("write 'nmi HZ', 'nmi HZ COUNT' or 'nmi off'", at)
            unload = [["rmmod", words[1].removesuffix(".ko")]] if words[0] == "once" else []
            for step in [["insmod", *words[1:]] if unload else words, *unload]:
                self.steps.append(step)
                self.labels.append(label)
        if not self.steps:
            raise SetupError(f"{name}: the plan has no steps")

    @property
    def text(self):
        """The file for the guest: a step a line."""
        return "".join(" ".join(words) + "\n" for words in self.steps)

    def drop(self, verb):
        """Removes all steps of one kind."""
        kept = [(w, label) for w, label in zip(self.steps, self.labels) if w[0] != verb]
        self.steps = [words for words, _ in kept]
        self.labels = [label for _, label in kept]

    def names(self):
        """The names of the steps in results: unique, and without blanks."""
        seen = {}
        names = []
        for words, label in zip(self.steps, self.labels):
            name = "_".join(words[:2]).replace(".ko", "").replace(".sh", "")
            if label:
                name = f"{label}.{name}"
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
        return names

    def engine(self, number):
        """The engine that a step, counted from 1, has to load, if the plan names one."""
        words = self.steps[number - 1]
        if words[:2] != ["insmod", "rcu_ptr.ko"]:
            return None
        return next((word[7:] for word in words if word.startswith("engine=")), None)

    def modules(self):
        """The modules that the plan loads itself."""
        return sorted({words[1] for words in self.steps if words[0] == "insmod"})
