// SPDX-License-Identifier: GPL-2.0

//! The duration of the barrier and of the destruction of caches with sheaves: about a grace period,
//! independently of other caches and CPUs.

use crate::{
    check::CHECKED,
    cost::{median, time, Cost},
    prelude::*,
    sys::alloc::{Checks, RawCache},
};
use kernel::str::CString;

/// Caches that are in use beside the measured ones.
const BESIDE: usize = 50;

/// Measurements of each kind.
const ROUNDS: usize = if SLOW { 9 } else { 41 };

/// The median of the times, and the fewest grace periods: other load makes them more.
fn typical(costs: &[Cost; ROUNDS]) -> (i64, usize) {
    let grace_periods = costs.iter().map(Cost::grace_periods).min();
    let nsecs = median(&mut costs.map(|cost| cost.nsecs));
    (nsecs, grace_periods.unwrap_or(0))
}

/// Runs `f` while a FIFO task, which has used `cache` before, hogs `cpu`.
fn beside_hog<R>(cache: &SheafCache, cpu: i32, f: impl FnOnce() -> R) -> Result<R> {
    let used = Atomic::<i32>::new(0);
    let task = |spin: &dyn Fn()| {
        let is_used = cache.alloc_then_free(10).is_ok();
        // ORDERING: Release pairs with the acquire below: the objects wait.
        used.store(if is_used { 1 } else { -1 }, Release);
        spin();
    };
    cpus::hogged(cpu, &task, || {
        bound::wait_with_timeout(|| used.load(Acquire) != 0);
        (used.load(Acquire) == 1).then(f).ok_or(ENOMEM)
    })?
}

/// A word of an object that is not back in the slab.
const MARK: u64 = 0x1122_3344_5566_7788;

/// Calls a barrier on `cpu` while this task destroys the cache: when it returns all objects are
/// back in the slab.
fn beside_destroy(cpu: i32, objects: usize) -> Result {
    let cache = SheafCache::with_flags(c"rcu_ptr_both", SIZE, Args::default(), alloc::POISON)?;
    let held = cache.alloc_many(objects)?;
    for object in &*held {
        // SAFETY: A new object of 64 bytes.
        unsafe { object.cast::<u64>().add(2).write(MARK) };
    }
    // SAFETY: An object of this cache, owned by the caller.
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
            // SAFETY: Memory of the slab, or formerly so, which is mapped.
            let word = unsafe { object.cast::<u64>().add(2).read_volatile() };
            left.add(usize::from(word == MARK), Relaxed);
        }
    };
    thread::on_cpus(::core::iter::once(cpu), &barrier, || {
        // ORDERING: Release pairs with the acquire above: the objects are freed.
        began.store(1, Release);
        drop(cache);
    })?;
    check!(left.load(Relaxed) == 0)
}

#[kunit_tests(rcu_ptr_sheaf_life)]
mod tests {
    use super::*;

    /// The barrier takes a grace period, and the destruction of a cache one more than that of a
    /// kmem_cache.
    #[test]
    fn take_a_grace_period() -> Result {
        const WHAT: [&str; 5] = [
            "synchronize_rcu()",
            "rcu_ptr_barrier()",
            "kmem_cache_destroy()",
            "rcu_ptr_cache_destroy()",
            "rcu_ptr_cache_barrier()",
        ];
        // With checks freeing the objects takes longer than a grace period.
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        let mut others = KVec::with_capacity(BESIDE, GFP_KERNEL)?;
        for i in 0..BESIDE {
            let name = CString::try_from_fmt(fmt!("rcu_ptr_beside_{i}"))?;
            others.push(SheafCache::new(&name, SIZE, Args::default())?, GFP_KERNEL)?;
        }
        let turn = |_cpu: i32, _i: usize| {
            for cache in &others {
                (0..10).for_each(|_| drop(cache.hold()));
            }
            thread::sleep(1);
        };
        let mut costs = [[Cost::default(); ROUNDS]; WHAT.len()];
        let used = || {
            let cache = SheafCache::new(c"rcu_ptr_measured", SIZE, Args::default())?;
            cache.alloc_then_free(200).map(|()| cache)
        };
        let mut measure = |i: usize| -> Result {
            // Start at varying times within grace periods of others.
            let any_moment = || thread::sleep(1 + i as u32 % 3);
            any_moment();
            costs[0][i] = Cost::of(gp::synchronize);
            any_moment();
            costs[1][i] = Cost::of(core::barrier);
            let cache = RawCache::new("rcu_ptr_kmem", SIZE, Checks::None)?;
            for _ in 0..200 {
                let object = cache.alloc().ok_or(ENOMEM)?;
                // SAFETY: A new object, with a field at this offset.
                unsafe { FreeFn::Kernel.free(object, 8) };
            }
            any_moment();
            costs[2][i] = Cost::of(|| drop(cache));
            let cache = used()?;
            any_moment();
            costs[3][i] = Cost::of(|| drop(cache));
            let cache = used()?;
            any_moment();
            costs[4][i] = Cost::of(|| cache.barrier());
            Ok(())
        };
        cpus::meanwhile(cpu::online(), &turn, || {
            (0..ROUNDS).try_for_each(&mut measure)
        })??;
        let graces: [usize; WHAT.len()] = ::core::array::from_fn(|what| {
            let (nsecs, graces) = typical(&costs[what]);
            pr_info!(
                "sheaf_life: beside {BESIDE} caches {} takes {} us, {graces} grace periods at \
                 least\n",
                WHAT[what],
                nsecs / 1000
            );
            graces
        });
        let [synchronize, barrier, kmem_destroy, destroy, one] = graces;
        check!(synchronize > 0)?;
        check!(barrier <= synchronize)?;
        check!(one <= synchronize)?;
        // On PREEMPT_RT the destruction waits for the irq_work threads of all CPUs and for the
        // thread of an offloaded CPU, while grace periods of others start and end.
        let threads = if cfg!(CONFIG_PREEMPT_RT) { 3 } else { 0 };
        check!(destroy <= kmem_destroy + synchronize + threads)
    }

    /// A task that hogs a CPU delays neither the barrier nor the destruction of a cache.
    #[test]
    fn hog() -> Result {
        let other = other_cpu!();
        let cache = SheafCache::new(c"rcu_ptr_hog", SIZE, Args::default())?;
        // Repeated, as a busy host may deschedule a CPU; a dependence on the hog would show each
        // time.
        for round in 0..3 {
            // One barrier per hog: a second one could run in the time that the scheduler reserves
            // for normal tasks, as could one beside a hog right after another.
            let (grace, barrier) = beside_hog(&cache, other, || {
                // Only the first barrier has objects to wait for on that CPU; the length of a grace
                // period varies.
                let before = time(gp::synchronize);
                let barrier = time(core::barrier);
                let after = time(gp::synchronize).max(time(gp::synchronize));
                (before.max(after), barrier)
            })?;
            let (grace, barrier) = (grace / 1000, barrier / 1000);
            pr_info!("sheaf_life: us beside a hog: synchronize_rcu() {grace}, barrier {barrier}\n");
            if barrier < grace * 6 {
                return Ok(());
            }
            check!(round < 2)?;
            thread::sleep(2000);
        }
        Ok(())
    }

    /// A cache is destroyed during a refill, which must not run or be queued afterwards: the next
    /// cache reuses the memory, and debugobjects checks its timers.
    #[test]
    fn destroyed_while_refilled() -> Result {
        const N: usize = 1000;
        for _ in 0..if SLOW { 6 } else { 30 } {
            let cache = SheafCache::new(c"rcu_ptr_refilled", SIZE, cache::own_memory())?;
            cache.prefill(N)?;
            // The next tick starts a refill of all of them.
            drop(cache.hold_irqs_off(N)?);
        }
        Ok(())
    }

    /// The barrier waits for a cache that is being destroyed.
    #[test]
    fn barrier_beside_destroy() -> Result {
        let other = other_cpu!();
        skip_if!(
            !FREES_ARE_VISIBLE || cfg!(CONFIG_KASAN),
            c"freed objects can't be looked at"
        );
        (0..3).try_for_each(|_| beside_destroy(other, 50_000))
    }

    /// Full sheaves return without delay, on CPUs with offloaded callbacks and RCU_LAZY too.
    #[test]
    fn sheaves_return_without_delay() -> Result {
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        cpu::online().try_for_each(|cpu| {
            let cache = SheafCache::new(c"rcu_ptr_back", SIZE, sheaves(4, 64))?;
            cpus::on(cpu, || cache.alloc_then_free(40))??;
            check!(bound::soon(|| cache.stats().now_full >= 8))
        })
    }
}
