// SPDX-License-Identifier: GPL-2.0

//! The Rust interface of caches with sheaves: boxes, and slots and tables for readers, in all
//! contexts from tasks to NMI. The destruction of a cache warns of objects that are missing.

use crate::{
    check::CHECKED_OR_ZEROED,
    prelude::*,
    rcu_ptr::{self, Cache, CacheBox, CacheLimits, CacheSlot, CacheTable, UniqueCacheBox},
    storm,
};

/// An object of a plain cache. `check` is the complement of the key, so that a change under a
/// reader is detected.
struct Entry {
    key: Atomic<u64>,
    check: Atomic<u64>,
}

impl Entry {
    fn new(key: u64) -> Self {
        Self {
            key: Atomic::new(key),
            check: Atomic::new(!key),
        }
    }

    fn key(&self) -> u64 {
        self.key.load(Relaxed)
    }

    fn is_whole(&self) -> bool {
        let key = self.key();
        self.check.load(Relaxed) == !key && self.key() == key
    }
}

/// An object whose alignment kmalloc_nolock() does not provide.
#[repr(align(64))]
struct Aligned(u64);

fn address<T>(object: &T) -> usize {
    ::core::ptr::from_ref(object).addr()
}

/// Slots of the table that all contexts use.
const SLOTS: usize = 97;

#[kunit_tests(rcu_ptr_cache_api)]
mod tests {
    use super::*;

    /// The object of a box that is not shared can be written to, and is reused at once.
    #[test]
    fn new_box_is_reused() -> Result {
        skip_if!(!alloc::reused_at_once(), CHECKED_OR_ZEROED);
        let cache = Cache::<Entry>::new(c"rcu_ptr_api_again")?;
        let mut entry = cache.alloc(Entry::new(1), GFP_KERNEL)?;
        *entry = Entry::new(2);
        check!(entry.key() == 2 && entry.is_whole())?;
        drop(entry);
        let same = cpu::irqs_off(|| {
            let first = cache.alloc_nolock(Entry::new(2)).ok()?;
            let at = address(&*first);
            drop(first);
            let second = cache.alloc_nolock(Entry::new(3)).ok()?;
            Some(at == address(&*second))
        });
        check!(same == Some(true))
    }

    /// The object of a shared box is not reused under a reader, but after a grace period.
    #[test]
    fn shared_boxes_are_freed_after_a_grace_period() -> Result {
        let cache = Cache::<Entry>::new(c"rcu_ptr_api_later")?;
        let entry = cache.alloc(Entry::new(1), GFP_KERNEL)?.share();
        let at = address(&*entry);
        let mut early = false;
        {
            let _guard = rcu::read_lock();
            drop(entry);
            for key in 0..200 {
                if let Ok(other) = cache.alloc_nolock(Entry::new(key)) {
                    early |= address(&*other) == at;
                    drop(other.share());
                }
            }
        }
        rcu_ptr::barrier();
        let mut held = KVVec::new();
        let mut later = false;
        // More than a refill may have added meanwhile.
        for key in 0..4000 {
            let other = cache.alloc(Entry::new(key), GFP_KERNEL)?;
            later |= address(&*other) == at;
            held.push(other, GFP_KERNEL)?;
        }
        check!(!early && (later || !alloc::objects_are_recycled()))
    }

    /// Without objects the value is returned to the caller; prefilled objects are available.
    #[test]
    fn nolock_gives_the_value_back() -> Result {
        let cache = Cache::<Aligned>::new(c"rcu_ptr_api_none")?;
        let refused = cache.alloc_nolock(Aligned(42)).err();
        check!(refused.is_some_and(|value| value.0 == 42))?;
        // The reserve belongs to this node.
        thread::stay_here();
        cache.prefill(100)?;
        let mut held = KVec::with_capacity(100, GFP_KERNEL)?;
        for i in 0..100 {
            if let Ok(object) = cache.alloc_nolock(Aligned(i)) {
                held.push(object, GFP_KERNEL)?;
            }
        }
        let n = held.len();
        let good = held
            .iter()
            .enumerate()
            .all(|(i, o)| o.0 == i as u64 && address(&**o) % 64 == 0);
        check!(n == 100 && good)
    }

    /// Waiting memory stays below a limit that is set while the cache is in use; without a limit
    /// allocations succeed again.
    #[test]
    fn limits() -> Result {
        const WAITS: usize = 100_000;
        /// The size of an object with its link, aligned.
        const BYTES: usize = 128;
        const OBJECTS: usize = 4 * WAITS / BYTES;
        let cache = Cache::<Aligned>::new(c"rcu_ptr_api_limits")?;
        let too_large = CacheLimits {
            sheaf_capacity: 57,
            ..CacheLimits::default()
        };
        check!(cache.set_limits(too_large).is_err_and(|e| e == EINVAL))?;
        let freed = || -> Result<usize> {
            // More objects in stock than the limit allows to wait.
            let mut held = KVVec::new();
            for _ in 0..OBJECTS {
                held.push(cache.alloc(Aligned(1), GFP_KERNEL)?.share(), GFP_KERNEL)?;
            }
            drop(held);
            cache.barrier();
            let _guard = rcu::read_lock();
            Ok((0..OBJECTS)
                .map_while(|_| cache.alloc_nolock(Aligned(1)).ok())
                .map(|object| drop(object.share()))
                .count())
        };
        let usual = freed()?;
        cache.barrier();
        cache.set_limits(CacheLimits {
            wait_limit: WAITS,
            ..CacheLimits::default()
        })?;
        let limited = freed()?;
        cache.set_limits(CacheLimits::default())?;
        cache.barrier();
        let back = cache.alloc_nolock(Aligned(1)).is_ok();
        pr_info!("cache_api: {usual} objects, {limited} with a limit\n");
        // Up to a sheaf of each kind per CPU in addition.
        let slack = 2 * 56 * cpu::online().count();
        check!(limited <= WAITS / BYTES + slack)?;
        let far = limited * 2 < usual && limited + slack >= WAITS / BYTES / 2;
        check!(far && back || !alloc::objects_are_recycled())
    }

    #[test]
    fn slots() -> Result {
        let cache = Cache::<Entry>::new(c"rcu_ptr_api_slot")?;
        let other = Cache::<Entry>::new(c"rcu_ptr_api_slot2")?;
        let slot = CacheSlot::new(&cache);
        let new = |key| -> Result<CacheBox<'_, Entry>> {
            Ok(cache.alloc(Entry::new(key), GFP_KERNEL)?.share())
        };
        let key = || slot.load(&rcu::read_lock()).map(Entry::key);
        check!(key().is_none())?;
        check!(slot.put(new(1)?).is_ok())?;
        check!(slot.put(new(2)?).is_err_and(|back| back.key() == 2))?;
        check!(key() == Some(1))?;
        check!(slot.swap(Some(new(3)?)).is_some_and(|old| old.key() == 1))?;
        // A box of another cache does not fit into the slot.
        let foreign = other.alloc(Entry::new(9), GFP_KERNEL)?.share();
        let back = slot.swap(Some(foreign));
        check!(back.as_ref().is_some_and(|back| back.key() == 9))?;
        check!(back.is_some_and(|back| slot.put(back).is_err()))?;
        check!(key() == Some(3))?;
        let guard = rcu::read_lock();
        let seen = slot.load(&guard);
        let replaced = slot.swap(None);
        // The object that was read is no longer in the slot.
        let gone = seen.is_some_and(|seen| slot.remove(seen).is_none());
        let still = seen.is_some_and(|seen| seen.key() == 3 && seen.is_whole());
        drop(guard);
        check!(replaced.is_some_and(|old| old.key() == 3) && gone && still)?;
        check!(slot.put(new(4)?).is_ok())?;
        let guard = rcu::read_lock();
        let seen = slot.load(&guard);
        let taken = seen.and_then(|seen| slot.remove(seen));
        drop(guard);
        check!(taken.is_some_and(|old| old.key() == 4) && key().is_none())?;
        // The slot is dropped with an object in it.
        check!(slot.put(new(5)?).is_ok())
    }

    #[test]
    fn tables() -> Result {
        let cache = Cache::<Entry>::new(c"rcu_ptr_api_table")?;
        let table = CacheTable::new(cache, 10)?;
        check!(table.len() == 10 && !table.is_empty())?;
        for key in 0..30u64 {
            let new = table.cache().alloc(Entry::new(key), GFP_KERNEL)?.share();
            let old = table
                .swap(key as usize % 10, Some(new))
                .map(|old| old.key());
            check!(old == key.checked_sub(10))?;
        }
        // No such slot: the box is returned.
        let new = table.cache().alloc(Entry::new(99), GFP_KERNEL)?.share();
        let back = table.put(10, new).err();
        let back = table.swap(10, back);
        check!(back.is_some_and(|back| back.key() == 99))?;
        check!(table.load(10, &rcu::read_lock()).is_none())?;
        for i in (0..10).step_by(2) {
            let guard = rcu::read_lock();
            let taken = table.load(i, &guard).and_then(|seen| table.remove(i, seen));
            drop(guard);
            check!(taken.is_some_and(|old| old.key() == 20 + i as u64))?;
        }
        check!((0..10).all(|i| table.load(i, &rcu::read_lock()).is_some() == (i % 2 == 1)))?;
        // The table is dropped with five objects in it.
        Ok(())
    }

    /// All contexts of all CPUs use the slots of one table in all ways.
    #[test]
    fn all_contexts() -> Result {
        let nmi_source = or_skip!(storm::strongest(), c"no source of NMIs");
        let rounds = scaled(20_000);
        let cache = Cache::<Entry>::new(c"rcu_ptr_api_storm")?;
        cache.prefill(200)?;
        let table = CacheTable::new(cache, SLOTS)?;
        let next = Atomic::<u64>::new(0);
        let counts = [const { Atomic::<u64>::new(0) }; 6];
        let [replaced, removed, refused, looks, torn, nmis] = &counts;
        let look = |i: usize| {
            let guard = rcu::read_lock();
            if let Some(entry) = table.load(i % SLOTS, &guard) {
                let key = entry.key();
                for _ in 0..20 {
                    if !entry.is_whole() || entry.key() != key {
                        torn.add(1, Relaxed);
                        break;
                    }
                }
                looks.add(1, Relaxed);
            }
        };
        let act = |new: Option<UniqueCacheBox<'_, Entry>>| {
            let n = next.fetch_add(1, Relaxed) as usize;
            let i = n * 31 % SLOTS;
            look(i + 1);
            match new {
                Some(new) if n % 3 == 0 => match table.put(i, new.share()) {
                    Ok(()) => replaced.add(1, Relaxed),
                    // The slot was not empty: the box is returned, as a shared one.
                    Err(back) => {
                        refused.add(1, Relaxed);
                        drop(back);
                    }
                },
                Some(new) if n % 3 == 1 => {
                    let old = table.swap(i, Some(new.share()));
                    torn.add(u64::from(old.is_some_and(|old| !old.is_whole())), Relaxed);
                    replaced.add(1, Relaxed);
                }
                _ => {
                    let guard = rcu::read_lock();
                    if let Some(entry) = table.load(i, &guard) {
                        let taken = table.remove(i, entry);
                        removed.add(u64::from(taken.is_some()), Relaxed);
                        drop(taken);
                        // Under the guard it must not be reused.
                        torn.add(u64::from(!entry.is_whole()), Relaxed);
                    }
                }
            }
        };
        let nolock = || act(table.cache().alloc_nolock(Entry::new(7)).ok());
        let nmi = || {
            nmis.add(u64::from(cpu::context() == Context::Nmi), Relaxed);
            nolock();
        };
        let task = |cpu: i32| {
            let _ = timer::every(Where::Hardirq, 150_000, &nolock, || {
                cpus::repeat(storm::rounds(rounds, nmis), |i| {
                    let entry = Entry::new((i as u64) << 8 | cpu as u64);
                    match i % 3 {
                        0 => act(table.cache().alloc(entry, GFP_KERNEL).ok()),
                        1 => act(table.cache().alloc(entry, GFP_ATOMIC).ok()),
                        _ => cpu::irqs_off(|| act(table.cache().alloc_nolock(entry).ok())),
                    }
                });
            });
        };
        storm::during(nmi_source, &nmi, None, || {
            thread::on_cpus(cpu::online(), &task, || ())
        })??;
        let [replaced, removed, refused, looks, torn, nmis] =
            [replaced, removed, refused, looks, torn, nmis].map(|n| n.load(Relaxed));
        pr_info!(
            "cache_api: {replaced} put or swapped, {removed} removed, {refused} refused, \
             {looks} looks, {nmis} NMIs\n"
        );
        check!(torn == 0)?;
        // Two of three operations replace and one removes; each reads a slot, few of which are
        // empty.
        check!(
            looks > replaced / 2
                && removed > replaced / 4
                && nmis >= storm::expected(nmi_source, replaced)
        )?;
        check!(replaced > rounds as u64 * cpu::online().count() as u64 / 2)
    }
}
