// SPDX-License-Identifier: GPL-2.0

//! Misuse gives one warning with the caller, and the object is leaked or freed once; it never
//! corrupts a list. The warnings are announced by `expect_splat!`.

use crate::{
    memory,
    pool::Object,
    prelude::*,
    provoke::{self, with_head, CALLED},
    sys::core::Head,
};

/// Whether the core has given its warning about an object that is queued twice.
static WARNED_TWICE: Atomic<i32> = Atomic::new(0);

/// A callback that calls the barrier, which must return.
///
/// # Safety
///
/// There are no requirements.
unsafe extern "C" fn waits(_head: *mut Head) {
    core::barrier();
    CALLED.add(1, Relaxed);
}

/// # Safety
///
/// There are no requirements.
unsafe extern "C" fn counts(_head: *mut Head) {
    CALLED.add(1, Relaxed);
}

/// Queues two heads twice in a row each, one of them with interrupts off. Returns how often their
/// callback was called.
fn called_twice() -> Result<u64> {
    let before = CALLED.load(Relaxed);
    let twice = |head: *mut u8| {
        for _ in 0..2 {
            // SAFETY: The core ignores the second.
            unsafe { core::call(head, false, counts as core::Func) };
        }
    };
    with_head(twice)?;
    with_head(|head| cpu::irqs_off(|| twice(head)))?;
    Ok(CALLED.load(Relaxed) - before)
}

/// Queues objects twice in a row, linked and, with engine rfc, in a block: each is freed once.
fn twice_in_a_row() -> Result {
    let pool = Pool::new(4000)?;
    let free = |free_fn: FreeFn| {
        if let Some(object) = pool.take() {
            // No other object of this CPU in between.
            cpu::irqs_off(|| {
                // SAFETY: Handed out once, with a field at `at`; the core ignores the second call.
                unsafe {
                    free_fn.free(object.start, object.at);
                    free_fn.free(object.start, object.at);
                }
            });
        }
    };
    let list = params::no_blocks()?;
    for _ in 0..5 {
        FreeFn::FREES.into_iter().for_each(free);
    }
    core::barrier();
    drop(list);
    if !params::is_lockless() {
        // The first ones are still linked, until a refill has added blocks.
        let linked = EventCounter::start(|c| c.list.load(Relaxed))?;
        let in_blocks = bound::wait_with_timeout(|| {
            let before = (linked.count(), pool.taken());
            free(FreeFn::Kvfree);
            linked.count() == before.0 && pool.taken() > before.1
        });
        core::barrier();
        check!(in_blocks)?;
    }
    check!(pool.all_freed())
}

/// Queues an object again after others, so that the list becomes cyclic. Objects that are queued
/// later are freed.
fn list_without_an_end(free_fn: FreeFn) -> Result {
    let _list = params::no_blocks()?;
    let new = || alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM);
    let (first, second, third) = (new()?, new()?, new()?);
    cpu::irqs_off(|| {
        for object in [first, second, third, first] {
            // SAFETY: Live, with a field at the start; the core leaks the objects of such a list.
            unsafe { free_fn.free(object, 0) };
        }
    });
    core::barrier();
    let pool = Pool::new(10)?;
    pool.free(free_fn, 10);
    core::barrier();
    check!(pool.all_freed())
}

/// Skip reason.
const SEEN_FIRST: &CStr = c"debugobjects sees it first";

/// Whether debugobjects has used up its five reports per boot (`debug_print_object()`).
fn is_debugobjects_silent() -> bool {
    user::sh(c"[ $(sed -n 's/^warnings *: *//p' /sys/kernel/debug/debug_objects/stats) -ge 5 ]")
        .is_ok()
}

#[kunit_tests(rcu_ptr_misuse)]
mod tests {
    use super::*;

    #[test]
    fn user_address() -> Result {
        // Each call is counted.
        memory::stats_change("n[\"leaked\"] == 6", provoke::user_address)
    }

    #[test]
    fn unaligned_field() -> Result {
        provoke::unaligned_field()
    }

    #[test]
    fn field_too_far() -> Result {
        provoke::field_too_far()
    }

    #[test]
    fn no_function() -> Result {
        provoke::no_func()?;
        check!(CALLED.load(Relaxed) == 0)
    }

    #[test]
    fn callback_waits_for_callbacks() -> Result {
        let before = CALLED.load(Relaxed);
        expect_splat!("rcu_ptr: barrier in a callback", {
            with_head(|head| {
                // SAFETY: The callback has returned when the barrier has.
                unsafe { core::call(head, true, waits as core::Func) };
            })
        })?;
        check!(CALLED.load(Relaxed) == before + 1)
    }

    #[test]
    fn queued_twice_in_a_row() -> Result {
        skip_if!(cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD), SEEN_FIRST);
        // Detected on the list, and in a block of engine rfc.
        let list = params::no_blocks()?;
        let (freed, called) = expect_splat!("rcu_ptr: .* is queued twice", {
            let called = called_twice();
            drop(list);
            (twice_in_a_row(), called)
        });
        check!(called? == 2)?;
        freed
    }

    #[test]
    fn queued_again_later() -> Result {
        skip_if!(cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD), SEEN_FIRST);
        provoke::broken_list(|| {
            memory::stats_change("n[\"leaked\"] >= 6", || {
                FreeFn::FREES.into_iter().try_for_each(list_without_an_end)
            })
        })
    }

    #[test]
    fn queued_twice() -> Result {
        needs!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);
        let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
        let start = object.as_ptr();
        WARNED_TWICE.store(1, Relaxed);
        // debugobjects reports each, and the core reports the first one.
        let called = expect_splat!(
            "+ ODEBUG: activate active ;; rcu_ptr: .* is queued twice",
            {
                // SAFETY: The core ignores the second call.
                unsafe {
                    core::kvfree(start, start);
                    core::kvfree(start, start);
                }
                // With interrupts off the worker detects it.
                called_twice()
            }
        )?;
        core::barrier();
        check!(called == 2)
    }

    /// The second call comes when debugobjects tracks the object because of the first one.
    #[test]
    fn queued_twice_by_nolock() -> Result {
        needs!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);
        skip_if!(
            is_debugobjects_silent(),
            c"debugobjects has reported five times, which is all that it does"
        );
        // An armed monitor would run in between.
        drop(params::quick_drain()?);
        thread::sleep(200);
        let _restore = params::no_drain()?;
        let pool = Pool::new(3)?;
        let free = |object: Object| {
            // SAFETY: The core ignores the second call.
            unsafe { FreeFn::Nolock.free(object.start, object.at) };
            thread::sleep(100);
        };
        let mut objects = (0..3).map_while(|_| pool.take());
        let (twice, between, last) = (objects.next(), objects.next(), objects.next());
        let (Some(twice), Some(between), Some(last)) = (twice, between, last) else {
            return Err(ENOMEM);
        };
        free(twice);
        free(between);
        let again = || {
            free(twice);
            free(last);
            // Engine lockless tells debugobjects when a block is closed.
            core::barrier();
        };
        if WARNED_TWICE.load(Relaxed) == 0 {
            expect_splat!(
                "ODEBUG: activate active ;; rcu_ptr: .* is queued twice",
                again()
            );
        } else {
            expect_splat!("ODEBUG: activate active", again());
        }
        check!(pool.all_freed())
    }
}
