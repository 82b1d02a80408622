// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug by tests, which may sleep; the context of the caller.

pub(crate) use super::smp::{nr_ids, online, this};
use super::{generated as sys, irq::IrqsOff, static_ref::StaticRef};
use kernel::{bindings, error::to_result, prelude::*};

/// The last online CPU, unless that is CPU 0: one that can be taken down or kept busy.
pub(crate) fn other() -> Option<i32> {
    online().filter(|&cpu| cpu != 0).last()
}

/// Takes `cpu` down.
pub(crate) fn take_down(cpu: i32) -> Result {
    // SAFETY: No requirements.
    to_result(unsafe { bindings::remove_cpu(cpu as c_uint) })
}

/// Brings `cpu` up.
pub(crate) fn bring_up(cpu: i32) -> Result {
    // SAFETY: No requirements.
    to_result(unsafe { bindings::add_cpu(cpu as c_uint) })
}

/// A step of taking a CPU down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DownStep {
    /// The first step. The CPU is fully functional.
    Leaving,
    /// `rcu_ptr.ko` no longer queues irq_works there. Otherwise the CPU is fully functional.
    Ended,
    /// The per-CPU threads are parked; interrupts are still handled.
    Parked,
    /// The last irq_work has run, and interrupts are disabled; NMIs are still handled.
    Dying,
    /// The CPU is dead, but the callbacks of `rcu_ptr.ko` have not run. On another CPU.
    Dead,
}

impl DownStep {
    /// The steps on the CPU itself.
    pub(crate) const ALL: [Self; 4] = [Self::Leaving, Self::Ended, Self::Parked, Self::Dying];

    /// A dynamic state, which comes first on the way down as it was registered last; or a state
    /// of a platform that this kernel does not run on.
    fn state(self) -> bindings::cpuhp_state {
        match self {
            Self::Leaving => bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN,
            Self::Ended => bindings::cpuhp_state_CPUHP_AP_PERF_S390_CF_ONLINE,
            Self::Parked => bindings::cpuhp_state_CPUHP_AP_HYPERV_ONLINE,
            Self::Dying => bindings::cpuhp_state_CPUHP_AP_IRQ_MIPS_GIC_STARTING,
            Self::Dead => bindings::cpuhp_state_CPUHP_BP_PREPARE_DYN,
        }
    }
}

/// Runs on a CPU that goes down.
type Body<'a> = dyn Fn() -> Result + Sync + 'a;

static BODY: StaticRef<&Body<'_>> = StaticRef::new();

/// Calls `f`, and meanwhile `body` on each CPU that goes down, at that `step`. If `body` fails
/// the operation is rolled back and the CPU stays up; not so when it is dying. One caller at a
/// time.
pub(crate) fn at_down_step<R>(step: DownStep, body: &Body<'_>, f: impl FnOnce() -> R) -> Result<R> {
    BODY.set((&raw const body).cast());
    // SAFETY: The callback stays valid until it is removed below; the name is static.
    let state = unsafe {
        bindings::__cpuhp_setup_state(
            step.state(),
            c"rcu_ptr:down".as_char_ptr(),
            false,
            None,
            Some(down_callback),
            false,
        )
    };
    if let Err(error) = to_result(state) {
        BODY.clear();
        return Err(error);
    }
    // A dynamic one has a number of its own.
    let state = match step {
        DownStep::Leaving | DownStep::Dead => state as bindings::cpuhp_state,
        _ => step.state(),
    };
    let ret = f();
    // SAFETY: Set up above.
    unsafe { bindings::__cpuhp_remove_state(state, false) };
    BODY.clear();
    Ok(ret)
}

extern "C" fn down_callback(_cpu: c_uint) -> c_int {
    // SAFETY: Set before the callback was registered, and valid until it is removed.
    match unsafe { BODY.get() }.map_or(Ok(()), |body| body()) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// The context that code runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// A task.
    Task,
    /// A softirq.
    Softirq,
    /// A hard interrupt.
    Hardirq,
    /// A non-maskable interrupt.
    Nmi,
}

/// The context of the caller.
pub(crate) fn context() -> Context {
    // SAFETY: No requirements.
    match unsafe { sys::rcu_ptr_shim_ctx() } as c_uint {
        sys::RCU_PTR_CTX_NMI => Context::Nmi,
        sys::RCU_PTR_CTX_HARDIRQ => Context::Hardirq,
        sys::RCU_PTR_CTX_SOFTIRQ => Context::Softirq,
        _ => Context::Task,
    }
}

/// Whether softirqs are disabled and interrupts enabled, as in callbacks of call_rcu().
pub(crate) fn is_bh_off() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_bh_is_off() }
}

/// Whether the caller may sleep.
pub(crate) fn may_sleep() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_may_sleep() }
}

/// Calls `f` with softirqs disabled.
pub(crate) fn bh_off<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Tests call it with softirqs on; they are on again below.
    unsafe { sys::rcu_ptr_shim_bh_disable() };
    let ret = f();
    // SAFETY: Turned off above.
    unsafe { sys::rcu_ptr_shim_bh_enable() };
    ret
}

/// Whether interrupts are disabled.
pub(crate) fn irqs_are_off() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_irqs_disabled() }
}

/// Calls `f` with preemption disabled. Not traced, so that it may be called at any tracepoint.
pub(crate) fn preempt_off<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: On again below.
    unsafe { sys::rcu_ptr_shim_preempt_disable_notrace() };
    let ret = f();
    // SAFETY: Turned off above.
    unsafe { sys::rcu_ptr_shim_preempt_enable_notrace() };
    ret
}

/// Calls `f` with interrupts disabled, and a raw spinlock held that all callers share.
///
/// # Context
///
/// Any but NMI; not from `f`.
pub(crate) fn raw_locked<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Released below.
    let flags = unsafe { sys::rcu_ptr_shim_raw_lock_irqsave() };
    let ret = f();
    // SAFETY: Taken above.
    unsafe { sys::rcu_ptr_shim_raw_unlock_irqrestore(flags) };
    ret
}

/// Calls `f` with interrupts disabled.
pub(crate) fn irqs_off<R>(f: impl FnOnce() -> R) -> R {
    let _irqs = IrqsOff::save();
    f()
}
