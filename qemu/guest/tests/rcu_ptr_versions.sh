# SPDX-License-Identifier: GPL-2.0
# CONFIG_MODVERSIONS: modules are loaded only if the types of the core's interface are those of their build.

test_loads() {
	load rcu_ptr
	load rcu_ptr_client_c objects=100
	load rcu_ptr_client_rs objects=100
	load rcu_ptr_nmi_hash period=1000 || fail "a user of caches is rejected"
}

# rcu_ptr_changed.ko has another struct rcu_ptr_cache_args.
test_changed_layout_is_refused() {
	load rcu_ptr_changed
	# Modules that do not use that structure are not affected.
	load rcu_ptr_client_c objects=100
	mark rejected
	fails_with "" load rcu_ptr_nmi_hash
	since_mark | grep -q "disagrees about version of symbol rcu_ptr_cache_create" ||
		fail "rejected for another reason: $(cat /tmp/stderr)"
}

suite rcu_ptr_versions loads changed_layout_is_refused
