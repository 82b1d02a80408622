// SPDX-License-Identifier: GPL-2.0

//! rcu_ptr_kvfree_mightsleep(): blocks while there is memory, otherwise the caller waits for a
//! grace period.

use crate::{memory, prelude::*};

/// Memory is so short that no block is available, and callers wait for a grace period. Returns how
/// many of 16 did.
fn without_memory() -> Result<u64> {
    let _restore = params::no_blocks()?;
    let pool = Pool::new(64)?;
    let waited = EventCounter::start(|c| c.waited.load(Relaxed))?;
    let hog = alloc::Hog::new(usize::MAX);
    for _ in 0..16 {
        pool.free(FreeFn::Mightsleep, 1);
        // A block that was allocated after all would hold many objects: drain it.
        core::barrier();
    }
    drop(hog);
    let waited = waited.count();
    core::barrier();
    check!(pool.all_freed())?;
    Ok(waited)
}

#[kunit_tests(rcu_ptr_mightsleep)]
mod tests {
    use super::*;

    /// Without cached blocks a caller allocates one, which later callers share.
    #[test]
    fn allocates_blocks() -> Result {
        let _restore = params::no_blocks()?;
        let pool = Pool::new(2000)?;
        pool.free(FreeFn::Mightsleep, 1500);
        core::barrier();
        check!(pool.all_freed())
    }

    #[test]
    fn memory_is_short() -> Result {
        // Memory that others free meanwhile may be enough for blocks.
        let mut waited = without_memory()?;
        for _ in 0..20 {
            if waited == 0 {
                waited = without_memory()?;
            }
        }
        pr_info!("memory is short: {waited} of 16 callers waited themselves\n");
        // With fault injection no_block_available() tests this reliably.
        check!(waited > 0 || fault::CAN)
    }

    /// Callers that wait, and their objects, are counted in the statistics.
    #[test]
    fn callers_that_wait_are_counted() -> Result {
        let _restore = params::no_blocks()?;
        let pool = Pool::new(8)?;
        let counted = memory::stats_change("n[\"queued_sync\"] == 5 && n[\"freed\"] == 5", || {
            fault::fail_blocks(1, u64::MAX);
            pool.free(FreeFn::Mightsleep, 5);
            fault::fail_blocks(0, 0);
            check!(pool.all_freed())
        });
        core::barrier();
        counted
    }

    /// No page can be allocated: every caller has to wait for a grace period.
    #[test]
    fn no_block_available() -> Result {
        skip_if!(!fault::CAN, c"needs CONFIG_FAIL_PAGE_ALLOC");
        let _restore = params::no_blocks()?;
        let pool = Pool::new(24)?;
        let waited = EventCounter::start(|c| c.waited.load(Relaxed))?;
        let no_pages = fault::NoPages::set_up()?;
        no_pages.inside(|| pool.free(FreeFn::Mightsleep, 16));
        let waited = waited.count();
        drop(no_pages);
        // Each object is freed when its caller returns.
        let freed = pool.all_freed();
        core::barrier();
        check!(pool.taken() == 16 && waited == 16)?;
        check!(freed)
    }
}
