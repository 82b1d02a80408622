// SPDX-License-Identifier: GPL-2.0

//! Caches with sheaves, call by call: every size and capacity, what is refused, reuse at once and
//! after a grace period, a cache that ends with objects on their way.

use crate::{
    params, reader,
    sys::{
        alloc,
        cache::{self, Args, SheafCache},
        core, cpu, gp, thread, user,
    },
    table::{Alloc, Table, Wrong, SIZE},
};
use ::core::ptr::NonNull;
use kernel::{prelude::*, str::CString, sync::rcu};

fn capacity(n: u32) -> Args {
    Args {
        sheaf_capacity: n,
        ..Args::default()
    }
}

/// Whether the line of cache `name` in debugfs matches.
macro_rules! stats_match {
    ($name:literal, $pattern:literal) => {
        $crate::sys::user::sh(kernel::c_str!(concat!(
            "grep -q 'cache=",
            $name,
            " .*",
            $pattern,
            "' /sys/kernel/debug/rcu_ptr/caches"
        )))
        .is_ok()
    };
}
pub(super) use stats_match;

/// Allocates `count` objects, all different, fills each with its number, looks whether they keep it,
/// and gives them back.
fn keeps_contents(cache: &SheafCache, size: usize, align: usize, count: usize) -> Result<bool> {
    let mut objects = KVVec::<NonNull<u8>>::with_capacity(count, GFP_KERNEL)?;
    for i in 0..count {
        let object = cache.alloc(i % 3 == 0).ok_or(ENOMEM)?;
        objects.push(object, GFP_KERNEL)?;
        // SAFETY: A fresh object of `size` bytes.
        unsafe { object.write_bytes(i as u8, size) };
    }
    let mut good = true;
    for (i, object) in objects.iter().enumerate() {
        // SAFETY: As above.
        let bytes = unsafe { ::core::slice::from_raw_parts(object.as_ptr(), size) };
        good &= bytes.iter().all(|&b| b == i as u8) && object.as_ptr() as usize & (align - 1) == 0;
    }
    for (i, object) in objects.into_iter().enumerate() {
        // SAFETY: From this cache, given back once.
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

/// `n` objects are replaced in a table with readers; what went wrong.
fn go_round(cache: &SheafCache, n: usize) -> Result<Wrong> {
    let table = Table::new(cache, 50)?;
    table.under_readers(|| {
        for i in table.rounds(n) {
            table.replace(i, Alloc::Sleep);
            table.look(i);
            table.touch(Alloc::Sleep);
            if i % 100 == 0 {
                core::barrier();
            }
        }
    })?;
    Ok(table.wrong())
}

/// An object that readers look at, and the word that is all over it.
pub(super) struct Watched(pub(super) NonNull<u8>);

// SAFETY: An object of the test's, and only read.
unsafe impl Sync for Watched {}
// SAFETY: As above.
unsafe impl Send for Watched {}

impl Watched {
    const WORD: u64 = 0x7a7c_4ed0_0b1e_c700;

    pub(super) fn new(cache: &SheafCache) -> Result<Self> {
        let object = cache.alloc(false).ok_or(ENOMEM)?;
        for i in 0..SIZE / 8 {
            // SAFETY: Inside a fresh object.
            unsafe { object.cast::<u64>().add(i).write_volatile(Self::WORD) };
        }
        Ok(Self(object))
    }

    pub(super) fn is_broken(&self) -> bool {
        // SAFETY: Readers hold it.
        let word = |i| unsafe { self.0.cast::<u64>().add(i).read_volatile() };
        (0..SIZE / 8).any(|i| word(i) != Self::WORD)
    }
}

/// Readers look at `n` objects of `cache`, which are freed, and then for `msecs` milliseconds more; `end` is
/// called meanwhile, and has the cache.
pub(super) fn under_readers(
    cache: SheafCache,
    n: usize,
    msecs: i64,
    end: impl FnOnce(SheafCache),
) -> Result<reader::Seen> {
    let mut objects = KVVec::with_capacity(n, GFP_KERNEL)?;
    for _ in 0..n {
        objects.push(Watched::new(&cache)?, GFP_KERNEL)?;
    }
    let broken = || objects.iter().filter(|object| object.is_broken()).count();
    // A callback that waits would hold up what does not wait itself.
    gp::idle();
    reader::watch_any(n, &broken, |readers| {
        for object in &objects {
            // SAFETY: From this cache, given back once.
            unsafe { cache.free_rcu(object.0) };
        }
        readers.leave_in(msecs);
        end(cache);
        while readers.inside() > 0 {
            thread::sleep(2);
        }
    })
}

/// A cache is destroyed while readers hold `n` of its objects, which wait for their grace period. Its
/// slab overwrites what it gets back at once.
fn destroyed_under_readers(n: usize) -> Result<reader::Seen> {
    let cache = SheafCache::with_flags(
        c"rcu_ptr_watched",
        SIZE,
        Args::default(),
        if cfg!(CONFIG_SLUB_DEBUG) {
            alloc::POISON
        } else {
            0
        },
    )?;
    // The destruction of the cache has to wait for the readers.
    under_readers(cache, n, 100, drop)
}

/// `n` objects are freed under readers, and the barrier comes. Returns how many readers were inside when
/// it returned.
fn barrier_under_readers(n: usize) -> Result<usize> {
    let cache = SheafCache::new(c"rcu_ptr_barred", SIZE, Args::default())?;
    let objects = cache.alloc_many(n)?;
    gp::idle();
    let mut inside = 0;
    reader::watch_any(n, &|| 0, |readers| {
        // SAFETY: From this cache, given back once.
        unsafe { cache.free_rcu_all(&objects) };
        readers.leave_in(100);
        core::barrier();
        inside = readers.inside();
        readers.leave_in(0);
    })?;
    Ok(inside)
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
        check!(make(0, Args::default()) == Some(EINVAL));
        check!(make(SIZE, capacity(57)) == Some(EINVAL));
        let args = |align, link_offset| Args {
            align,
            link_offset,
            use_link_offset: true,
            ..Args::default()
        };
        // No power of two, no room for the field, not aligned.
        check!(make(SIZE, args(24, 0)) == Some(EINVAL));
        check!(make(SIZE, args(8, 64)) == Some(EINVAL));
        check!(make(SIZE, args(8, 60)) == Some(EINVAL));
        check!(make(SIZE, args(8, 4)) == Some(EINVAL));
        let cache = SheafCache::new(c"rcu_ptr_refused", SIZE, Args::default())?;
        check!(cache.prefill_with(10, cache::gfp(GFP_ATOMIC)) == Err(EINVAL));
        check!(cache.stats().reserve == 0);
        drop(cache);
        // The link would lie beyond the first 4096 bytes.
        check!(make(4096, Args::default()) == Some(EINVAL));
        check!(make(4096, args(8, 8)).is_none());
        let args = Args {
            barn_limit: 1 << 20,
            ..Args::default()
        };
        check!(make(SIZE, args) == Some(EINVAL));
        // A charge would stay with the first owner of an object.
        let charged =
            SheafCache::with_flags(c"rcu_ptr_refused", SIZE, Args::default(), cache::ACCOUNT);
        check!(charged.err() == Some(EINVAL) || cache::ACCOUNT == 0);
        Ok(())
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
                check!(keeps_contents(&cache, size, align.max(8) as usize, 300)?);
                core::barrier();
            }
        }
        Ok(())
    }

    #[test]
    fn capacities() -> Result {
        for n in [1, 2, 3, 7, 55, 56] {
            let mut args = capacity(n);
            args.barn_limit = n;
            let cache = SheafCache::new(c"rcu_ptr_caps", SIZE, args)?;
            check!(go_round(&cache, 1000)? == Wrong::default());
        }
        Ok(())
    }

    #[test]
    fn again_at_once() -> Result {
        skip_if!(
            !alloc::reused_at_once(),
            c"this kernel checks or zeroes what is freed"
        );
        let cache = SheafCache::new(c"rcu_ptr_again", SIZE, Args::default())?;
        let first = cache.alloc(false).ok_or(ENOMEM)?;
        let again = cpu::irqs_off(|| {
            // SAFETY: From this cache, the caller's.
            unsafe { cache.free(first) };
            cache.alloc_nolock()
        });
        check!(again == Some(first));
        // SAFETY: As above.
        unsafe { cache.free(first) };
        Ok(())
    }

    /// Another object as long as a reader may have the first, which comes again later.
    #[test]
    fn again_after_a_grace_period() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_later", SIZE, capacity(4))?;
        let first = cache.alloc(false).ok_or(ENOMEM)?;
        let guard = rcu::read_lock();
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free_rcu(first) };
        let mut early = false;
        let mut others = [None; 40];
        for place in &mut others {
            *place = cache.alloc_nolock();
            early |= *place == Some(first);
        }
        drop(guard);
        for object in others.into_iter().flatten() {
            // SAFETY: As above.
            unsafe { cache.free_rcu(object) };
        }
        check!(!early);
        core::barrier();
        let mut found = false;
        let mut held = KVVec::<NonNull<u8>>::new();
        // More than what a refill has brought meanwhile.
        for _ in 0..2000 {
            let object = cache.alloc(false).ok_or(ENOMEM)?;
            found |= object == first;
            held.push(object, GFP_KERNEL)?;
        }
        for object in held {
            // SAFETY: As above.
            unsafe { cache.free(object) };
        }
        check!(found || !alloc::objects_go_round());
        Ok(())
    }

    /// As many objects as one round needs do for a hundred.
    #[test]
    fn slab_is_left_alone() -> Result {
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        let cache = SheafCache::new(c"rcu_ptr_round", SIZE, Args::default())?;
        for _ in 0..100 {
            for _ in 0..4 {
                check!(keeps_contents(&cache, SIZE, 8, 100)?);
            }
            core::barrier();
        }
        // 40 000 allocations, 400 in flight; a CPU that this task moves to costs a few sheaves.
        let few = stats_match!("rcu_ptr_round", " slab_allocs=1\\?[0-9]\\{1,3\\} ");
        check!(few);
        Ok(())
    }

    #[test]
    fn prefilled() -> Result {
        let args = cache::own_memory();
        let cache = SheafCache::new(c"rcu_ptr_prefill", SIZE, args)?;
        cache.prefill(1000)?;
        let mut held = KVVec::<NonNull<u8>>::with_capacity(1000, GFP_KERNEL)?;
        cpu::irqs_off(|| {
            for object in (0..1000).map_while(|_| cache.alloc_nolock()) {
                let _ = held.push(object, GFP_ATOMIC);
            }
        });
        let n = held.len();
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free_rcu_all(&held) };
        check!(n == 1000);
        Ok(())
    }

    /// A worker brings what an allocation in NMI did not find.
    #[test]
    fn asked_for() -> Result {
        let args = cache::own_memory();
        let cache = SheafCache::new(c"rcu_ptr_asked", SIZE, args)?;
        check!(cache.alloc_nolock().is_none());
        let mut object = None;
        let came = crate::bound::soon(|| {
            object = cache.alloc_nolock();
            object.is_some()
        });
        if let Some(object) = object {
            // SAFETY: From this cache, the caller's.
            unsafe { cache.free(object) };
        }
        check!(came);
        Ok(())
    }

    #[test]
    fn destroyed_while_objects_wait() -> Result {
        let _defaults = params::quick_drain()?;
        for n in [1, 10, 57, 500, 5000] {
            let cache = SheafCache::new(c"rcu_ptr_end", SIZE, Args::default())?;
            let table = Table::new(&cache, n)?;
            for i in 0..2 * n {
                table.replace(i, Alloc::Sleep);
            }
            drop(table);
            drop(cache);
        }
        Ok(())
    }

    #[test]
    fn barrier_waits_for_readers() -> Result {
        for n in [10, 500] {
            check!(barrier_under_readers(n)? == 0);
        }
        Ok(())
    }

    /// A CPU has objects that wait in more caches than it looks after in one interrupt.
    #[test]
    fn barrier_of_many_caches() -> Result {
        let _defaults = params::no_drain()?;
        let mut caches = KVec::new();
        for i in 0..20 {
            let name = CString::try_from_fmt(fmt!("rcu_ptr_many_{}", i))?;
            caches.push(SheafCache::new(&name, SIZE, Args::default())?, GFP_KERNEL)?;
        }
        let body = |_cpu: i32| {
            for cache in &caches {
                if let Some(object) = cache.alloc(false) {
                    // SAFETY: Just allocated.
                    unsafe { cache.free_rcu(object) };
                }
            }
        };
        thread::on_cpus(cpu::online().take(1), &body, || ())?;
        let waited = caches.iter().filter(|cache| cache.waiting() > 0).count();
        core::barrier();
        let left = caches.iter().filter(|cache| cache.waiting() > 0).count();
        drop(caches);
        check!(waited == 20 && left == 0);
        Ok(())
    }

    /// Debugfs has the counters that a caller gets, each under its name.
    #[test]
    fn counters_by_debugfs() -> Result {
        let _defaults = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_counted", SIZE, Args::default())?;
        let first = cache.alloc_nolock();
        let held = cache.alloc_many(400)?;
        let (some, rest) = held.split_at(100);
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free_rcu_all(some) };
        core::barrier();
        // The refill has ended.
        thread::sleep(20);
        let n = cache.stats();
        let line = CString::try_from_fmt(fmt!(
            "grep -q 'cache=rcu_ptr_counted .* free_rcu_sheaf={} free_rcu_sheaf_fail={} alloc_sheaf={} alloc_miss={} \
             nolock_allocs={} slab_allocs={} slab_frees={} reserve={} .* now_sheaves={} .* now_full={} now_empty={}$' \
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
        ))?;
        let same = user::sh(&line);
        // SAFETY: As above.
        unsafe {
            cache.free_rcu_all(first.as_slice());
            cache.free_rcu_all(rest);
        }
        check!(n.filled >= 1 && n.emptied > n.filled && n.missed > n.nolock_allocs);
        check!(same.is_ok());
        Ok(())
    }

    /// The barrier of scripts is that of caches too.
    #[test]
    fn barrier_by_debugfs() -> Result {
        let _defaults = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_by_debugfs", SIZE, Args::default())?;
        let objects = cache.alloc_many(3)?;
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free_rcu_all(&objects) };
        let waited = cache.waiting();
        user::sh(c"echo 1 >/sys/kernel/debug/rcu_ptr/barrier")?;
        let left = cache.waiting();
        drop(cache);
        check!(waited > 0 && left == 0);
        Ok(())
    }

    #[test]
    fn destroyed_while_readers_look() -> Result {
        let _defaults = params::no_drain()?;
        let mut good = true;
        for n in [1, 10, 57, 500] {
            for _ in 0..3 {
                let seen = destroyed_under_readers(n)?;
                good &= seen.looks > 100 * n && seen.broken == 0;
            }
        }
        check!(good);
        Ok(())
    }

    /// Flags of the slab: such objects go round as others do, and nothing stands in for memory that has
    /// to stay of its type or to be aligned.
    #[test]
    fn slab_flags() -> Result {
        let mut all = KVec::new();
        for flags in [alloc::TYPESAFE, alloc::HWCACHE_ALIGN, alloc::POISON] {
            all.push(flags, GFP_KERNEL)?;
            all.push(flags | alloc::TYPESAFE, GFP_KERNEL)?;
        }
        for flags in all {
            let cache = SheafCache::with_flags(c"rcu_ptr_flags", SIZE, Args::default(), flags)?;
            let first = cache.alloc_nolock();
            let stood_in = cache.stats().nolock_allocs;
            if let Some(object) = first {
                // SAFETY: From this cache, the caller's.
                unsafe { cache.free_rcu(object) };
            }
            check!(go_round(&cache, 500)? == Wrong::default());
            if flags & (alloc::TYPESAFE | alloc::HWCACHE_ALIGN) != 0 {
                check!(first.is_none() && stood_in == 0);
            }
        }
        Ok(())
    }

    /// The cache tells how many, and stays good enough for kfree().
    #[test]
    fn destroyed_while_objects_are_held() -> Result {
        // The kmem_cache stays: every run needs a name of its own.
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
            // SAFETY: Leaked with its kmem_cache, and the caller's.
            unsafe { crate::sys::alloc::kvfree(object) };
        }
        Ok(())
    }
}
