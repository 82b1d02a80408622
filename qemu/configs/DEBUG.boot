# SPDX-License-Identifier: GPL-2.0
# KASAN reports once otherwise, and a test provokes that.
kasan_multi_shot
