// SPDX-License-Identifier: GPL-2.0

//! The list through the objects' own fields, forced by `rcu_min_cached_objs=0`.

use crate::{
    bound, params,
    pool::Pool,
    route::Route,
    sys::{
        alloc::{self, Source},
        core, cpu, probes, thread,
    },
};
use ::core::{
    iter,
    ptr::{self, NonNull},
};
use kernel::{prelude::*, sync::atomic::Relaxed};

/// Frees `count` objects of `size` with the field at `at`, on all CPUs: whether all went on the list, and are
/// freed.
fn all_on_list(count: usize, size: usize, at: usize) -> Result<bool> {
    let _defaults = params::no_blocks()?;
    let pool = Pool::with(count, size, at)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.list.load(Relaxed);
    let body = |_cpu: i32| {
        pool.free(Route::Kvfree, usize::MAX);
    };
    let ran = thread::on_cpus(cpu::online(), &body, || ());
    let on_list = probes::COUNTERS.list.load(Relaxed) - before;
    drop(probes);
    core::barrier();
    ran?;
    check!(on_list as usize == pool.taken());
    Ok(pool.all_freed())
}

/// # Safety
///
/// `address` is that of an object.
unsafe fn object_at(address: usize) -> NonNull<u8> {
    // SAFETY: Objects are not at 0.
    unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) }
}

/// Links `count` objects on one CPU, in turn of a slab, from vmalloc and with a callback: whether each is gone.
fn kinds_in_turn(count: usize) -> Result<bool> {
    let _defaults = params::no_blocks()?;
    let pool = Pool::new(count)?;
    let mut areas = KVVec::with_capacity(count / 3 + 1, GFP_KERNEL)?;
    for _ in 0..count.div_ceil(3) {
        let area = alloc::alloc(Source::Vmalloc, 4096).ok_or(ENOMEM)?;
        areas.push(area.as_ptr().expose_provenance(), GFP_KERNEL)?;
    }
    let body = |_cpu: i32| {
        cpu::irqs_off(|| {
            for i in 0..count {
                match i % 3 {
                    0 => pool.free(Route::Kvfree, 1),
                    // SAFETY: Allocated above, each freed once.
                    1 => unsafe { Route::Kvfree.free(object_at(areas[i / 3]), 0) },
                    _ => pool.free(Route::Call, 1),
                }
            }
        })
    };
    // What others have queued on that CPU is gone.
    core::barrier();
    thread::on_cpus(iter::once(cpu::this()), &body, || ())?;
    for &area in &areas[count.saturating_sub(1).div_ceil(3)..] {
        // SAFETY: Not queued above.
        unsafe { alloc::kvfree(object_at(area)) };
    }
    core::barrier();
    // vfree() leaves the unmapping to a worker where it was called with softirqs off.
    let gone = bound::watchdog(|| areas.iter().all(|&area| !alloc::is_mapped(area)));
    Ok(gone && pool.taken() == count - (count + 1) / 3 && pool.all_freed())
}

#[kunit_tests(rcu_ptr_list)]
mod tests {
    use super::*;

    #[test]
    fn field_in_front() -> Result {
        check!(all_on_list(5000, 64, 0)?);
        Ok(())
    }

    #[test]
    fn field_at_the_end() -> Result {
        check!(all_on_list(5000, 64, 56)?);
        Ok(())
    }

    #[test]
    fn field_at_the_last_place() -> Result {
        check!(all_on_list(400, 4104, 4088)?);
        Ok(())
    }

    /// Objects are taken off in pieces of 32, and freed by what fits them.
    #[test]
    fn kinds_take_turns() -> Result {
        for count in [31, 32, 33, 63, 64, 65, 100] {
            check!(kinds_in_turn(count)?);
        }
        Ok(())
    }
}
