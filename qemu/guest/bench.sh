# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# One boot of 'make bench': loads the core with each engine that it has and runs /bench.body with it.
# qemu/bench.py writes that file, and reads what the benchmark module says in the log.

# shellcheck source=/dev/null
. /lib.sh

FAILED=0

# insmod waits for minutes while its threads measure.
hung=/proc/sys/kernel/hung_task_timeout_secs
[ ! -e $hung ] || echo 0 >$hung

# bench PARAMETER=VALUE...: one run of the benchmark module.
bench() {
	frees=$FREES
	for word in "$@"; do
		[ "${word#frees=}" = "$word" ] || frees=${word#frees=}
	done
	# The kernel's own functions do not change with the engine.
	[ "$FREES" = all ] || [ "$frees" = rcu_ptr ] ||
		frees=$(echo "$frees" | tr ',' '\n' | grep '^rcu_ptr' | tr '\n' ',')
	works=$(irq_works)
	# shellcheck disable=SC2086 # words
	set -- "$@" "frees=$frees" $works
	if insmod /modules/rcu_ptr_bench.ko "engine=$ENGINE" "$@"; then
		rmmod rcu_ptr_bench
	else
		say "rcu_ptr_bench: failed engine=$ENGINE parameters=$(echo "$*" | tr ' ' ';')"
		FAILED=1
	fi
}

# What loading the core allocates per CPU, from the kernel's own tracepoint.
load_counted() {
	event=$TRACING/events/percpu/percpu_alloc_percpu
	echo >"$TRACING/trace"
	echo 1 >"$event/enable"
	load rcu_ptr "engine=$1" || FAILED=1
	echo 0 >"$event/enable"
	bytes=$(sed -n 's/.* size=\([0-9]*\) align.*/\1/p' "$TRACING/trace" |
		awk '{ n += $1 } END { print n + 0 }')
	calls=$(grep -c percpu_alloc_percpu: "$TRACING/trace")
	text=$(awk '$1 == "rcu_ptr" { print $2 }' /proc/modules)
	say "rcu_ptr_bench: memory engine=$1 percpu_bytes=$bytes percpu_allocations=$calls module_bytes=$text"
	grep percpu_alloc_percpu: "$TRACING/trace" | say_lines "rcu_ptr_bench: trace "
}

# The engines that this core knows.
ENGINES=
for engine in rfc lockless; do
	if load rcu_ptr "engine=$engine" 2>/dev/null; then
		ENGINES="$ENGINES $engine"
		unload rcu_ptr
	fi
done
say "rcu_ptr_bench: engines names=$(echo "$ENGINES" | sed "s/^ //; s/ /,/g")"

ROUNDS=1
# shellcheck source=/dev/null
. /bench.body

round=0
while [ $round -lt $ROUNDS ]; do
	round=$((round + 1))
	say "rcu_ptr_bench: round number=$round"
	FREES=all
	for ENGINE in $ENGINES; do
		load_counted "$ENGINE"
		body
		FREES=rcu_ptr
		unload rcu_ptr
	done
done
[ -n "$ENGINES" ] && [ $FAILED = 0 ]
