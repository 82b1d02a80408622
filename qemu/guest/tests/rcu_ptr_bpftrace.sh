# SPDX-License-Identifier: GPL-2.0
# The scripts of scripts/bpftrace/, with the distribution's bpftrace.

BPFTRACE=/usr/bin/bpftrace

cleanup() {
	[ ! -e /tmp/bpftrace.pid ] || kill "$(cat /tmp/bpftrace.pid)" || true
	rm -f /tmp/bpftrace.pid
	unload_all
}

# Whether PROBES probes are attached; bpftrace prints that they are before it is true.
attached() {
	probes=0
	for fd in "/proc/$(cat /tmp/bpftrace.pid)/fd/"*; do
		case $(readlink "$fd") in
		*perf_event* | *bpf[_-]link* | *raw-tracepoint*) probes=$((probes + 1)) ;;
		esac
	done
	[ "$probes" -ge "$PROBES" ]
}

gone() {
	[ ! -d "/proc/$(cat /tmp/bpftrace.pid)" ]
}

# start_trace SCRIPT PROBES
start_trace() {
	PROBES=$2
	[ -x "$BPFTRACE" ] || skip "there is no bpftrace in this guest"
	BPFTRACE_MAX_STRLEN=64 "$BPFTRACE" "/bpftrace/$1" >/tmp/bpftrace.out 2>&1 &
	echo $! >/tmp/bpftrace.pid
	wait_for 120 attached || fail "it does not start: $(cat /tmp/bpftrace.out)"
	sleep 2
}

# stop_trace: the output is in /tmp/bpftrace.out
stop_trace() {
	kill -INT "$(cat /tmp/bpftrace.pid)"
	wait_for 60 gone || fail "it does not end"
	rm -f /tmp/bpftrace.pid
	say_lines "    # " </tmp/bpftrace.out
}

test_who() {
	load rcu_ptr
	start_trace rcu_ptr_who.bt 1
	load rcu_ptr_client_c objects=400
	stop_trace
	# All of its objects come from one function.
	counted=$(sed -n 's/^@objects\[free_one.*\]: *\([0-9]*\)$/\1/p' /tmp/bpftrace.out |
		awk '{ n += $1 } END { print n + 0 }')
	expect "objects by their caller" "$counted" 400
}

test_delay() {
	load rcu_ptr drain_interval_msec=600000
	start_trace rcu_ptr_delay.bt 2
	load rcu_ptr_client_c objects=300
	sleep 3
	echo 1 >"$BARRIER"
	stop_trace
	grep -q '^@usecs:' /tmp/bpftrace.out || fail "no histogram"
	# [2M, 4M) and above, in microseconds: none was freed before the barrier.
	long=$(sed -n 's/^\[[1-8]M, [0-9]*M) *\([0-9]*\) .*/\1/p' /tmp/bpftrace.out |
		awk '{ n += $1 } END { print n + 0 }')
	[ "$long" -ge 290 ] || fail "$long objects waited for the barrier"
}

test_twice() {
	load rcu_ptr engine=rfc
	load rcu_ptr_takeover
	start_trace rcu_ptr_twice.bt 2
	say "rcu_ptr: expect-splat begin rcu_ptr: .* is queued twice"
	load rcu_ptr_kernel_client rounds=1 objects=10 twice=1
	say "rcu_ptr: expect-splat end"
	sleep 1
	stop_trace
	grep -q "^freed twice: .* first by free_at_first.*, then by free_again" /tmp/bpftrace.out ||
		fail "the callers are not both named"
}

suite rcu_ptr_bpftrace who delay twice
