// SPDX-License-Identifier: GPL-2.0

//! Keeps a module's text until its pending callbacks and destructors have returned: rmmod waits for
//! them after the module's exit function (`MODULE_STATE_GOING`), so that this need not call
//! rcu_ptr_barrier().
//!
//! It waits for modules that use symbols of rcu_ptr.ko, and for modules whose load fails before
//! their dependencies are recorded. Users of a library that queues callbacks on their behalf have
//! to call rcu_ptr_barrier() themselves. No callback may wait for a module to be loaded or
//! unloaded, as the module notifier chain is locked meanwhile.

use crate::{
    api,
    sys::module::{Going, Watch},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        barrier::smp_mb,
    },
};

kernel::sync::global_lock! {
    // SAFETY: Initialised in `watch()`, before the notifier is registered.
    unsafe(uninit) static ONE_AT_A_TIME: Mutex<()> = ();
}

/// The text of the module that is being unloaded: start, and end (exclusive).
static START: Atomic<usize> = Atomic::new(0);
static END: Atomic<usize> = Atomic::new(0);

/// Callbacks and destructors in that text that have returned.
static RETURNED: Atomic<usize> = Atomic::new(0);

/// Registers the module notifier, until the value is dropped. May sleep; at module init.
///
/// # Errors
///
/// Those of `register_module_notifier()`.
pub(crate) fn watch() -> Result<Watch> {
    // SAFETY: Called once.
    unsafe { ONE_AT_A_TIME.init() };
    Watch::register()
}

/// A callback or destructor at `func` has returned.
#[inline]
pub(crate) fn returned(func: usize) {
    // ORDERING: Orders what `func` has queued before the load of the text; pairs with the barrier
    // in `wait_for()`. Either rcu_ptr_barrier() there waits for what was queued, or the text is
    // seen here, and there is another round.
    smp_mb(Full);
    // ORDERING: See above.
    if (START.load(Relaxed)..END.load(Relaxed)).contains(&func) {
        // ORDERING: Full: rcu_ptr_barrier() gives no order with a worker that it does not wait for.
        RETURNED.fetch_add(1, Full);
    }
}

/// Waits until no callback or destructor of `module` is pending.
///
/// Callbacks may queue others. All that are queued before a barrier begins return during it, so if
/// none has returned during a barrier, none is left.
///
/// # Context
///
/// May sleep. The exit function of the module has returned.
pub(crate) fn wait_for(module: &Going) {
    if !module.may_use_this() {
        return;
    }
    let _one = ONE_AT_A_TIME.lock();
    let text = module.text();
    // ORDERING: The text is stored before the barriers: see `returned()`.
    START.store(text.start, Relaxed);
    END.store(text.end, Relaxed);
    smp_mb(Full);
    loop {
        // ORDERING: Acquire: read before the queues that the barrier reads.
        let before = RETURNED.load(Acquire);
        api::barrier();
        if RETURNED.load(Relaxed) == before {
            break;
        }
    }
    END.store(0, Relaxed);
}
