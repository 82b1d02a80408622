# SPDX-License-Identifier: GPL-2.0
# The parameters of insmod and in /sys/module.

param() {
	cat "$PARAMS/$1"
}

# values ENGINE CACHED FILL DRAIN: checks all parameters, and the line of the log
values() {
	expect engine "$(param engine)" "$1"
	expect rcu_min_cached_objs "$(param rcu_min_cached_objs)" "$2"
	expect rcu_delay_page_cache_fill_msec "$(param rcu_delay_page_cache_fill_msec)" "$3"
	expect drain_interval_msec "$(param drain_interval_msec)" "$4"
	since_mark | grep -q "rcu_ptr: engine $1, .* CPUs, $2 cached blocks, drain after $4 ms" ||
		fail "no line in the log has engine, CPUs, cached blocks and drain interval"
}

test_defaults() {
	mark defaults
	insmod /modules/rcu_ptr.ko
	values lockless 5 5000 5000
}

test_modes() {
	load rcu_ptr
	expect "mode of engine" "$(stat -c %a "$PARAMS/engine")" 444
	for name in rcu_min_cached_objs rcu_delay_page_cache_fill_msec drain_interval_msec; do
		expect "mode of $name" "$(stat -c %a "$PARAMS/$name")" 644
	done
}

# The kernel adds a line of its own for each attempt, and insmod may try two system calls: there must be one reason
# for each attempt.
refused_at_load() {
	mark "$1"
	fails_with "Invalid argument" load rcu_ptr "$1"
	! loaded rcu_ptr || fail "$1: rejected but loaded"
	tries=$(since_mark | grep -c "rcu_ptr: .* invalid for parameter")
	reasons=$(since_mark | grep -c "rcu_ptr: ${1%%=*}=.*: $2")
	[ "$tries" -ge 1 ] || fail "$1: rejected, but not for the parameter"
	expect "reasons for rejecting $1" "$reasons" "$tries"
}

test_refused_at_load() {
	refused_at_load engine=nosuch "no such engine, there is: "
	for value in 65 -1 five 5x 99999999999; do
		refused_at_load rcu_min_cached_objs=$value "not a whole number from 0 to 64"
	done
	for value in 100001 -1 1.5; do
		refused_at_load rcu_delay_page_cache_fill_msec=$value "not a whole number from 0 to 100000"
	done
	for value in 0 600001 soon; do
		refused_at_load drain_interval_msec=$value "not a whole number from 1 to 600000"
	done
}

# refused_at_runtime NAME VALUE
refused_at_runtime() {
	before=$(param "$1")
	mark "$1=$2"
	fails_with "Invalid argument" write "$2" "$PARAMS/$1"
	expect "$1 after a rejected write" "$(param "$1")" "$before"
	expect "reasons for rejecting $1=$2" "$(since_mark | grep -c "rcu_ptr: $1=.*: not a whole number")" 1
}

test_refused_at_runtime() {
	load rcu_ptr
	for value in 65 -1 five ""; do
		refused_at_runtime rcu_min_cached_objs "$value"
	done
	refused_at_runtime rcu_delay_page_cache_fill_msec 100001
	refused_at_runtime drain_interval_msec 0
	refused_at_runtime drain_interval_msec 600001
}

test_engine_is_fixed() {
	load rcu_ptr
	before=$(param engine)
	fails_with "Permission denied" write "$before" "$PARAMS/engine"
	expect engine "$(param engine)" "$before"
}

test_accepted_at_load() {
	mark accepted
	load rcu_ptr "engine=${ENGINE:-rfc}" rcu_min_cached_objs=0 rcu_delay_page_cache_fill_msec=0 \
		drain_interval_msec=1
	values "${ENGINE:-rfc}" 0 0 1
	unload rcu_ptr
	# The maximum, which has to replace the value set before.
	load rcu_ptr rcu_min_cached_objs=64 rcu_delay_page_cache_fill_msec=100000 drain_interval_msec=600000
	values "${ENGINE:-lockless}" 64 100000 600000
}

test_engines() {
	for engine in rfc lockless; do
		load rcu_ptr engine=$engine
		expect engine "$(param engine)" $engine
		unload rcu_ptr
	done
}

test_accepted_at_runtime() {
	load rcu_ptr
	for pair in rcu_min_cached_objs=0 rcu_min_cached_objs=64 rcu_min_cached_objs=7 \
			rcu_delay_page_cache_fill_msec=0 rcu_delay_page_cache_fill_msec=100000 \
			drain_interval_msec=1 drain_interval_msec=600000; do
		echo "${pair#*=}" >"$PARAMS/${pair%=*}"
		expect "${pair%=*}" "$(param "${pair%=*}")" "${pair#*=}"
	done
}

# cached_at_most BLOCKS: whether no CPU has more
cached_at_most() {
	sed -n 's/^cpu=.* now_cached=\([0-9]*\).*/\1/p' "$STATS" | awk -v most="$1" '$1 > most { bad = 1 } END { exit bad }'
}

cached_more_than() {
	[ "$(stat_sum now_cached)" -gt "$1" ]
}

# When the limit is lowered the excess is freed, and refills continue.
test_lower_limit() {
	load rcu_ptr rcu_min_cached_objs=64
	load rcu_ptr_client_c objects=2000
	wait_for 20 cached_more_than 40 || fail "no blocks were cached: $(sed -n '/^sum/p' "$STATS")"
	echo 1 >"$PARAMS/rcu_min_cached_objs"
	wait_for 10 cached_at_most 1 ||
		fail "more than 1 block is cached per CPU: $(sed -n '/^cpu/p' "$STATS")"
	unload rcu_ptr_client_c
	cached_at_most 1 || fail "freed objects exceed the limit of blocks"
	echo 64 >"$PARAMS/rcu_min_cached_objs"
	load rcu_ptr_client_c objects=2000
	wait_for 20 cached_more_than 40 || fail "no refill: $(sed -n '/^sum/p' "$STATS")"
	echo 0 >"$PARAMS/rcu_min_cached_objs"
	wait_for 10 cached_at_most 0 || fail "blocks are cached: $(sed -n '/^cpu/p' "$STATS")"
}

suite rcu_ptr_params defaults modes refused_at_load refused_at_runtime engine_is_fixed \
	accepted_at_load engines accepted_at_runtime lower_limit
