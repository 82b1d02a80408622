// SPDX-License-Identifier: GPL-2.0

//! What is plainly wrong gives one warning with the caller, and the object is leaked: never a
//! corrupted list. The warnings are expected ones, between marks that the log's reader knows.

use crate::{
    bound, params,
    pool::{Object, Pool},
    route::Route,
    sys::{alloc, alloc::Source, core, core::Head, cpu, probes, skip::skip, thread, user},
};
use ::core::ptr::{self, NonNull};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Says that a warning that matches `what` comes now.
macro_rules! expect_splat {
    ($what:literal, $body:expr) => {{
        kernel::kunit::info(fmt!("rcu_ptr: expect-splat begin {}\n", $what));
        let ret = $body;
        kernel::kunit::info(fmt!("rcu_ptr: expect-splat end\n"));
        ret
    }};
}

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

fn user_address() -> Result {
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

static CALLED: Atomic<u64> = Atomic::new(0);

/// The core has warned that an object is queued twice, which it does once.
static DOUBLE: Atomic<i32> = Atomic::new(0);

fn unaligned_field() -> Result {
    expect_splat!("rcu_ptr: .* is not aligned, leaked", {
        refused(|object| object.wrapping_add(4)).and_then(|()| {
            refused_call(|head| {
                // SAFETY: The core refuses it.
                unsafe { core::call(head.wrapping_add(4), false, never as core::Func) };
            })
        })
    })
}

fn no_func() -> Result {
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
fn refused_call(f: impl FnOnce(*mut u8)) -> Result {
    let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
    f(object.as_ptr());
    core::barrier();
    // SAFETY: Refused, so it is the caller's still.
    unsafe { alloc::kvfree(object) };
    Ok(())
}

/// A callback that waits for callbacks, and so for itself: whether it comes back.
///
/// # Safety
///
/// The head is the caller's.
unsafe extern "C" fn waits(_head: *mut Head) {
    core::barrier();
    CALLED.add(1, Relaxed);
}

fn barrier_from_a_callback() -> Result<bool> {
    let before = CALLED.load(Relaxed);
    refused_call(|head| {
        // SAFETY: The callback has returned when the barrier has.
        unsafe { core::call(head, true, waits as core::Func) };
    })?;
    Ok(CALLED.load(Relaxed) == before + 1)
}

/// # Safety
///
/// The head is the caller's.
unsafe extern "C" fn counts(_head: *mut Head) {
    CALLED.add(1, Relaxed);
}

/// Hands a head in twice in a row, with interrupts off or not. Returns how often its callback was called.
fn called_twice(irqs_off: bool) -> Result<u64> {
    let before = CALLED.load(Relaxed);
    refused_call(|head| {
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

fn field_too_far() -> Result {
    expect_splat!(
        "rcu_ptr: field .* does not start in the first 4096 bytes of object",
        { refused(|object| object.wrapping_add(4096)) }
    )
}

/// Frees one object twice in a row, on the list and, with engine rfc, in a block: whether each was freed
/// once.
fn twice_in_a_row() -> Result<bool> {
    let is_rfc = user::sh(c"grep -q rfc /sys/module/rcu_ptr/parameters/engine").is_ok();
    let pool = Pool::new(4000)?;
    let free = |route: Route| {
        if let Some(object) = pool.take() {
            // Nothing of this CPU's in between.
            cpu::irqs_off(|| {
                // SAFETY: Handed out once, with a field there; the core ignores the second.
                unsafe {
                    route.free(object.start, object.at);
                    route.free(object.start, object.at);
                }
            });
        }
    };
    let list = params::no_blocks()?;
    for _ in 0..5 {
        Route::FREES.into_iter().for_each(free);
    }
    core::barrier();
    drop(list);
    if is_rfc {
        // The first ones are on the list still, until a refill has come.
        let events = probes::Probes::register()?;
        let linked = || probes::COUNTERS.list.load(Relaxed);
        let in_blocks = bound::watchdog(|| {
            let before = (linked(), pool.taken());
            free(Route::Kvfree);
            linked() == before.0 && pool.taken() > before.1
        });
        drop(events);
        core::barrier();
        if !in_blocks {
            pr_info!("all were linked\n");
            return Ok(false);
        }
    }
    Ok(pool.all_freed())
}

/// Frees an object again when others have come after it: the list has no end from then on. Whether what
/// comes later is freed.
fn list_without_an_end(route: Route) -> Result<bool> {
    let list = params::no_blocks()?;
    let mut objects = [ptr::null_mut::<u8>(); 3];
    for object in &mut objects {
        *object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?.as_ptr();
    }
    let [first, second, third] = objects;
    cpu::irqs_off(|| {
        for object in [first, second, third, first] {
            if let Some(object) = NonNull::new(object) {
                // SAFETY: Live, with a field in front; the core keeps what is on a list like this.
                unsafe { route.free(object, 0) };
            }
        }
    });
    core::barrier();
    let pool = Pool::new(10)?;
    for object in (0..10).map_while(|_| pool.take()) {
        // SAFETY: Handed out once, with a field there.
        unsafe { route.free(object.start, object.at) };
    }
    core::barrier();
    drop(list);
    Ok(pool.all_freed())
}

/// A kind of misuse, and whether its warning was given: the core gives each once.
struct Kind {
    warned: Atomic<i32>,
    provoke: fn() -> Result,
}

static KINDS: [Kind; 4] = [
    Kind::new(user_address),
    Kind::new(unaligned_field),
    Kind::new(field_too_far),
    Kind::new(no_func),
];

impl Kind {
    const fn new(provoke: fn() -> Result) -> Self {
        Self {
            warned: Atomic::new(0),
            provoke,
        }
    }

    fn provoke(&self) -> Result {
        self.warned.store(1, Relaxed);
        (self.provoke)()
    }
}

/// Has every warning given that was not yet. From then on misuse is silent.
pub(super) fn provoke_all() -> Result {
    KINDS
        .iter()
        .filter(|kind| kind.warned.load(Relaxed) == 0)
        .try_for_each(Kind::provoke)
}

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
        KINDS[0].provoke()
    }

    #[test]
    fn unaligned_field() -> Result {
        KINDS[1].provoke()
    }

    #[test]
    fn field_too_far() -> Result {
        KINDS[2].provoke()
    }

    #[test]
    fn no_function() -> Result {
        KINDS[3].provoke()?;
        check!(CALLED.load(Relaxed) == 0);
        Ok(())
    }

    #[test]
    fn callback_waits_for_callbacks() -> Result {
        let back = expect_splat!("rcu_ptr: a callback waits for callbacks", {
            barrier_from_a_callback()
        })?;
        check!(back);
        Ok(())
    }

    #[test]
    fn queued_twice_in_a_row() -> Result {
        if cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD) {
            skip(c"debugobjects sees it first");
            return Ok(());
        }
        let (freed, called) = expect_splat!("rcu_ptr: .* is queued twice", {
            // What is linked is seen; and in a block of engine rfc, as objects are.
            let list = params::no_blocks()?;
            let called = called_twice(false).and_then(|n| Ok(n + called_twice(true)?));
            drop(list);
            (twice_in_a_row()?, called?)
        });
        check!(freed && called == 2);
        Ok(())
    }

    #[test]
    fn queued_again_later() -> Result {
        if cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD) {
            skip(c"debugobjects sees it first");
            return Ok(());
        }
        let freed = expect_splat!("rcu_ptr: a list of .* objects is broken", {
            Route::FREES.into_iter().try_fold(true, |freed, route| {
                Ok::<_, Error>(freed & list_without_an_end(route)?)
            })
        })?;
        check!(freed);
        Ok(())
    }

    #[test]
    fn queued_twice() -> Result {
        if cfg!(not(CONFIG_DEBUG_OBJECTS_RCU_HEAD)) {
            skip(c"needs CONFIG_DEBUG_OBJECTS_RCU_HEAD");
            return Ok(());
        }
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
        if cfg!(not(CONFIG_DEBUG_OBJECTS_RCU_HEAD)) {
            skip(c"needs CONFIG_DEBUG_OBJECTS_RCU_HEAD");
            return Ok(());
        }
        if is_debugobjects_silent() {
            skip(c"debugobjects has reported five times, which is all that it does");
            return Ok(());
        }
        // A monitor that is armed already would come in between.
        drop(params::quick_drain()?);
        thread::sleep(200);
        let defaults = params::no_drain()?;
        let pool = Pool::new(3)?;
        let free = |object: Object| {
            // SAFETY: The core refuses the second.
            unsafe { Route::Nolock.free(object.start, object.at) };
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
        drop(defaults);
        check!(pool.all_freed());
        Ok(())
    }
}
