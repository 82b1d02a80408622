# SPDX-License-Identifier: GPL-2.0
"""A plan: what the guest does, step by step. The guest's init reads the same file.

    # comment
    insmod rcu_ptr.ko engine=rfc    a module by file name, and parameters
    sh rcu_ptr_params.sh            a suite under qemu/guest/tests
    rmmod rcu_ptr
    kmemleak                        scans for leaks; left out where the kernel has no kmemleak
"""

from .errors import SetupError

VERBS = {"insmod": True, "sh": True, "rmmod": True, "kmemleak": False}


class Plan:
    """The steps of one plan file."""

    def __init__(self, text, name):
        self.text = text
        self.steps = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split("#", 1)[0].split()
            if not words:
                continue
            if words[0] not in VERBS or (len(words) > 1) < VERBS[words[0]]:
                known = ", ".join(VERBS)
                raise SetupError(f"{name}:{number}: '{line.strip()}' is no step; there are: {known}")
            self.steps.append(words)
        if not self.steps:
            raise SetupError(f"{name}: the plan has no steps")

    def without(self, verb):
        """Leaves a kind of step out."""
        kept = Plan(self.text, "plan")
        kept.steps = [words for words in self.steps if words[0] != verb]
        kept.text = "".join(" ".join(words) + "\n" for words in kept.steps)
        return kept

    def names(self):
        """What the steps are called in results: unique, and without blanks."""
        seen = {}
        names = []
        for words in self.steps:
            name = "_".join(words[:2]).replace(".ko", "").replace(".sh", "")
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
        return names

    def modules(self):
        """The modules that the plan itself loads."""
        return sorted({words[1] for words in self.steps if words[0] == "insmod"})
