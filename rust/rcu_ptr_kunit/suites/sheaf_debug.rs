// SPDX-License-Identifier: GPL-2.0

//! What the kernel's own checks see of caches: a look at an object after its grace period, one that
//! is freed again, one that is lost, and what an earlier owner left in it.

use crate::{
    bound, params,
    sys::{
        alloc,
        cache::{Args, SheafCache, POISON},
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

/// Calls `f` on these CPUs, one after the other, in threads: a report that comes while a test's task runs fails that
/// test.
fn on_each(mut cpus: impl Iterator<Item = i32>, f: impl Fn() + Sync) -> Result {
    cpus.try_for_each(|cpu| thread::on_cpus(::core::iter::once(cpu), &|_| f(), || ()))
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

/// Frees `object`, and waits until its grace period is over.
fn free_and_wait(cache: &SheafCache, object: NonNull<u8>) {
    // SAFETY: From this the caller's.
    unsafe { cache.free_rcu(object) };
    core::barrier();
}

/// Allocates until KFENCE watches an object. `None`: it did not want to.
fn watched(cache: &SheafCache) -> Result<Option<NonNull<u8>>> {
    let mut held = KVVec::new();
    let mut found = None;
    let end = bound::watchdog_ends();
    while found.is_none() && thread::now() < end {
        let object = cache.alloc(false).ok_or(ENOMEM)?;
        if slab::is_kfence(object) {
            found = Some(object);
        } else {
            held.push(object, GFP_KERNEL)?;
        }
        thread::still_alive();
    }
    for object in held {
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free(object) };
    }
    Ok(found)
}

#[kunit_tests(rcu_ptr_sheaf_debug)]
mod tests {
    use super::*;

    /// No report as long as a reader may have it; later there is one.
    #[test]
    fn reader_that_keeps_an_object() -> Result {
        skip_if!(
            cfg!(not(CONFIG_KASAN_GENERIC)),
            c"needs CONFIG_KASAN_GENERIC"
        );
        let cache = SheafCache::new(c"rcu_ptr_uaf", SIZE, Args::default())?;
        let object = cache.alloc(false).ok_or(ENOMEM)?;
        let shared = Atomic::<*mut u8>::new(object.as_ptr());
        let guard = rcu::read_lock();
        let seen = NonNull::new(shared.xchg(::core::ptr::null_mut(), Relaxed)).ok_or(EINVAL)?;
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free_rcu(object) };
        look(seen);
        let early = alloc::is_poisoned(seen);
        drop(guard);
        core::barrier();
        check!(!early && alloc::is_poisoned(seen));
        expect_splat!("KASAN: slab-use-after-free", look_on(first(), seen))
    }

    #[test]
    fn freed_at_once_and_looked_at() -> Result {
        skip_if!(
            cfg!(not(CONFIG_KASAN_GENERIC)),
            c"needs CONFIG_KASAN_GENERIC"
        );
        let cache = SheafCache::new(c"rcu_ptr_uaf_now", SIZE, Args::default())?;
        let object = cache.alloc(false).ok_or(ENOMEM)?;
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free(object) };
        core::barrier();
        check!(alloc::is_poisoned(object));
        expect_splat!("KASAN: slab-use-after-free", look_on(first(), object))
    }

    #[test]
    fn freed_again() -> Result {
        skip_if!(
            cfg!(not(CONFIG_KASAN_GENERIC)),
            c"needs CONFIG_KASAN_GENERIC"
        );
        let cache = SheafCache::new(c"rcu_ptr_twice", SIZE, Args::default())?;
        let object = cache.alloc(false).ok_or(ENOMEM)?;
        let object = Atomic::<*mut u8>::new(object.as_ptr());
        let free = || {
            if let Some(object) = NonNull::new(object.load(Relaxed)) {
                free_and_wait(&cache, object);
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
        let cache = SheafCache::with_flags(c"rcu_ptr_poison", SIZE, args, POISON)?;
        let object = cache.alloc(false).ok_or(ENOMEM)?;
        // SAFETY: The caller's.
        unsafe { object.write_bytes(0x11, SIZE) };
        free_and_wait(&cache, object);
        let seen = look(object);
        check!(seen == 0x6b);
        Ok(())
    }

    /// KFENCE's objects are few: each goes back to it.
    #[test]
    fn kfence_gets_its_objects_back() -> Result {
        skip_if!(cfg!(not(CONFIG_KFENCE)), c"needs CONFIG_KFENCE");
        let cache = SheafCache::new(c"rcu_ptr_kfence", SIZE, Args::default())?;
        user::sh(c_str!(
            "echo 1 >/sys/module/kfence/parameters/sample_interval"
        ))?;
        let looked = watched(&cache).and_then(|object| {
            let object = object.ok_or(ENODEV)?;
            free_and_wait(&cache, object);
            // It flushes the TLB only where an object is freed, and reports the first look that faults.
            expect_splat!(
                "KFENCE: use-after-free read",
                look_on(cpu::online(), object)
            )
        });
        user::sh(c_str!(
            "echo 0 >/sys/module/kfence/parameters/sample_interval"
        ))?;
        looked
    }

    /// An object that is lost is found, though sheaves it went through had its address.
    #[test]
    fn lost_objects_are_found() -> Result {
        skip_if!(
            cfg!(not(CONFIG_DEBUG_KMEMLEAK)),
            c"needs CONFIG_DEBUG_KMEMLEAK"
        );
        // The sheaves stay where they are.
        let _defaults = params::no_drain()?;
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
        let found = || {
            expect_splat!("kmemleak: [0-9]* new suspected memory leaks", {
                thread::sleep(6000);
                user::sh(c_str!(
                    "k=/sys/kernel/debug/kmemleak; for i in 1 2 3 4; do echo scan >$k; \
                     grep -q 'object.*(size 72)' $k && exit 0; done; exit 1"
                ))
            })
        };
        let result = found();
        let object = !lost.load(Relaxed);
        if let Some(object) = NonNull::new(::core::ptr::with_exposed_provenance_mut(object)) {
            // SAFETY: From this cache, the caller's.
            unsafe { cache.free(object) };
        }
        check!(result.is_ok());
        Ok(())
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
                let object = cache.alloc(false).ok_or(ENOMEM)?;
                // SAFETY: The caller's.
                stale += usize::from(unsafe { object.as_ptr().cast::<u64>().read() } != 0);
                // SAFETY: As above.
                unsafe { object.write_bytes(0xa5, SIZE) };
                held.push(object, GFP_KERNEL)?;
            }
            for (i, object) in held.into_iter().enumerate() {
                // SAFETY: From this cache, the caller's.
                unsafe {
                    if i % 2 == 0 {
                        cache.free(object);
                    } else {
                        cache.free_rcu(object);
                    }
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
            let object = cache.alloc(false).ok_or(ENOMEM)?;
            // SAFETY: The caller's.
            unsafe { object.write_bytes(0xa5, SIZE) };
            if i % 2 == 0 {
                // SAFETY: From this cache, the caller's.
                unsafe { cache.free(object) };
                core::barrier();
            } else {
                free_and_wait(&cache, object);
            }
            stale += usize::from(look(object) == 0xa5);
        }
        check!(stale == 0);
        Ok(())
    }
}
