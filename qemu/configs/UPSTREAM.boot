# SPDX-License-Identifier: GPL-2.0
# KASAN reports once otherwise.
kasan_multi_shot
