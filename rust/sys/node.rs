// SPDX-License-Identifier: GPL-2.0

//! NUMA nodes. All functions are for any context, NMI included.

use super::generated as sys;
use core::ptr::NonNull;

/// Whether this kernel knows of more than one.
pub(crate) const MANY: bool = cfg!(CONFIG_NUMA);

/// Nodes that may exist: numbers are below this (`nr_node_ids`).
pub(crate) fn count() -> usize {
    if !MANY {
        return 1;
    }
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_nr_node_ids() as usize }
}

/// The node that `object` lies on, a slab or kmalloc one.
pub(crate) fn of_object(object: NonNull<u8>) -> usize {
    // SAFETY: Only the page of the address is looked at, which exists.
    unsafe { sys::rcu_ptr_shim_node_of(object.as_ptr().cast()) as usize }
}

/// The node whose memory `cpu` is nearest to, one that has memory (`cpu_to_mem()`).
pub(crate) fn of_cpu(cpu: i32) -> usize {
    // SAFETY: No requirements; `cpu` is a possible one.
    unsafe { sys::rcu_ptr_shim_node_of_cpu(cpu) as usize }
}
