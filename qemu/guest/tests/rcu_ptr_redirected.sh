# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What steps of the plan before this one freed by the kernel's functions went to the engine. WHAT is a counter
# of rcu_ptr_takeover.ko, and LEAST what it has to have.

# shellcheck source=/dev/null
. /lib.sh

TAKEN=/sys/kernel/debug/rcu_ptr_takeover/stats

test_counted() {
	counted=$(sed -n "s/^$WHAT=//p" "$TAKEN")
	diag "$(tr '\n' ' ' <"$TAKEN")"
	[ "$counted" -ge "$LEAST" ] || fail "$WHAT=$counted, not $LEAST"
	want "objects that were leaked" "$(stat_sum leaked)" 0
}

suite rcu_ptr_redirected counted
