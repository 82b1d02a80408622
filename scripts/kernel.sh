#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel.sh SCENARIO...: builds the kernel of each, prints the build directories
#
# KSRC= another kernel source, KDIR= another build altogether.

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

check_variables
SCENARIOS=${*:-${SCENARIOS:-}}
choose_scenarios run
need_for kernels "${NAMES[@]}"
for name in "${NAMES[@]}"; do
	kernel_of "$name"
	echo "$KDIR_OF_SCENARIO"
done
