// SPDX-License-Identifier: GPL-2.0

//! The longest interrupt and softirq after a backlog: many objects are freed with interrupts off,
//! and processed afterwards. Shows engines whose interrupts take longer when more objects wait. The
//! probes cost some tens of instructions themselves.

use crate::{
    bench_fn::{BenchObjects, Group},
    run,
    sys::{
        counters, cpu,
        free::{self, Alloc, CacheFreeRcu, Caches, Free, Sheaf},
        thread,
    },
};
use kernel::{fmt, prelude::*};

/// Prints the longest interrupt or softirq while `free` runs with interrupts off, and after it.
fn measure(what: impl fmt::Display, object: &str, free: impl FnOnce()) -> Result {
    let Ok(longest) = counters::longest(|| {
        cpu::irqs_off(free);
        // The tick and the callbacks of two grace periods.
        thread::sleep(20);
        free::kernel_settle();
        thread::sleep(20);
    }) else {
        pr_info!("note text=no tracepoints of interrupts here: no stretch is measured\n");
        return Ok(());
    };
    pr_info!(
        "backlog {} object={} count={} longest={}\n",
        what,
        object,
        crate::objects(),
        longest
    );
    Ok(())
}

/// `test=backlog`.
pub(crate) fn run() -> Result {
    run::for_each_function(|name, source, function| {
        let mut objects = BenchObjects::new(source, crate::objects())?;
        measure(function, name, || {
            objects.free(function, crate::objects());
        })?;
        drop(objects);
        function.settle();
        thread::cond_resched();
        Ok(())
    })?;
    if !Group::RcuPtr.has("rcu_ptr_cache_free_rcu") {
        return Ok(());
    }
    let _caches = Caches::new()?;
    let mut objects = KVVec::with_capacity(crate::objects(), GFP_KERNEL)?;
    for i in 0..crate::objects() {
        objects.push(Sheaf::alloc().ok_or(ENOMEM)?, GFP_KERNEL)?;
        if i % 256 == 255 {
            thread::cond_resched();
        }
    }
    let engine = Group::RcuPtr.engine();
    measure(
        fmt!("free=rcu_ptr_cache_free_rcu engine={}", engine),
        "cache-64",
        || {
            for &object in &objects {
                // SAFETY: Just allocated, each freed once.
                unsafe { CacheFreeRcu::free(object) };
            }
        },
    )
}
