// SPDX-License-Identifier: GPL-2.0

//! The one-argument path: blocks while there is memory, a grace period of its own where there is
//! none.

use crate::{
    params,
    pool::Pool,
    route::Route,
    scaled,
    sys::{core, cpu, fault, probes, thread, user},
};
use kernel::{prelude::*, sync::atomic::Relaxed};

/// Without cached blocks each caller allocates one; the rest shares it.
fn without_cache() -> Result<bool> {
    let _defaults = params::no_blocks()?;
    let pool = Pool::new(2000)?;
    pool.free(Route::Mightsleep, 1500);
    core::barrier();
    Ok(pool.all_freed())
}

/// Memory is so short that no block is available: callers wait themselves.
fn without_memory() -> Result<(bool, u64)> {
    let _defaults = params::no_blocks()?;
    let pool = Pool::new(64)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.waited.load(Relaxed);
    let hog = crate::sys::alloc::Hog::new(usize::MAX);
    for object in ::core::iter::from_fn(|| pool.take()).take(16) {
        // SAFETY: Handed out once.
        unsafe { Route::Mightsleep.free(object.start, object.at) };
        // A block that was allocated after all holds many: get rid of it.
        core::barrier();
    }
    drop(hog);
    let waited = probes::COUNTERS.waited.load(Relaxed) - before;
    drop(probes);
    core::barrier();
    Ok((pool.all_freed(), waited))
}

/// What became of objects whose callers found no memory for a block.
struct Waited {
    objects: u64,
    waited: u64,
    freed: bool,
}

/// No page can be allocated at all: every caller has to wait for a grace period.
fn without_pages() -> Result<Waited> {
    let defaults = params::no_blocks()?;
    let pool = Pool::new(24)?;
    let probes = probes::Probes::register()?;
    let no_pages = fault::NoPages::set_up()?;
    let before = probes::COUNTERS.waited.load(Relaxed);
    no_pages.inside(|| pool.free(Route::Mightsleep, 16));
    let waited = probes::COUNTERS.waited.load(Relaxed) - before;
    drop(no_pages);
    drop(probes);
    // Each is freed when its caller returns: there is nothing to wait for.
    let freed = pool.all_freed();
    core::barrier();
    drop(defaults);
    Ok(Waited {
        objects: pool.taken() as u64,
        waited,
        freed,
    })
}

#[kunit_tests(rcu_ptr_mightsleep)]
mod tests {
    use super::*;

    #[test]
    fn fills_blocks() -> Result {
        let pool = Pool::new(3000)?;
        pool.free(Route::Mightsleep, 2000);
        core::barrier();
        check!(pool.all_freed());
        Ok(())
    }

    #[test]
    fn allocates_blocks() -> Result {
        check!(without_cache()?);
        Ok(())
    }

    #[test]
    fn every_cpu_at_once() -> Result {
        let pool = Pool::new(scaled(20_000))?;
        thread::on_cpus(
            cpu::online(),
            &|_| pool.free(Route::Mightsleep, usize::MAX),
            || (),
        )?;
        core::barrier();
        check!(pool.taken() == pool.len() && pool.all_freed());
        Ok(())
    }

    #[test]
    fn memory_is_short() -> Result {
        let (mut freed, mut waited) = without_memory()?;
        // What others give back while all memory is taken may be enough for blocks.
        for _ in 0..20 {
            if waited == 0 && freed {
                (freed, waited) = without_memory()?;
            }
        }
        pr_info!(
            "memory is short: {} of 16 callers waited themselves\n",
            waited
        );
        check!(freed);
        // Where faults can be injected the next test is the one that is sure of it.
        check!(waited > 0 || fault::CAN);
        Ok(())
    }

    /// Callers that find no page are in the statistics, as what they freed.
    #[test]
    fn those_that_wait_are_counted() -> Result {
        let _defaults = params::no_blocks()?;
        let pool = Pool::new(8)?;
        user::sh(c"grep ^sum /sys/kernel/debug/rcu_ptr/stats >/tmp/waited")?;
        fault::fail_blocks(1, u64::MAX);
        pool.free(Route::Mightsleep, 5);
        fault::fail_blocks(0, 0);
        let freed = pool.all_freed();
        let counted = user::sh(
            c"grep ^sum /sys/kernel/debug/rcu_ptr/stats | cat /tmp/waited - | tr ' ' '\n' | awk -F= \
              '{ n[$1] = $2 - n[$1] } END { exit n[\"queued_sync\"] != 5 || n[\"freed\"] != 5 }'",
        );
        core::barrier();
        check!(freed && counted.is_ok());
        Ok(())
    }

    #[test]
    fn no_block_available() -> Result {
        skip_if!(!fault::CAN, c"needs CONFIG_FAIL_PAGE_ALLOC");
        let outcome = without_pages()?;
        check!(outcome.objects == 16 && outcome.waited == 16);
        check!(outcome.freed);
        Ok(())
    }
}
