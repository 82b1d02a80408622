// SPDX-License-Identifier: GPL-2.0

//! x86_64: an instruction each, on memory relative to GS, as per-CPU data is with CONFIG_SMP.
//!
//! C header: [`arch/x86/include/asm/percpu.h`](srctree/arch/x86/include/asm/percpu.h)

use kernel::asm;

/// `preempt_disable()`
#[inline(always)]
pub(in super::super) fn preempt_disable() {
    if !super::COUNTER_ALONE {
        // SAFETY: No requirements.
        return unsafe { super::super::generated::rcu_ptr_shim_preempt_disable() };
    }
    // SAFETY: Counts up this CPU's preemption counter, as preempt_disable() does; a switch to
    // another CPU before the instruction does no harm.
    #[cfg(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS)]
    unsafe {
        asm!("incq %gs:__preempt_count(%rip)"; options(nostack))
    };
    // SAFETY: As above.
    #[cfg(not(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS))]
    unsafe {
        asm!("incl %gs:__preempt_count(%rip)"; options(nostack))
    };
}

/// `preempt_enable()`
#[inline(always)]
pub(in super::super) fn preempt_enable() {
    if !super::COUNTER_ALONE {
        // SAFETY: The caller owns a count.
        return unsafe { super::super::generated::rcu_ptr_shim_preempt_enable() };
    }
    // SAFETY: Gives the caller's count back, as preempt_enable() does. Zero means that this was
    // the last and that a reschedule is pending (that flag is kept inverted).
    #[cfg(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS)]
    unsafe {
        asm!("decq %gs:__preempt_count(%rip); je {resched}";
            resched = label { super::super::preempt::resched() },
            options(nostack))
    };
    // SAFETY: As above.
    #[cfg(not(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS))]
    unsafe {
        asm!("decl %gs:__preempt_count(%rip); je {resched}";
            resched = label { super::super::preempt::resched() },
            options(nostack))
    };
}

/// `preempt_enable()`, and returns `value`.
#[inline(always)]
pub(in super::super) fn preempt_enable_with(value: *mut u8) -> *mut u8 {
    if !super::COUNTER_ALONE {
        preempt_enable();
        return value;
    }
    'resched: {
        // SAFETY: As in `preempt_enable()`.
        #[cfg(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS)]
        unsafe {
            asm!("decq %gs:__preempt_count(%rip); je {resched}";
                resched = label { break 'resched }, options(nostack))
        };
        // SAFETY: As above.
        #[cfg(not(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS))]
        unsafe {
            asm!("decl %gs:__preempt_count(%rip); je {resched}";
                resched = label { break 'resched }, options(nostack))
        };
        return value;
    }
    super::super::preempt::resched_with(value)
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

/// Declares a type for this CPU's copy of a static per-CPU word that shim.c defines
/// (`DEFINE_PER_CPU(unsigned long, symbol)`), with the operations of
/// [`ThisCpuPtr`](super::ThisCpuPtr) in an instruction each: the address is part of it.
macro_rules! this_cpu_word {
    ($(#[$attr:meta])* $name:ident = $symbol:literal) => {
        $(#[$attr])*
        pub(crate) struct $name;

        impl $name {
            #[inline(always)]
            pub(crate) fn read(_on: &impl $crate::sys::preempt::OnCpu) -> u64 {
                let value: u64;
                // SAFETY: The symbol is a per-CPU word.
                unsafe {
                    ::kernel::asm!(concat!("movq %gs:", $symbol, "(%rip), {v}");
                        v = out(reg) value, options(nostack, preserves_flags))
                };
                value
            }

            #[inline(always)]
            pub(crate) fn fetch_add(n: u64, _on: &impl $crate::sys::preempt::OnCpu) -> u64 {
                let old: u64;
                // SAFETY: The symbol is a per-CPU word. One instruction, so no interrupt or NMI of
                // this CPU comes between.
                unsafe {
                    ::kernel::asm!(concat!("xaddq {n}, %gs:", $symbol, "(%rip)");
                        n = inout(reg) n => old, options(nostack))
                };
                old
            }

            #[inline(always)]
            pub(crate) fn cmpxchg(
                old: u64,
                new: u64,
                _on: &impl $crate::sys::preempt::OnCpu,
            ) -> u64 {
                let was: u64;
                // SAFETY: The symbol is a per-CPU word. One instruction, as above.
                unsafe {
                    ::kernel::asm!(concat!("cmpxchgq {new}, %gs:", $symbol, "(%rip)");
                        new = in(reg) new, inout("rax") old => was, options(nostack))
                };
                was
            }
        }
    };
}
pub(crate) use this_cpu_word;
