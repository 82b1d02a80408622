# SPDX-License-Identifier: GPL-2.0
# The sample module rcu_ptr_sleepers: entries that own memory are added and removed with the run queue
# locked, and dropped after their grace period.

SHARE=1
! slow || SHARE=10
ENTRIES=/sys/kernel/debug/rcu_ptr_sleepers/sleepers

cleanup() {
	stop_load
	unload_all
}

# start_load: tasks that keep sleeping and waking each other
start_load() {
	for _ in 1 2 3; do
		yes 2>/dev/null | dd of=/dev/null bs=512 2>/dev/null &
		echo $! >>/tmp/load
	done
}

stop_load() {
	[ -e /tmp/load ] || return 0
	# When the last task of a pipeline ends, the others do too.
	xargs kill </tmp/load || true
	rm /tmp/load
	wait
}

load_sleepers() {
	load rcu_ptr drain_interval_msec=200
	load rcu_ptr_sleepers "$@"
}

# All entries that were removed are dropped when the barrier has returned.
all_dropped() {
	before=$(count_of woken)
	before=$((before + $(count_of evicted)))
	echo 1 >"$BARRIER"
	after=$(count_of dropped)
	[ "$after" -ge "$before" ] || fail "$before entries were removed, and $after dropped: $(head -n 1 "$ENTRIES")"
	# But not more than these and those for which there was no memory.
	removed=$(count_of woken)
	removed=$((removed + $(count_of evicted) + $(count_of missed)))
	[ "$after" -le "$removed" ] || fail "$after dropped, and only $removed removed"
}

# entry_of PID: its entry
entry_of() {
	sed -n "/^pid=$1 /,/^pid=/p" "$ENTRIES" | sed '1n;/^pid=/d'
}

sleeps() {
	entry_of "$1" | grep -q "^pid=$1 name=.* ms=[1-9]"
}

has_a_trace() {
	entry_of "$1" | grep -q '^    schedule+0x[0-9a-f]*/0x[0-9a-f]*'
}

is_gone() {
	! sleeps "$1"
}

test_shows_who_sleeps() {
	load_sleepers
	sleep 60 &
	pid=$!
	wait_for 20 sleeps $pid || fail "it is not among the sleepers: $(cat "$ENTRIES")"
	wait_for 20 has_a_trace $pid || fail "no trace: $(entry_of $pid)"
	diag "$(entry_of $pid)"
	kill $pid
	wait $pid || true
	wait_for 20 is_gone $pid || fail "the task has ended, but has an entry: $(entry_of $pid)"
	unload_sample rcu_ptr_sleepers
}

test_drops_what_it_removes() {
	load_sleepers buckets=16
	start_load
	wait_for_count 60 woken $((3000 / SHARE))
	wait_for_count 60 dropped $((1000 / SHARE))
	for _ in 1 2; do
		all_dropped
		cat "$ENTRIES" >/dev/null
	done
	[ "$(count_of missed)" -lt "$(count_of added)" ] || fail "hardly any allocation succeeded"
	diag "$(head -n 1 "$ENTRIES")"
	stop_load
	unload_sample rcu_ptr_sleepers
	unload rcu_ptr
}

# One bucket: nearly every entry replaces another one, under readers.
test_evicts() {
	load_sleepers buckets=1
	start_load
	wait_for_count 60 evicted $((500 / SHARE))
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		cat "$ENTRIES" >/dev/null
	done
	all_dropped
	stop_load
	unload_sample rcu_ptr_sleepers
}

# There are always entries whose destructor, which is code of the module, has not run yet.
test_unloads_under_load() {
	load rcu_ptr
	start_load
	waited=0
	for _ in $(seq $((5 / SHARE + 3))); do
		load rcu_ptr_sleepers
		wait_for_count 20 woken 50
		unload_sample rcu_ptr_sleepers
		case $LINE in
		*"; 0 are still to be dropped") ;;
		*) waited=$((waited + 1)) ;;
		esac
	done
	[ $waited -gt 0 ] || fail "no unload had to wait"
	stop_load
	unload rcu_ptr
}

test_refuses_nonsense() {
	load rcu_ptr
	for what in buckets=0 buckets=65537; do
		fails_with "Invalid argument" load rcu_ptr_sleepers "$what"
	done
}

suite rcu_ptr_sleepers shows_who_sleeps drops_what_it_removes evicts unloads_under_load refuses_nonsense
