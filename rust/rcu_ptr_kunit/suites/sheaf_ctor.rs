// SPDX-License-Identifier: GPL-2.0

//! Objects with a constructor in a cache with SLAB_TYPESAFE_BY_RCU: a hash table whose lookups take
//! a reference on the constructed object and recheck its key, as the kernel's own users of such
//! caches do. Objects are reused at once.

use crate::{prelude::*, provoke::expect_warning};
use ::core::{ptr, sync::atomic::AtomicBool};

const MADE: u64 = 0xc057_0c7e_d000_0001;

/// An object.
#[repr(C)]
struct Entry {
    /// Written by the constructor, and constant.
    made: u64,
    /// References; 0: the object is free.
    refs: Atomic<u32>,
    key: Atomic<u32>,
    /// [`value_of()`] the key.
    value: Atomic<u64>,
}

static MADE_SO_FAR: Atomic<u64> = Atomic::new(0);

/// # Safety
///
/// `object` is uninitialised memory for an entry.
unsafe extern "C" fn construct(object: *mut c_void) {
    MADE_SO_FAR.fetch_add(1, Relaxed);
    // SAFETY: By the safety requirements of this function.
    unsafe {
        object.cast::<Entry>().write(Entry {
            made: MADE,
            refs: Atomic::new(0),
            key: Atomic::new(0),
            value: Atomic::new(0),
        })
    };
}

fn value_of(key: u32) -> u64 {
    u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const BUCKETS: usize = 16;

/// The hash table.
struct Map<'a> {
    cache: &'a SheafCache,
    buckets: [Atomic<*mut Entry>; BUCKETS],
    not_made: Atomic<u64>,
    in_use: Atomic<u64>,
    other_value: Atomic<u64>,
    lost: Atomic<u64>,
    found: Atomic<u64>,
    /// Lookups that got an object with another key.
    again: Atomic<u64>,
}

impl<'a> Map<'a> {
    fn new(cache: &'a SheafCache) -> Self {
        Self {
            cache,
            buckets: [const { Atomic::new(ptr::null_mut()) }; BUCKETS],
            not_made: Atomic::new(0),
            in_use: Atomic::new(0),
            other_value: Atomic::new(0),
            lost: Atomic::new(0),
            found: Atomic::new(0),
            again: Atomic::new(0),
        }
    }

    /// Puts a new entry for `key` into its bucket, in the place of the one there.
    fn insert(&self, key: u32, nolock: bool) {
        let object = if nolock {
            self.cache.alloc_nolock()
        } else {
            self.cache.alloc(false)
        };
        let Some(object) = object else { return };
        // SAFETY: An object of this cache, which is a constructed entry.
        let entry = unsafe { object.cast::<Entry>().as_ref() };
        self.not_made.add(u64::from(entry.made != MADE), Relaxed);
        self.in_use
            .add(u64::from(entry.refs.load(Relaxed) != 0), Relaxed);
        entry.key.store(key, Relaxed);
        entry.value.store(value_of(key), Relaxed);
        // ORDERING: Release pairs with the cmpxchg in `get()`: key and value are visible.
        entry.refs.store(1, Release);
        let bucket = &self.buckets[key as usize % BUCKETS];
        if let Some(old) = NonNull::new(bucket.xchg(object.as_ptr().cast(), Full)) {
            self.put(old);
        }
    }

    /// Drops a reference.
    fn put(&self, entry: NonNull<Entry>) {
        // SAFETY: The caller has a reference.
        match unsafe { entry.as_ref() }.refs.fetch_sub(1, Full) {
            0 => self.lost.add(1, Relaxed),
            // SAFETY: An object of this cache without references; lookups recheck the key.
            1 => unsafe { self.cache.free(entry.cast()) },
            _ => (),
        }
    }

    /// Looks `key` up.
    fn lookup(&self, key: u32) {
        let guard = rcu::read_lock();
        // ORDERING: Acquire pairs with the exchange of `insert()`.
        let entry = NonNull::new(self.buckets[key as usize % BUCKETS].load(Acquire));
        // SAFETY: Found in this read-side critical section: the memory stays an entry, of any key.
        let got = entry.filter(|entry| unsafe { self.get(entry.as_ref()) });
        drop(guard);
        let Some(entry) = got else { return };
        // SAFETY: This task has a reference.
        let e = unsafe { entry.as_ref() };
        let now = e.key.load(Relaxed);
        if now == key {
            self.found.add(1, Relaxed);
        } else {
            self.again.add(1, Relaxed);
        }
        self.other_value
            .add(u64::from(e.value.load(Relaxed) != value_of(now)), Relaxed);
        self.put(entry);
    }

    /// Takes a reference unless the count is 0, like `refcount_inc_not_zero()`.
    fn get(&self, entry: &Entry) -> bool {
        self.not_made.add(u64::from(entry.made != MADE), Relaxed);
        let mut refs = entry.refs.load(Relaxed);
        while refs != 0 {
            match entry.refs.cmpxchg(refs, refs + 1, Full) {
                Ok(_) => return true,
                Err(now) => refs = now,
            }
        }
        false
    }

    fn clear(&self) {
        for bucket in &self.buckets {
            if let Some(old) = NonNull::new(bucket.xchg(ptr::null_mut(), Full)) {
                self.put(old);
            }
        }
    }

    /// Counts of errors.
    fn wrong(&self) -> [u64; 4] {
        [&self.not_made, &self.in_use, &self.other_value, &self.lost].map(|n| n.load(Relaxed))
    }
}

/// The word that the constructor wrote into `object`, of a cache with [`constructed()`].
fn made(object: &Held<'_>) -> u64 {
    // SAFETY: A constructed entry.
    unsafe { object.start().cast::<Entry>().as_ref() }.made
}

fn constructed() -> Args {
    Args {
        ctor: Some(construct),
        ..Args::default()
    }
}

#[kunit_tests(rcu_ptr_sheaf_ctor)]
mod tests {
    use super::*;

    /// Objects are reused at once, and found by lookups of their previous keys.
    #[test]
    fn typesafe_lookups() -> Result {
        for flags in [alloc::TYPESAFE, alloc::TYPESAFE | alloc::POISON] {
            let cache = SheafCache::with_flags(c"rcu_ptr_ctor", SIZE, constructed(), flags)?;
            let map = Map::new(&cache);
            let body = |cpu: i32| {
                cpus::repeat(0..scaled(30_000), |i| {
                    let key = i as u32 * 7 + cpu as u32 * 3;
                    map.insert(key % 64, i % 3 == 0);
                    for other in 0..4 {
                        map.lookup((key + other * 16) % 64);
                    }
                    cpu::irqs_off(|| map.insert((key + 5) % 64, true));
                });
            };
            thread::on_cpus(cpu::online(), &body, || ())?;
            map.clear();
            let (found, again) = (map.found.load(Relaxed), map.again.load(Relaxed));
            pr_info!("sheaf_ctor: {found} found, {again} times another object\n");
            check!(map.wrong() == [0; 4])?;
            check!(found > 1000 && cache.stats().nolock_allocs == 0)?;
        }
        Ok(())
    }

    /// The constructor runs once for each slab object, not for each use.
    #[test]
    fn once_per_object() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_ctor_once", SIZE, constructed())?;
        let before = MADE_SO_FAR.load(Relaxed);
        let mut wrong = 0;
        for _ in 0..200 {
            let mut held = KVVec::new();
            for i in 0..50 {
                let object = if i % 2 == 0 {
                    cache.hold().ok()
                } else {
                    cache.hold_nolock()
                };
                let Some(object) = object else { continue };
                wrong += usize::from(made(&object) != MADE);
                held.push(object, GFP_KERNEL)?;
            }
            drop(held);
            core::barrier();
        }
        let made = MADE_SO_FAR.load(Relaxed) - before;
        check!(wrong == 0 && made >= 50)?;
        // 10 000 uses.
        check!(made < 5000 || !alloc::objects_are_recycled())
    }

    /// kmalloc_nolock() is not used for constructed objects, and zeroing them is rejected.
    #[test]
    fn no_unconstructed_objects() -> Result {
        static WARNED: AtomicBool = AtomicBool::new(false);
        let cache = SheafCache::new(c"rcu_ptr_ctor_nolock", SIZE, constructed())?;
        check!(cache.hold_nolock().is_none())?;
        let object = cache.hold()?;
        expect_warning(
            &WARNED,
            "__GFP_ZERO for a cache with a constructor",
            // SAFETY: A new object.
            || unsafe { cache.zero(object.start()) },
        );
        check!(made(&object) == MADE)?;
        let plain = SheafCache::new(c"rcu_ptr_ctor_none", SIZE, Args::default())?;
        let object = plain.hold()?;
        // SAFETY: A new object of 64 bytes.
        let zeroed = unsafe {
            object.start().write_bytes(0xff, SIZE);
            plain.zero(object.start());
            (0..SIZE).all(|i| object.start().add(i).read() == 0)
        };
        check!(zeroed)
    }
}
