// SPDX-License-Identifier: GPL-2.0

//! After the grace period: closed sheaves become full ones of the barn (`rcu_free_sheaf()`).
//!
//! A callback processes a few sheaves. It leaves the rest of its chain, and objects of other nodes,
//! to the worker. Chains are passed on whole, so that no step takes longer if more sheaves wait.
//!
//! # Context
//!
//! Functions that lock, wake or free: softirq or task with no raw spinlock held, unless stated
//! otherwise.

use super::{
    barrier,
    cache::{Cache, CacheRef},
    double::Marks,
    geometry::SLOTS,
    pcs::{Here, PcsCounter},
    sheaf::{Closed, EmptySheaf, FullSheaf, Rest, SheafChain, Stack},
    shrink, Sheaves,
};
use crate::sys::{
    context,
    gp::{self, Callback, RcuHead},
    irq::IrqsOff,
    node,
    preempt::PreemptOff,
    slab, trace,
    work::Handler,
};
use core::{
    cell::UnsafeCell,
    ptr::{self, with_exposed_provenance_mut, NonNull},
};
use kernel::{
    prelude::*,
    sync::{atomic::Full, barrier::smp_mb},
};

/// Maximum number of sheaves processed by one callback.
const CALLBACK_SHEAVES: usize = 16;
/// Maximum number of these with objects, each of which is checked.
const CALLBACK_FULL: usize = 2;
/// Sheaves that the worker processes between two calls of cond_resched().
const WORKER_SHEAVES: usize = 16;

/// Has `chain`, of this CPU, wait for a grace period: it starts here, by call_rcu_hurry(). Spent
/// sheaves wait for contexts with preemption disabled only, objects for readers of an SRCU domain
/// too.
///
/// # Context
///
/// Any but NMI, called from code that had interrupts on.
pub(super) fn start_grace_period(here: Here<'_>, chain: SheafChain) {
    if !chain.is_empty() {
        here.add(PcsCounter::Waited, chain.len());
        let pcs = here.pcs();
        call(here.cache, pcs.cpu, pcs.node(), chain);
    }
}

/// As [`start_grace_period()`], for `cpu`, which may be dead.
pub(super) fn call(cache: &Cache, cpu: i32, node: usize, mut chain: SheafChain) {
    let count = (chain.len(), chain.nr_full());
    if cache.srcu.is_some() && chain.nr_full() > 0 {
        trace::sheaf_wait(&cache.name, cpu, || count);
        return cache.wait_for_readers(chain);
    }
    // Spent sheaves alone are not counted. One count per chain has destroy() wait for this
    // callback.
    chain.count(|| cache.count(cpu));
    if let Some(head) = chain.into_rcu_head(node) {
        trace::sheaf_wait(&cache.name, cpu, || count);
        // SAFETY: The `rcu_head` of a closed sheaf is its owner's; the callback owns the chain
        // from here on.
        unsafe { gp::call::<SheafCallback>(head) };
    }
}

/// The RCU callback of a chain.
struct SheafCallback;

impl Callback for SheafCallback {
    unsafe fn run(head: NonNull<RcuHead>) {
        // SAFETY: `call()` passed the head once.
        let (mut chain, of) =
            unsafe { SheafChain::from_rcu_head(head.as_ptr().expose_provenance()) };
        // SAFETY: The destruction of a cache waits until nothing is counted.
        let cache: &Cache = unsafe { &*of.owner.cast() };
        let node = of.node.min(cache.nr_nodes() - 1);
        cache.running.enter();
        if cache.dtor.is_some() {
            leave_for_worker(cache, node, chain);
            return cache.callback_done();
        }
        let waited = chain.len();
        let mut checked = 0;
        let (mut transfer, mut remote) = (BarnTransfer::new(), SheafChain::new());
        let mut stamps = [const { None }; CALLBACK_SHEAVES];
        let mut full = 0;
        for entry in &mut stamps {
            if full == CALLBACK_FULL {
                break;
            }
            let Some(mut sheaf) = chain.pop() else { break };
            let stamp = sheaf.take_stamp();
            checked += 1;
            // SAFETY: A grace period has passed since all of them were closed.
            let rest = unsafe { into_rest(cache, sheaf) };
            full += usize::from(matches!(rest, Rest::Full(_)));
            match rest {
                Rest::Full(sheaf) if !is_local(cache, node, &sheaf) => {
                    let stamp = stamp.unwrap_or_else(|| cache.count(context::some_cpu()));
                    remote.push(sheaf.into_closed(stamp));
                }
                rest => {
                    transfer.add(keep_reusable(cache, rest));
                    *entry = stamp;
                }
            }
        }
        transfer.put(cache, node);
        chain.append(remote);
        Here::new(cache, &PreemptOff::new()).count_callback(waited - chain.len(), checked);
        leave_for_worker(cache, node, chain);
        for stamp in stamps.iter_mut().take(checked) {
            cache.uncount_and_wake(stamp.take());
        }
        cache.callback_done();
    }
}

/// Leaves `chain`, whose grace period is over, to the worker.
#[inline]
pub(super) fn leave_for_worker(cache: &Cache, node: usize, chain: SheafChain) {
    if !chain.is_empty() {
        add_to_backlog(cache, node, chain);
    }
}

#[inline(never)]
fn add_to_backlog(cache: &Cache, node: usize, chain: SheafChain) {
    cache.barns[node].add_backlog(chain);
    cache.queue_backlog();
}

/// Leaves `chain`, which was closed before the call, to [`process_until()`] after a grace period.
pub(super) fn leave_closed(cache: &Cache, node: usize, chain: SheafChain) {
    cache.barns[node].add_polled(chain);
    // Wake waiters for these sheaves: they have to wait for a grace period now.
    // ORDERING: What `wake()` asks for; the lock of the backlog is no full barrier.
    smp_mb(Full);
    barrier::wake();
}

/// Returns the contents of a sheaf of `cache`. Its objects are destructed if they were freed; those
/// of stock were not used.
///
/// # Context
///
/// Softirq or task; may sleep where there is a destructor.
///
/// # Safety
///
/// As for [`Closed::into_rest()`](super::sheaf::Closed::into_rest()).
unsafe fn into_rest(cache: &Cache, sheaf: Closed) -> Rest {
    let (waiting, was_freed) = (sheaf.waiting(), sheaf.holds_freed());
    // SAFETY: By the safety requirements of this function.
    let rest = unsafe { sheaf.into_rest() };
    if let Some((objects, since)) = waiting {
        cache.delays.add(since.get(), objects);
    }
    let rest = without_doubles(cache, rest);
    if was_freed && cache.dtor.is_some() {
        if let Rest::Full(sheaf) = &rest {
            sheaf
                .slots()
                .iter()
                .for_each(|slot| cache.destruct(slot.load()));
            gp::cond_resched();
        }
    }
    rest
}

/// Processes the sheaves that callbacks left.
pub(super) struct BacklogWork(pub(super) CacheRef);

impl Handler for BacklogWork {
    fn run(&self) {
        let cache = &self.0;
        process_backlog(cache);
    }
}

/// Processes sheaves and strays that were left and whose grace period is over.
///
/// # Context
///
/// May sleep. The cache is not destroyed meanwhile.
pub(super) fn process_backlog(cache: &Cache) {
    cache.process_strays();
    for (node, barn) in cache.barns.iter().enumerate() {
        let sort = |rest| send_remote(cache, node, rest);
        let count = |sheaves| {
            Here::new(cache, &PreemptOff::new()).add(PcsCounter::Done, sheaves);
        };
        // SAFETY: A grace period has passed since all of them were closed.
        unsafe { process_chain(cache, node, barn.take_backlog(), sort, count) };
        // Objects may have been sent to any node.
        for node in 0..cache.nr_nodes() {
            shrink::check_limits(cache, node);
        }
    }
}

/// Waits until `done` returns `true`. Processes what callbacks and barriers of `cache` leave
/// meanwhile: the worker may have to wait for its CPU, and a barrier for something else.
///
/// # Context
///
/// May sleep; `done` may not. The cache is not destroyed meanwhile.
pub(super) fn process_until(cache: &Cache, done: impl Fn() -> bool) {
    let has_backlog = || cache.batches.any_over() || cache.has_backlog();
    while !done() {
        process_backlog(cache);
        if cache.barns.iter().any(|barn| barn.has_polled()) {
            gp::synchronize();
            continue;
        }
        barrier::wait_until(|| done() || has_backlog());
    }
}

/// Sheaves that are to be put into one barn, in one step.
pub(super) struct BarnTransfer {
    full: Stack<FullSheaf>,
    empty: Stack<EmptySheaf>,
}

impl BarnTransfer {
    pub(super) const fn new() -> Self {
        Self {
            full: Stack::new(),
            empty: Stack::new(),
        }
    }

    pub(super) fn add(&mut self, rest: Rest) {
        match rest {
            Rest::Full(sheaf) => self.full.push(sheaf),
            Rest::Empty(sheaf) => self.empty.push(sheaf),
        }
    }

    /// Puts them into the barn of `node` under one lock: callers add a bounded number.
    pub(super) fn put(mut self, cache: &Cache, node: usize) {
        shrink::check_limits_with(cache, node, |stock| {
            while let Some(sheaf) = self.full.pop() {
                stock.put_full(sheaf);
            }
            while let Some(sheaf) = self.empty.pop() {
                stock.put_empty(sheaf);
            }
        });
    }
}

/// Puts the sheaves of `chain` into the barn of `node`.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// As for [`Closed::into_rest()`](super::sheaf::Closed::into_rest()), for all of them.
pub(super) unsafe fn put_chain(cache: &Cache, node: usize, chain: SheafChain) {
    // SAFETY: By the safety requirements of this function.
    unsafe { process_chain(cache, node, chain, |rest| rest, |_| ()) };
}

/// Puts the sheaves of `chain` into the barn of `node`, each after `sort`. Calls `count` with the
/// number of sheaves before waiters may see them uncounted.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// As for [`put_chain()`].
unsafe fn process_chain(
    cache: &Cache,
    node: usize,
    mut chain: SheafChain,
    sort: impl Fn(Rest) -> Rest,
    count: impl Fn(usize),
) {
    while !chain.is_empty() {
        let waited = chain.len();
        let mut transfer = BarnTransfer::new();
        let mut stamps = [const { None }; WORKER_SHEAVES];
        for entry in &mut stamps {
            let Some(mut sheaf) = chain.pop() else { break };
            *entry = sheaf.take_stamp();
            // SAFETY: By the safety requirements of this function.
            let rest = keep_reusable(cache, unsafe { into_rest(cache, sheaf) });
            transfer.add(sort(rest));
        }
        transfer.put(cache, node);
        count(waited - chain.len());
        stamps
            .into_iter()
            .for_each(|stamp| cache.uncount_and_wake(stamp));
        gp::cond_resched();
    }
}

/// The node of `object`'s memory.
pub(super) fn node_of(object: usize) -> Option<usize> {
    NonNull::new(with_exposed_provenance_mut(object)).map(node::of_object)
}

/// Whether all objects are of `node`.
fn is_local(cache: &Cache, node: usize, sheaf: &FullSheaf) -> bool {
    cache.nr_nodes() == 1
        || sheaf.all(|object| node_of(object).is_none_or(|owner_node| owner_node == node))
}

/// Moves objects of other nodes to the barns of these, one node after the other. Returns the rest.
///
/// # Context
///
/// May sleep.
fn send_remote(cache: &Cache, node: usize, rest: Rest) -> Rest {
    let Rest::Full(sheaf) = rest else { return rest };
    let mut sheaf = sheaf;
    for owner_node in (0..cache.nr_nodes()).filter(|&owner_node| owner_node != node) {
        if sheaf.all(|object| node_of(object) != Some(owner_node)) {
            continue;
        }
        let barn = &cache.barns[owner_node];
        // Bring an empty sheaf: when objects are allocated on one node and freed on another, empty
        // sheaves pile up on the freeing node.
        let mut spare = cache.new_sheaf(slab::GFP_ATOMIC);
        let rest = barn.with_locked(|stock| {
            if let Some(spare) = spare.take() {
                stock.put_empty(spare);
            }
            // Objects that find no sheaf stay in this barn.
            sheaf.retain(|object| {
                node_of(object) != Some(owner_node) || !stock.put_remote(object, cache.capacity())
            })
        });
        match rest {
            Rest::Full(rest) => sheaf = rest,
            empty => return empty,
        }
    }
    Rest::Full(sheaf)
}

/// The table of a CPU, to find double frees.
pub(super) struct CpuMarks(UnsafeCell<Marks>);

// SAFETY: Used on its own CPU with interrupts off, and not in NMI.
unsafe impl Sync for CpuMarks {}
// SAFETY: As above.
unsafe impl Send for CpuMarks {}

impl CpuMarks {
    pub(super) fn new() -> impl PinInit<Self, Error> {
        // SAFETY: All of it is written, and all zeroes is a valid value.
        unsafe {
            pin_init::pin_init_from_closure(|slot: *mut Self| {
                slot.write_bytes(0, 1);
                Ok(())
            })
        }
    }

    /// Returns a slot of `sheaf` whose object is in another one as well.
    fn find_double(sheaf: &FullSheaf) -> Option<usize> {
        let irqs = IrqsOff::save();
        let here = Sheaves::get().marks.this(&irqs);
        // SAFETY: With interrupts off this is the only user on this CPU, as there is none in NMI.
        let marks = unsafe { &mut *here.0.get() };
        marks.find_double(sheaf)
    }
}

/// Removes second copies of objects that were freed twice.
fn without_doubles(cache: &Cache, rest: Rest) -> Rest {
    let Rest::Full(mut sheaf) = rest else {
        return rest;
    };
    while let Some(i) = CpuMarks::find_double(&sheaf) {
        cache.warn_freed_twice(sheaf.object(i), 0);
        sheaf.remove(i);
    }
    Rest::Full(sheaf)
}

/// Keeps the objects of a sheaf that may be allocated again, and frees the others to the slab.
#[inline]
fn keep_reusable(cache: &Cache, rest: Rest) -> Rest {
    match rest {
        Rest::Full(sheaf) if cache.no_reuse => Rest::Empty(cache.flush(sheaf)),
        Rest::Full(sheaf) if cfg!(CONFIG_KFENCE) || cache.zero_on_reuse => keep_clean(cache, sheaf),
        rest => rest,
    }
}

/// Zeroes the objects of `sheaf` if the kernel is to do so, and frees those of KFENCE to the slab.
#[inline(never)]
fn keep_clean(cache: &Cache, sheaf: FullSheaf) -> Rest {
    let mut kfence = [ptr::null_mut(); SLOTS];
    let mut len = 0;
    let rest = sheaf.retain(|object| {
        let Some(addr) = NonNull::new(with_exposed_provenance_mut(object)) else {
            return true;
        };
        match kfence.get_mut(len) {
            Some(entry) if slab::is_kfence(addr) => {
                *entry = addr.as_ptr();
                len += 1;
                false
            }
            _ => {
                cache.zero_for_reuse(addr);
                true
            }
        }
    });
    if len > 0 {
        cache.free_to_slab(&mut kfence[..len]);
    }
    rest
}
