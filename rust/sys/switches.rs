// SPDX-License-Identifier: GPL-2.0

//! The kernel's `sched_switch`, with a Rust handler; stack traces, and the names of what is in
//! them.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use super::{
    generated as sys,
    tracepoint::{self, Tracepoint},
};
use ::core::ptr;
use kernel::{bindings, fmt, prelude::*, sync::Arc};

/// Runs when a CPU goes from one task to another.
pub(crate) trait OnSwitch: Send + Sync + 'static {
    /// `switch` is about to happen on this CPU.
    ///
    /// # Context
    ///
    /// Interrupts off, the lock of the CPU's run queue held: no other lock of the scheduler may be
    /// taken, nothing woken, and no memory allocated but by nolock calls.
    fn on_switch(&self, switch: &Switch<'_>);
}

/// One task goes, another comes.
pub(crate) struct Switch<'a> {
    prev: &'a bindings::task_struct,
    next: &'a bindings::task_struct,
    /// The one that goes sleeps: it has not ended, and is not put off for others only.
    pub(crate) sleeps: bool,
    /// Where the tracepoint was.
    ip: usize,
}

/// Bytes of a name, with a 0 at its end.
pub(crate) const NAME: usize = bindings::TASK_COMM_LEN as usize;

impl Switch<'_> {
    /// The task that goes.
    pub(crate) fn prev(&self) -> i32 {
        self.prev.pid
    }

    /// The task that comes.
    pub(crate) fn next(&self) -> i32 {
        self.next.pid
    }

    /// The name of the task that goes. One that changes just now may be a mixture.
    pub(crate) fn name(&self) -> [u8; NAME] {
        let name = &raw const self.prev.comm;
        // SAFETY: An array of that many bytes in the task, which is live.
        ::core::array::from_fn(|i| unsafe { name.cast::<u8>().add(i).read_volatile() })
    }

    /// Writes where the task is that goes, innermost first; returns how many of `frames` that were.
    pub(crate) fn trace(&self, frames: &mut [usize]) -> usize {
        let size = frames.len().min(u32::MAX as usize) as u32;
        // SAFETY: There is room for that many; it is the stack of the current task, on this CPU.
        let n = unsafe { sys::stack_trace_save(frames.as_mut_ptr().cast(), size, 0) } as usize;
        let Some(seen) = frames.get_mut(..n) else {
            return 0;
        };
        // What the probe called comes first, and the tracepoint.
        let own = seen
            .iter()
            .position(|&ip| ip == self.ip)
            .map_or(0, |at| at + 1);
        seen.copy_within(own.., 0);
        n - own
    }
}

/// What is called at the tracepoint: C, which knows where that was, and then
/// `rcu_ptr_rs_switch()`.
const PROBE: *mut c_void = sys::rcu_ptr_shim_switched as *mut c_void;

/// Calls the handler at every switch on any CPU, until it is dropped.
///
/// # Invariants
///
/// The probe is registered at `tracepoint` with the content of `handler`.
pub(crate) struct Switches {
    tracepoint: Tracepoint,
    handler: KBox<Arc<dyn OnSwitch>>,
}

impl Switches {
    /// Begins; may sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` in kernels without tracepoints, `ENOMEM`.
    pub(crate) fn new(handler: Arc<dyn OnSwitch>) -> Result<Self> {
        let tracepoint = Tracepoint::find(c"sched_switch").ok_or(ENOENT)?;
        let handler = KBox::new(handler, GFP_KERNEL)?;
        // SAFETY: The tracepoint has that prototype, and what the box has stays as long as the
        // probe.
        unsafe { tracepoint.register(PROBE, data(&handler)) }?;
        // INVARIANT: Just registered.
        Ok(Self {
            tracepoint,
            handler,
        })
    }
}

fn data(handler: &Arc<dyn OnSwitch>) -> *mut c_void {
    ptr::from_ref(handler).cast_mut().cast()
}

impl Drop for Switches {
    fn drop(&mut self) {
        self.tracepoint.unregister(PROBE, data(&self.handler));
        // The handler runs nowhere after this.
        tracepoint::synchronize();
    }
}

/// Called by shim.c at the tracepoint.
///
/// # Safety
///
/// `context` is what [`Switches::new()`] passed on, which is registered; both tasks are live, and
/// `prev` is current.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_switch(
    context: *mut c_void,
    prev: *mut bindings::task_struct,
    next: *mut bindings::task_struct,
    sleeps: bool,
    ip: usize,
) {
    // SAFETY: By the safety requirements of this function.
    let (handler, prev, next) = unsafe { (&*context.cast::<Arc<dyn OnSwitch>>(), &*prev, &*next) };
    let switch = Switch {
        prev,
        next,
        sleeps,
        ip,
    };
    handler.on_switch(&switch);
}

const SYMBOL: usize = sys::rcu_ptr_sleepers_RCU_PTR_SLEEPERS_SYMBOL as usize;

/// Shows an address as symbol and offset.
pub(crate) struct Symbol(pub(crate) usize);

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; SYMBOL];
        // SAFETY: There is room for any symbol.
        unsafe { bindings::sprint_symbol(text.as_mut_ptr().cast(), self.0 as c_ulong) };
        match CStr::from_bytes_until_nul(&text) {
            Ok(text) => fmt::Display::fmt(text, f),
            Err(_) => Ok(()),
        }
    }
}
