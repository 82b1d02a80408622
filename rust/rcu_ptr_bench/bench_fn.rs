// SPDX-License-Identifier: GPL-2.0

//! The functions under measurement, and the loops around them. A loop is compiled for each
//! function, so that it is called directly; an empty loop is measured in the same way and
//! subtracted.

use crate::sys::{
    alloc, counters,
    free::{self, Free, Object, ObjectKind},
    params, thread,
};
use core::ptr::NonNull;
use kernel::{fmt, prelude::*};

/// The provider of a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// The empty loop.
    Nothing,
    Kernel,
    /// rcu_ptr, with the engine that is loaded.
    RcuPtr,
}

impl Group {
    /// Whether the list `frees=` contains `all`, this group or `name`.
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
pub(crate) struct BenchFn {
    /// The name in results.
    pub(crate) name: &'static CStr,
    pub(crate) group: Group,
    /// Allowed in NMI.
    pub(crate) in_nmi: bool,
    /// Accepts kmalloc and kmem_cache objects only.
    slab_only: bool,
    run: Loop,
    settle: fn(),
}

/// Frees the objects. Moves those that the function did not accept to the front of the slice, and
/// returns their number.
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

const fn function<F: Free>(
    name: &'static CStr,
    group: Group,
    in_nmi: bool,
    slab_only: bool,
) -> BenchFn {
    BenchFn {
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
pub(crate) static NOTHING: BenchFn =
    function::<free::Nothing>(c"nothing", Group::Nothing, true, false);

static FUNCTIONS: [BenchFn; 9] = [
    function::<free::Kfree>(c"kfree", Group::Kernel, false, true),
    function::<free::CallRcu>(c"call_rcu", Group::Kernel, false, false),
    function::<free::KfreeRcu>(c"kfree_rcu", Group::Kernel, false, false),
    function::<free::KfreeRcuNolock>(c"kfree_rcu_nolock", Group::Kernel, true, true),
    function::<free::RcuPtrKvfree>(c"rcu_ptr_kvfree", Group::RcuPtr, false, false),
    function::<free::RcuPtrKfreeNolock>(c"rcu_ptr_kfree_nolock", Group::RcuPtr, true, false),
    function::<free::RcuPtrTryKfreeNolock>(c"rcu_ptr_try_kfree_nolock", Group::RcuPtr, true, false),
    function::<free::RcuPtrCall>(c"rcu_ptr_call", Group::RcuPtr, true, false),
    function::<free::RcuPtrCallSleepable>(c"rcu_ptr_call_sleepable", Group::RcuPtr, true, false),
];

/// The functions that `frees=` asks for and that free objects of `source`.
pub(crate) fn functions(source: &ObjectKind) -> impl Iterator<Item = &'static BenchFn> + '_ {
    FUNCTIONS.iter().filter(|function| {
        function.group.has(function.name()) && (source.is_slab() || !function.slab_only)
    })
}

impl BenchFn {
    /// The name as a string.
    pub(crate) fn name(&self) -> &'static str {
        self.name.to_str().unwrap_or("?")
    }

    /// Allocates `n` objects and frees each, without a grace period if the function does not accept
    /// it. Returns the number of those. The call is indirect, which costs all functions the same
    /// few instructions.
    #[inline]
    pub(crate) fn alloc_and_free(&self, source: &ObjectKind, n: usize) -> Result<usize> {
        let mut refused = 0;
        for _ in 0..n {
            let object = source.alloc()?;
            // SAFETY: Just allocated, and not used afterwards.
            if unsafe { (self.run)(&mut [object]) } != 0 {
                // SAFETY: Not accepted, so still owned.
                unsafe { alloc::kvfree(object.cast()) };
                refused += 1;
            }
        }
        Ok(refused)
    }

    /// Waits until freed objects are back in their allocator, as far as possible: there is no way
    /// to wait for objects of kfree_rcu() before the kernel has passed them to call_rcu().
    pub(crate) fn settle(&self) {
        (self.settle)();
    }
}

impl fmt::Display for BenchFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "free={} engine={}", self.name(), self.group.engine())
    }
}

/// Objects for a function to free. The rest is freed on drop.
///
/// # Invariants
///
/// `all[..refused]` and `all[next..]` are live and owned.
pub(crate) struct BenchObjects {
    all: KVVec<NonNull<Object>>,
    refused: usize,
    next: usize,
}

impl BenchObjects {
    /// Allocates `n` objects from `source`.
    pub(crate) fn new(source: &ObjectKind, n: usize) -> Result<Self> {
        // INVARIANT: Every object that is pushed was just allocated.
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

    /// Whether all have been passed to a function.
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.all.len()
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    /// Frees the next `n`. Returns the cycles, those for reading the counter included.
    ///
    /// # Context
    ///
    /// That of `function`.
    #[inline]
    pub(crate) fn free(&mut self, function: &BenchFn, n: usize) -> u64 {
        let end = (self.next + n).min(self.all.len());
        let before = counters::cycles();
        // SAFETY: By the type invariants, and `functions()` has chosen a function for their kind.
        let mut refused = unsafe { (function.run)(&mut self.all[self.next..end]) };
        let took = counters::cycles() - before;
        if function.group == Group::Nothing {
            refused = end - self.next;
        }
        // INVARIANT: Objects that were freed are in neither range.
        self.all
            .copy_within(self.next..self.next + refused, self.refused);
        self.refused += refused;
        self.next = end;
        took
    }
}

impl Drop for BenchObjects {
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
