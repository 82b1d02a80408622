// SPDX-License-Identifier: GPL-2.0

//! The one-argument path: blocks while there is memory, a grace period of its own where there is
//! none.

use crate::{
    params,
    pool::Pool,
    route::Route,
    scaled,
    sys::{core, cpu, probes, thread},
};
use kernel::{prelude::*, sync::atomic::Relaxed};

fn free(pool: &Pool, n: usize) {
    for object in (0..n).map_while(|_| pool.take()) {
        // SAFETY: Handed out once.
        unsafe { Route::Mightsleep.free(object.start, object.at) };
    }
}

/// Without cached blocks each caller allocates one; the rest shares it.
fn without_cache() -> Result<bool> {
    let defaults = params::no_blocks()?;
    let pool = Pool::new(2000)?;
    free(&pool, 1500);
    core::barrier();
    drop(defaults);
    Ok(pool.all_freed())
}

/// Memory is so short that no block is to be had: callers wait themselves.
fn without_memory() -> Result<(bool, u64)> {
    let defaults = params::no_blocks()?;
    let pool = Pool::new(64)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.waited.load(Relaxed);
    let hog = crate::sys::mem::Hog::new(usize::MAX);
    for object in ::core::iter::from_fn(|| pool.take()).take(16) {
        // SAFETY: Handed out once.
        unsafe { Route::Mightsleep.free(object.start, object.at) };
        // A block that could be had after all holds many: get rid of it.
        core::barrier();
    }
    drop(hog);
    let waited = probes::COUNTERS.waited.load(Relaxed) - before;
    drop(probes);
    core::barrier();
    drop(defaults);
    Ok((pool.all_freed(), waited))
}

#[kunit_tests(rcu_ptr_mightsleep)]
mod tests {
    use super::*;

    #[test]
    fn fills_blocks() -> Result {
        let pool = Pool::new(3000)?;
        free(&pool, 2000);
        core::barrier();
        assert!(pool.all_freed());
        Ok(())
    }

    #[test]
    fn allocates_blocks() -> Result {
        let freed = without_cache()?;
        assert!(freed);
        Ok(())
    }

    #[test]
    fn every_cpu_at_once() -> Result {
        let pool = Pool::new(scaled(20_000))?;
        thread::on_cpus(cpu::online(), &|_| free(&pool, usize::MAX), || ())?;
        core::barrier();
        assert!(pool.taken() == pool.len() && pool.all_freed());
        Ok(())
    }

    #[test]
    fn memory_is_short() -> Result {
        let (freed, waited) = without_memory()?;
        pr_info!("no memory: {} callers waited themselves\n", waited);
        assert!(freed);
        assert!(waited > 0);
        Ok(())
    }
}
