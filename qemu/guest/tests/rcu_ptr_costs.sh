# SPDX-License-Identifier: GPL-2.0
# Compares the costs of calls in instructions with the README's tables, which the host writes to /costs
# (qemu/lib/costs.py). Exact only where the clock counts instructions.

# The allowed difference to the README in percent, or half a unit.
PERCENT=10

# compared: fails if /tmp/compared has differences ($off)
compared() {
	say_lines "rcu_ptr_costs: " </tmp/compared
	[ -z "${off:-}" ] || fail "$(grep WRONG /tmp/compared || echo "there is no number")"
}

# compare CASE: each number of the README for it and this engine, with the line of the log
compare() {
	since_mark | sed -n 's/.*rcu_ptr_bench: //p' >/tmp/measured
	awk -v name="$1" -v engine="$ENGINE" -v percent=$PERCENT '
	FNR == NR { measured[++lines] = " " $0 " "; next }
	$1 != name || $2 != engine { next }
	{
		value = ""
		for (line = 1; line <= lines; line++) {
			fits = index(measured[line], " " $5 " ") == 1
			for (word = 6; word <= NF; word++)
				fits = fits && index(measured[line], " " $word " ")
			if (fits && split(measured[line], parts, " " $3 "=") > 1)
				value = parts[2] + 0
		}
		what = $3
		for (word = 5; word <= NF; word++)
			what = what " " $word
		off = value - $4
		if (off < 0)
			off = -off
		most = $4 * percent / 100
		if (most < 0.5)
			most = 0.5
		bad = value == "" || off > most
		printf "%s %s: %s, README %s\n", bad ? "WRONG" : "good", what, value == "" ? "nothing" : value, $4
		some = 1
		wrong = wrong || bad
	}
	END { exit !some || wrong }' /tmp/measured /costs >/tmp/compared || off=y
	compared
}

# measure CASE PARAMETER=VALUE...
measure() {
	mark "$1"
	case=$1
	shift
	loaded rcu_ptr || load rcu_ptr
	load rcu_ptr_bench "engine=$ENGINE" "$@"
	compare "$case"
}

OURS="frees=rcu_ptr_kvfree,rcu_ptr_kfree_nolock,rcu_ptr_call object=kmalloc-64"

# shellcheck disable=SC2086 # words
test_calls() {
	measure calls test=calls objects=2000 reps=5 $OURS
}

# shellcheck disable=SC2086 # words
test_cycles() {
	measure cycles test=cycle objects=100000 reps=1 $OURS
}

# shellcheck disable=SC2086 # words
test_locked_and_barriers() {
	measure locked_and_barriers test=path objects=150 $OURS
}

# shellcheck disable=SC2086 # words
test_interrupts() {
	load rcu_ptr
	works=$(irq_works)
	[ -n "$works" ] || fail "no functions of irq_works are known"
	measure interrupts test=nmi objects=20000 $OURS $works
}

test_sheaves() {
	[ "$ENGINE" = lockless ] || skip "caches do not depend on the engine"
	measure sheaves test=sheaf objects=100000 reps=7
}

# The longest interrupt or softirq with each function after a backlog of $1 objects.
longest() {
	mark "backlog $1"
	load rcu_ptr_bench "engine=$ENGINE" test=backlog object=kmalloc-64 "objects=$1" \
		frees=kfree_rcu,rcu_ptr_kvfree,rcu_ptr_kfree_nolock,rcu_ptr_cache_free_rcu
	unload rcu_ptr_bench
	since_mark | sed -n 's/.*rcu_ptr_bench: backlog free=\([a-z_]*\) .* longest=/\1 /p'
}

# It must not depend on the number of objects that wait. The kernel's own kfree_rcu() is the control.
test_backlog() {
	loaded rcu_ptr || load rcu_ptr
	longest 2000 >/tmp/few
	longest 32000 >/tmp/many
	awk 'FNR == NR { few[$1] = $2; next }
	{
		grows = $2 > 1.5 * few[$1] + 10000
		bad = grows != ($1 == "kfree_rcu")
		printf "%s %s: %d instructions with 2000 objects, %d with 32000\n", bad ? "WRONG" : "good", $1,
			few[$1], $2
		wrong = wrong || bad
		some++
	}
	END { exit some < 4 || wrong }' /tmp/few /tmp/many >/tmp/compared || off=y
	compared
}

suite rcu_ptr_costs calls cycles locked_and_barriers interrupts sheaves backlog
