// SPDX-License-Identifier: GPL-2.0

//! Where the instructions of caches with sheaves are, for a sweep of their slow ways. Module init reads
//! it, as the threads of tests see no file system.

use crate::nmi::code::Code;
use kernel::prelude::*;

kernel::sync::global_lock! {
    // SAFETY: `read()` initialises it in module init, before any suite runs.
    unsafe(uninit) static ADDRESSES: Mutex<KVVec<usize>> = KVVec::new();
}

/// The ways that calls, workers and callbacks of caches take.
fn is_wanted(name: &str) -> bool {
    const OTHERS: [&str; 5] = ["7destroy", "7hotplug", "5stats", "5fault", "6create"];
    name.contains("12rcu_ptr_main5sheaf") && !OTHERS.iter().any(|part| name.contains(part))
}

/// Reads the list that the host made, if there is one.
///
/// # Context
///
/// Module init, once.
pub(crate) fn read() {
    // SAFETY: Called once, by the contract of this function.
    unsafe { ADDRESSES.init() };
    let found = Code::of("rcu_ptr").and_then(|code| code.addresses(is_wanted));
    *ADDRESSES.lock() = found.unwrap_or(KVVec::new());
}

/// Gives the memory back.
///
/// # Context
///
/// Module exit.
pub(crate) fn forget() {
    *ADDRESSES.lock() = KVVec::new();
}

/// The addresses, once; none where nobody listed them.
pub(crate) fn take() -> KVVec<usize> {
    core::mem::replace(&mut *ADDRESSES.lock(), KVVec::new())
}
