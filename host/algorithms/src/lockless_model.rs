// SPDX-License-Identifier: GPL-2.0

//! A CPU under engine `lockless`, as the tests drive it: a word, small blocks, a hook before
//! every step, and slots that notice who looks at them too early.
//!
//! [`Flaw`] breaks one property each, outside the algorithm's text; a test that does not see it is
//! worth nothing.

use crate::lockless::{
    block::{self, ClosedList},
    insert::{Cpu, Reserve},
    spare::Spares,
    word::{Layout, SLOT},
};
use std::{
    alloc::{alloc, dealloc, Layout as Memory},
    // Not loom's: it must not order anything.
    sync::atomic::AtomicBool,
};

#[cfg(loom)]
use loom::{
    cell::UnsafeCell,
    sync::{
        atomic::{AtomicU64, Ordering},
        RwLock,
    },
};
#[cfg(not(loom))]
use std::{
    cell::UnsafeCell,
    sync::{
        atomic::{AtomicU64, Ordering},
        RwLock,
    },
};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Closing writes the word without looking whether somebody reserved meanwhile.
    CloseDoesNotBar,
    /// A reservation is a read and a write.
    ReserveInTwoSteps,
    /// A word beyond the block counts as a slot.
    IndexNotBounded,
    /// Blocks are read before their grace period.
    ReadBeforeGracePeriod,
    /// Preemption is on between reservation and store.
    PreemptibleInsert,
}

/// Slots of a block; its header has room for seven contexts without a slot. loom's words are larger.
pub(crate) const CAPACITY: usize = ((BLOCK - HEADER) / SLOT) as usize;
const BLOCK: u64 = if cfg!(loom) { 256 } else { 128 };
const HEADER: u64 = BLOCK / 2;

struct Slots([UnsafeCell<u64>; CAPACITY]);

/// One CPU.
pub(crate) struct Model<'a> {
    word: AtomicU64,
    pub(crate) closed: ClosedList<Model<'static>>,
    spares: Spares,
    /// Headers: real memory, at the addresses that the word has.
    memory: *mut u8,
    /// What the slots hold; tracked by loom.
    slots: Vec<Slots>,
    blocks: usize,
    /// Which blocks are closed: none may be so twice, or its list would have no end.
    is_closed: Vec<AtomicBool>,
    /// Grace periods: a context with preemption off reads, who waits for them writes.
    rcu: RwLock<()>,
    flaw: Flaw,
    hook: Box<dyn Fn(&Model<'a>) + 'a>,
}

// SAFETY: As the kernel's: words are atomic, and slots have one writer, seen by the reader after a
// grace period (which is what loom is to find out).
unsafe impl Sync for Model<'_> {}
// SAFETY: As above.
unsafe impl Send for Model<'_> {}

fn memory_of(blocks: usize) -> Memory {
    Memory::from_size_align(blocks * BLOCK as usize, BLOCK as usize).unwrap()
}

impl<'a> Model<'a> {
    /// A CPU with `blocks` spare blocks; `hook` runs before every step of the algorithm.
    pub(crate) fn new(blocks: usize, flaw: Flaw, hook: impl Fn(&Model<'a>) + 'a) -> Self {
        // SAFETY: The layout has a size unless there is no block, which nobody asks for.
        let memory = unsafe { alloc(memory_of(blocks)) };
        assert!(!memory.is_null());
        let spares = Spares::new();
        for i in 0..blocks {
            let base = memory.expose_provenance() as u64 + i as u64 * BLOCK;
            // SAFETY: One of the blocks just allocated.
            unsafe { block::begin::<Self>(base, false) };
            spares.keep(base, || blocks, |_| panic!("no room for a spare"));
        }
        Self {
            word: AtomicU64::new(Self::NONE),
            closed: ClosedList::new(),
            spares,
            memory,
            slots: (0..blocks)
                .map(|_| Slots(std::array::from_fn(|_| UnsafeCell::new(0))))
                .collect(),
            blocks,
            is_closed: (0..blocks).map(|_| AtomicBool::new(false)).collect(),
            rcu: RwLock::new(()),
            flaw,
            hook: Box::new(hook),
        }
    }

    fn step(&self) {
        (self.hook)(self);
    }

    /// Runs `f` with preemption off.
    pub(crate) fn preempt_off<R>(&self, f: impl FnOnce() -> R) -> R {
        let guard = (self.flaw != Flaw::PreemptibleInsert).then(|| self.rcu.read().unwrap());
        let ret = f();
        drop(guard);
        ret
    }

    fn put_spare(&self, base: u64) {
        self.spares
            .keep(base, || self.blocks, |_| panic!("no room for a spare"));
    }

    fn set_closed(&self, base: u64, closed: bool) {
        let block = (base - self.memory.addr() as u64) / BLOCK;
        let was = self.is_closed[block as usize].swap(closed, std::sync::atomic::Ordering::Relaxed);
        assert!(was != closed, "taken and freed: a block is closed twice");
    }

    fn slot(&self, address: u64) -> &UnsafeCell<u64> {
        let offset = address
            .checked_sub(self.memory.addr() as u64)
            .expect("a slot in no block");
        let (block, inside) = ((offset / BLOCK) as usize, offset % BLOCK);
        assert!(inside >= HEADER, "a slot in a header");
        &self.slots.get(block).expect("a slot in no block").0[((inside - HEADER) / SLOT) as usize]
    }

    /// Takes what is closed, waits for a grace period, and returns the objects; the blocks can be
    /// used again afterwards if `reuse`.
    pub(crate) fn drain(&self, reuse: bool) -> Vec<u64> {
        let mut blocks = self.closed.take();
        if self.flaw != Flaw::ReadBeforeGracePeriod {
            drop(self.rcu.write().unwrap());
        }
        let mut objects = Vec::new();
        while let Some(block) = blocks.pop() {
            self.set_closed(block.base(), false);
            for i in 0..block.len() as u64 {
                let slot = self.slot(block.base() + BLOCK - (i + 1) * SLOT);
                #[cfg(loom)]
                // SAFETY: loom says if not.
                objects.push(slot.with_mut(|p| unsafe { p.replace(0) }));
                #[cfg(not(loom))]
                // SAFETY: One thread.
                objects.push(unsafe { slot.get().replace(0) });
            }
            if reuse {
                self.put_spare(block.base());
            }
        }
        objects
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        // SAFETY: Allocated with this layout.
        unsafe { dealloc(self.memory, memory_of(self.blocks)) };
    }
}

impl Layout for Model<'_> {
    const BLOCK: u64 = BLOCK;
    const HEADER: u64 = HEADER;
}

impl Reserve for Model<'_> {
    // Relaxed: on the CPU itself it is one instruction without any order.
    fn reserve(&self) -> u64 {
        self.step();
        match self.flaw {
            Flaw::ReserveInTwoSteps => {
                let word = self.word.load(Ordering::Relaxed);
                self.step();
                self.word.store(word.wrapping_sub(SLOT), Ordering::Relaxed);
                word
            }
            Flaw::IndexNotBounded => {
                // As if the test for a full block were not there.
                let word = self.word.fetch_sub(SLOT, Ordering::Relaxed);
                if Self::is_full(word) && Self::base(word) != 0 {
                    // SAFETY: It is not: the model panics.
                    unsafe { self.store(word, 1) };
                }
                word
            }
            _ => self.word.fetch_sub(SLOT, Ordering::Relaxed),
        }
    }

    unsafe fn store(&self, slot: u64, object: u64) {
        self.step();
        let slot = self.slot(slot);
        #[cfg(loom)]
        // SAFETY: loom says if not.
        slot.with_mut(|p| unsafe { p.write(object) });
        #[cfg(not(loom))]
        // SAFETY: One thread.
        unsafe {
            slot.get().write(object)
        };
    }
}

impl Cpu for Model<'_> {
    fn current(&self) -> u64 {
        self.step();
        self.word.load(Ordering::Relaxed)
    }

    fn exchange(&self, old: u64, new: u64) -> u64 {
        self.step();
        if self.flaw == Flaw::CloseDoesNotBar {
            self.word.store(new, Ordering::Relaxed);
            return old;
        }
        match self
            .word
            .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(was) | Err(was) => was,
        }
    }

    fn take_block(&self) -> Option<u64> {
        self.step();
        self.spares.take()
    }

    fn put_block(&self, base: u64) {
        self.step();
        self.put_spare(base);
    }

    fn closed(&self, base: u64, filled: usize) {
        self.step();
        self.set_closed(base, true);
        // SAFETY: Given away by the algorithm.
        unsafe { self.closed.push(base, filled) };
    }

    fn opened(&self) {}
}
