# SPDX-License-Identifier: GPL-2.0
# The cases of rcu_ptr_upstream that take seconds.

# shellcheck source=/dev/null
. /upstream.sh

suite rcu_ptr_upstream_short rcuscale_single vmalloc_kvfree_rcu
