// SPDX-License-Identifier: GPL-2.0

//! perf events whose overflow runs a Rust handler, in NMI where the machine can.
//!
//! C header: [`include/linux/perf_event.h`](srctree/include/linux/perf_event.h)

#[path = "../generated.rs"]
mod generated;

use core::ptr;
use generated as sys;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::{atomic::Atomic, Arc},
};

/// Runs when an event overflows.
pub(crate) trait OnSample: Send + Sync + 'static {
    /// The CPU was about to execute the instruction at `ip`, or had just done so.
    ///
    /// # Context
    ///
    /// NMI if `in_nmi`, otherwise hardirq.
    fn on_sample(&self, ip: usize, in_nmi: bool);
}

type Call = fn(*const c_void, usize, bool);

/// What an event's context points to.
struct Hook {
    call: Call,
    handler: *const c_void,
}

fn call<H: OnSample>(handler: *const c_void, ip: usize, in_nmi: bool) {
    // SAFETY: `Events` holds a reference to the handler as long as there are events.
    unsafe { &*handler.cast::<H>() }.on_sample(ip, in_nmi);
}

/// One event on every CPU that was up when it was made; released on drop.
///
/// # Invariants
///
/// `events` are live kernel counters whose context is `hook`, and `hook` is of `handler`.
pub(crate) struct Events<H: OnSample> {
    events: KVec<*mut bindings::perf_event>,
    hook: KBox<Hook>,
    _handler: Arc<H>,
}

// SAFETY: perf locks what it has to; the handler may be used from any CPU.
unsafe impl<H: OnSample> Send for Events<H> {}
// SAFETY: As above.
unsafe impl<H: OnSample> Sync for Events<H> {}

impl<H: OnSample> Events<H> {
    /// Every `period` cycles of each CPU.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `EOPNOTSUPP` where there is no PMU.
    pub(crate) fn cycles(handler: Arc<H>, period: u64) -> Result<Self> {
        Self::new(handler, |cpu, context| {
            // SAFETY: By the type invariants the context lives as long as the event.
            unsafe { sys::rcu_ptr_nmi_hash_cycles(cpu, period, context) }
        })
    }

    /// Every time that a word in the handler is written.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where there are no watchpoints, `ENOSPC` where all are taken.
    pub(crate) fn writes(handler: Arc<H>, word: fn(&H) -> &Atomic<u64>) -> Result<Self> {
        let address = ptr::from_ref(word(&handler)).addr();
        Self::new(handler, |cpu, context| {
            // SAFETY: As above.
            unsafe { sys::rcu_ptr_nmi_hash_watch(cpu, address as c_ulong, context) }
        })
    }

    fn new(handler: Arc<H>, make: impl Fn(i32, *mut c_void) -> *mut c_void) -> Result<Self> {
        // SAFETY: Set at boot and never again.
        let nr_cpus = unsafe { bindings::nr_cpu_ids as i32 };
        let hook = Hook {
            call: call::<H>,
            handler: ptr::from_ref::<H>(&handler).cast(),
        };
        let mut this = Self {
            events: KVec::with_capacity(nr_cpus as usize, GFP_KERNEL)?,
            hook: KBox::new(hook, GFP_KERNEL)?,
            _handler: handler,
        };
        let context = ptr::from_mut(&mut *this.hook).cast();
        let mut cpu = -1;
        loop {
            // SAFETY: No requirements; -1 is where a walk begins.
            cpu = unsafe { sys::rcu_ptr_nmi_hash_next_online_cpu(cpu) };
            if cpu >= nr_cpus {
                return Ok(this);
            }
            // INVARIANT: Just made, with the hook as its context.
            this.events
                .push(from_err_ptr(make(cpu, context))?.cast(), GFP_KERNEL)?;
        }
    }
}

impl<H: OnSample> Drop for Events<H> {
    fn drop(&mut self) {
        for &event in self.events.iter() {
            // SAFETY: By the type invariants. The handler runs nowhere when it returns: an event is
            // taken off its CPU by an interrupt there, and an NMI is over by then.
            unsafe { sys::perf_event_release_kernel(event) };
        }
    }
}

/// Called by shim.c in the overflow handler.
///
/// # Safety
///
/// `context` is what [`Events::new()`] passed on; its event still exists.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_nmi_hash_rs_sample(context: *mut c_void, ip: c_ulong, in_nmi: bool) {
    // SAFETY: By the safety requirements of this function.
    let hook = unsafe { &*context.cast::<Hook>() };
    (hook.call)(hook.handler, ip, in_nmi);
}
