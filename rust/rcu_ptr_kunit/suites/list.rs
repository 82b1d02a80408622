// SPDX-License-Identifier: GPL-2.0

//! The list through the objects' own fields, forced by `rcu_min_cached_objs=0`.

use crate::{
    params,
    pool::Pool,
    route::Route,
    sys::{core, cpu, probes, thread},
};
use kernel::{prelude::*, sync::atomic::Relaxed};

/// Frees `count` objects of `size` with the field at `at`, on all CPUs: whether all went on the list, and are
/// freed.
fn all_on_list(count: usize, size: usize, at: usize) -> Result<bool> {
    let _defaults = params::no_blocks()?;
    let pool = Pool::with(count, size, at)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.list.load(Relaxed);
    let body = |_cpu: i32| {
        pool.free(Route::Kvfree, usize::MAX);
    };
    let ran = thread::on_cpus(cpu::online(), &body, || ());
    let on_list = probes::COUNTERS.list.load(Relaxed) - before;
    drop(probes);
    core::barrier();
    ran?;
    check!(on_list as usize == pool.taken());
    Ok(pool.all_freed())
}

#[kunit_tests(rcu_ptr_list)]
mod tests {
    use super::*;

    #[test]
    fn field_in_front() -> Result {
        check!(all_on_list(5000, 64, 0)?);
        Ok(())
    }

    #[test]
    fn field_at_the_end() -> Result {
        check!(all_on_list(5000, 64, 56)?);
        Ok(())
    }

    #[test]
    fn field_at_the_last_place() -> Result {
        check!(all_on_list(400, 4104, 4088)?);
        Ok(())
    }
}
