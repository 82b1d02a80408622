// SPDX-License-Identifier: GPL-2.0

//! The demonstration: objects of every kind are freed after a grace period, with a line in the log
//! for each kind. `qemu/run.py run` prints a summary.

use crate::{
    free_fn::FreeFn,
    memory::FreeMemory,
    sys::{
        alloc::{self, Checks, RawCache, Source},
        core, gp,
    },
};
use kernel::prelude::*;

/// Kinds of objects: name, allocator, size, and the divisor of the number of objects.
const KINDS: [(&str, Source, usize, usize); 7] = [
    ("kmalloc-8", Source::Kmalloc, 8, 1),
    ("kmalloc-64", Source::Kmalloc, 64, 1),
    ("kmalloc-4k", Source::Kmalloc, 4096, 1),
    ("kmalloc_nolock-64", Source::KmallocNolock, 64, 1),
    ("large_kmalloc-64k", Source::Kmalloc, 65536, 32),
    ("kvmalloc-1m", Source::Kvmalloc, 1 << 20, 256),
    ("vmalloc-20k", Source::Vmalloc, 20000, 8),
];

/// Frees up to `objects` objects of each kind.
///
/// # Context
///
/// May sleep.
pub(crate) fn run(objects: usize) -> Result {
    let gp = gp::number();
    let before = FreeMemory::now();
    for (name, source, size, part) in KINDS {
        let wanted = objects.checked_div(part).unwrap_or(0).max(1);
        for i in 0..wanted {
            let object = alloc::alloc_retry(source, size).ok_or(ENOMEM)?;
            // SAFETY: Just allocated, at least 8 bytes long.
            unsafe { FreeFn::FREES[i % 2].free(object, 0) };
            // Large objects would exhaust memory before their grace period is over.
            if size > 4096 && i % 64 == 63 {
                core::barrier();
            }
        }
        core::barrier();
        pr_info!("demo: kind={name} objects={wanted}\n");
    }
    let cache = RawCache::new("rcu_ptr_kunit_demo", 120, Checks::None)?;
    for _ in 0..objects {
        let object = cache.alloc().ok_or(ENOMEM)?;
        // SAFETY: Just allocated.
        unsafe { FreeFn::Kvfree.free(object, 112) };
    }
    core::barrier();
    drop(cache);
    pr_info!("demo: kind=kmem_cache-120 objects={objects}\n");
    for _ in 0..objects {
        let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
        // SAFETY: Just allocated.
        unsafe { FreeFn::Mightsleep.free(object, 0) };
    }
    core::barrier();
    pr_info!("demo: kind=kmalloc-64_headless objects={objects}\n");
    pr_info!("demo: grace_periods={}\n", (gp::number() - gp) / 4);
    pr_info!("demo: kib_not_back={}\n", before.missing() * 4);
    Ok(())
}
