// SPDX-License-Identifier: GPL-2.0

//! What is plainly wrong gives one warning with the caller, and the object is leaked: never a
//! corrupted list. The warnings are expected ones, between marks that the log's reader knows.

use crate::{
    bound,
    events::EventCounter,
    free_fn::FreeFn,
    params,
    pool::{Object, Pool},
    provoke::{self, with_head, CALLED},
    sys::{alloc, alloc::Source, core, core::Head, cpu, thread, user},
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// The core has warned that an object is queued twice, which it does once.
static DOUBLE: Atomic<i32> = Atomic::new(0);

/// A callback that waits for callbacks, and so for itself: whether it comes back.
///
/// # Safety
///
/// The head is the caller's.
unsafe extern "C" fn waits(_head: *mut Head) {
    core::barrier();
    CALLED.add(1, Relaxed);
}

/// # Safety
///
/// The head is the caller's.
unsafe extern "C" fn counts(_head: *mut Head) {
    CALLED.add(1, Relaxed);
}

/// Hands a head in twice in a row, with interrupts off or not. Returns how often its callback was
/// called.
fn called_twice(irqs_off: bool) -> Result<u64> {
    let before = CALLED.load(Relaxed);
    with_head(|head| {
        let twice = || {
            for _ in 0..2 {
                // SAFETY: The core ignores the second.
                unsafe { core::call(head, false, counts as core::Func) };
            }
        };
        if irqs_off {
            cpu::irqs_off(twice);
        } else {
            twice();
        }
    })?;
    Ok(CALLED.load(Relaxed) - before)
}

/// Frees one object twice in a row, on the list and, with engine rfc, in a block: each is freed
/// once.
fn twice_in_a_row() -> Result {
    let pool = Pool::new(4000)?;
    let free = |free_fn: FreeFn| {
        if let Some(object) = pool.take() {
            // Nothing of this CPU's in between.
            cpu::irqs_off(|| {
                // SAFETY: Handed out once, with a field there; the core ignores the second.
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
        // The first ones are on the list still, until a refill has come.
        let linked = EventCounter::start(|c| c.list.load(Relaxed))?;
        let in_blocks = bound::wait_with_timeout(|| {
            let before = (linked.count(), pool.taken());
            free(FreeFn::Kvfree);
            linked.count() == before.0 && pool.taken() > before.1
        });
        core::barrier();
        check!(in_blocks);
    }
    check!(pool.all_freed());
    Ok(())
}

/// Frees an object again when others have come after it: the list has no end from then on. What
/// comes later is freed.
fn list_without_an_end(free_fn: FreeFn) -> Result {
    let _list = params::no_blocks()?;
    let new = || alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM);
    let (first, second, third) = (new()?, new()?, new()?);
    cpu::irqs_off(|| {
        for object in [first, second, third, first] {
            // SAFETY: Live, with a field in front; the core keeps what is on a list like this.
            unsafe { free_fn.free(object, 0) };
        }
    });
    core::barrier();
    let pool = Pool::new(10)?;
    pool.free(free_fn, 10);
    core::barrier();
    check!(pool.all_freed());
    Ok(())
}

/// Why cases are skipped there.
const SEEN_FIRST: &CStr = c"debugobjects sees it first";

/// Whether debugobjects has used its reports up: there are five in a boot (`debug_print_object()`).
fn is_debugobjects_silent() -> bool {
    user::sh(c"[ $(sed -n 's/^warnings *: *//p' /sys/kernel/debug/debug_objects/stats) -ge 5 ]")
        .is_ok()
}

#[kunit_tests(rcu_ptr_misuse)]
mod tests {
    use super::*;

    #[test]
    fn user_address() -> Result {
        user::sh(c"grep ^sum /sys/kernel/debug/rcu_ptr/stats >/tmp/misused")?;
        provoke::user_address()?;
        // Each is counted.
        user::sh(
            c"grep ^sum /sys/kernel/debug/rcu_ptr/stats | cat /tmp/misused - | tr ' ' '\n' | \
              awk -F= '{ n[$1] = $2 - n[$1] } END { exit n[\"leaked\"] != 4 }'",
        )
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
        check!(CALLED.load(Relaxed) == 0);
        Ok(())
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
        check!(CALLED.load(Relaxed) == before + 1);
        Ok(())
    }

    #[test]
    fn queued_twice_in_a_row() -> Result {
        skip_if!(cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD), SEEN_FIRST);
        // What is linked is seen; and in a block of engine rfc, as objects are.
        let list = params::no_blocks()?;
        let (freed, called) = expect_splat!("rcu_ptr: .* is queued twice", {
            let called = called_twice(false).and_then(|n| Ok(n + called_twice(true)?));
            drop(list);
            (twice_in_a_row(), called)
        });
        check!(called? == 2);
        freed
    }

    #[test]
    fn queued_again_later() -> Result {
        skip_if!(cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD), SEEN_FIRST);
        expect_splat!("rcu_ptr: a list of .* objects is broken", {
            FreeFn::FREES.into_iter().try_for_each(list_without_an_end)
        })
    }

    #[test]
    fn queued_twice() -> Result {
        needs!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);
        let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
        let start = object.as_ptr();
        DOUBLE.store(1, Relaxed);
        // debugobjects complains of each, then the core does.
        let called = expect_splat!(
            "+ ODEBUG: activate active ;; rcu_ptr: .* is queued twice",
            {
                // SAFETY: The core refuses the second.
                unsafe {
                    core::kvfree(start, start);
                    core::kvfree(start, start);
                }
                // With interrupts off the worker is the first to tell.
                called_twice(false).and_then(|n| Ok(n + called_twice(true)?))
            }
        )?;
        core::barrier();
        check!(called == 2);
        Ok(())
    }

    /// The second call comes when the first has passed on to where debugobjects is told.
    #[test]
    fn queued_twice_by_nolock() -> Result {
        needs!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);
        skip_if!(
            is_debugobjects_silent(),
            c"debugobjects has reported five times, which is all that it does"
        );
        // A monitor that is armed already would come in between.
        drop(params::quick_drain()?);
        thread::sleep(200);
        let _restore = params::no_drain()?;
        let pool = Pool::new(3)?;
        let free = |object: Object| {
            // SAFETY: The core refuses the second.
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
        if DOUBLE.load(Relaxed) == 0 {
            expect_splat!(
                "ODEBUG: activate active ;; rcu_ptr: .* is queued twice",
                again()
            );
        } else {
            expect_splat!("ODEBUG: activate active", again());
        }
        check!(pool.all_freed());
        Ok(())
    }
}
