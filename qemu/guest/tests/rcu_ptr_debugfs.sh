# SPDX-License-Identifier: GPL-2.0
# The files in debugfs: stats, delays, barrier.

FIELDS="queued_slab queued_vmalloc queued_mixed queued_list queued_call queued_call_list queued_sync queued_nolock
	deferred freed freed_polled invoked leaked batches batches_busy refilled backoffs shrunk
	now_queued now_in_batches now_ready now_cached"

DELAYS=/sys/kernel/debug/rcu_ptr/delays

sums_agree() {
	for field in $FIELDS; do
		[ "$(stat_sum "$field")" = "$(stats_of 'cpu=.*' "$field")" ] || return 1
	done
}

all_freed() {
	nothing_waits && [ "$(stat_sum freed)" = "$(queued)" ]
}

test_shape() {
	load rcu_ptr
	expect "first line" "$(sed -n 1p "$STATS")" "engine=$(cat "$PARAMS/engine")"
	possible=$(sed -n 's/.*-//p' /sys/devices/system/cpu/possible)
	expect "lines of CPUs" "$(grep -c '^cpu=' "$STATS")" $((${possible:-0} + 1))
	expect "sum lines" "$(grep -c '^sum ' "$STATS")" 1
	expect "all lines" "$(wc -l <"$STATS")" $((${possible:-0} + 3))
	for field in $FIELDS; do
		[ -n "$(stat_sum "$field")" ] || fail "no field $field"
		expect "$field before any use" "$(stat_sum "$field")" 0
	done
}

test_counts_every_object() {
	load rcu_ptr
	load rcu_ptr_client_c objects=1000
	wait_for 10 queued_are 1000 || fail "queued objects: $(queued) instead of 1000"
	unload rcu_ptr_client_c
	expect "queued objects after the client's barrier" "$(queued)" 1000
	expect "unsorted objects after the client's barrier" "$(stat_sum queued_mixed)" 0
	# A quarter is from vmalloc; those without a block are on the list.
	vmalloc=$(stat_sum queued_vmalloc)
	if [ "$vmalloc" -gt 250 ] || [ $((vmalloc + $(stat_sum queued_list))) -lt 250 ]; then
		fail "250 vmalloc objects were freed: $(sed -n '/^sum/p' "$STATS")"
	fi
	expect "freed objects after the client's barrier" "$(stat_sum freed)" 1000
	expect leaked "$(stat_sum leaked)" 0
	expect "objects that wait" "$(waiting)" 0
}

test_cpus_sum_up() {
	load rcu_ptr
	sed -n 's/^processor[^0-9]*//p' /proc/cpuinfo >/tmp/cpus
	[ -s /tmp/cpus ]
	while read -r cpu; do
		taskset -c "$cpu" insmod /modules/rcu_ptr_client_c.ko objects=200
		rmmod rcu_ptr_client_c
		expect "objects queued on CPU $cpu" "$(queued_at "cpu=$cpu")" 200
	done </tmp/cpus
	# The lines aren't an atomic snapshot: other users may free objects meanwhile.
	wait_for 10 sums_agree || fail "the CPUs' lines don't add up to the sum line"
}

# No barrier waits for these: the monitor has to free them.
test_drains_by_itself() {
	load rcu_ptr drain_interval_msec=200
	load rcu_ptr_client_c objects=40
	wait_for 10 all_freed || fail "not all freed without a barrier: $(sed -n '/^sum/p' "$STATS")"
	expect freed "$(stat_sum freed)" 40
}

test_waits_for_drain_interval() {
	load rcu_ptr drain_interval_msec=600000
	load rcu_ptr_client_c objects=8
	sleep 2
	expect "objects freed long before the drain interval is over" "$(stat_sum freed)" 0
	expect now_queued "$(stat_sum now_queued)" 8
	unload rcu_ptr_client_c
	expect "objects freed by the client's barrier" "$(stat_sum freed)" 8
}

test_list_path() {
	load rcu_ptr rcu_min_cached_objs=0
	load rcu_ptr_client_rs objects=500
	# Its objects have destructors, so callbacks free them.
	expect queued_call_list "$(stat_sum queued_call_list)" 499
	unload rcu_ptr_client_rs
	expect queued_call_list "$(stat_sum queued_call_list)" 500
	wait_for 20 all_freed || fail "not all freed: $(sed -n '/^sum/p' "$STATS")"
	expect now_cached "$(stat_sum now_cached)" 0
}

test_cache_is_bounded() {
	load rcu_ptr rcu_min_cached_objs=3
	once rcu_ptr_client_c objects=5000
	cpus=$(grep -c '^cpu=' "$STATS")
	[ "$(stat_sum now_cached)" -le $((3 * cpus)) ] ||
		fail "$(stat_sum now_cached) blocks cached on $cpus CPUs, 3 each allowed"
}

# The barrier for scripts.
test_barrier() {
	load rcu_ptr drain_interval_msec=600000
	# Less than a block's worth, which would not wait.
	load rcu_ptr_client_c objects=100
	[ "$(stat_sum now_queued)" -gt 0 ] || fail "nothing is queued"
	for value in 0 2 -1 x ""; do
		fails_with "Invalid argument" write "$value" "$BARRIER"
	done
	[ "$(stat_sum freed)" -lt 100 ] || fail "an invalid value runs a barrier"
	echo 1 >"$BARRIER"
	expect "objects freed by then" "$(stat_sum freed)" 100
	expect "objects that wait" "$(waiting)" 0
	expect "mode of the file" "$(stat -c %a "$BARRIER")" 200
}

# calls_to CPU: interrupts that a barrier sends to it for the engine
calls_to() {
	echo 1 >"$TRACING/events/csd/csd_queue_cpu/enable"
	echo >"$TRACING/trace"
	taskset -c 0 sh -c "echo 1 >$BARRIER"
	echo 0 >"$TRACING/events/csd/csd_queue_cpu/enable"
	grep -c " csd_queue_cpu: cpu=$1 .*irq5entry.*8lockless.*11close_there" "$TRACING/trace" || true
}

# CPUs without objects are not interrupted.
test_barrier_leaves_others_alone() {
	[ -d /sys/devices/system/cpu/cpu1 ] || skip "needs two CPUs"
	load rcu_ptr drain_interval_msec=600000
	# Engine rfc uses a lock instead.
	calls=0
	[ "$(cat "$PARAMS/engine")" = rfc ] || calls=1
	taskset -c 1 insmod /modules/rcu_ptr_client_rs.ko objects=100
	expect "interrupts to the CPU with objects" "$(calls_to 1)" $calls
	expect "interrupts to it when it has none any more" "$(calls_to 1)" 0
	# Its last entry is freed on this CPU.
	taskset -c 0 rmmod rcu_ptr_client_rs
	taskset -c 0 insmod /modules/rcu_ptr_client_rs.ko objects=100
	expect "interrupts to the other CPU" "$(calls_to 1)" 0
}

# delays LEAST BELOW: objects of the engine that waited for at least LEAST ms and less than BELOW, to the
# precision of the buckets
delays() {
	sed -n 's/^engine=[a-z]* //p' "$DELAYS" | tr ' ' '\n' | awk -F '[=a-z]+' -v least="$1" -v below="$2" '
		/^longer/ { below_this = 1e9 } /^lt/ { below_this = $2 }
		from >= least && below_this <= below { n += $NF } { from = below_this } END { print n + 0 }'
}

# centiseconds: since the guest started
centiseconds() {
	sed 's/^\([0-9]*\)\.\([0-9]*\) .*/\1\2/' /proc/uptime
}

# since BEGIN: an upper bound in ms of the buckets of objects that were queued since then
since() {
	echo $((20 * ($(centiseconds) - $1) + 20))
}

test_delays() {
	load rcu_ptr drain_interval_msec=600000 rcu_min_cached_objs=2
	expect "objects before any use" "$(delays 0 2000000000)" 0
	begin=$(centiseconds)
	load rcu_ptr_client_c objects=200
	sleep 3
	echo 1 >"$BARRIER"
	expect "all objects" "$(delays 0 2000000000)" "$(stat_sum freed)"
	expect "objects that waited for the barrier" "$(delays 1000 "$(since "$begin")")" 200
	# Another load, whose objects don't wait.
	fresh drain_interval_msec=600000
	begin=$(centiseconds)
	once rcu_ptr_client_c objects=2000
	echo 1 >"$BARRIER"
	expect "all objects then" "$(delays 0 2000000000)" 2000
	expect "objects that waited no longer than the test" "$(delays 0 "$(since "$begin")")" 2000
}

# Objects that were linked for want of a block.
test_delays_of_linked_objects() {
	load rcu_ptr drain_interval_msec=600000 rcu_min_cached_objs=0
	begin=$(centiseconds)
	load rcu_ptr_client_c objects=100
	sleep 3
	echo 1 >"$BARRIER"
	linked=$(stat_sum queued_list)
	[ "$linked" -ge 1 ] || fail "none was linked: $(sed -n '/^sum/p' "$STATS")"
	# Engine lockless collects a list with the next tick.
	least=$([ "$(cat "$PARAMS/engine")" = rfc ] && echo 1000 || echo 0)
	waited=$(delays "$least" "$(since "$begin")")
	[ "$waited" -ge "$linked" ] || fail "$waited objects waited for the barrier, $linked were linked"
	expect "objects that waited" "$waited" "$(delays 0 2000000000)"
}

suite rcu_ptr_debugfs shape counts_every_object cpus_sum_up drains_by_itself waits_for_drain_interval list_path \
	cache_is_bounded barrier barrier_leaves_others_alone delays delays_of_linked_objects
