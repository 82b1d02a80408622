// SPDX-License-Identifier: GPL-2.0

//! The algorithm's view of a CPU: its current word in the kernel's per-CPU memory, pages as blocks.

use super::{
    block,
    insert::{Cpu, Reserve},
    krcp::Krcp,
    monitor, refill,
    word::{Layout, SLOT},
    Page,
};
use crate::{
    fault,
    sys::{current_block::CurrentBlock, preempt::OnCpu},
};
use core::ptr::with_exposed_provenance_mut;
use kernel::sync::atomic::{Full, Relaxed};

/// Only the word: what the common path needs.
pub(super) struct Word<'a, On: OnCpu>(pub(super) &'a On);

/// This CPU with its krcp, as a context is off the common path. As long as it lives a barrier knows that
/// a block may be closed and not handed over yet.
pub(super) struct This<'a, On: OnCpu> {
    on: &'a On,
    krcp: &'a Krcp,
}

impl<'a, On: OnCpu> This<'a, On> {
    /// Enters the slow path on the CPU of `krcp`.
    #[inline]
    pub(super) fn new(on: &'a On, krcp: &'a Krcp) -> Self {
        // ORDERING: Full: a CPU that sees the word changed by what follows sees this.
        krcp.slow.fetch_add(1, Full);
        Self { on, krcp }
    }
}

impl<On: OnCpu> Drop for This<'_, On> {
    #[inline]
    fn drop(&mut self) {
        // ORDERING: Full: a CPU that sees this sees what was handed over.
        self.krcp.slow.fetch_add(0usize.wrapping_sub(1), Full);
    }
}

/// A CPU whose word is no longer used.
pub(super) struct Unused<'a, On: OnCpu> {
    /// Preemption is off on the CPU that works on it: what it pushes to can't be freed meanwhile.
    pub(super) _on: &'a On,
    pub(super) krcp: &'a Krcp,
}

impl<On: OnCpu> Layout for Word<'_, On> {
    const BLOCK: u64 = Page::BLOCK;
    const HEADER: u64 = Page::HEADER;
}

impl<On: OnCpu> Layout for This<'_, On> {
    const BLOCK: u64 = Page::BLOCK;
    const HEADER: u64 = Page::HEADER;
}

impl<On: OnCpu> Layout for Unused<'_, On> {
    const BLOCK: u64 = Page::BLOCK;
    const HEADER: u64 = Page::HEADER;
}

/// # Safety
///
/// The slot is reserved by the caller.
#[inline(always)]
unsafe fn store(slot: u64, object: u64) {
    // SAFETY: By the safety requirements of this function: a word of a page that nobody else writes
    // to, nor reads before the grace period.
    unsafe { with_exposed_provenance_mut::<u64>(slot as usize).write(object) };
}

const SLOT_DOWN: i64 = -(SLOT as i64);

impl<On: OnCpu> Reserve for Word<'_, On> {
    #[inline(always)]
    fn reserve(&self) -> u64 {
        CurrentBlock::fetch_add::<SLOT_DOWN>(self.0)
    }

    #[inline(always)]
    unsafe fn store(&self, slot: u64, object: u64) {
        // SAFETY: By the safety requirements of this function.
        unsafe { store(slot, object) };
    }
}

impl<On: OnCpu> Reserve for This<'_, On> {
    #[inline(always)]
    fn reserve(&self) -> u64 {
        CurrentBlock::fetch_add::<SLOT_DOWN>(self.on)
    }

    #[inline(always)]
    unsafe fn store(&self, slot: u64, object: u64) {
        // SAFETY: By the safety requirements of this function.
        unsafe { store(slot, object) };
    }
}

impl<On: OnCpu> Cpu for This<'_, On> {
    #[inline(always)]
    fn current(&self) -> u64 {
        CurrentBlock::read(self.on)
    }

    #[inline(always)]
    fn exchange(&self, old: u64, new: u64) -> u64 {
        CurrentBlock::cmpxchg(old, new, self.on)
    }

    fn take_block(&self) -> Option<u64> {
        if self.krcp.max_spares() == 0 {
            return None;
        }
        self.krcp.spares.take().or_else(|| {
            refill::want(self.krcp);
            let Some(page) = fault::alloc_page_nolock() else {
                // The call may be refused, and no other come.
                refill::hurry(self.krcp, self.on);
                return None;
            };
            let base = page.as_ptr().expose_provenance() as u64;
            // SAFETY: A fresh page. kmemleak can't be told here: the next tick does.
            unsafe { block::begin::<Page>(base, false) };
            Some(base)
        })
    }

    fn put_block(&self, base: u64) {
        put_block(self.krcp, base);
    }

    fn closed(&self, base: u64, filled: usize) {
        closed(self.krcp, base, filled);
        monitor::collect(self.krcp, self.on);
    }

    fn opened(&self) {
        monitor::wake(self.krcp, self.on);
    }
}

impl<On: OnCpu> Reserve for Unused<'_, On> {
    fn reserve(&self) -> u64 {
        self.krcp.current.fetch_add(SLOT_DOWN as u64, Full)
    }

    unsafe fn store(&self, slot: u64, object: u64) {
        // SAFETY: By the safety requirements of this function.
        unsafe { store(slot, object) };
    }
}

impl<On: OnCpu> Cpu for Unused<'_, On> {
    fn current(&self) -> u64 {
        self.krcp.current.load(Relaxed)
    }

    fn exchange(&self, old: u64, new: u64) -> u64 {
        match self.krcp.current.cmpxchg(old, new, Full) {
            Ok(was) | Err(was) => was,
        }
    }

    fn take_block(&self) -> Option<u64> {
        None
    }

    fn put_block(&self, base: u64) {
        put_block(self.krcp, base);
    }

    fn closed(&self, base: u64, filled: usize) {
        closed(self.krcp, base, filled);
    }

    fn opened(&self) {}
}

/// Pages can't be freed in NMI: what finds no place among the spares goes where blocks are reclaimed
/// from, as one with no object.
fn put_block(krcp: &Krcp, base: u64) {
    krcp.keep(base, |base| closed(krcp, base, 0));
}

fn closed(krcp: &Krcp, base: u64, filled: usize) {
    krcp.closed_objects.add(filled, Relaxed);
    // SAFETY: The caller gives it away, closed; preemption is off (the tokens of all `Cpu`s here).
    unsafe { krcp.closed.push(base, filled) };
}
