// SPDX-License-Identifier: GPL-2.0

//! Callbacks: where they run, what they may do, what they hold up and what waits for them. That they come
//! after their grace period, from every context and from CPUs that die is what the other suites test, with
//! the ways of `Route`.

use crate::{
    bound,
    callback::{self, COUNTERS},
    cpus,
    events::Events,
    params,
    pool::{Pool, CAN_LOOK},
    route::Route,
    scaled,
    sys::{
        alloc::{self, Source},
        core,
        core::Head,
        core_test, cpu, fault, probes, thread,
        timer::{self, Where},
        user,
    },
};
use ::core::{cell::UnsafeCell, ptr};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// A head, and what its callback does. The head comes first.
#[repr(C)]
struct Counted {
    head: UnsafeCell<[usize; 2]>,
    /// How often its callback ran.
    ran: Atomic<u64>,
    /// How often that queues it again.
    again: Atomic<u64>,
    /// How it is queued.
    sleeps: Atomic<i32>,
}

// SAFETY: The head is RCU's while it is queued, and not accessed otherwise.
unsafe impl Sync for Counted {}

impl Counted {
    const fn new() -> Self {
        Self {
            head: UnsafeCell::new([0; 2]),
            ran: Atomic::new(0),
            again: Atomic::new(0),
            sleeps: Atomic::new(0),
        }
    }

    /// Queues it, to be queued `again` so often from its callback.
    ///
    /// # Safety
    ///
    /// It is not queued, and stays until its callback has run for the last time.
    unsafe fn queue(&self, sleeps: bool, again: u64) {
        self.again.store(again, Relaxed);
        self.sleeps.store(i32::from(sleeps), Relaxed);
        // SAFETY: By the safety requirements of this function.
        unsafe { core::call(self.head.get().cast(), sleeps, counted as core::Func) };
    }
}

/// # Safety
///
/// The head is that of a [`Counted`].
unsafe extern "C" fn counted(head: *mut Head) {
    // SAFETY: By the safety requirements of this function.
    let this = unsafe { &*head.cast::<Counted>() };
    let sleeps = this.sleeps.load(Relaxed) != 0;
    callback::count(sleeps);
    let again = this.again.load(Relaxed);
    // Afterwards it may be gone.
    this.ran.add(1, Relaxed);
    if again > 0 {
        // SAFETY: Not queued while this runs.
        unsafe { this.queue(sleeps, again - 1) };
    }
}

static STATIC: Counted = Counted::new();

/// Has `func` called for each of `heads`.
///
/// # Safety
///
/// None is queued, and all stay until their callbacks have returned.
unsafe fn call_all(heads: &[Counted], sleeps: bool, func: core::Func) {
    for head in heads {
        // SAFETY: By the safety requirements of this function.
        unsafe { core::call(head.head.get().cast(), sleeps, func) };
    }
}

fn heads(n: usize) -> Result<KVec<Counted>> {
    let mut heads = KVec::with_capacity(n, GFP_KERNEL)?;
    for _ in 0..n {
        heads.push(Counted::new(), GFP_KERNEL)?;
    }
    Ok(heads)
}

/// Each callback queues itself again, many times over, and runs as often as that.
fn again_and_again(sleeps: bool) -> Result {
    const ROUNDS: u64 = 10;
    let defaults = params::quick_drain()?;
    let heads = heads(20)?;
    for head in &heads {
        // SAFETY: Waited for below.
        unsafe { head.queue(sleeps, ROUNDS) };
    }
    let is_done = || {
        heads
            .iter()
            .all(|head| head.ran.load(Relaxed) == ROUNDS + 1)
    };
    let done = bound::times(ROUNDS as u32 + 1, params::QUICK_DRAIN_MSECS, is_done);
    // No more than that.
    core::barrier();
    drop(defaults);
    let still = is_done();
    if !done {
        // They are queued still: leave them alone.
        ::core::mem::forget(heads);
    }
    check!(done && still);
    Ok(())
}

/// What callbacks wait for, or are told: a test at a time.
struct Gate {
    open: Atomic<i32>,
    entered: Atomic<u64>,
    left: Atomic<u64>,
    /// Of those, when the gate was open.
    in_time: Atomic<u64>,
    /// The objects that a callback waits for.
    pool: Atomic<*mut Pool>,
}

static GATE: Gate = Gate {
    open: Atomic::new(0),
    entered: Atomic::new(0),
    left: Atomic::new(0),
    in_time: Atomic::new(0),
    pool: Atomic::new(ptr::null_mut()),
};

impl Gate {
    fn reset(&self) {
        self.open.store(0, Relaxed);
        self.entered.store(0, Relaxed);
        self.left.store(0, Relaxed);
        self.in_time.store(0, Relaxed);
    }
}

/// # Safety
///
/// The head is one of the caller's.
unsafe extern "C" fn wait_asleep(_head: *mut Head) {
    GATE.entered.add(1, Relaxed);
    let open = bound::watchdog(|| GATE.open.load(Relaxed) != 0);
    GATE.in_time.add(u64::from(open), Relaxed);
    GATE.left.add(1, Relaxed);
}

/// Looks for the pool's objects itself: where softirqs are off, other tasks of the CPU don't even wake up.
///
/// # Safety
///
/// The head is one of the caller's.
unsafe extern "C" fn wait_awake(_head: *mut Head) {
    GATE.entered.add(1, Relaxed);
    let pool = GATE.pool.load(Relaxed);
    // SAFETY: Set by the waiter for the callback, and lives as long.
    let pool = unsafe { &*pool };
    // A watchdog: it keeps the CPU.
    let freed = cpus::spin(8_000_000_000, || pool.all_freed());
    GATE.in_time.add(u64::from(freed), Relaxed);
    GATE.left.add(1, Relaxed);
}

/// On one CPU: `slow` callbacks that wait at the gate, then objects and callbacks of both kinds. What has to come
/// while they wait does so: objects, and what `others` says.
fn behind_slow(slow: usize, sleeps: bool, others: &[Route]) -> Result {
    GATE.reset();
    let func: core::Func = if sleeps { wait_asleep } else { wait_awake };
    let heads = heads(slow)?;
    // One block with the first of them: a callback that is awake holds up grace periods, as it may elsewhere.
    let pool = Pool::new(300)?;
    let queue = || {
        // SAFETY: They stay until the barrier below.
        unsafe { call_all(&heads, sleeps, func) };
        for &route in others.iter().cycle().take(pool.len()) {
            pool.free(route, 1);
        }
    };
    let defaults = params::quick_drain()?;
    core::barrier();
    GATE.pool.store(ptr::from_ref(&pool).cast_mut(), Relaxed);
    let ran = cpus::on(cpu::this(), || cpu::irqs_off(queue));
    let came = bound::within(params::QUICK_DRAIN_MSECS, || {
        GATE.entered.load(Relaxed) > 0 && pool.all_freed()
    });
    let held = !sleeps || GATE.left.load(Relaxed) == 0;
    GATE.open.store(1, Relaxed);
    core::barrier();
    drop(defaults);
    ran?;
    let all = slow as u64;
    let entered = GATE.entered.load(Relaxed);
    pr_info!("behind {slow} slow callbacks: the others came: {came}; {entered} entered\n");
    check!(came && held);
    // The barrier has waited for them.
    check!(GATE.left.load(Relaxed) == all && GATE.in_time.load(Relaxed) == all);
    Ok(())
}

/// # Safety
///
/// The head is one of the caller's.
unsafe extern "C" fn take_a_while(_head: *mut Head) {
    GATE.entered.add(1, Relaxed);
    thread::sleep(100);
    GATE.left.add(1, Relaxed);
}

/// # Safety
///
/// The head is one of the caller's.
unsafe extern "C" fn take_less(_head: *mut Head) {
    GATE.entered.add(1, Relaxed);
    cpus::spin(5_000_000, || false);
    GATE.left.add(1, Relaxed);
}

/// More callbacks that take a while than can run at a time: the barrier leaves none.
fn barrier_behind(sleeps: bool) -> Result {
    GATE.reset();
    let func: core::Func = if sleeps { take_a_while } else { take_less };
    let heads = heads(20)?;
    let body = |cpu: i32| {
        let half = &heads[cpu as usize % 2 * 10..][..10];
        // SAFETY: They stay until the barrier below.
        unsafe { call_all(half, sleeps, func) };
    };
    let cpus = cpu::online().take(2).count();
    if cpus == 2 {
        thread::on_cpus(cpu::online().take(2), &body, || ())?;
    } else {
        body(0);
        body(1);
    }
    core::barrier();
    let left = 20 - GATE.left.load(Relaxed);
    // Should it have left some.
    bound::watchdog(|| GATE.left.load(Relaxed) == 20);
    check!(left == 0);
    Ok(())
}

/// Callbacks of one CPU that take a while, others that find the worker busy with these, and two barriers, one
/// after the other, neither of which leaves a callback.
fn barriers_behind_a_busy_worker() -> Result {
    const FIRST: usize = 60;
    const ALL: u64 = 80;
    GATE.reset();
    thread::stay_here();
    let heads = heads(ALL as usize)?;
    let defaults = params::quick_drain()?;
    // SAFETY: They stay until the barrier below.
    let queue = |heads: &[Counted]| unsafe { call_all(heads, false, take_less as core::Func) };
    queue(&heads[..FIRST]);
    let entered = bound::watchdog(|| GATE.entered.load(Relaxed) > 0);
    queue(&heads[FIRST..]);
    let (started, early) = (Atomic::<u32>::new(0), Atomic::<u64>::new(0));
    let wait = |_number: i32| {
        // The second one comes when the first one waits.
        thread::sleep(50 * started.fetch_add(1, Relaxed));
        core::barrier();
        early.fetch_add(u64::from(GATE.left.load(Relaxed) < ALL), Relaxed);
    };
    let ran = thread::together(2, &wait, || ());
    core::barrier();
    let all = bound::watchdog(|| GATE.left.load(Relaxed) == ALL);
    drop(defaults);
    ran?;
    check!(entered && all && early.load(Relaxed) == 0);
    Ok(())
}

/// Frees all of a pool's objects by callbacks, wherever `place` is, and in tasks. All come, in the context that is
/// promised.
fn from(place: Where, route: Route) -> Result {
    let (ran, wrong) = (COUNTERS.ran.load(Relaxed), COUNTERS.wrong.load(Relaxed));
    let pool = Pool::new(scaled(8000))?;
    let free = |n: usize| pool.free(route, n);
    let in_timer = || free(8);
    let task = |_cpu: i32| {
        let _ = timer::every(place, 300_000, &in_timer, || {
            for _ in 0..100 {
                free(4);
                cpu::irqs_off(|| free(2));
                thread::sleep(1);
            }
        });
    };
    thread::on_cpus(cpu::online(), &task, || ())?;
    core::barrier();
    let came = COUNTERS.ran.load(Relaxed) - ran;
    let wrong = COUNTERS.wrong.load(Relaxed) - wrong;
    let queued = pool.taken() as u64;
    pr_info!("{route:?}: {queued} queued, {came} called, {wrong} in a wrong context\n");
    check!(queued == came && wrong == 0 && pool.all_freed());
    Ok(())
}

/// Callbacks when no page for a block is available. Returns how many of 2000 were linked.
fn without_pages(route: Route) -> Result<u64> {
    let pool = Pool::new(2000)?;
    // What another CPU's use of the lock defers is linked as well.
    let linked = Events::count(|c| c.list.load(Relaxed) + c.later.load(Relaxed))?;
    params::shrink()?;
    fault::fail_blocks(1, u64::MAX);
    let ran = cpus::on(cpu::this(), || pool.free(route, usize::MAX));
    let linked = linked.so_far();
    core::barrier();
    fault::fail_blocks(0, 0);
    ran?;
    pr_info!("{route:?}: {linked} of 2000 were linked\n");
    check!(pool.all_freed());
    Ok(linked)
}

/// The order of callbacks that one task queues.
struct Ordered {
    last: Atomic<usize>,
    out_of_order: Atomic<usize>,
}

static ORDER: Ordered = Ordered {
    last: Atomic::new(0),
    out_of_order: Atomic::new(0),
};

/// # Safety
///
/// The head is one of an array.
unsafe extern "C" fn in_order(head: *mut Head) {
    let before = ORDER.last.xchg(head.addr(), Relaxed);
    let right = before == 0 || before + size_of::<Counted>() == head.addr();
    ORDER.out_of_order.add(usize::from(!right), Relaxed);
}

/// Callbacks of one CPU in the blocks that it fills. Returns how many came before one that was queued
/// earlier.
fn out_of_order(count: usize) -> Result<usize> {
    let heads = heads(count)?;
    ORDER.last.store(0, Relaxed);
    ORDER.out_of_order.store(0, Relaxed);
    // Less than a block: what is in one batch is in order.
    // SAFETY: They stay until the barrier below.
    let queue = || unsafe { call_all(&heads, false, in_order as core::Func) };
    core::barrier();
    cpus::on(cpu::this(), || cpu::irqs_off(queue))?;
    core::barrier();
    Ok(ORDER.out_of_order.load(Relaxed))
}

/// Whether none of some hundred comes out of order, all of which are linked, or none; `None`: each time it was
/// otherwise, or some were deferred, as they are where debugobjects looks at heads. Another context has the lock now
/// and then, and blocks come after the first objects.
fn come_in_order(linked: bool) -> Result<Option<bool>> {
    const CALLS: usize = 300;
    let probes = probes::Probes::register()?;
    let seen = || {
        let counters = &probes::COUNTERS;
        (counters.later.load(Relaxed), counters.list.load(Relaxed))
    };
    let mut in_order = None;
    for _ in 0..10 {
        let (later, list) = seen();
        let wrong = out_of_order(CALLS)?;
        let on_list = if linked { CALLS as u64 } else { 0 };
        if seen() == (later, list + on_list) {
            in_order = Some(wrong == 0);
            break;
        }
        thread::sleep(20);
    }
    drop(probes);
    Ok(in_order)
}

#[kunit_tests(rcu_ptr_call)]
mod tests {
    use super::*;

    /// A head in each kind of memory, both ways: one callback each.
    #[test]
    fn heads_in_any_memory() -> Result {
        let mut wrong = 0;
        let mut check = |counted: &Counted, sleeps| {
            let before = counted.ran.load(Relaxed);
            // SAFETY: It stays, as the barrier waits.
            unsafe { counted.queue(sleeps, 0) };
            core::barrier();
            wrong += (counted.ran.load(Relaxed) - before).abs_diff(1);
        };
        for sleeps in [false, true] {
            check(&STATIC, sleeps);
            let on_stack = Counted::new();
            core_test::on_stack(on_stack.head.get().cast(), || check(&on_stack, sleeps));
            for source in [Source::Kmalloc, Source::Vmalloc, Source::KmallocNolock] {
                let object = alloc::alloc_patiently(source, size_of::<Counted>()).ok_or(ENOMEM)?;
                let place = object.cast::<Counted>();
                // SAFETY: Just allocated, large enough and aligned to 8.
                unsafe {
                    place.write(Counted::new());
                    check(place.as_ref(), sleeps);
                    alloc::kvfree(object);
                }
            }
        }
        check!(wrong == 0);
        Ok(())
    }

    #[test]
    fn from_hardirq_and_tasks() -> Result {
        Route::CALLS
            .into_iter()
            .try_for_each(|route| from(Where::Hardirq, route))
    }

    #[test]
    fn from_softirq_and_tasks() -> Result {
        Route::CALLS
            .into_iter()
            .try_for_each(|route| from(Where::Softirq, route))
    }

    #[test]
    fn queued_again_from_inside() -> Result {
        [false, true].into_iter().try_for_each(again_and_again)
    }

    #[test]
    fn in_the_order_of_calls() -> Result {
        let in_blocks = come_in_order(false)?;
        let _defaults = params::no_blocks()?;
        let linked = come_in_order(true)?;
        skip_if!(
            in_blocks.is_none() || linked.is_none(),
            c"what engine rfc defers may come in another order"
        );
        check!(in_blocks == Some(true));
        check!(linked == Some(true));
        Ok(())
    }

    #[test]
    fn linked_without_a_page() -> Result {
        for route in Route::CALLS {
            check!(without_pages(route)? > 0);
        }
        Ok(())
    }

    #[test]
    fn only_linked() -> Result {
        let _defaults = params::no_blocks()?;
        for route in Route::CALLS {
            check!(without_pages(route)? == 2000);
        }
        Ok(())
    }

    /// What a batch had, by the event at its end.
    #[test]
    fn events_count_linked_ones() -> Result {
        let _defaults = params::no_blocks()?;
        let freed = Events::count(|c| c.freed.load(Relaxed))?;
        let pool = Pool::new(50)?;
        pool.free(Route::Call, 50);
        core::barrier();
        check!(pool.all_freed() && freed.so_far() == 50);
        Ok(())
    }

    /// More callbacks that sleep than can at a time: the statistics say that the others are ready.
    #[test]
    fn stats_show_those_that_wait_for_a_worker() -> Result {
        GATE.reset();
        let heads = heads(6)?;
        let _defaults = params::quick_drain()?;
        // SAFETY: They stay until the barrier below.
        let queue = || unsafe { call_all(&heads, true, wait_asleep as core::Func) };
        let ran = cpus::on(cpu::this(), queue);
        let shown = bound::within(params::QUICK_DRAIN_MSECS, || {
            user::sh(c"grep -q '^sum .* now_ready=2 ' /sys/kernel/debug/rcu_ptr/stats").is_ok()
        });
        GATE.open.store(1, Relaxed);
        core::barrier();
        ran?;
        check!(shown && GATE.left.load(Relaxed) == 6);
        Ok(())
    }

    #[test]
    fn nothing_waits_for_a_sleeping_one() -> Result {
        skip_if!(!CAN_LOOK, c"freed objects cannot be seen here");
        // As many sleep as may while others of their kind come.
        let routes = [
            Route::Kvfree,
            Route::Nolock,
            Route::Call,
            Route::CallSleepable,
        ];
        behind_slow(3, true, &routes)?;
        // More than that.
        behind_slow(6, true, &routes[..3])
    }

    #[test]
    fn no_object_waits_for_a_slow_one() -> Result {
        skip_if!(!CAN_LOOK, c"freed objects cannot be seen here");
        skip_if!(cpu::online().count() < 2, c"needs two CPUs");
        let routes = [Route::Kvfree, Route::Nolock, Route::CallSleepable];
        behind_slow(1, false, &routes)
    }

    #[test]
    fn barrier_waits_until_they_have_returned() -> Result {
        [false, true].into_iter().try_for_each(barrier_behind)
    }

    /// A second barrier does not end the first one's wait for a worker that is busy.
    #[test]
    fn barriers_beside_each_other() -> Result {
        (0..3).try_for_each(|_| barriers_behind_a_busy_worker())
    }

    #[test]
    fn events_have_the_function() -> Result {
        let probes = probes::Probes::register()?;
        let counters = &probes::COUNTERS;
        let (taken, called) = (counters.calls.load(Relaxed), counters.invoked.load(Relaxed));
        for route in Route::CALLS {
            for _ in 0..50 {
                let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
                // SAFETY: Just allocated.
                unsafe { route.free(object, 8) };
            }
        }
        core::barrier();
        let func = |i: usize| counters.func[i].load(Relaxed);
        let right = func(0) == callback::free_at(8, false) as usize as u64
            && func(1) == callback::free_at(8, true) as usize as u64;
        let (taken, called) = (
            counters.calls.load(Relaxed) - taken,
            counters.invoked.load(Relaxed) - called,
        );
        drop(probes);
        check!(taken == 100 && called == 100);
        check!(right);
        Ok(())
    }
}
