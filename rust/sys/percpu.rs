// SPDX-License-Identifier: GPL-2.0

//! Per-CPU data: one `T` for each possible CPU. Creation and drop may sleep. Other functions: any
//! context, NMI included.

use super::{
    generated as sys,
    preempt::OnCpu,
    smp,
    this_cpu::{self, ThisCpuPtr},
};
use kernel::{bindings, prelude::*};

/// One pinned `T` per possible CPU, from the kernel's per-CPU allocator.
///
/// # Invariants
///
/// `base` is a live allocation of `pcpu_alloc()`; the copy of every possible CPU is initialised.
pub(crate) struct PerCpu<T> {
    base: *mut T,
}

// SAFETY: Only `&T` is handed out, to any CPU.
unsafe impl<T: Sync + Send> Sync for PerCpu<T> {}
// SAFETY: The allocation belongs to no CPU or task.
unsafe impl<T: Send> Send for PerCpu<T> {}

/// The possible CPUs, in order.
pub(crate) fn possible_cpus() -> impl Iterator<Item = i32> {
    (0..smp::nr_ids()).filter(|&cpu| {
        // SAFETY: The mask is static.
        unsafe { bindings::cpumask_test_cpu(cpu, &raw mut bindings::__cpu_possible_mask) }
    })
}

impl<T> PerCpu<T> {
    /// Allocates and initialises the copies; `init` gets the number of the CPU.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what `init` failed with.
    pub(crate) fn new<I: PinInit<T, Error>>(mut init: impl FnMut(i32) -> I) -> Result<Self> {
        let (size, align) = (size_of::<T>(), align_of::<T>());
        // SAFETY: Size and alignment are those of a type; alignment is below a page.
        let base = unsafe { bindings::pcpu_alloc_noprof(size, align, false, bindings::GFP_KERNEL) };
        let base: *mut T = base.cast();
        if base.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: The loop initialises the copies; on an error `undo` drops those that are and
        // the value never gets out.
        for cpu in possible_cpus() {
            let slot = Self::slot(base, cpu);
            // SAFETY: `slot` is the uninitialised copy of `cpu`, which stays where it is.
            if let Err(e) = unsafe { pin_init::raw_try_init(slot, init(cpu)) } {
                for done in possible_cpus().take_while(|&done| done < cpu) {
                    // SAFETY: This copy was initialised above and is dropped once.
                    unsafe { Self::slot(base, done).drop_in_place() };
                }
                // SAFETY: `base` comes from `pcpu_alloc_noprof()`, not shared yet.
                unsafe { bindings::free_percpu(base.cast()) };
                return Err(e);
            }
        }
        Ok(Self { base })
    }

    fn slot(base: *mut T, cpu: i32) -> *mut T {
        // SAFETY: `base` is a per-CPU allocation and `cpu` a possible CPU.
        unsafe { sys::rcu_ptr_shim_per_cpu(base.cast(), cpu) }.cast()
    }

    /// The copy of `cpu`, which must be a possible one.
    #[inline]
    pub(crate) fn of(&self, cpu: i32) -> Pin<&T> {
        // SAFETY: By the type invariants the copy is initialised; it is never moved.
        unsafe { Pin::new_unchecked(&*Self::slot(self.base, cpu)) }
    }

    /// This CPU's copy, as long as the caller stays there.
    #[inline(always)]
    pub(crate) fn this<'a>(&'a self, on: &'a impl OnCpu) -> Pin<&'a T> {
        // SAFETY: By the type invariants the copy is initialised; it is never moved.
        unsafe { Pin::new_unchecked(&*this_cpu::address(self.base, on)) }
    }

    /// The word `offset` bytes from the start of this CPU's copy, for operations that are atomic
    /// against this CPU only. The allocation must outlive the value.
    ///
    /// # Safety
    ///
    /// There is an aligned atomic word of 8 bytes at that offset of `T` (`offset_of!()`).
    pub(crate) const unsafe fn word(&self, offset: usize) -> ThisCpuPtr {
        // SAFETY: By the safety requirements of this function; initialised by the type invariants.
        unsafe { ThisCpuPtr::new(self.base.wrapping_byte_add(offset).cast()) }
    }

    /// The copies of all possible CPUs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Pin<&T>> {
        possible_cpus().map(|cpu| self.of(cpu))
    }
}

impl<T> Drop for PerCpu<T> {
    fn drop(&mut self) {
        for cpu in possible_cpus() {
            // SAFETY: By the type invariants the copy is initialised; there is no reference any
            // more, as each borrows `self`.
            unsafe { Self::slot(self.base, cpu).drop_in_place() };
        }
        // SAFETY: By the type invariants.
        unsafe { bindings::free_percpu(self.base.cast()) };
    }
}
