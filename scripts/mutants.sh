#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutants.sh [NAME...]: builds the kernels of the mutants' scenarios, then runs
# qemu/mutants.py; NAME is a glob
#
# SCENARIOS= only mutants for these, TIMEOUT= seconds for each boot, UNTIL=EPOCH
# skips and names what would take longer.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

check_variables
[ -z "${KDIR:-}" ] || die "mutants run on kernels that are built here: leave KDIR= out"
wanted=$(python3 "$ROOT/qemu/mutants.py" --list-scenarios "$@") || exit 2
if [ -n "${SCENARIOS:-}" ]; then
	wanted=$(for name in $wanted; do [[ " $SCENARIOS " != *" $name "* ]] || echo "$name"; done)
	[ -n "$wanted" ] || die "none of these mutants is for $SCENARIOS"
fi
read -ra NAMES <<<"$(xargs <<<"$wanted")"
need build
need_for guests "${NAMES[@]}"

# prepare: prints a line for each scenario when its kernel is built
prepare()
{
	local name

	for name in "${NAMES[@]}"; do
		kernel_of "$name"
		guest_busybox "$(scenario_arch "$name")"
		echo "$name:$KDIR_OF_SCENARIO:$BUSYBOX"
	done
}

mapfile -t make < <(module_args)
args=(--objdump "$(llvm_tool "${LLVM:-}" llvm-objdump)" "${make[@]/#/--make-arg=}")
option TIMEOUT UNTIL
feed_of prepare python3 "$ROOT/qemu/mutants.py" "${args[@]}" "$@"
