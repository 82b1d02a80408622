// SPDX-License-Identifier: GPL-2.0

//! The barrier and the end of caches with sheaves: as long as a grace period and no longer, whatever
//! other caches and CPUs do.

use super::sheaf_memory::up_and_down;
use crate::{
    bound,
    pool::CAN_LOOK,
    sys::{
        alloc::{self, Checks, RawCache},
        cache::{self, Args, SheafCache},
        core, core_test, cpu, gp, thread,
    },
    table::SIZE,
    SLOW,
};
use ::core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};

/// Caches that are in use beside those that are measured.
const BESIDE: usize = 50;

/// Measurements of each kind, one after the other.
const ROUNDS: usize = if SLOW { 9 } else { 41 };

/// Nanoseconds that `f` takes.
fn time<R>(f: impl FnOnce() -> R) -> i64 {
    let start = thread::now();
    f();
    thread::now() - start
}

/// What something costs.
#[derive(Clone, Copy, Default)]
struct Cost {
    nsecs: i64,
    /// Grace periods that it waits for, or that go by meanwhile.
    graces: usize,
}

fn cost<R>(f: impl FnOnce() -> R) -> Cost {
    let start = gp::number();
    let nsecs = time(f);
    Cost {
        nsecs,
        graces: (gp::number() - start) / GRACE,
    }
}

/// What a grace period adds to its number.
const GRACE: usize = 4;

/// The median of the times, and the fewest grace periods: what else the machine has to do lets more go
/// by.
fn typical(costs: &[Cost; ROUNDS]) -> Cost {
    let mut nsecs = costs.map(|cost| cost.nsecs);
    nsecs.sort_unstable();
    Cost {
        nsecs: nsecs[ROUNDS / 2],
        graces: costs.iter().map(|cost| cost.graces).min().unwrap_or(0),
    }
}

/// What everything costs.
struct Costs {
    synchronize: Cost,
    barrier: Cost,
    one: Cost,
    kmem_destroy: Cost,
    destroy: Cost,
}

/// What takes how long while every CPU uses 50 caches.
fn beside_others() -> Result<Costs> {
    let mut others = KVec::with_capacity(BESIDE, GFP_KERNEL)?;
    for i in 0..BESIDE {
        let name = kernel::str::CString::try_from_fmt(fmt!("rcu_ptr_beside_{i}"))?;
        others.push(SheafCache::new(&name, SIZE, Args::default())?, GFP_KERNEL)?;
    }
    let stop = Atomic::<i32>::new(0);
    let body = |_: i32| {
        while stop.load(Relaxed) == 0 {
            for cache in &others {
                for _ in 0..10 {
                    if let Some(object) = cache.alloc(false) {
                        // SAFETY: From this cache, the caller's.
                        unsafe { cache.free_rcu(object) };
                    }
                }
            }
            thread::sleep(1);
        }
    };
    let mut costs = [[Cost::default(); ROUNDS]; 5];
    let mut result: Result = Ok(());
    thread::on_cpus(cpu::online(), &body, || {
        result = (0..ROUNDS).try_for_each(|i| {
            // At any moment of a grace period of others.
            thread::sleep(1 + i as u32 % 3);
            costs[0][i] = cost(gp::synchronize);
            thread::sleep(1 + i as u32 % 3);
            costs[1][i] = cost(core::barrier);
            let cache = RawCache::new("rcu_ptr_kmem", SIZE, Checks::None)?;
            for _ in 0..200 {
                let object = cache.alloc().ok_or(ENOMEM)?.as_ptr();
                // SAFETY: From this cache, the caller's, with a field there.
                unsafe { core_test::kernel_kfree_nolock(object, object.add(8)) };
            }
            thread::sleep(1 + i as u32 % 3);
            costs[2][i] = cost(|| drop(cache));
            let cache = SheafCache::new(c"rcu_ptr_measured", SIZE, Args::default())?;
            up_and_down(&cache, 200)?;
            thread::sleep(1 + i as u32 % 3);
            costs[3][i] = cost(|| drop(cache));
            let cache = SheafCache::new(c"rcu_ptr_measured", SIZE, Args::default())?;
            up_and_down(&cache, 200)?;
            thread::sleep(1 + i as u32 % 3);
            costs[4][i] = cost(|| cache.barrier());
            Ok(())
        });
        stop.store(1, Relaxed);
    })?;
    result?;
    let [synchronize, barrier, kmem_destroy, destroy, one] = costs.map(|costs| typical(&costs));
    Ok(Costs {
        synchronize,
        barrier,
        one,
        kmem_destroy,
        destroy,
    })
}

/// A CPU whose only task does not sleep while `f` runs elsewhere, and is more urgent than any kworker.
/// The cache is used there before.
fn beside_hog<R>(cache: &SheafCache, hog: i32, f: impl FnOnce() -> R) -> Result<R> {
    // On PREEMPT_RT timers expire in a thread of their CPU.
    thread::move_to(0);
    let (there, stop) = (Atomic::<i32>::new(0), Atomic::<i32>::new(0));
    let body = |_: i32| {
        thread::be_urgent();
        let used = up_and_down(cache, 10).is_ok();
        // ORDERING: Release pairs with the acquire below: the objects wait.
        there.store(if used { 1 } else { -1 }, Release);
        while stop.load(Relaxed) == 0 {
            ::core::hint::spin_loop();
        }
    };
    let mut good = false;
    let ret = thread::on_cpus(::core::iter::once(hog), &body, || {
        bound::watchdog(|| there.load(Acquire) != 0);
        good = there.load(Acquire) == 1;
        let ret = f();
        stop.store(1, Relaxed);
        ret
    })?;
    if good {
        Ok(ret)
    } else {
        Err(ENOMEM)
    }
}

/// What an object holds until it is back with the slab.
const MARK: u64 = 0x1122_3344_5566_7788;

/// A barrier on `cpu` that is called while this task destroys the cache: how many of its objects were
/// not back with the slab when it returned.
fn beside_destroy(cpu: i32, objects: usize) -> Result<usize> {
    let cache = SheafCache::with_flags(c"rcu_ptr_both", SIZE, Args::default(), cache::POISON)?;
    let held = cache.alloc_many(objects)?;
    for object in &*held {
        // SAFETY: A fresh object of 64 bytes.
        unsafe { object.cast::<u64>().add(2).write(MARK) };
    }
    // SAFETY: From this cache, the caller's.
    unsafe { cache.free_rcu_all(&held) };
    let (began, left) = (Atomic::<i32>::new(0), Atomic::<usize>::new(0));
    let barrier = |_: i32| {
        // ORDERING: Pairs with the release below.
        while began.load(Acquire) == 0 {
            ::core::hint::spin_loop();
        }
        thread::sleep(1);
        core::barrier();
        for object in &*held {
            // SAFETY: What is read is memory of the slab, or was: that is mapped, whatever is in it.
            let word = unsafe { object.cast::<u64>().add(2).read_volatile() };
            left.add(usize::from(word == MARK), Relaxed);
        }
    };
    thread::on_cpus(::core::iter::once(cpu), &barrier, || {
        // ORDERING: Release, with what was freed.
        began.store(1, Release);
        drop(cache);
    })?;
    Ok(left.load(Relaxed))
}

/// The shortest time, of three, in which objects that filled sheaves on `cpu` are at hand again though
/// unasked; and of a grace period.
fn come_back(cpu: i32) -> Result<(i64, i64)> {
    let (mut grace, mut back) = (i64::MAX, i64::MAX);
    for _ in 0..3 {
        let args = Args {
            sheaf_capacity: 4,
            barn_limit: 64,
            ..Args::default()
        };
        let cache = SheafCache::new(c"rcu_ptr_back", SIZE, args)?;
        let failed = Atomic::<i32>::new(0);
        let body = |_: i32| {
            failed.add(i32::from(up_and_down(&cache, 40).is_err()), Relaxed);
        };
        thread::on_cpus(::core::iter::once(cpu), &body, || ())?;
        if failed.load(Relaxed) != 0 {
            return Err(ENOMEM);
        }
        back = back.min(time(|| bound::watchdog(|| cache.stats().now_full >= 8)));
        grace = grace.min(time(gp::synchronize));
    }
    Ok((grace, back))
}

#[kunit_tests(rcu_ptr_sheaf_life)]
mod tests {
    use super::*;

    /// The barrier takes a grace period, and the destruction of a cache one more than that of a kmem_cache.
    #[test]
    fn take_a_grace_period() -> Result {
        // To free what comes first takes longer than a grace period.
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        let c = beside_others()?;
        for (what, cost) in [
            ("synchronize_rcu()", c.synchronize),
            ("rcu_ptr_barrier()", c.barrier),
            ("rcu_ptr_cache_barrier()", c.one),
            ("kmem_cache_destroy()", c.kmem_destroy),
            ("rcu_ptr_cache_destroy()", c.destroy),
        ] {
            kernel::kunit::info(fmt!(
                "rcu_ptr_sheaf_life: beside {} caches {} takes {} us, {} grace periods at least\n",
                BESIDE,
                what,
                cost.nsecs / 1000,
                cost.graces
            ));
        }
        check!(c.synchronize.graces > 0);
        check!(c.barrier.graces <= c.synchronize.graces);
        check!(c.one.graces <= c.synchronize.graces);
        // On PREEMPT_RT it waits for the irq_work threads of all CPUs and for the thread of an offloaded CPU,
        // while others have grace periods begin and end.
        let threads = if cfg!(CONFIG_PREEMPT_RT) { 3 } else { 0 };
        check!(c.destroy.graces <= c.kmem_destroy.graces + c.synchronize.graces + threads);
        Ok(())
    }

    /// A task that hogs a CPU keeps neither the barrier nor the destruction of a cache.
    #[test]
    fn hog() -> Result {
        let other = or_skip!(cpu::other(), c"needs two CPUs");
        let cache = SheafCache::new(c"rcu_ptr_hog", SIZE, Args::default())?;
        // A second one would find the scheduler's share for ordinary tasks unused.
        let (grace, barrier) = beside_hog(&cache, other, || {
            // The first barrier alone has something to wait for on that CPU; how long a grace period takes
            // there differs.
            let before = time(gp::synchronize);
            let barrier = time(core::barrier);
            let after = time(gp::synchronize).max(time(gp::synchronize));
            (before.max(after), barrier)
        })?;

        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_life: us beside a hog: synchronize_rcu() {}, barrier {}\n",
            grace / 1000,
            barrier / 1000
        ));
        check!(barrier < grace * 6);
        Ok(())
    }
    /// A refill that runs when its cache is destroyed leaves nothing behind that runs: the memory of the
    /// next cache is that of the last, and debugobjects look at its timers.
    #[test]
    fn destroyed_while_refilled() -> Result {
        const N: usize = 1000;
        for _ in 0..if SLOW { 6 } else { 30 } {
            let cache = SheafCache::new(c"rcu_ptr_refilled", SIZE, cache::own_memory())?;
            cache.prefill(N)?;
            let mut held = KVVec::<NonNull<u8>>::with_capacity(N, GFP_KERNEL)?;
            // The next tick starts a refill of all of them.
            cpu::irqs_off(|| {
                for object in (0..N).map_while(|_| cache.alloc_nolock()) {
                    let _ = held.push(object, GFP_ATOMIC);
                }
            });
            // SAFETY: From this cache, the caller's.
            unsafe { cache.free_rcu_all(&held) };
        }
        Ok(())
    }

    /// The barrier waits for a cache that is being destroyed.
    #[test]
    fn barrier_beside_destroy() -> Result {
        let other = or_skip!(cpu::other(), c"needs two CPUs");
        skip_if!(
            !CAN_LOOK || cfg!(CONFIG_KASAN),
            c"freed objects can't be looked at"
        );
        for _ in 0..3 {
            check!(beside_destroy(other, 50_000)? == 0);
        }
        Ok(())
    }

    /// A grace period is asked for at once, on CPUs with offloaded callbacks too (RCU_LAZY).
    #[test]
    fn objects_come_back_soon() -> Result {
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        for cpu in cpu::online() {
            let (grace, back) = come_back(cpu)?;
            kernel::kunit::info(fmt!(
                "rcu_ptr_sheaf_life: us on CPU {}: synchronize_rcu() {}, objects are back after {}\n",
                cpu,
                grace / 1000,
                back / 1000
            ));
            check!(back < grace * 20);
        }
        Ok(())
    }
}
