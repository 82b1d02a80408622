#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutants.sh [NAME...]: kernels of the scenarios that the mutants need, then
# qemu/mutants.py; NAME is a glob
#
# SCENARIOS= those of these only, TIMEOUT= seconds for each boot.

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

check_variables
[ -z "${KDIR:-}" ] || die "mutants are for kernels of our own: leave KDIR= out"
wanted=$(python3 "$ROOT/qemu/mutants.py" --list-scenarios "$@") || exit 2
if [ -n "${SCENARIOS:-}" ]; then
	wanted=$(for name in $wanted; do [[ " $SCENARIOS " != *" $name "* ]] || echo "$name"; done)
	[ -n "$wanted" ] || die "none of these mutants is for $SCENARIOS"
fi
SCENARIOS=$wanted
choose_scenarios test
needs=(build)
for name in "${NAMES[@]}"; do
	needs+=("$(scenario_arch "$name")")
done
need "${needs[@]}"

args=()
for name in "${NAMES[@]}"; do
	kernel_of "$name"
	guest_busybox "$(scenario_arch "$name")"
	args+=(--scenario "$name:$KDIR_OF_SCENARIO:$BUSYBOX")
done
objdump=$(find_objdump "$KDIR_OF_SCENARIO")
toolchain_of "$KDIR_OF_SCENARIO"
while read -r arg; do
	args+=(--make-arg "$arg")
done < <(make_args)
[ -z "${TIMEOUT:-}" ] || args+=(--timeout "$TIMEOUT")
exec python3 "$ROOT/qemu/mutants.py" --objdump "$objdump" "${args[@]}" "$@"
