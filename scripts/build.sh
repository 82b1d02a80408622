#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh modules [SCENARIO...]: builds the modules for the kernel of each, prints their paths
# build.sh kernel [SCENARIO...]: builds the kernel of each, prints the build directories
# build.sh env [NEED...]: checks the set-up, installs what is missing
# build.sh rustfmt [--check]: formats the Rust code as the kernel's is
# build.sh rust-analyzer: writes rust-project.json
#
# NEED: modules, build (kernels too), x86_64, arm64 (guests), check; all by default.
# Packages are installed as root on Debian and Ubuntu only. Otherwise the command
# that installs them is printed, and the exit code is 2.
#
# KSRC= another kernel source, KDIR= another build.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

# for_each_kernel FUNCTION [SCENARIO...]: with the name of each scenario, when its kernel is built
for_each_kernel()
{
	local name

	check_variables
	[ -z "${2:-}" ] || SCENARIOS=${*:2}
	choose_scenarios run
	need_for kernels "${NAMES[@]}"
	for name in "${NAMES[@]}"; do
		kernel_of "$name"
		OUT=$(modules_directory "$name")
		"$1" "$name"
	done
}

print_kernel()
{
	echo "$KDIR_OF_SCENARIO"
}

print_modules()
{
	build_modules "${KDIR:-$1}" "$KDIR_OF_SCENARIO" "$OUT" || exit
	find "$OUT" -name '*.ko'
}

rust_project()
{
	local args

	build_modules "$1" "$KDIR_OF_SCENARIO" "$OUT"
	toolchain_of "$KDIR_OF_SCENARIO"
	mapfile -t args < <(make_args)
	make -s -C "$KDIR_OF_SCENARIO" M="$ROOT" MO="$OUT" ARCH="$(kdir_arch "$KDIR_OF_SCENARIO")" \
		"${args[@]}" rust-analyzer >&2
	[ ! -e "$OUT/rust-project.json" ] || cp "$OUT/rust-project.json" "$ROOT/rust-project.json"
	echo "$ROOT/rust-project.json"
}

format()
{
	local files

	need build
	mapfile -t files < <(find "$ROOT/rust" "$ROOT/host" -name '*.rs' -not -path '*/target/*' \
		-not -name 'bindings_generated.rs' | sort)
	[ ${#files[@]} -gt 0 ] || die "there are no Rust files under $ROOT/rust"
	exec "$RUSTFMT" "$@" --edition 2021 --config-path "$ROOT/.rustfmt.toml" "${files[@]}"
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
modules) for_each_kernel print_modules "$@" ;;
kernel) for_each_kernel print_kernel "$@" ;;
rust-analyzer) for_each_kernel rust_project ${SCENARIOS:+"${SCENARIOS%% *}"} ;;
rustfmt) format "$@" ;;
env)
	need "${@:-}"
	[[ " ${*:-build} " != *" build "* ]] || say "toolchain: $(toolchain_words)"
	;;
*) die "usage: scripts/build.sh modules|kernel|env|rustfmt|rust-analyzer [ARGUMENT...]" ;;
esac
