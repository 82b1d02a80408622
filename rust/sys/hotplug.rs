// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug callbacks: before a CPU comes up, when it is up, before it goes down, and after it
//! is dead.
//!
//! C header: [`include/linux/cpuhotplug.h`](srctree/include/linux/cpuhotplug.h)
//!
//! # Context
//!
//! What registers something may sleep, and takes the CPU hotplug lock for reading.

use super::irq_work;
use core::marker::PhantomData;
use kernel::{bindings, error::to_result, prelude::*};

/// What is called when CPUs come up and go down, one at a time.
pub(crate) trait Callbacks {
    /// `cpu` is about to come up (or is up, when the callbacks are registered). In process context
    /// on another CPU.
    fn prepare(cpu: i32);
    /// `cpu` is up, or stays up after a failed attempt to take it down: irq_works that were not
    /// queued meanwhile are due ([`IrqWork::queue_if_due()`](irq_work::IrqWork::queue_if_due)). In
    /// process context on that CPU.
    fn online(cpu: i32);
    /// `cpu` is about to go down, or its way up was broken off: everything still runs there. In
    /// process context on that CPU.
    fn teardown(_cpu: i32) {}
    /// `cpu` is dead: nothing runs there any more. In process context on another CPU.
    fn dead(cpu: i32);
}

/// Where what comes first when a CPU goes down, and last when it comes up, is registered.
const ONLINE: bindings::cpuhp_state = bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN;

/// A registered pair of callbacks, unregistered on drop.
struct State(bindings::cpuhp_state);

type Callback = unsafe extern "C" fn(c_uint) -> c_int;

impl State {
    /// Registers `startup`, which is called for every CPU that is up, and `teardown`, in a dynamic
    /// `range`.
    fn register(
        range: bindings::cpuhp_state,
        name: &'static CStr,
        startup: Callback,
        teardown: Option<Callback>,
    ) -> Result<Self> {
        // SAFETY: The callbacks stay valid until `drop()` removes them; `name` is static.
        let ret = unsafe {
            bindings::__cpuhp_setup_state(
                range,
                name.as_char_ptr(),
                true,
                Some(startup),
                teardown,
                false,
            )
        };
        to_result(ret)?;
        Ok(Self(ret as bindings::cpuhp_state))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: What `__cpuhp_setup_state()` gave for a dynamic range.
        unsafe { bindings::__cpuhp_remove_state(self.0, false) };
    }
}

/// A registered set of [`Callbacks`], unregistered on drop.
pub(crate) struct Hotplug<C> {
    _online: State,
    _prepare: State,
    _callbacks: PhantomData<C>,
}

macro_rules! entries {
    ($($name:ident)+) => {$(
        extern "C" fn $name<C: Callbacks>(cpu: c_uint) -> c_int {
            C::$name(cpu as i32);
            0
        }
    )+};
}

entries!(prepare online teardown dead);

impl<C: Callbacks> Hotplug<C> {
    /// Registers the callbacks and calls [`Callbacks::prepare()`] and [`Callbacks::online()`] for
    /// every CPU that is up.
    pub(crate) fn register(name: &'static CStr, irq_works: &IrqWorksRun) -> Result<Self> {
        let before = bindings::cpuhp_state_CPUHP_BP_PREPARE_DYN;
        let prepare = State::register(before, name, prepare::<C>, Some(dead::<C>))?;
        // What `online()` queues has to run by then, and a CPU that is rolled back has to get there
        // again if it has been to where they end. The range is filled from below, so the first try
        // is good unless others have unregistered meanwhile. A place that is too low is kept until
        // one is found that is not: so none is tried twice, and the range has an end.
        let mut too_low = KVec::new();
        let online = loop {
            let state = State::register(ONLINE, name, online::<C>, Some(teardown::<C>))?;
            if state.0 > irq_works.0 .0 {
                break state;
            }
            too_low.push(state, GFP_KERNEL)?;
        };
        drop(too_low);
        Ok(Self {
            _prepare: prepare,
            _online: online,
            _callbacks: PhantomData,
        })
    }
}

/// The CPUs that run irq_works to their end: those that are up and not about to go down. Elsewhere
/// none is queued.
///
/// A CPU on its way down runs its last irq_works, and on PREEMPT_RT parks the thread that runs them
/// much earlier. Contexts that interrupt it may go on queueing, and a task that then waits for such
/// an item waits until the CPU is back.
pub(crate) struct IrqWorksRun(State);

extern "C" fn irq_works_run(_cpu: c_uint) -> c_int {
    irq_work::enable();
    0
}

extern "C" fn irq_works_end(_cpu: c_uint) -> c_int {
    irq_work::disable();
    0
}

impl IrqWorksRun {
    /// From here on irq_works run, until this is dropped: before the first is made, and when the
    /// last is gone.
    pub(crate) fn register() -> Result<Self> {
        let name = c"rcu_ptr:irq_work";
        State::register(ONLINE, name, irq_works_run, Some(irq_works_end)).map(Self)
    }
}
