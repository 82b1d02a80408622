// SPDX-License-Identifier: GPL-2.0

//! All contexts at once on one cache with sheaves: tasks, softirqs, interrupts and NMIs of every CPU
//! replace objects that readers look at; and an NMI at every instruction of the calls. Nothing is
//! allocated twice or too early, nothing is lost.

use crate::{
    scaled, storm,
    sys::{
        cache::{self, Args, SheafCache},
        core,
        cpu::{self, Context},
        kunit,
        perf::{Breakpoint, Hook, Kind},
        srcu_domain::{self, Domain},
        thread,
        timer::{self, Where},
    },
    table::{Alloc, Table, Wrong, DESTRUCTOR, SIZE},
    SLOW,
};
use ::core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

struct Outcome {
    wrong: Wrong,
    freed: u64,
    replaced: u64,
    looks: u64,
    interrupts: u64,
    nmis: u64,
}

/// A storm of `rounds` of each task, with objects in sheaves of `capacity`.
fn all_contexts(capacity: u32, rounds: usize) -> Result<Outcome> {
    let cache = SheafCache::new(c"rcu_ptr_storm", SIZE, args(capacity))?;
    let table = Table::new(&cache, 400)?;
    storm(&cache, &table, rounds)
}

/// The same of objects with a destructor; by how many calls that is off.
fn all_contexts_destructed(capacity: u32, rounds: usize) -> Result<(Outcome, i64)> {
    destructed_with(args(capacity), rounds)
}

fn destructed_with(args: Args, rounds: usize) -> Result<(Outcome, i64)> {
    let args = Args {
        dtor: DESTRUCTOR,
        ..args
    };
    let cache = SheafCache::new(c"rcu_ptr_dtor_storm", SIZE, args)?;
    let table = Table::with_destructor(&cache, 400)?;
    let outcome = storm(&cache, &table, rounds)?;
    Ok((outcome, table.unbalanced()))
}

fn args(capacity: u32) -> Args {
    Args {
        sheaf_capacity: capacity,
        barn_limit: 16,
        ..Args::default()
    }
}

fn storm(cache: &SheafCache, table: &Table<'_>, rounds: usize) -> Result<Outcome> {
    cache.prefill(500)?;
    let interrupts = Atomic::<u64>::new(0);
    let next = Atomic::<u64>::new(0);
    let interrupt = || {
        interrupts.fetch_add(1, Relaxed);
        for _ in 0..8 {
            let i = next.fetch_add(1, Relaxed) as usize;
            table.replace(i * 31, Alloc::Nolock);
            table.look(i);
        }
        table.touch(Alloc::Nolock);
    };
    let task = |cpu: i32| {
        let _ = timer::every(Where::Hardirq, 150_000, &interrupt, || {
            let _ = timer::every(Where::Softirq, 230_000, &interrupt, || {
                for i in 0..rounds {
                    let i = i * 13 + cpu as usize * 97;
                    match i % 4 {
                        0 => table.replace(i, Alloc::Sleep),
                        1 => cpu::irqs_off(|| table.replace(i, Alloc::Nolock)),
                        2 => table.replace(i, Alloc::Nolock),
                        _ => table.replace(i, Alloc::Atomic),
                    }
                    table.look(i + 5);
                    table.touch(Alloc::Sleep);
                    if i % 64 == 0 {
                        thread::still_alive();
                    }
                }
            });
        });
    };
    let nmis = Atomic::<u64>::new(0);
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
    let mut outcome = Outcome {
        wrong: table.wrong(),
        freed: 0,
        replaced: table.replaced.load(Relaxed),
        looks: table.looks.load(Relaxed),
        interrupts: interrupts.load(Relaxed),
        nmis: nmis.load(Relaxed),
    };
    table.clear_all();
    outcome.freed = table.freed.load(Relaxed);
    Ok(outcome)
}

/// Whether there was a look at an object for each that was replaced, and an NMI for a hundred: there are two
/// looks and four NMIs at least, under the sanitizers too.
fn is_storm(o: &Outcome) -> bool {
    o.looks > o.replaced && o.nmis > o.replaced / 100 && o.interrupts > o.nmis
}

fn report(what: &str, o: &Outcome) {
    kernel::kunit::info(fmt!(
        "rcu_ptr_sheaf_storm: {}: {} objects replaced, {} looks, {} interrupts, {} of them NMIs\n",
        what,
        o.replaced,
        o.looks,
        o.interrupts,
        o.nmis
    ));
}

/// What a sweep saw.
#[derive(Default)]
struct Swept {
    /// Offsets at which NMIs came.
    hit: usize,
    wrong: Wrong,
}

/// An NMI at every instruction of the first `bytes` of a function, while this task calls all of
/// them. The NMI does the same as the task.
fn sweep(function: usize, bytes: usize, capacity: u32) -> Result<Swept> {
    let args = Args {
        sheaf_capacity: capacity,
        ..Args::default()
    };
    let cache = SheafCache::new(c"rcu_ptr_sweep", SIZE, args)?;
    cache.prefill(100)?;
    let table = Table::new(&cache, 40)?;
    let came = Atomic::<u64>::new(0);
    let nmi = || {
        if cpu::context() == Context::Nmi {
            came.fetch_add(1, Relaxed);
            table.turn(Alloc::Nolock);
            table.turn(Alloc::Nolock);
        }
    };
    let hook = Hook::new(&nmi);
    let mut swept = Swept::default();
    for offset in 0..bytes {
        let before = came.load(Relaxed);
        let breakpoint = Breakpoint::new(Kind::Execute, function + offset, &hook)?;
        for _ in 0..4 {
            table.turn(Alloc::Sleep);
            table.turn(Alloc::Nolock);
        }
        drop(breakpoint);
        swept.hit += usize::from(came.load(Relaxed) != before);
        if offset % 32 == 0 {
            core::barrier();
        }
    }
    swept.wrong = table.wrong();
    Ok(swept)
}

#[kunit_tests(rcu_ptr_sheaf_storm)]
mod tests {
    use super::*;

    #[test]
    fn large_sheaves() -> Result {
        let outcome = all_contexts(0, scaled(30_000))?;
        report("56 slots", &outcome);
        check!(outcome.wrong == Wrong::default());
        check!(is_storm(&outcome));
        Ok(())
    }

    /// The slow ways all the time.
    #[test]
    fn small_sheaves() -> Result {
        for capacity in [1, 2, 5] {
            let outcome = all_contexts(capacity, scaled(10_000))?;
            report("small", &outcome);
            check!(outcome.wrong == Wrong::default());
            check!(is_storm(&outcome));
        }
        Ok(())
    }

    /// Objects with a destructor: each use of one has its call, and none before its grace period.
    #[test]
    fn destructed() -> Result {
        for capacity in [0, 1, 5] {
            let (outcome, off) = all_contexts_destructed(capacity, scaled(10_000))?;
            report("with a destructor", &outcome);
            check!(outcome.wrong == Wrong::default());
            check!(outcome.freed > 10_000 / 8 && off == 0);
            check!(is_storm(&outcome));
        }
        Ok(())
    }

    /// As many NMIs as the storm of the engine has, or what comes in the time that there is: objects with a
    /// destructor, every other time in a cache with an SRCU domain, in large sheaves and in small ones.
    #[test]
    fn destructed_in_many_nmis() -> Result {
        let wanted = match (SLOW, kunit::is_short()) {
            (false, false) => 1_000_000,
            (false, true) => 20_000,
            (true, _) => 1000,
        };
        // A watchdog, for KUnit's own is at 300 s.
        let end = thread::now() + 180_000_000_000;
        let domain = Domain::new(srcu_domain::Kind::Plain)?;
        let (mut nmis, mut freed, mut storms) = (0, 0, 0u32);
        while nmis < wanted && thread::now() < end {
            let args = Args {
                srcu: if storms % 2 == 0 {
                    ptr::null_mut()
                } else {
                    domain.raw()
                },
                ..args([0, 0, 4, 4][storms as usize % 4])
            };
            let (outcome, off) = destructed_with(args, scaled(40_000))?;
            check!(outcome.wrong == Wrong::default() && off == 0);
            nmis += outcome.nmis;
            freed += outcome.freed;
            storms += 1;
        }
        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_storm: {freed} objects destructed, {nmis} NMIs in {storms} storms\n"
        ));
        check!(nmis >= wanted / 20);
        Ok(())
    }

    /// Alloc, free and free_rcu, with sheaves of 1 (the slow way every time), 2 and 56.
    #[test]
    fn nmi_at_every_instruction() -> Result {
        skip_if!(
            cfg!(not(CONFIG_X86_64)),
            c"needs breakpoints that raise NMIs"
        );
        for function in cache::functions() {
            for capacity in [0, 1, 2] {
                let swept = sweep(function, 96, capacity)?;
                kernel::kunit::info(fmt!(
                    "rcu_ptr_sheaf_storm: NMIs at {} instructions, capacity {}\n",
                    swept.hit,
                    capacity
                ));
                // With a capacity of 1 free_rcu() goes on to its slow way after 7.
                check!(swept.hit >= 7 && swept.wrong == Wrong::default());
            }
        }
        Ok(())
    }
}
