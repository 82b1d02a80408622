// SPDX-License-Identifier: GPL-2.0

//! What is plainly wrong gives one warning with the caller, and the object is leaked: never a
//! corrupted list. The warnings are expected ones, between marks that the log's reader knows.

use crate::sys::{core, mem, mem::Source, skip::skip};
use ::core::ptr;
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
        let object = mem::alloc(Source::Kmalloc, 8192).ok_or(ENOMEM)?;
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
        unsafe { mem::kvfree(object) };
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
        }
    });
    core::barrier();
    Ok(())
}

fn unaligned_field() -> Result {
    expect_splat!("rcu_ptr: .* is not aligned, leaked", {
        refused(|object| object.wrapping_add(4))
    })
}

fn field_too_far() -> Result {
    expect_splat!("rcu_ptr: field .* is not in the first page of object", {
        refused(|object| object.wrapping_add(4096))
    })
}

/// A kind of misuse, and whether its warning was given: the core gives each once.
struct Kind {
    warned: Atomic<i32>,
    provoke: fn() -> Result,
}

static KINDS: [Kind; 3] = [
    Kind::new(user_address),
    Kind::new(unaligned_field),
    Kind::new(field_too_far),
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
    fn queued_twice() -> Result {
        if cfg!(not(CONFIG_DEBUG_OBJECTS_RCU_HEAD)) {
            skip(c"needs CONFIG_DEBUG_OBJECTS_RCU_HEAD");
            return Ok(());
        }
        let object = mem::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
        let start = object.as_ptr();
        // debugobjects complains of both of the steps that it knows, then the core does.
        expect_splat!(
            "ODEBUG: activate active ;; ODEBUG: active_state active ;; rcu_ptr: .* is queued twice",
            {
                // SAFETY: The core refuses the second.
                unsafe {
                    core::kvfree(start, start);
                    core::kvfree(start, start);
                }
            }
        );
        core::barrier();
        Ok(())
    }
}
