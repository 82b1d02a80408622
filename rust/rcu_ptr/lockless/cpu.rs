// SPDX-License-Identifier: GPL-2.0

//! The algorithm's view of a CPU: its current word in the kernel's per-CPU memory, pages as blocks.

use super::{block, insert::Cpu, krcp::Krcp, monitor, refill, word::Layout, Page};
use crate::{
    fault, params,
    sys::{current_block::CurrentBlock, preempt::OnCpu},
};
use core::ptr::with_exposed_provenance_mut;
use kernel::sync::atomic::{Full, Relaxed};

/// Only the word: what the common path needs.
pub(super) struct Word<'a, On: OnCpu>(pub(super) &'a On);

/// This CPU with its krcp.
pub(super) struct This<'a, On: OnCpu> {
    pub(super) on: &'a On,
    pub(super) krcp: &'a Krcp,
}

/// A CPU that is dead.
pub(super) struct Dead<'a, On: OnCpu> {
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

impl<On: OnCpu> Layout for Dead<'_, On> {
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

const SLOT_DOWN: i64 = -(super::word::SLOT as i64);

impl<On: OnCpu> Word<'_, On> {
    /// `insert()` with only the word.
    #[inline(always)]
    pub(super) fn insert(&self, object: u64) -> bool {
        let word = CurrentBlock::fetch_add::<SLOT_DOWN>(self.0);
        if Self::is_full(word) {
            return false;
        }
        // SAFETY: Reserved just now.
        unsafe { store(word, object) };
        true
    }
}

impl<On: OnCpu> Cpu for This<'_, On> {
    #[inline(always)]
    fn current(&self) -> u64 {
        CurrentBlock::read(self.on)
    }

    #[inline(always)]
    fn reserve(&self) -> u64 {
        CurrentBlock::fetch_add::<SLOT_DOWN>(self.on)
    }

    #[inline(always)]
    fn exchange(&self, old: u64, new: u64) -> u64 {
        CurrentBlock::cmpxchg(old, new, self.on)
    }

    #[inline(always)]
    unsafe fn store(&self, slot: u64, object: u64) {
        // SAFETY: By the safety requirements of this function.
        unsafe { store(slot, object) };
    }

    fn take_block(&self) -> Option<u64> {
        let limit = params::min_cached_objs();
        if limit == 0 {
            return None;
        }
        self.krcp.spares.take(limit).or_else(|| {
            refill::want(self.krcp);
            let page = fault::alloc_page_nolock()?;
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

impl<On: OnCpu> Cpu for Dead<'_, On> {
    fn current(&self) -> u64 {
        self.krcp.current.load(Relaxed)
    }

    fn reserve(&self) -> u64 {
        self.krcp.current.fetch_add(SLOT_DOWN as u64, Full)
    }

    fn exchange(&self, old: u64, new: u64) -> u64 {
        // ORDERING: Full: who takes a CPU down sees what it did last.
        match self.krcp.current.cmpxchg(old, new, Full) {
            Ok(was) | Err(was) => was,
        }
    }

    unsafe fn store(&self, slot: u64, object: u64) {
        // SAFETY: By the safety requirements of this function.
        unsafe { store(slot, object) };
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
    if !krcp.spares.put(base, params::min_cached_objs()) {
        closed(krcp, base, 0);
    }
}

fn closed(krcp: &Krcp, base: u64, filled: usize) {
    krcp.closed_objects.add(filled, Relaxed);
    // SAFETY: The caller gives it away, closed; preemption is off (the tokens of all `Cpu`s here).
    unsafe { krcp.closed.push(base, filled) };
}
