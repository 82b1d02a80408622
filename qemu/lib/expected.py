# SPDX-License-Identifier: GPL-2.0
"""The lists of suites that must have run: expected/PLAN, and expected/PLAN.SCENARIO on top of it.

One name a line; a name that stands there twice must run twice. 'on' and 'for' are as in plans:

    rcu_ptr_params
    on x86_64 rcu_ptr_qmp_nmi
    for rfc lockless            rfc.rcu_ptr_kvfree and lockless.rcu_ptr_kvfree
    rcu_ptr_kvfree
    done
"""

import pathlib

from .errors import SetupError
from .plan import Source

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "expected"


def parse(text, name="expected", where=()):
    """The names in a list, for one scenario."""
    source = Source(text, name, where)
    names = []
    for label, words, at in source.lines:
        if len(words) != 1:
            raise source.wrong(f"'{' '.join(words)}': one suite a line", at)
        names.append(f"{label}.{words[0]}" if label else words[0])
    return names


def load(plan, scenario, arch="", folder=FOLDER):
    """The suites for a plan ('run', 'test' and so on) and a scenario."""
    path = folder / plan
    if not path.exists():
        raise SetupError(f"{path} is missing: without it nobody would notice a suite that didn't run")
    where = (scenario, arch)
    names = parse(path.read_text(encoding="utf-8"), path, where)
    more = folder / f"{plan}.{scenario}"
    if more.exists():
        names += parse(more.read_text(encoding="utf-8"), more, where)
    return names
