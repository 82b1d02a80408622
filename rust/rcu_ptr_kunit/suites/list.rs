// SPDX-License-Identifier: GPL-2.0

//! The list that links objects through their fields, forced by `rcu_min_cached_objs=0`.

use crate::{prelude::*, sys::cache::CacheObjects};

/// Frees `count` objects of `size` with the field at `at` on all CPUs: all are linked, and freed.
fn all_on_list(count: usize, size: usize, at: usize) -> Result {
    let _restore = params::no_blocks()?;
    let pool = Pool::with(count, size, at)?;
    let listed = EventCounter::start(|c| c.list.load(Relaxed))?;
    let body = |_cpu: i32| pool.free(FreeFn::Kvfree, usize::MAX);
    thread::on_cpus(cpu::online(), &body, || ())?;
    let listed = listed.count();
    core::barrier();
    check!(listed as usize == count && pool.taken() == count && pool.all_freed())
}

/// Links `count` objects on one CPU, in turn from the slab, from vmalloc, and with a callback: all
/// are freed.
fn kinds_in_turn(count: usize) -> Result {
    let _restore = params::no_blocks()?;
    let pool = Pool::new(count)?;
    let mut areas = KVVec::with_capacity(count / 3 + 1, GFP_KERNEL)?;
    for _ in 0..count.div_ceil(3) {
        areas.push(
            alloc::alloc(Source::Vmalloc, 4096).ok_or(ENOMEM)?,
            GFP_KERNEL,
        )?;
    }
    let areas = CacheObjects(areas);
    let queue = || {
        for i in 0..count {
            match i % 3 {
                0 => pool.free(FreeFn::Kvfree, 1),
                // SAFETY: Allocated above, each freed once.
                1 => unsafe { FreeFn::Kvfree.free(areas[i / 3], 0) },
                _ => pool.free(FreeFn::Call, 1),
            }
        }
    };
    // Frees what others have queued on that CPU.
    core::barrier();
    cpus::on(cpu::this(), || cpu::irqs_off(queue))?;
    for &area in &areas[count.saturating_sub(1).div_ceil(3)..] {
        // SAFETY: Not queued above.
        unsafe { alloc::kvfree(area) };
    }
    core::barrier();
    // With softirqs disabled vfree() leaves the unmapping to a worker.
    let is_gone = |area: &NonNull<u8>| !alloc::is_mapped(area.addr().get());
    let gone = bound::wait_with_timeout(|| areas.iter().all(is_gone));
    check!(gone && pool.taken() == count - (count + 1) / 3 && pool.all_freed())
}

#[kunit_tests(rcu_ptr_list)]
mod tests {
    use super::*;

    /// In front, at the end, and at the last place that is allowed.
    #[test]
    fn field_in_any_place() -> Result {
        all_on_list(5000, 64, 0)?;
        all_on_list(5000, 64, 56)?;
        all_on_list(400, 4104, 4088)
    }

    /// Objects are removed from the list in pieces of 32 (engine rfc), and sorted by kind.
    #[test]
    fn kinds_take_turns() -> Result {
        [31, 32, 33, 63, 64, 65, 100]
            .into_iter()
            .try_for_each(kinds_in_turn)
    }
}
