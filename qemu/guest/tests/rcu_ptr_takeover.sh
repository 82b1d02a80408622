# SPDX-License-Identifier: GPL-2.0
# rcu_ptr_takeover.ko: the kernel's own users of kvfree_rcu() are redirected to the engine, and back.

cleanup() {
	rm -rf /tmp/tree*
	unload_all
}

# take [PARAMETER=VALUE]...: reloads the core, and redirects the kernel's functions
take() {
	fresh
	load rcu_ptr_takeover "$@"
}

# Other users free objects all the time.
is_empty() {
	echo 1 >"$BARRIER"
	[ "$(waiting)" -le "$1" ]
}

# The objects of the engine are freed, and nothing was leaked.
settled() {
	wait_for 20 is_empty 20 || fail "objects are left in the engine: $(sed -n '/^sum/p' "$STATS")"
	expect "objects that were leaked" "$(stat_sum leaked)" 0
}

redirects_by() {
	mark "redirect"
	take "$@"
	kernel_work ""
	kernel_hotplug
	[ "$(takeover_stat taken)" -ge 100 ] || fail "the kernel freed hardly any object: $(cat "$TAKEOVER_STATS")"
	diag "$(tr '\n' ' ' <"$TAKEOVER_STATS")"
	settled
	unload rcu_ptr_takeover
	since_mark | grep -q "objects were redirected" || fail "no message at unload"
	before=$(queued)
	kernel_work "" 1
	expect "objects queued after it was unloaded" "$(($(queued) - before))" 0
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
	[ "$(takeover_stat taken)" -ge 20 ]
}

test_unloaded_under_load() {
	for round in 1 2 3 4 5 6; do
		take "jump=$([ $((round % 2)) = 1 ] && echo y || echo n)"
		kernel_work "" 2 &
		load=$!
		# On a busy machine it takes a while until the load frees an object.
		wait_for 30 takes || fail "nothing was redirected"
		unload rcu_ptr_takeover
		! loaded rcu_ptr_takeover || fail "it is still loaded"
		wait $load
	done
}

# The client waits for its objects only by kmem_cache_destroy().
destroys_by() {
	mark destroy
	take "$@"
	load rcu_ptr_kernel_client rounds=10 objects=600
	for what in kvfree_call_rcu kfree_call_rcu_nolock headless kmem_cache_destroy kernel_while_destroying; do
		[ "$(takeover_stat "$what")" -ge 5 ] || fail "hardly any object of $what: $(cat "$TAKEOVER_STATS")"
	done
	diag "$(tr '\n' ' ' <"$TAKEOVER_STATS")"
	settled
	! since_mark | grep -q "still has objects\|Objects remaining" || fail "a cache missed objects"
}

test_caches_are_destroyed() {
	destroys_by
}

test_caches_are_destroyed_through_ftrace() {
	destroys_by jump=n
}

# The control: the kernel's own functions.
test_client_without_it() {
	unload_all
	load rcu_ptr_kernel_client rounds=4 objects=600
}

test_core_stays_while_it_is_loaded() {
	take
	fails_with "Resource temporarily unavailable" rmmod rcu_ptr
}

suite rcu_ptr_takeover client_without_it by_a_jump through_ftrace caches_are_destroyed \
	caches_are_destroyed_through_ftrace unloaded_under_load core_stays_while_it_is_loaded
