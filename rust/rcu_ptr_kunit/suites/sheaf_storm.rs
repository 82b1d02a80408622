// SPDX-License-Identifier: GPL-2.0

//! All contexts at once on one cache with sheaves: tasks, softirqs, interrupts and NMIs of every
//! CPU replace objects, beside readers; and an NMI at every instruction of the functions. No object
//! is allocated twice or too early, or lost.

use crate::{
    prelude::*,
    storm,
    sys::{
        kunit,
        perf::{Breakpoint, Hook, Kind},
        srcu_domain::{self, Domain},
    },
    table::DESTRUCTOR,
};
use ::core::ptr;

/// Runs a storm on a cache with `args` and a destructor: it is called once for each use, and not
/// before the grace period. Returns the number of NMIs.
fn destructed_with(args: Args, rounds: usize) -> Result<u64> {
    let args = Args {
        dtor: DESTRUCTOR,
        ..args
    };
    let cache = SheafCache::new(c"rcu_ptr_dtor_storm", SIZE, args)?;
    let table = Table::with_destructor(&cache, 400)?;
    let nmis = storm(&cache, &table, rounds)?;
    check!(table.dtor_imbalance() == 0)?;
    check!(table.freed.load(Relaxed) > 10_000 / 8)?;
    Ok(nmis)
}

/// Runs a storm with `rounds` rounds of each task, and more until enough NMIs came. Returns their
/// number.
fn storm(cache: &SheafCache, table: &Table<'_>, rounds: usize) -> Result<u64> {
    cache.prefill(500)?;
    let interrupts = Atomic::<u64>::new(0);
    let next = Atomic::<u64>::new(0);
    let nmis = Atomic::<u64>::new(0);
    let interrupt = || {
        interrupts.fetch_add(1, Relaxed);
        for _ in 0..8 {
            let i = next.fetch_add(1, Relaxed) as usize;
            table.replace(i * 31, Alloc::Nolock);
            table.check(i);
        }
        table.alloc_and_free(Alloc::Nolock);
    };
    let task = |cpu: i32| {
        let _ = timer::every(Where::Hardirq, 150_000, &interrupt, || {
            let _ = timer::every(Where::Softirq, 230_000, &interrupt, || {
                cpus::repeat(storm::rounds(rounds, &nmis), |i| {
                    let i = i * 13 + cpu as usize * 97;
                    match i % 4 {
                        0 => table.replace(i, Alloc::Sleep),
                        1 => cpu::irqs_off(|| table.replace(i, Alloc::Nolock)),
                        2 => table.replace(i, Alloc::Nolock),
                        _ => table.replace(i, Alloc::Atomic),
                    }
                    table.check(i + 5);
                    table.alloc_and_free(Alloc::Sleep);
                });
            });
        });
    };
    let nmi = || {
        nmis.fetch_add(u64::from(cpu::context() == Context::Nmi), Relaxed);
        interrupt();
    };
    let nmi_source = storm::strongest().ok_or(ENODEV)?;
    table.under_readers(|| {
        storm::during(nmi_source, &nmi, None, || {
            thread::on_cpus(cpu::online(), &task, || ())
        })
    })???;
    let [replaced, looks, interrupts, nmis] =
        [&table.replaced, &table.checks, &interrupts, &nmis].map(|n| n.load(Relaxed));
    let capacity = cache.limits().sheaf_capacity;
    pr_info!(
        "sheaf_storm: sheaves of {capacity}: {replaced} objects replaced, {looks} looks, \
         {interrupts} interrupts, {nmis} of them NMIs\n"
    );
    check!(table.violations() == Violations::default())?;
    // At least one check per replaced object: usually there are two, under sanitizers too.
    check!(looks > replaced && nmis >= storm::expected(nmi_source, replaced) && interrupts > nmis)?;
    Ok(nmis)
}

/// Runs an NMI at every instruction of the first `bytes` of a function, while this task calls all
/// functions; the NMI does the same. Returns the number of offsets with NMIs.
fn sweep(function: usize, bytes: usize, capacity: u32) -> Result<usize> {
    let cache = SheafCache::new(c"rcu_ptr_sweep", SIZE, sheaves(capacity, 0))?;
    cache.prefill(100)?;
    let table = Table::new(&cache, 40)?;
    let came = Atomic::<u64>::new(0);
    let nmi = || {
        if cpu::context() == Context::Nmi {
            came.fetch_add(1, Relaxed);
            table.exercise(Alloc::Nolock);
            table.exercise(Alloc::Nolock);
        }
    };
    let hook = Hook::new(&nmi);
    let mut hit = 0;
    for offset in 0..bytes {
        let before = came.load(Relaxed);
        let breakpoint = Breakpoint::new(Kind::Execute, function + offset, &hook)?;
        for _ in 0..4 {
            table.exercise(Alloc::Sleep);
            table.exercise(Alloc::Nolock);
        }
        drop(breakpoint);
        hit += usize::from(came.load(Relaxed) != before);
        if offset % 32 == 0 {
            core::barrier();
        }
    }
    check!(table.violations() == Violations::default())?;
    Ok(hit)
}

/// Runs a storm on sheaves of `capacity`.
fn plain(capacity: u32, rounds: usize) -> Result {
    let cache = SheafCache::new(c"rcu_ptr_storm", SIZE, sheaves(capacity, 16))?;
    let table = Table::new(&cache, 400)?;
    storm(&cache, &table, rounds).map(drop)
}

#[kunit_tests(rcu_ptr_sheaf_storm)]
mod tests {
    use super::*;

    #[test]
    fn large_sheaves() -> Result {
        plain(0, scaled(30_000))
    }

    /// Takes the slow paths all the time.
    #[test]
    fn small_sheaves() -> Result {
        [1, 2, 5]
            .into_iter()
            .try_for_each(|capacity| plain(capacity, scaled(10_000)))
    }

    #[test]
    fn destructed() -> Result {
        for capacity in [0, 1, 5] {
            destructed_with(sheaves(capacity, 16), scaled(10_000))?;
        }
        Ok(())
    }

    /// As many NMIs as in the storm of the engine, or as many as come within a time limit, which is
    /// enough for each kind of cache: objects with a destructor, every other time in a cache with
    /// an SRCU domain, in large and in small sheaves. Each storm has a minimum of its own.
    #[test]
    fn destructed_in_many_nmis() -> Result {
        let wanted = match (SLOW, kunit::is_short()) {
            (false, false) => 1_000_000,
            (false, true) => 20_000,
            (true, _) => 1000,
        };
        // A limit below that of KUnit, which is 300 s.
        let end = thread::now() + 180_000_000_000;
        let domain = Domain::new(srcu_domain::Kind::Plain)?;
        let (mut nmis, mut storms) = (0, 0);
        while nmis < wanted && thread::now() < end {
            let args = Args {
                srcu: if storms % 2 == 0 {
                    ptr::null_mut()
                } else {
                    domain.raw()
                },
                ..sheaves([0, 0, 4, 4][storms % 4], 16)
            };
            nmis += destructed_with(args, scaled(40_000))?;
            storms += 1;
        }
        pr_info!("sheaf_storm: {nmis} NMIs in {storms} storms\n");
        check!(nmis >= wanted || storms >= 4)
    }

    /// Allocation, free and free_rcu with sheaves of 1 (the slow path every time), 2 and 56
    /// objects.
    #[test]
    fn nmi_at_every_instruction() -> Result {
        skip_if!(
            cfg!(not(CONFIG_X86_64)),
            c"needs breakpoints that raise NMIs"
        );
        for function in cache::functions() {
            for capacity in [0, 1, 2] {
                let hit = sweep(function, 96, capacity)?;
                pr_info!("sheaf_storm: NMIs at {hit} instructions, capacity {capacity}\n");
                // With a capacity of 1 free_rcu() takes its slow path after 7 instructions.
                check!(hit >= 7)?;
            }
        }
        Ok(())
    }
}
