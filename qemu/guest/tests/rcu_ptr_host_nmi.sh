# SPDX-License-Identifier: GPL-2.0
# NMIs that the host injects.

# NMIs so far, on all CPUs.
nmis() {
	awk '$1 == "NMI:" { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }' /proc/interrupts
}

at_least() {
	[ "$(nmis)" -ge "$1" ]
}

cleanup() {
	host_nmis 0
}

# While one is handled only one more is pending: some may be lost.
test_count() {
	before=$(nmis)
	host_nmis 50 40
	wait_for 10 at_least $((before + 20)) || fail "$(($(nmis) - before)) of 40 NMIs arrived"
	sleep 1
	[ "$(nmis)" -le $((before + 40)) ] || fail "$(($(nmis) - before)) NMIs arrived, 40 were requested"
}

test_rate_and_off() {
	before=$(nmis)
	host_nmis 20
	wait_for 20 at_least $((before + 10)) || fail "$(($(nmis) - before)) NMIs arrived"
	host_nmis 0
	sleep 1
	before=$(nmis)
	sleep 2
	expect "NMIs after the end" "$(nmis)" "$before"
}

# The kernel reports these NMIs as of unknown reason, at most ten times in 5 s.
say "rcu_ptr: expect-splat begin + ^Uhhuh. NMI received for unknown reason ;; + ^Dazed and confused"
suite rcu_ptr_host_nmi count rate_and_off
sleep 1
say "rcu_ptr: expect-splat end"
