# SPDX-License-Identifier: GPL-2.0
# The benchmark module: each of its tests runs with few objects, prints results, and loses no object. The
# numbers are not checked here.

# results KIND FUNCTIONS PARAMETER=VALUE...: checks for a line of KIND for each of FUNCTIONS
results() {
	# On PREEMPT_RT kfree() may sleep, so it can't be measured with interrupts off.
	[ ! -e /sys/kernel/realtime ] || skip "not on PREEMPT_RT"
	kind=$1
	functions=$2
	shift 2
	mark "$kind"
	load rcu_ptr
	load rcu_ptr_bench "engine=$(cat "$PARAMS/engine")" "$@"
	for function in $functions; do
		since_mark | grep -q "rcu_ptr_bench: $kind .*[a-z]=$function " ||
			fail "no result of $kind for $function"
	done
	unload rcu_ptr_bench
}

# measure KIND FUNCTIONS PARAMETER=VALUE...: measures, and checks the results and that no object is left
measure() {
	results "$@"
	expect "objects queued and freed" "$(stat_sum freed)" "$(queued)"
	[ "$(queued)" -gt 0 ] || fail "no object was queued"
	expect leaked "$(stat_sum leaked)" 0
}

ALL="kfree call_rcu kfree_rcu kfree_rcu_nolock rcu_ptr_kvfree rcu_ptr_kfree_nolock"
NOLOCK="kfree_rcu_nolock rcu_ptr_kfree_nolock"

# Objects of a kmem_cache: the kernel warns if one is left.
test_calls() {
	measure call "$ALL" test=calls object=cache-64 objects=300 reps=1
	[ "$(uname -m)" != x86_64 ] || since_mark | grep -q "rcu_ptr_bench: call context=nmi " ||
		fail "no result in NMI"
}

test_path() {
	[ "$(uname -m)" = x86_64 ] || skip "single-stepping is for x86"
	! slow || skip "a call of a kernel with sanitizers is too long"
	measure path "$ALL" test=path object=cache-64 objects=50
}

test_cycle() {
	measure cycle "$ALL kfree_bulk" test=cycle object=cache-64 objects=1000 reps=1
}

test_nmi() {
	[ "$(uname -m)" = x86_64 ] || skip "no NMIs that a module can send"
	measure nmi "$NOLOCK" test=nmi object=cache-64 objects=200
}

test_backlog() {
	[ "$(uname -m)" = x86_64 ] || skip "no tracepoints of interrupts"
	measure backlog "$ALL rcu_ptr_cache_free_rcu" test=backlog object=cache-64 objects=2000
}

test_series() {
	# Each takes seven seconds.
	measure series rcu_ptr_kvfree test=series object=cache-64 objects=1000 frees=rcu_ptr_kvfree
}

test_parallel() {
	measure parallel "$ALL" test=parallel object=kmalloc-64 objects=200 reps=1
}

test_scale() {
	measure scale "kfree_rcu rcu_ptr_kvfree" test=scale kfree_loops=2 kfree_alloc_num=500 \
		frees=kfree_rcu,rcu_ptr_kvfree
	since_mark | grep -q "rcu_ptr_bench: Total time taken by all kfree'ers: [0-9]* ns, loops: 2, batches: " ||
		fail "no line like rcuscale's"
}

PAIRS="kmem_cache_alloc+kfree_rcu kmem_cache_alloc+call_rcu kmalloc_nolock+kfree_rcu_nolock"
PAIRS="$PAIRS rcu_ptr_cache_alloc+free_rcu rcu_ptr_cache_alloc_nolock+free_rcu"

# Caches warn at destruction if objects are missing.
test_sheaf() {
	results pair "$PAIRS" test=sheaf objects=400 reps=1
	since_mark | grep -q "rcu_ptr_bench: recycle context=task " || fail "no whole cycle"
	[ "$(uname -m)" != x86_64 ] ||
		since_mark | grep -q "pair context=nmi functions=rcu_ptr_cache_alloc_nolock+free_rcu " ||
		fail "no result in NMI"
}

test_sheafscale() {
	results sheafscale "$PAIRS" test=sheafscale kfree_loops=20 kfree_alloc_num=500
	since_mark | sed -n 's/.*functions=rcu_ptr_cache_alloc+free_rcu .* hit_percent=\([0-9]*\)\..*/\1/p' >/tmp/hits
	[ "$(cat /tmp/hits)" -ge 80 ] || fail "only $(cat /tmp/hits) % of the allocations found a sheaf"
}

test_refuses_nonsense() {
	load rcu_ptr
	for what in test=nosuch "test=calls object=kmalloc-8" "test=calls object=page-64" objects=0; do
		mark refused
		# shellcheck disable=SC2086 # words
		fails_with "" load rcu_ptr_bench $what
		since_mark | grep -q "rcu_ptr_bench: " || fail "$what: no reason in the log"
	done
}

suite rcu_ptr_bench calls path cycle nmi backlog series parallel scale sheaf sheafscale refuses_nonsense
