# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Do the NMIs that the host injects arrive?

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

# One that comes while another is handled is held back, and only one is: some may be lost.
test_count() {
	before=$(nmis)
	host_nmis 50 40
	wait_for 10 at_least $((before + 20)) || fail "$(($(nmis) - before)) of 40 NMIs came"
	sleep 1
	[ "$(nmis)" -le $((before + 40)) ] || fail "$(($(nmis) - before)) NMIs came, 40 were asked for"
}

test_rate_and_off() {
	before=$(nmis)
	host_nmis 20
	wait_for 20 at_least $((before + 10)) || fail "$(($(nmis) - before)) NMIs came"
	host_nmis 0
	sleep 1
	before=$(nmis)
	sleep 2
	want "NMIs after the end" "$(nmis)" "$before"
}

# The kernel knows no reason for these NMIs, and says so, ten times in 5 s at most.
say "rcu_ptr: expect-splat begin + ^Uhhuh. NMI received for unknown reason ;; + ^Dazed and confused"
suite rcu_ptr_host_nmi count rate_and_off
sleep 1
say "rcu_ptr: expect-splat end"
