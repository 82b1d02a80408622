// SPDX-License-Identifier: GPL-2.0

//! Misuse of the API, each kind with the warning that the core gives for it. It gives most of them
//! once.

use crate::{
    free_fn::FreeFn,
    sys::{
        alloc::{self, Source},
        cache::{Args, SheafCache},
        core::{self, Head},
        cpu, thread,
    },
    table::SIZE,
};
use ::core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, Ordering},
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Frees an object by both functions with its field at the wrong offset `at`, and then by kvfree():
/// the core must not have queued it.
fn free_with_wrong_field(at: usize) -> Result {
    for free_fn in FreeFn::FREES {
        let object = alloc::alloc(Source::Kmalloc, 8192).ok_or(ENOMEM)?;
        // SAFETY: The core rejects the field.
        unsafe { free_fn.free(object, at) };
        core::barrier();
        // SAFETY: Not queued, so the caller still owns it.
        unsafe { alloc::kvfree(object) };
    }
    Ok(())
}

/// A user-space address in every call.
pub(crate) fn user_address() -> Result {
    let user = NonNull::new(ptr::without_provenance_mut::<u8>(0x1000)).ok_or(EINVAL)?;
    let accepted = expect_splat!("rcu_ptr: .* is no kernel address, leaked", {
        // SAFETY: The core rejects the address without accessing it.
        unsafe {
            core::kvfree(user.as_ptr(), user.as_ptr());
            core::kfree_nolock(user.as_ptr(), user.as_ptr());
            core::kvfree_mightsleep(user);
            core::call(user.as_ptr(), false, never as core::Func);
            core::call(ptr::null_mut(), true, never as core::Func);
            core::try_kfree_nolock(user)
        }
    });
    core::barrier();
    // It is leaked: the caller must not keep it.
    check!(accepted)
}

/// # Safety
///
/// Never called.
unsafe extern "C" fn never(_head: *mut Head) {
    pr_err!("callback of a rejected call\n");
    CALLED.add(1, Relaxed);
}

/// Calls of callbacks in these tests.
pub(crate) static CALLED: Atomic<u64> = Atomic::new(0);

/// A misaligned field or head.
pub(crate) fn unaligned_field() -> Result {
    expect_splat!("rcu_ptr: .* is not aligned, leaked", {
        free_with_wrong_field(4).and_then(|()| {
            with_head(|head| {
                // SAFETY: The core rejects the head.
                unsafe { core::call(head.wrapping_add(4), false, never as core::Func) };
            })
        })
    })
}

/// A callback without a function.
pub(crate) fn no_func() -> Result {
    expect_splat!("rcu_ptr: no function to call for .*, ignored", {
        with_head(|head| {
            // SAFETY: The core rejects the call.
            unsafe {
                core::call(head, false, None);
                core::call(head, true, None);
            }
        })
    })
}

/// Calls `f` with a head, and frees the object of the head after a barrier: it must not be queued
/// any more.
pub(crate) fn with_head(f: impl FnOnce(*mut u8)) -> Result {
    let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
    f(object.as_ptr());
    core::barrier();
    // SAFETY: Not queued any more, and its callback does not free it.
    unsafe { alloc::kvfree(object) };
    Ok(())
}

/// A field beyond the first 4096 bytes of its object. First one at a user-space address: the
/// warning for such addresses would show that of the object.
pub(crate) fn field_too_far() -> Result {
    let what = "rcu_ptr: field .* does not start in the first 4096 bytes of object";
    let user = ptr::without_provenance_mut(0x1000);
    let mixed = || {
        with_head(|object| {
            // SAFETY: The core rejects the field.
            unsafe { core::kvfree(object, user) };
        })
    };
    expect_splat!(what, mixed())?;
    free_with_wrong_field(4096)
}

/// Runs `body`, which is expected to trigger the warning `what` the first time: the core gives it
/// once.
pub(crate) fn expect_warning<R>(warned: &AtomicBool, what: &str, body: impl FnOnce() -> R) -> R {
    if warned.swap(true, Ordering::Relaxed) {
        return body();
    }
    expect_splat!(what, body())
}

/// Whether the core has warned about a list that is broken.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Calls `body`, in which a list breaks, as one of its objects is queued again.
pub(crate) fn broken_list<R>(body: impl FnOnce() -> R) -> R {
    expect_warning(&BROKEN, "rcu_ptr: a list of .* objects is broken", body)
}

/// Frees an object twice into one sheaf of `cache`, which is new and has large sheaves, and waits
/// until that is detected. Returns the object.
pub(crate) fn free_rcu_twice(cache: &SheafCache) -> Result<NonNull<u8>> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let objects = cache.alloc_many(3)?;
    let body = |_: i32| {
        let (first, rest) = objects.split_at(1);
        // SAFETY: The double free is intended. Where kmalloc_nolock() is not available the first
        // call, from a task, is the one that allocates a sheaf.
        unsafe {
            cache.free_rcu_all(first);
            cpu::irqs_off(|| {
                cache.free_rcu_all(rest);
                cache.free_rcu(rest[0]);
            });
        }
    };
    let what = "rcu_ptr: .* of cache rcu_ptr_twice was freed twice";
    expect_warning(&WARNED, what, || {
        thread::on_cpus(cpu::online().take(1), &body, || ())?;
        core::barrier();
        Ok(objects[1])
    })
}

/// Frees an object of `cache`, which is new, twice without a grace period. Returns the object.
pub(crate) fn free_twice(cache: &SheafCache) -> Result<NonNull<u8>> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let what =
        "rcu_ptr: .* of cache rcu_ptr_twice was freed twice.* by .*(rcu_ptr_kunit|nmi_sweep)";
    let object = cache.alloc(false).ok_or(ENOMEM)?;
    expect_warning(&WARNED, what, || {
        // SAFETY: The double free is intended.
        cpu::irqs_off(|| unsafe {
            cache.free(object);
            cache.free(object);
        })
    });
    Ok(object)
}

/// Triggers every warning of this file, so that the core gives none of them later.
pub(crate) fn all() -> Result {
    user_address()?;
    unaligned_field()?;
    field_too_far()?;
    no_func()?;
    let cache = SheafCache::new(c"rcu_ptr_twice", SIZE, Args::default())?;
    free_rcu_twice(&cache)?;
    free_twice(&cache).map(drop)
}
