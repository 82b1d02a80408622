# SPDX-License-Identifier: GPL-2.0
# CPUs without a tick: objects queued there are freed without other activity.

nothing_waits_on() {
	[ "$(waiting_at "cpu=$1")" = 0 ]
}

# Frees some objects on CPU $1, fewer than a block holds, and lets it sleep.
drains() {
	load rcu_ptr drain_interval_msec=400
	# The client calls a barrier only when it is unloaded.
	taskset -c "$1" insmod /modules/rcu_ptr_client_c.ko objects=40
	[ "$(stat_sum freed)" -lt 40 ] || skip "freed before anybody could look"
	wait_for 5 nothing_waits_on "$1" || fail "CPU $1 keeps objects: $(grep "^cpu=$1 " "$STATS")"
	expect freed "$(stat_sum freed)" 40
}

test_nohz_full_cpu_drains() {
	cpu=$(sed 's/[-,].*//' /sys/devices/system/cpu/nohz_full 2>/dev/null) || cpu=
	case $cpu in
	[0-9]*) drains "$cpu" ;;
	*) skip "no CPU is nohz_full" ;;
	esac
}

# last_cpu: sets cpu; skips with one CPU
last_cpu() {
	cpu=$(sed -n 's/^processor[^0-9]*//p' /proc/cpuinfo | tail -n 1)
	[ "$cpu" != 0 ] || skip "needs two CPUs"
}

test_idle_cpu_drains() {
	last_cpu
	drains "$cpu"
}

# The shell keeps CPU 0 busy, so that on the other CPU only work of the engine runs.
test_idle_cpu_drains_while_others_work() {
	last_cpu
	taskset -c 0 sh -c 'while :; do :; done' &
	busy=$!
	drains "$cpu"
	kill $busy
}

suite rcu_ptr_tickless nohz_full_cpu_drains idle_cpu_drains idle_cpu_drains_while_others_work
