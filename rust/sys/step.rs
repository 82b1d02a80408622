// SPDX-License-Identifier: GPL-2.0

//! Single steps, in NMI context: by the trap flag (x86), or by the cycle counter.
//!
//! A breakpoint whose [`Hook`] requests steps sets the trap flag of the interrupted code. Then a
//! debug exception precedes each instruction. Interrupts clear the flag for their handlers and
//! restore it on return, so one task or one handler is stepped, until the hook requests no further
//! step.
//!
//! [`Counted`] steps by the cycle counter, if that counts instructions exactly, as QEMU's does for
//! arm64 under `-icount`: its overflow, a pseudo-NMI, comes N instructions after it was started.
//! The counter is restarted in the overflow handler, so N is the length of the return path plus
//! one. That length is calibrated, separately for returns to code with interrupts enabled and
//! disabled: an overflow before the next instruction was executed shows that N is too small.
//!
//! C header: [`include/linux/perf_event.h`](srctree/include/linux/perf_event.h)
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::{
    cpu, generated as sys, gp,
    perf::{Counter, Hook},
    static_ref::StaticRef,
    thread,
};
use ::core::ptr;
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// The hook that gets the steps.
static HOOK: StaticRef<Hook<'_>> = StaticRef::new();

/// A registered die notifier that handles single steps.
///
/// It has to be registered as long as a trap flag may be set, also in the frame of a preempted
/// task: from long before the first [`Steps`] to long after the last.
pub(crate) struct StepNotifier;

impl StepNotifier {
    /// Registers the notifier; does nothing on architectures without single steps.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Unregistered once, on drop.
        to_result(unsafe { sys::rcu_ptr_shim_step_register() }).map(|()| Self)
    }
}

impl Drop for StepNotifier {
    fn drop(&mut self) {
        // SAFETY: Registered by `register()`; waits until no CPU runs the handler.
        unsafe { sys::rcu_ptr_shim_step_unregister() };
    }
}

/// Passes all steps to a hook. At most one `Steps` exists.
pub(crate) struct Steps<'a> {
    _hook: &'a Hook<'a>,
}

impl<'a> Steps<'a> {
    /// Runs `hook` at every step.
    pub(crate) fn new(hook: &'a Hook<'a>) -> Self {
        HOOK.set(ptr::from_ref(hook).cast());
        Self { _hook: hook }
    }
}

impl Drop for Steps<'_> {
    /// Waits until the hook no longer runs.
    ///
    /// May sleep.
    fn drop(&mut self) {
        HOOK.clear();
        gp::synchronize_expedited();
    }
}

/// Sets the trap flag of x86: steps start with the next instruction. Inline, as the return from a C
/// shim would be stepped as well.
///
/// # Context
///
/// Interrupts off, with a [`StepNotifier`] registered and [`Steps`] alive.
#[inline(always)]
pub(crate) fn start() {
    // SAFETY: Sets the trap flag, and the notifier handles the exceptions. The kernel has no red
    // zone, so data below the stack pointer is not used.
    #[cfg(CONFIG_X86_64)]
    unsafe {
        ::core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq")
    };
}

/// Clears the trap flag.
#[inline(always)]
pub(crate) fn stop() {
    // SAFETY: Clears the trap flag.
    #[cfg(CONFIG_X86_64)]
    unsafe {
        ::core::arch::asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq")
    };
}

/// Called by step.c at a single step, where notifiers run under RCU. Returns whether to go on.
#[no_mangle]
extern "C" fn rcu_ptr_rs_step(pc: c_ulong, sp: c_ulong) -> bool {
    // SAFETY: `Steps` waits for a grace period before its hook goes.
    unsafe { HOOK.get() }.is_some_and(|hook| hook.run(pc, sp))
}

/// Bytes recorded of each instruction: the length of the longest.
pub(crate) const BYTES: usize = 15;
/// Steps recorded of one path.
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
        let (free, bytes) = (free.as_char_ptr(), self.bytes.as_ptr());
        // SAFETY: The shim prints its arguments, 15 bytes among them.
        unsafe { sys::rcu_ptr_shim_print_step(free, number as c_uint, self.ip, bytes) };
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

static RECORDER: Hook<'static> = Hook::stepping(&record);

/// Records the steps of a path.
pub(crate) struct Stepper {
    _hooked: Steps<'static>,
    _handler: StepNotifier,
    steps: KVVec<Step>,
}

impl Stepper {
    /// Starts recording. At most one `Stepper` exists.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EEXIST`.
    pub(crate) fn new() -> Result<Self> {
        let mut steps = KVVec::with_capacity(MAX_STEPS, GFP_KERNEL)?;
        STEPS.store(steps.as_mut_ptr(), Relaxed);
        Ok(Self {
            _handler: StepNotifier::register()?,
            _hooked: Steps::new(&RECORDER),
            steps,
        })
    }

    /// Clears the path.
    pub(crate) fn clear(&mut self) {
        COUNT.store(0, Relaxed);
    }

    /// The instructions executed since [`Self::clear()`].
    ///
    /// # Errors
    ///
    /// `E2BIG` if there were more than can be recorded.
    pub(crate) fn path(&mut self) -> Result<&[Step]> {
        let n = COUNT.load(Relaxed);
        if n > MAX_STEPS {
            return Err(E2BIG);
        }
        // SAFETY: The notifier has written so many.
        Ok(unsafe { ::core::slice::from_raw_parts(self.steps.as_ptr(), n) })
    }
}

/// Lengths of the return path, in instructions, to code with interrupts enabled and disabled;
/// during calibration, the period to try next.
static WAY_OUT: [Atomic<u64>; 2] = [const { Atomic::new(0) }; 2];
/// The length that is being calibrated, or 0.
static LEARNING: Atomic<i32> = Atomic::new(0);
/// The address of the last overflow.
static LAST: Atomic<usize> = Atomic::new(0);
/// Overflows in a row at that address; during calibration, at another one.
static ROW: Atomic<u64> = Atomic::new(0);
/// The distance requested of the next overflow, and instructions added because the return path is
/// longer at this address.
static WANTED: Atomic<u64> = Atomic::new(0);
static MORE: Atomic<u64> = Atomic::new(0);
static RANDOM: Atomic<u64> = Atomic::new(1);

/// Values of [`LEARNING`]: to code with interrupts disabled, or enabled.
const OFF: i32 = 1;
const ON: i32 = 2;
/// Longer than any return path.
const FAR: u64 = 10_000;

/// Shorter than any return path.
const SHORTEST: u64 = 32;
/// A period is accepted after more than this many overflows in a row that advance.
const SURE: u64 = 16;
/// Overflows at one address that may be a coincidence; and instructions added to the return path
/// after these, if no step is requested.
const CHANCE: u64 = 4;
const LONGER: u64 = 16;

/// Without steps, at most this many instructions are skipped.
const STRIDE: u64 = 128;

/// The time limit of a calibration.
const LEARN_NSECS: i64 = 1_000_000_000;

/// A counter of this CPU.
pub(crate) struct Counted<'a> {
    _counter: Counter,
    _hook: &'a Hook<'a>,
}

impl<'a> Counted<'a> {
    /// Runs `hook` in NMIs on this CPU: one instruction after the last NMI if it requested a step,
    /// and otherwise some instructions later. At most one `Counted` exists.
    ///
    /// # Errors
    ///
    /// `ENOENT` where there is no PMU; `ETIME` where it does not count instructions.
    pub(crate) fn new(hook: &'a Hook<'a>) -> Result<Self> {
        // SAFETY: `hook` outlives the counter, by the lifetime.
        let event = from_err_ptr(unsafe {
            sys::rcu_ptr_shim_counted(cpu::this(), 10_000, ptr::from_ref(hook).cast_mut().cast())
        })?;
        // INVARIANT: Just made.
        let this = Self {
            _counter: Counter(event),
            _hook: hook,
        };
        cpu::irqs_off(|| learn(OFF))?;
        learn(ON)?;
        Ok(this)
    }
}

/// Takes overflows in a loop until the length of the return path is known.
fn learn(what: i32) -> Result {
    let end = thread::now() + LEARN_NSECS;
    ROW.store(0, Relaxed);
    WANTED.store(0, Relaxed);
    LEARNING.store(what, Relaxed);
    while LEARNING.load(Relaxed) != 0 {
        if thread::now() > end {
            return Err(ETIME);
        }
    }
    Ok(())
}

/// The next period during calibration. It grows by one until more than SURE overflows in a row have
/// advanced the instruction pointer; a single advance may be due to another interrupt. On return to
/// code with interrupts enabled the next overflow may already be pending; then a long period lets
/// it pass.
fn learned(moved: bool, irqs_off: bool) -> u64 {
    let on = LEARNING.load(Relaxed) == ON;
    let way_out = &WAY_OUT[usize::from(!on)];
    let period = way_out.load(Relaxed).max(if on {
        WAY_OUT[1].load(Relaxed)
    } else {
        SHORTEST
    });
    let tried = WANTED.load(Relaxed) == 1;
    let came = irqs_off != on;
    WANTED.store(u64::from(came), Relaxed);
    if tried && came && moved {
        if ROW.fetch_add(1, Relaxed) == SURE {
            // A period that advances is the return path plus one.
            way_out.store(period - 1, Relaxed);
            LEARNING.store(0, Relaxed);
        }
    } else if tried {
        ROW.store(0, Relaxed);
        way_out.store(period + 1, Relaxed);
    }
    if came {
        way_out.load(Relaxed).max(period)
    } else {
        period + FAR
    }
}

/// The period to the next overflow. `moved`: this one is at another address than the last.
fn next(moved: bool, way_out: &Atomic<u64>, step: bool) -> u64 {
    let mut more = 0;
    if moved {
        ROW.store(0, Relaxed);
    } else {
        more = MORE.load(Relaxed);
        let row = ROW.fetch_add(1, Relaxed);
        if WANTED.load(Relaxed) == 1 {
            more += 1;
        } else if row > CHANCE {
            more += LONGER;
        }
    }
    MORE.store(more, Relaxed);
    let wanted = if step {
        1
    } else {
        let random = RANDOM
            .load(Relaxed)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        RANDOM.store(random, Relaxed);
        1 + (random >> 33) % STRIDE
    };
    WANTED.store(wanted, Relaxed);
    way_out.load(Relaxed) + more + wanted
}

/// Whether the counter of this CPU counts instructions exactly, as stepping requires.
pub(crate) fn is_exact() -> Result<bool> {
    let nothing = |_, _| false;
    let hook = Hook::stepping(&nothing);
    let made = Counted::new(&hook).map(drop);
    match made {
        Ok(()) => Ok(true),
        Err(e) if e == ETIME || e == ENOENT || e == EOPNOTSUPP => Ok(false),
        Err(e) => Err(e),
    }
}

/// Called by step.c in the overflow handler. Returns after how many instructions the next is to
/// come.
///
/// # Safety
///
/// `hook` is what `Counted::new()` passed on; its event still exists.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_counted(
    hook: *mut c_void,
    pc: c_ulong,
    sp: c_ulong,
    irqs_off: bool,
) -> u64 {
    let moved = pc != LAST.load(Relaxed);
    LAST.store(pc, Relaxed);
    if LEARNING.load(Relaxed) != 0 {
        return learned(moved, irqs_off);
    }
    let way_out = &WAY_OUT[usize::from(irqs_off)];
    // SAFETY: By the safety requirements of this function.
    let step = unsafe { &*hook.cast::<Hook<'_>>() }.run(pc, sp);
    next(moved, way_out, step)
}
