// SPDX-License-Identifier: GPL-2.0

//! All contexts at once on one cache with sheaves: tasks, softirqs, interrupts and NMIs of every CPU
//! replace objects that readers look at; and an NMI at every instruction of the calls. Nothing is
//! given out twice or too early, nothing is lost.

use crate::{
    files,
    nmi::storm,
    scaled,
    sys::{
        cache::{self, Args, SheafCache},
        core,
        cpu::{self, Context},
        nmi::{
            breakpoint::{Breakpoint, Kind, SLOTS},
            Hook,
        },
        skip::skip,
        thread,
        timer::{Periodic, Where},
    },
    table::{Alloc, Table, Wrong, SIZE},
    SLOW,
};
use ::core::array;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

struct Outcome {
    wrong: Wrong,
    replaced: u64,
    looks: u64,
    interrupts: u64,
    nmis: u64,
}

/// A storm of `rounds` of each task, with objects in sheaves of `capacity`.
fn all_contexts(capacity: u32, rounds: usize) -> Result<Outcome> {
    let args = Args {
        sheaf_capacity: capacity,
        barn_limit: 16,
        ..Args::default()
    };
    let cache = SheafCache::new(c"rcu_ptr_storm", SIZE, args)?;
    cache.prefill(500)?;
    let table = Table::new(&cache, 400)?;
    let interrupts = Atomic::<u64>::new(0);
    let next = Atomic::<u64>::new(0);
    let interrupt = || {
        interrupts.fetch_add(1, Relaxed);
        for _ in 0..8 {
            let i = next.fetch_add(1, Relaxed) as usize;
            table.replace(i * 31, Alloc::Nolock);
            table.look(i, 7);
        }
        table.touch(Alloc::Nolock);
    };
    let task = |cpu: i32| {
        let _ = Periodic::run(Where::Hardirq, 150_000, &interrupt, || {
            let _ = Periodic::run(Where::Softirq, 230_000, &interrupt, || {
                for i in 0..rounds {
                    let i = i * 13 + cpu as usize * 97;
                    match i % 4 {
                        0 => table.replace(i, Alloc::Sleep),
                        1 => cpu::irqs_off(|| table.replace(i, Alloc::Nolock)),
                        2 => table.replace(i, Alloc::Nolock),
                        _ => table.replace(i, Alloc::Atomic),
                    }
                    table.look(i + 5, 20);
                    table.touch(Alloc::Sleep);
                    if i % 64 == 0 {
                        thread::cond_resched();
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
    let weather = storm::strongest().ok_or(ENODEV)?;
    storm::during(weather, &nmi, None, || {
        thread::on_cpus(cpu::online(), &task, || ())
    })??;
    let outcome = Outcome {
        wrong: table.wrong(),
        replaced: table.replaced.load(Relaxed),
        looks: table.looks.load(Relaxed),
        interrupts: interrupts.load(Relaxed),
        nmis: nmis.load(Relaxed),
    };
    drop(table);
    Ok(outcome)
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

/// The ways that calls, workers and callbacks of caches take.
fn is_wanted(name: &str) -> bool {
    const OTHERS: [&str; 5] = ["7destroy", "7hotplug", "5stats", "5fault", "6create"];
    name.contains("12rcu_ptr_main5sheaf") && !OTHERS.iter().any(|part| name.contains(part))
}

/// Seconds for a sweep of everything; KUnit gives a test 300.
const SECS: i64 = 100;

/// NMIs at all `insns`, a few at a time, while tasks, workers and callbacks go through them; small
/// sheaves make all of it slow ways. The NMIs do the same, as long as they are not too many.
fn sweep_all(insns: &[usize]) -> Result<(Swept, usize, u64)> {
    let args = Args {
        sheaf_capacity: 2,
        barn_limit: 3,
        ..Args::default()
    };
    let cache = SheafCache::new(c"rcu_ptr_sweep_all", SIZE, args)?;
    let table = Table::new(&cache, 30)?;
    let nmis = Atomic::<u64>::new(0);
    let left = Atomic::<i64>::new(0);
    let mut swept = Swept::default();
    let mut tried = 0;
    let start = thread::now();
    for (group, addresses) in insns.chunks(SLOTS).enumerate() {
        if (thread::now() - start) >> 30 >= SECS {
            break;
        }
        let counts: [Atomic<u64>; SLOTS] = array::from_fn(|_| Atomic::new(0));
        let bodies: [_; SLOTS] = array::from_fn(|i| {
            let (count, table, nmis, left) = (&counts[i], &table, &nmis, &left);
            move || {
                if cpu::context() != Context::Nmi {
                    return;
                }
                count.add(1, Relaxed);
                nmis.add(1, Relaxed);
                if left.fetch_sub(1, Relaxed) > 0 {
                    table.turn(Alloc::Nolock);
                    table.turn(Alloc::Nolock);
                }
            }
        });
        let hooks: [_; SLOTS] = array::from_fn(|i| Hook::new(&bodies[i]));
        let mut breakpoints: [Option<Breakpoint<'_>>; SLOTS] = array::from_fn(|_| None);
        for (i, &address) in addresses.iter().enumerate() {
            breakpoints[i] = match Breakpoint::new(Kind::Execute, address, &hooks[i]) {
                Ok(breakpoint) => Some(breakpoint),
                // The kernel allows none there.
                Err(e) if e == EINVAL => None,
                Err(e) => return Err(e),
            };
        }
        left.store(16, Relaxed);
        for _ in 0..3 {
            table.turn(Alloc::Sleep);
            table.turn(Alloc::Atomic);
            cpu::irqs_off(|| table.turn(Alloc::Nolock));
        }
        if group % 8 == 3 {
            // Objects come back after this only, and barns are above their limits.
            for i in 0..30 {
                table.clear(i);
            }
        }
        core::barrier();
        drop(breakpoints);
        tried += addresses.len();
        swept.hit += counts.iter().filter(|n| n.load(Relaxed) > 0).count();
        thread::cond_resched();
    }
    swept.wrong = table.wrong();
    Ok((swept, tried, nmis.load(Relaxed)))
}

#[kunit_tests(rcu_ptr_sheaf_storm)]
mod tests {
    use super::*;

    #[test]
    fn large_sheaves() -> Result {
        let outcome = all_contexts(0, scaled(30_000))?;
        report("56 slots", &outcome);
        assert!(outcome.wrong == Wrong::default());
        assert!(outcome.interrupts > 20 && outcome.nmis > 20 && outcome.looks > 1000);
        Ok(())
    }

    /// The slow ways all the time.
    #[test]
    fn small_sheaves() -> Result {
        for capacity in [1, 2, 5] {
            let outcome = all_contexts(capacity, scaled(10_000))?;
            report("small", &outcome);
            assert!(outcome.wrong == Wrong::default());
            assert!(outcome.interrupts > 20 && outcome.nmis > 20 && outcome.looks > 1000);
        }
        Ok(())
    }

    /// Alloc, free and free_rcu, with sheaves of 1 (the slow way every time), 2 and 56.
    #[test]
    fn nmi_at_every_instruction() -> Result {
        if cfg!(not(CONFIG_X86_64)) {
            skip(c"needs breakpoints that raise NMIs");
            return Ok(());
        }
        for function in cache::functions() {
            for capacity in [0, 1, 2] {
                let swept = sweep(function, 96, capacity)?;
                kernel::kunit::info(fmt!(
                    "rcu_ptr_sheaf_storm: NMIs at {} instructions, capacity {}\n",
                    swept.hit,
                    capacity
                ));
                // With a capacity of 1 free_rcu() goes on to its slow way after 9.
                assert!(swept.hit >= 9 && swept.wrong == Wrong::default());
            }
        }
        Ok(())
    }

    /// What the calls take where they find no slot, what workers do, and callbacks: refill, monitor,
    /// tick, reclaim, trim.
    #[test]
    fn nmi_at_every_slow_instruction() -> Result {
        if cfg!(not(CONFIG_X86_64)) {
            skip(c"needs breakpoints that raise NMIs");
            return Ok(());
        }
        let insns = files::core_addresses(is_wanted)?;
        if insns.is_empty() {
            skip(c"/modules/rcu_ptr.insns is not there");
            return Ok(());
        }
        let (swept, tried, nmis) = sweep_all(&insns)?;
        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_storm: {} instructions, {} tried in the time, NMIs at {} of them, {} NMIs\n",
            insns.len(),
            tried,
            swept.hit,
            nmis
        ));
        assert!(swept.wrong == Wrong::default());
        // Branches that are not taken, and functions that only debugging calls, are not hit; with
        // sanitizers these are most.
        assert!(tried > 100 && swept.hit * (if SLOW { 5 } else { 3 }) > tried);
        Ok(())
    }
}
