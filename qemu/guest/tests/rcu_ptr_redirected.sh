# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What steps of the plan before this one freed by the kernel's functions went to the engine. WHAT is a counter
# of rcu_ptr_takeover.ko, and LEAST what it has to have.

# The engine is the next step's too.
cleanup() {
	:
}

test_counted() {
	diag "$(tr '\n' ' ' <"$TAKEN")"
	[ "$(taken "$WHAT")" -ge "$LEAST" ] || fail "$WHAT=$(taken "$WHAT"), not $LEAST"
	want "objects that were leaked" "$(stat_sum leaked)" 0
}

suite rcu_ptr_redirected counted
