// SPDX-License-Identifier: GPL-2.0

//! The functions under measurement and the loops around them. A loop is compiled for each function,
//! so what is measured is a direct call; the loop with no call in it is measured the same way and
//! subtracted.

use crate::sys::{
    alloc, counters,
    free::{self, Free, Object, Source},
    params, thread,
};
use core::ptr::NonNull;
use kernel::{fmt, prelude::*};

/// Whose function it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// The empty loop.
    Nothing,
    /// The kernel's.
    Kernel,
    /// rcu_ptr's: depends on the engine that is loaded.
    RcuPtr,
}

impl Group {
    /// Whether the list `frees=` has all, this group or this name.
    pub(crate) fn has(self, name: &str) -> bool {
        let group = match self {
            Self::Nothing => "",
            Self::Kernel => "kernel",
            Self::RcuPtr => "rcu_ptr",
        };
        params::frees()
            .split(',')
            .any(|word| word == "all" || word == group || word == name)
    }

    /// `kernel`, or the engine that is loaded.
    pub(crate) fn engine(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Kernel => "kernel",
            Self::RcuPtr => params::engine(),
        }
    }
}

/// A function under measurement.
pub(crate) struct Way {
    /// As results name it.
    pub(crate) name: &'static CStr,
    pub(crate) group: Group,
    /// Allowed in NMI.
    pub(crate) in_nmi: bool,
    /// Takes kmalloc and kmem_cache objects only.
    slab_only: bool,
    run: Loop,
    settle: fn(),
}

/// Frees the objects; those that were left to the caller come first in the slice, the number of
/// them is returned.
type Loop = unsafe fn(&mut [NonNull<Object>]) -> usize;

/// # Safety
///
/// As for [`Free::free()`], for each object.
#[inline(never)]
unsafe fn run_loop<F: Free>(objects: &mut [NonNull<Object>]) -> usize {
    let mut refused = 0;
    for i in 0..objects.len() {
        let object = objects[i];
        // SAFETY: By the safety requirements of this function.
        if !unsafe { F::free(object) } {
            objects[refused] = object;
            refused += 1;
        }
    }
    refused
}

const fn way<F: Free>(name: &'static CStr, group: Group, in_nmi: bool, slab_only: bool) -> Way {
    Way {
        name,
        group,
        in_nmi,
        slab_only,
        run: run_loop::<F>,
        settle: match group {
            Group::Nothing => || (),
            Group::Kernel => free::kernel_settle,
            Group::RcuPtr => free::rcu_ptr_settle,
        },
    }
}

/// The loop without a call.
pub(crate) static NOTHING: Way = way::<free::Nothing>(c"nothing", Group::Nothing, true, false);

static WAYS: [Way; 9] = [
    way::<free::Kfree>(c"kfree", Group::Kernel, false, true),
    way::<free::CallRcu>(c"call_rcu", Group::Kernel, false, false),
    way::<free::KfreeRcu>(c"kfree_rcu", Group::Kernel, false, false),
    way::<free::KfreeRcuNolock>(c"kfree_rcu_nolock", Group::Kernel, true, true),
    way::<free::RcuPtrKvfree>(c"rcu_ptr_kvfree", Group::RcuPtr, false, false),
    way::<free::RcuPtrKfreeNolock>(c"rcu_ptr_kfree_nolock", Group::RcuPtr, true, false),
    way::<free::RcuPtrTryKfreeNolock>(c"rcu_ptr_try_kfree_nolock", Group::RcuPtr, true, false),
    way::<free::RcuPtrCall>(c"rcu_ptr_call", Group::RcuPtr, true, false),
    way::<free::RcuPtrCallSleepable>(c"rcu_ptr_call_sleepable", Group::RcuPtr, true, false),
];

/// The functions that `frees=` asks for and that free objects of `source`.
pub(crate) fn ways(source: &Source) -> impl Iterator<Item = &'static Way> + '_ {
    WAYS.iter()
        .filter(|way| way.group.has(way.name()) && (source.is_slab() || !way.slab_only))
}

impl Way {
    /// The name for messages.
    pub(crate) fn name(&self) -> &'static str {
        self.name.to_str().unwrap_or("?")
    }

    /// Allocates `n` objects and frees each, at once if the function does not take it. Returns how many it did
    /// not. An indirect call: a few instructions that are in the cycles of all functions alike.
    #[inline]
    pub(crate) fn go_round(&self, source: &Source, n: usize) -> Result<usize> {
        let mut refused = 0;
        for _ in 0..n {
            let object = source.alloc()?;
            // SAFETY: Fresh from the allocator, and given away.
            if unsafe { (self.run)(&mut [object]) } != 0 {
                // SAFETY: It was left to us.
                unsafe { alloc::kvfree(object.cast()) };
                refused += 1;
            }
        }
        Ok(refused)
    }

    /// Waits until what was freed is back in its allocator, as far as the kernel lets us: there is
    /// no way to wait for objects of kfree_rcu() that are in no call_rcu() yet.
    pub(crate) fn settle(&self) {
        (self.settle)();
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "free={} engine={}", self.name(), self.group.engine())
    }
}

/// Objects that wait to be freed. Those that no function took are freed on drop.
///
/// # Invariants
///
/// `all[..refused]` and `all[next..]` are live and owned.
pub(crate) struct Objects {
    all: KVVec<NonNull<Object>>,
    refused: usize,
    next: usize,
}

impl Objects {
    /// `n` objects from `source`.
    pub(crate) fn new(source: &Source, n: usize) -> Result<Self> {
        // INVARIANT: Every object that is pushed is fresh.
        let mut objects = Self {
            all: KVVec::with_capacity(n, GFP_KERNEL)?,
            refused: 0,
            next: 0,
        };
        for i in 0..n {
            objects.all.push(source.alloc()?, GFP_KERNEL)?;
            if i % 256 == 255 {
                thread::cond_resched();
            }
        }
        Ok(objects)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether all have been handed to a function.
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.all.len()
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    /// Frees the next `n`. Returns the cycles it took, the reading of the counter included.
    ///
    /// # Context
    ///
    /// That of `way`.
    #[inline]
    pub(crate) fn free(&mut self, way: &Way, n: usize) -> u64 {
        let end = (self.next + n).min(self.all.len());
        let before = counters::cycles();
        // SAFETY: By the type invariants, and `ways()` has chosen a function for their kind.
        let mut refused = unsafe { (way.run)(&mut self.all[self.next..end]) };
        let took = counters::cycles() - before;
        if way.group == Group::Nothing {
            refused = end - self.next;
        }
        // INVARIANT: Those that were taken are left out on both sides.
        self.all
            .copy_within(self.next..self.next + refused, self.refused);
        self.refused += refused;
        self.next = end;
        took
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        for (i, &object) in self.all.iter().enumerate() {
            if i < self.refused || i >= self.next {
                // SAFETY: By the type invariants.
                unsafe { alloc::kvfree(object.cast()) };
            }
            if i % 256 == 255 {
                thread::cond_resched();
            }
        }
    }
}
