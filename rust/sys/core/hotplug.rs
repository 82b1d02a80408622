// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug callbacks: before a CPU comes up, and after it is dead.
//!
//! C header: [`include/linux/cpuhotplug.h`](srctree/include/linux/cpuhotplug.h)

use core::marker::PhantomData;
use kernel::{bindings, error::to_result, prelude::*};

/// What happens when CPUs come and go. Both run in process context on another CPU, one at a time.
pub(crate) trait Callbacks {
    /// `cpu` is about to come up (or is up, when the callbacks are registered).
    fn prepare(cpu: i32);
    /// `cpu` is dead: nothing runs there any more.
    fn dead(cpu: i32);
}

/// A registered set of [`Callbacks`], unregistered on drop.
pub(crate) struct Hotplug<C> {
    state: bindings::cpuhp_state,
    _callbacks: PhantomData<C>,
}

extern "C" fn prepare<C: Callbacks>(cpu: c_uint) -> c_int {
    C::prepare(cpu as i32);
    0
}

extern "C" fn dead<C: Callbacks>(cpu: c_uint) -> c_int {
    C::dead(cpu as i32);
    0
}

impl<C: Callbacks> Hotplug<C> {
    /// Registers the callbacks and calls [`Callbacks::prepare()`] for every CPU that is up.
    ///
    /// # Context
    ///
    /// May sleep; takes the CPU hotplug lock for reading.
    pub(crate) fn register(name: &'static CStr) -> Result<Self> {
        // SAFETY: The callbacks stay valid until `drop()` removes them; `name` is static.
        let ret = unsafe {
            bindings::__cpuhp_setup_state(
                bindings::cpuhp_state_CPUHP_BP_PREPARE_DYN,
                name.as_char_ptr(),
                true,
                Some(prepare::<C>),
                Some(dead::<C>),
                false,
            )
        };
        to_result(ret)?;
        Ok(Self {
            state: ret as bindings::cpuhp_state,
            _callbacks: PhantomData,
        })
    }
}

impl<C> Drop for Hotplug<C> {
    fn drop(&mut self) {
        // SAFETY: `state` is what `__cpuhp_setup_state()` gave for the dynamic range.
        unsafe { bindings::__cpuhp_remove_state(self.state, false) };
    }
}
