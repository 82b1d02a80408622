// SPDX-License-Identifier: GPL-2.0

//! Operations on a word of this CPU that are atomic against this CPU's own interrupts and NMIs, and
//! against nothing else: no lock prefix, no barrier (`this_cpu_*()` of
//! [`include/linux/percpu-defs.h`](srctree/include/linux/percpu-defs.h)).
//!
//! Other CPUs may read such a word at any time, and write it only while its CPU does not use it.
//!
//! None of the operations orders memory accesses for other CPUs. For this CPU, its interrupts and
//! NMIs, accesses are in program order: the compiler does not move them across `asm!`.

#[cfg_attr(CONFIG_X86_64, path = "x86_64.rs")]
#[cfg_attr(CONFIG_ARM64, path = "arm64.rs")]
pub(super) mod arch;

use super::preempt::OnCpu;

/// Whether preempt_disable() and preempt_enable() only count, which the file of the architecture
/// then does inline: calls of C shims would take half of the time of the fast path. Otherwise the
/// shims are used.
pub(super) const COUNTER_ALONE: bool = cfg!(all(
    CONFIG_PREEMPTION,
    not(CONFIG_CPU_BIG_ENDIAN),
    not(CONFIG_DEBUG_PREEMPT),
    not(CONFIG_TRACE_PREEMPT_TOGGLE)
));

/// This CPU's copy of a dynamically allocated per-CPU word (a field of the `T` of a
/// [`PerCpu<T>`](super::percpu::PerCpu)), `AT` bytes behind the pointer: on x86_64 a constant in
/// the instruction.
///
/// # Context
///
/// All operations: any, NMI included.
///
/// # Invariants
///
/// The pointer is a per-CPU pointer (an offset, not an address); `AT` bytes behind it there is an
/// aligned word that is initialised for every possible CPU and outlives the value.
#[derive(Clone, Copy)]
pub(crate) struct ThisCpuPtr<const AT: usize = 0>(*mut u64);

// SAFETY: The pointer names a different word on each CPU; all accesses are atomic operations.
unsafe impl<const AT: usize> Send for ThisCpuPtr<AT> {}
// SAFETY: As above.
unsafe impl<const AT: usize> Sync for ThisCpuPtr<AT> {}

impl ThisCpuPtr {
    /// A word at per-CPU pointer `word`.
    ///
    /// # Safety
    ///
    /// `word` is as the type invariants ask.
    pub(crate) const unsafe fn new(word: *mut u64) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(word)
    }

    /// The word `bytes` further on.
    ///
    /// # Safety
    ///
    /// There is one, in the same allocation.
    #[inline(always)]
    pub(crate) const unsafe fn byte_add(self, bytes: usize) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(self.0.wrapping_byte_add(bytes))
    }

    /// The word `TO` bytes further on.
    ///
    /// # Safety
    ///
    /// As for [`Self::byte_add()`].
    #[inline(always)]
    pub(crate) const unsafe fn at<const TO: usize>(self) -> ThisCpuPtr<TO> {
        // INVARIANT: By the safety requirements of this function.
        ThisCpuPtr(self.0)
    }
}

impl<const AT: usize> ThisCpuPtr<AT> {
    /// Reads the word.
    #[inline(always)]
    pub(crate) fn read(self, _on: &impl OnCpu) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { arch::read::<AT>(self.0) }
    }

    /// Whether the word is 0: on x86_64 a comparison in memory.
    #[inline(always)]
    pub(crate) fn is_zero(self, _on: &impl OnCpu) -> bool {
        // SAFETY: By the type invariants.
        unsafe { arch::is_zero::<AT>(self.0) }
    }

    /// Adds `n`, wrapping, and returns what was there before.
    #[inline(always)]
    pub(crate) fn fetch_add(self, n: u64, _on: &impl OnCpu) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { arch::fetch_add::<AT>(self.0, n) }
    }

    /// Exchanges `old` for `new`. Returns what was there: `old` if it was exchanged.
    #[inline(always)]
    pub(crate) fn cmpxchg(self, old: u64, new: u64, _on: &impl OnCpu) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { arch::cmpxchg::<AT>(self.0, old, new) }
    }
}

/// The address of this CPU's copy of what per-CPU pointer `base` means.
///
/// # Context
///
/// Any, NMI included. The address means this CPU's copy for ever; the caller is on that CPU as long
/// as `_on` lives.
#[inline(always)]
pub(crate) fn address<T>(base: *mut T, _on: &impl OnCpu) -> *mut T {
    base.wrapping_byte_add(arch::offset())
}
