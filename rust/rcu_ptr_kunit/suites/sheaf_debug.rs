// SPDX-License-Identifier: GPL-2.0

//! The kernel's own checks on objects of caches: use after the grace period, double frees, leaks,
//! and stale contents.

use crate::{prelude::*, sys::slab};

/// Reads a byte of `object`, whatever its state.
fn read_byte(object: NonNull<u8>) -> u8 {
    // SAFETY: Mapped memory, whether it is freed or not.
    unsafe { object.as_ptr().read_volatile() }
}

/// Reads `object` on these CPUs, one after the other, which has to be reported. It does so in
/// threads: a report in the task of a case would fail the case.
fn read_on(mut cpus: impl Iterator<Item = i32>, object: NonNull<u8>) -> Result {
    let object = Atomic::<*mut u8>::new(object.as_ptr());
    cpus.try_for_each(|cpu| {
        cpus::on(cpu, || {
            NonNull::new(object.load(Relaxed)).map(read_byte);
        })
    })
}

/// The first CPU.
fn first() -> impl Iterator<Item = i32> {
    cpu::online().take(1)
}

/// Frees `object`, and waits for its grace period. Returns its address.
fn free_and_wait(object: Held<'_>) -> NonNull<u8> {
    let start = object.start();
    drop(object);
    core::barrier();
    start
}

/// Allocates until an object comes from KFENCE. `None`: none did.
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

    /// There is no report while a reader has the object, and one later.
    #[test]
    fn reader_that_keeps_an_object() -> Result {
        needs!(CONFIG_KASAN_GENERIC);
        let cache = SheafCache::new(c"rcu_ptr_uaf", SIZE, Args::default())?;
        let object = cache.hold()?;
        let guard = rcu::read_lock();
        let seen = object.start();
        drop(object);
        read_byte(seen);
        let early = alloc::is_poisoned(seen);
        drop(guard);
        core::barrier();
        check!(!early && alloc::is_poisoned(seen))?;
        expect_splat!("KASAN: slab-use-after-free", read_on(first(), seen))
    }

    #[test]
    fn use_after_free_at_once() -> Result {
        needs!(CONFIG_KASAN_GENERIC);
        let cache = SheafCache::new(c"rcu_ptr_uaf_now", SIZE, Args::default())?;
        let object = cache.hold()?;
        let seen = object.start();
        object.free();
        core::barrier();
        check!(alloc::is_poisoned(seen))?;
        expect_splat!("KASAN: slab-use-after-free", read_on(first(), seen))
    }

    #[test]
    fn freed_again() -> Result {
        needs!(CONFIG_KASAN_GENERIC);
        let cache = SheafCache::new(c"rcu_ptr_twice", SIZE, Args::default())?;
        let object = cache.alloc_many(1)?;
        let free = || {
            // SAFETY: An object of this cache; the double free is intended.
            unsafe { cache.free_rcu_all(&object) };
            core::barrier();
        };
        cpus::on(cpus::first(), free)?;
        expect_splat!("KASAN: double-free", cpus::on(cpus::first(), free))?;
        // The cache counts one free too many: remove another object, so that its destruction
        // reports nothing.
        let other = cache.alloc(false).ok_or(ENOMEM)?;
        // SAFETY: An object of this cache, owned by the caller.
        unsafe { alloc::kvfree(other) };
        Ok(())
    }

    /// Freed objects are poisoned by SLUB.
    #[test]
    fn poisoned() -> Result {
        skip_if!(cfg!(CONFIG_KASAN), c"KASAN reports the look");
        let args = Args::default();
        let cache = SheafCache::with_flags(c"rcu_ptr_poison", SIZE, args, alloc::POISON)?;
        let object = cache.hold()?;
        // SAFETY: Owned by the caller.
        unsafe { object.start().write_bytes(0x11, SIZE) };
        check!(read_byte(free_and_wait(object)) == 0x6b)
    }

    /// KFENCE has few objects: each is returned to it.
    #[test]
    fn kfence_gets_its_objects_back() -> Result {
        needs!(CONFIG_KFENCE);
        let cache = SheafCache::new(c"rcu_ptr_kfence", SIZE, Args::default())?;
        user::sh(c"echo 1 >/sys/module/kfence/parameters/sample_interval")?;
        let looked = watched(&cache).and_then(|object| {
            let seen = free_and_wait(object.ok_or(ENODEV)?);
            // KFENCE flushes the TLB only on the CPU that frees, and reports the first access that
            // faults.
            expect_splat!("KFENCE: use-after-free read", read_on(cpu::online(), seen))
        });
        user::sh(c"echo 0 >/sys/module/kfence/parameters/sample_interval")?;
        looked
    }

    /// kmemleak finds a lost object, though sheaves contain its address.
    #[test]
    fn lost_objects_are_found() -> Result {
        needs!(CONFIG_DEBUG_KMEMLEAK);
        // Keeps the sheaves where they are.
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_lost", SIZE, Args::default())?;
        let lost = Atomic::<usize>::new(0);
        let lose = || {
            if let Some(object) = cache.alloc(false) {
                // kmemleak does not recognize the complement.
                lost.store(!(object.as_ptr() as usize), Relaxed);
            }
            // Overwrites the stack.
            ::core::hint::black_box([0usize; 64]);
        };
        cpus::on(cpus::first(), lose)?;
        let result = expect_splat!("kmemleak: [0-9]* new suspected memory leaks", {
            thread::sleep(6000);
            user::sh(
                c"k=/sys/kernel/debug/kmemleak; for i in 1 2 3 4; do echo scan >$k; \
                  grep -q 'object.*(size 72)' $k && exit 0; done; exit 1",
            )
        });
        let object = !lost.load(Relaxed);
        if let Some(object) = NonNull::new(::core::ptr::with_exposed_provenance_mut(object)) {
            // SAFETY: An object of this cache, owned by the caller.
            unsafe { cache.free(object) };
        }
        result
    }

    /// With init_on_alloc or init_on_free an owner does not find the contents of the previous one.
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
                // SAFETY: Owned by the caller.
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
        check!(stale == 0)
    }

    /// With init_on_free freed objects have no contents.
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
            // SAFETY: Owned by the caller.
            unsafe { seen.write_bytes(0xa5, SIZE) };
            if i % 2 == 0 {
                object.free();
            } else {
                drop(object);
            }
            core::barrier();
            stale += usize::from(read_byte(seen) == 0xa5);
        }
        check!(stale == 0)
    }
}
