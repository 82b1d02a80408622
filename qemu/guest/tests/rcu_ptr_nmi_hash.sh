# SPDX-License-Identifier: GPL-2.0
# The sample module rcu_ptr_nmi_hash: entries are added and removed in NMI while readers use them.

ENTRIES=/sys/kernel/debug/rcu_ptr_nmi_hash/entries

# load_hash [PARAMETER=VALUE]...: skips without a source of NMIs
load_hash() {
	load rcu_ptr
	load rcu_ptr_nmi_hash "$@" 2>/tmp/insmod || {
		grep -q "Operation not supported\|No such file" /tmp/insmod || fail "$(cat /tmp/insmod)"
		skip "neither a PMU nor watchpoints"
	}
}

unload_hash() {
	unload_sample rcu_ptr_nmi_hash
	# The core can be unloaded only after the cache was destroyed, which warns if objects are missing.
	unload rcu_ptr
}

test_adds_and_removes_in_nmi() {
	load_hash
	wait_for_count 20 added 2000
	wait_for_count 20 aged 1000
	at_least nmis 2000 || fail "not in NMI: $(head -n 1 "$ENTRIES")"
	expect "entries that changed under a reader" "$(count_of torn)" 0
	wait_for 20 an_entry_is_seen || fail "no entry is shown"
	diag "$(head -n 1 "$ENTRIES")"
	# Each waited in a sheaf, at the longest for the monitor.
	line=$(sed -n 's/^cache=[^ ]* //p' /sys/kernel/debug/rcu_ptr/delays)
	waited=$(echo "$line" | tr ' ' '\n' | awk -F= '{ n += $2 } END { print n + 0 }')
	long=${line##*=}
	[ "$waited" -ge 500 ] || fail "$waited objects waited in sheaves: $line"
	expect "objects that waited for minutes" "$long" 0
	diag "$line"
	# Allocations without a sheaf, and how many of them kmalloc_nolock() served.
	diag "$(tr ' ' '\n' </sys/kernel/debug/rcu_ptr/caches | grep '^alloc_miss=\|^nolock_allocs=' | tr '\n' ' ')"
	unload_hash
}

an_entry_is_seen() {
	sed 1d "$ENTRIES" | grep -q '^ip=0x[0-9a-f]* phase=[0-9]* hits=[1-9]'
}

# One bucket: nearly every entry replaces another one, in the handler, under readers.
test_evicts_in_nmi() {
	load_hash buckets=1
	wait_for_count 20 evicted 1000
	wait_for 30 looked_at 500 || fail "$(head -n 1 "$ENTRIES")"
	expect "entries that changed under a reader" "$(count_of torn)" 0
	[ "$(count_of missed)" -lt "$(count_of added)" ] || fail "hardly any allocation succeeded"
	diag "$(head -n 1 "$ENTRIES")"
	unload_hash
}

looked_at() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		cat "$ENTRIES" >/dev/null
	done
	at_least looks "$1"
}

test_again_and_again() {
	for _ in 1 2 3 4 5; do
		load_hash buckets=7
		wait_for_count 20 added 100
		unload_hash
	done
}

test_refuses_nonsense() {
	load rcu_ptr
	for what in buckets=0 buckets=65537 period=0; do
		fails_with "Invalid argument" load rcu_ptr_nmi_hash "$what"
	done
}

suite rcu_ptr_nmi_hash adds_and_removes_in_nmi evicts_in_nmi again_and_again refuses_nonsense
