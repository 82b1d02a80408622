// SPDX-License-Identifier: GPL-2.0

//! Every kind of object, every type and offset of the field: all memory is freed.

use crate::{
    memory,
    prelude::*,
    sys::alloc::{Checks, RawCache},
};

/// Sizes of the kmalloc caches.
const SIZE_CLASSES: [usize; 13] = [
    8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192,
];

/// Debug features hold memory back (KASAN's quarantine, kmemleak's records), which can't be told
/// from a leak; there kmemleak and the destruction of kmem_caches find leaks.
const CAN_COUNT_PAGES: bool = cfg!(not(any(CONFIG_KASAN, CONFIG_DEBUG_KMEMLEAK)));

/// Rounds per measurement.
const ROUNDS: usize = 5;

/// Measurements, of which one has to be good.
const TRIES: usize = 3;

/// The number of objects of a round: so many that a fifth of their memory is more than [`slack()`].
fn objects(size: usize) -> usize {
    let most = if SLOW { 500 } else { 40_000 };
    let bytes = scaled(by_length(1 << 20, 16 << 20));
    match bytes.checked_div(size) {
        Some(n) if n < 16 => 16,
        Some(n) if n < most => n,
        _ => most,
    }
}

/// Pages that may be missing, as allocators cache memory: far fewer than one of the five functions
/// in [`round()`] frees.
fn slack(size: usize) -> u64 {
    60 + ((objects(size) * size * ROUNDS) >> 12) as u64 / 60
}

/// Frees a round of objects of `source` and `size`, by the functions in turn.
fn round(source: Source, size: usize) -> Result {
    for i in 0..objects(size) {
        let object = alloc::alloc_retry(source, size).ok_or(ENOMEM)?;
        // SAFETY: Just allocated, of at least `size` bytes.
        unsafe {
            object.write_bytes(0xff, size);
            let last = (size.min(4096) - 8) & !7;
            match i % 5 {
                0 => FreeFn::Kvfree.free(object, 0),
                1 => FreeFn::Kvfree.free(object, last),
                2 => FreeFn::Nolock.free(object, 0),
                3 => FreeFn::Nolock.free(object, last),
                _ => FreeFn::Mightsleep.free(object, 0),
            }
        }
    }
    core::barrier();
    Ok(())
}

/// Checks for leaks, after a first round, whose permanent allocations (caches, page tables) don't
/// count.
fn memory_returns(source: Source, size: usize) -> Result {
    round(source, size)?;
    if !CAN_COUNT_PAGES {
        return check!(memory::nothing_waits());
    }
    let slack = slack(size);
    let is_back = memory::is_returned_after(
        TRIES,
        slack,
        || (0..ROUNDS).try_for_each(|_| round(source, size)),
        |missing| pr_info!("{source:?} {size}: {missing} pages are missing, {slack} may be\n"),
    )?;
    check!(is_back)
}

/// Frees `count` vmalloc objects of `size` bytes in a row, and checks that each is unmapped.
fn all_are_unmapped(count: usize, size: usize) -> Result {
    let mut addresses = KVVec::with_capacity(count, GFP_KERNEL)?;
    for i in 0..count {
        let object = alloc::alloc(Source::Vmalloc, size).ok_or(ENOMEM)?;
        addresses.push(object.as_ptr().addr(), GFP_KERNEL)?;
        // SAFETY: Just allocated.
        unsafe { FreeFn::FREES[i % 2].free(object, 0) };
    }
    core::barrier();
    let left = || addresses.iter().filter(|&&a| alloc::is_mapped(a)).count();
    // With softirqs disabled vfree() leaves the unmapping to a worker.
    let gone = bound::wait_with_timeout(|| left() == 0);
    if !gone {
        pr_info!("{} of {} vmalloc objects are still mapped\n", left(), count);
    }
    check!(gone)
}

#[kunit_tests(rcu_ptr_kinds)]
mod tests {
    use super::*;

    #[test]
    fn null_is_ignored() -> Result {
        core_test::free_null();
        core::barrier();
        Ok(())
    }

    /// Frees half of the objects of a pool by the C macros, for each type of field.
    #[test]
    fn every_field_type_in_every_place() -> Result {
        for (field, nolock) in (0..2 * core_test::FIELDS).map(|i| (i / 2, i % 2 == 1)) {
            let size = core_test::field_size(field).next_multiple_of(8);
            let pool = Pool::with(64, size, 0)?;
            for _ in 0..32 {
                let object = pool.take().ok_or(ENOMEM)?;
                // SAFETY: An object of that size, handed out once.
                unsafe { core_test::field_free(field, nolock, object.start) };
            }
            core::barrier();
            check!(pool.all_freed())?;
        }
        Ok(())
    }

    #[test]
    fn every_place_in_a_page() -> Result {
        for at in (0..4096).step_by(136) {
            let pool = Pool::with(16, 4096 + 8, at)?;
            FreeFn::FREES.map(|free_fn| pool.free(free_fn, 1));
            core::barrier();
            check!(pool.taken() == 2 && pool.all_freed())?;
        }
        Ok(())
    }

    #[test]
    fn kmalloc_of_every_size() -> Result {
        SIZE_CLASSES
            .into_iter()
            .try_for_each(|size| memory_returns(Source::Kmalloc, size))
    }

    #[test]
    fn kmalloc_nolock_of_every_size() -> Result {
        for size in SIZE_CLASSES.into_iter().filter(|&s| s <= 4096) {
            memory_returns(Source::KmallocNolock, size)?;
        }
        Ok(())
    }

    #[test]
    fn large_kmalloc() -> Result {
        memory_returns(Source::Kmalloc, 16384)?;
        memory_returns(Source::Kmalloc, 262_144)
    }

    #[test]
    fn vmalloc() -> Result {
        memory_returns(Source::Vmalloc, 4096)?;
        memory_returns(Source::Vmalloc, 100_000)?;
        all_are_unmapped(700, 4096)?;
        all_are_unmapped(50, 20_000)
    }

    #[test]
    fn kvmalloc() -> Result {
        memory_returns(Source::Kvmalloc, 64)?;
        memory_returns(Source::Kvmalloc, 1 << 20)
    }

    #[test]
    fn kmem_cache_objects() -> Result {
        for size in [24, 96, 1000, 5000] {
            let cache = RawCache::new("rcu_ptr_kunit_kinds", size, Checks::None)?;
            for i in 0..scaled(5000) {
                check!(FreeFn::FREES[i % 2].free_new(&cache, 1) == 1)?;
            }
            core::barrier();
            // Reports objects that are missing.
            drop(cache);
        }
        Ok(())
    }
}
