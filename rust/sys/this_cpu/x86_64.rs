// SPDX-License-Identifier: GPL-2.0

//! x86_64: an instruction each, on memory relative to GS, as per-CPU data is with CONFIG_SMP.
//!
//! C header: [`arch/x86/include/asm/percpu.h`](srctree/arch/x86/include/asm/percpu.h)

use super::super::preempt::{self, OnCpu};
use kernel::asm;

/// The size of this CPU's preemption counter, as the suffix of an instruction.
#[cfg(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS)]
macro_rules! size {
    () => {
        "q"
    };
}
#[cfg(not(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS))]
macro_rules! size {
    () => {
        "l"
    };
}

/// `preempt_disable()`
#[inline(always)]
pub(in super::super) fn preempt_disable() {
    // SAFETY: Counts up this CPU's preemption counter, as preempt_disable() does; a switch to
    // another CPU before the instruction does no harm.
    unsafe { asm!(concat!("inc", size!(), " %gs:__preempt_count(%rip)"); options(nostack)) };
}

/// `preempt_enable()`
#[inline(always)]
pub(in super::super) fn preempt_enable() {
    // SAFETY: Gives the caller's count back, as preempt_enable() does. Zero means that this was
    // the last and that a reschedule is pending (that flag is kept inverted).
    unsafe {
        asm!(concat!("dec", size!(), " %gs:__preempt_count(%rip); je {resched}");
            resched = label { preempt::resched() }, options(nostack))
    };
}

/// `preempt_enable()`, and returns `value`.
#[inline(always)]
pub(in super::super) fn preempt_enable_with(value: *mut u8) -> *mut u8 {
    'resched: {
        // SAFETY: As in `preempt_enable()`.
        unsafe {
            asm!(concat!("dec", size!(), " %gs:__preempt_count(%rip); je {resched}");
                resched = label { break 'resched }, options(nostack))
        };
        return value;
    }
    preempt::resched_with(value)
}

/// What to add to a per-CPU pointer.
#[inline(always)]
pub(super) fn offset() -> usize {
    let offset: usize;
    // SAFETY: Reads a word that the kernel set up at boot.
    unsafe {
        asm!("movq %gs:this_cpu_off(%rip), {o}"; o = out(reg) offset,
            options(nostack, preserves_flags, readonly))
    };
    offset
}

/// # Safety
///
/// `p` is a per-CPU pointer, and `AT` bytes behind it there is a word.
#[inline(always)]
pub(super) unsafe fn read<const AT: usize>(p: *mut u64) -> u64 {
    let value: u64;
    // SAFETY: By the safety requirements of this function.
    unsafe {
        asm!("movq %gs:{at}({p}), {v}"; p = in(reg) p, v = out(reg) value, at = const AT,
            options(nostack, preserves_flags))
    };
    value
}

/// Whether the word is 0.
///
/// # Safety
///
/// As for [`read()`].
#[inline(always)]
pub(super) unsafe fn is_zero<const AT: usize>(p: *mut u64) -> bool {
    'other: {
        // SAFETY: By the safety requirements of this function.
        unsafe {
            asm!("cmpq $0, %gs:{at}({p}); jne {other}"; p = in(reg) p, at = const AT,
                other = label { break 'other }, options(nostack))
        };
        return true;
    }
    false
}

/// # Safety
///
/// As for [`read()`].
#[inline(always)]
pub(super) unsafe fn fetch_add<const AT: usize>(p: *mut u64, n: u64) -> u64 {
    let old: u64;
    // SAFETY: By the safety requirements of this function. One instruction, so no interrupt or NMI
    // of this CPU comes between.
    unsafe {
        asm!("xaddq {n}, %gs:{at}({p})"; p = in(reg) p, n = inout(reg) n => old, at = const AT,
            options(nostack))
    };
    old
}

/// # Safety
///
/// As for [`read()`].
#[inline(always)]
pub(super) unsafe fn cmpxchg<const AT: usize>(p: *mut u64, old: u64, new: u64) -> u64 {
    let was: u64;
    // SAFETY: By the safety requirements of this function. One instruction, as above.
    unsafe {
        asm!("cmpxchgq {new}, %gs:{at}({p})"; p = in(reg) p, new = in(reg) new, at = const AT,
            inout("rax") old => was, options(nostack))
    };
    was
}

/// This CPU's `rcu_ptr_current_block`, with the operations of [`ThisCpuPtr`](super::ThisCpuPtr) in
/// an instruction each: the address is part of it.
pub(crate) struct CurrentBlock;

#[inline(always)]
pub(crate) fn current_block() -> CurrentBlock {
    CurrentBlock
}

impl CurrentBlock {
    #[inline(always)]
    pub(crate) fn read(self, _on: &impl OnCpu) -> u64 {
        let value: u64;
        // SAFETY: The symbol is a per-CPU word.
        unsafe {
            asm!("movq %gs:rcu_ptr_current_block(%rip), {v}"; v = out(reg) value,
                options(nostack, preserves_flags))
        };
        value
    }

    #[inline(always)]
    pub(crate) fn fetch_add(self, n: u64, _on: &impl OnCpu) -> u64 {
        let old: u64;
        // SAFETY: The symbol is a per-CPU word. One instruction, so no interrupt or NMI of this CPU
        // comes between.
        unsafe {
            asm!("xaddq {n}, %gs:rcu_ptr_current_block(%rip)"; n = inout(reg) n => old,
                options(nostack))
        };
        old
    }

    #[inline(always)]
    pub(crate) fn cmpxchg(self, old: u64, new: u64, _on: &impl OnCpu) -> u64 {
        let was: u64;
        // SAFETY: The symbol is a per-CPU word. One instruction, as above.
        unsafe {
            asm!("cmpxchgq {new}, %gs:rcu_ptr_current_block(%rip)"; new = in(reg) new,
                inout("rax") old => was, options(nostack))
        };
        was
    }
}
