// SPDX-License-Identifier: GPL-2.0

//! The monitor of each CPU: a sheaf that no longer moves is taken off it, so that neither waiting
//! objects nor free ones are stranded on an idle CPU. And what becomes of those of a dead one.
//! When it runs: arm.rs.

use super::{
    arm::{self, Armed, Monitored},
    cache::{Cache, CacheRef},
    cursor::Quiescent,
    exchange::{self, REUSE},
    fastpath::FastPath,
    pcs::{Here, Pcs, PcsCounter},
    reclaim,
    sheaf::{Rest, SheafChain},
    shrink, Sheaves,
};
use crate::{
    params,
    sync::Mine,
    sys::{
        context, gp,
        hotplug::Callbacks,
        irq::{self, IrqsOff},
        preempt::PreemptOff,
        trace,
        work::Handler,
    },
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};

impl Here<'_> {
    /// Queues the irq_work, for what can't be done in this context.
    #[inline(always)]
    pub(super) fn queue_irq_work(self) {
        queue_irq_work(self.cache);
    }

    /// Arms the monitor unless it is armed.
    #[inline(always)]
    pub(super) fn arm(self) {
        if Armed(self.armed()).arm() {
            self.queue_irq_work();
        }
    }
}

// Gets nothing that is on its caller's stack, so that callers may end in a jump.
#[cold]
#[inline(never)]
fn queue_irq_work(cache: &Cache) {
    let pin = PreemptOff::new();
    let here = Here::new(cache, &pin);
    here.pcs().irq_work.queue(&IrqsOff::save());
}

/// The irq_work of the next tick: closed sheaves get their grace period, the monitor its timer, the refill its worker.
pub(super) struct CacheIrqWork {
    pub(super) cache: CacheRef,
    pub(super) cpu: i32,
}

impl Handler for CacheIrqWork {
    fn run(&self) {
        let pin = PreemptOff::new();
        if context::this_cpu(&pin) != self.cpu {
            // The CPU went down, and its hotplug callback has taken everything.
            return;
        }
        let here = Here::new(&self.cache, &pin);
        let words = here.words();
        reclaim::start_grace_period(here, exchange::take_waiting(&words));
        self.cache.start_batches();
        let sheaves = Sheaves::get();
        // On a CPU that is going down, whose last irq_works run late, the hotplug callback takes everything.
        if !context::is_going(self.cpu) && Armed(here.armed()).set_armed() {
            here.pcs()
                .monitor
                .queue_on(self.cpu, &sheaves.wq, params::drain_jiffies());
        }
        if self.cache.wants_refill.load(Relaxed) {
            // One that waits to try again is not waited for.
            self.cache.refill.queue_now(&sheaves.refill_wq);
        }
    }
}

/// The monitor's work item.
pub(super) struct CacheMonitorWork {
    pub(super) cache: CacheRef,
    pub(super) cpu: i32,
}

impl Handler for CacheMonitorWork {
    fn run(&self) {
        let wq = &Sheaves::get().wq;
        let pin = PreemptOff::new();
        let here = Here::new(&self.cache, &pin);
        let pcs = self.cache.pcs.of(self.cpu);
        if context::this_cpu(&pin) != self.cpu {
            // The CPU is on its way down, or has been up again since: there, or never, when
            // `hotplug` has taken it all.
            // Preemption is off still: a CPU that is up stays so.
            if context::is_online(self.cpu) {
                pcs.monitor.queue_on(self.cpu, wq, 1);
            } else {
                pcs.monitor.queue(wq, 1);
            }
            return;
        }
        // SAFETY: A task of this CPU that is in no operation itself, with preemption disabled.
        let quiescent = unsafe { Quiescent::assume() };
        let asked = pcs.request.xchg(0, Full);
        let for_reclaim = asked == shrink::FLUSH;
        let mut run = Run {
            here,
            quiescent,
            asked,
            was_closed: false,
            interval: params::drain_jiffies(),
            rests: [const { None }; 3],
            objects: [ptr::null_mut(); REUSE],
            reusable: 0,
            spent: SheafChain::new(),
        };
        arm::run(&mut run);
        let Run {
            was_closed,
            rests,
            mut objects,
            reusable,
            spent,
            ..
        } = run;
        drop(pin);
        let stock = rests.iter().flatten().count();
        if was_closed || stock > 0 {
            trace::sheaf_drain(&self.cache.name, self.cpu, was_closed.into(), stock);
        }

        rests
            .into_iter()
            .flatten()
            .for_each(|rest| self.cache.put_rest(pcs.node(), rest));
        // SAFETY: They were taken where this CPU was undisturbed, and no object waits in them.
        unsafe { reclaim::put_chain(&self.cache, pcs.node(), spent) };
        if reusable > 0 {
            self.cache.free_to_slab(&mut objects[..reusable]);
        }
        if for_reclaim {
            shrink::request_barn_flush(&self.cache);
        }
        shrink::check_limits(&self.cache, pcs.node());
    }
}

/// A run of the monitor, and what it has taken off its CPU.
struct Run<'a> {
    here: Here<'a>,
    quiescent: Quiescent,
    /// What it was asked to do at once.
    asked: u32,
    /// The rcu sheaf was closed.
    was_closed: bool,
    interval: c_ulong,
    rests: [Option<Rest>; 3],
    /// Of reuse slots.
    objects: [*mut u8; REUSE],
    reusable: usize,
    spent: SheafChain,
}

impl Run<'_> {
    /// Jiffies until what came at `since` has been here for a drain interval.
    fn left(&self, since: &Atomic<u64>) -> usize {
        if self.asked == shrink::FLUSH {
            return 0;
        }
        // Interrupts may have written a later time.
        let here_for = (gp::jiffies().wrapping_sub(since.load(Relaxed)) as i64).max(0);
        self.interval.saturating_sub(here_for as c_ulong)
    }
}

impl<'a> Monitored for Run<'a> {
    type Word = Mine<'a>;

    fn armed(&self) -> Armed<Mine<'a>> {
        Armed(self.here.armed())
    }

    fn close(&mut self) -> usize {
        let here = self.here;
        let words = here.words();
        let mut chain = words.closed.take();
        let left = match self.asked {
            shrink::CLOSE => 0,
            _ => self.left(&here.pcs().rcu_since),
        };
        if left == 0 {
            match exchange::close_partial(&words, here.cache.count(here.pcs().cpu)) {
                Ok(sheaf) => {
                    chain.push(sheaf);
                    self.was_closed = true;
                }
                Err(stamp) => _ = here.cache.uncount(stamp),
            }
        }
        reclaim::start_grace_period(here, chain);
        if words.rcu.is_installed() {
            left
        } else {
            0
        }
    }

    fn take_stock(&mut self) -> usize {
        let left = self.left(&self.here.pcs().stock_since);
        if left == 0 {
            let words = self.here.words();
            self.spent = words.spent.take();
            self.rests = exchange::take_stock(&words, &self.quiescent);
            for i in 0..REUSE {
                if let Some(object) = self.here.reuse(i).take() {
                    self.objects[self.reusable] = ptr::with_exposed_provenance_mut(object);
                    self.reusable += 1;
                }
            }
        }
        left
    }

    fn queue(&self, delay: usize) {
        let (pcs, wq) = (self.here.pcs(), &Sheaves::get().wq);
        // With preemption disabled, so that the CPU is up.
        pcs.monitor.modify_on(pcs.cpu, wq, delay);
        // ORDERING: Whoever asks for a run sets the word, or the interval, and then changes the work item: after
        // this, or seen here.
        if pcs.request.load(Relaxed) != 0 || params::drain_jiffies() != self.interval {
            pcs.monitor.modify_on(pcs.cpu, wq, 0);
        }
    }
}

impl Sheaves {
    /// Applies a drain interval that was set just now to what is there already.
    ///
    /// # Context
    ///
    /// Process context, interrupts on; may sleep.
    pub(crate) fn update_drain_interval(&self) {
        for cache in self.each(|_| true) {
            for pcs in cache.pcs.iter() {
                if pcs.armed.load(Relaxed) != arm::IDLE as u64 {
                    // The monitor looks how long is left. Where the CPU is going down its hotplug callback takes all.
                    irq::call_on(pcs.cpu, pcs.get_ref(), |pcs, _| {
                        pcs.monitor.modify_on(pcs.cpu, &Self::get().wq, 0);
                    });
                }
            }
            if cache.reaping.load(Relaxed) {
                shrink::bring_reaper_forward(&cache);
            }
        }
    }
}

/// CPU hotplug, for all caches: [`Self::dead()`] takes everything off a dead CPU.
///
/// | what is left when the CPU is dead | where it goes | when |
/// |---|---|---|
/// | rcu sheaf, closed sheaves | `dead()`: they begin to wait, then go to the barn | a grace period after it is dead |
/// | allocation sheaf, spares, emptied sheaves | to the barn of the CPU's node | once it is dead |
/// | objects in reuse slots | to the slab | once it is dead |
/// | objects without a sheaf | `dead()`: they begin to wait, if the irq_work did not run | once it is dead |
/// | sheaves that wait for a grace period | their callbacks run on another CPU | after their grace period |
/// | an irq_work that could not be queued on the way down | `online()` queues it | when the CPU is back |
pub(crate) struct SheafHotplug;

impl Callbacks for SheafHotplug {
    fn prepare(_cpu: i32) {}

    fn online(cpu: i32) {
        for cache in Sheaves::get().each(|_| true) {
            cache.pcs.of(cpu).irq_work.make_up();
        }
    }

    fn dead(cpu: i32) {
        for cache in Sheaves::get().each(|_| true) {
            let pcs = cache.pcs.of(cpu);
            // It may have moved to another CPU, where it does nothing.
            pcs.monitor.cancel_sync();
            let chain = take_off(&cache, &pcs);
            pcs.add(PcsCounter::Waited, chain.len());
            reclaim::call(&cache, cpu, pcs.node(), chain);
            cache.start_batches();
            if cache.wants_refill.load(Relaxed) {
                cache.refill.queue_now(&Sheaves::get().refill_wq);
            }
            shrink::check_limits(&cache, pcs.node());
        }
    }
}

/// Takes everything off a CPU that runs nothing any more, but what waits for a grace period: that is
/// returned.
///
/// # Context
///
/// May sleep.
pub(super) fn take_off(cache: &Cache, pcs: &Pcs) -> SheafChain {
    // SAFETY: Nothing runs on the CPU.
    let quiescent = unsafe { Quiescent::assume() };
    let words = pcs.quiet();
    let waiting = exchange::close_all(
        &words,
        || cache.count(pcs.cpu),
        |stamp| cache.uncount_and_wake(Some(stamp)),
    );
    // SAFETY: Nothing runs on the CPU, and no object waits in them.
    unsafe { reclaim::put_chain(cache, pcs.node(), words.spent.take()) };
    for rest in exchange::take_stock(&words, &quiescent) {
        rest.into_iter()
            .for_each(|rest| cache.put_rest(pcs.node(), rest));
    }
    for slot in pcs.quiet_reuse() {
        if let Some(object) = slot.take() {
            cache.free_to_slab(&mut [ptr::with_exposed_provenance_mut(object)]);
        }
    }
    // What the monitor was asked for is done, as far as it concerns this CPU.
    pcs.armed.store(arm::IDLE as u64, Relaxed);
    pcs.request.store(0, Relaxed);
    waiting
}
