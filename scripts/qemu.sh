#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# qemu.sh run|test [ARGUMENT...]: kernels and modules of the scenarios, then
# qemu/run.py with these arguments
#
# PLAN= other steps, VARS="NAME=VALUE..." the variables in them, TIMEOUT= seconds.

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

verb=${1:-}
[[ $verb == run || $verb == test ]] || die "usage: scripts/qemu.sh run|test [ARGUMENT of qemu/run.py...]"
shift
check_variables
[ "$verb" = test ] || choose_kernel
choose_scenarios "$verb"
needs_of "${NAMES[@]}"
for name in "${NAMES[@]}"; do
	NEEDS+=("$(scenario_arch "$name")")
done
need "${NEEDS[@]}"

args=(--out "$ROOT/out")
if [ "${PLAN:-}" = bpftrace ]; then
	debian_bpftrace
	# 300 MB of it, most of which is LLVM.
	args+=(--bpftrace "$BPFTRACE_ROOT" --set mem=2048 --set timeout_boot=600)
fi
for name in "${NAMES[@]}"; do
	kernel_of "$name"
	out=$(modules_directory "$name")
	build_modules "$name" "$KDIR_OF_SCENARIO" "$out" || exit
	guest_busybox "$(scenario_arch "$name")"
	args+=(--scenario "$name:$KDIR_OF_SCENARIO:$out:$BUSYBOX")
done
ksrc=${KERNEL_SOURCE:-$(readlink -f "$KDIR_OF_SCENARIO/source" || true)}
[ -z "$ksrc" ] || args+=(--ksrc "$ksrc")
[ -z "${PLAN:-}" ] || args+=(--plan "$PLAN")
[ -z "${TIMEOUT:-}" ] || args+=(--timeout "$TIMEOUT")
for var in ${VARS:-}; do
	args+=(--define "$var")
done
objdump=$(find_objdump "$KDIR_OF_SCENARIO")
args+=(--objdump "$objdump")
[ -z "${SMP:-}" ] || args+=(--set smp="$SMP")
[ -z "${MEM:-}" ] || args+=(--set mem="$MEM")
exec python3 "$ROOT/qemu/run.py" "$verb" "${args[@]}" "$@"
