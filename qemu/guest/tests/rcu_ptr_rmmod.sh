# SPDX-License-Identifier: GPL-2.0
# Loading and unloading, in every order.

cleanup() {
	touch /tmp/enough
	unload_all
}

# Fails if the log has other messages than those of the modules.
silent() {
	noise=$(since_mark | grep -v -e 'rcu_ptr: engine ' -e 'rcu_ptr_client_[a-z]*: ' -e ' clocksource: ' -e ' tsc: ' -e rcu_ptr_guest) ||
		return 0
	echo "$noise" | say_lines "    # "
	fail "$1 has other messages"
}

core_goes() {
	unload rcu_ptr
	! loaded rcu_ptr || fail "rcu_ptr is still loaded"
}

test_refused_while_client_is_loaded() {
	load rcu_ptr
	load rcu_ptr_client_c objects=1000
	fails_with "Resource temporarily unavailable" rmmod rcu_ptr
	loaded rcu_ptr || fail "rejected, but unloaded"
	loaded rcu_ptr_client_c || fail "the client is not loaded"
	grep -q "^sum " "$STATS" || fail "there are no stats"
	unload rcu_ptr_client_c
	core_goes
}

test_client_needs_core() {
	mark client
	fails_with "" load rcu_ptr_client_c
	since_mark | grep -q "rcu_ptr_client_c: Unknown symbol __rcu_ptr_kvfree" ||
		fail "rejected for another reason: $(cat /tmp/stderr)"
}

test_two_clients() {
	load rcu_ptr
	load rcu_ptr_client_c objects=3000
	load rcu_ptr_client_rs objects=3000
	unload rcu_ptr_client_c
	fails_with "Resource temporarily unavailable" rmmod rcu_ptr
	unload rcu_ptr_client_rs
	unload rcu_ptr
}

# The Rust client is unloaded without waiting: the core frees its objects. All that a client has queued is done when
# it is unloaded, long before the drain interval is over.
test_client_drains_first() {
	mark drain
	load rcu_ptr drain_interval_msec=600000
	once rcu_ptr_client_rs objects=100
	expect "objects left" "$(stat_sum now_queued)" 0
	[ $(($(stat_sum invoked) + $(stat_sum freed))) -ge 100 ] ||
		fail "not all are done: $(sed -n '/^sum/p' "$STATS")"
	core_goes
	silent "unloading with objects queued"
}

test_nothing_stays_behind() {
	mark stay
	load rcu_ptr
	once rcu_ptr_client_c
	unload rcu_ptr
	for path in /sys/module/rcu_ptr /sys/kernel/debug/rcu_ptr "$EVENTS"; do
		[ ! -e "$path" ] || fail "$path outlives the module"
	done
	[ -z "$(find /sys/kernel/debug/shrinker -name 'rcu_ptr*')" ] || fail "a shrinker outlives the module"
	! grep -q 'rcu_ptr' /proc/slabinfo 2>/dev/null || fail "a cache outlives the module"
	silent "loading and unloading"
}

test_reload() {
	mark reload
	for round in 1 2 3 4 5; do
		load rcu_ptr
		expect "queued objects of round $round" "$(queued)" 0
		load rcu_ptr_client_c objects=100
		once rcu_ptr_client_rs objects=100
		unload rcu_ptr_client_c
		unload rcu_ptr
	done
	silent "reloading"
}

# Hotplug callbacks are registered and unregistered while CPUs go down and up.
test_cpus_that_come_and_go_meanwhile() {
	cpu=/sys/devices/system/cpu/cpu1/online
	[ -w $cpu ] || skip "needs two CPUs"
	rm -f /tmp/enough
	: >/tmp/turns
	while [ ! -e /tmp/enough ]; do
		echo 0 >$cpu && echo 1 >$cpu && echo once >>/tmp/turns
	done &
	for round in 1 2 3 4 5 6 7 8 9 10; do
		load rcu_ptr
		load rcu_ptr_client_c objects=500
		once rcu_ptr_client_rs objects=500
		unload rcu_ptr_client_c
		unload rcu_ptr
	done
	touch /tmp/enough
	wait
	[ "$(wc -l </tmp/turns)" -ge 2 ] || fail "the CPU went down only $(wc -l </tmp/turns) times"
	expect "state of the CPU" "$(cat $cpu)" 1
	! loaded rcu_ptr || fail "rcu_ptr is still loaded"
}

# The setter of a parameter queues a callback, and the next one fails. The module is not in sysfs yet.
test_failed_load_waits_for_callbacks() {
	load rcu_ptr
	mark failed_load
	! load rcu_ptr_torture queue_early=1 msecs=neither 2>/dev/null || fail "the module was loaded"
	# insmod tries twice.
	expect "callbacks that were called" "$(since_mark | grep -c "the callback of a parameter was called")" 2
	core_goes
}

# Most scenarios have no function tracing, which redirecting the kernel's functions needs.
test_takeover_says_what_is_missing() {
	mark takeover
	load rcu_ptr
	if [ -e "$TRACING/available_filter_functions" ]; then
		load rcu_ptr_takeover
		return
	fi
	fails_with "not supported" load rcu_ptr_takeover
	# insmod tries twice.
	since_mark | sed -n 's/.*rcu_ptr_takeover: //p' | sort -u >/tmp/sentence
	expect "reasons in the log" "$(wc -l </tmp/sentence)" 1
	grep -q "this kernel lacks CONFIG_FUNCTION_TRACER=y" /tmp/sentence || fail "the reason is: $(cat /tmp/sentence)"
	core_goes
}

suite rcu_ptr_rmmod refused_while_client_is_loaded client_needs_core two_clients client_drains_first \
	nothing_stays_behind reload cpus_that_come_and_go_meanwhile failed_load_waits_for_callbacks \
	takeover_says_what_is_missing
