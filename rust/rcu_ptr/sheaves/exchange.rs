// SPDX-License-Identifier: GPL-2.0

//! What a context does that finds a sheaf used up: it exchanges it for another, while contexts that
//! interrupt it do the same.
//!
//! Each step that others can see is one operation on one word of the CPU ([`LocalWord`]), or under
//! the barn's lock. What has been taken off the CPU belongs to this context alone.

use super::{
    cursor::{Cursor, LocalList, LocalPtr, Quiescent},
    fastpath::FastPath,
    geometry::SLOTS,
    sheaf::{Closed, EmptySheaf, FullSheaf, Installed, Owned, Rest, SheafChain, Stamp},
};
use crate::platform::LocalWord;

/// Reuse slots: for objects that are allocated again at once.
pub(crate) const REUSE: usize = 4;

/// Emptied sheaves that may stay on a CPU until something else waits for a grace period there, the
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

/// What a context has of its CPU and of the barn. Everything here may be called in any context, and
/// is called with preemption disabled.
pub(crate) trait CacheCpu: FastPath {
    /// The words.
    fn words(self) -> Words<Self::Word>;
    /// Whether `object`, from a reuse slot, may be allocated again at once. Otherwise it was given back by
    /// another way.
    fn may_reuse(self, object: usize) -> bool;
    /// Objects in a sheaf.
    fn capacity(self) -> usize;

    /// Where no context of the CPU is interrupted in an operation.
    fn quiescent(self) -> Option<Quiescent>;
    /// Whether [`CacheCpu::start_grace_period()`] may be called.
    fn may_call_rcu(self) -> bool;
    /// Lets `chain` wait for a grace period.
    fn start_grace_period(self, chain: SheafChain);
    /// Counts a sheaf with objects as one that waits for a grace period, before it is closed: so there
    /// is no moment at which a barrier could miss it.
    fn count(self) -> Stamp;
    /// Reverts [`Self::count()`]: the sheaf was not closed.
    fn uncount(self, stamp: Stamp);

    /// A full sheaf of the barn, and another for the CPU; none where the barn is locked.
    fn take_full(self) -> (Option<FullSheaf>, Option<FullSheaf>);
    /// A full sheaf of another node's barn, for callers that have no other way to allocate.
    fn take_remote(self) -> Option<FullSheaf>;
    /// An object of the node's reserve.
    fn take_reserved(self) -> Option<usize>;
    /// As [`CacheCpu::take_full()`], of empty ones.
    fn take_empty(self) -> (Option<EmptySheaf>, Option<EmptySheaf>);
    /// Puts a sheaf into the barn, or gives it back where that is locked.
    fn put_full(self, sheaf: FullSheaf) -> Option<FullSheaf>;
    /// As [`CacheCpu::put_full()`].
    fn put_empty(self, sheaf: EmptySheaf) -> Option<EmptySheaf>;
    /// An empty sheaf in fresh memory.
    fn new_empty(self) -> Option<EmptySheaf>;

    /// Queues the irq_work that looks at what is closed.
    fn queue_irq_work(self);
    /// An allocation sheaf was installed.
    fn on_alloc_installed(self);
    /// An rcu sheaf was installed.
    fn on_rcu_installed(self);
    /// A spare was put in its place, or an emptied sheaf was kept.
    fn on_spare_kept(self);
    /// More contexts are nested than there should be.
    fn warn_nesting(self);
    /// `object` was freed twice, and the other copy is dropped.
    fn warn_double_free(self, object: usize);
}

/// Moves a cursor back that has run too far for contexts nested in this one.
fn make_room<C: CacheCpu>(cpu: C, cursor: Cursor<C::Word>) {
    if let Some(seen) = cursor.used_up().filter(|seen| seen.exceeds_nesting()) {
        cursor.rewind(seen);
        cpu.warn_nesting();
    }
}

/// Takes the object in reuse slot `i`, and copies of it from the others.
pub(crate) fn take_reused<C: CacheCpu>(cpu: C, i: usize) -> Option<usize> {
    let object = cpu.reuse(i).take()?;
    for other in 0..REUSE {
        if cpu.reuse(other).remove(object) {
            cpu.warn_double_free(object);
        }
    }
    Some(object)
}

/// An object for a context that can't wait: of a sheaf, or of the reserve. That is all that there is
/// where the barn is locked by what this context interrupted.
pub(crate) fn any_object<C: CacheCpu>(cpu: C) -> Option<usize> {
    next_object(cpu).or_else(|| cpu.take_reserved())
}

/// An object of any reuse slot, for a context that found the allocation sheaf used up. If it finds one, that sheaf
/// is removed.
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

/// An object from the next sheaf, which is installed. `None`: there is no other.
///
/// A used-up sheaf is removed in either case.
pub(crate) fn next_object<C: CacheCpu>(cpu: C) -> Option<usize> {
    if let Some(object) = any_reused(cpu) {
        return Some(object);
    }
    let alloc = cpu.words().alloc;
    loop {
        let Some(seen) = alloc.used_up() else {
            // A context that came in between has installed one.
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

/// Makes `sheaf` the allocation sheaf if the one there is used up, and keeps it otherwise.
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

/// What becomes of an emptied sheaf: contexts that were interrupted may still read from it.
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

/// Keeps an emptied sheaf until its grace period, which begins now if there are others.
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

/// Puts `object` into the next rcu sheaf, which is installed. `false`: there is no other.
///
/// A used-up sheaf is removed in either case.
pub(crate) fn put_object<C: CacheCpu>(cpu: C, object: usize) -> bool {
    let rcu = cpu.words().rcu;
    make_room(cpu, rcu);
    loop {
        let Some(seen) = rcu.used_up() else {
            // A context that came in between has installed one.
            match rcu.reserve() {
                Some(slot) => {
                    slot.store(object);
                    return true;
                }
                None => continue,
            }
        };
        match find_empty(cpu).or_else(|| cpu.new_empty()) {
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

/// Lets a full rcu sheaf wait for a grace period.
fn close<C: CacheCpu>(cpu: C, old: Option<Installed>, stamp: Stamp) {
    let Some(old) = old else {
        return cpu.uncount(stamp);
    };
    let sheaf = Closed::filled(old, SLOTS, stamp);
    let words = cpu.words();
    if cpu.may_call_rcu() {
        // Emptied sheaves of this CPU wait for the same one.
        let mut chain = words.spent.take();
        chain.push(sheaf);
        cpu.start_grace_period(chain);
    } else {
        words.closed.push(sheaf);
        cpu.queue_irq_work();
    }
}

/// What waits on the CPU, for one grace period: closed sheaves and emptied ones.
pub(crate) fn take_waiting<W: LocalWord>(words: &Words<W>) -> SheafChain {
    let mut chain = words.closed.take();
    chain.append(words.spent.take());
    chain
}

/// Closes the rcu sheaf before it is full. `stamp` comes back where there is none.
pub(crate) fn close_partial<W: LocalWord>(words: &Words<W>, stamp: Stamp) -> Result<Closed, Stamp> {
    match words.rcu.close() {
        Some((sheaf, end)) => Ok(Closed::filled(sheaf, end, stamp)),
        None => Err(stamp),
    }
}

/// Takes what holds freed objects off the CPU: closed sheaves, and the rcu sheaf. `count` and `uncount` are those of
/// [`CacheCpu`]: what is counted for nothing, as there is no rcu sheaf, would be waited for for ever.
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

/// Takes what can be allocated off the CPU: the rest of the allocation sheaf and the spares.
pub(crate) fn take_stock<W: LocalWord>(
    words: &Words<W>,
    quiescent: &Quiescent,
) -> [Option<Rest>; 3] {
    let alloc = words.alloc.close();
    [
        alloc.map(|(sheaf, start)| sheaf.into_rest(start, quiescent)),
        words.spare_full.take().map(|addr| {
            // SAFETY: A full sheaf is what is put there.
            Rest::Full(unsafe { FullSheaf::from_addr(addr) })
        }),
        words.spare_empty.take().map(|addr| {
            // SAFETY: An empty sheaf is what is put there.
            Rest::Empty(unsafe { EmptySheaf::from_addr(addr) })
        }),
    ]
}

/// Keeps a full sheaf: as this CPU's spare, in the barn, or where the barn is locked on the way
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

/// Keeps an empty sheaf, in the same way.
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

/// An empty sheaf: this CPU's spare, or one of the barn (and another as the spare).
pub(crate) fn find_empty<C: CacheCpu>(cpu: C) -> Option<EmptySheaf> {
    if let Some(addr) = cpu.words().spare_empty.take() {
        // SAFETY: An empty sheaf is what is put there.
        return Some(unsafe { EmptySheaf::from_addr(addr) });
    }
    let (found, spare) = cpu.take_empty();
    if let Some(spare) = spare {
        keep_empty(cpu, spare);
    }
    found
}

/// A full sheaf: this CPU's spare, or one of the barn (and another as the spare), or of another
/// node's.
fn find_full<C: CacheCpu>(cpu: C) -> Option<FullSheaf> {
    if let Some(addr) = cpu.words().spare_full.take() {
        // SAFETY: A full sheaf is what is put there.
        return Some(unsafe { FullSheaf::from_addr(addr) });
    }
    let (found, spare) = cpu.take_full();
    if let Some(spare) = spare {
        keep_full(cpu, spare);
    }
    found.or_else(|| cpu.take_remote())
}
