// SPDX-License-Identifier: GPL-2.0
/* What all modules of tests and the benchmark include. */
#include "alloc.c"
#include "context.c"
#include "cpu.c"
#include "mem.c"
#include "nmi.c"
#include "perf.c"
#include "rcu.c"
#include "thread.c"
#include "tracepoint.c"
