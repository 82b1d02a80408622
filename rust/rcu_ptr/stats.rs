// SPDX-License-Identifier: GPL-2.0

//! What both engines count on each CPU. A counter is one line here: debugfs.rs shows all of them, under
//! these names and in this order.

use core::ops::{AddAssign, Index, IndexMut};

macro_rules! counters {
    ($($(#[$attr:meta])* $counter:ident = $name:literal,)*) => {
        /// What is counted since the module was loaded.
        #[derive(Clone, Copy)]
        pub(crate) enum Counter {
            $($(#[$attr])* $counter,)*
        }

        /// The counters' names in debugfs.
        pub(crate) const NAMES: [&str; [$($name),*].len()] = [$($name),*];
    };
}

counters! {
    /// A slab object was stored in a block.
    QueuedSlab = "queued_slab",
    /// A vmalloc object was stored in a block.
    QueuedVmalloc = "queued_vmalloc",
    /// A gauge: objects and callbacks in blocks that are not sorted yet (engine `lockless`; later they are counted
    /// in one of the two above, or as callbacks).
    QueuedMixed = "queued_mixed",
    /// An object was linked through its field.
    QueuedList = "queued_list",
    /// A callback was found in a block, once its grace period was over (engine `rfc`: when it was stored).
    QueuedCall = "queued_call",
    /// A callback was linked through its head, as there was no block.
    QueuedCallList = "queued_call_list",
    /// The caller waited for a grace period itself.
    QueuedSync = "queued_sync",
    /// Of those in `queued_list`: in any context, by a trylock (engine `rfc`).
    QueuedNolock = "queued_nolock",
    /// An object was queued after a failed trylock, and is counted by channel as well (engine `rfc`).
    Deferred = "deferred",
    /// An object was given back to its allocator.
    Freed = "freed",
    /// Of those: its grace period was polled and found over before the callback of its batch came (engine
    /// `rfc`: before it was in a batch).
    FreedPolled = "freed_polled",
    /// A callback has returned.
    Invoked = "invoked",
    /// An object was leaked for misuse, or kept because of a bug in here.
    Leaked = "leaked",
    /// A batch began to wait for a grace period.
    Batches = "batches",
    /// No batch was free.
    BatchesBusy = "batches_busy",
    /// A refill brought a block.
    Refilled = "refilled",
    /// A refill was put off after memory pressure.
    Backoffs = "backoffs",
    /// The shrinker, a lower limit or a CPU going down gave a block back.
    Shrunk = "shrunk",
}

/// The counters of one CPU, or of several.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stats(pub(crate) [u64; NAMES.len()]);

impl Stats {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self([0; NAMES.len()])
    }

    /// Each name with its value.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.into_iter().zip(self.0)
    }
}

impl Index<Counter> for Stats {
    type Output = u64;

    #[inline]
    fn index(&self, counter: Counter) -> &u64 {
        &self.0[counter as usize]
    }
}

impl IndexMut<Counter> for Stats {
    #[inline]
    fn index_mut(&mut self, counter: Counter) -> &mut u64 {
        &mut self.0[counter as usize]
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.0
            .iter_mut()
            .zip(other.0)
            .for_each(|(sum, n)| *sum += n);
    }
}
