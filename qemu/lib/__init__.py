# SPDX-License-Identifier: GPL-2.0
"""The parts of qemu/run.py, one idea per file."""
