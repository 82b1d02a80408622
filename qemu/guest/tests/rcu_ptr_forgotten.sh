# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# A cache whose user has gone without destroying it. It keeps the core loaded, for good: this suite
# is the last of a boot.

cleanup() {
	:
}

# The only cache there is: all objects are back with the slab.
all_back() {
	grep -q '^cache=rcu_ptr_forgotten .* slab_allocs=\([1-9][0-9]*\) slab_frees=\1 ' \
		/sys/kernel/debug/rcu_ptr/caches
}

test_user_goes() {
	printf none >/sys/module/kunit/parameters/filter_glob
	load rcu_ptr drain_interval_msec=200
	once rcu_ptr_kunit forget=1000
	! loaded rcu_ptr_kunit || fail "the user is still there"
}

test_core_is_busy() {
	refused "Resource temporarily unavailable" rmmod rcu_ptr
	loaded rcu_ptr || fail "refused, but gone"
}

# Its timers, ticks and callbacks run on.
test_objects_go_back() {
	wait_for 20 all_back || fail "objects are left: $(cat /sys/kernel/debug/rcu_ptr/caches)"
}

suite rcu_ptr_forgotten user_goes core_is_busy objects_go_back
