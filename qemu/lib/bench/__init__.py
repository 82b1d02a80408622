# SPDX-License-Identifier: GPL-2.0
"""What qemu/bench.py is made of."""
