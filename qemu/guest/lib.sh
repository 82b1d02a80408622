# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What the shell suites use. A suite is a script that defines test_NAME functions and ends with
#
#	suite SUITE NAME...
#
# A test passes when it returns, fails with 'fail WHY' or on any command that fails, and is left out
# with 'skip WHY'. Each runs in a subshell with 'set -e'; the shell's trace is shown if it fails.
# A function cleanup, if there is one, runs after each test.

# Not every suite needs all of these.
# shellcheck disable=SC2034
PARAMS=/sys/module/rcu_ptr/parameters
STATS=/sys/kernel/debug/rcu_ptr/stats
TRACING=/sys/kernel/tracing
# shellcheck disable=SC2034
EVENTS=$TRACING/events/rcu_ptr

# One record of the log. A record has to fit in 1024 bytes.
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
	:
}

# want WHAT IS SHOULD
want() {
	[ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"
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
		# Not in a condition, as 'set -e' is none there, in subshells neither.
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

# load NAME [PARAMETER=VALUE]...: the core with the engine $ENGINE, if the plan says one
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

unload_all() {
	unload rcu_ptr_bench
	unload rcu_ptr_client_c
	unload rcu_ptr_client_rs
	unload rcu_ptr_nmi_hash
	unload rcu_ptr_sleepers
	unload rcu_ptr_takeover
	unload rcu_ptr
}

# A core that was not used yet.
fresh() {
	unload_all
	load rcu_ptr "$@"
}

# The functions of all irq_works that frees in NMI may use, the kernel's and the engines', as
# parameters of the benchmark module.
irq_works() {
	awk '$3 == "deferred_percpu_work_fn" || $3 ~ /8irq_workN.*(3rfc|8lockless).*5entry/ {
		printf "%s%s", n++ ? "," : "irq_works=", $1 }' /proc/kallsyms
}

# host_nmis HZ [COUNT]: the host injects NMIs, until 'host_nmis 0' or COUNT have come
host_nmis() {
	say "rcu_ptr_guest: nmi $*"
}

# progress TEXT: for the person who waits
progress() {
	say "rcu_ptr_guest: progress $*"
}

# The log since a mark.

mark() {
	MARK="rcu_ptr_guest: mark $(cat /proc/uptime) $1"
	say "$MARK"
}

since_mark() {
	dmesg | awk -v mark="$MARK" 'seen { print } index($0, mark) { seen = 1 }'
}

# Numbers out of the stats file: of the sum line, or added up over the CPUs.

# count_of FILE NAME: of the first line
count_of() {
	head -n 1 "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"
}

stat_sum() {
	sed -n 's/^sum /sum=0 /p' "$STATS" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

stat_cpus() {
	sed -n '/^cpu=/p' "$STATS" | tr ' ' '\n' | awk -F= -v name="$1" '$1 == name { n += $2 } END { print n + 0 }'
}

# All that was queued, whatever the channel.
queued() {
	# In one look: objects of no known kind get one meanwhile.
	sed -n 's/^sum //p' "$STATS" | tr ' ' '\n' |
		awk -F= '/^queued_(slab|vmalloc|mixed|list|sync)=/ { n += $2 } END { print n + 0 }'
}

queued_are() {
	[ "$(queued)" = "$1" ]
}

# wait_for SECONDS COMMAND...: until it is true. Sanitizers make everything slower.
wait_for() {
	tries=$(($1 * 10))
	[ "$(cat /slow)" = 0 ] || tries=$((tries * 4))
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
# groups, tasks, a module that knows nothing of rcu_ptr.
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
		[ -n "$1" ] || {
			load rcu_ptr_kernel_client rounds=1 objects=100
			unload rcu_ptr_kernel_client
		}
	done
}

# A CPU goes down under tasks that are bound to it: the kernel frees with a task's pi_lock held.
kernel_hotplug() {
	online=/sys/devices/system/cpu/cpu1/online
	[ -w "$online" ] || return 0
	bound=
	for round in 1 2 3 4 5 6 7 8; do
		taskset 2 sleep 60 &
		bound="$bound $!"
	done
	for round in 1 2 3; do
		# A CPU may be busy with something that can't be moved at the moment.
		echo 0 >"$online" || sleep 1
		echo 1 >"$online" || true
	done
	for pid in $bound; do
		kill "$pid" || true
		wait "$pid" || true
	done
}
