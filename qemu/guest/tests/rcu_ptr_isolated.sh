# SPDX-License-Identifier: GPL-2.0
# An isolated CPU (isolcpus, nohz_full, rcu_nocbs): the work that frees cause on it, and that nothing runs on it for
# the modules while it has no objects. Checked with the tracepoints of workqueues, timers and IPIs.

SYSTEMS="workqueue timer ipi csd"

cleanup() {
	events 0
	unload_all
	echo >"$TRACING/trace"
}

# isolated: the first isolated CPU, in $cpu
isolated() {
	cpu=$(sed 's/[-,].*//' /sys/devices/system/cpu/isolated)
	[ -n "$cpu" ] || skip "no CPU is isolated"
}

# events 0|1: disables or enables them
events() {
	for system in $SYSTEMS; do
		echo "$1" >"$TRACING/events/$system/enable"
	done
}

# seen CPU EVENT [TEXT]: the number of events of rcu_ptr on that CPU, with this text
seen() {
	grep -F "[00$1]" "$TRACING/trace" | grep " $2: " | grep rcu_ptr | grep -c "${3:-}" || true
}

# sent CPU: interrupts of rcu_ptr to that CPU: irq_works and function calls
sent() {
	grep -E " (ipi_send_cpu|csd_queue_cpu): cpu=$1 " "$TRACING/trace" | grep -c rcu_ptr || true
}

# An engine's objects run no kworker there, wherever the RCU callback runs.
test_frees_bring_no_kworker() {
	isolated
	fresh drain_interval_msec=100
	echo >"$TRACING/trace"
	events 1
	taskset -c "$cpu" insmod /modules/rcu_ptr_client_c.ko objects=4000
	wait_for 10 nothing_waits || fail "objects are left"
	events 0
	expect "objects freed" "$(stat_sum freed)" 4000
	expect "work items on CPU $cpu" "$(seen "$cpu" workqueue_execute_start)" 0
	[ "$(seen 0 workqueue_execute_start)" -gt 0 ] || fail "no work item is traced anywhere"
}

# Of a cache only the monitor runs there, which removes the sheaves.
test_caches_bring_their_monitor() {
	isolated
	fresh drain_interval_msec=100
	echo >"$TRACING/trace"
	events 1
	taskset -c "$cpu" insmod /modules/rcu_ptr_nmi_hash.ko
	for _ in $(seq 200); do taskset -c "$cpu" cat /proc/uptime >/dev/null; done
	sleep 1
	unload rcu_ptr_nmi_hash
	events 0
	expect "work items on CPU $cpu besides its monitor" \
		"$(seen "$cpu" workqueue_execute_start)" "$(seen "$cpu" workqueue_execute_start Monitor)"
}

# When all objects are freed nothing of rcu_ptr runs there or interrupts it, neither for a barrier nor for memory
# reclaim.
test_nothing_comes_where_nothing_is() {
	isolated
	fresh drain_interval_msec=100
	taskset -c "$cpu" insmod /modules/rcu_ptr_client_c.ko objects=1000
	wait_for 10 nothing_waits || fail "objects are left"
	sleep 1
	echo >"$TRACING/trace"
	events 1
	# Its cache is used on CPU 0 only.
	taskset -c 0 insmod /modules/rcu_ptr_nmi_hash.ko
	taskset -c 0 insmod /modules/rcu_ptr_client_rs.ko objects=1000
	echo 1 >"$BARRIER"
	for shrinker in /sys/kernel/debug/shrinker/rcu_ptr*; do
		taskset -c 0 sh -c "echo '0 0 1000' >$shrinker/scan"
	done
	sleep 1
	events 0
	expect "work items on CPU $cpu" "$(seen "$cpu" workqueue_execute_start)" 0
	expect "timers on CPU $cpu" "$(($(seen "$cpu" hrtimer_expire_entry) + $(seen "$cpu" timer_expire_entry)))" 0
	expect "interrupts sent to CPU $cpu" "$(sent "$cpu")" 0
	[ "$(seen 0 workqueue_execute_start)" -gt 0 ] || fail "no work item is traced anywhere"
}

suite rcu_ptr_isolated frees_bring_no_kworker caches_bring_their_monitor nothing_comes_where_nothing_is
