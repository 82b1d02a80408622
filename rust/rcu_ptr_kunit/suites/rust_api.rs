// SPDX-License-Identifier: GPL-2.0

//! The Rust interface, a case for each promise: boxes, slots, closures, and objects in foreign
//! structures.

use crate::{
    memory::FreeMemory,
    owner::{self, DropCounts, Link, Owner, CHAIN},
    prelude::*,
    rcu_ptr::{
        self, free_mightsleep, try_free_nolock, BhOff, CallbackContext, ForeignOwnableRcu, KvFree,
        MaySleep, RcuBox, RcuFree, RcuFreeBox, RcuFreeKBox, RcuFreeKVBox, RcuFreeSafe, RcuFreeVBox,
        RcuKBox, RcuKVBox, RcuSleepBox, RcuSlot, RcuVBox, WithRoom,
    },
};
use ::core::{mem, ptr};
use kernel::{
    alloc::allocator::{Kmalloc, Vmalloc},
    sync::Arc,
    types::ForeignOwnable,
    xarray::{AllocKind, XArray},
};

fn object(drops: &'static DropCounts, key: u64) -> Result<RcuKBox<Owner>> {
    RcuBox::new(Owner::new(drops, key)?, GFP_KERNEL)
}

/// An object of any allocator and context.
fn boxed<A: KvFree, C: CallbackContext>(
    drops: &'static DropCounts,
    key: u64,
) -> Result<RcuBox<Owner, A, C>> {
    RcuBox::new(Owner::new(drops, key)?, GFP_KERNEL)
}

/// An owner whose drop sleeps if it may.
struct Sleeper(Owner);

impl Drop for Sleeper {
    fn drop(&mut self) {
        if cpu::may_sleep() {
            thread::sleep(1);
        }
    }
}

/// Larger than a kernel stack.
type Wide = [u8; 20_000];

fn sevens() -> impl PinInit<Wide> {
    pin_init::init_array_from_fn(|_| 7)
}

#[pin_data]
struct Large {
    owner: Owner,
    #[pin]
    rest: Wide,
}

/// The owner's part of an object that readers see as [`Door`].
struct Key(Owner);

struct Door {
    number: u64,
    closed: Atomic<u32>,
}

impl RcuFreeSafe for Key {
    type View = Door;

    fn drop_before_gp(self: Pin<&mut Self>, view: Pin<&Door>) {
        // Counted as early if it has been dropped by then.
        self.0.check_intact();
        view.closed.fetch_add(1, Relaxed);
    }
}

fn door(drops: &'static DropCounts, number: u64) -> Result<RcuFreeKBox<Key>> {
    let view = Door {
        number,
        closed: Atomic::new(0),
    };
    RcuFreeBox::new(view, Key(Owner::new(drops, number)?), GFP_KERNEL)
}

impl RcuFreeSafe for Link {
    type View = Wide;

    fn drop_before_gp(self: Pin<&mut Self>, _view: Pin<&Self::View>) {}
}

/// A pinned initializer that fails when one field has been initialized.
fn failing(drops: &'static DropCounts) -> impl PinInit<Link, Error> {
    try_pin_init!(Link {
        owner: Owner::new(drops, 1)?,
        next: Err(EBUSY)?,
    })
}

fn aligned<T, P: ForeignOwnable>(object: *mut T) -> bool {
    object.is_aligned() && object.addr() % P::FOREIGN_ALIGN == 0 && P::FOREIGN_ALIGN >= 8
}

#[repr(align(64))]
struct Line;

/// Whether `into_foreign()` returns the address of the object.
fn is_object<T: Send + 'static>(value: T) -> Result<bool> {
    let object = RcuKBox::<T>::new(value, GFP_KERNEL)?;
    let seen = ptr::from_ref(&*object);
    let raw = object.into_foreign().cast::<T>();
    let is = ptr::eq(seen, raw) && aligned::<T, RcuKBox<T>>(raw);
    // SAFETY: From `into_foreign()` above.
    drop(unsafe { RcuKBox::<T>::from_foreign(raw.cast()) });
    Ok(is)
}

/// Frees `n` boxes without a field. Returns how many were accepted, and how many were returned.
fn try_free(n: u64) -> Result<(usize, usize)> {
    let (mut taken, mut back) = (0, 0);
    for i in 0..n {
        match try_free_nolock(KBox::pin(i, GFP_KERNEL)?) {
            Ok(()) => taken += 1,
            Err(object) => back += usize::from(*object == i),
        }
    }
    rcu_ptr::barrier();
    Ok((taken, back))
}

#[kunit_tests(rcu_ptr_rust_api)]
mod tests {
    use super::*;

    #[test]
    fn boxes_drop_what_they_own() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        for key in 0..2000 {
            check!(object(&DROPS, key)?.key == key)?;
        }
        check!(DROPS.all_dropped(2000))?;
        check!(DROPS.bh_off.load(Relaxed) == 2000)
    }

    #[test]
    fn boxes_drop_after_the_grace_period() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        let object = object(&DROPS, 1)?;
        let guard = rcu::read_lock();
        let seen = object.with_rcu(&guard);
        drop(object);
        for _ in 0..1000 {
            seen.check_intact();
        }
        let early = DROPS.dropped();
        drop(guard);
        check!(early == 0 && DROPS.all_dropped(1))
    }

    #[test]
    fn boxes_whose_drop_sleeps() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        for key in 0..20 {
            let object: RcuSleepBox<_> =
                RcuBox::new(Sleeper(Owner::new(&DROPS, key)?), GFP_KERNEL)?;
            check!(object.0.key == key)?;
            cpu::irqs_off(|| drop(object));
        }
        check!(DROPS.all_dropped(20))?;

        check!(DROPS.in_task.load(Relaxed) == 20)
    }

    #[test]
    fn boxes_in_boxes() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        let first = owner::chain(&DROPS)?;
        let links = ::core::iter::successors(first.as_deref(), |link| link.next.as_deref());
        let sum: u64 = links.map(|link| link.owner.key).sum();
        check!(sum == CHAIN * (CHAIN - 1) / 2)?;
        drop(first);
        // The drop of each starts the wait of the next.
        for _ in 1..CHAIN {
            rcu_ptr::barrier();
        }
        check!(DROPS.all_dropped(CHAIN as usize))
    }

    #[test]
    fn drops_are_counted() -> Result {
        static DROPPED: Atomic<u64> = Atomic::new(0);
        struct Counted;
        impl Drop for Counted {
            fn drop(&mut self) {
                DROPPED.fetch_add(1, Relaxed);
            }
        }
        for _ in 0..1000 {
            drop(RcuKBox::new(Counted, GFP_KERNEL)?);
        }
        rcu_ptr::barrier();
        check!(DROPPED.load(Relaxed) == 1000)
    }

    #[test]
    fn boxes_without_a_destructor() -> Result {
        for key in 0..2000u64 {
            let object = RcuKBox::<u64>::new(key, GFP_KERNEL)?;
            check!(*object == key)?;
        }
        let nothing = RcuKBox::<()>::new((), GFP_KERNEL)?;
        drop(nothing);
        rcu_ptr::barrier();
        Ok(())
    }

    #[test]
    fn boxes_of_every_allocator() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        for key in 0..20 {
            let small: RcuVBox<Owner> = boxed::<Vmalloc, BhOff>(&DROPS, key)?;
            let sleepy = boxed::<Kmalloc, MaySleep>(&DROPS, key)?;
            let large = RcuKVBox::new(
                try_pin_init!(Large {
                    owner: Owner::new(&DROPS, key)?,
                    rest <- sevens(),
                }),
                GFP_KERNEL,
            )?;
            let plain = RcuKVBox::<Wide>::new(sevens(), GFP_KERNEL)?;
            check!(small.key == large.owner.key && large.rest[19_999] == plain[19_999])?;
            check!(sleepy.key == key)?;
        }
        check!(DROPS.all_dropped(60))
    }

    #[test]
    fn boxes_that_are_forgotten() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        let object = object(&DROPS, 1)?;
        // Leaked, so that it can be checked afterwards.
        let left = ptr::from_ref(&*object).cast_mut();
        mem::forget(object);
        rcu_ptr::barrier();
        check!(DROPS.dropped() == 0)?;
        // SAFETY: The object of a box of this type that was forgotten.
        drop(unsafe { RcuKBox::<Owner>::from_foreign(left.cast()) });
        check!(DROPS.all_dropped(1))
    }

    #[test]
    fn initializers_that_fail() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        for _ in 0..100 {
            let object = RcuKBox::<Link>::new(failing(&DROPS), GFP_KERNEL);
            check!(object.is_err_and(|error| error == EBUSY))?;
        }
        check!(DROPS.all_dropped(100))
    }

    /// Their memory is freed without a grace period; only memory of their owners waits for one.
    #[test]
    fn nothing_is_left_of_initializers_that_fail() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        const ROUNDS: usize = 400;
        let queued = EventCounter::start(|c| c.queued.iter().map(|n| n.load(Relaxed)).sum())?;
        let mut back = false;
        // Others may allocate as much meanwhile, once.
        for _ in 0..3 {
            let mark = FreeMemory::now();
            for _ in 0..ROUNDS {
                let large = RcuVBox::<Large>::new(
                    try_pin_init!(Large {
                        owner: Err(EBUSY)?,
                        rest <- sevens(),
                    }),
                    GFP_KERNEL,
                );
                let view = RcuFreeVBox::<Link>::new(sevens(), failing(&DROPS), GFP_KERNEL);
                check!(large.is_err_and(|error| error == EBUSY))?;
                check!(view.is_err_and(|error| error == EBUSY))?;
            }
            // Each object has five pages.
            back |= bound::soon(|| mark.missing() < 2 * ROUNDS as u64);
            if back {
                break;
            }
        }
        let queued = queued.count();
        rcu_ptr::barrier();
        check!(back)?;
        check!(queued == DROPS.made() as u64)?;
        check!(DROPS.is_balanced())
    }

    #[test]
    fn pointers_are_those_of_objects() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        check!(is_object(1u8)?)?;
        check!(is_object(1u64)?)?;
        check!(is_object(Line)?)?;
        check!(is_object(Owner::new(&DROPS, 1)?)?)?;
        let door = door(&DROPS, 2)?;
        let seen = ptr::from_ref(door.view());
        let raw = door.into_foreign().cast::<Door>();
        check!(ptr::eq(seen, raw) && aligned::<Door, RcuFreeBox<Key>>(raw))?;
        // SAFETY: From above.
        drop(unsafe { RcuFreeBox::<Key>::from_foreign(raw.cast()) });
        check!(DROPS.all_dropped(2))
    }

    #[test]
    fn owners_part_is_dropped_at_once() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        let mut door = door(&DROPS, 7)?;
        door.owned_mut().0.key ^= 0;
        let guard = rcu::read_lock();
        let view = door.with_rcu(&guard);
        check!(door.0.key == view.number && view.closed.load(Relaxed) == 0)?;
        drop(door);
        // The owner's part has been dropped, once, after drop_before_gp(); the view is still there.
        let (dropped, closed, number) = (DROPS.dropped(), view.closed.load(Relaxed), view.number);
        drop(guard);
        check!(dropped == 1 && closed == 1 && number == 7)?;
        check!(DROPS.all_dropped(1) && DROPS.checks.load(Relaxed) == 1)
    }

    #[test]
    fn views_of_every_allocator() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        struct Blind;
        impl RcuFreeSafe for Blind {
            type View = Wide;
            fn drop_before_gp(self: Pin<&mut Self>, _view: Pin<&Self::View>) {}
        }
        fn last(object: &RcuFree<Blind>) -> u8 {
            object.view()[19_999]
        }
        for _ in 0..20 {
            let wide: RcuFreeKVBox<Blind> = RcuFreeBox::new(sevens(), Blind, GFP_KERNEL)?;
            let paged: RcuFreeVBox<Blind> = RcuFreeBox::new(sevens(), Blind, GFP_KERNEL)?;
            check!(last(&wide) == 7 && last(&paged) == 7)?;
        }
        let view = Door {
            number: 1,
            closed: Atomic::new(0),
        };
        if let Some(owner) = Owner::new_nolock(&DROPS, 1) {
            drop(RcuFreeBox::new_nolock(view, Key(owner)));
        }
        rcu_ptr::barrier();
        check!(DROPS.is_balanced())
    }

    #[test]
    fn slots_of_both_kinds() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        let objects = RcuSlot::<RcuKBox<Owner>>::new();
        let doors = RcuSlot::<RcuFreeBox<Key>>::new();
        for key in 0..100 {
            drop(objects.swap(Some(object(&DROPS, key)?)));
            drop(doors.swap(Some(door(&DROPS, key)?)));
            let guard = rcu::read_lock();
            let seen = objects.load(&guard).map(|object| object.key);
            check!(seen == Some(key))?;
            let seen = doors.load(&guard).map(|view| view.number);
            check!(seen == Some(key))?;
        }
        // One slot is emptied, the other is dropped with its object.
        check!(doors.swap(None).is_some() && doors.swap(None).is_none())?;
        drop(objects);
        check!(DROPS.all_dropped(200))
    }

    #[test]
    fn xarrays_hold_boxes() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        let objects = KBox::pin_init(XArray::<RcuKBox<Owner>>::new(AllocKind::Alloc), GFP_KERNEL)?;
        let doors = KBox::pin_init(XArray::<RcuFreeBox<Key>>::new(AllocKind::Alloc), GFP_KERNEL)?;
        for key in 0..300u64 {
            let (object, door) = (object(&DROPS, key)?, door(&DROPS, key)?);
            // Two for each index: the second replaces the first.
            let i = key as usize / 2;
            let old = objects.lock().store(i, object, GFP_KERNEL);
            drop(old.map_err(Error::from)?);
            let old = doors.lock().store(i, door, GFP_KERNEL);
            drop(old.map_err(Error::from)?);
        }
        let guard = objects.lock();
        check!((0..150).all(|i| guard.get(i).is_some_and(|o| o.key == 2 * i as u64 + 1)))?;
        drop(guard);
        let mut guard = doors.lock();
        check!(guard.get_mut(3).is_some_and(|key| key.0.key == 7))?;
        check!(guard.get(3).is_some_and(|door| door.view().number == 7))?;
        let removed = guard.remove(3);
        drop(guard);
        let closed = removed.map(|door| {
            let guard = rcu::read_lock();
            let view = door.with_rcu(&guard);
            drop(door);
            view.closed.load(Relaxed)
        });
        check!(closed == Some(1))?;
        drop((objects, doors));
        check!(DROPS.all_dropped(600))
    }

    #[test]
    fn foreign_pointers_under_rcu() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        let raw = object(&DROPS, 5)?.into_foreign();
        let guard = rcu::read_lock();
        // SAFETY: From `into_foreign()` above, and not converted back yet.
        let seen = unsafe { RcuKBox::<Owner>::rcu_borrow(raw, &guard) };
        // SAFETY: As above, this once.
        drop(unsafe { RcuKBox::<Owner>::from_foreign(raw) });
        seen.check_intact();
        let key = seen.key;
        drop(guard);
        check!(key == 5 && DROPS.all_dropped(1))
    }

    #[test]
    fn closures_run_once_and_then_the_drop() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        static RAN: Atomic<u64> = Atomic::new(0);
        static WRONG: Atomic<u64> = Atomic::new(0);
        let shared = Arc::new(0u64, GFP_KERNEL)?;
        for key in 0..500u64 {
            let owner = Owner::sharing(&DROPS, key, &shared)?;
            let object = RcuKBox::new(WithRoom::<_, 2>::new(owner), GFP_KERNEL)?;
            let also = shared.clone();
            let guard = rcu::read_lock();
            let seen = object.with_rcu(&guard);
            cpu::irqs_off(|| {
                object.call(move |owner: Pin<&mut Owner>| {
                    let right = owner.key == key && cpu::is_bh_off();
                    WRONG.fetch_add(u64::from(!right || *also != 0), Relaxed);
                    RAN.fetch_add(1, Relaxed);
                })
            });
            seen.check_intact();
        }
        check!(DROPS.all_dropped(500))?;
        check!(RAN.load(Relaxed) == 500 && WRONG.load(Relaxed) == 0)?;
        // The references of the closures and of the objects have been dropped.
        check!(Arc::into_unique_or_drop(shared).is_some())
    }

    #[test]
    fn closures_that_sleep() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        static RAN: Atomic<u64> = Atomic::new(0);
        for key in 0..20 {
            let object: RcuSleepBox<WithRoom<_, 0>> =
                RcuBox::new(WithRoom::new(Owner::new(&DROPS, key)?), GFP_KERNEL)?;
            object.call(|_| {
                let in_task = cpu::may_sleep();
                if in_task {
                    thread::sleep(1);
                }
                RAN.fetch_add(u64::from(in_task), Relaxed);
            });
        }
        check!(DROPS.all_dropped(20))?;
        check!(RAN.load(Relaxed) == 20)
    }

    #[test]
    fn closures_that_queue() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        static RAN: Atomic<u64> = Atomic::new(0);
        let first = RcuKBox::new(WithRoom::<_, 1>::new(Owner::new(&DROPS, 1)?), GFP_KERNEL)?;
        let second = RcuKBox::new(WithRoom::<_, 1>::new(Owner::new(&DROPS, 2)?), GFP_KERNEL)?;
        first.call(move |_| {
            second.call(|owner| {
                RAN.fetch_add(owner.key, Relaxed);
            })
        });
        rcu_ptr::barrier();
        check!(DROPS.all_dropped(2) && RAN.load(Relaxed) == 2)
    }

    #[test]
    fn room_that_is_not_used() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        drop(RcuKBox::new(
            WithRoom::<_, 4>::new(Owner::new(&DROPS, 1)?),
            GFP_KERNEL,
        )?);
        let plain = RcuKBox::new(WithRoom::<_, 1>::new(3u64), GFP_KERNEL)?;
        check!(**plain == 3)?;
        drop(plain);
        check!(DROPS.all_dropped(1))
    }

    #[test]
    fn boxes_that_may_be_returned() -> Result {
        const N: u64 = 3000;
        // With debugobjects or kmemleak engine rfc never accepts any.
        let never = cfg!(any(CONFIG_DEBUG_KMEMLEAK, CONFIG_DEBUG_OBJECTS_RCU_HEAD));
        let mut taken = 0;
        // After memory pressure, as in other suites, refills pause, and there may be no block for
        // long.
        for _ in 0..600 {
            let (some, back) = try_free(N)?;
            check!(some + back == N as usize)?;
            taken = some;
            if taken > 0 || never {
                break;
            }
            drop(RcuKBox::<u64>::new(0u64, GFP_KERNEL)?);
            thread::sleep(100);
        }
        check!(taken > 0 || never)
    }

    #[test]
    fn boxes_without_a_field() -> Result {
        for i in 0..500u64 {
            free_mightsleep(KBox::pin(i, GFP_KERNEL)?);
        }
        rcu_ptr::barrier();
        Ok(())
    }
}
