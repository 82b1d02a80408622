# SPDX-License-Identifier: GPL-2.0
# A cache whose user was unloaded without destroying it. The core can't be unloaded any more, so this suite is the
# last one of a boot.

cleanup() {
	:
}

# All objects of the only cache are back in the slab.
all_back() {
	grep -q '^cache=rcu_ptr_forgotten .* slab_allocs=\([1-9][0-9]*\) slab_frees=\1 ' \
		/sys/kernel/debug/rcu_ptr/caches
}

test_user_goes() {
	printf none >/sys/module/kunit/parameters/filter_glob
	load rcu_ptr drain_interval_msec=200
	once rcu_ptr_kunit forget=1000
	! loaded rcu_ptr_kunit || fail "the user is still loaded"
}

test_core_is_busy() {
	fails_with "Resource temporarily unavailable" rmmod rcu_ptr
	loaded rcu_ptr || fail "refused, but gone"
}

# Its timers, irq_works and RCU callbacks still run.
test_objects_go_back() {
	wait_for 20 all_back || fail "objects are left: $(cat /sys/kernel/debug/rcu_ptr/caches)"
}

suite rcu_ptr_forgotten user_goes core_is_busy objects_go_back
