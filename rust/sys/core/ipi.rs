// SPDX-License-Identifier: GPL-2.0

//! To have a function run on another CPU.
//!
//! C header: [`include/linux/smp.h`](srctree/include/linux/smp.h)

use super::irq::IrqsOff;
use kernel::{bindings, prelude::*};

/// # Safety
///
/// `info` is the pair of a [`call_on()`] that waits.
unsafe extern "C" fn entry<T: Sync, F: Fn(&T, &IrqsOff) + Copy>(info: *mut c_void) {
    // SAFETY: By the safety requirements of this function.
    let (arg, f) = unsafe { *info.cast::<(&T, F)>() };
    f(arg, &IrqsOff::save());
}

/// Calls `f(arg)` on `cpu` in hardirq, and waits for its end. `false`: that CPU is not online, or
/// not any more.
///
/// # Context
///
/// Process context, interrupts on.
pub(crate) fn call_on<T: Sync, F: Fn(&T, &IrqsOff) + Copy + Send>(cpu: i32, arg: &T, f: F) -> bool {
    let mut pair = (arg, f);
    // SAFETY: `entry` fits what it is passed, which lives until the call is over.
    unsafe {
        bindings::smp_call_function_single(cpu, Some(entry::<T, F>), (&raw mut pair).cast(), true)
            == 0
    }
}
