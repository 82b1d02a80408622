// SPDX-License-Identifier: GPL-2.0
/* torture.ko, from the source of the kernel that it is built for. */
#include <../kernel/torture.c>
