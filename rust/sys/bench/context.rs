// SPDX-License-Identifier: GPL-2.0

//! The contexts that code is run in: interrupts off, a hard hrtimer, an NMI to this CPU.

use super::generated as sys;
use core::{ffi::c_void, ptr};
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
    types::Opaque,
};

/// The CPU this runs on.
///
/// # Context
///
/// Any; the answer holds as long as the task is bound to it.
pub(crate) fn this_cpu() -> i32 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_bench_cpu() }
}

/// The online CPUs, in order.
pub(crate) fn online_cpus() -> impl Iterator<Item = i32> {
    // SAFETY: No requirements; -1 is where a walk begins.
    let next = |cpu| unsafe { sys::rcu_ptr_bench_next_online_cpu(cpu) };
    core::iter::successors(Some(next(-1)), move |&cpu| Some(next(cpu)))
        .take_while(|&cpu| cpu < kernel::cpu::nr_cpu_ids() as i32)
}

/// Whether this runs in NMI.
pub(crate) fn in_nmi() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_bench_in_nmi() }
}

/// Whether this runs in a hard interrupt.
pub(crate) fn in_hardirq() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_bench_in_hardirq() }
}

/// Lets others run.
///
/// # Context
///
/// May sleep.
pub(crate) fn cond_resched() {
    // SAFETY: In process context.
    unsafe { sys::rcu_ptr_bench_cond_resched() };
}

/// Sleeps.
///
/// # Context
///
/// May sleep.
pub(crate) fn sleep(msecs: u32) {
    // SAFETY: In process context.
    unsafe { sys::rcu_ptr_bench_sleep(msecs) };
}

/// Calls `f` with interrupts off.
pub(crate) fn without_irqs<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Paired with the restore below.
    let flags = unsafe { sys::rcu_ptr_bench_irq_save() };
    let ret = f();
    // SAFETY: `flags` is what the save gave.
    unsafe { sys::rcu_ptr_bench_irq_restore(flags) };
    ret
}

/// What an interrupt handler calls, and with what.
struct Call {
    function: Atomic<*mut c_void>,
    argument: Atomic<*mut c_void>,
    done: Atomic<u64>,
}

impl Call {
    const fn new() -> Self {
        Self {
            function: Atomic::new(ptr::null_mut()),
            argument: Atomic::new(ptr::null_mut()),
            done: Atomic::new(0),
        }
    }

    fn set<F: FnMut()>(&self, f: &mut F) {
        self.argument.store(ptr::from_mut(f).cast(), Relaxed);
        // ORDERING: Release pairs with the acquire in `run()`: the argument is there first.
        self.function.store(call::<F> as *mut c_void, Release);
    }

    fn clear(&self) {
        self.function.store(ptr::null_mut(), Relaxed);
    }

    /// `false`: nothing to call.
    fn run(&self) -> bool {
        // ORDERING: Acquire pairs with the release in `set()`.
        let function = self.function.load(Acquire);
        if function.is_null() {
            return false;
        }
        // SAFETY: `set()` stored a function of this type, and its argument before it; its setter
        // waits for the handler before the argument goes.
        unsafe {
            let function: unsafe fn(*mut c_void) = core::mem::transmute(function);
            function(self.argument.load(Relaxed));
        }
        // ORDERING: Release pairs with the acquire of the waiter: it sees what the function did.
        self.done.store(self.done.load(Relaxed) + 1, Release);
        true
    }
}

/// # Safety
///
/// `argument` is a live `F` that is not shared during the call.
unsafe fn call<F: FnMut()>(argument: *mut c_void) {
    // SAFETY: By the safety requirements of this function.
    unsafe { (*argument.cast::<F>())() };
}

/// A turn of a loop that waits for an interrupt of this CPU. Not cpu_relax(): under -icount QEMU is
/// thousands of times slower at that, and time is what instructions are executed.
#[inline(always)]
pub(crate) fn spin() {
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

static IN_TIMER: Call = Call::new();
static IN_NMI: Call = Call::new();

/// # Safety
///
/// Called by the timer of [`in_hard_interrupt()`] only.
unsafe extern "C" fn timer_entry(_timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
    IN_TIMER.run();
    bindings::hrtimer_restart::HRTIMER_NORESTART
}

struct Timer(Opaque<bindings::hrtimer>);

// SAFETY: Only [`in_hard_interrupt()`] uses it, one caller at a time.
unsafe impl Sync for Timer {}

static TIMER: Timer = Timer(Opaque::uninit());

/// Calls `f` in a hard interrupt of this CPU, and returns when it has run. One caller at a time.
///
/// # Context
///
/// Process context, bound to a CPU.
pub(crate) fn in_hard_interrupt<F: FnMut()>(f: &mut F) {
    let timer = &TIMER.0;
    let mode = bindings::hrtimer_mode_HRTIMER_MODE_REL_PINNED_HARD;
    let before = IN_TIMER.done.load(Relaxed);
    IN_TIMER.set(f);
    // SAFETY: `timer` is static and idle: one caller at a time, and each cancels it below.
    unsafe {
        bindings::hrtimer_setup(
            timer.get(),
            Some(timer_entry),
            bindings::CLOCK_MONOTONIC as c_int,
            mode,
        );
        bindings::hrtimer_start_range_ns(timer.get(), 1000, 0, mode);
    }
    // ORDERING: Acquire pairs with the release in `Call::run()`.
    while IN_TIMER.done.load(Acquire) == before {
        spin();
    }
    // SAFETY: `timer` is initialised.
    unsafe { bindings::hrtimer_cancel(timer.get()) };
    IN_TIMER.clear();
}

/// Sends NMIs to this CPU, as long as it lives.
pub(crate) struct NmiSource(());

impl NmiSource {
    /// Whether this machine has it.
    pub(crate) fn exists() -> bool {
        // SAFETY: No requirements.
        unsafe { sys::rcu_ptr_bench_has_nmi() }
    }

    /// Registers the handler.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// Where there are no NMIs that a module can send.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The handler stays until `drop()`.
        kernel::error::to_result(unsafe { sys::rcu_ptr_bench_nmi_register() })?;
        Ok(Self(()))
    }

    /// Calls `f` in an NMI of this CPU, and returns when it has run. One caller at a time.
    ///
    /// # Context
    ///
    /// Bound to a CPU.
    pub(crate) fn call<F: FnMut()>(&self, f: &mut F) {
        let before = IN_NMI.done.load(Relaxed);
        IN_NMI.set(f);
        // SAFETY: This CPU is online.
        unsafe { sys::rcu_ptr_bench_nmi_send(this_cpu()) };
        // ORDERING: Acquire pairs with the release in `Call::run()`.
        while IN_NMI.done.load(Acquire) == before {
            spin();
        }
        IN_NMI.clear();
    }
}

impl Drop for NmiSource {
    fn drop(&mut self) {
        // SAFETY: `new()` has registered it.
        unsafe { sys::rcu_ptr_bench_nmi_unregister() };
    }
}

/// 1 (NMI_HANDLED) when the NMI was ours.
#[no_mangle]
extern "C" fn rcu_ptr_bench_rs_nmi() -> c_int {
    c_int::from(IN_NMI.run())
}
