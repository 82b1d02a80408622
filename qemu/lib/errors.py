# SPDX-License-Identifier: GPL-2.0
"""What stops the runner before or beside a verdict."""

import sys


class SetupError(Exception):
    """Something is missing or misused. The text says what, and what mends it."""


def guarded(program, work):
    """Calls work() and returns the exit code that it says: 2 if something is missing or misused."""
    try:
        return work()
    except SetupError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted", file=sys.stderr)
        return 1
