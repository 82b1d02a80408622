// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug callbacks: before a CPU comes up, when it is up, before it goes down, and after it
//! is dead.
//!
//! C header: [`include/linux/cpuhotplug.h`](srctree/include/linux/cpuhotplug.h)
//!
//! # Context
//!
//! Functions that register may sleep, and take the CPU hotplug lock for reading.

use super::irq_work;
use core::marker::PhantomData;
use kernel::{bindings, error::to_result, prelude::*};

/// Callbacks of CPUs that go up and down, which are called one at a time.
pub(crate) trait Callbacks {
    /// `cpu` is about to be brought up (or is online, when the callbacks are registered). In
    /// process context on another CPU.
    fn prepare(cpu: i32);
    /// `cpu` is up, or remains up after a failed attempt to take it down: irq_works that were not
    /// queued meanwhile are due ([`IrqWork::queue_if_due()`](irq_work::IrqWork::queue_if_due)). In
    /// process context on that CPU.
    fn online(cpu: i32);
    /// `cpu` is about to be taken down, or bringing it up has failed; it is fully functional. In
    /// process context on that CPU.
    fn teardown(_cpu: i32) {}
    /// `cpu` is dead: nothing runs there any more. In process context on another CPU.
    fn dead(cpu: i32);
}

/// The first states on the way down, and the last on the way up (`CPUHP_AP_ONLINE_DYN`).
const ONLINE: bindings::cpuhp_state = bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN;

/// A registered pair of callbacks, unregistered on drop.
struct State(bindings::cpuhp_state);

type Callback = unsafe extern "C" fn(c_uint) -> c_int;

impl State {
    /// Registers `startup`, which is called for every online CPU, and `teardown`, in a dynamic
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
        // SAFETY: The state that `__cpuhp_setup_state()` allocated in a dynamic range.
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
    /// every online CPU.
    pub(crate) fn register(name: &'static CStr, irq_works: &IrqWorksRun) -> Result<Self> {
        let before = bindings::cpuhp_state_CPUHP_BP_PREPARE_DYN;
        let prepare = State::register(before, name, prepare::<C>, Some(dead::<C>))?;
        // irq_works that `online()` queues have to run, so its state must be higher than that of
        // `IrqWorksRun`; then a rollback that has disabled irq_works also calls `online()` again.
        // The lowest free state is allocated: the first is right unless others have unregistered
        // theirs. A state that is too low is held until a higher one is found, so that it is not
        // returned again.
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

/// Registers which CPUs run irq_works: those that are online and not about to go down. On others
/// none is queued.
///
/// A CPU that goes down runs its last irq_works, and on PREEMPT_RT parks the thread that runs them
/// much earlier. Contexts that interrupt it later could still queue items, and a task that waits
/// for such an item would wait until the CPU is up again.
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
    /// Enables irq_works until the value is dropped. Registered before the first item is created,
    /// and dropped after the last.
    pub(crate) fn register() -> Result<Self> {
        let name = c"rcu_ptr:irq_work";
        State::register(ONLINE, name, irq_works_run, Some(irq_works_end)).map(Self)
    }
}
