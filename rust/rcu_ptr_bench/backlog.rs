// SPDX-License-Identifier: GPL-2.0

//! The longest interrupts and softirqs after a backlog: many objects are freed with interrupts off, at
//! once, and then everything that waited for interrupts comes. As [`super::stretch`], where few wait:
//! an engine whose interrupts take longer where more objects wait shows here.

use crate::{
    run,
    sys::{
        cpu, free,
        pair::{Caches, KernelCache, Pair, Sheaf},
        params,
        stretch::{self, Probes},
        thread,
    },
    way::{self, Objects},
    Numbers,
};
use kernel::prelude::*;

/// Prints what was the longest while `f` ran.
fn measure(what: &str, engine: &str, object: &str, objects: usize, f: impl FnOnce()) {
    let Ok(probes) = Probes::attach() else {
        pr_info!("note text=no tracepoints of interrupts here: no stretch is measured\n");
        return;
    };
    f();
    // The tick and the callbacks of two grace periods.
    thread::sleep(20);
    free::kernel_settle();
    thread::sleep(20);
    drop(probes);
    pr_info!(
        "backlog free={} engine={} object={} count={} irq_work={} timer={} rcu_softirq={} \
         timer_softirq={}\n",
        what,
        engine,
        object,
        objects,
        stretch::IRQ_WORK.longest(),
        stretch::TIMER.longest(),
        stretch::SOFTIRQ[stretch::RCU_SOFTIRQ].longest(),
        stretch::SOFTIRQ[stretch::TIMER_SOFTIRQ].longest()
    );
}

/// The same for objects of a cache, from allocation to free.
fn cache<P: Pair>(what: &str, engine: &str, count: usize) -> Result {
    if !way::is_named(
        if engine == "kernel" {
            engine
        } else {
            "rcu_ptr"
        },
        what,
    ) {
        return Ok(());
    }
    let mut objects = KVVec::with_capacity(count, GFP_KERNEL)?;
    for i in 0..count {
        objects.push(P::alloc().ok_or(ENOMEM)?, GFP_KERNEL)?;
        if i % 256 == 255 {
            thread::cond_resched();
        }
    }
    measure(what, engine, "cache-64", count, || {
        cpu::irqs_off(|| {
            for &object in &objects {
                // SAFETY: Just allocated, and given away here.
                unsafe { P::free(object) };
            }
        });
    });
    Ok(())
}

/// `test=backlog`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    run::for_each_source(|name, source| {
        for way in way::ways(source) {
            let mut objects = Objects::new(source, numbers.objects)?;
            measure(way.name(), way.engine(), name, numbers.objects, || {
                cpu::irqs_off(|| objects.free(way, numbers.objects));
            });
            drop(objects);
            way.settle();
            thread::cond_resched();
        }
        Ok(())
    })?;
    let caches = Caches::new()?;
    cache::<KernelCache>("kmem_cache+kfree_rcu", "kernel", numbers.objects)?;
    cache::<Sheaf>("rcu_ptr_cache_free_rcu", params::engine(), numbers.objects)?;
    drop(caches);
    Ok(())
}
