// SPDX-License-Identifier: GPL-2.0

//! perf events: CPU cycles and breakpoints. Their handlers run in NMI, on arm64 without pseudo-NMIs
//! in hardirq.
//!
//! C headers: [`include/linux/perf_event.h`](srctree/include/linux/perf_event.h),
//! [`include/linux/hw_breakpoint.h`](srctree/include/linux/hw_breakpoint.h)
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::{cpu, generated as sys};
use ::core::ptr;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::{atomic::Atomic, Arc},
};

/// A handler of an event source. It has to be pinned as long as a source refers to it.
pub(crate) struct Hook<'a>(Body<'a>);

enum Body<'a> {
    Held(Arc<dyn OnSample>),
    Plain(&'a (dyn Fn() + Sync)),
    Stepping(&'a (dyn Fn(usize, usize) -> bool + Sync)),
}

impl<'a> Hook<'a> {
    /// Runs `body`, which must be safe in NMI.
    pub(crate) const fn new(body: &'a (dyn Fn() + Sync)) -> Self {
        Self(Body::Plain(body))
    }

    /// Runs `body`, which must be safe in NMI, with the address of the interrupted instruction and
    /// the stack pointer there; 0 if the source does not know them. After a breakpoint or a step
    /// (step.rs) its result requests a step at the next instruction.
    pub(crate) const fn stepping(body: &'a (dyn Fn(usize, usize) -> bool + Sync)) -> Self {
        Self(Body::Stepping(body))
    }

    #[inline]
    pub(super) fn run(&self, address: usize, stack: usize) -> bool {
        match &self.0 {
            Body::Held(handler) => {
                handler.on_sample(address, cpu::context() == cpu::Context::Nmi);
            }
            Body::Plain(body) => body(),
            Body::Stepping(body) => return body(address, stack),
        }
        false
    }
}

/// A counter of perf, released on drop.
///
/// # Invariants
///
/// The pointer is a live kernel counter.
pub(super) struct Counter(pub(super) *mut bindings::perf_event);

// SAFETY: The counter is only released, by `drop()`.
unsafe impl Sync for Counter {}

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { sys::perf_event_release_kernel(self.0) };
    }
}

/// A cycle counter on every CPU that was online when it was created.
pub(crate) struct Cycles<'a> {
    events: KVec<Counter>,
    _hook: &'a Hook<'a>,
}

impl<'a> Cycles<'a> {
    /// Runs `hook` every `period` cycles of each CPU, within the limits of perf.
    ///
    /// # Errors
    ///
    /// `ENOENT` where there is no PMU.
    pub(crate) fn new(period: u64, hook: &'a Hook<'a>) -> Result<Self> {
        let mut this = Self {
            events: KVec::with_capacity(cpu::nr_ids() as usize, GFP_KERNEL)?,
            _hook: hook,
        };
        for cpu in cpu::online() {
            // SAFETY: `hook` outlives the counters, by the lifetime.
            let event = from_err_ptr(unsafe {
                sys::rcu_ptr_shim_cycles(cpu, period, ptr::from_ref(hook).cast_mut().cast())
            })?;
            // INVARIANT: Just made.
            this.events.push(Counter(event), GFP_KERNEL)?;
        }
        Ok(this)
    }
}

/// The number of breakpoints of a CPU.
pub(crate) const SLOTS: usize = 4;

/// The kind of access that a breakpoint detects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The instruction that starts there is about to be executed.
    Execute,
    /// The 8 bytes there were written.
    Write,
    /// The 4 bytes there were written.
    Write4,
}

/// A breakpoint on every CPU that was online when it was created.
///
/// # Invariants
///
/// The pointer was returned by `register_wide_hw_breakpoint()`.
pub(crate) struct Breakpoint<'a> {
    events: *mut c_void,
    _hook: &'a Hook<'a>,
}

impl<'a> Breakpoint<'a> {
    /// Runs `hook` at each access of `kind` to `address`.
    ///
    /// # Context
    ///
    /// May sleep; takes the CPU hotplug lock for reading.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` without support, `ENOSPC` if all slots are in use, `EINVAL` for an address that
    /// the kernel rejects (entry code).
    pub(crate) fn new(kind: Kind, address: usize, hook: &'a Hook<'a>) -> Result<Self> {
        // SAFETY: `hook` outlives the breakpoint, by the lifetime.
        let events = from_err_ptr(unsafe {
            sys::rcu_ptr_shim_breakpoint(
                address,
                kind == Kind::Execute,
                if kind == Kind::Write4 { 4 } else { 8 },
                ptr::from_ref(hook).cast_mut().cast(),
            )
        })?;
        // INVARIANT: Just registered.
        Ok(Self {
            events,
            _hook: hook,
        })
    }
}

impl Drop for Breakpoint<'_> {
    /// Waits until the handler runs nowhere any more.
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_shim_no_breakpoint(self.events) };
    }
}

/// Called by perf.c in the overflow handler. Returns whether to continue in single steps.
///
/// # Safety
///
/// `hook` was passed by `Breakpoint::new()` or `Cycles::new()`; its event still exists.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_overflow(hook: *mut c_void, pc: c_ulong, sp: c_ulong) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { &*hook.cast::<Hook<'_>>() }.run(pc, sp)
}

/// An overflow handler with shared ownership.
pub(crate) trait OnSample: Send + Sync + 'static {
    /// The CPU was about to execute the instruction at `ip`, or had just done so.
    ///
    /// # Context
    ///
    /// NMI if `in_nmi`, otherwise hardirq.
    fn on_sample(&self, ip: usize, in_nmi: bool);
}

/// Events, of which there is one kind.
type Source = (Option<Cycles<'static>>, Option<Breakpoint<'static>>);

/// Events, on every CPU that was online when they were created, with an [`OnSample`] handler.
pub(crate) struct Events {
    /// Dropped first. The handler does not run afterwards: an event is removed from its CPU by an
    /// interrupt there, which comes after any NMI.
    _source: Source,
    _hook: KBox<Hook<'static>>,
}

// SAFETY: perf does its own locking; the handler may be used on any CPU.
unsafe impl Send for Events {}
// SAFETY: As above.
unsafe impl Sync for Events {}

impl Events {
    /// An event every `period` cycles of each CPU.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `EOPNOTSUPP` where there is no PMU.
    pub(crate) fn cycles(handler: Arc<dyn OnSample>, period: u64) -> Result<Self> {
        Self::new(handler, |hook| Ok((Some(Cycles::new(period, hook)?), None)))
    }

    /// An event at every write of a word in the handler.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` without watchpoints, `ENOSPC` if all are in use.
    pub(crate) fn writes<H: OnSample>(
        handler: Arc<H>,
        word: fn(&H) -> &Atomic<u64>,
    ) -> Result<Self> {
        let address = ptr::from_ref(word(&handler)).addr();
        Self::new(handler, |hook| {
            let writes = Breakpoint::new(Kind::Write, address, hook)?;
            Ok((None, Some(writes)))
        })
    }

    fn new(
        handler: Arc<dyn OnSample>,
        make: impl FnOnce(&'static Hook<'static>) -> Result<Source>,
    ) -> Result<Self> {
        let hook = KBox::new(Hook(Body::Held(handler)), GFP_KERNEL)?;
        // SAFETY: The box is neither moved out of nor dropped before the events.
        let _source = make(unsafe { &*ptr::from_ref(&*hook) })?;
        Ok(Self {
            _source,
            _hook: hook,
        })
    }
}
