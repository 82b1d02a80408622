#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# modules.sh [SCENARIO...]: builds the modules for the kernel of each, prints
# where they are

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

check_variables
SCENARIOS=${*:-${SCENARIOS:-}}
choose_scenarios run
need_for kernels "${NAMES[@]}"
for name in "${NAMES[@]}"; do
	kernel_of "$name"
	out=$(modules_directory "$name")
	build_modules "${KDIR:-$name}" "$KDIR_OF_SCENARIO" "$out" || exit
	find "$out" -name '*.ko'
done
