// SPDX-License-Identifier: GPL-2.0

//! Caches with an SRCU domain: readers of each kind of domain that sleep through many RCU grace
//! periods; and RCU readers, which a plain domain does not wait for.

use super::{
    sheaf_calls::Watched,
    sheaf_dtor::{
        destruct_under_readers, free_some, free_without_a_sheaf, node_cache_with, scribble,
        DtorContext,
    },
};
use crate::{
    cost::{median, time},
    prelude::*,
    reader::{self, Readers},
    sys::srcu_domain::{Domain, Kind},
    table::DESTRUCTOR,
};

/// Arguments of a cache whose objects are read in `domain`.
fn read_by(domain: &Domain) -> Args {
    Args {
        srcu: domain.raw(),
        ..Args::default()
    }
}

/// Calls `f` beside a reader of `domain` that sleeps.
fn beside_reader<R>(domain: &Domain, f: impl FnOnce(&Readers) -> R) -> Result<R> {
    reader::watch_asleep(domain, &|| 0, f).map(|(_, ret)| ret)
}

/// The number of RCU grace periods to wait for.
const MANY_GPS: usize = 20;

/// Waits for many RCU grace periods.
fn wait_many_gps() {
    for _ in 0..MANY_GPS {
        gp::synchronize();
    }
}

/// Frees `n` objects beside a reader of `domain` that checks them; a destructor or the slab
/// overwrites them after their grace period. Returns how often one was found broken, and how many
/// were destructed, or back in the slab, before the reader left and after a barrier.
fn freed_under(domain: &Domain, n: usize, args: Args, flags: u32) -> Result<(usize, [u64; 2])> {
    let destructs = args.dtor.is_some();
    let cache = SheafCache::with_flags(c"rcu_ptr_srcu_seen", SIZE, args, flags)?;
    let objects = Watched::new(&cache, n)?;
    let gone = || {
        let stats = cache.stats();
        if destructs {
            stats.destructed
        } else {
            stats.slab_frees
        }
    };
    let (seen, counts) = reader::watch_asleep(domain, &|| objects.count_broken(), |reader| {
        // SAFETY: Objects of this cache, each freed once.
        unsafe { cache.free_rcu_all(&objects.0) };
        wait_many_gps();
        let early = gone();
        reader.leave_in(0);
        cache.barrier();
        [early, gone()]
    })?;
    Ok((seen.broken, counts))
}

/// Calls `f` with each kind of domain.
fn each(mut f: impl FnMut(Kind, &Domain) -> Result) -> Result {
    Kind::ALL
        .into_iter()
        .try_for_each(|kind| f(kind, &Domain::new(kind)?))
}

/// Replaces objects in all contexts of tasks, beside readers of RCU and of `domain`, which stay for
/// many milliseconds.
fn storm(kind: Kind, domain: &Domain, capacity: u32) -> Result {
    let rounds = scaled(6000);
    let args = Args {
        sheaf_capacity: capacity,
        barn_limit: 16,
        dtor: DESTRUCTOR,
        ..read_by(domain)
    };
    let cache = SheafCache::new(c"rcu_ptr_srcu_storm", SIZE, args)?;
    let table = Table::with_destructor(&cache, 200)?;
    let stop = Atomic::<i32>::new(0);
    let turn = Atomic::<usize>::new(0);
    let looks = || {
        let i = turn.fetch_add(7, Relaxed);
        let mut left = 12;
        domain.read(|| {
            table.check_while(i, || {
                thread::sleep(1);
                left -= 1;
                left > 0
            })
        });
    };
    let write = |cpu: i32| {
        for i in 0..rounds {
            let i = i * 13 + cpu as usize * 97;
            match i % 3 {
                0 => table.replace(i, Alloc::Sleep),
                1 => cpu::irqs_off(|| table.replace(i, Alloc::Nolock)),
                _ => table.replace(i, Alloc::Atomic),
            }
            table.alloc_and_free(Alloc::Sleep);
            table.check(i);
            if i % 128 == 0 {
                thread::sleep(1);
            }
        }
        stop.add(1, Relaxed);
    };
    let all = cpu::online().count() as i32;
    let read = |_: i32| {
        while stop.load(Relaxed) < all {
            looks();
        }
    };
    thread::on_cpus(cpu::online(), &read, || {
        let ran = table.under_readers(|| thread::on_cpus(cpu::online(), &write, || ()));
        stop.store(all, Relaxed);
        ran
    })???;
    let (off, looks) = (table.dtor_imbalance(), table.checks.load(Relaxed));
    pr_info!("sheaf_srcu: {kind:?}: {looks} looks\n");
    check!(table.violations() == Violations::default() && off == 0 && looks > 100)
}

#[kunit_tests(rcu_ptr_sheaf_srcu)]
mod tests {
    use super::*;

    /// A reader of the domain sleeps through many RCU grace periods.
    #[test]
    fn waits_for_the_domain() -> Result {
        each(|_, domain| {
            for n in [5, 200] {
                let args = Args {
                    dtor: Some(scribble),
                    ..read_by(domain)
                };
                let (broken, counts) = freed_under(domain, n, args, 0)?;
                check!(broken == 0 && counts == [0, n as u64])?;
                // Objects that return to the slab wait for the domain as well.
                let flags = if cfg!(CONFIG_SLUB_DEBUG) {
                    alloc::POISON
                } else {
                    0
                };
                let (broken, counts) = freed_under(domain, n, read_by(domain), flags)?;
                check!(broken == 0 && counts[0] == 0)?;
                check!(counts[1] == n as u64 || flags == 0)?;
            }
            Ok(())
        })
    }

    /// Readers of RCU are waited for, whatever the domain does.
    #[test]
    fn waits_for_rcu() -> Result {
        let _restore = params::no_drain()?;
        each(|_, domain| {
            for n in [5, 57, 300] {
                destruct_under_readers(n, read_by(domain))?;
            }
            Ok(())
        })
    }

    /// The destruction of a cache waits for both; the domain can be cleaned up right after it.
    #[test]
    fn destroyed_under_a_reader() -> Result {
        each(|_, domain| {
            for n in [1, 60, 1000] {
                let ctx = DtorContext::new();
                let cache = node_cache_with(c"rcu_ptr_srcu_end", &ctx, read_by(domain))?;
                let (early, late) = beside_reader(domain, |reader| {
                    free_some(&cache, &ctx, n)?;
                    wait_many_gps();
                    let early = ctx.destructed();
                    reader.leave_in(40);
                    drop(cache);
                    Ok::<_, Error>((early, reader.inside() == 0))
                })??;
                check!(early == 0 && late && ctx.destructed() == n as u64)?;
                check!(ctx.wrong.load(Relaxed) == 0)?;
            }
            Ok(())
        })
    }

    /// Objects without a sheaf wait for both as well.
    #[test]
    fn without_a_sheaf() -> Result {
        each(|_, domain| {
            let ctx = DtorContext::new();
            let cache = node_cache_with(c"rcu_ptr_srcu_stray", &ctx, read_by(domain))?;
            let early = beside_reader(domain, |_| {
                let freed = free_without_a_sheaf(&cache, &ctx, 300);
                wait_many_gps();
                freed.map(|()| ctx.destructed())
            })??;
            core::barrier();
            let (all, strays) = (ctx.destructed(), cache.stats().engine_fallback);
            drop(cache);
            check!(early == 0 && all == 300 && strays > 200)
        })
    }

    /// Objects without a sheaf are linked at `link_offset`: readers find all other words unchanged.
    #[test]
    fn links_are_at_the_given_offset() -> Result {
        let domain = Domain::new(Kind::Plain)?;
        let args = Args {
            link_offset: 8,
            use_link_offset: true,
            ..read_by(&domain)
        };
        let cache = SheafCache::new(c"rcu_ptr_srcu_link", SIZE, args)?;
        let held = cache.alloc_many(4)?;
        let words = |object: NonNull<u8>| (0..SIZE / 8).map(move |i| (i, object.cast::<u64>()));
        for (i, word) in held.iter().flat_map(|&object| words(object)) {
            // SAFETY: Inside an object of this cache, the caller's.
            unsafe { word.add(i).write_volatile(i as u64) };
        }
        let changed = domain.read(|| {
            fault::fail_alloc(1, u64::MAX);
            // SAFETY: An object of this cache, owned by the caller.
            cpu::irqs_off(|| unsafe { cache.free_rcu_all(&held) });
            fault::fail_alloc(0, 0);
            let all = held.iter().flat_map(|&object| words(object));
            // SAFETY: Inside an object of this cache, and this task is a reader.
            all.filter(|&(i, word)| i != 1 && unsafe { word.add(i).read_volatile() } != i as u64)
                .count()
        });
        let strays = cache.stats().engine_fallback;
        drop(cache);
        check!(strays > 1 && changed == 0)
    }

    /// More sheaves than there are batches wait for one reader, and then none.
    #[test]
    fn long_reader() -> Result {
        let domain = Domain::new(Kind::Plain)?;
        let args = Args {
            sheaf_capacity: 2,
            ..read_by(&domain)
        };
        let ctx = DtorContext::new();
        let cache = node_cache_with(c"rcu_ptr_srcu_long", &ctx, args)?;
        let n = scaled(10_000);
        let early = beside_reader(&domain, |_| {
            for _ in 0..n / 100 {
                free_some(&cache, &ctx, 100)?;
                gp::synchronize();
            }
            Ok::<_, Error>(ctx.destructed())
        })??;
        core::barrier();
        let all = ctx.destructed();
        check!(early == 0 && all == (n / 100 * 100) as u64)
    }

    /// Memory of a cache with SLAB_TYPESAFE_BY_RCU is type-stable for readers of the domain, too:
    /// objects that are freed without a grace period do not return to the slab under them.
    #[test]
    fn typesafe() -> Result {
        let _restore = params::quick_drain()?;
        each(|_, domain| {
            let cache = SheafCache::with_flags(
                c"rcu_ptr_srcu_type",
                SIZE,
                read_by(domain),
                alloc::TYPESAFE,
            )?;
            let held = cache.hold_many(200)?;
            // Objects that were not allocated may return to the slab.
            let stock = cache.stats().slab_allocs - held.len() as u64;
            let early = beside_reader(domain, |_| {
                held.into_iter().for_each(Held::free);
                thread::sleep(200);
                let _ = params::shrink();
                cache.stats().slab_frees
            })?;
            check!(early <= stock)
        })
    }

    /// The barrier of a cache does not wait for readers of other caches; the barrier of all caches
    /// does.
    #[test]
    fn others_are_not_waited_for() -> Result {
        let domain = Domain::new(Kind::Plain)?;
        let (other, own) = (DtorContext::new(), DtorContext::new());
        let waits = node_cache_with(c"rcu_ptr_srcu_other", &other, read_by(&domain))?;
        let cache = node_cache_with(c"rcu_ptr_srcu_own", &own, Args::default())?;
        let mut seen = [(0, 0); 20];
        let result = beside_reader(&domain, |reader| {
            for (i, seen) in seen.iter_mut().enumerate() {
                free_some(&waits, &other, 60)?;
                free_some(&cache, &own, 60)?;
                cache.barrier();
                *seen = (other.destructed(), own.destructed() - 60 * i as u64);
            }
            reader.leave_in(0);
            core::barrier();
            Ok::<_, Error>(other.destructed())
        })?;
        drop((waits, cache));
        check!(seen.iter().all(|&seen| seen == (0, 60)))?;
        check!(result == Ok(20 * 60))
    }

    /// The barrier of a cache takes about a grace period of the domain and one of RCU.
    #[test]
    fn barrier_takes_a_grace_period() -> Result {
        const ROUNDS: usize = 9;
        each(|kind, domain| {
            let cache = SheafCache::new(c"rcu_ptr_srcu_cost", SIZE, read_by(domain))?;
            let mut times = [[0; ROUNDS]; 2];
            for i in 0..ROUNDS {
                cache.alloc_then_free(100)?;
                thread::sleep(1 + i as u32 % 3);
                times[0][i] = time(|| cache.barrier());
                times[1][i] = time(|| {
                    domain.wait();
                    gp::synchronize();
                });
            }
            let [barrier, both] = times.map(|mut times| median(&mut times) / 1000);
            pr_info!(
                "sheaf_srcu: {kind:?}: us: a grace period of the domain and one of RCU \
                 {both}, barrier {barrier}\n"
            );
            drop(cache);
            // On a single CPU some grace periods end at once.
            check!(barrier < 4 * both.max(bound::MIN_UNIT_NSECS / 1000))
        })
    }

    #[test]
    fn storm_of_each_kind() -> Result {
        each(|kind, domain| {
            [0, 3]
                .into_iter()
                .try_for_each(|capacity| storm(kind, domain, capacity))
        })
    }
}
