// SPDX-License-Identifier: GPL-2.0

//! Events of perf: cycles of a CPU, and breakpoints, whose handlers run in NMI (in hardirq on arm64
//! without pseudo-NMIs).
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

/// What runs when the interrupt comes. It has to be pinned while a source knows it.
pub(crate) struct Hook<'a>(Body<'a>);

enum Body<'a> {
    Held(Arc<dyn OnSample>),
    Plain(&'a (dyn Fn() + Sync)),
    Where(&'a (dyn Fn(usize) + Sync)),
    Stepping(&'a (dyn Fn(usize, usize) -> bool + Sync)),
}

impl<'a> Hook<'a> {
    /// Runs `body`, which must be fit for NMI.
    pub(crate) const fn new(body: &'a (dyn Fn() + Sync)) -> Self {
        Self(Body::Plain(body))
    }

    /// Runs `body`, which must be fit for NMI, with the address of the instruction that was
    /// interrupted; 0 from a source that doesn't tell.
    pub(crate) const fn with_address(body: &'a (dyn Fn(usize) + Sync)) -> Self {
        Self(Body::Where(body))
    }

    /// Runs `body`, which must be fit for NMI, with the address of the instruction that was
    /// interrupted and the stack pointer there. Where that was a breakpoint or a step (step.rs),
    /// the result says whether there is to be a step at the next instruction.
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
            Body::Where(body) => body(address),
            Body::Stepping(body) => return body(address, stack),
        }
        false
    }
}

/// A counter on every CPU that was up when it was made.
///
/// # Invariants
///
/// The pointers are live kernel counters.
pub(crate) struct Cycles<'a> {
    events: KVec<*mut bindings::perf_event>,
    _hook: &'a Hook<'a>,
}

// SAFETY: The counters are only released, by `drop()`.
unsafe impl Sync for Cycles<'_> {}

impl<'a> Cycles<'a> {
    /// Runs `hook` every `period` cycles of each CPU, as far as perf allows it.
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
            this.events.push(event, GFP_KERNEL)?;
        }
        Ok(this)
    }
}

impl Drop for Cycles<'_> {
    fn drop(&mut self) {
        for &event in self.events.iter() {
            // SAFETY: By the type invariants.
            unsafe { sys::perf_event_release_kernel(event) };
        }
    }
}

/// Breakpoints that a CPU has room for.
pub(crate) const SLOTS: usize = 4;

/// What an access has to be for a breakpoint to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The instruction that starts there is about to be executed.
    Execute,
    /// The 8 bytes there were written.
    Write,
    /// The 4 bytes there were written.
    Write4,
}

/// A breakpoint on every CPU that was up when it was made.
///
/// # Invariants
///
/// The pointer is what `register_wide_hw_breakpoint()` gave.
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
    /// `EOPNOTSUPP` where there are none, `ENOSPC` when all slots are taken, `EINVAL` for an
    /// address that the kernel refuses (entry code).
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

/// Called by perf.c in the overflow handler. Returns whether to go on in single steps.
///
/// # Safety
///
/// `hook` is what `Breakpoint::new()` or `Cycles::new()` passed on; its event still exists.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_overflow(hook: *mut c_void, pc: c_ulong, sp: c_ulong) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { &*hook.cast::<Hook<'_>>() }.run(pc, sp)
}

/// Runs when an event overflows, where the handler belongs to others, too.
pub(crate) trait OnSample: Send + Sync + 'static {
    /// The CPU was about to execute the instruction at `ip`, or had just done so.
    ///
    /// # Context
    ///
    /// NMI if `in_nmi`, otherwise hardirq.
    fn on_sample(&self, ip: usize, in_nmi: bool);
}

/// Events of one kind.
enum EventSource {
    Cycles { _events: Cycles<'static> },
    Writes { _events: Breakpoint<'static> },
}

/// Events on every CPU that was up when they were made, whose handler belongs to others, too.
pub(crate) struct Events {
    /// First, as it is dropped first. The handler runs nowhere then: an event is taken off its CPU
    /// by an interrupt there, and an NMI is over by then.
    _source: EventSource,
    _hook: KBox<Hook<'static>>,
}

// SAFETY: perf locks what it has to; the handler may be used from any CPU.
unsafe impl Send for Events {}
// SAFETY: As above.
unsafe impl Sync for Events {}

impl Events {
    /// Every `period` cycles of each CPU.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `EOPNOTSUPP` where there is no PMU.
    pub(crate) fn cycles(handler: Arc<dyn OnSample>, period: u64) -> Result<Self> {
        Self::new(handler, |hook| {
            let _events = Cycles::new(period, hook)?;
            Ok(EventSource::Cycles { _events })
        })
    }

    /// Every time that a word in the handler is written.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where there are no watchpoints, `ENOSPC` where all are taken.
    pub(crate) fn writes<H: OnSample>(
        handler: Arc<H>,
        word: fn(&H) -> &Atomic<u64>,
    ) -> Result<Self> {
        let address = ptr::from_ref(word(&handler)).addr();
        Self::new(handler, |hook| {
            let _events = Breakpoint::new(Kind::Write, address, hook)?;
            Ok(EventSource::Writes { _events })
        })
    }

    fn new(
        handler: Arc<dyn OnSample>,
        make: impl FnOnce(&'static Hook<'static>) -> Result<EventSource>,
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
