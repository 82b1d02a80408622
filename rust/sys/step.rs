// SPDX-License-Identifier: GPL-2.0

//! Single steps: from a breakpoint on, a debug exception in front of each further instruction, each
//! in NMI context (x86).
//!
//! A breakpoint whose [`Hook`] is a trail sets the trap flag of what it interrupted. Interrupts
//! clear it for their handlers and restore it when they return, so a trail is one task's or one
//! handler's, until the hook has enough of it.

use super::{generated as sys, gp, perf::Hook};
use ::core::ptr;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// What looks at the steps, if anything.
static HOOK: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// Keeps the handler of single steps registered.
///
/// It has to be there for as long as a trap flag may be set, in the frame of a task that was
/// preempted on the way too: make it long before and drop it long after the first and the last
/// [`Steps`].
pub(crate) struct Handler;

impl Handler {
    /// Registers the handler; where there are no single steps, nothing.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// Those of `register_die_notifier()`.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Unregistered on drop, the only time.
        to_result(unsafe { sys::rcu_ptr_shim_step_register() }).map(|()| Self)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // SAFETY: Registered by `register()`; waits until no CPU runs the handler.
        unsafe { sys::rcu_ptr_shim_step_unregister() };
    }
}

/// Lets a hook see all steps. One at a time.
pub(crate) struct Steps<'a> {
    _hook: &'a Hook<'a>,
}

impl<'a> Steps<'a> {
    /// Runs `hook` at every step.
    ///
    /// # Context
    ///
    /// Any; one at a time.
    pub(crate) fn new(hook: &'a Hook<'a>) -> Self {
        // ORDERING: What the hook refers to is seen with the pointer; pairs with the
        // acquire in `rcu_ptr_rs_step()`.
        HOOK.store(ptr::from_ref(hook).cast_mut().cast(), Release);
        Self { _hook: hook }
    }
}

impl Drop for Steps<'_> {
    /// Waits until the hook runs nowhere any more.
    ///
    /// May sleep.
    fn drop(&mut self) {
        // ORDERING: Full, as the grace period has to start after it.
        HOOK.xchg(ptr::null_mut(), Full);
        gp::synchronize_expedited();
    }
}

/// From here on every instruction of this task is a step.
///
/// # Context
///
/// Interrupts off, with a [`Handler`] registered and [`Steps`] alive.
#[cfg(CONFIG_X86_64)]
#[inline(always)]
pub(crate) fn start() {
    // SAFETY: Sets the trap flag; the handler takes what comes of it. The stack is not used below its
    // pointer in the kernel (no red zone).
    unsafe { ::core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
}

/// The end of it.
#[cfg(CONFIG_X86_64)]
#[inline(always)]
pub(crate) fn stop() {
    // SAFETY: Clears the trap flag.
    unsafe { ::core::arch::asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
}

/// Called by step.c at a single step, where notifiers run under RCU. Returns whether to go on.
#[no_mangle]
extern "C" fn rcu_ptr_rs_step(pc: c_ulong, sp: c_ulong) -> bool {
    // ORDERING: Pairs with the release in `Steps::new()`.
    let hook = HOOK.load(Acquire).cast::<Hook<'_>>();
    // SAFETY: `Steps` waits for a grace period before its hook goes.
    !hook.is_null() && unsafe { &*hook }.run(pc, sp)
}

/// Bytes kept of an instruction: the longest there is.
pub(crate) const BYTES: usize = 15;
/// Steps kept of one path.
const MAX_STEPS: usize = 16384;

/// An instruction that is about to be executed.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    ip: usize,
    pub(crate) bytes: [u8; BYTES],
}

impl Step {
    /// Prints it with its number on the path of the function `free`.
    pub(crate) fn print(&self, free: &CStr, number: usize) {
        // SAFETY: The shim prints its arguments, 15 bytes among them.
        unsafe {
            sys::rcu_ptr_shim_print_step(
                free.as_char_ptr(),
                number as c_uint,
                self.ip as c_ulong,
                self.bytes.as_ptr(),
            )
        };
    }
}

static STEPS: Atomic<*mut Step> = Atomic::new(ptr::null_mut());
static COUNT: Atomic<usize> = Atomic::new(0);

/// Records a step, and asks for the next.
fn record(ip: usize, _stack: usize) -> bool {
    let n = COUNT.load(Relaxed);
    if n < MAX_STEPS {
        // SAFETY: `STEPS` has room for `MAX_STEPS`, and its owner waits while code is stepped. `ip`
        // is the next instruction of the kernel; text goes on for 15 bytes after each, the
        // linker pads it.
        unsafe {
            STEPS.load(Relaxed).add(n).write(Step {
                ip,
                bytes: (ip as *const [u8; BYTES]).read_unaligned(),
            })
        };
    }
    COUNT.store(n + 1, Relaxed);
    true
}

static RECORDER: Hook<'static> = Hook::trail(&record);

/// Handles single steps as long as it lives.
pub(crate) struct Stepper {
    _hooked: Steps<'static>,
    _handler: Handler,
    steps: KVVec<Step>,
}

impl Stepper {
    /// Begins. One at a time.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EEXIST`.
    pub(crate) fn new() -> Result<Self> {
        let mut steps = KVVec::with_capacity(MAX_STEPS, GFP_KERNEL)?;
        STEPS.store(steps.as_mut_ptr(), Relaxed);
        Ok(Self {
            _handler: Handler::register()?,
            _hooked: Steps::new(&RECORDER),
            steps,
        })
    }

    /// Forgets the path.
    pub(crate) fn clear(&mut self) {
        COUNT.store(0, Relaxed);
    }

    /// What was executed since.
    ///
    /// # Errors
    ///
    /// `E2BIG` if it was too much.
    pub(crate) fn path(&mut self) -> Result<&[Step]> {
        let n = COUNT.load(Relaxed);
        if n > MAX_STEPS {
            return Err(E2BIG);
        }
        // SAFETY: The notifier has written so many.
        Ok(unsafe { ::core::slice::from_raw_parts(self.steps.as_ptr(), n) })
    }
}
