# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# CONFIG_MODVERSIONS: modules and the core have to agree about types, not only about names.

test_loads() {
	load rcu_ptr
	load rcu_ptr_client_c objects=100
	load rcu_ptr_client_rs objects=100
	load rcu_ptr_nmi_hash period=1000 || fail "a user of caches is refused"
}

# rcu_ptr_changed.ko has another struct rcu_ptr_cache_args.
test_changed_layout_is_refused() {
	load rcu_ptr_changed
	# What does not use that structure is as before.
	load rcu_ptr_client_c objects=100
	mark refused
	refused "" load rcu_ptr_nmi_hash
	since_mark | grep -q "disagrees about version of symbol rcu_ptr_cache_create" ||
		fail "refused for another reason: $(cat /tmp/refused)"
}

suite rcu_ptr_versions loads changed_layout_is_refused
