// SPDX-License-Identifier: GPL-2.0
/* rcuscale.ko, from the source of the kernel that it is built for. */
#include <../kernel/rcu/rcuscale.c>
