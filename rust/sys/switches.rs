// SPDX-License-Identifier: GPL-2.0

//! A Rust handler for the tracepoint `sched_switch`; stack traces and symbols.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use super::{
    generated as sys,
    tracepoint::{self, Tracepoint},
};
use ::core::ptr;
use kernel::{bindings, fmt, prelude::*, sync::Arc};

/// A handler of context switches.
pub(crate) trait OnSwitch: Send + Sync + 'static {
    /// Called before `switch` on this CPU.
    ///
    /// # Context
    ///
    /// Interrupts off, the lock of the CPU's run queue held: no other lock of the scheduler may be
    /// taken, nothing woken, and no memory allocated but by nolock calls.
    fn on_switch(&self, switch: &Switch<'_>);
}

/// A context switch.
pub(crate) struct Switch<'a> {
    prev: &'a bindings::task_struct,
    next: &'a bindings::task_struct,
    /// The previous task goes to sleep: it neither exits nor is preempted.
    pub(crate) sleeps: bool,
    /// The address of the tracepoint.
    ip: usize,
}

/// Bytes of a name, with a 0 at its end.
pub(crate) const NAME: usize = bindings::TASK_COMM_LEN as usize;

impl Switch<'_> {
    /// The previous task.
    pub(crate) fn prev(&self) -> i32 {
        self.prev.pid
    }

    /// The next task.
    pub(crate) fn next(&self) -> i32 {
        self.next.pid
    }

    /// The name of the previous task; inconsistent if it is just being changed.
    pub(crate) fn name(&self) -> [u8; NAME] {
        let name = &raw const self.prev.comm;
        // SAFETY: An array of that many bytes in the task, which is live.
        ::core::array::from_fn(|i| unsafe { name.cast::<u8>().add(i).read_volatile() })
    }

    /// Saves the stack trace of the previous task, innermost frame first. Returns the number of
    /// frames.
    pub(crate) fn trace(&self, frames: &mut [usize]) -> usize {
        let size = frames.len().min(u32::MAX as usize) as u32;
        // SAFETY: There is room for that many; it is the stack of the current task, on this CPU.
        let n = unsafe { sys::stack_trace_save(frames.as_mut_ptr().cast(), size, 0) } as usize;
        let Some(seen) = frames.get_mut(..n) else {
            return 0;
        };
        // Skips the frames of the probe and of the tracepoint.
        let at = seen.iter().position(|&ip| ip == self.ip);
        let own = at.map_or(0, |at| at + 1);
        seen.copy_within(own.., 0);
        n - own
    }
}

/// The probe: C, which knows the address of its caller, and calls `rcu_ptr_rs_switch()`.
const PROBE: *mut c_void = sys::rcu_ptr_shim_switched as *mut c_void;

/// A registered handler, called at every switch on any CPU.
///
/// # Invariants
///
/// The probe is registered at `tracepoint` with the content of `handler`.
pub(crate) struct Switches {
    tracepoint: Tracepoint,
    handler: KBox<Arc<dyn OnSwitch>>,
}

impl Switches {
    /// Registers the handler; may sleep.
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
/// `context` was registered by [`Switches::new()`]; both tasks are live, and `prev` is current.
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

const SYMBOL: usize = sys::RCU_PTR_SLEEPERS_SYMBOL as usize;

/// Displays an address as symbol and offset.
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
