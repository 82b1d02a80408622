#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench.sh [ARGUMENT...]: builds kernels and modules of PERF, which counts instructions,
# and BASE, which measures wall time, then runs qemu/bench.py
#
# QUICK=1 fewer and smaller runs; SMP= CPUs of the wall-time runs.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

check_variables
[ -z "${KDIR:-}" ] || die "the benchmark runs on kernels that are built here: leave KDIR= out"
need build x86_64 bench

args=(--out "$ROOT/out")
for name in PERF BASE; do
	scenario_ready "$name"
	args+=(--scenario "$SPEC")
done
objdump=$(find_objdump "$KDIR_OF_SCENARIO")
args+=(--objdump "$objdump")
args+=(--toolchain "$(toolchain_words)")
option SMP
case ${QUICK:-} in
''|0|n) ;;
*) args+=(--quick) ;;
esac
# matplotlib is installed for the system's python.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
exec "$python" "$ROOT/qemu/bench.py" "${args[@]}" "$@"
