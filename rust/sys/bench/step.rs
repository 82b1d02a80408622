// SPDX-License-Identifier: GPL-2.0

//! Single-stepping through kernel code with the trap flag of x86: a debug exception after each
//! instruction, seen by a die notifier as a debugger does.

use super::generated as sys;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Bytes kept of an instruction: the longest there is.
pub(crate) const BYTES: usize = 15;
/// Steps kept of one path.
const MAX_STEPS: usize = 16384;
const DR_STEP: c_ulong = 0x4000;
const NOTIFY_DONE: c_int = 0;
const NOTIFY_STOP: c_int = 0x8001;
const DIE_DEBUG: c_ulong = 3;

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
            sys::rcu_ptr_bench_print_step(
                free.as_char_ptr(),
                number as c_uint,
                self.ip as c_ulong,
                self.bytes.as_ptr(),
            )
        };
    }
}

static STEPS: Atomic<*mut Step> = Atomic::new(core::ptr::null_mut());
static COUNT: Atomic<usize> = Atomic::new(0);

/// # Safety
///
/// Called by the kernel's chain of die notifiers: for `DIE_DEBUG` `data` is a `struct die_args`.
unsafe extern "C" fn notify(
    _block: *mut bindings::notifier_block,
    event: c_ulong,
    data: *mut c_void,
) -> c_int {
    if event != DIE_DEBUG {
        return NOTIFY_DONE;
    }
    // SAFETY: By the safety requirements of this function; `err` points to the exception's DR6.
    let (dr6, ip) = unsafe {
        let args = &*data.cast::<sys::die_args>();
        (&mut *(args.err as *mut c_ulong), (*args.regs).ip)
    };
    if *dr6 & DR_STEP == 0 {
        return NOTIFY_DONE;
    }
    *dr6 &= !DR_STEP;
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
    NOTIFY_STOP
}

struct Notifier(kernel::types::Opaque<bindings::notifier_block>);

// SAFETY: Only the kernel's chain looks at it, under its own rules.
unsafe impl Sync for Notifier {}

static NOTIFIER: Notifier = Notifier(kernel::types::Opaque::new(bindings::notifier_block {
    notifier_call: Some(notify),
    next: core::ptr::null_mut(),
    priority: 0,
}));

/// Handles single steps as long as it lives.
pub(crate) struct Stepper {
    steps: KVVec<Step>,
}

impl Stepper {
    /// Registers the notifier. One at a time.
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
        // SAFETY: The block is static, and taken off in `drop()`.
        to_result(unsafe { sys::register_die_notifier(NOTIFIER.0.get()) })?;
        Ok(Self { steps })
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
        Ok(unsafe { core::slice::from_raw_parts(self.steps.as_ptr(), n) })
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        // SAFETY: `new()` has registered it.
        unsafe { sys::unregister_die_notifier(NOTIFIER.0.get()) };
        STEPS.store(core::ptr::null_mut(), Relaxed);
    }
}

/// From here on every instruction of this task raises a debug exception.
///
/// # Context
///
/// Interrupts off, with a [`Stepper`] alive.
#[inline(always)]
pub(crate) fn start() {
    // SAFETY: Sets the trap flag; the stepper's notifier handles what comes of it. The stack is
    // not used below its pointer in the kernel (no red zone).
    unsafe { core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
}

/// The end of it.
#[inline(always)]
pub(crate) fn stop() {
    // SAFETY: Clears the trap flag.
    unsafe { core::arch::asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
}
