# SPDX-License-Identifier: GPL-2.0
"""Reads key=value files: NAME.qemu, how to start the machine of a scenario."""

from .errors import SetupError

# key: what it does
KEYS = {
    "machine": "-M",
    "cpu": "-cpu",
    "thread": "thread mode of TCG: multi or single",
    "icount": "-icount (needs thread=single)",
    "smp": "number of CPUs, unless --smp says otherwise",
    "mem": "MiB of memory, unless --mem says otherwise",
    "timeout_boot": "seconds until init must be running",
    "timeout_run": "seconds that all of plan.run may take",
    "timeout_test": "seconds that all of plan.test may take",
    "args": "more arguments for QEMU, separated by blanks",
    "boot": "more kernel parameters, separated by blanks; those of NAME.boot stay",
}
NUMBERS = ("smp", "mem", "timeout_boot", "timeout_run", "timeout_test")


def parse(text, name):
    """Returns a dict; numbers are ints."""
    settings = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        where = f"{name}:{number}"
        if not equals or key not in KEYS:
            known = ", ".join(KEYS)
            raise SetupError(f"{where}: unknown setting '{line}'; there are: {known}")
        if key in NUMBERS:
            if not value.isdigit() or int(value) == 0:
                raise SetupError(f"{where}: {key} is a whole number above 0, not '{value}'")
            value = int(value)
        if key == "thread" and value not in ("multi", "single"):
            raise SetupError(f"{where}: thread is multi or single, not '{value}'")
        settings[key] = value
    return settings


def parse_boot(text):
    """Returns the kernel parameters of a NAME.boot file, as one list."""
    words = []
    for line in text.splitlines():
        if not line.strip().startswith("#"):
            words += line.split()
    return words
