// SPDX-License-Identifier: GPL-2.0

//! NMIs that a CPU sends to itself, to run code in them. And what frees in NMI cause: interrupts that the CPU
//! sends to itself, and irq_works. One object per NMI, with interrupts on in between, as profiling and tracing
//! do it.

use crate::{
    run::{self, Per},
    sys::{
        counters, cpu,
        nmi::{self, Receiver},
        params,
        perf::{Breakpoint, Hook, Kind},
        thread,
    },
    way::Objects,
    Numbers,
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};

/// What the next NMI calls, and how many have called something.
static FUNCTION: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());
static DONE: Atomic<u64> = Atomic::new(0);

fn in_nmi() {
    // ORDERING: Acquire pairs with the release in `call()`.
    let function = FUNCTION.load(Acquire).cast::<&mut dyn FnMut()>();
    if function.is_null() {
        return;
    }
    // SAFETY: `call()` waits for the end of this call, and uses the function for nothing else.
    unsafe { (*function)() };
    // ORDERING: Release pairs with the acquire in `call()`.
    DONE.store(DONE.load(Relaxed) + 1, Release);
}

/// Sends NMIs to this CPU, as long as it lives.
pub(crate) struct NmiSource(Receiver<'static>);

static HOOK: Hook<'static> = Hook::new(&in_nmi);

impl NmiSource {
    /// Registers the handler; a machine without NMIs that can be sent has its reason in the log.
    pub(crate) fn new() -> Result<Option<Self>> {
        if !nmi::CAN {
            pr_info!("note text=no NMIs can be sent here: nothing is measured in NMI\n");
            return Ok(None);
        }
        Receiver::new(&HOOK).map(|receiver| Some(Self(receiver)))
    }

    /// Calls `f` in an NMI of this CPU, and returns when it has run. One caller at a time.
    ///
    /// # Context
    ///
    /// Bound to a CPU.
    ///
    /// # Errors
    ///
    /// `EIO` if that was no NMI.
    pub(crate) fn call(&self, mut f: impl FnMut()) -> Result {
        let mut context = None;
        let mut call = || {
            context = Some(cpu::context());
            f();
        };
        let mut call: &mut dyn FnMut() = &mut call;
        let before = DONE.load(Relaxed);
        // ORDERING: Release pairs with the acquire in `in_nmi()`.
        FUNCTION.store((&raw mut call).cast(), Release);
        self.0.send(cpu::this());
        // Not cpu_relax(): under -icount QEMU is thousands of times slower at that.
        // ORDERING: Acquire pairs with the release in `in_nmi()`: what the function did is seen.
        while DONE.load(Acquire) == before {
            core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        }
        FUNCTION.store(ptr::null_mut(), Relaxed);
        (context == Some(cpu::Context::Nmi))
            .then_some(())
            .ok_or(EIO)
    }
}

/// Objects allocated at once.
const CHUNK: usize = 1000;

/// `test=nmi`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let Some(nmi) = NmiSource::new()? else {
        return Ok(());
    };
    run::for_each_way(|name, source, way| {
        if !way.in_nmi {
            return Ok(());
        }
        // NMIs turn breakpoints off: calls in them don't count.
        let hits = Atomic::<u64>::new(0);
        let hit = || hits.add(1, Relaxed);
        let hook = Hook::new(&hit);
        let mut breakpoints = KVec::new();
        for address in params::irq_works() {
            // Where the kernel has no kprobes it allows no breakpoints in its text.
            if let Ok(breakpoint) = Breakpoint::new(Kind::Execute, address, &hook) {
                breakpoints.push(breakpoint, GFP_KERNEL)?;
            }
        }
        let ipis = || -> u64 { cpu::online().map(counters::irq_work_ipis).sum() };
        let before = ipis();
        let (mut refused, mut freed) = (0, 0);
        while freed < numbers.objects {
            let mut objects = Objects::new(source, CHUNK.min(numbers.objects - freed))?;
            while !objects.is_done() {
                run::inside(Some(&nmi), || objects.free(way, 1))?;
            }
            freed += objects.len();
            refused += objects.refused();
            thread::cond_resched();
        }
        let per_1000 = |n: u64| Per(n as i64 * 1000, freed);
        pr_info!(
            "nmi {} object={} count={} refused={} ipis_per_1000={} irq_works_per_1000={} \
             irq_works_counted={}\n",
            way,
            name,
            freed,
            refused,
            per_1000(ipis() - before),
            per_1000(hits.load(Relaxed)),
            u8::from(!breakpoints.is_empty())
        );
        drop(breakpoints);
        way.settle();
        Ok(())
    })
}
