# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# rcu_ptr_takeover.ko: the kernel's own users of kvfree_rcu() on the engine, and back again.

cleanup() {
	rm -rf /tmp/tree*
	unload_all
}

# take [PARAMETER=VALUE]...: a fresh core, and the kernel's functions on it
take() {
	fresh
	load rcu_ptr_takeover "$@"
}

# Others free objects all the time.
is_empty() {
	echo 1 >"$BARRIER"
	[ "$(waiting)" -le "$1" ]
}

# What the engine took is freed, and nothing was leaked.
settled() {
	wait_for 20 is_empty 20 || fail "objects stay in the engine: $(sed -n '/^sum/p' "$STATS")"
	want "objects that were leaked" "$(stat_sum leaked)" 0
}

redirects_by() {
	mark "redirect"
	take "$@"
	kernel_work ""
	kernel_hotplug
	[ "$(taken taken)" -ge 100 ] || fail "the kernel freed next to nothing: $(cat "$TAKEN")"
	diag "$(tr '\n' ' ' <"$TAKEN")"
	settled
	unload rcu_ptr_takeover
	since_mark | grep -q "objects were redirected" || fail "it said nothing at its end"
	before=$(queued)
	kernel_work "" 1
	want "objects that came after it was unloaded" "$(($(queued) - before))" 0
	unload rcu_ptr
}

test_by_a_jump() {
	redirects_by
	since_mark | grep -q "from now on, by a jump" || fail "not by a jump"
}

test_through_ftrace() {
	redirects_by jump=n
	since_mark | grep -q "from now on, through ftrace" || fail "not through ftrace"
}

takes() {
	[ "$(taken taken)" -ge 20 ]
}

test_unloaded_under_load() {
	for round in 1 2 3 4 5 6; do
		take "jump=$([ $((round % 2)) = 1 ] && echo y || echo n)"
		kernel_work "" 2 &
		load=$!
		# On a busy machine it takes a while until the load frees anything.
		wait_for 30 takes || fail "nothing was redirected"
		unload rcu_ptr_takeover
		! loaded rcu_ptr_takeover || fail "it is still there"
		wait $load
	done
}

# All that it does before a cache goes is kmem_cache_destroy().
destroys_by() {
	mark destroy
	take "$@"
	load rcu_ptr_kernel_client rounds=10 objects=600
	for what in kvfree_call_rcu kfree_call_rcu_nolock headless kmem_cache_destroy kernel_while_destroying; do
		[ "$(taken "$what")" -ge 5 ] || fail "next to nothing of $what: $(cat "$TAKEN")"
	done
	diag "$(tr '\n' ' ' <"$TAKEN")"
	settled
	! since_mark | grep -q "still has objects\|Objects remaining" || fail "a cache missed objects"
}

test_caches_are_destroyed() {
	destroys_by
}

test_caches_are_destroyed_through_ftrace() {
	destroys_by jump=n
}

# The kernel's own control of the same.
test_client_without_it() {
	unload_all
	load rcu_ptr_kernel_client rounds=4 objects=600
}

test_core_stays_while_it_is_loaded() {
	take
	refused "Resource temporarily unavailable" rmmod rcu_ptr
}

suite rcu_ptr_takeover client_without_it by_a_jump through_ftrace caches_are_destroyed \
	caches_are_destroyed_through_ftrace unloaded_under_load core_stays_while_it_is_loaded
