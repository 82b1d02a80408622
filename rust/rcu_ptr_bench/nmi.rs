// SPDX-License-Identifier: GPL-2.0

//! Running code in NMIs that a CPU sends to itself; and the self-IPIs and irq_works that frees in
//! NMI cause, with one object per NMI and interrupts on in between, as in profiling and tracing.

use crate::{
    bench_fn::BenchObjects,
    run::{self, Per},
    sys::{
        counters, cpu,
        nmi::{self, Receiver},
        params,
        perf::{Breakpoint, Hook, Kind},
        thread,
    },
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};

/// The function to call in the next NMI.
static FUNCTION: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());
/// The number of calls that have returned.
static DONE: Atomic<u64> = Atomic::new(0);

fn in_nmi() {
    // ORDERING: Acquire pairs with the release in `call()`.
    let function = FUNCTION.load(Acquire).cast::<&mut dyn FnMut()>();
    if function.is_null() {
        return;
    }
    // SAFETY: `call()` waits until this has returned, and does not use the function meanwhile.
    unsafe { (*function)() };
    // ORDERING: Release pairs with the acquire in `call()`.
    DONE.store(DONE.load(Relaxed) + 1, Release);
}

/// A registered handler, and a sender of NMIs to this CPU.
pub(crate) struct NmiSource(Receiver<'static>);

static HOOK: Hook<'static> = Hook::new(&in_nmi);

impl NmiSource {
    /// Registers the handler. Without NMIs that can be sent, logs that and returns `None`.
    pub(crate) fn new() -> Result<Option<Self>> {
        if !nmi::CAN {
            pr_info!("note text=no NMIs can be sent here: nothing is measured in NMI\n");
            return Ok(None);
        }
        Receiver::new(&HOOK).map(|receiver| Some(Self(receiver)))
    }

    /// Calls `f` in an NMI on this CPU, and returns when it has run. One caller at a time.
    ///
    /// # Context
    ///
    /// Bound to a CPU.
    ///
    /// # Errors
    ///
    /// `EIO` if the handler ran in another context.
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
        // Not cpu_relax(), which is thousands of times slower under -icount.
        // ORDERING: Acquire pairs with the release in `in_nmi()`: the effects of the function are
        // visible.
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
pub(crate) fn run() -> Result {
    let Some(nmi) = NmiSource::new()? else {
        return Ok(());
    };
    run::for_each_function(|name, source, function| {
        if !function.in_nmi {
            return Ok(());
        }
        // Breakpoints are off in NMIs, so calls there don't count.
        let hits = Atomic::<u64>::new(0);
        let hit = || hits.add(1, Relaxed);
        let hook = Hook::new(&hit);
        let mut breakpoints = KVec::new();
        for address in params::irq_works() {
            // A kernel without kprobes allows no breakpoints in its text.
            if let Ok(breakpoint) = Breakpoint::new(Kind::Execute, address, &hook) {
                breakpoints.push(breakpoint, GFP_KERNEL)?;
            }
        }
        let ipis = || -> u64 { cpu::online().map(counters::irq_work_ipis).sum() };
        let before = ipis();
        let (mut refused, mut freed) = (0, 0);
        while freed < crate::objects() {
            let mut objects = BenchObjects::new(source, CHUNK.min(crate::objects() - freed))?;
            while !objects.is_done() {
                run::in_context(Some(&nmi), || objects.free(function, 1))?;
            }
            freed += objects.len();
            refused += objects.refused();
            thread::cond_resched();
        }
        let per_1000 = |n: u64| Per(n as i64 * 1000, freed);
        pr_info!(
            "nmi {} object={} count={} refused={} ipis_per_1000={} irq_works_per_1000={} \
             irq_works_counted={}\n",
            function,
            name,
            freed,
            refused,
            per_1000(ipis() - before),
            per_1000(hits.load(Relaxed)),
            u8::from(!breakpoints.is_empty())
        );
        drop(breakpoints);
        function.settle();
        Ok(())
    })
}
