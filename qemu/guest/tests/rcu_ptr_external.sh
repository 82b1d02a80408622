# SPDX-License-Identifier: GPL-2.0
# A module that was built outside this tree.

cleanup() {
	unload outsider
	unload_all
}

test_loads_frees_unloads() {
	load rcu_ptr
	load outsider objects=1000
	wait_for 10 queued_are 1000 || fail "queued objects: $(queued) instead of 1000"
	unload outsider
	expect "freed objects" "$(stat_sum freed)" 1000
	unload rcu_ptr
}

suite rcu_ptr_external loads_frees_unloads
