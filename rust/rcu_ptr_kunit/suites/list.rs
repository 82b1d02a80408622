// SPDX-License-Identifier: GPL-2.0

//! The list through the objects' own fields, forced by `rcu_min_cached_objs=0`.

use crate::{
    params,
    pool::Pool,
    route::Route,
    sys::{core, cpu, probes, thread},
};
use kernel::{prelude::*, sync::atomic::Relaxed};

/// What a run showed.
struct Outcome {
    on_list: u64,
    queued: usize,
    freed: bool,
}

/// Frees `count` objects of `size` with the field at `at`, on all CPUs.
fn on_list(count: usize, size: usize, at: usize) -> Result<Outcome> {
    let defaults = params::no_blocks()?;
    let pool = Pool::with(count, size, at)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.list.load(Relaxed);
    let body = |_cpu: i32| {
        while let Some(object) = pool.take() {
            // SAFETY: Handed out once, with a field there.
            unsafe { Route::Kvfree.free(object.start, object.at) };
        }
    };
    let ran = thread::on_cpus(cpu::online(), &body, || ());
    let on_list = probes::COUNTERS.list.load(Relaxed) - before;
    drop(probes);
    core::barrier();
    drop(defaults);
    ran?;
    Ok(Outcome {
        on_list,
        queued: pool.taken(),
        freed: pool.all_freed(),
    })
}

#[kunit_tests(rcu_ptr_list)]
mod tests {
    use super::*;

    #[test]
    fn field_in_front() -> Result {
        let outcome = on_list(5000, 64, 0)?;
        check!(outcome.freed);
        check!(outcome.on_list as usize == outcome.queued);
        Ok(())
    }

    #[test]
    fn field_at_the_end() -> Result {
        let outcome = on_list(5000, 64, 56)?;
        check!(outcome.freed);
        check!(outcome.on_list as usize == outcome.queued);
        Ok(())
    }

    #[test]
    fn field_at_the_last_place() -> Result {
        let outcome = on_list(400, 4104, 4088)?;
        check!(outcome.freed);
        check!(outcome.on_list as usize == outcome.queued);
        Ok(())
    }
}
