// SPDX-License-Identifier: GPL-2.0

//! The sources of objects of a cache: the flags of slab allocations, the reserve of
//! `rcu_ptr_cache_prefill()`, stock that follows demand, and NUMA nodes.

use super::sheaf_memory::{count_remote, two_nodes, NUMA};
use crate::{
    prelude::*,
    sys::{
        cache::GFP_SPECIAL,
        cpu::DownStep,
        nmi::{self, Receiver},
        node,
        perf::Hook,
    },
};

/// Objects that a test holds, added in any context.
struct Kept<'a> {
    cache: &'a SheafCache,
    objects: KVVec<Atomic<*mut u8>>,
    next: Atomic<usize>,
}

impl<'a> Kept<'a> {
    /// Room for up to `n` objects of `cache`.
    fn new(cache: &'a SheafCache, n: usize) -> Result<Self> {
        let mut objects = KVVec::with_capacity(n, GFP_KERNEL)?;
        for _ in 0..n {
            objects.push(Atomic::new(::core::ptr::null_mut()), GFP_KERNEL)?;
        }
        Ok(Self {
            cache,
            objects,
            next: Atomic::new(0),
        })
    }

    /// Adds `object`. Returns whether there was one.
    fn keep(&self, object: Option<NonNull<u8>>) -> bool {
        let Some(object) = object else { return false };
        match self.objects.get(self.next.fetch_add(1, Relaxed)) {
            Some(slot) => slot.store(object.as_ptr(), Relaxed),
            // SAFETY: An object of this cache, owned by the caller.
            None => unsafe { self.cache.free_rcu(object) },
        }
        true
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        for slot in &self.objects {
            if let Some(object) = NonNull::new(slot.load(Relaxed)) {
                // SAFETY: An object of this cache that is not shared.
                unsafe { self.cache.free_rcu(object) };
            }
        }
    }
}

/// Allocates `n` times with interrupts off. Returns how many succeeded.
fn alloc_irqs_off(held: &Kept<'_>, n: usize) -> usize {
    cpu::irqs_off(|| {
        (0..n)
            .filter(|_| held.keep(held.cache.alloc_nolock()))
            .count()
    })
}

/// One CPU allocates one object, and right after it another CPU allocates `n - 1`, both with
/// interrupts off. Returns how many succeeded.
fn alloc_one_and_rest(held: &Kept<'_>, cpus: [i32; 2], n: usize) -> Result<usize> {
    let (there, first) = (Atomic::<usize>::new(0), Atomic::<usize>::new(0));
    let found = Atomic::<usize>::new(0);
    let body = |cpu: i32| {
        there.add(1, Relaxed);
        spin(|| there.load(Relaxed) == 2);
        if cpu == cpus[0] {
            found.add(alloc_irqs_off(held, 1), Relaxed);
            first.store(1, Relaxed);
        } else {
            spin(|| first.load(Relaxed) == 1);
            found.add(alloc_irqs_off(held, n - 1), Relaxed);
        }
    };
    thread::on_cpus(cpus.into_iter(), &body, || ())?;
    Ok(found.load(Relaxed))
}

/// Busy-waits for `done`, so that no worker runs on this CPU, with a timeout.
fn spin(done: impl Fn() -> bool) {
    cpus::spin(i64::from(bound::TIMEOUT_MSECS) * 1_000_000, done);
}

/// The CPUs on the node of the first one.
fn cpus_of_first_node() -> impl Iterator<Item = i32> + Clone {
    cpu::online().filter(|&cpu| node::of_cpu(cpu) == node::of_cpu(cpus::first()))
}

/// Adds a reserve of `n` to the node of the first CPU.
fn prefill(cache: &SheafCache, n: usize) -> Result {
    cpus::on(cpus::first(), || cache.prefill(n))?
}

#[kunit_tests(rcu_ptr_sheaf_alloc)]
mod tests {
    use super::*;

    /// Flags that are meant for one caller are not used for refills, which all share.
    #[test]
    fn refills_use_no_special_flags() -> Result {
        skip_if!(
            user::sh(c"[ -e /sys/kernel/tracing/events/kmem/mm_page_alloc/enable ]").is_err(),
            c"tracefs is not mounted"
        );
        let cache = SheafCache::new(c"rcu_ptr_flags", 4000, sheaves(12, 0))?;
        user::sh(
            c"cd /sys/kernel/tracing && echo 0 >events/enable && echo >trace && \
              echo 1 >tracing_on && echo 1 >events/kmem/mm_page_alloc/enable",
        )?;
        let object = cache.hold_with(GFP_SPECIAL);
        user::sh(c"echo 0 >/sys/kernel/tracing/events/kmem/mm_page_alloc/enable")?;
        // Twelve objects of a page each.
        let seen = user::sh(
            c"grep -c 'kunit_try_catch.* mm_page_alloc: .*__GFP_NOMEMALLOC' \
              /sys/kernel/tracing/trace",
        );
        let special = user::sh(
            c"grep 'kunit_try_catch.* mm_page_alloc: ' /sys/kernel/tracing/trace | \
              tee /dev/console | grep -qE 'ACCOUNT|__GFP_HIGH|__GFP_MEMALLOC|__GFP_ZERO'",
        );
        check!(object.is_some())?;
        check!(special.is_err() && seen.is_ok())
    }

    /// A call that may sleep is reported in atomic context, whether a sheaf has an object or not.
    #[test]
    fn sleeping_calls_are_checked() -> Result {
        needs!(CONFIG_DEBUG_ATOMIC_SLEEP);
        let cache = SheafCache::new(c"rcu_ptr_might", 64, Args::default())?;
        let _first = cache.hold()?;
        expect_splat!(
            "BUG: sleeping function called from invalid context",
            cpu::irqs_off(|| drop(cache.hold()))
        );
        Ok(())
    }

    /// Tasks that may sleep allocate twice as many objects as were prefilled, without using the
    /// reserve.
    #[test]
    fn reserve_is_for_callers_that_cannot_wait() -> Result {
        const N: usize = 1000;
        let cache = SheafCache::new(c"rcu_ptr_kept", 64, cache::own_memory())?;
        prefill(&cache, N)?;
        let (_waited, found) = cpus::on(cpus::first(), || {
            Ok::<_, Error>((cache.hold_many(2 * N)?, cache.hold_irqs_off(N)?))
        })??;
        check!(found.len() == N)
    }

    /// All CPUs of a node can use the reserve.
    #[test]
    fn reserve_is_for_all_cpus() -> Result {
        const N: usize = 100;
        let cache = SheafCache::new(c"rcu_ptr_kept_all", 64, cache::own_memory())?;
        let (Some(first), Some(second)) =
            (cpus_of_first_node().next(), cpus_of_first_node().nth(1))
        else {
            skip!(c"needs two CPUs of one node");
        };
        prefill(&cache, N)?;
        let held = Kept::new(&cache, N)?;
        let found = alloc_one_and_rest(&held, [first, second], N)?;
        check!(found == N)
    }

    /// NMIs on one CPU after the other use the reserve.
    #[test]
    fn reserve_is_there_in_nmi() -> Result {
        const N: usize = 100;
        skip_if!(!nmi::CAN, c"this machine sends no NMIs");
        let cache = SheafCache::new(c"rcu_ptr_kept_nmi", 64, cache::own_memory())?;
        prefill(&cache, N)?;
        let held = Kept::new(&cache, N)?;
        let (armed, came) = (Atomic::<usize>::new(0), Atomic::<usize>::new(0));
        let found = Atomic::<usize>::new(0);
        let body = || {
            // The handler is called for other NMIs as well.
            if cpu::context() == Context::Nmi && armed.xchg(0, Full) == 1 {
                let object = held.cache.alloc_nolock();
                found.add(usize::from(held.keep(object)), Relaxed);
                came.add(1, Relaxed);
            }
        };
        let hook = Hook::new(&body);
        let receiver = Receiver::new(&hook)?;
        cpus::on(cpus::first(), || {
            for (i, cpu) in cpus_of_first_node().cycle().take(N).enumerate() {
                armed.store(1, Relaxed);
                receiver.send(cpu);
                spin(|| came.load(Relaxed) > i);
            }
        })?;
        check!(came.load(Relaxed) == N && found.load(Relaxed) == N)
    }

    /// A worker refills the reserve, repeatedly.
    #[test]
    fn reserve_is_filled_again() -> Result {
        const N: usize = 100;
        let cache = SheafCache::new(c"rcu_ptr_kept_again", 64, cache::own_memory())?;
        prefill(&cache, N)?;
        for _ in 0..3 {
            let held = cpus::on(cpus::first(), || cache.hold_irqs_off(N))??;
            check!(held.len() == N)?;
            check!(bound::soon(|| cache.stats().reserve >= N as u64))?;
        }
        Ok(())
    }

    /// Objects that a CPU takes when it no longer runs irq_works are refilled when it is dead.
    #[test]
    fn reserve_is_filled_for_a_dead_cpu() -> Result {
        const N: usize = 100;
        let cpu = other_cpu!();
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_kept_dead", 64, cache::own_memory())?;
        cpus::on(cpu, || cache.prefill(N))??;
        let held = Kept::new(&cache, 60)?;
        let found = Atomic::<usize>::new(0);
        let body = || found.store(alloc_irqs_off(&held, 60), Relaxed);
        let down = Down::take_with(cpu, DownStep::Parked, &body)?;
        let filled = bound::soon(|| cache.stats().reserve >= N as u64);
        down.up()?;
        check!(found.load(Relaxed) == 60 && filled)
    }

    /// A context with preemption disabled may read the reserve while it is replaced by a larger
    /// one, which waits for it.
    #[test]
    fn reserve_grows_after_a_grace_period() -> Result {
        let cpu = other_cpu!();
        let cache = SheafCache::new(c"rcu_ptr_kept_more", 64, cache::own_memory())?;
        for _ in 0..4 {
            let stage = Atomic::<i32>::new(0);
            let body = |_| {
                cpu::preempt_off(|| {
                    stage.store(1, Relaxed);
                    cpus::spin(50_000_000, || false);
                    stage.store(2, Relaxed);
                });
            };
            let (prefilled, early) = thread::on_cpus(::core::iter::once(cpu), &body, || {
                spin(|| stage.load(Relaxed) > 0);
                (cache.prefill(10), stage.load(Relaxed) == 1)
            })?;
            prefilled?;
            check!(!early)?;
        }
        Ok(())
    }

    /// A worker adds as many objects as could not be allocated, not a sheaf at a time.
    #[test]
    fn stock_follows_demand() -> Result {
        const N: usize = 2000;
        let cache = SheafCache::new(c"rcu_ptr_demand", 64, cache::own_memory())?;
        let missed = cpus::on(cpus::first(), || {
            let in_vain = |_: &usize| cache.hold_nolock().is_none();
            cpu::irqs_off(|| (0..N).filter(in_vain).count())
        })?;
        let came = bound::wait_with_timeout(|| cache.stats().now_full as usize * 56 >= missed);
        check!(missed > N / 2 && came)
    }

    /// A worker that runs on one node fills the barn of another node with memory of that node.
    #[test]
    fn refills_are_of_the_right_node() -> Result {
        let (here, there) = or_skip!(two_nodes(), NUMA);
        for (asks, other) in [(here, there), (there, here)] {
            let mut asked = None;
            for _ in 0..10 {
                let cache = SheafCache::new(c"rcu_ptr_right", 64, cache::own_memory())?;
                // Both requests have to come before the worker runs, which serves both: objects
                // that were added in between would go to the next caller, on any node.
                if alloc_one_and_rest(&Kept::new(&cache, 400)?, [other, asks], 2)? == 0 {
                    asked = Some(cache);
                    break;
                }
            }
            let Some(cache) = asked else {
                return Err(EAGAIN);
            };
            check!(bound::soon(|| cache.stats().now_full >= 2))?;
            for cpu in [here, there] {
                let held = cpus::on(cpu, || cache.hold_irqs_off(40))??;
                check!(held.len() == 40 && count_remote(&held, cpu) == 0)?;
            }
        }
        Ok(())
    }

    /// Objects that are freed without a grace period on another node than theirs are not reused
    /// there.
    #[test]
    fn freed_at_once_elsewhere() -> Result {
        let (here, there) = or_skip!(two_nodes(), NUMA);
        let cache = SheafCache::new(c"rcu_ptr_once", 64, cache::own_memory())?;
        for _ in 0..10 {
            let held = cpus::on(here, || cache.hold_many(4))??;
            let held = cpus::on(there, || {
                held.into_iter().for_each(Held::free);
                cache.hold_many(4)
            })??;
            check!(count_remote(&held, there) == 0)?;
            drop(held);
            core::barrier();
        }
        Ok(())
    }
}
