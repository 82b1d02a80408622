# SPDX-License-Identifier: GPL-2.0
"""What stops the runner before or beside a verdict."""


class SetupError(Exception):
    """Something is missing or misused. The text says what, and what mends it."""
