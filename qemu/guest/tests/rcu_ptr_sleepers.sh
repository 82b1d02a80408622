# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# The sample module rcu_ptr_sleepers: entries that own memory are added and removed with the run queue
# locked, and dropped after their grace period.

# shellcheck source=/dev/null
. /lib.sh

SLEEPERS=/sys/kernel/debug/rcu_ptr_sleepers/sleepers
BARRIER=/sys/kernel/debug/rcu_ptr/barrier

cleanup() {
	stop_load
	unload_all
}

# sleepers_count NAME: of the first line
sleepers_count() {
	head -n 1 "$SLEEPERS" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

at_least() {
	[ "$(sleepers_count "$1")" -ge "$2" ]
}

# start_load: tasks that sleep and wake each other all the time
start_load() {
	LOAD=
	for _ in 1 2 3; do
		yes 2>/dev/null | dd of=/dev/null bs=512 2>/dev/null &
		LOAD="$LOAD $!"
	done
}

stop_load() {
	# The end of a pipeline takes what is before it along.
	# shellcheck disable=SC2086 # several
	[ -z "${LOAD:-}" ] || kill $LOAD 2>/dev/null
	LOAD=
	wait
}

load_sleepers() {
	load rcu_ptr
	load rcu_ptr_sleepers "$@"
}

# unload_sleepers: its last line; what was removed is what was added
unload_sleepers() {
	mark unload
	unload rcu_ptr_sleepers
	line=$(since_mark | sed -n 's/.*rcu_ptr_sleepers: \([0-9]* entries added.*\)/\1/p')
	[ -n "$line" ] || fail "it said nothing at its end"
	want "entries removed" "$(echo "$line" | sed -n 's/.* added, \([0-9]*\) removed.*/\1/p')" "${line%% *}"
}

# What was dropped is what was removed: its grace periods are over once the barrier has returned.
all_dropped() {
	before=$(sleepers_count woken)
	before=$((before + $(sleepers_count evicted)))
	echo 1 >"$BARRIER"
	after=$(sleepers_count dropped)
	[ "$after" -ge "$before" ] || fail "$before entries were removed, and $after dropped: $(head -n 1 "$SLEEPERS")"
	# And no more than that.
	removed=$(sleepers_count woken)
	removed=$((removed + $(sleepers_count evicted)))
	[ "$after" -le "$removed" ] || fail "$after dropped, and only $removed removed"
}

an_entry_with_a_trace() {
	sed 1d "$SLEEPERS" | grep -A 1 '^pid=[0-9]* name=.* ms=[0-9]*$' | grep -q '^    .*schedule.*+0x[0-9a-f]*/0x[0-9a-f]*'
}

test_shows_who_sleeps() {
	load_sleepers
	sleep 30 &
	pid=$!
	wait_for 20 grep -q "^pid=$pid name=sleep " "$SLEEPERS" || fail "sleep is not among the sleepers"
	wait_for 20 an_entry_with_a_trace || fail "no trace: $(head -n 20 "$SLEEPERS")"
	sed -n "/^pid=$pid /,/^pid=/p" "$SLEEPERS" | head -n 8 | while read -r line; do
		diag "$line"
	done
	kill $pid
	wait $pid
	gone() {
		! grep -q "^pid=$pid " "$SLEEPERS"
	}
	wait_for 20 gone || fail "it is gone, and still sleeps"
	unload_sleepers
}

test_drops_what_it_removes() {
	load_sleepers buckets="${1:-16}"
	start_load
	wait_for 60 at_least woken 3000 || fail "$(head -n 1 "$SLEEPERS")"
	wait_for 60 at_least dropped 1000 || fail "$(head -n 1 "$SLEEPERS")"
	for _ in 1 2 3 4 5; do
		all_dropped
		cat "$SLEEPERS" >/dev/null
	done
	[ "$(sleepers_count missed)" -lt "$(sleepers_count added)" ] || fail "hardly any memory to be had"
	diag "$(head -n 1 "$SLEEPERS")"
	stop_load
	unload_sleepers
	diag "$line"
	unload rcu_ptr
}

# One bucket: nearly every entry takes the place of another, under readers.
test_evicts() {
	load_sleepers buckets=1
	start_load
	wait_for 60 at_least evicted 500 || fail "$(head -n 1 "$SLEEPERS")"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		cat "$SLEEPERS" >/dev/null
	done
	all_dropped
	stop_load
	unload_sleepers
}

# There are always entries whose destructor, which is code of the module, is still to come.
test_unloads_under_load() {
	load rcu_ptr
	start_load
	waited=0
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		load rcu_ptr_sleepers
		wait_for 20 at_least woken 50 || fail "$(head -n 1 "$SLEEPERS")"
		unload_sleepers
		case $line in
		*"; 0 are still to be dropped") ;;
		*) waited=$((waited + 1)) ;;
		esac
	done
	diag "$line"
	[ $waited -gt 0 ] || fail "none of them had anything to wait for"
	stop_load
	unload rcu_ptr
}

test_refuses_nonsense() {
	load rcu_ptr
	for what in buckets=0 buckets=65537; do
		if load rcu_ptr_sleepers "$what" 2>/tmp/insmod; then
			fail "$what is taken"
		fi
		grep -q "Invalid argument" /tmp/insmod || fail "$what: $(cat /tmp/insmod)"
	done
}

suite rcu_ptr_sleepers shows_who_sleeps drops_what_it_removes evicts unloads_under_load refuses_nonsense
