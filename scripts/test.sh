#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh test|all: the boots of a set of qemu/jobs. Kernels and modules are built
# in their order, and each boots as soon as it can.
#
# SCENARIOS= those of these only; UNTIL=EPOCH leaves out, by name, what would take
# longer. With PLAN= or KDIR= it is qemu.sh test: one plan in each of the scenarios.

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

set=${1:-}
[[ $set == test || $set == all ]] || die "usage: scripts/test.sh test|all"
if [ -n "${PLAN:-}${KDIR:-}" ]; then
	exec "$ROOT/scripts/qemu.sh" test
fi
check_variables

# minutes_of SCENARIO: of its boots
minutes_of()
{
	awk -v set="$set" -v name="$1" '$1 == set && $3 == name { sum += $6 } END { print sum }' "$ROOT/qemu/jobs"
}

# The scenarios of the set, each once, in its order.
NAMES=()
while read -r name; do
	[ -z "$ARCH" ] || [ "$ARCH" = "$(scenario_arch "$name")" ] || continue
	[ -z "${SCENARIOS:-}" ] || [[ " $SCENARIOS " == *" $name "* ]] || continue
	NAMES+=("$name")
done < <(awk -v set="$set" '$1 == set && !seen[$3]++ { print $3 }' "$ROOT/qemu/jobs")
# Where kernels have to be built, that of the longest boot first, and the shortest boot is the one that is left at
# the end. Set 'all' is gone down as far as there is time.
if [ "$set" = test ] && [ ${#NAMES[@]} -gt 0 ]; then
	mapfile -t NAMES < <(for name in "${NAMES[@]}"; do
		if is_built "$name"; then echo "1000 $name"; else echo "$(minutes_of "$name") $name"; fi
	done | sort -s -k1,1nr | cut -d' ' -f2)
fi
[ ${#NAMES[@]} -gt 0 ] || die "no boot of set $set is for ${SCENARIOS:-$ARCH}"
need_for guests "${NAMES[@]}"
kernel_source

# with_bpftrace: the scenarios of the set that have a boot with bpftrace
with_bpftrace()
{
	awk -v set="$set" '$1 == set && $4 == "bpftrace" { print $3 }' "$ROOT/qemu/jobs"
}

# A line for each scenario that is ready, with the modules that its boots need.
prepare()
{
	local name only

	for name in "${NAMES[@]}"; do
		only=$(python3 "$ROOT/qemu/run.py" folders --jobs "$set" --only "$name")
		scenario_ready "$name" "RCU_PTR_ONLY=$only"
		! with_bpftrace | grep -x "$name" >/dev/null || debian_bpftrace
		echo "$SPEC"
		# The guests come first.
		renice -n 10 -p "$BASHPID" >/dev/null
	done
}

args=(--jobs "$set" --objdump "$(llvm_tool "${LLVM:-}" llvm-objdump)")
for name in "${NAMES[@]}"; do
	args+=(--only "$name")
done
[ -z "$(with_bpftrace)" ] || args+=(--bpftrace "$BPFTRACE_ROOT")
option UNTIL
runner_arguments
feed_of prepare python3 "$ROOT/qemu/run.py" test "${args[@]}"
