// SPDX-License-Identifier: GPL-2.0

//! NUMA nodes. All functions: any context, NMI included.

use super::generated as sys;
use core::ptr::NonNull;

/// Whether this kernel supports more than one.
pub(crate) const MANY: bool = cfg!(CONFIG_NUMA);

/// Numbers of nodes are below this (`nr_node_ids`).
pub(crate) fn count() -> usize {
    if !MANY {
        return 1;
    }
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_nr_node_ids() as usize }
}

/// The node of the memory of a slab or kmalloc object.
pub(crate) fn of_object(object: NonNull<u8>) -> usize {
    // SAFETY: Only uses the page of the address, which exists.
    unsafe { sys::rcu_ptr_shim_node_of(object.as_ptr().cast()) as usize }
}

/// The node with memory that is nearest to `cpu` (`cpu_to_mem()`).
pub(crate) fn of_cpu(cpu: i32) -> usize {
    // SAFETY: No requirements; `cpu` is a possible one.
    unsafe { sys::rcu_ptr_shim_node_of_cpu(cpu) as usize }
}
