# SPDX-License-Identifier: GPL-2.0
"""Reads a kernel's .config."""


def read(path):
    """Returns the options that are set, by their names without CONFIG_."""
    options = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("CONFIG_") and "=" in line:
                name, value = line.rstrip("\n").split("=", 1)
                options[name[len("CONFIG_"):]] = value.strip('"')
    return options
