// SPDX-License-Identifier: GPL-2.0

//! CPUs: which there are, taking one down and up, which may sleep, and in which context this is.

pub(crate) use super::smp::{nr_ids, online, this};
use super::{generated as sys, irq::IrqsOff, static_ref::StaticRef};
use kernel::{bindings, error::to_result, prelude::*};

/// The last CPU that is online, unless that is CPU 0: one that can go down, or be kept busy.
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

/// A moment on the way of a CPU down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DownStep {
    /// It has just begun.
    Leaving,
    /// The core lets no irq_work be queued any more; all else is as ever.
    Ended,
    /// The threads of the CPU are parked, and interrupts still come.
    Parked,
    /// It has run its last irq_work and interrupts are off: what comes then otherwise are NMIs.
    Dying,
    /// It is dead, and the core has not been told yet. The body runs on another CPU.
    Dead,
}

impl DownStep {
    /// Those on the CPU itself.
    pub(crate) const ALL: [Self; 4] = [Self::Leaving, Self::Ended, Self::Parked, Self::Dying];

    /// The first of the dynamic states on the way down, as it was registered last; or one of
    /// machines and hypervisors that are none of ours, just where it has to be.
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

/// What runs on a CPU that goes down.
type OnTheWay<'a> = dyn Fn() -> Result + Sync + 'a;

static ON_THE_WAY: StaticRef<&OnTheWay<'_>> = StaticRef::new();

/// Calls `f`, and meanwhile `body` on each CPU that goes down, at that `moment`. If `body` fails
/// the operation is rolled back and the CPU stays up; not so when it is dying. One caller at a
/// time.
pub(crate) fn at_down_step<R>(
    moment: DownStep,
    body: &OnTheWay<'_>,
    f: impl FnOnce() -> R,
) -> Result<R> {
    ON_THE_WAY.set((&raw const body).cast());
    // SAFETY: The callback stays valid until it is removed below; the name is static.
    let state = unsafe {
        bindings::__cpuhp_setup_state(
            moment.state(),
            c"rcu_ptr:down".as_char_ptr(),
            false,
            None,
            Some(on_the_way),
            false,
        )
    };
    to_result(state)?;
    // A dynamic one has a number of its own.
    let state = match moment {
        DownStep::Leaving | DownStep::Dead => state as bindings::cpuhp_state,
        _ => moment.state(),
    };
    let ret = f();
    // SAFETY: Set up above.
    unsafe { bindings::__cpuhp_remove_state(state, false) };
    ON_THE_WAY.clear();
    Ok(ret)
}

extern "C" fn on_the_way(_cpu: c_uint) -> c_int {
    // SAFETY: Set before the callback was registered, and valid until it is removed.
    match unsafe { ON_THE_WAY.get() }.map_or(Ok(()), |body| body()) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// Where code runs.
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
        sys::rcu_ptr_ctx_RCU_PTR_CTX_NMI => Context::Nmi,
        sys::rcu_ptr_ctx_RCU_PTR_CTX_HARDIRQ => Context::Hardirq,
        sys::rcu_ptr_ctx_RCU_PTR_CTX_SOFTIRQ => Context::Softirq,
        _ => Context::Task,
    }
}

/// Whether this is where a callback of call_rcu() may run: softirqs off, interrupts on.
pub(crate) fn is_bh_off() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_bh_is_off() }
}

/// Whether this may sleep.
pub(crate) fn may_sleep() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_may_sleep() }
}

/// Calls `f` with softirqs off.
pub(crate) fn bh_off<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Tests call it with softirqs on; they are on again below.
    unsafe { sys::rcu_ptr_shim_bh_disable() };
    let ret = f();
    // SAFETY: Turned off above.
    unsafe { sys::rcu_ptr_shim_bh_enable() };
    ret
}

/// Whether interrupts are off.
pub(crate) fn irqs_are_off() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_irqs_disabled() }
}

/// Calls `f` with preemption disabled, wherever this is.
pub(crate) fn preempt_off<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: On again below.
    unsafe { sys::rcu_ptr_shim_preempt_disable_notrace() };
    let ret = f();
    // SAFETY: Turned off above.
    unsafe { sys::rcu_ptr_shim_preempt_enable_notrace() };
    ret
}

/// Calls `f` with a raw spinlock held, the same for all, and interrupts off.
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

/// Calls `f` with interrupts off.
pub(crate) fn irqs_off<R>(f: impl FnOnce() -> R) -> R {
    let _irqs = IrqsOff::save();
    f()
}
