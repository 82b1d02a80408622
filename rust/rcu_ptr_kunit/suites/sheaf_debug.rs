// SPDX-License-Identifier: GPL-2.0

//! What the kernel's own checks see of caches: a look at an object after its grace period, one that
//! is freed again, one that is lost, and what an earlier owner left in it.

use crate::{
    bound, cpus,
    held::Held,
    params,
    sys::{
        alloc,
        cache::{Args, SheafCache},
        core, cpu, slab, thread, user,
    },
};
use ::core::ptr::NonNull;
use kernel::{
    c_str,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu,
    },
};

/// Bytes of an object.
const SIZE: usize = 64;

/// Reads a byte of `object`, whatever its state.
fn look(object: NonNull<u8>) -> u8 {
    // SAFETY: Mapped memory, which is what is to be found out.
    unsafe { object.as_ptr().read_volatile() }
}

/// Calls `f` on these CPUs, one after the other, in threads: a report that comes while a test's
/// task runs fails that test.
fn on_each(mut cpus: impl Iterator<Item = i32>, f: impl Fn() + Sync) -> Result {
    cpus.try_for_each(|cpu| cpus::on(cpu, &f))
}

/// Looks at `object`, which is to be reported, on these CPUs.
fn look_on(cpus: impl Iterator<Item = i32>, object: NonNull<u8>) -> Result {
    let object = Atomic::<*mut u8>::new(object.as_ptr());
    on_each(cpus, || {
        if let Some(object) = NonNull::new(object.load(Relaxed)) {
            look(object);
        }
    })
}

/// The first CPU.
fn first() -> impl Iterator<Item = i32> {
    cpu::online().take(1)
}

/// Frees `object`, and waits until its grace period is over. Returns where it was.
fn free_and_wait(object: Held<'_>) -> NonNull<u8> {
    let start = object.start();
    drop(object);
    core::barrier();
    start
}

/// Allocates until KFENCE watches an object. `None`: it did not want to.
fn watched(cache: &SheafCache) -> Result<Option<Held<'_>>> {
    let mut held = KVVec::new();
    let mut found = None;
    let end = bound::timeout_end();
    while found.is_none() && thread::now() < end {
        let object = cache.hold()?;
        if slab::is_kfence(object.start()) {
            found = Some(object);
        } else {
            held.push(object, GFP_KERNEL)?;
        }
        thread::still_alive();
    }
    held.into_iter().for_each(Held::free);
    Ok(found)
}

#[kunit_tests(rcu_ptr_sheaf_debug)]
mod tests {
    use super::*;

    /// No report as long as a reader may have it; later there is one.
    #[test]
    fn reader_that_keeps_an_object() -> Result {
        needs!(CONFIG_KASAN_GENERIC);
        let cache = SheafCache::new(c"rcu_ptr_uaf", SIZE, Args::default())?;
        let object = cache.hold()?;
        let guard = rcu::read_lock();
        let seen = object.start();
        drop(object);
        look(seen);
        let early = alloc::is_poisoned(seen);
        drop(guard);
        core::barrier();
        check!(!early && alloc::is_poisoned(seen));
        expect_splat!("KASAN: slab-use-after-free", look_on(first(), seen))
    }

    #[test]
    fn freed_at_once_and_looked_at() -> Result {
        needs!(CONFIG_KASAN_GENERIC);
        let cache = SheafCache::new(c"rcu_ptr_uaf_now", SIZE, Args::default())?;
        let object = cache.hold()?;
        let seen = object.start();
        object.free();
        core::barrier();
        check!(alloc::is_poisoned(seen));
        expect_splat!("KASAN: slab-use-after-free", look_on(first(), seen))
    }

    #[test]
    fn freed_again() -> Result {
        needs!(CONFIG_KASAN_GENERIC);
        let cache = SheafCache::new(c"rcu_ptr_twice", SIZE, Args::default())?;
        let object = cache.alloc(false).ok_or(ENOMEM)?;
        let object = Atomic::<*mut u8>::new(object.as_ptr());
        let free = || {
            if let Some(object) = NonNull::new(object.load(Relaxed)) {
                // SAFETY: From this cache; that the second time is wrong is on purpose.
                unsafe { cache.free_rcu(object) };
                core::barrier();
            }
        };
        on_each(first(), free)?;
        expect_splat!("KASAN: double-free", on_each(first(), free))?;
        // The cache has one more back than it gave, so that its end takes one for missing.
        let other = cache.alloc(false).ok_or(ENOMEM)?;
        // SAFETY: From this cache, the caller's.
        unsafe { alloc::kvfree(other) };
        Ok(())
    }

    /// SLUB's own checks, in any kernel that has them.
    #[test]
    fn poisoned() -> Result {
        skip_if!(cfg!(CONFIG_KASAN), c"KASAN reports the look");
        let args = Args::default();
        let cache = SheafCache::with_flags(c"rcu_ptr_poison", SIZE, args, alloc::POISON)?;
        let object = cache.hold()?;
        // SAFETY: The caller's.
        unsafe { object.start().write_bytes(0x11, SIZE) };
        check!(look(free_and_wait(object)) == 0x6b);
        Ok(())
    }

    /// KFENCE's objects are few: each goes back to it.
    #[test]
    fn kfence_gets_its_objects_back() -> Result {
        needs!(CONFIG_KFENCE);
        let cache = SheafCache::new(c"rcu_ptr_kfence", SIZE, Args::default())?;
        user::sh(c_str!(
            "echo 1 >/sys/module/kfence/parameters/sample_interval"
        ))?;
        let looked = watched(&cache).and_then(|object| {
            let seen = free_and_wait(object.ok_or(ENODEV)?);
            // It flushes the TLB only where an object is freed, and reports the first look that
            // faults.
            expect_splat!("KFENCE: use-after-free read", look_on(cpu::online(), seen))
        });
        user::sh(c_str!(
            "echo 0 >/sys/module/kfence/parameters/sample_interval"
        ))?;
        looked
    }

    /// An object that is lost is found, though sheaves it went through had its address.
    #[test]
    fn lost_objects_are_found() -> Result {
        needs!(CONFIG_DEBUG_KMEMLEAK);
        // The sheaves stay where they are.
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_lost", SIZE, Args::default())?;
        let lost = Atomic::<usize>::new(0);
        let lose = |_| {
            if let Some(object) = cache.alloc(false) {
                // Not a pointer that is seen.
                lost.store(!(object.as_ptr() as usize), Relaxed);
            }
            // And the stack forgets.
            ::core::hint::black_box([0usize; 64]);
        };
        thread::on_cpus(cpu::online().take(1), &lose, || ())?;
        let result = expect_splat!("kmemleak: [0-9]* new suspected memory leaks", {
            thread::sleep(6000);
            user::sh(c_str!(
                "k=/sys/kernel/debug/kmemleak; for i in 1 2 3 4; do echo scan >$k; \
                 grep -q 'object.*(size 72)' $k && exit 0; done; exit 1"
            ))
        });
        let object = !lost.load(Relaxed);
        if let Some(object) = NonNull::new(::core::ptr::with_exposed_provenance_mut(object)) {
            // SAFETY: From this cache, the caller's.
            unsafe { cache.free(object) };
        }
        result
    }

    /// What an owner left in an object is not there when the next one gets it, where the kernel is
    /// told to see to that.
    #[test]
    fn nothing_stale() -> Result {
        skip_if!(
            !slab::checks().init_on_alloc && !slab::checks().init_on_free,
            c"needs init_on_alloc=1 or init_on_free=1"
        );
        let cache = SheafCache::new(c"rcu_ptr_stale", SIZE, Args::default())?;
        let mut stale = 0;
        for round in 0..100 {
            let mut held = KVec::new();
            for _ in 0..60 {
                let object = cache.hold()?;
                // SAFETY: The caller's.
                stale += usize::from(unsafe { object.start().cast::<u64>().read() } != 0);
                // SAFETY: As above.
                unsafe { object.start().write_bytes(0xa5, SIZE) };
                held.push(object, GFP_KERNEL)?;
            }
            for (i, object) in held.into_iter().enumerate() {
                if i % 2 == 0 {
                    object.free();
                }
            }
            if round % 10 == 0 {
                core::barrier();
            }
        }
        check!(stale == 0);
        Ok(())
    }

    /// Freed objects hold nothing either with init_on_free=1.
    #[test]
    fn nothing_left_behind() -> Result {
        skip_if!(
            !slab::checks().init_on_free || cfg!(CONFIG_KASAN),
            c"needs init_on_free=1, and no KASAN"
        );
        let cache = SheafCache::new(c"rcu_ptr_left", SIZE, Args::default())?;
        let mut stale = 0;
        for i in 0..200 {
            let object = cache.hold()?;
            let seen = object.start();
            // SAFETY: The caller's.
            unsafe { seen.write_bytes(0xa5, SIZE) };
            if i % 2 == 0 {
                object.free();
            } else {
                drop(object);
            }
            core::barrier();
            stale += usize::from(look(seen) == 0xa5);
        }
        check!(stale == 0);
        Ok(())
    }
}
