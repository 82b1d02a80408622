#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# sim.sh run|replay|mutants [ARGUMENT...]: kernel and modules of a scenario, then
# qemu/sim.py with these arguments
#
# SCENARIO= PERF unless given. SEED= the seeds, COUNT= and FROM= as many from there
# on, MINUTES= as many as begin in that time, ENGINE= instead of what the seed says.
# LONG=1 runs of millions of objects, JOBS= seeds side by side.

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

verb=${1:-}
[[ $verb == run || $verb == replay || $verb == mutants ]] ||
	die "usage: scripts/sim.sh run|replay|mutants [ARGUMENT of qemu/sim.py...]"
shift
check_variables
[ -z "${KDIR:-}" ] || die "what a seed does depends on the kernel: leave KDIR= out, name a SCENARIO="
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
# No path of this tree or of the kernel's source is in the modules: so they are the same wherever it lies.
source=$(readlink -f "$KDIR_OF_SCENARIO/source")
tree=$ROOT/out/sim/mutants/tree
for dir in "$source" "$ROOT" "$tree"; do
	KRUSTFLAGS="${KRUSTFLAGS:-} --remap-path-prefix=$dir=."
	KCFLAGS="${KCFLAGS:-} -ffile-prefix-map=$dir=."
done
only="rcu_ptr rcu_ptr_torture clients/c clients/rust"
# The kernel's own functions can be redirected there.
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
