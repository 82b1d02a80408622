# SPDX-License-Identifier: GPL-2.0
# The tracepoints, through tracefs.

PAGES=$TRACING/events/kmem/mm_page_alloc

cleanup() {
	if [ -d "$EVENTS" ]; then
		echo 0 >"$EVENTS/enable"
		echo 0 >"$PAGES/enable"
		echo 0 >"$PAGES/filter"
		echo '!stacktrace' >>"$PAGES/trigger"
		echo 0 >"$EVENTS/rcu_ptr_queue/filter"
		echo '!hist:keys=channel' >>"$EVENTS/rcu_ptr_queue/trigger"
		echo '!hist:keys=caller.sym:vals=hitcount' >>"$EVENTS/rcu_ptr_queue/trigger"
	fi
	unload_all
	echo >"$TRACING/trace"
}

# start EVENT...: reloads the core, enables these events, and clears the trace.
start() {
	fresh
	echo >"$TRACING/trace"
	for event in "$@"; do
		echo 1 >"$EVENTS/rcu_ptr_$event/enable"
	done
}

# The lines of one event.
lines_of() {
	grep " rcu_ptr_$1: " "$TRACING/trace" || true
}

count() {
	grep -c "$@" || true
}

test_events_exist() {
	load rcu_ptr
	for event in queue batch_start batch_end free refill shrink defer sheaf_wait sheaf_refill sheaf_drain \
		sheaf_shrink; do
		for file in enable filter format trigger hist; do
			[ -e "$EVENTS/rcu_ptr_$event/$file" ] || fail "$EVENTS/rcu_ptr_$event/$file is missing"
		done
	done
	for field in engine channel ctx ptr caller; do
		grep -q "field:.* $field;" "$EVENTS/rcu_ptr_queue/format" || fail "queue has no field $field"
	done
	for event in batch_start batch_end; do
		for field in cpu slab vmalloc list mixed gp; do
			grep -q "field:.* $field;" "$EVENTS/rcu_ptr_$event/format" ||
				fail "$event has no field $field"
		done
	done
}

test_queue() {
	start queue
	load rcu_ptr_client_c objects=40
	# While the client is loaded, as its symbols are needed.
	lines_of queue >/tmp/queue
	expect "objects in the trace" "$(wc -l </tmp/queue)" 40
	engine=$(cat "$PARAMS/engine")
	good="engine=$engine channel=(slab|vmalloc|list|sync) kind=free ctx=task ptr=[0-9a-f]{16}"
	good="$good caller=[a-z0-9_.]+\+0x[0-9a-f]+/0x[0-9a-f]+ \[rcu_ptr_client_c\]"
	grep -v -E "$good" /tmp/queue >/tmp/bad && fail "wrong line: $(sed -n 1p /tmp/bad)"
	# Engine lockless sorts its objects when it frees them.
	unload rcu_ptr_client_c
	for channel in slab vmalloc list sync; do
		expect "$channel objects in the trace" "$(count channel=$channel </tmp/queue)" \
			"$(stat_sum queued_$channel)"
	done
}

# by_batch FILE: the objects of each batch of each CPU.
by_batch() {
	sed 's/ gp=.*//' "$1" | tr -s ' ' | awk '
		{ key = $1 " " $2; n = 0 }
		{ for (i = 3; i <= NF; i++) { split($i, kv, "="); n += kv[2] } }
		{ sum[key] += n }
		END { for (key in sum) print key, sum[key] }' | sort
}

test_batches_agree_with_queue() {
	# No batch is needed if the grace period is over before the machine processes the objects: try again then.
	for _ in 1 2 3 4 5; do
		start queue batch_start batch_end
		once rcu_ptr_client_c objects=3000
		expect "objects left after the client's barrier" "$(waiting)" 0
		echo 0 >"$EVENTS/enable"
		queued=$(lines_of queue | count -v channel=sync)
		expect "objects queued in the trace and freed after it" \
			"$(lines_of batch_end | add_up slab vmalloc list mixed)" "$queued"
		lines_of batch_start | sed 's/.*rcu_ptr_batch_start: //' >/tmp/starts
		[ ! -s /tmp/starts ] || break
	done
	lines_of batch_end | grep -v batch=-1 | sed 's/.*rcu_ptr_batch_end: //' >/tmp/ends
	[ -s /tmp/starts ] || fail "no batch was started"
	# Blocks that join a batch of engine lockless have a start event of their own, and share its end event.
	expect "batches that ended" "$(by_batch /tmp/ends)" "$(by_batch /tmp/starts)"
	grep -v -E ' gp=[1-9][0-9]*$' /tmp/starts /tmp/ends &&
		fail "a batch doesn't name its grace period"
	expect "objects by the stats" "$(stat_sum freed)" 3000
}

# A batch ends only after it has started, and not before the grace period of its start event.
test_batch_order() {
	start batch_start batch_end
	once rcu_ptr_client_c objects=1000
	# On a slow machine all objects may be ready before a batch is made.
	[ -n "$(lines_of 'batch_[a-z]*')" ] || fail "no batch in the trace"
	lines_of 'batch_[a-z]*' | { grep -v batch=-1 || true; } | tr -s ' ' | awk '
		{ text = $0; sub(/.*rcu_ptr_batch_[a-z]*: /, "", text); sub(/ gp=.*/, "", text) }
		{ split(text, word, " "); key = word[1] " " word[2]; n = 0 }
		{ for (i = 3; i in word; i++) { split(word[i], kv, "="); n += kv[2] } }
		{ gp = $0; sub(/.* gp=/, "", gp) }
		/rcu_ptr_batch_start: / { gps[key] = gp; open[key] += n }
		/rcu_ptr_batch_end: / { if (open[key] < n || gp + 0 > gps[key] + 0) { print; bad = 1 } }
		/rcu_ptr_batch_end: / { open[key] -= n }
		END { exit bad }' || fail "a batch ended without a start, or too early"
}

refilled() {
	[ -n "$(lines_of refill)" ]
}

# Stats and trace agree, except that a running refill has counted blocks before its event.
all_refills_traced() {
	lines_of refill | sed 's/.*: //' >/tmp/refill
	[ -s /tmp/refill ] && [ "$(add_up blocks </tmp/refill)" -eq "$(stat_sum refilled)" ]
}

test_refill() {
	start refill
	load rcu_ptr_client_c objects=10
	wait_for 10 all_refills_traced || fail "blocks refilled: $(stat_sum refilled), traced: $(cat /tmp/refill)"
	grep -v -E '^cpu=[0-9]+ blocks=[0-9]+ wanted=5$' /tmp/refill && fail "not a refill of 5 blocks"
	# The first refill of a CPU allocates all blocks, and those used while it runs; later ones what was used since,
	# at most a block of each channel.
	tr '=' ' ' </tmp/refill | awk '
		{ if (!($2 in sum) && $4 < 5) bad = 1; sum[$2] += $4 }
		END { for (cpu in sum) if (sum[cpu] > 7) bad = 1; exit bad }' ||
		fail "not all 5 blocks were allocated at once: $(tr '\n' ' ' </tmp/refill)"
}

# Memory reclaim may wait for workers that free: workers that allocate must not run on their queue.
test_refill_queue() {
	start refill
	queue_work=$TRACING/events/workqueue/workqueue_queue_work
	echo 1 >"$queue_work/enable"
	load rcu_ptr_client_c objects=10
	wait_for 10 refilled || fail "no refill in the trace"
	echo 0 >"$queue_work/enable"
	grep ' workqueue_queue_work: .*RefillWork' "$TRACING/trace" >/tmp/queued || fail "no refill was queued"
	grep -v ' workqueue=rcu_ptr_refill ' /tmp/queued && fail "on another queue: $(sed -n 1p /tmp/queued)"
	true
}

# Memory reclaim, requested through the shrinker's debugfs file.
test_shrink() {
	[ -d /sys/kernel/debug/shrinker ] || skip "needs CONFIG_SHRINKER_DEBUG"
	start refill
	load rcu_ptr_client_c objects=10
	wait_for 10 refilled || fail "no refill in the trace"
	unload rcu_ptr_client_c
	cached=$(stat_sum now_cached)
	[ "$cached" -gt 0 ] || fail "nothing is cached"
	echo 1 >"$EVENTS/rcu_ptr_shrink/enable"
	shrinker=$(echo /sys/kernel/debug/shrinker/rcu_ptr-krc-*)
	[ -e "$shrinker/scan" ] || fail "there is no $shrinker/scan"
	expect "objects the shrinker counts" "$(awk '{ n += $2 } END { print n }' "$shrinker/count")" "$cached"
	# Memory cgroup, node, number of objects.
	echo "0 0 100000" >"$shrinker/scan"
	expect "blocks in the trace" "$(lines_of shrink | add_up blocks)" "$cached"
	expect "blocks in the stats" "$(stat_sum now_cached)" 0
	expect "freed blocks in the stats" "$(stat_sum shrunk)" "$cached"
	lines_of shrink | sed 's/.*: //' | grep -v -E '^cpu=[0-9]+ blocks=[0-9]+ objects=[0-9]+$' &&
		fail "wrong line"
	# Refills are delayed after memory pressure, with an event. A CPU with an empty block needs none for a few objects.
	echo 1 >"$EVENTS/rcu_ptr_defer/enable"
	load rcu_ptr_client_c objects=1500
	lines_of defer | grep -q -E 'cpu=[0-9]+ what=refill pending=[0-9]+' ||
		fail "no refill was delayed after memory pressure"
}

# After memory pressure the next refill of a CPU is delayed, and allocates one block.
test_pressure() {
	[ -d /sys/kernel/debug/shrinker ] || skip "needs CONFIG_SHRINKER_DEBUG"
	start refill defer
	echo 4000 >"$PARAMS/rcu_delay_page_cache_fill_msec"
	cat /sys/kernel/debug/shrinker/rcu_ptr-krc-*/count
	# On any CPU.
	load rcu_ptr_client_c objects=1500
	lines_of defer | grep -q ' what=refill ' || fail "no refill was delayed"
	wait_for 20 refilled || fail "no refill after the delay"
	# By time stamps, so that a slow machine makes no difference.
	lines_of '[dr]ef[a-z]*' | awk '
		{ at = $0; sub(/: rcu_ptr_.*/, "", at); sub(/.* /, "", at); cpu = $0; sub(/.* cpu=/, "", cpu); cpu += 0 }
		/ what=refill / && !(cpu in put_off) { put_off[cpu] = at }
		/ rcu_ptr_refill: / && !seen[cpu]++ && (!(cpu in put_off) || at - put_off[cpu] < 3.9) { print; bad = 1 }
		END { exit !bad }' && fail "a refill was not delayed"
	# With engine rfc another one may follow at once.
	lines_of refill | sed 's/.*: //' | awk '!seen[$1]++' | grep -v -E '^cpu=[0-9]+ blocks=[01] wanted=1$' &&
		fail "not a refill of one block"
	true
}

# The events of a cache: rcu_ptr_nmi_hash uses one.

# sheaf_lines EVENT: the lines of that cache, without the prefix of the trace
sheaf_lines() {
	lines_of "sheaf_$1" | sed "s/.* rcu_ptr_sheaf_$1: //" | grep '^cache=rcu_ptr_nmi_hash '
}

sheaf_came() {
	sheaf_lines "$1" >"/tmp/$1"
}

sheaf_event() {
	wait_for 20 sheaf_came "$1" || fail "no $1 in the trace"
	grep -v -E "^cache=rcu_ptr_nmi_hash $2\$" "/tmp/$1" && fail "a line of $1 is wrong"
	true
}

test_sheaves() {
	start sheaf_wait sheaf_refill sheaf_drain sheaf_shrink
	echo 100 >"$PARAMS/drain_interval_msec"
	load rcu_ptr_nmi_hash 2>/tmp/insmod || skip "neither a PMU nor watchpoints"
	# A sheaf has 56 slots; the reserve is in none.
	sheaf_event refill 'cpu=[0-9]+ objects=56'
	# Emptied sheaves may wait alone.
	sheaf_event wait 'cpu=[0-9]+ sheaves=[1-9][0-9]* full=[0-9]+'
	# Not more full sheaves than sheaves.
	awk '{ sub(/.*sheaves=/, ""); sub(/full=/, ""); if ($2 > $1) bad = 1 } END { exit bad }' /tmp/wait ||
		fail "more full sheaves than sheaves"
	# The shrinker has the monitors remove the sheaves of CPUs.
	wait_for 20 shrunk || fail "the shrinker freed nothing"
	sheaf_event drain 'cpu=[0-9]+ waiting=[01] stock=[0-3]'
	sheaf_event shrink 'node=[0-9]+ why=(trim|reap|reclaim) full=[0-9]+ empty=[0-9]+'
	unload rcu_ptr_nmi_hash
}

# Memory reclaim frees what is not reserved.
shrunk() {
	[ -d /sys/kernel/debug/shrinker ] || echo 2 >/proc/sys/vm/drop_caches
	for shrinker in /sys/kernel/debug/shrinker/rcu_ptr-sheaf-*; do
		[ ! -e "$shrinker" ] || echo "0 0 100000" >"$shrinker/scan"
	done
	sheaf_came shrink
}

# Refills of blocks and sheaves never allocate with direct reclaim.
test_refills_do_not_reclaim() {
	start refill sheaf_refill
	echo 'comm ~ "kworker*"' >"$PAGES/filter"
	echo 'stacktrace if comm ~ "kworker*"' >>"$PAGES/trigger"
	echo 1 >"$PAGES/enable"
	load rcu_ptr_client_c objects=4000
	load rcu_ptr_nmi_hash 2>/tmp/insmod || say "no sheaves: neither a PMU nor watchpoints"
	wait_for 10 refilled || fail "no refill in the trace"
	echo '!stacktrace' >>"$PAGES/trigger"
	echo 0 >"$PAGES/enable"
	# A stack follows its event, and may be traced alone after the event was disabled.
	awk '/ mm_page_alloc: / { task = $1; sub(/.*gfp_flags=/, ""); flags[task] = $0 }
		/<stack trace>/ { of = flags[$1]; delete flags[$1] }
		/ => .*rcu_ptr.*refill/ && of != "" { n[of]++ }
		END { for (kind in n) print n[kind], kind }' "$TRACING/trace" >/tmp/refills
	say_lines "rcu_ptr_trace: pages of refills: " </tmp/refills
	unload rcu_ptr_nmi_hash
	unload rcu_ptr_client_c
	[ -s /tmp/refills ] || fail "no refill allocated a page"
	! grep -v "GFP_NOWAIT" /tmp/refills >/tmp/bad || fail "a refill may reclaim: $(sed -n 1p /tmp/bad)"
}

test_disable() {
	start queue batch_start batch_end refill shrink defer
	echo 0 >"$EVENTS/enable"
	echo >"$TRACING/trace"
	once rcu_ptr_client_c objects=100
	expect "lines with all events off" "$(count ' rcu_ptr_' <"$TRACING/trace")" 0
}

test_filter() {
	start
	echo 'channel == 1' >"$EVENTS/rcu_ptr_queue/filter"
	echo 1 >"$EVENTS/rcu_ptr_queue/enable"
	once rcu_ptr_client_c objects=400
	expect "lines that the filter keeps" "$(lines_of queue | wc -l)" "$(stat_sum queued_vmalloc)"
	expect "lines that it should drop" "$(lines_of queue | count -v channel=vmalloc)" 0
}

test_hist() {
	start
	echo 'hist:keys=channel' >"$EVENTS/rcu_ptr_queue/trigger"
	load rcu_ptr_client_c objects=400
	cat "$EVENTS/rcu_ptr_queue/hist" >/tmp/hist
	unload rcu_ptr_client_c
	expect "hits" "$(sed -n 's/^ *Hits: //p' /tmp/hist)" 400
	expect "hits by channel" "$(awk '/hitcount:/ { n += $NF } END { print n }' /tmp/hist)" 400
	# { channel: 1 } hitcount: N, with any blanks.
	vmalloc=$(tr -d ' ' </tmp/hist | sed -n 's/^{channel:1}hitcount://p')
	expect "hits of vmalloc" "${vmalloc:-0}" "$(stat_sum queued_vmalloc)"
}

test_hist_by_caller() {
	start
	echo 'hist:keys=caller.sym:vals=hitcount' >"$EVENTS/rcu_ptr_queue/trigger"
	load rcu_ptr_client_c objects=100
	awk '/\[rcu_ptr_client_c\]/ { n += $NF } END { exit n != 100 }' "$EVENTS/rcu_ptr_queue/hist" ||
		fail "100 hits in the client were expected: $(cat "$EVENTS/rcu_ptr_queue/hist")"
}

suite rcu_ptr_trace events_exist queue batches_agree_with_queue batch_order refill refill_queue \
	refills_do_not_reclaim shrink pressure sheaves disable filter hist hist_by_caller
