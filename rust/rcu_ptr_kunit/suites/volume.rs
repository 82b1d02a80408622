// SPDX-License-Identifier: GPL-2.0

//! Ten million objects (a million in the short form), without a leak.

use crate::{memory, prelude::*, sys::kunit};
use ::core::cell::Cell;

fn objects() -> usize {
    match (SLOW, kunit::is_short()) {
        (false, false) => 10_000_000,
        (false, true) => 1_000_000,
        (true, _) => 20_000,
    }
}

/// Pages that the slab may keep: enough for 16 000 objects.
const SLACK: u64 = 256;

/// Frees `count` objects on all CPUs. Returns their number.
fn free_many(count: usize) -> Result<usize> {
    let share = count.checked_div(cpu::online().count()).unwrap_or(0);
    let freed = Atomic::<usize>::new(0);
    let body = |_cpu: i32| {
        for i in 0..share {
            let Some(object) = alloc::alloc(Source::Kmalloc, 64) else {
                return;
            };
            let free_fn = FreeFn::FREES[usize::from(i % 8 == 7)];
            // SAFETY: Just allocated.
            unsafe { free_fn.free(object, 16) };
            if i % 1024 == 0 {
                thread::still_alive();
            }
        }
        freed.fetch_add(share, Relaxed);
    };
    thread::on_cpus(cpu::online(), &body, || ())?;
    core::barrier();
    Ok(freed.load(Relaxed))
}

#[kunit_tests(rcu_ptr_volume)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_back() -> Result {
        free_many(objects() / 20)?;
        let freed = Cell::new(0);
        let back = memory::is_returned_after(
            2,
            // Sanitizers keep memory of their own.
            if SLOW { u64::MAX } else { SLACK },
            || {
                freed.set(free_many(objects())?);
                check!(freed.get() >= objects() - 16)?;
                check!(memory::nothing_waits())
            },
            |missing| {
                pr_info!(
                    "{} objects freed, {missing} pages missing; {} pages of slabs, {} free ones \
                     kept by CPUs\n",
                    freed.get(),
                    alloc::slab_pages(),
                    alloc::pages_of_cpus()
                )
            },
        )?;
        check!(back)
    }
}
