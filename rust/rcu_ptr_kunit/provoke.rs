// SPDX-License-Identifier: GPL-2.0

//! What is plainly wrong, each with the warning that the core gives for it, once as long as it is loaded.

use crate::{
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

/// Hands in `object` with `field` by both ways, and gives the object back to its allocator: it must
/// still be this test's.
fn refused(make_field: impl Fn(*mut u8) -> *mut u8) -> Result {
    for nolock in [false, true] {
        let object = alloc::alloc(Source::Kmalloc, 8192).ok_or(ENOMEM)?;
        let field = make_field(object.as_ptr());
        // SAFETY: The core refuses it.
        unsafe {
            if nolock {
                core::kfree_nolock(object.as_ptr(), field);
            } else {
                core::kvfree(object.as_ptr(), field);
            }
        }
        core::barrier();
        // SAFETY: Refused, so it is the caller's still.
        unsafe { alloc::kvfree(object) };
    }
    Ok(())
}

/// An address of user space, in every call.
pub(crate) fn user_address() -> Result {
    expect_splat!("rcu_ptr: .* is no kernel address, leaked", {
        let user = ptr::without_provenance_mut::<u8>(0x1000);
        // SAFETY: The core refuses it without a look at the memory.
        unsafe {
            core::kvfree(user, user);
            core::kfree_nolock(user, user);
            core::call(user, false, never as core::Func);
            core::call(ptr::null_mut(), true, never as core::Func);
        }
    });
    core::barrier();
    Ok(())
}

/// # Safety
///
/// Never called.
unsafe extern "C" fn never(_head: *mut Head) {
    pr_err!("the callback of a call that was refused\n");
    CALLED.add(1, Relaxed);
}

/// Callbacks of what is refused, and of what is not.
pub(crate) static CALLED: Atomic<u64> = Atomic::new(0);

/// A field, or a head, that is not aligned.
pub(crate) fn unaligned_field() -> Result {
    expect_splat!("rcu_ptr: .* is not aligned, leaked", {
        refused(|object| object.wrapping_add(4)).and_then(|()| {
            refused_call(|head| {
                // SAFETY: The core refuses it.
                unsafe { core::call(head.wrapping_add(4), false, never as core::Func) };
            })
        })
    })
}

/// A callback without a function.
pub(crate) fn no_func() -> Result {
    expect_splat!("rcu_ptr: no function to call for .*, ignored", {
        refused_call(|head| {
            // SAFETY: The core refuses it.
            unsafe {
                core::call(head, false, None);
                core::call(head, true, None);
            }
        })
    })
}

/// Lets `f` hand a head in, and gives the object that it is in back: it must still be this test's.
pub(crate) fn refused_call(f: impl FnOnce(*mut u8)) -> Result {
    let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
    f(object.as_ptr());
    core::barrier();
    // SAFETY: Refused, so it is the caller's still.
    unsafe { alloc::kvfree(object) };
    Ok(())
}

/// A field that is too far from the start of its object.
pub(crate) fn field_too_far() -> Result {
    expect_splat!(
        "rcu_ptr: field .* does not start in the first 4096 bytes of object",
        { refused(|object| object.wrapping_add(4096)) }
    )
}

/// Says that the core warns now, which it does once as long as it is loaded.
pub(crate) fn expect_warning<R>(warned: &AtomicBool, what: &str, body: impl FnOnce() -> R) -> R {
    if warned.swap(true, Ordering::Relaxed) {
        return body();
    }
    expect_splat!(what, body())
}

/// Objects that are handed to a thread.
struct Three(NonNull<u8>, NonNull<u8>, NonNull<u8>);

// SAFETY: Only the addresses are used.
unsafe impl Sync for Three {}

fn queue_twice(cache: &SheafCache) -> Result<NonNull<u8>> {
    let [object, other, first] = [(); 3].map(|()| cache.alloc(false));
    let (Some(object), Some(other), Some(first)) = (object, other, first) else {
        return Err(ENOMEM);
    };
    let three = Three(object, other, first);
    let body = |_: i32| {
        let Three(object, other, first) = &three;
        // SAFETY: What is wrong here is on purpose. Where kmalloc_nolock() is not used the first call,
        // from a task, is the one that gets a sheaf.
        unsafe {
            cache.free_rcu(*first);
            cpu::irqs_off(|| {
                cache.free_rcu(*object);
                cache.free_rcu(*other);
                cache.free_rcu(*object);
            });
        }
    };
    thread::on_cpus(cpu::online().take(1), &body, || ())?;
    core::barrier();
    Ok(object)
}

fn give_back_twice(cache: &SheafCache) -> Result<NonNull<u8>> {
    let object = cache.alloc(false).ok_or(ENOMEM)?;
    cpu::irqs_off(|| {
        // SAFETY: What is wrong here is on purpose.
        unsafe {
            cache.free(object);
            cache.free(object);
        }
    });
    Ok(object)
}

/// Frees an object twice into one sheaf of `cache`, which is a fresh one with large sheaves, and waits until
/// that was seen. Returns the object.
pub(crate) fn free_rcu_twice(cache: &SheafCache) -> Result<NonNull<u8>> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    expect_warning(
        &WARNED,
        "rcu_ptr: .* of cache rcu_ptr_twice was freed twice",
        || queue_twice(cache),
    )
}

/// Frees an object of `cache`, which is a fresh one, twice without a grace period. Returns the object.
pub(crate) fn free_twice(cache: &SheafCache) -> Result<NonNull<u8>> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    expect_warning(
        &WARNED,
        "rcu_ptr: .* of cache rcu_ptr_twice was freed twice.* by .*(rcu_ptr_kunit|nmi_sweep)",
        || give_back_twice(cache),
    )
}

/// Has every warning given for which there is a function here. From then on that is silent.
pub(crate) fn all() -> Result {
    user_address()?;
    unaligned_field()?;
    field_too_far()?;
    no_func()?;
    let cache = SheafCache::new(c"rcu_ptr_twice", SIZE, Args::default())?;
    free_rcu_twice(&cache)?;
    free_twice(&cache).map(drop)
}
