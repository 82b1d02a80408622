// SPDX-License-Identifier: GPL-2.0

//! NMIs: sent by one CPU to another or to itself (x86 with a local APIC), and overflows of the cycle
//! counters where there are any.

use super::{cpu, generated as sys};
use ::core::ptr;
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full},
};

/// What runs.
type Body<'a> = dyn Fn() + Sync + 'a;

static BODY: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// The sources of NMIs of this machine.
pub(crate) struct Source {
    sends: bool,
    counters: KVec<*mut bindings::perf_event>,
}

// SAFETY: The counters are only released, by `drop()`.
unsafe impl Sync for Source {}

impl Source {
    /// Whether [`Source::send()`] does anything.
    pub(crate) fn sends(&self) -> bool {
        self.sends
    }

    /// Whether there are any NMIs.
    pub(crate) fn exists(&self) -> bool {
        self.sends || !self.counters.is_empty()
    }

    /// Sends an NMI to `cpu`, which is online.
    ///
    /// # Context
    ///
    /// Interrupts off, any but NMI.
    pub(crate) fn send(&self, cpu: i32) {
        if self.sends {
            // SAFETY: The handler is registered while `self` lives.
            unsafe { sys::rcu_ptr_torture_nmi_send(cpu) };
        }
    }

    /// `period`: cycles between overflows of the counters.
    fn new(period: u64) -> Self {
        // SAFETY: The handler stays until `drop()`.
        let sends = to_result(unsafe { sys::rcu_ptr_torture_nmi_register() }).is_ok();
        let mut this = Self {
            sends,
            counters: KVec::new(),
        };
        if sends {
            return this;
        }
        for cpu in cpu::online() {
            if this.counters.reserve(1, GFP_KERNEL).is_err() {
                break;
            }
            // SAFETY: No requirements.
            let event = from_err_ptr(unsafe { sys::rcu_ptr_torture_cycles_create(cpu, period) });
            let Ok(event) = event else { break };
            if this.counters.push(event.cast(), GFP_KERNEL).is_err() {
                break;
            }
        }
        this
    }
}

impl Drop for Source {
    /// Waits until the handler runs nowhere any more.
    fn drop(&mut self) {
        if self.sends {
            // SAFETY: Registered by `new()`.
            unsafe { sys::rcu_ptr_torture_nmi_unregister() };
        }
        for &event in self.counters.iter() {
            // SAFETY: Made by `new()`.
            unsafe { sys::perf_event_release_kernel(event) };
        }
    }
}

/// Calls `f` with the sources, while each NMI of theirs calls `body`. One caller at a time.
///
/// # Context
///
/// May sleep.
pub(crate) fn during<R>(period: u64, body: &Body<'_>, f: impl FnOnce(&Source) -> R) -> R {
    let mut wide = body;
    // ORDERING: Full: what the body refers to is there before the handler finds it.
    BODY.xchg((&raw mut wide).cast(), Full);
    let source = Source::new(period);
    let ret = f(&source);
    drop(source);
    // ORDERING: Full; no handler runs any more.
    BODY.xchg(ptr::null_mut(), Full);
    ret
}

/// Called by shim.c in the handlers.
#[no_mangle]
extern "C" fn rcu_ptr_torture_rs_nmi() {
    // ORDERING: Pairs with the exchange in `during()`.
    let body = BODY.load(Acquire).cast::<&Body<'_>>();
    if !body.is_null() {
        // SAFETY: `during()` keeps both until no handler runs.
        unsafe { (*body)() };
    }
}
