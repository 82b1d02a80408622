// SPDX-License-Identifier: GPL-2.0

//! The monitor of each CPU: it takes idle sheaves off the CPU, so that neither waiting nor free
//! objects are stranded there. arm.rs decides when it runs. Also handles CPU hotplug.

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
        context,
        hotplug::Callbacks,
        irq::{self, IrqsOff},
        pinned_timer::jiffies,
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

// Takes no reference to the caller's stack, to allow a tail call.
#[cold]
#[inline(never)]
fn queue_irq_work(cache: &Cache) {
    let pin = PreemptOff::new();
    let here = Here::new(cache, &pin);
    here.pcs().irq_work.queue(&IrqsOff::save());
}

/// The irq_work of a CPU, run by the next tick: it starts the grace period of closed sheaves, and
/// queues the monitor and the refill.
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
        // On a CPU that is going down, whose last irq_works run late, the hotplug callback takes
        // everything.
        if !context::is_dying(self.cpu) && Armed(here.armed()).set_armed() {
            here.pcs()
                .monitor
                .queue_on(self.cpu, &sheaves.wq, params::drain_jiffies());
        }
        if self.cache.wants_refill.load(Relaxed) {
            // Do not wait for a delayed retry.
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
            // The CPU is going down, or has been up again since. Move the work there if the CPU is
            // online, which it stays while preemption is disabled; otherwise retry, until
            // [`SheafHotplug::dead()`] cancels the work.
            if context::is_online(self.cpu) {
                pcs.monitor.queue_on(self.cpu, wq, 1);
            } else {
                pcs.monitor.queue(wq, 1);
            }
            return;
        }
        // SAFETY: A task of this CPU outside of operations, with preemption disabled.
        let quiescent = unsafe { Quiescent::assume() };
        let request = pcs.request.xchg(0, Full);
        let for_reclaim = request == shrink::FLUSH;
        let mut run = MonitorRun {
            here,
            quiescent,
            request,
            was_closed: false,
            interval: params::drain_jiffies(),
            rests: [const { None }; 3],
            objects: [ptr::null_mut(); REUSE],
            reusable: 0,
            spent: SheafChain::new(),
        };
        arm::run(&mut run);
        let MonitorRun {
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
        // SAFETY: They were taken while this CPU was quiescent, and have no objects.
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

/// One run of the monitor, and what it has taken off its CPU.
struct MonitorRun<'a> {
    here: Here<'a>,
    quiescent: Quiescent,
    /// The request that it serves: 0 or a constant of shrink.rs.
    request: u32,
    /// Whether the rcu sheaf was closed.
    was_closed: bool,
    interval: c_ulong,
    rests: [Option<Rest>; 3],
    /// From reuse slots.
    objects: [*mut u8; REUSE],
    reusable: usize,
    spent: SheafChain,
}

impl MonitorRun<'_> {
    /// Jiffies until what was installed at `since` has been there for a drain interval.
    fn left(&self, since: &Atomic<u64>) -> usize {
        if self.request == shrink::FLUSH {
            return 0;
        }
        // An interrupt may have stored a later time.
        let here_for = ((jiffies() as u64).wrapping_sub(since.load(Relaxed)) as i64).max(0);
        self.interval.saturating_sub(here_for as c_ulong)
    }
}

impl<'a> Monitored for MonitorRun<'a> {
    type Word = Mine<'a>;

    fn armed(&self) -> Armed<Mine<'a>> {
        Armed(self.here.armed())
    }

    fn close(&mut self) -> usize {
        let here = self.here;
        let words = here.words();
        let mut chain = words.closed.take();
        let left = match self.request {
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
        // Preemption is disabled, so the CPU stays online.
        pcs.monitor.modify_on(pcs.cpu, wq, delay);
        // ORDERING: Pairs with `request_flush()` and `request_close()` of shrink.rs, and with
        // `update_drain_interval()`: a request is visible here, or requeues the work afterwards.
        if pcs.request.load(Relaxed) != 0 || params::drain_jiffies() != self.interval {
            pcs.monitor.modify_on(pcs.cpu, wq, 0);
        }
    }
}

impl Sheaves {
    /// Applies a new drain interval to armed monitors, and to reapers if it is shorter.
    ///
    /// # Context
    ///
    /// Process context, interrupts on; may sleep.
    pub(crate) fn update_drain_interval(&self) {
        for cache in self.each(|_| true) {
            for pcs in cache.pcs.iter() {
                if pcs.armed.load(Relaxed) != arm::IDLE as u64 {
                    // The monitor computes what is left. If the CPU is going down its hotplug
                    // callback takes everything.
                    irq::call_on(pcs.cpu, pcs.get_ref(), |pcs, _| {
                        pcs.monitor.modify_on(pcs.cpu, &Self::get().wq, 0);
                    });
                }
            }
            if cache.reaping.load(Relaxed) {
                cache.reap_due.bring_forward(&*cache);
            }
        }
    }
}

/// CPU hotplug, for all caches: [`Self::dead()`] takes everything off a dead CPU.
///
/// | left on the dead CPU | goes to | when |
/// |---|---|---|
/// | rcu sheaf, closed sheaves | the barn, after a grace period | `dead()` starts that |
/// | allocation sheaf, spares, spent sheaves | the barn of the CPU's node | in `dead()` |
/// | objects in reuse slots | the slab | in `dead()` |
/// | strays | a batch, if the irq_work did not run | in `dead()` |
/// | sheaves that wait for a grace period | their callbacks, on another CPU | when it ends |
/// | an irq_work that could not be queued | `online()` queues it | when the CPU is back |
pub(crate) struct SheafHotplug;

impl Callbacks for SheafHotplug {
    fn prepare(_cpu: i32) {}

    fn online(cpu: i32) {
        for cache in Sheaves::get().each(|_| true) {
            cache.pcs.of(cpu).irq_work.queue_if_due();
        }
    }

    fn dead(cpu: i32) {
        for cache in Sheaves::get().each(|_| true) {
            let pcs = cache.pcs.of(cpu);
            // It may have been moved to another CPU, where it does nothing.
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

/// Takes everything off a CPU that is dead or no longer uses the cache. Returns the sheaves that
/// wait for a grace period.
///
/// # Context
///
/// May sleep.
pub(super) fn take_off(cache: &Cache, pcs: &Pcs) -> SheafChain {
    // SAFETY: No context of the CPU uses the cache.
    let quiescent = unsafe { Quiescent::assume() };
    let words = pcs.quiet();
    let waiting = exchange::close_all(
        &words,
        || cache.count(pcs.cpu),
        |stamp| cache.uncount_and_wake(Some(stamp)),
    );
    // SAFETY: As above, and they have no objects.
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
    // Requests to the monitor are fulfilled, for this CPU.
    pcs.armed.store(arm::IDLE as u64, Relaxed);
    pcs.request.store(0, Relaxed);
    waiting
}
