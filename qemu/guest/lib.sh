# SPDX-License-Identifier: GPL-2.0
# Functions for shell suites: a 'sh' step sources this file and then its script. A suite is a script that
# defines test_NAME functions and ends with
#
#	suite SUITE NAME...
#
# A test passes when it returns, fails with 'fail WHY' or on any command that fails, and is skipped with
# 'skip WHY'. Each runs in a subshell with 'set -e'; the shell's trace is shown if it fails. cleanup is
# called after each: it unloads everything, unless the suite redefines it.

# shellcheck disable=SC2034 # for the suites
PARAMS=/sys/module/rcu_ptr/parameters
STATS=/sys/kernel/debug/rcu_ptr/stats
BARRIER=/sys/kernel/debug/rcu_ptr/barrier
TAKEOVER_STATS=/sys/kernel/debug/rcu_ptr_takeover/stats
TRACING=/sys/kernel/tracing
EVENTS=$TRACING/events/rcu_ptr
MODULES="rcu_ptr_kernel_client rcu_ptr_bench rcu_ptr_client_c rcu_ptr_client_cache rcu_ptr_client_rs
	rcu_ptr_nmi_hash rcu_ptr_sleepers rcu_ptr_takeover rcu_ptr"

# One record of the log, which is limited to 1024 bytes.
say() {
	printf '<5>%.900s\n' "$*" >/dev/kmsg
}

say_lines() {
	while IFS= read -r line; do
		say "$1$line"
	done
}

diag() {
	echo "$*" | say_lines "    # "
}

fail() {
	diag "$*"
	exit 1
}

skip() {
	echo "$*" >/tmp/skip
	exit 4
}

cleanup() {
	unload_all
}

# expect WHAT ACTUAL EXPECTED
expect() {
	[ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"
}

# fails_with WORDS COMMAND...: it fails with these words on stderr
fails_with() {
	words=$1
	shift
	! "$@" 2>/tmp/stderr || fail "$*: accepted"
	grep -q "$words" /tmp/stderr || fail "$*: not '$words', but: $(cat /tmp/stderr)"
}

write() {
	echo "$1" >"$2"
}

# slow: whether the kernel has sanitizers, which make everything slower
slow() {
	[ "$(cat /slow)" != 0 ]
}

run_test() {
	rm -f /tmp/skip
	(
		set -ex
		"test_$2"
	) >/tmp/output 2>&1
	code=$?
	cleanup >/tmp/cleanup 2>&1
	case $code in
	0)
		say "    ok $1 $2"
		;;
	4)
		say "    ok $1 $2 # SKIP $(cat /tmp/skip)"
		;;
	*)
		tail -n 25 /tmp/output | say_lines "    # "
		say "    not ok $1 $2"
		return 1
		;;
	esac
}

suite() {
	name=$1
	shift
	say "KTAP version 1"
	say "1..1"
	say "    KTAP version 1"
	say "    # Subtest: $name"
	say "    1..$#"
	index=0
	bad=0
	for test in "$@"; do
		index=$((index + 1))
		# Not in a condition, where 'set -e' has no effect, not even in subshells.
		run_test $index "$test"
		bad=$((bad + $?))
	done
	if [ $bad -eq 0 ]; then
		say "ok 1 $name"
	else
		say "not ok 1 $name"
	fi
}

# Modules.

loaded() {
	[ -d "/sys/module/$1" ]
}

# load NAME [PARAMETER=VALUE]...: loads a module; the core with engine $ENGINE, if the plan sets it
load() {
	module=$1
	shift
	if [ "$module" = rcu_ptr ] && [ -n "${ENGINE:-}" ]; then
		case " $*" in
		*" engine="*) ;;
		*) set -- "engine=$ENGINE" "$@" ;;
		esac
	fi
	insmod "/modules/$module.ko" "$@"
}

unload() {
	! loaded "$1" || rmmod "$1"
}

# once NAME [PARAMETER=VALUE]...: loads and unloads
once() {
	load "$@"
	unload "$1"
}

unload_all() {
	for module in $MODULES; do
		unload "$module"
	done
}

# Reloads the core.
fresh() {
	unload_all
	load rcu_ptr "$@"
}

# The addresses of the handlers of all irq_works that frees in NMI may use, of the kernel and the engines, as
# a parameter of the benchmark module.
irq_works() {
	awk '$3 == "deferred_percpu_work_fn" || $3 ~ /8irq_workN.*(3rfc|8lockless).*5entry/ {
		printf "%s%s", n++ ? "," : "irq_works=", $1 }' /proc/kallsyms
}

# host_nmis HZ [COUNT]: has the host inject NMIs, until 'host_nmis 0' or COUNT of them
host_nmis() {
	say "rcu_ptr_guest: nmi $*"
}

# The log since a mark.

mark() {
	MARK="rcu_ptr_guest: mark $(cat /proc/uptime) $1"
	say "$MARK"
}

since_mark() {
	dmesg | awk -v mark="$MARK" 'seen { print } index($0, mark) { seen = 1 }'
}

# Numbers in the stats file.

# stat_sum NAME: the value in the sum line, or nothing
stat_sum() {
	sed -n 's/^sum /sum=0 /p' "$STATS" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

# add_up NAME...: the sum of all values with these names on stdin
add_up() {
	tr ' ' '\n' | awk -F= -v names=" $* " 'index(names, " " $1 " ") { n += $2 } END { print n + 0 }'
}

# stats_of LINES NAME...: the sum of these values in the lines that begin with LINES. The file is read once, as
# objects move from queued_mixed to other counters meanwhile.
stats_of() {
	lines=$1
	shift
	sed -n "/^$lines /p" "$STATS" | add_up "$@"
}

# queued_at LINES: objects queued in all channels
queued_at() {
	stats_of "$1" queued_slab queued_vmalloc queued_mixed queued_list queued_sync
}

queued() {
	queued_at sum
}

queued_are() {
	[ "$(queued)" = "$1" ]
}

# waiting_at LINES: objects that are queued and not freed yet
waiting_at() {
	stats_of "$1" now_queued now_in_batches
}

waiting() {
	waiting_at sum
}

nothing_waits() {
	[ "$(waiting)" = 0 ]
}

# takeover_stat NAME: a counter of rcu_ptr_takeover.ko
takeover_stat() {
	sed -n "s/^$1=//p" "$TAKEOVER_STATS"
}

# Sample modules: $ENTRIES is their file, whose first line has counters.

count_of() {
	head -n 1 "$ENTRIES" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

at_least() {
	[ "$(count_of "$1")" -ge "$2" ]
}

# wait_for_count SECONDS NAME LEAST
wait_for_count() {
	wait_for "$1" at_least "$2" "$3" || fail "$(head -n 1 "$ENTRIES")"
}

# unload_sample NAME: sets LINE to its last message; it must have removed all entries that it added
unload_sample() {
	mark unload
	unload "$1"
	LINE=$(since_mark | sed -n "s/.*$1: \([0-9]* entries added.*\)/\1/p")
	[ -n "$LINE" ] || fail "no message at unload"
	diag "$LINE"
	expect "entries removed" "$(echo "$LINE" | sed -n 's/.* added, \([0-9]*\) removed.*/\1/p')" "${LINE%% *}"
}

# wait_for SECONDS COMMAND...: repeats the command until it succeeds
wait_for() {
	tries=$(($1 * 10))
	! slow || tries=$((tries * 4))
	shift
	while [ $tries -gt 0 ]; do
		! "$@" || return 0
		tries=$((tries - 1))
		usleep 100000
	done
	return 1
}

# Load by the kernel's own callers.

# Users of kvfree_rcu() in the kernel: dentries and inodes of a tree, mounts, namespaces, routes, control
# groups, tasks, a module that does not use rcu_ptr.
kernel_work() {
	folder=/tmp/tree$1
	for round in $(seq "${2:-5}"); do
		mkdir -p "$folder"
		(
			cd "$folder"
			for i in 0 1 2 3 4 5 6 7 8 9; do
				mkdir -p "$i/a/b/c"
				for j in 0 1 2 3 4 5 6 7 8 9; do
					echo "$j" >"$i/a/b/c/$j"
				done
			done
			mount -t tmpfs none 0
			umount 0
			mount -t cgroup2 none 1
			for i in 1 2 3 4 5; do mkdir "1/rcu_ptr$1.$i"; done
			for i in 1 2 3 4 5; do rmdir "1/rcu_ptr$1.$i"; done
			umount 1
		)
		rm -rf "$folder"
		for kind in mnt:m uts:u ipc:i; do
			[ ! -e "/proc/self/ns/${kind%:*}" ] || unshare "-${kind#*:}" true
		done
		# shellcheck disable=SC2016 # for the shell that is started
		unshare -n sh -c 'ip link set lo up
			for i in 1 2 3 4 5 6 7 8 9; do ip route add 10.$i.0.0/16 dev lo; done
			ip route flush table main; ip addr add 10.0.0.1/8 dev lo; ip addr flush dev lo'
		for i in 1 2 3 4 5 6 7 8 9 10; do (: | :); done
		[ -n "$1" ] || once rcu_ptr_kernel_client rounds=1 objects=100
	done
}

# Takes a CPU down while tasks are bound to it: the kernel frees with a task's pi_lock held.
kernel_hotplug() {
	online=/sys/devices/system/cpu/cpu1/online
	[ -w "$online" ] || return 0
	bound=
	for round in 1 2 3 4 5 6 7 8; do
		taskset 2 sleep 60 &
		bound="$bound $!"
	done
	for round in 1 2 3; do
		# This may fail while the CPU has work that can't be migrated.
		echo 0 >"$online" || sleep 1
		echo 1 >"$online" || true
	done
	for pid in $bound; do
		kill "$pid" || true
		wait "$pid" || true
	done
}
