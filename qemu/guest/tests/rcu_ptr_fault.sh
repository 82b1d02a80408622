# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Allocations that fail, by the kernel's fault injection: while modules are loaded, in calls, and in
# the workers that refill the block caches. Nothing may be lost, and nothing but the load may fail.

# shellcheck source=/dev/null
. /lib.sh

PAGES=/sys/kernel/debug/fail_page_alloc
FAULTS="/sys/kernel/debug/failslab $PAGES"
# A load tries every so many allocations, and all of the last ones.
STEP=16

cleanup() {
	for faults in $FAULTS; do
		[ ! -d "$faults" ] || echo 0 >"$faults/probability"
	done
	make_workers_fail 0
	unload_all
}

# Faults are silent, and hit allocations of every kind.
set_up_faults() {
	for faults in $FAULTS; do
		[ -d "$faults" ] || skip "the kernel has no $faults"
		echo 0 >"$faults/probability"
		echo 0 >"$faults/verbose"
		echo -1 >"$faults/times"
		echo N >"$faults/ignore-gfp-wait"
	done
	echo 0 >"$PAGES/min-order"
}

# with_fault N MODULE [PARAMETER=VALUE]...: insmod, with its Nth allocation failing
with_fault() {
	n=$1
	module=$2
	shift 2
	# The number counts down in the task that insmod becomes.
	sh -c 'echo "$0" >/proc/self/fail-nth; exec insmod "$@"' "$n" "/modules/$module.ko" "$@" \
		2>/tmp/insmod
}

# try N MODULE [PARAMETER=VALUE]...: as with_fault. The module is there afterwards or it isn't, as
# insmod says; then it goes.
try() {
	if with_fault "$@"; then
		loaded "$2" || fail "$2: insmod ended well with fault $1, but it isn't loaded"
		rmmod "$2"
	else
		! loaded "$2" || fail "$2: insmod failed with fault $1, but it is loaded"
		return 1
	fi
}

# find_last MODULE [PARAMETER=VALUE]...: about the last allocation whose failure fails insmod, in LAST.
# The kernel's own come first, those of the module's init last.
find_last() {
	LAST=0
	n=1
	while [ "$n" -lt $((LAST + 10 * STEP)) ]; do
		try "$n" "$@" || LAST=$n
		n=$((n + STEP))
	done
	n=$((LAST + STEP - 1))
	while [ "$n" -gt "$LAST" ]; do
		try "$n" "$@" || LAST=$n
		n=$((n - 1))
	done
	diag "$1: the last fatal allocation is number $LAST"
	[ "$LAST" -gt "$STEP" ] || fail "$1: insmod makes only $LAST allocations"
}

# load_fails_cleanly MODULE [PARAMETER=VALUE]...: with one allocation failing, whichever it is
load_fails_cleanly() {
	find_last "$@"
	failed=0
	n=$LAST
	while [ "$n" -gt $((LAST - STEP)) ]; do
		try "$n" "$@" || failed=$((failed + 1))
		n=$((n - 1))
	done
	diag "$1: $failed of the last $STEP failing allocations fail insmod"
}

test_core_load_fails_cleanly() {
	set_up_faults
	load_fails_cleanly rcu_ptr "engine=${ENGINE:-rfc}"
	load rcu_ptr
	load rcu_ptr_client_c objects=100
	unload rcu_ptr_client_c
	want freed "$(stat_sum freed)" 100
}

test_client_load_fails_cleanly() {
	set_up_faults
	load rcu_ptr rcu_min_cached_objs=0
	load_fails_cleanly rcu_ptr_client_c objects=8
	want leaked "$(stat_sum leaked)" 0
	want "objects freed" "$(stat_sum freed)" "$(queued)"
}

# Where a block can't be allocated the caller of the one-argument path waits for a grace period, and
# nobody outside notices.
test_one_argument_waits() {
	set_up_faults
	load rcu_ptr rcu_min_cached_objs=0
	# The last object of four takes that path; the block is what is allocated after the object.
	find_last rcu_ptr_client_c objects=4
	before=$(stat_sum queued_sync)
	n=$LAST
	while [ "$n" -lt $((LAST + 10)) ] && [ "$(stat_sum queued_sync)" = "$before" ]; do
		n=$((n + 1))
		try "$n" rcu_ptr_client_c objects=4 || true
	done
	want "objects whose caller waited, with the allocation of the block failing" \
		"$(stat_sum queued_sync)" $((before + 1))
	want "objects freed" "$(stat_sum freed)" "$(queued)"
	want leaked "$(stat_sum leaked)" 0
}

# make_workers_fail 0|1: whether faults hit the kernel's workers
make_workers_fail() {
	for comm in /proc/[0-9]*/comm; do
		case $(cat "$comm" 2>/dev/null) in
		kworker/*) echo "$1" >"${comm%comm}make-it-fail" 2>/dev/null || true ;;
		esac
	done
}

# Refills bring nothing, so objects go on the list, all but the one-argument ones.
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
	echo 0 >$PAGES/probability
	echo N >$PAGES/task-filter
	make_workers_fail 0
	want "blocks that refills brought" "$(stat_sum refilled)" 0
	want "objects on the list" "$(stat_sum queued_list)" 1999
	unload rcu_ptr_client_rs
	# With memory there again so are blocks.
	load rcu_ptr_client_c objects=4000
	sleep 1
	unload rcu_ptr_client_c
	[ "$(stat_sum refilled)" -gt 0 ] || fail "no refill after memory came back"
	want leaked "$(stat_sum leaked)" 0
}

suite rcu_ptr_fault core_load_fails_cleanly client_load_fails_cleanly one_argument_waits refills_fail
