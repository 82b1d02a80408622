#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# sim.sh run|replay|mutants [ARGUMENT...]: builds kernel and modules of a scenario,
# then runs qemu/sim.py with these arguments
#
# SCENARIO= PERF by default. SEED= the seeds; COUNT= and FROM= so many from there on;
# MINUTES= as many as start in that time; ENGINE= instead of the seed's engine.
# LONG=1 runs of millions of objects; JOBS= seeds at a time.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

verb=${1:-}
[[ $verb == run || $verb == replay || $verb == mutants ]] ||
	die "usage: scripts/sim.sh run|replay|mutants [ARGUMENT of qemu/sim.py...]"
shift
check_variables
[ -z "${KDIR:-}" ] || die "what a seed does depends on the kernel: set SCENARIO= instead of KDIR="
for number in ${SEED:-} ${COUNT:-} ${FROM:-} ${MINUTES:-} ${JOBS:-}; do
	[[ $number =~ ^[0-9]+$ ]] ||
		die "SEED=, COUNT=, FROM=, MINUTES= and JOBS= are numbers, not '$number'"
done
name=${SCENARIO:-PERF}
arch=$(scenario_arch "$name")
needs=(build "$arch")
[ "$verb" != replay ] || needs+=(replay)
need "${needs[@]}"
kernel_of "$name"
out=$ROOT/build/sim-$name
# The modules have no paths of this tree or of the kernel's source, so they do not depend on them.
source=$(readlink -f "$KDIR_OF_SCENARIO/source")
tree=$ROOT/out/sim/mutants/tree
for dir in "$source" "$ROOT" "$tree"; do
	KRUSTFLAGS="${KRUSTFLAGS:-} --remap-path-prefix=$dir=."
	KCFLAGS="${KCFLAGS:-} -ffile-prefix-map=$dir=."
done
only="rcu_ptr rcu_ptr_torture clients/c clients/rust"
# Kernels whose own functions can be redirected.
! grep -qx 'CONFIG_DYNAMIC_FTRACE_WITH_ARGS=y' "$KDIR_OF_SCENARIO/.config" ||
	only+=" rcu_ptr_takeover clients/kernel"
build_modules "$name" "$KDIR_OF_SCENARIO" "$out" RCU_PTR_ONLY="$only" >&2 || exit 1
guest_busybox "$arch"

args=(--scenario "$name:$KDIR_OF_SCENARIO:$out:$BUSYBOX" --strip "$(llvm_tool "${LLVM:-}" llvm-strip)")
for number in ${SEED:-}; do
	args+=(--seed "$number")
done
option COUNT FROM MINUTES JOBS ENGINE
[ -z "${LONG:-}" ] || args+=(--long)
if [ "$verb" != run ]; then
	toolchain_of "$KDIR_OF_SCENARIO"
	mapfile -t make < <(module_args)
	args+=("${make[@]/#/--make-arg=}" --make-arg "RCU_PTR_ONLY=$only")
fi
exec python3 "$ROOT/qemu/sim.py" "$verb" "${args[@]}" "$@"
