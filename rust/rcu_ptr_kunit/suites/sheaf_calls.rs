// SPDX-License-Identifier: GPL-2.0

//! The functions of caches with sheaves: every size and capacity, invalid arguments, reuse at once
//! and after a grace period, and destruction while objects wait.

use crate::{
    check::{CHECKED, CHECKED_OR_ZEROED},
    prelude::*,
    reader,
    sys::cache::CacheObjects,
};
use kernel::str::CString;

/// Allocates `count` objects, fills each with its number, frees them, and returns whether they were
/// aligned and kept the numbers.
fn keeps_contents(cache: &SheafCache, size: usize, align: usize, count: usize) -> Result<bool> {
    let mut objects = KVVec::<NonNull<u8>>::with_capacity(count, GFP_KERNEL)?;
    for i in 0..count {
        let object = cache.alloc(i % 3 == 0).ok_or(ENOMEM)?;
        objects.push(object, GFP_KERNEL)?;
        // SAFETY: A new object of `size` bytes.
        unsafe { object.write_bytes(i as u8, size) };
    }
    let mut good = true;
    for (i, object) in objects.iter().enumerate() {
        // SAFETY: As above.
        let bytes = unsafe { ::core::slice::from_raw_parts(object.as_ptr(), size) };
        good &= bytes.iter().all(|&b| b == i as u8) && object.as_ptr() as usize & (align - 1) == 0;
    }
    for (i, object) in objects.into_iter().enumerate() {
        // SAFETY: Objects of this cache, each freed once.
        unsafe {
            if i % 5 == 0 {
                cache.free(object);
            } else {
                cache.free_rcu(object);
            }
        }
    }
    Ok(good)
}

/// Replaces `n` objects in a table with readers. Returns the errors.
fn replace_under_readers(cache: &SheafCache, n: usize) -> Result<Violations> {
    let table = Table::new(cache, 50)?;
    table.under_readers(|| {
        for i in table.rounds(n) {
            table.replace(i, Alloc::Sleep);
            table.check(i);
            table.alloc_and_free(Alloc::Sleep);
            if i % 100 == 0 {
                core::barrier();
            }
        }
    })?;
    Ok(table.violations())
}

/// Objects that are filled with a constant, for readers to check.
pub(super) struct Watched(pub(super) CacheObjects);

impl Watched {
    const WORD: u64 = 0x7a7c_4ed0_0b1e_c700;

    /// Allocates `n` objects of `cache`.
    pub(super) fn new(cache: &SheafCache, n: usize) -> Result<Self> {
        let objects = cache.alloc_many(n)?;
        for object in &*objects {
            for i in 0..SIZE / 8 {
                // SAFETY: Inside a new object.
                unsafe { object.cast::<u64>().add(i).write_volatile(Self::WORD) };
            }
        }
        Ok(Self(objects))
    }

    /// The number of objects that have changed.
    pub(super) fn count_broken(&self) -> usize {
        let is_broken = |object: &&NonNull<u8>| {
            // SAFETY: Called by readers, so its memory stays.
            let word = |i| unsafe { object.cast::<u64>().add(i).read_volatile() };
            (0..SIZE / 8).any(|i| word(i) != Self::WORD)
        };
        self.0.iter().filter(is_broken).count()
    }
}

/// Frees `n` objects of `cache` while readers check them, for `msecs` milliseconds, and calls `end`
/// with the cache meanwhile.
pub(super) fn free_under_readers(
    cache: SheafCache,
    n: usize,
    msecs: i64,
    end: impl FnOnce(SheafCache),
) -> Result<reader::Seen> {
    let objects = Watched::new(&cache, n)?;
    // No older callback may be pending: one that waits for the readers would delay objects that
    // wrongly don't.
    gp::idle();
    reader::watch_any(n, &|| objects.count_broken(), |readers| {
        // SAFETY: Objects of this cache, each freed once.
        unsafe { cache.free_rcu_all(&objects.0) };
        readers.leave_in(msecs);
        end(cache);
        while readers.inside() > 0 {
            thread::sleep(2);
        }
    })
}

#[kunit_tests(rcu_ptr_sheaf_calls)]
mod tests {
    use super::*;

    #[test]
    fn null() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_null", SIZE, Args::default())?;
        cache::null(&cache);
        Ok(())
    }

    #[test]
    fn refused() -> Result {
        let make = |size, args| SheafCache::new(c"rcu_ptr_refused", size, args).err();
        check!(make(0, Args::default()) == Some(EINVAL))?;
        check!(make(SIZE, sheaves(57, 0)) == Some(EINVAL))?;
        let args = |align, link_offset| Args {
            align,
            link_offset,
            use_link_offset: true,
            ..Args::default()
        };
        // The alignment is no power of two; the link does not fit; the link is misaligned.
        check!(make(SIZE, args(24, 0)) == Some(EINVAL))?;
        check!(make(SIZE, args(8, 64)) == Some(EINVAL))?;
        check!(make(SIZE, args(8, 60)) == Some(EINVAL))?;
        check!(make(SIZE, args(8, 4)) == Some(EINVAL))?;
        // The link would lie beyond the first 4096 bytes.
        check!(make(4096, Args::default()) == Some(EINVAL))?;
        check!(make(4096, args(8, 8)).is_none())?;
        check!(make(SIZE, sheaves(0, 1 << 20)) == Some(EINVAL))?;
        // Objects would remain charged to their first owner.
        let charged =
            SheafCache::with_flags(c"rcu_ptr_refused", SIZE, Args::default(), cache::ACCOUNT);
        check!(charged.err() == Some(EINVAL) || cache::ACCOUNT == 0)?;
        // It sleeps.
        let cache = SheafCache::new(c"rcu_ptr_refused", SIZE, Args::default())?;
        check!(cache.prefill_with(10, cache::gfp(GFP_ATOMIC)) == Err(EINVAL))
    }

    #[test]
    fn sizes_and_alignments() -> Result {
        for (size, align) in [
            (1, 0),
            (8, 8),
            (24, 8),
            (64, 64),
            (72, 0),
            (100, 16),
            (500, 128),
            (1500, 0),
            (4088, 4096),
        ] {
            let args = Args {
                align,
                ..Args::default()
            };
            let cache = SheafCache::new(c"rcu_ptr_sizes", size, args)?;
            for _ in 0..2 {
                check!(keeps_contents(&cache, size, align.max(8) as usize, 300)?)?;
                core::barrier();
            }
        }
        Ok(())
    }

    #[test]
    fn capacities() -> Result {
        for n in [1, 2, 3, 7, 55, 56] {
            let cache = SheafCache::new(c"rcu_ptr_caps", SIZE, sheaves(n, n))?;
            check!(replace_under_readers(&cache, 1000)? == Violations::default())?;
        }
        Ok(())
    }

    #[test]
    fn reused_at_once() -> Result {
        skip_if!(!alloc::reused_at_once(), CHECKED_OR_ZEROED);
        let cache = SheafCache::new(c"rcu_ptr_again", SIZE, Args::default())?;
        let first = cache.hold()?;
        let (start, again) = cpu::irqs_off(|| {
            let start = first.start();
            first.free();
            (start, cache.hold_nolock())
        });
        check!(again.is_some_and(|again| again.start() == start))
    }

    /// An allocation at whose end another task has to run returns its object all the same.
    #[test]
    fn another_task_has_to_run() -> Result {
        const OBJECTS: usize = 30;
        let cache = SheafCache::new(c"rcu_ptr_resched", SIZE, Args::default())?;
        let mut held = KVec::with_capacity(OBJECTS, GFP_KERNEL)?;
        for _ in 0..OBJECTS {
            core_test::set_need_resched();
            held.push(cache.hold()?, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// An object is not reused while a reader may have it, and is later.
    #[test]
    fn reused_after_a_grace_period() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_later", SIZE, sheaves(4, 0))?;
        let first = cache.hold()?;
        let start = first.start();
        let is_first = |object: &Held<'_>| object.start() == start;
        let guard = rcu::read_lock();
        drop(first);
        let others: [_; 40] = ::core::array::from_fn(|_| cache.hold_nolock());
        drop(guard);
        check!(!others.iter().flatten().any(is_first))?;
        drop(others);
        core::barrier();
        // More than a refill may have added meanwhile.
        let held = cache.hold_many(2000)?;
        check!(held.iter().any(is_first) || !alloc::objects_are_recycled())
    }

    /// A hundred rounds need no more slab objects than a few.
    #[test]
    fn slab_is_left_alone() -> Result {
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        let cache = SheafCache::new(c"rcu_ptr_round", SIZE, Args::default())?;
        for _ in 0..100 {
            for _ in 0..4 {
                check!(keeps_contents(&cache, SIZE, 8, 100)?)?;
            }
            core::barrier();
        }
        // 40 000 allocations, of which 400 objects wait; each CPU that this task migrates to needs
        // a few sheaves.
        check!(cache.stats().slab_allocs < 2000)
    }

    #[test]
    fn destroyed_while_objects_wait() -> Result {
        let _restore = params::quick_drain()?;
        for n in [1, 10, 57, 500, 5000] {
            let cache = SheafCache::new(c"rcu_ptr_end", SIZE, Args::default())?;
            let table = Table::new(&cache, n)?;
            for i in 0..2 * n {
                table.replace(i, Alloc::Sleep);
            }
        }
        Ok(())
    }

    #[test]
    fn barrier_waits_for_readers() -> Result {
        for n in [10, 500] {
            let cache = SheafCache::new(c"rcu_ptr_barred", SIZE, Args::default())?;
            let mut objects = cache.hold_many(n)?;
            gp::idle();
            let mut inside = usize::MAX;
            reader::watch_any(n, &|| 0, |readers| {
                objects.clear();
                readers.leave_in(100);
                core::barrier();
                inside = readers.inside();
                readers.leave_in(0);
            })?;
            check!(inside == 0)?;
        }
        Ok(())
    }

    /// A CPU has waiting objects in more caches than the barrier handles per interrupt.
    #[test]
    fn barrier_of_many_caches() -> Result {
        let _restore = params::no_drain()?;
        let mut caches = KVec::new();
        for i in 0..20 {
            let name = CString::try_from_fmt(fmt!("rcu_ptr_many_{i}"))?;
            caches.push(SheafCache::new(&name, SIZE, Args::default())?, GFP_KERNEL)?;
        }
        cpus::on(cpus::first(), || {
            caches.iter().for_each(|cache| drop(cache.hold()));
        })?;
        let waiting = || caches.iter().filter(|cache| cache.waiting() > 0).count();
        check!(waiting() == 20)?;
        core::barrier();
        check!(waiting() == 0)
    }

    /// debugfs shows the same counters as rcu_ptr_cache_get_stats().
    #[test]
    fn counters_by_debugfs() -> Result {
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_counted", SIZE, Args::default())?;
        let _first = cache.hold_nolock();
        let mut held = cache.hold_many(400)?;
        held.truncate(300);
        core::barrier();
        // Wait for the end of the refill.
        thread::sleep(20);
        let n = cache.stats();
        let shown = user::sh_fmt(fmt!(
            "grep -q 'cache=rcu_ptr_counted .* free_rcu_sheaf={} free_rcu_sheaf_fail={} \
             alloc_sheaf={} alloc_miss={} \
             nolock_allocs={} slab_allocs={} slab_frees={} reserve={} .* now_sheaves={} .* \
             now_full={} now_empty={}$' \
             /sys/kernel/debug/rcu_ptr/caches",
            n.filled,
            n.engine_fallback,
            n.emptied,
            n.missed,
            n.nolock_allocs,
            n.slab_allocs,
            n.slab_frees,
            n.reserve,
            n.now_sheaves,
            n.now_full,
            n.now_empty
        ));
        check!(shown.is_ok())?;
        check!(n.filled >= 1 && n.emptied > n.filled && n.missed > n.nolock_allocs)?;
        // The cache has no destructor.
        check!(n.destructed == 0)
    }

    /// The barrier file of debugfs includes caches.
    #[test]
    fn barrier_by_debugfs() -> Result {
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_by_debugfs", SIZE, Args::default())?;
        drop(cache.hold_many(3)?);
        check!(cache.waiting() > 0)?;
        user::sh(c"echo 1 >/sys/kernel/debug/rcu_ptr/barrier")?;
        check!(cache.waiting() == 0)
    }

    /// A cache is destroyed while readers check its objects. The slab overwrites freed objects at
    /// once.
    #[test]
    fn destroyed_under_readers() -> Result {
        let _restore = params::no_drain()?;
        let flags = if cfg!(CONFIG_SLUB_DEBUG) {
            alloc::POISON_CHECKED
        } else {
            0
        };
        for n in [1, 10, 57, 500] {
            for _ in 0..3 {
                let name = c"rcu_ptr_watched";
                let cache = SheafCache::with_flags(name, SIZE, Args::default(), flags)?;
                // The destruction of the cache has to wait for the readers.
                let seen = free_under_readers(cache, n, 100, drop)?;
                check!(seen.checks > 100 * n && seen.broken == 0)?;
            }
        }
        Ok(())
    }

    /// Slab flags: such objects are recycled as others are, and kmalloc_nolock() is not used for
    /// memory that has to be type-stable or aligned.
    #[test]
    fn slab_flags() -> Result {
        let all = [alloc::TYPESAFE, alloc::HWCACHE_ALIGN, alloc::POISON_CHECKED]
            .into_iter()
            .flat_map(|flag| [flag, flag | alloc::TYPESAFE]);
        for flags in all {
            let cache = SheafCache::with_flags(c"rcu_ptr_flags", SIZE, Args::default(), flags)?;
            let none = cache.hold_nolock().is_none();
            let stood_in = cache.stats().nolock_allocs;
            check!(replace_under_readers(&cache, 500)? == Violations::default())?;
            if flags & (alloc::TYPESAFE | alloc::HWCACHE_ALIGN) != 0 {
                check!(none && stood_in == 0)?;
            }
        }
        Ok(())
    }

    /// The destruction of a cache reports how many objects are still in use, and leaks the
    /// kmem_cache, so that kfree() works.
    #[test]
    fn destroyed_while_objects_are_held() -> Result {
        // The kmem_cache is leaked, so every run needs another name.
        let name = CString::try_from_fmt(fmt!("rcu_ptr_held_{:x}", thread::now()))?;
        let cache = SheafCache::new(&name, SIZE, Args::default())?;
        let mut held = [None; 3];
        for place in &mut held {
            *place = cache.alloc(false);
        }
        expect_splat!(
            "cache rcu_ptr_held_.* is destroyed with 3 objects still held",
            drop(cache)
        );
        for object in held.into_iter().flatten() {
            // SAFETY: An object of a leaked kmem_cache, owned by the caller.
            unsafe { alloc::kvfree(object) };
        }
        Ok(())
    }
}
