#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# qemu.sh run|test [ARGUMENT...]: builds kernels and modules of the scenarios, then
# runs qemu/run.py with these arguments
#
# PLAN= other steps, VARS="NAME=VALUE..." their variables, TIMEOUT= seconds.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

verb=${1:-}
[[ $verb == run || $verb == test ]] || die "usage: scripts/qemu.sh run|test [ARGUMENT of qemu/run.py...]"
shift
check_variables
[ "$verb" = test ] || choose_kernel
choose_scenarios "$verb"
need_for guests "${NAMES[@]}"

args=()
if [ "${PLAN:-}" = bpftrace ]; then
	debian_bpftrace
	# It has 300 MB, most of which is LLVM.
	args+=(--bpftrace "$BPFTRACE_ROOT" --set mem=2048 --set timeout_boot=600)
fi
for name in "${NAMES[@]}"; do
	scenario_ready "$name"
	args+=(--scenario "$SPEC")
done
option PLAN
objdump=$(find_objdump "$KDIR_OF_SCENARIO")
args+=(--objdump "$objdump")
runner_arguments
exec python3 "$ROOT/qemu/run.py" "$verb" "${args[@]}" "$@"
