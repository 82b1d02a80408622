// SPDX-License-Identifier: GPL-2.0

//! A model of a CPU of engine `lockless`: the current word, small blocks, and slots that detect
//! accesses before their grace period.
//!
//! Each [`Flaw`] breaks one property in the model, outside of the algorithm files, and must make a
//! test fail.

use crate::{
    entry::{split_calls, Call},
    hook::step,
    lockless::{
        block::{self, ClosedList, Layout, Spares, SLOT},
        insert::{close, insert, insert_slow, BlockCpu, BlockFastPath, Close, Kind},
    },
    platform::LocalWord,
    sync::{AtomicUsize, RwLock, UnsafeCell},
};
use std::{
    alloc::{alloc, dealloc, Layout as Memory},
    // Not loom's: it must not order anything.
    sync::atomic::{AtomicBool, Ordering},
};

/// The property that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Closing writes the word without checking whether a slot was reserved meanwhile.
    CloseDoesNotBar,
    /// A reservation is a read and a write.
    ReserveInTwoSteps,
    /// A word beyond the block counts as a slot.
    IndexNotBounded,
    /// Blocks are read before their grace period.
    ReadBeforeGracePeriod,
    /// Preemption is on between reservation and store.
    #[cfg_attr(not(loom), allow(dead_code))]
    PreemptibleInsert,
    /// The callback is marked in the header of the block that is current before the reservation.
    MarksBeforeItReserves,
}

/// The word of object `number`; every other one is a callback.
pub(crate) fn word_of(number: usize) -> usize {
    let address: *mut u8 = std::ptr::without_provenance_mut(number * 8);
    if number % 2 == 0 {
        address.addr()
    } else {
        Call::new(address, number % 4 == 3).entry()
    }
}

/// The kind of object `number`.
fn kind_of(number: usize) -> Kind {
    if number % 2 == 0 {
        Kind::Free
    } else {
        Kind::Call
    }
}

/// The slots of a block; its header has room for seven contexts without a slot. loom's words are
/// larger.
pub(crate) const CAPACITY: usize = (BLOCK - HEADER) / SLOT;
const BLOCK: usize = if cfg!(loom) { 256 } else { 128 };
const HEADER: usize = BLOCK / 2;

struct Slots([UnsafeCell<usize>; CAPACITY]);

/// One CPU.
pub(crate) struct Model {
    word: AtomicUsize,
    pub(crate) closed: ClosedList<Model>,
    spares: Spares,
    /// Headers, in real memory at the addresses in the word.
    memory: *mut u8,
    /// The contents of the slots, tracked by loom.
    slots: Vec<Slots>,
    blocks: usize,
    /// Blocks with callbacks, for a flaw.
    has_calls: Vec<AtomicBool>,
    /// Blocks that are closed: none may be closed twice, or its list would be cyclic.
    is_closed: Vec<AtomicBool>,
    /// Grace periods: a context with preemption disabled reads, a waiter writes.
    rcu: RwLock<()>,
    flaw: Flaw,
}

// SAFETY: As in the kernel, words are atomic, and slots have one writer and are read after a grace
// period, which loom checks.
unsafe impl Sync for Model {}
// SAFETY: As above.
unsafe impl Send for Model {}

fn memory_of(blocks: usize) -> Memory {
    Memory::from_size_align(blocks * BLOCK, BLOCK).unwrap()
}

impl Model {
    /// A CPU with `blocks` spare blocks.
    pub(crate) fn new(blocks: usize, flaw: Flaw) -> Self {
        // SAFETY: There is at least one block, so the layout has a size.
        let memory = unsafe { alloc(memory_of(blocks)) };
        assert!(!memory.is_null());
        let spares = Spares::new();
        for i in 0..blocks {
            let base = memory.expose_provenance() + i * BLOCK;
            // SAFETY: One of the blocks just allocated.
            unsafe { block::begin::<Self>(base, false) };
            spares.put(base, || blocks, |_| panic!("no room for a spare"));
        }
        Self {
            word: AtomicUsize::new(Self::NONE),
            closed: ClosedList::new(),
            spares,
            memory,
            slots: (0..blocks)
                .map(|_| Slots(std::array::from_fn(|_| UnsafeCell::new(0))))
                .collect(),
            blocks,
            has_calls: (0..blocks).map(|_| AtomicBool::new(false)).collect(),
            is_closed: (0..blocks).map(|_| AtomicBool::new(false)).collect(),
            rcu: RwLock::new(()),
            flaw,
        }
    }

    /// Runs `f` with preemption disabled.
    fn preempt_off<R>(&self, f: impl FnOnce() -> R) -> R {
        let guard = (self.flaw != Flaw::PreemptibleInsert).then(|| self.rcu.read().unwrap());
        let ret = f();
        drop(guard);
        ret
    }

    /// Queues object or callback `number`. Returns false if there is no room.
    pub(crate) fn queue(&self, number: usize) -> bool {
        let word = word_of(number);
        self.preempt_off(|| insert(&self, word, kind_of(number)) || insert_slow(&self, word, None))
    }

    /// Closes the current block, and opens another one if `refill`.
    pub(crate) fn close(&self, refill: bool) -> Close {
        self.preempt_off(|| close(&self, refill))
    }

    fn put_spare(&self, base: usize) {
        self.spares
            .put(base, || self.blocks, |_| panic!("no room for a spare"));
    }

    fn has_calls(&self, base: usize) -> &AtomicBool {
        &self.has_calls[(base - self.memory.addr()) / BLOCK]
    }

    fn set_closed(&self, base: usize, closed: bool) {
        let block = (base - self.memory.addr()) / BLOCK;
        let was = self.is_closed[block].swap(closed, Ordering::Relaxed);
        assert!(was != closed, "taken and freed: a block is closed twice");
    }

    fn slot(&self, address: usize) -> &UnsafeCell<usize> {
        let offset = address
            .checked_sub(self.memory.addr())
            .expect("a slot in no block");
        let (block, inside) = (offset / BLOCK, offset % BLOCK);
        assert!(inside >= HEADER, "a slot in a header");
        &self.slots.get(block).expect("a slot in no block").0[(inside - HEADER) / SLOT]
    }

    /// Removes the closed blocks, waits for a grace period, and returns the numbers of their
    /// objects. The blocks are reused if `reuse`. Callbacks are sorted out if a block is marked.
    pub(crate) fn drain(&self, reuse: bool) -> Vec<usize> {
        let mut blocks = self.closed.take();
        if self.flaw != Flaw::ReadBeforeGracePeriod {
            drop(self.rcu.write().unwrap());
        }
        let mut objects = Vec::new();
        while let Some(mut block) = blocks.pop() {
            self.set_closed(block.base(), false);
            let mut words = Vec::new();
            for i in 0..block.len() {
                let slot = self.slot(block.base() + BLOCK - (i + 1) * SLOT);
                // SAFETY: Only one thread accesses it, which loom checks.
                let word = slot.with_mut(|p| unsafe { p.replace(0) });
                words.push(std::ptr::without_provenance_mut(word));
            }
            // SAFETY: The grace period is over, unless that is the flaw.
            let mut has_calls = unsafe { block.take_call_mark() };
            if self.flaw == Flaw::MarksBeforeItReserves {
                has_calls = self.has_calls(block.base()).swap(false, Ordering::Relaxed);
            }
            let mut frees = &mut words[..];
            if has_calls {
                frees = split_calls(&mut words, |call| {
                    objects.push(call.head().addr().get() / 8)
                });
            }
            for word in frees {
                assert!(word.addr() % 8 == 0, "a callback is freed");
                objects.push(word.addr() / 8);
            }
            if reuse {
                self.put_spare(block.base());
            }
        }
        objects
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: Allocated with this layout.
        unsafe { dealloc(self.memory, memory_of(self.blocks)) };
    }
}

impl Layout for Model {
    const BLOCK: usize = BLOCK;
    const HEADER: usize = HEADER;
}

/// The current word, as contexts of its CPU change it: each operation is one step.
#[derive(Clone, Copy)]
pub(crate) struct Word<'a>(&'a Model);

// Relaxed: on the CPU itself each is one instruction without ordering.
impl LocalWord for Word<'_> {
    fn load(self) -> usize {
        step();
        self.0.word.load(Ordering::Relaxed)
    }

    fn fetch_add(self, n: usize) -> usize {
        let cpu = self.0;
        step();
        match cpu.flaw {
            Flaw::ReserveInTwoSteps => {
                let word = cpu.word.load(Ordering::Relaxed);
                step();
                cpu.word.store(word.wrapping_add(n), Ordering::Relaxed);
                word
            }
            Flaw::IndexNotBounded => {
                // Without the check for a full block.
                let word = cpu.word.fetch_add(n, Ordering::Relaxed);
                if Model::is_full(word) && Model::base(word) != 0 {
                    // SAFETY: Not sound: the model panics.
                    unsafe { cpu.store(word, 1) };
                }
                word
            }
            Flaw::MarksBeforeItReserves => {
                let base = Model::base(cpu.word.load(Ordering::Relaxed));
                if base != 0 {
                    cpu.has_calls(base).store(true, Ordering::Relaxed);
                }
                step();
                cpu.word.fetch_add(n, Ordering::Relaxed)
            }
            _ => cpu.word.fetch_add(n, Ordering::Relaxed),
        }
    }

    fn cmpxchg(self, old: usize, new: usize) -> usize {
        step();
        if self.0.flaw == Flaw::CloseDoesNotBar {
            self.0.word.store(new, Ordering::Relaxed);
            return old;
        }
        match self
            .0
            .word
            .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(was) | Err(was) => was,
        }
    }
}

impl<'a> BlockFastPath for &'a Model {
    type Block = Model;
    type Word = Word<'a>;

    fn current(&self) -> Word<'a> {
        Word(self)
    }

    unsafe fn store(&self, slot: usize, object: usize) {
        step();
        // SAFETY: Only one thread accesses it, which loom checks.
        self.slot(slot).with_mut(|p| unsafe { p.write(object) });
    }
}

impl BlockCpu for &Model {
    fn take_block(&self) -> Option<usize> {
        step();
        self.spares.take()
    }

    fn put_block(&self, base: usize) {
        step();
        self.put_spare(base);
    }

    fn on_closed(&self, base: usize, filled: usize) {
        step();
        self.set_closed(base, true);
        // SAFETY: The algorithm has closed the block, which is owned here.
        unsafe { self.closed.push(base, filled) };
    }

    fn on_opened(&self) {}
}
