// SPDX-License-Identifier: GPL-2.0

//! The contexts that code is run in: a hard hrtimer, an NMI to this CPU.

use crate::sys::{
    cpu,
    nmi::{self, Receiver},
    perf::Hook,
    timer::{Timer, Where},
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};

/// What an interrupt handler calls.
struct Call {
    function: Atomic<*mut c_void>,
    done: Atomic<u64>,
}

impl Call {
    const fn new() -> Self {
        Self {
            function: Atomic::new(ptr::null_mut()),
            done: Atomic::new(0),
        }
    }

    /// Calls `f` in the interrupt that `raise` makes come, and returns when it has run. One caller at a time.
    fn during(&self, f: &mut dyn FnMut(), raise: impl FnOnce()) {
        let before = self.done.load(Relaxed);
        let mut f = f;
        // ORDERING: Release pairs with the acquire in `run()`.
        self.function.store((&raw mut f).cast(), Release);
        raise();
        // ORDERING: Acquire pairs with the release in `run()`: what the function did is seen.
        while self.done.load(Acquire) == before {
            spin();
        }
        self.function.store(ptr::null_mut(), Relaxed);
    }

    fn run(&self) {
        // ORDERING: Acquire pairs with the release in `during()`.
        let function = self.function.load(Acquire).cast::<&mut dyn FnMut()>();
        if function.is_null() {
            return;
        }
        // SAFETY: `during()` waits for the end of this call, and uses the function for nothing else.
        unsafe { (*function)() };
        // ORDERING: Release pairs with the acquire in `during()`.
        self.done.store(self.done.load(Relaxed) + 1, Release);
    }
}

/// A turn of a loop that waits for an interrupt of this CPU. Not cpu_relax(): under -icount QEMU is
/// thousands of times slower at that, and time is what instructions are executed.
#[inline(always)]
pub(crate) fn spin() {
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

static IN_TIMER: Call = Call::new();
static IN_NMI: Call = Call::new();

fn in_timer() -> u64 {
    IN_TIMER.run();
    0
}

fn in_nmi() {
    IN_NMI.run();
}

/// Hard interrupts of this CPU.
pub(crate) struct HardInterrupts(Pin<KBox<Timer<'static>>>);

impl HardInterrupts {
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Timer::new(Where::Hardirq, &in_timer).map(Self)
    }

    /// Calls `f` in a hard interrupt, and returns when it has run. One caller at a time.
    ///
    /// # Context
    ///
    /// Process context, bound to a CPU.
    pub(crate) fn call(&self, f: &mut dyn FnMut()) {
        IN_TIMER.during(f, || {
            self.0.cancel();
            self.0.start(1000);
        });
    }
}

/// Sends NMIs to this CPU, as long as it lives.
pub(crate) struct NmiSource(Receiver<'static>);

static HOOK: Hook<'static> = Hook::new(&in_nmi);

impl NmiSource {
    /// Whether this machine has it.
    pub(crate) fn exists() -> bool {
        nmi::CAN
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
        Receiver::new(&HOOK).map(Self)
    }

    /// Calls `f` in an NMI of this CPU, and returns when it has run. One caller at a time.
    ///
    /// # Context
    ///
    /// Bound to a CPU.
    pub(crate) fn call(&self, f: &mut dyn FnMut()) {
        IN_NMI.during(f, || self.0.send(cpu::this()));
    }
}
