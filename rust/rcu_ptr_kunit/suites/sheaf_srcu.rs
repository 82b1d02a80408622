// SPDX-License-Identifier: GPL-2.0

//! Caches whose readers are those of an SRCU domain too: of each kind, sleeping through many grace
//! periods of RCU; and readers of RCU, which a plain domain does not wait for.

use super::{
    sheaf_calls::Watched,
    sheaf_dtor::{
        free_some, free_without_a_sheaf, nodes_with, scribble, under_readers, DtorContext,
    },
    sheaf_memory::up_and_down,
};
use crate::{
    bound,
    cost::{median, time},
    held::Held,
    params, scaled,
    sys::{
        alloc,
        cache::{Args, SheafCache},
        core, cpu, fault, gp,
        srcu_domain::{Domain, Kind},
        thread,
    },
    table::{Alloc, Table, Violations, DESTRUCTOR, SIZE},
};
use ::core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};

/// For a cache whose readers are those of `domain`.
fn read_by(domain: &Domain) -> Args {
    Args {
        srcu: domain.raw(),
        ..Args::default()
    }
}

/// A reader of a domain, in a thread of its own.
struct Reader {
    /// 1: inside, 2: about to leave.
    state: Atomic<i32>,
    /// When it leaves, in nanoseconds; 0: not yet known.
    leave: Atomic<i64>,
}

impl Reader {
    /// Lets it leave `msecs` milliseconds from now.
    fn leave_in(&self, msecs: i64) {
        let at = thread::now() + msecs * 1_000_000;
        // ORDERING: Pairs with the acquire of the reader: its last look sees what came before.
        self.leave.store(at, Release);
    }

    fn has_left(&self) -> bool {
        self.state.load(Acquire) == 2
    }
}

/// Calls `f` while a reader of `domain` sleeps, and looks now and then.
fn beside_reader<R>(
    domain: &Domain,
    look: &(dyn Fn() + Sync),
    f: impl FnOnce(&Reader) -> R,
) -> Result<R> {
    let reader = Reader {
        state: Atomic::new(0),
        leave: Atomic::new(0),
    };
    let body = |_: i32| {
        domain.read(|| {
            reader.state.store(1, Release);
            loop {
                let leave = reader.leave.load(Acquire);
                let last = leave != 0 && thread::now() >= leave;
                look();
                if last {
                    break;
                }
                thread::sleep(1);
            }
            reader.state.store(2, Release);
        })
    };
    let cpus = ::core::iter::once(cpu::other().unwrap_or(0));
    thread::on_cpus(cpus, &body, || {
        bound::wait_with_timeout(|| reader.state.load(Acquire) == 1);
        let ret = f(&reader);
        if reader.leave.load(Relaxed) == 0 {
            reader.leave_in(0);
        }
        ret
    })
}

/// Grace periods of RCU that have to go by.
const GRACES: usize = 20;

/// Waits until many grace periods of RCU are over.
fn wait_long() {
    for _ in 0..GRACES {
        gp::synchronize();
    }
}

/// `n` objects are freed while a reader of `domain` looks at them, and a destructor or the slab
/// writes over them after their grace period. Returns how often one was found broken, and what was
/// destructed, or back with the slab, before the reader left, and after a barrier.
fn freed_under(domain: &Domain, n: usize, args: Args, flags: u32) -> Result<(usize, [u64; 2])> {
    let destructs = args.dtor.is_some();
    let cache = SheafCache::with_flags(c"rcu_ptr_srcu_seen", SIZE, args, flags)?;
    let mut objects = KVVec::with_capacity(n, GFP_KERNEL)?;
    for _ in 0..n {
        objects.push(Watched::new(&cache)?, GFP_KERNEL)?;
    }
    let broken = Atomic::<usize>::new(0);
    let look = || {
        let bad = objects.iter().filter(|object| object.is_broken()).count();
        broken.add(bad, Relaxed);
    };
    let gone = || {
        let stats = cache.stats();
        if destructs {
            stats.destructed
        } else {
            stats.slab_frees
        }
    };
    let counts = beside_reader(domain, &look, |reader| {
        for object in &objects {
            // SAFETY: From this cache, given back once.
            unsafe { cache.free_rcu(object.0) };
        }
        wait_long();
        let early = gone();
        reader.leave_in(0);
        cache.barrier();
        [early, gone()]
    })?;
    Ok((broken.load(Relaxed), counts))
}

/// Every kind of domain.
fn each(mut f: impl FnMut(Kind, &Domain) -> Result) -> Result {
    Kind::ALL
        .into_iter()
        .try_for_each(|kind| f(kind, &Domain::new(kind)?))
}

/// Objects are replaced in all ways while readers of `domain` and of RCU look at them, those of
/// `domain` for many milliseconds.
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
    kernel::kunit::info(fmt!("rcu_ptr_sheaf_srcu: {kind:?}: {looks} looks\n"));
    check!(table.violations() == Violations::default() && off == 0 && looks > 100);
    Ok(())
}

#[kunit_tests(rcu_ptr_sheaf_srcu)]
mod tests {
    use super::*;

    /// A reader of the domain sleeps through many grace periods of RCU.
    #[test]
    fn waits_for_the_domain() -> Result {
        each(|_, domain| {
            for n in [5, 200] {
                let args = Args {
                    dtor: Some(scribble),
                    ..read_by(domain)
                };
                let (broken, counts) = freed_under(domain, n, args, 0)?;
                check!(broken == 0 && counts == [0, n as u64]);
                // What goes back to the slab does so after that as well.
                let flags = if cfg!(CONFIG_SLUB_DEBUG) {
                    alloc::POISON
                } else {
                    0
                };
                let (broken, counts) = freed_under(domain, n, read_by(domain), flags)?;
                check!(broken == 0 && counts[0] == 0);
                check!(counts[1] == n as u64 || flags == 0);
            }
            Ok(())
        })
    }

    /// Readers of RCU are waited for as ever, whatever the domain does.
    #[test]
    fn waits_for_rcu() -> Result {
        let _restore = params::no_drain()?;
        each(|_, domain| {
            for n in [5, 57, 300] {
                under_readers(n, read_by(domain))?;
            }
            Ok(())
        })
    }

    /// The destruction of a cache waits for both; and the domain can be cleaned up at once.
    #[test]
    fn destroyed_under_a_reader() -> Result {
        each(|_, domain| {
            for n in [1, 60, 1000] {
                let ctx = DtorContext::new();
                let cache = nodes_with(c"rcu_ptr_srcu_end", &ctx, read_by(domain))?;
                let (early, late) = beside_reader(domain, &|| (), |reader| {
                    free_some(&cache, &ctx, n)?;
                    wait_long();
                    let early = ctx.destructed();
                    reader.leave_in(40);
                    drop(cache);
                    Ok::<_, Error>((early, reader.has_left()))
                })??;
                check!(early == 0 && late && ctx.destructed() == n as u64);
                check!(ctx.wrong.load(Relaxed) == 0);
            }
            Ok(())
        })
    }

    /// Objects without a sheaf wait for both as well.
    #[test]
    fn without_a_sheaf() -> Result {
        each(|_, domain| {
            let ctx = DtorContext::new();
            let cache = nodes_with(c"rcu_ptr_srcu_stray", &ctx, read_by(domain))?;
            let early = beside_reader(domain, &|| (), |_| {
                let freed = free_without_a_sheaf(&cache, &ctx, 300);
                wait_long();
                freed.map(|()| ctx.destructed())
            })??;
            core::barrier();
            let (all, strays) = (ctx.destructed(), cache.stats().engine_fallback);
            drop(cache);
            check!(early == 0 && all == 300 && strays > 200);
            Ok(())
        })
    }

    /// They are linked where the user has said: a reader finds all other words as they were.
    #[test]
    fn links_are_where_they_may_be() -> Result {
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
            // SAFETY: From this cache, the caller's.
            cpu::irqs_off(|| unsafe { cache.free_rcu_all(&held) });
            fault::fail_alloc(0, 0);
            let all = held.iter().flat_map(|&object| words(object));
            // SAFETY: As above, and this task is a reader.
            all.filter(|&(i, word)| i != 1 && unsafe { word.add(i).read_volatile() } != i as u64)
                .count()
        });
        let strays = cache.stats().engine_fallback;
        drop(cache);
        check!(strays > 1 && changed == 0);
        Ok(())
    }

    /// More sheaves than there are batches, all behind one reader, and then none.
    #[test]
    fn long_reader() -> Result {
        let domain = Domain::new(Kind::Plain)?;
        let args = Args {
            sheaf_capacity: 2,
            ..read_by(&domain)
        };
        let ctx = DtorContext::new();
        let cache = nodes_with(c"rcu_ptr_srcu_long", &ctx, args)?;
        let n = scaled(10_000);
        let early = beside_reader(&domain, &|| (), |_| {
            for _ in 0..n / 100 {
                free_some(&cache, &ctx, 100)?;
                gp::synchronize();
            }
            Ok::<_, Error>(ctx.destructed())
        })??;
        core::barrier();
        let all = ctx.destructed();
        check!(early == 0 && all == (n / 100 * 100) as u64);
        Ok(())
    }

    /// Memory of a cache that is typesafe for readers of RCU is so for those of the domain: what is
    /// freed at once does not go back to the slab under them.
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
            // What was not allocated yet may go back.
            let stock = cache.stats().slab_allocs - held.len() as u64;
            let early = beside_reader(domain, &|| (), |_| {
                held.into_iter().for_each(Held::free);
                thread::sleep(200);
                let _ = params::shrink();
                cache.stats().slab_frees
            })?;
            check!(early <= stock);
            Ok(())
        })
    }

    /// The barrier of a cache does not wait for another's readers, that of all caches does.
    #[test]
    fn others_are_not_waited_for() -> Result {
        let domain = Domain::new(Kind::Plain)?;
        let (other, own) = (DtorContext::new(), DtorContext::new());
        let waits = nodes_with(c"rcu_ptr_srcu_other", &other, read_by(&domain))?;
        let cache = nodes_with(c"rcu_ptr_srcu_own", &own, Args::default())?;
        let mut seen = [(0, 0); 20];
        let result = beside_reader(&domain, &|| (), |reader| {
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
        check!(seen.iter().all(|&seen| seen == (0, 60)));
        check!(result == Ok(20 * 60));
        Ok(())
    }

    /// The barrier of a cache takes about a grace period of each.
    #[test]
    fn barrier_takes_a_grace_period() -> Result {
        const ROUNDS: usize = 9;
        each(|kind, domain| {
            let cache = SheafCache::new(c"rcu_ptr_srcu_cost", SIZE, read_by(domain))?;
            let mut times = [[0; ROUNDS]; 2];
            for i in 0..ROUNDS {
                up_and_down(&cache, 100)?;
                thread::sleep(1 + i as u32 % 3);
                times[0][i] = time(|| cache.barrier());
                times[1][i] = time(|| {
                    domain.wait();
                    gp::synchronize();
                });
            }
            let [barrier, both] = times.map(|mut times| median(&mut times) / 1000);
            kernel::kunit::info(fmt!(
                "rcu_ptr_sheaf_srcu: {kind:?}: us: a grace period of the domain and one of RCU \
                 {both}, barrier {barrier}\n"
            ));
            drop(cache);
            check!(barrier < 4 * both);
            Ok(())
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
