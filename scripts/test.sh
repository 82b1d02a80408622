#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh test|all: the boots of a set of qemu/jobs. Kernels and modules are built
# in this order, and each boot starts as soon as it can.
# test.sh test-all: the boots of set 'all', then every mutant
#
# SCENARIOS= only boots of these scenarios; UNTIL=EPOCH skips and names what would
# take longer. With PLAN= or KDIR= it runs qemu.sh test: one plan in each scenario.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

set=${1:-}
if [ "$set" = test-all ]; then
	sum_of "the boots" "$ROOT/scripts/test.sh" all
	sum_of "the mutants" "$ROOT/scripts/mutants.sh"
	closing
	exit
fi
[[ $set == test || $set == all ]] || die "usage: scripts/test.sh test|all|test-all"
if [ -n "${PLAN:-}${KDIR:-}" ]; then
	exec "$ROOT/scripts/qemu.sh" test
fi
check_variables

# scenarios: prints MINUTES of its boots and NAME of each scenario of the set; 1000 if its kernel need not be built
scenarios()
{
	local minutes name

	awk -v set="$set" '$1 == set { if (!sum[$3]) name[++n] = $3; sum[$3] += $6 }
		END { for (i = 1; i <= n; i++) print sum[name[i]], name[i] }' "$ROOT/qemu/jobs" |
		while read -r minutes name; do
			if is_built "$name" || stock_scenario "$name"; then minutes=1000; fi
			echo "$minutes $name"
		done
}

# In set 'test' scenarios whose kernels need not be built come first, then those with the longest boots, so that a
# short boot remains for the end. Set 'all' keeps its order, as there may not be time for all of it.
order=(sort -s "-k1,1nr")
[ "$set" = test ] || order=(cat)
NAMES=()
while read -r _ name; do
	[ -z "$ARCH" ] || [ "$ARCH" = "$(scenario_arch "$name")" ] || continue
	[ -z "${SCENARIOS:-}" ] || [[ " $SCENARIOS " == *" $name "* ]] || continue
	NAMES+=("$name")
done < <(scenarios | "${order[@]}")
[ ${#NAMES[@]} -gt 0 ] || die "no boot of set $set is for ${SCENARIOS:-$ARCH}"
need_for guests "${NAMES[@]}"
kernel_source

# with_bpftrace: prints the scenarios of the set that have a boot with bpftrace
with_bpftrace()
{
	awk -v set="$set" '$1 == set && $4 == "bpftrace" { print $3 }' "$ROOT/qemu/jobs"
}

# has_time NAME: whether its shortest boot could still end in time
has_time()
{
	local shortest

	[ -n "${UNTIL:-}" ] || return 0
	shortest=$(awk -v set="$set" -v name="$1" '$1 == set && $3 == name { print $6 }' "$ROOT/qemu/jobs" | sort -n |
		head -n1)
	((EPOCHSECONDS + 60 * shortest <= UNTIL))
}

# prepare: prints SPEC of each scenario when its kernel and the modules that its boots need are built
prepare()
{
	local name only

	for name in "${NAMES[@]}"; do
		# The runner reports its boots as skipped.
		has_time "$name" || continue
		only=$(python3 "$ROOT/qemu/run.py" folders --jobs "$set" --only "$name")
		scenario_ready "$name" "RCU_PTR_ONLY=$only"
		! with_bpftrace | grep -x "$name" >/dev/null || debian_bpftrace
		echo "$SPEC"
		# The guests have priority.
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
