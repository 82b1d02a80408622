// SPDX-License-Identifier: GPL-2.0

//! The slow path: a context that finds a sheaf used up replaces it, while contexts that interrupt
//! it may do the same. No kernel dependencies: compiled by the host tests.
//!
//! Each step that is visible to others is one operation on one word of the CPU ([`LocalWord`]), or
//! done under the barn's lock. What has been taken off the CPU belongs to this context alone.

use super::{
    cursor::{Cursor, LocalList, LocalPtr, Quiescent},
    fastpath::FastPath,
    geometry::SLOTS,
    sheaf::{Closed, EmptySheaf, FullSheaf, Installed, Owned, Rest, SheafChain, Stamp},
};
use crate::platform::LocalWord;

/// Reuse slots per CPU: for objects that may be allocated again at once.
pub(crate) const REUSE: usize = 4;

/// Spent sheaves that may stay on a CPU until something else waits for a grace period there, the
/// monitor at the latest.
pub(crate) const MAX_SPENT: usize = 8;

/// The words of a CPU's sheaves.
pub(crate) struct Words<W> {
    pub(crate) alloc: Cursor<W>,
    pub(crate) rcu: Cursor<W>,
    pub(crate) spare_full: LocalPtr<W>,
    pub(crate) spare_empty: LocalPtr<W>,
    pub(crate) spent: LocalList<W>,
    pub(crate) closed: LocalList<W>,
}

/// Access to the CPU and its barn. Any context, with preemption disabled.
pub(crate) trait CacheCpu: FastPath {
    fn words(self) -> Words<Self::Word>;
    /// Whether `object`, from a reuse slot, may be allocated. Otherwise it has been freed
    /// differently.
    fn may_reuse(self, object: usize) -> bool;
    fn capacity(self) -> usize;

    /// Proof that no operation is in progress on this CPU, if the calling context can give it.
    fn quiescent(self) -> Option<Quiescent>;
    /// Whether [`CacheCpu::start_grace_period()`] may be called.
    fn may_call_rcu(self) -> bool;
    /// Has `chain` wait for a grace period.
    fn start_grace_period(self, chain: SheafChain);
    /// Counts a sheaf with objects as one that waits for a grace period, before it is closed: a
    /// barrier can't miss it.
    fn count(self) -> Stamp;
    /// Reverts [`Self::count()`]: the sheaf was not closed.
    fn uncount(self, stamp: Stamp);

    /// Takes a full sheaf from the barn, and another as a spare; none if the barn is locked.
    fn take_full(self) -> (Option<FullSheaf>, Option<FullSheaf>);
    /// Takes a full sheaf from another node's barn, if the caller allows that.
    fn take_remote(self) -> Option<FullSheaf>;
    /// Takes an object from the node's reserve.
    fn take_reserved(self) -> Option<usize>;
    /// As [`CacheCpu::take_full()`], for empty sheaves.
    fn take_empty(self) -> (Option<EmptySheaf>, Option<EmptySheaf>);
    /// Puts a sheaf into the barn, or returns it if that is locked.
    fn put_full(self, sheaf: FullSheaf) -> Option<FullSheaf>;
    /// As [`CacheCpu::put_full()`].
    fn put_empty(self, sheaf: EmptySheaf) -> Option<EmptySheaf>;
    /// Allocates an empty sheaf.
    fn new_empty(self) -> Option<EmptySheaf>;

    /// Queues the irq_work that starts the grace period of closed sheaves.
    fn queue_irq_work(self);
    /// Called after an allocation sheaf was installed.
    fn on_alloc_installed(self);
    /// Called after an rcu sheaf was installed.
    fn on_rcu_installed(self);
    /// Called after a spare or spent sheaf was added to the CPU.
    fn on_spare_kept(self);
    /// Reports that more contexts nest than expected.
    fn warn_nesting(self);
    /// Reports a double free of `object`, of which the other copy was dropped.
    fn warn_double_free(self, object: usize);
}

/// Rewinds a cursor that leaves too little room for contexts nested in this one.
fn make_room<C: CacheCpu>(cpu: C, cursor: Cursor<C::Word>) {
    if let Some(seen) = cursor.used_up().filter(|seen| seen.exceeds_nesting()) {
        cursor.rewind(seen);
        cpu.warn_nesting();
    }
}

/// Takes the object in reuse slot `i`, and removes copies of it from the others.
pub(crate) fn take_reused<C: CacheCpu>(cpu: C, i: usize) -> Option<usize> {
    let object = cpu.reuse(i).take()?;
    for other in 0..REUSE {
        if cpu.reuse(other).remove(object) {
            cpu.warn_double_free(object);
        }
    }
    Some(object)
}

/// Allocates an object from a sheaf or the reserve: the only sources if the lock of the barn is
/// held by the interrupted code.
pub(crate) fn any_object<C: CacheCpu>(cpu: C) -> Option<usize> {
    next_object(cpu).or_else(|| cpu.take_reserved())
}

/// Allocates an object of any reuse slot, for a context that found the allocation sheaf used up. On
/// success that sheaf is removed.
pub(crate) fn any_reused<C: CacheCpu>(cpu: C) -> Option<usize> {
    make_room(cpu, cpu.words().alloc);
    for i in 0..REUSE {
        if !cpu.reuse(i).is_set() {
            continue;
        }
        if let Some(object) = take_reused(cpu, i) {
            if cpu.may_reuse(object) {
                remove_used_up(cpu);
                return Some(object);
            }
        }
    }
    None
}

/// Allocates an object from a reuse slot, or from the next full sheaf, which is then installed.
/// Returns `None` if there is neither.
///
/// A used-up sheaf is removed in either case.
pub(crate) fn next_object<C: CacheCpu>(cpu: C) -> Option<usize> {
    if let Some(object) = any_reused(cpu) {
        return Some(object);
    }
    let alloc = cpu.words().alloc;
    loop {
        let Some(seen) = alloc.used_up() else {
            // An interrupting context has installed one.
            match alloc.reserve() {
                Some(slot) => return Some(slot.load()),
                None => continue,
            }
        };
        match find_full(cpu) {
            Some(sheaf) => {
                let (object, rest) = sheaf.pop();
                match rest {
                    Rest::Full(sheaf) => install(cpu, sheaf),
                    Rest::Empty(sheaf) => {
                        keep_empty(cpu, sheaf);
                        remove_used_up(cpu);
                    }
                }
                return Some(object);
            }
            None => {
                if let Ok(old) = alloc.remove(seen) {
                    retire(cpu, old);
                    return None;
                }
            }
        }
    }
}

/// Makes `sheaf` the allocation sheaf if the current one is used up, and keeps it otherwise.
pub(crate) fn install<C: CacheCpu>(cpu: C, mut sheaf: FullSheaf) {
    let alloc = cpu.words().alloc;
    while let Some(seen) = alloc.used_up() {
        match alloc.install(seen, sheaf) {
            Ok(old) => {
                retire(cpu, old);
                return cpu.on_alloc_installed();
            }
            Err(back) => sheaf = back,
        }
    }
    keep_full(cpu, sheaf);
}

/// Removes a used-up allocation sheaf, so that its cursor does not advance any more.
pub(crate) fn remove_used_up<C: CacheCpu>(cpu: C) {
    let alloc = cpu.words().alloc;
    while let Some(seen) = alloc.used_up() {
        if let Ok(old) = alloc.remove(seen) {
            return retire(cpu, old);
        }
    }
}

/// Retires an emptied sheaf, which interrupted contexts may still read from.
fn retire<C: CacheCpu>(cpu: C, old: Option<Installed>) {
    let Some(old) = old else { return };
    match cpu.quiescent() {
        Some(quiescent) => {
            if let Rest::Empty(sheaf) = old.into_rest(SLOTS, &quiescent) {
                keep_empty(cpu, sheaf);
            }
        }
        None => push_spent(cpu, Closed::spent(old)),
    }
}

/// Keeps an emptied sheaf until its grace period, which starts now if there are enough of them.
fn push_spent<C: CacheCpu>(cpu: C, sheaf: Closed) {
    let spent = cpu.words().spent;
    if spent.push(sheaf) < MAX_SPENT {
        return cpu.on_spare_kept();
    }
    if cpu.may_call_rcu() {
        cpu.start_grace_period(spent.take());
    } else {
        cpu.queue_irq_work();
    }
}

/// Stores `object` to the next rcu sheaf, and installs that. Returns `false` if there is no empty
/// sheaf.
///
/// A used-up sheaf is removed in either case.
pub(crate) fn put_object<C: CacheCpu>(cpu: C, object: usize) -> bool {
    let rcu = cpu.words().rcu;
    make_room(cpu, rcu);
    loop {
        let Some(seen) = rcu.used_up() else {
            // An interrupting context has installed one.
            match rcu.reserve() {
                Some(slot) => {
                    slot.store(object);
                    return true;
                }
                None => continue,
            }
        };
        let new_empty = || seen.may_allocate().then(|| cpu.new_empty()).flatten();
        match find_empty(cpu).or_else(new_empty) {
            Some(sheaf) => {
                let stamp = cpu.count();
                match rcu.install(seen, sheaf.start(cpu.capacity(), object)) {
                    Ok(old) => {
                        close(cpu, old, stamp);
                        cpu.on_rcu_installed();
                        return true;
                    }
                    Err(unused) => {
                        cpu.uncount(stamp);
                        keep_empty(cpu, unused.undo());
                    }
                }
            }
            None => {
                let stamp = cpu.count();
                match rcu.remove(seen) {
                    Ok(old) => {
                        close(cpu, old, stamp);
                        return false;
                    }
                    Err(()) => cpu.uncount(stamp),
                }
            }
        }
    }
}

/// Has a used-up rcu sheaf wait for a grace period.
fn close<C: CacheCpu>(cpu: C, old: Option<Installed>, stamp: Stamp) {
    let Some(old) = old else {
        return cpu.uncount(stamp);
    };
    let sheaf = Closed::filled(old, SLOTS, stamp);
    let words = cpu.words();
    if cpu.may_call_rcu() {
        // Spent sheaves of this CPU join that grace period.
        let mut chain = words.spent.take();
        chain.push(sheaf);
        cpu.start_grace_period(chain);
    } else {
        words.closed.push(sheaf);
        cpu.queue_irq_work();
    }
}

/// Takes the closed and spent sheaves of the CPU, which wait for one grace period.
pub(crate) fn take_waiting<W: LocalWord>(words: &Words<W>) -> SheafChain {
    let mut chain = words.closed.take();
    chain.append(words.spent.take());
    chain
}

/// Closes the rcu sheaf before it is used up. Returns `stamp` if there is none.
pub(crate) fn close_partial<W: LocalWord>(words: &Words<W>, stamp: Stamp) -> Result<Closed, Stamp> {
    match words.rcu.close() {
        Some((sheaf, end)) => Ok(Closed::filled(sheaf, end, stamp)),
        None => Err(stamp),
    }
}

/// Takes the sheaves with freed objects off the CPU: closed sheaves and the rcu sheaf. `count` and
/// `uncount` are those of [`CacheCpu`]: without an rcu sheaf the count has to be reverted, or
/// barriers would wait for it for ever.
pub(crate) fn close_all<W: LocalWord>(
    words: &Words<W>,
    count: impl FnOnce() -> Stamp,
    uncount: impl FnOnce(Stamp),
) -> SheafChain {
    let mut chain = words.closed.take();
    match close_partial(words, count()) {
        Ok(sheaf) => chain.push(sheaf),
        Err(stamp) => uncount(stamp),
    }
    chain
}

/// Takes the stock off the CPU: the rest of the allocation sheaf, and the spares.
pub(crate) fn take_stock<W: LocalWord>(
    words: &Words<W>,
    quiescent: &Quiescent,
) -> [Option<Rest>; 3] {
    let alloc = words.alloc.close();
    [
        alloc.map(|(sheaf, start)| sheaf.into_rest(start, quiescent)),
        words.spare_full.take().map(|addr| {
            // SAFETY: Only full sheaves are stored there.
            Rest::Full(unsafe { FullSheaf::from_addr(addr) })
        }),
        words.spare_empty.take().map(|addr| {
            // SAFETY: Only empty sheaves are stored there.
            Rest::Empty(unsafe { EmptySheaf::from_addr(addr) })
        }),
    ]
}

/// Keeps a full sheaf: as this CPU's spare, in the barn or, if that is locked, by sending it
/// through another grace period.
pub(crate) fn keep_full<C: CacheCpu>(cpu: C, sheaf: FullSheaf) {
    let words = cpu.words();
    let addr = sheaf.into_addr();
    if words.spare_full.put(addr) {
        return cpu.on_spare_kept();
    }
    // SAFETY: From above.
    if let Some(sheaf) = cpu.put_full(unsafe { FullSheaf::from_addr(addr) }) {
        words.closed.push(sheaf.into_closed(cpu.count()));
        cpu.queue_irq_work();
    }
}

/// Keeps an empty sheaf, as [`keep_full()`] does.
pub(crate) fn keep_empty<C: CacheCpu>(cpu: C, sheaf: EmptySheaf) {
    let words = cpu.words();
    let addr = sheaf.into_addr();
    if words.spare_empty.put(addr) {
        return cpu.on_spare_kept();
    }
    // SAFETY: From above.
    if let Some(sheaf) = cpu.put_empty(unsafe { EmptySheaf::from_addr(addr) }) {
        push_spent(cpu, sheaf.into_closed());
    }
}

/// Takes an empty sheaf: this CPU's spare, or one of the barn (and another as the spare).
pub(crate) fn find_empty<C: CacheCpu>(cpu: C) -> Option<EmptySheaf> {
    if let Some(addr) = cpu.words().spare_empty.take() {
        // SAFETY: Only empty sheaves are stored there.
        return Some(unsafe { EmptySheaf::from_addr(addr) });
    }
    let (found, spare) = cpu.take_empty();
    if let Some(spare) = spare {
        keep_empty(cpu, spare);
    }
    found
}

/// Takes a full sheaf: this CPU's spare, or one of the barn (and another as the spare), or of
/// another node's.
fn find_full<C: CacheCpu>(cpu: C) -> Option<FullSheaf> {
    if let Some(addr) = cpu.words().spare_full.take() {
        // SAFETY: Only full sheaves are stored there.
        return Some(unsafe { FullSheaf::from_addr(addr) });
    }
    let (found, spare) = cpu.take_full();
    if let Some(spare) = spare {
        keep_full(cpu, spare);
    }
    found.or_else(|| cpu.take_remote())
}
