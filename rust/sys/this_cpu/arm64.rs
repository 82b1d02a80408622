// SPDX-License-Identifier: GPL-2.0

//! arm64: relaxed atomics on this CPU's copy, LSE where the CPU has them, patched in by the kernel
//! when the module is loaded.
//!
//! An exclusive pair is atomic against interrupts and NMIs of this CPU, as the return from any of
//! them clears the exclusive monitor.
//!
//! C header: [`arch/arm64/include/asm/percpu.h`](srctree/arch/arm64/include/asm/percpu.h)

use super::{super::generated as sys, ThisCpuPtr};
use core::{arch::asm, mem::offset_of};
use kernel::bindings;

/// Code that is replaced by other code of the same length where the CPU has a capability
/// (`ALTERNATIVE()`).
macro_rules! alternative {
    ([$($old:literal),+], [$($new:literal),+], $cap:expr; $($rest:tt)*) => {
        asm!(
            "661:", $($old,)+ "662:",
            ".pushsection .altinstructions,\"a\"",
            ".word 661b - .", ".word 663f - .", ".hword {cap}",
            ".byte 662b - 661b", ".byte 664f - 663f",
            ".popsection",
            ".subsection 1",
            "663:", $($new,)+ "664:",
            ".org . - (664b - 663b) + (662b - 661b)",
            ".org . - (662b - 661b) + (664b - 663b)",
            ".previous",
            cap = const $cap, $($rest)*
        )
    };
}

const COUNT: usize = offset_of!(bindings::task_struct, thread_info)
    + offset_of!(bindings::thread_info, __bindgen_anon_1);

/// `preempt_disable()`
#[inline(always)]
pub(in super::super) fn preempt_disable() {
    // SAFETY: Counts up the preemption counter of this task (sp_el0), as preempt_disable() does;
    // interrupts leave it as they found it.
    unsafe {
        asm!("mrs {t}, sp_el0", "ldr {c:w}, [{t}, #{off}]", "add {c:w}, {c:w}, #1",
            "str {c:w}, [{t}, #{off}]",
            t = out(reg) _, c = out(reg) _, off = const COUNT,
            options(nostack, preserves_flags))
    };
}

/// `preempt_enable()`
#[inline(always)]
pub(in super::super) fn preempt_enable() {
    // SAFETY: Gives the caller's count back, as preempt_enable() does. Zero, with the inverted flag
    // for a pending reschedule in the upper half, means that there is one and that this was the
    // last; it is looked at twice as an interrupt may have set the flag meanwhile.
    unsafe {
        asm!("mrs {t}, sp_el0", "ldr {c}, [{t}, #{off}]", "sub {c}, {c}, #1",
            "str {c:w}, [{t}, #{off}]", "cbz {c}, {resched}", "ldr {c}, [{t}, #{off}]",
            "cbz {c}, {resched}",
            t = out(reg) _, c = out(reg) _, off = const COUNT,
            resched = label { super::super::preempt::resched() },
            options(nostack, preserves_flags))
    };
}

/// `preempt_enable()`, and returns `value`.
#[inline(always)]
pub(in super::super) fn preempt_enable_with(value: *mut u8) -> *mut u8 {
    preempt_enable();
    value
}

/// What to add to a per-CPU pointer.
#[inline(always)]
pub(super) fn offset() -> usize {
    let offset: usize;
    // SAFETY: Reads the register that the kernel set up at boot; with the kernel at EL2 it is that
    // of EL2.
    unsafe {
        alternative!(["mrs {o}, tpidr_el1"], ["mrs {o}, tpidr_el2"],
            sys::RCU_PTR_CPUCAP_VHE;
            o = out(reg) offset, options(nostack, preserves_flags))
    };
    offset
}

#[inline(always)]
fn mine<const AT: usize>(p: *mut u64) -> *mut u64 {
    p.wrapping_byte_add(offset()).wrapping_byte_add(AT)
}

/// # Safety
///
/// `p` is a per-CPU pointer, and `AT` bytes behind it there is a word.
#[inline(always)]
pub(super) unsafe fn read<const AT: usize>(p: *mut u64) -> u64 {
    // SAFETY: By the safety requirements of this function.
    unsafe { mine::<AT>(p).read_volatile() }
}

/// Whether the word is 0.
///
/// # Safety
///
/// As for [`read()`].
#[inline(always)]
pub(super) unsafe fn is_zero<const AT: usize>(p: *mut u64) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { read::<AT>(p) == 0 }
}

/// # Safety
///
/// As for [`read()`].
#[inline(always)]
pub(super) unsafe fn fetch_add<const AT: usize>(p: *mut u64, n: u64) -> u64 {
    let old: u64;
    // SAFETY: By the safety requirements of this function.
    unsafe {
        alternative!(
            ["1: ldxr {old}, [{p}]", "add {new}, {old}, {n}", "stxr {fail:w}, {new}, [{p}]",
             "cbnz {fail:w}, 1b"],
            [".arch_extension lse", "ldadd {n}, {old}, [{p}]", "nop", "nop", "nop"],
            sys::RCU_PTR_CPUCAP_LSE;
            p = in(reg) mine::<AT>(p), n = in(reg) n, old = out(reg) old, new = out(reg) _,
            fail = out(reg) _, options(nostack, preserves_flags))
    };
    old
}

/// # Safety
///
/// As for [`read()`].
#[inline(always)]
pub(super) unsafe fn cmpxchg<const AT: usize>(p: *mut u64, old: u64, new: u64) -> u64 {
    let was: u64;
    // SAFETY: By the safety requirements of this function.
    unsafe {
        alternative!(
            ["1: ldxr {was}, [{p}]", "cmp {was}, {old}", "b.ne 2f", "stxr {fail:w}, {new}, [{p}]",
             "cbnz {fail:w}, 1b", "2:"],
            [".arch_extension lse", "mov {was}, {old}", "cas {was}, {new}, [{p}]", "nop", "nop", "nop"],
            sys::RCU_PTR_CPUCAP_LSE;
            p = in(reg) mine::<AT>(p), old = in(reg) old, new = in(reg) new, was = out(reg) was,
            fail = out(reg) _, options(nostack))
    };
    was
}

/// This CPU's `rcu_ptr_current_block`.
#[inline(always)]
pub(crate) fn current_block() -> ThisCpuPtr {
    let p: *mut u64;
    // SAFETY: Only computes the address.
    unsafe {
        asm!("adrp {p}, rcu_ptr_current_block", "add {p}, {p}, :lo12:rcu_ptr_current_block",
            p = out(reg) p, options(nostack, nomem, preserves_flags, pure))
    };
    // SAFETY: The symbol is a static per-CPU word.
    unsafe { ThisCpuPtr::new(p) }
}
