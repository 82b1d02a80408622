// SPDX-License-Identifier: GPL-2.0

//! Hooks for tests and debuggers, include/linux/rcu_ptr_test.h: allocations that fail, and words to watch.
//! A build with `RCU_PTR_TEST=n` has none.

use crate::{api, fault};
use kernel::prelude::*;

/// `rcu_ptr_word()`.
#[no_mangle]
extern "C" fn rcu_ptr_word(cpu: c_int, index: c_uint) -> c_ulong {
    api::word(cpu, index as usize)
}

/// `rcu_ptr_fail_alloc()`.
#[no_mangle]
extern "C" fn rcu_ptr_fail_alloc(nth: c_ulong, times: c_ulong) -> c_ulong {
    fault::CACHES.set(nth as u64, times as u64) as c_ulong
}

/// `rcu_ptr_fail_blocks()`.
#[no_mangle]
extern "C" fn rcu_ptr_fail_blocks(nth: c_ulong, times: c_ulong) -> c_ulong {
    fault::BLOCKS.set(nth as u64, times as u64) as c_ulong
}
