# SPDX-License-Identifier: GPL-2.0
# The kernel's own tests and users of kvfree_rcu(), at full length.

# shellcheck source=/dev/null
. /upstream.sh

suite rcu_ptr_upstream rcuscale_double rcuscale_single rcuscale_both vmalloc_kvfree_rcu mixed_load rcutorture
