// SPDX-License-Identifier: GPL-2.0

//! CPUs: which there are, taking one down and up, and in which context this is.

use super::generated as sys;
use ::core::ptr::{self, NonNull};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// CPUs that are up, in order.
pub(crate) fn online() -> impl Iterator<Item = i32> + Clone {
    let end = nr_ids();
    ::core::iter::successors(Some(next(-1)), |&cpu| Some(next(cpu)))
        .take_while(move |&cpu| cpu < end)
}

fn next(cpu: i32) -> i32 {
    // SAFETY: No requirements; -1 is where a walk begins.
    unsafe { sys::rcu_ptr_kunit_next_online_cpu(cpu) }
}

/// CPUs have numbers below this.
pub(crate) fn nr_ids() -> i32 {
    // SAFETY: Set at boot and never again.
    unsafe { bindings::nr_cpu_ids as i32 }
}

/// The CPU that this runs on, at this moment.
pub(crate) fn this() -> i32 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_kunit_this_cpu() }
}

/// The node whose memory `cpu` is nearest to.
pub(crate) fn node(cpu: i32) -> i32 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_kunit_cpu_node(cpu) }
}

/// The node that `object`, of the slab, lies on.
pub(crate) fn node_of(object: NonNull<u8>) -> i32 {
    // SAFETY: Only its page is looked at.
    unsafe { sys::rcu_ptr_kunit_object_node(object.as_ptr().cast()) }
}

/// Takes `cpu` down.
///
/// # Context
///
/// May sleep.
pub(crate) fn take_down(cpu: i32) -> Result {
    // SAFETY: No requirements.
    to_result(unsafe { bindings::remove_cpu(cpu as c_uint) })
}

/// Brings `cpu` up.
///
/// # Context
///
/// May sleep.
pub(crate) fn bring_up(cpu: i32) -> Result {
    // SAFETY: No requirements.
    to_result(unsafe { bindings::add_cpu(cpu as c_uint) })
}

/// What runs on a CPU that goes down.
static DYING: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// Calls `f`, and meanwhile `body` on each CPU that goes down: as late as can be, when it has run
/// its last irq_work, with interrupts off. What comes then otherwise are NMIs.
///
/// # Context
///
/// May sleep. One caller at a time.
pub(crate) fn while_dying<R>(body: &(dyn Fn() + Sync), f: impl FnOnce() -> R) -> Result<R> {
    // A state of machines that are none of ours, just where it has to be.
    const STATE: bindings::cpuhp_state = bindings::cpuhp_state_CPUHP_AP_IRQ_MIPS_GIC_STARTING;
    let mut wide = body;
    // ORDERING: The registration below orders it.
    DYING.store((&raw mut wide).cast(), Relaxed);
    // SAFETY: The callback stays valid until it is removed below; the name is static.
    to_result(unsafe {
        bindings::__cpuhp_setup_state(
            STATE,
            c"rcu_ptr_kunit:dying".as_char_ptr(),
            false,
            None,
            Some(dying),
            false,
        )
    })?;
    let ret = f();
    // SAFETY: Set up above.
    unsafe { bindings::__cpuhp_remove_state(STATE, false) };
    Ok(ret)
}

extern "C" fn dying(_cpu: c_uint) -> c_int {
    let wide = DYING.load(Relaxed).cast::<&(dyn Fn() + Sync)>();
    // SAFETY: Set before the callback was registered, and valid until it is removed.
    unsafe { (*wide)() };
    0
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
    unsafe {
        if sys::rcu_ptr_kunit_in_nmi() {
            Context::Nmi
        } else if sys::rcu_ptr_kunit_in_hardirq() {
            Context::Hardirq
        } else if sys::rcu_ptr_kunit_in_softirq() {
            Context::Softirq
        } else {
            Context::Task
        }
    }
}

/// Calls `f` with interrupts off.
pub(crate) fn irqs_off<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Tests call it with interrupts on; they are on again below.
    unsafe { sys::rcu_ptr_kunit_local_irq_disable() };
    let ret = f();
    // SAFETY: Turned off above.
    unsafe { sys::rcu_ptr_kunit_local_irq_enable() };
    ret
}
