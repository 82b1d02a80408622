// SPDX-License-Identifier: GPL-2.0

//! Client code that must not compile. Each case is compiled alone, with `--cfg CASE`: rustc has to
//! report its errors `error: CODE` and no others, and to print each `says: TEXT` (scripts/check.sh,
//! `refused`).

#[path = "mod.rs"]
pub mod rcu_ptr;

/// Objects and closures can't borrow: the owner may be gone when the grace period has ended.
// error: E0597
// error: E0597
// error: E0597
// says: `key` does not live long enough
#[cfg(borrowed)]
mod borrowed {
    use super::rcu_ptr::{Cache, RcuKBox, WithRoom};
    use kernel::prelude::*;

    struct Entry<'a>(&'a u64);

    impl Drop for Entry<'_> {
        fn drop(&mut self) {
            drop(core::hint::black_box(*self.0));
        }
    }

    fn object() -> Result {
        let key = 1;
        drop(RcuKBox::new(Entry(&key), GFP_KERNEL)?);
        Ok(())
    }

    fn closure(object: RcuKBox<WithRoom<u64, 1>>) {
        let key = 1;
        let borrow = &key;
        object.call(move |object| *object.get_mut() = *borrow);
    }

    /// Not by way of a cache for what lives longer, either.
    fn cached(cache: &Cache<Entry<'static>>) {
        let key = 1;
        let cache: &Cache<Entry<'_>> = cache;
        if let Ok(entry) = cache.alloc(Entry(&key), GFP_KERNEL) {
            drop(entry.share());
        }
    }
}

/// Closures that are not `Send`; use of an object after call().
// error: E0277
// error: E0382
// says: `*const u64` cannot be sent between threads safely
// says: use of moved value: `object`
#[cfg(closure)]
mod closure {
    use super::rcu_ptr::{RcuKBox, WithRoom};

    type Object = RcuKBox<WithRoom<u64, 1>>;

    fn of_this_cpu(object: Object, pointer: *const u64) {
        object.call(move |_| {
            let pointer = pointer;
            drop(pointer.is_null());
        });
    }

    fn twice(object: Object) {
        object.call(|_| ());
        object.call(|_| ());
    }
}

/// A closure that the object has no room for.
// error: E0080
// says: the object has no room for this closure
#[cfg(closure_room)]
mod closure_room {
    use super::rcu_ptr::{RcuKBox, WithRoom};

    fn large(object: RcuKBox<WithRoom<u64, 1>>) {
        let (a, b) = (object.wrapping_add(1), object.wrapping_add(2));
        object.call(move |object| *object.get_mut() = a ^ b);
    }

    #[used]
    static LARGE: fn(RcuKBox<WithRoom<u64, 1>>) = large;
}

/// There are two contexts for what comes after the grace period, and no others.
// error: E0277
// says: the trait bound `InNmi: sealed::CallbackContext` is not satisfied
#[cfg(contexts)]
mod contexts {
    use super::rcu_ptr::RcuBox;
    use kernel::alloc::allocator::Kmalloc;

    struct InNmi;

    fn free(_object: &RcuBox<u64, Kmalloc, InNmi>) {}
}

/// Types whose destructor would not run.
// error: E0080
// error: E0080
// error: E0080
// says: the view of an RcuFreeBox is never dropped
// says: assertion failed: !needs_drop::<T>()
#[cfg(destructor)]
mod destructor {
    use super::rcu_ptr::{free_mightsleep, try_free_nolock, RcuFreeBox, RcuFreeSafe};
    use kernel::prelude::*;

    struct Entry;

    impl RcuFreeSafe for Entry {
        type View = KVec<u8>;

        fn drop_before_gp(self: Pin<&mut Self>, _view: Pin<&KVec<u8>>) {}
    }

    fn view(names: KVec<u8>) -> Result<RcuFreeBox<Entry>> {
        RcuFreeBox::new(names, Entry, GFP_KERNEL)
    }

    #[used]
    static VIEW: fn(KVec<u8>) -> Result<RcuFreeBox<Entry>> = view;
    #[used]
    static FREE: fn(Pin<KBox<KVec<u8>>>) = free_mightsleep;
    #[used]
    static TRY: fn(Pin<KBox<KVec<u8>>>) -> Result<(), Pin<KBox<KVec<u8>>>> = try_free_nolock;
}

/// Memory that kvfree() does not accept.
// error: E0277
// error: E0277
// error: E0277
// says: the trait bound `Bump: KvFree` is not satisfied
#[cfg(foreign_allocator)]
mod foreign_allocator {
    use super::rcu_ptr::{free_mightsleep, try_free_nolock, RcuBox};
    use core::{alloc::Layout, ptr::NonNull};
    use kernel::{
        alloc::{AllocError, Allocator, Flags, NumaNode},
        prelude::*,
    };

    struct Bump;

    // SAFETY: It has no memory to give.
    unsafe impl Allocator for Bump {
        const MIN_ALIGN: usize = 8;

        unsafe fn realloc(
            _ptr: Option<NonNull<u8>>,
            _layout: Layout,
            _old_layout: Layout,
            _flags: Flags,
            _nid: NumaNode,
        ) -> Result<NonNull<[u8]>, AllocError> {
            Err(AllocError)
        }
    }

    fn share(_entry: &RcuBox<u64, Bump>) {}

    fn free(object: Pin<Box<u64, Bump>>) {
        free_mightsleep(object);
    }

    fn try_free(object: Pin<Box<u64, Bump>>) {
        let _ = try_free_nolock(object);
    }
}

/// kmalloc_nolock() does not align to cache lines.
// error: E0080
// says: kmalloc_nolock() aligns to 8 bytes
#[cfg(nolock_alignment)]
mod nolock_alignment {
    use super::rcu_ptr::RcuKBox;

    #[repr(align(64))]
    struct Line;

    fn line() -> Option<RcuKBox<Line>> {
        RcuKBox::new_nolock(Line).ok()
    }

    #[used]
    static LINE: fn() -> Option<RcuKBox<Line>> = line;
}

/// Types that are not `Sync` cannot be put into slots, types that are not `Send` not into boxes.
// error: E0277
// error: E0277
// error: E0277
// says: `Cell<u64>` cannot be shared between threads safely
// says: `*const u64` cannot be sent between threads safely
#[cfg(not_shared)]
mod not_shared {
    use super::rcu_ptr::{RcuFreeBox, RcuFreeSafe, RcuKBox, RcuSlot};
    use core::cell::Cell;

    struct Entry;

    impl RcuFreeSafe for Entry {
        type View = Cell<u64>;

        fn drop_before_gp(self: core::pin::Pin<&mut Self>, _view: core::pin::Pin<&Cell<u64>>) {}
    }

    static BOXES: RcuSlot<RcuKBox<Cell<u64>>> = RcuSlot::new();
    static VIEWS: RcuSlot<RcuFreeBox<Entry>> = RcuSlot::new();

    fn here(_pointer: &RcuKBox<*const u64>) {}
}

/// Readers can access the view only, and cannot modify an object.
// error: E0308
// error: E0594
// error: E0609
// says: no field `waiting` on type `&View`
// says: cannot assign to data in dereference of `RcuBox<u64>`
#[cfg(owners_part)]
mod owners_part {
    use super::rcu_ptr::{RcuFreeBox, RcuFreeSafe, RcuKBox};
    use kernel::{prelude::*, sync::rcu};

    pub struct Owned {
        waiting: KVec<u64>,
    }

    pub struct View {
        id: u64,
    }

    impl RcuFreeSafe for Owned {
        type View = View;

        fn drop_before_gp(self: Pin<&mut Self>, _view: Pin<&View>) {}
    }

    fn of_a_reader(queue: &RcuFreeBox<Owned>) -> usize {
        let guard = rcu::read_lock();
        queue.with_rcu(&guard).waiting.len()
    }

    fn as_owned<'rcu>(queue: &RcuFreeBox<Owned>, guard: &'rcu rcu::Guard) -> &'rcu Owned {
        queue.with_rcu(guard)
    }

    fn change(entry: RcuKBox<u64>) -> u64 {
        *entry += 1;
        *entry
    }
}

/// References of readers are valid as long as the guard, and boxes as long as their cache.
// error: E0505
// error: E0505
// error: E0515
// says: cannot move out of `guard` because it is borrowed
// says: cannot return value referencing local variable `cache`
#[cfg(reader_outlives)]
mod reader_outlives {
    use super::rcu_ptr::{Cache, CacheBox, RcuKBox, RcuSlot};
    use core::mem::forget;
    use kernel::{prelude::*, sync::rcu};

    fn in_slot(slot: &RcuSlot<RcuKBox<u64>>) -> Option<u64> {
        let guard = rcu::read_lock();
        let entry = slot.load(&guard);
        forget(guard);
        entry.copied()
    }

    fn in_box(entry: RcuKBox<u64>) -> u64 {
        let guard = rcu::read_lock();
        let seen = entry.with_rcu(&guard);
        drop(entry);
        drop(guard);
        *seen
    }

    fn keep<'a>() -> Result<CacheBox<'a, u64>> {
        let cache = Cache::<u64>::new(c"keys")?;
        let object = cache.alloc(1, GFP_KERNEL)?.share();
        Ok(object)
    }
}

/// A slot is invariant in its type, as boxes are stored through shared references.
// error: E0308
#[cfg(slot_variance)]
mod slot_variance {
    use super::rcu_ptr::{RcuKBox, RcuSlot};

    type Any = RcuKBox<for<'a> fn(&'a u64)>;
    type Static = RcuKBox<fn(&'static u64)>;

    fn narrowed(slot: &RcuSlot<Any>) -> &RcuSlot<Static> {
        slot
    }
}
