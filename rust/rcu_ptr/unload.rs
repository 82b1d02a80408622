// SPDX-License-Identifier: GPL-2.0

//! Keeps a module's text until its pending callbacks and destructors have returned: rmmod waits for them
//! after the module's exit (`MODULE_STATE_GOING`), so the module need not call rcu_ptr_barrier() there.
//!
//! Only modules that link against rcu_ptr.ko are waited for, and those whose load fails before that is known. A
//! library that queues callbacks for its users has to have them call rcu_ptr_barrier(). No callback may wait for a
//! module to be loaded or unloaded: the chain of module notifiers is locked while this waits.

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
    // SAFETY: Initialised in `watch()`, before a module can go.
    unsafe(uninit) static ONE_AT_A_TIME: Mutex<()> = ();
}

/// The text of the module that goes: from, and up to.
static START: Atomic<usize> = Atomic::new(0);
static END: Atomic<usize> = Atomic::new(0);

/// Calls into it that have returned.
static RETURNED: Atomic<usize> = Atomic::new(0);

/// Begins to watch modules go, until the value is dropped. May sleep; at module init.
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
    // ORDERING: What `func` has queued comes first, as does the store of the text in `wait_for()`: either
    // the barrier there waits for that, or it is seen here, and there is another.
    smp_mb(Full);
    // ORDERING: See above.
    if (START.load(Relaxed)..END.load(Relaxed)).contains(&func) {
        // ORDERING: Full, as the barrier has no order with a worker that is not done.
        RETURNED.fetch_add(1, Full);
    }
}

/// Waits until no code of `module` is called any more.
///
/// What is called may queue more of it, which is seen by the calls that return during a barrier: all that
/// were queued before one return in it, so one without any was not needed.
///
/// # Context
///
/// May sleep. The module is called by callbacks and destructors only.
pub(crate) fn wait_for(module: &Going) {
    if !module.may_use_this() {
        return;
    }
    let _one = ONE_AT_A_TIME.lock();
    let text = module.text();
    // ORDERING: Before the barriers: see `returned()`.
    START.store(text.start, Relaxed);
    END.store(text.end, Relaxed);
    smp_mb(Full);
    loop {
        // ORDERING: Before what the barrier looks at.
        let before = RETURNED.load(Acquire);
        api::barrier();
        if RETURNED.load(Relaxed) == before {
            break;
        }
    }
    END.store(0, Relaxed);
}
