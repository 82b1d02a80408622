# SPDX-License-Identifier: GPL-2.0
# One boot of 'make bench': loads the core with each engine and runs /bench.body with it.
# qemu/bench.py writes that file, and reads the results of the benchmark module in the log.

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

ROUNDS=1
# shellcheck source=/dev/null
. /bench.body

round=0
while [ $round -lt $ROUNDS ]; do
	round=$((round + 1))
	say "rcu_ptr_bench: round number=$round"
	FREES=all
	for ENGINE in rfc lockless; do
		load rcu_ptr "engine=$ENGINE" || FAILED=1
		body
		FREES=rcu_ptr
		unload rcu_ptr
	done
done
[ $FAILED = 0 ]
