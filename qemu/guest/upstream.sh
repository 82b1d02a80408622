# SPDX-License-Identifier: GPL-2.0
# The cases of rcu_ptr_upstream and rcu_ptr_upstream_short: the kernel's own tests and users of kvfree_rcu(), on
# its own code (ENGINE=kernel), or on an engine.

cleanup() {
	for module in rcutorture rcuscale torture; do
		unload $module
	done
	stop_sampler
	unload_all
}

# on_engine: redirects kvfree_rcu() to the engine
on_engine() {
	unload_all
	[ "$ENGINE" = kernel ] || {
		load rcu_ptr
		load rcu_ptr_takeover
	}
	drop_caches
	slab=$(meminfo Slab)
}

# Frees cached files and objects and, with KASAN, quarantined ones.
drop_caches() {
	[ ! -e /proc/sys/vm/drop_caches ] || echo 3 >/proc/sys/vm/drop_caches
	for cache in /sys/kernel/slab/*/shrink; do
		echo 1 >"$cache"
	done
}

meminfo() {
	sed -n "s/^$1: *\([0-9]*\) kB/\1/p" /proc/meminfo
}

# Whether the slabs are as small as before.
is_back() {
	[ "$ENGINE" = kernel ] || echo 1 >"$BARRIER"
	drop_caches
	[ "$(meminfo Slab)" -lt $((slab + 8192)) ]
}

# sample: records the peak of slab memory from here on, in /tmp/peak
sample() {
	echo "$slab" >/tmp/peak
	# Without the shell's trace.
	(
		set +x
		while :; do
			now=$(meminfo Slab)
			[ "$now" -le "$(cat /tmp/peak)" ] || echo "$now" >/tmp/peak
			usleep 200000
		done
	) &
	echo $! >/tmp/sampler
}

stop_sampler() {
	[ ! -e /tmp/sampler ] || kill "$(cat /tmp/sampler)"
	rm -f /tmp/sampler
}

# off_engine LEAST: checks the number of redirected objects, and that their memory was freed; unloads the engine
off_engine() {
	stop_sampler
	wait_for 30 is_back || fail "memory is not freed: $(meminfo Slab) kB of slabs, $slab before"
	[ "$ENGINE" != kernel ] || return 0
	redirected=$(takeover_stat taken)
	[ "$redirected" -ge "$1" ] || fail "$redirected objects were redirected, not $1"
	expect "objects that were leaked" "$(stat_sum leaked)" 0
	diag "redirected $redirected objects, $(takeover_stat kfree_call_rcu_nolock_nmi) of them in NMI"
	unload rcu_ptr_takeover
	unload rcu_ptr
}

logged() {
	since_mark | grep -q "$1"
}

# scale NAME [PARAMETER=VALUE]...: rcuscale's kfree_rcu() test, until its result line
scale() {
	name=$1
	shift
	on_engine
	load torture
	mark "rcuscale $name"
	# Two threads.
	objects=4000 loops=8
	! slow || objects=1000 loops=4
	load rcuscale kfree_rcu_test=1 kfree_nthreads=2 "kfree_alloc_num=$objects" kfree_mult=16 "kfree_loops=$loops" holdoff=0 \
		shutdown_secs=0 verbose=0 "$@"
	wait_for 120 logged "Total time taken by all kfree'ers" || fail "no result"
	result=$(since_mark | sed -n "s/.*Total time taken by all kfree'ers: //p")
	unload rcuscale
	unload torture
	! since_mark | grep '!!!' || fail "rcuscale found errors"
	diag "rcuscale $name: $result"
	off_engine $((2 * objects * loops * 15 / 16))
}

test_rcuscale_double() {
	scale double kfree_rcu_test_double=1
}

test_rcuscale_single() {
	scale single kfree_rcu_test_single=1
}

test_rcuscale_both() {
	scale both
}

# The module's init fails on purpose when its tests are done; insmod then tries once more.
test_vmalloc_kvfree_rcu() {
	on_engine
	mark vmalloc
	! load test_vmalloc run_test_mask=768 nr_threads=2 test_loop_count=300 2>/dev/null || fail "the module stays loaded"
	since_mark | sed -n 's/.*\(Summary: .*\)/\1/p' >/tmp/summary
	results=$(grep -c "kvfree_rcu_[12]_arg_vmalloc_test passed: 1 failed: 0" /tmp/summary)
	expect "results that passed" "$results" "$(wc -l </tmp/summary)"
	[ "$results" -ge 4 ] || fail "$results results"
	diag "test_vmalloc: $results of $(wc -l </tmp/summary) passed"
	off_engine 1000
}

test_mixed_load() {
	on_engine
	sample
	begin=$(cut -d' ' -f1 /proc/uptime)
	for _ in $(slow && echo 1 || echo 1 2 3); do
		mixed
	done
	diag "mixed load: $(awk -v from="$begin" '{ printf "%.1f", $1 - from }' /proc/uptime) s, slabs $slab kB before, $(cat /tmp/peak) kB at most"
	off_engine 400
}

# The two background loads print their own failures.
mixed() {
	kernel_work a &
	a=$!
	kernel_work b &
	b=$!
	kernel_hotplug
	wait $a || fail "the first of two loads failed"
	wait $b || fail "the second of two loads failed"
}

# rcutorture checks RCU itself for at least $TORTURE seconds, under its own load and that of the kernel's users.
test_rcutorture() {
	[ -e /modules/rcutorture.ko ] || skip "rcutorture is part of kernels with CONFIG_RCU_TORTURE_TEST only"
	on_engine
	load torture
	mark rcutorture
	load rcutorture nreaders=2 nfakewriters=2 fwd_progress=0 test_boost=0 stat_interval=10 stutter=5 \
		shutdown_secs=0 onoff_interval=0 verbose=0
	begin=$(cut -d. -f1 /proc/uptime)
	rounds=0
	while [ "$(cut -d. -f1 /proc/uptime)" -lt $((begin + TORTURE)) ]; do
		mixed
		rounds=$((rounds + 1))
	done
	seconds=$(($(cut -d. -f1 /proc/uptime) - begin))
	unload rcutorture
	unload torture
	since_mark | grep -q "End of test: SUCCESS" || fail "$(since_mark | grep "End of test" || echo "no result")"
	! since_mark | grep "torture.*!!!" || fail "rcutorture found errors"
	diag "rcutorture: no error in $seconds s, $rounds rounds of the mixed load"
	off_engine 400
}
