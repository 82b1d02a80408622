# SPDX-License-Identifier: GPL-2.0
# Allocations that fail, by the kernel's fault injection, in the workers that refill the block caches: no object
# may be lost. (Suite rcu_ptr_mightsleep tests allocations that fail in calls. Loading a module with failing
# allocations is not tested, as the kernel itself warns.)

PAGES=/sys/kernel/debug/fail_page_alloc

cleanup() {
	[ ! -d "$PAGES" ] || echo 0 >"$PAGES/probability"
	make_workers_fail 0
	unload_all
}

# Faults are silent, and hit allocations of every kind.
set_up_faults() {
	[ -d "$PAGES" ] || skip "the kernel has no $PAGES"
	echo 0 >"$PAGES/probability"
	echo 0 >"$PAGES/verbose"
	echo -1 >"$PAGES/times"
	echo N >"$PAGES/ignore-gfp-wait"
	echo 0 >"$PAGES/min-order"
}

# make_workers_fail 0|1: whether allocations of the kernel's workers fail. New workers inherit it from kthreadd.
make_workers_fail() {
	for comm in /proc/[0-9]*/comm; do
		case $(cat "$comm" 2>/dev/null) in
		kworker/*|kthreadd) echo "$1" >"${comm%comm}make-it-fail" 2>/dev/null || true ;;
		esac
	done
}

# Refills allocate nothing, so objects are linked, except those of headless calls.
test_refills_fail() {
	set_up_faults
	engine=${ENGINE:-rfc}
	[ "$engine" = rfc ] || skip "engine $engine takes blocks where it needs them"
	load rcu_ptr
	echo Y >$PAGES/task-filter
	make_workers_fail 1
	echo 100 >$PAGES/probability
	load rcu_ptr_client_rs objects=2000
	sleep 1
	expect "blocks allocated by refills" "$(stat_sum refilled)" 0
	expect "callbacks on the list" "$(stat_sum queued_call_list)" 1999
	echo 0 >$PAGES/probability
	echo N >$PAGES/task-filter
	make_workers_fail 0
	unload rcu_ptr_client_rs
	# When memory is available again, so are blocks.
	load rcu_ptr_client_c objects=4000
	sleep 1
	unload rcu_ptr_client_c
	[ "$(stat_sum refilled)" -gt 0 ] || fail "no refill although memory is available"
	expect leaked "$(stat_sum leaked)" 0
}

suite rcu_ptr_fault refills_fail
