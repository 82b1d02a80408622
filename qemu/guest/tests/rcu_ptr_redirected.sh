# SPDX-License-Identifier: GPL-2.0
# Objects that earlier steps of the plan freed by the kernel's functions were redirected. WHAT is a counter of
# rcu_ptr_takeover.ko, and LEAST its minimum.

# The next step uses the engine too.
cleanup() {
	:
}

test_counted() {
	diag "$(tr '\n' ' ' <"$TAKEOVER_STATS")"
	[ "$(takeover_stat "$WHAT")" -ge "$LEAST" ] || fail "$WHAT=$(takeover_stat "$WHAT"), not $LEAST"
	expect "objects that were leaked" "$(stat_sum leaked)" 0
}

suite rcu_ptr_redirected counted
