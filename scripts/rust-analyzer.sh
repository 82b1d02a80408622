#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# rust-analyzer.sh: writes rust-project.json, which rust-analyzer looks for

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

check_variables
choose_scenarios run
need_for kernels "${NAMES[0]}"
kernel_of "${NAMES[0]}"
out=$(modules_directory "${NAMES[0]}")
build_modules "${NAMES[0]}" "$KDIR_OF_SCENARIO" "$out"
toolchain_of "$KDIR_OF_SCENARIO"
mapfile -t args < <(make_args)
make -s -C "$KDIR_OF_SCENARIO" M="$ROOT" MO="$out" ARCH="$(kdir_arch "$KDIR_OF_SCENARIO")" \
	"${args[@]}" rust-analyzer >&2
if [ -e "$out/rust-project.json" ]; then
	cp "$out/rust-project.json" "$ROOT/rust-project.json"
fi
echo "$ROOT/rust-project.json"
