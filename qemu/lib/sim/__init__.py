# SPDX-License-Identifier: GPL-2.0
"""Boots that are a function of their seed: docs/simulation.md."""
