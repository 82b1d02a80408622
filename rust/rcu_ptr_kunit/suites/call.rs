// SPDX-License-Identifier: GPL-2.0

//! Callbacks: their context, what they may do, what they delay, and what waits for them. The other
//! suites test callbacks beside objects, by `FreeFn`: the grace period, queueing in every context,
//! and CPU hotplug.

use crate::{
    callback::{self, Gate, COUNTERS},
    prelude::*,
    sys::{core::Head, probes},
};
use ::core::{cell::UnsafeCell, ptr};

/// An object with a head at its start, whose callback counts, and may queue the head again.
#[repr(C)]
struct Counted {
    head: UnsafeCell<[usize; 2]>,
    /// Calls of the callback.
    ran: Atomic<u64>,
    /// How often the callback queues the head again.
    again: Atomic<u64>,
    /// Whether the callback may sleep.
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

    /// Queues the head; its callback queues it `again` more times.
    ///
    /// # Safety
    ///
    /// The head is not queued, and stays until its callback has run for the last time.
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
    // The object may be freed after this.
    this.ran.add(1, Relaxed);
    if again > 0 {
        // SAFETY: Not queued while this runs.
        unsafe { this.queue(sleeps, again - 1) };
    }
}

static STATIC: Counted = Counted::new();

/// Queues `func` for each of `heads`.
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

/// Callbacks that queue themselves again run as often as that.
fn requeued_from_callback(sleeps: bool) -> Result {
    const ROUNDS: u64 = 10;
    let restore = params::quick_drain()?;
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
    let done = bound::within_times(ROUNDS as u32 + 1, params::QUICK_DRAIN_MSECS, is_done);
    // And not more often.
    core::barrier();
    drop(restore);
    let still = is_done();
    if !done {
        // They are still queued: leak them.
        ::core::mem::forget(heads);
    }
    check!(done && still)
}

static GATE: Gate = Gate::new();

/// The objects that [`spin_for_pool()`] waits for.
static POOL: Atomic<*mut Pool> = Atomic::new(ptr::null_mut());

/// Sleeps until the test opens the gate.
///
/// # Safety
///
/// There are no requirements.
unsafe extern "C" fn wait_at_gate(_head: *mut Head) {
    GATE.wait();
}

/// Spins until the objects of [`POOL`] are freed. It checks them itself, as no other task of the
/// CPU runs while softirqs are disabled.
///
/// # Safety
///
/// There are no requirements.
unsafe extern "C" fn spin_for_pool(_head: *mut Head) {
    // SAFETY: Set by the test before the callback is queued, and lives until it has returned.
    let pool = unsafe { &*POOL.load(Relaxed) };
    GATE.pass(|| cpus::spin(8_000_000_000, || pool.all_freed()));
}

/// On one CPU: `slow` callbacks that block, then objects and callbacks by `others`, which have to
/// be processed while the slow callbacks block.
fn behind_slow(slow: usize, sleeps: bool, others: &[FreeFn]) -> Result {
    GATE.reset();
    let func: core::Func = if sleeps { wait_at_gate } else { spin_for_pool };
    let heads = heads(slow)?;
    // Less than a block, with the callbacks: one that spins holds up grace periods.
    let pool = Pool::new(300)?;
    let queue = || {
        // SAFETY: The heads stay until the barrier below.
        unsafe { call_all(&heads, sleeps, func) };
        for &free_fn in others.iter().cycle().take(pool.len()) {
            pool.free(free_fn, 1);
        }
    };
    let restore = params::quick_drain()?;
    core::barrier();
    POOL.store(ptr::from_ref(&pool).cast_mut(), Relaxed);
    let ran = cpus::on(cpu::this(), || cpu::irqs_off(queue));
    let came = bound::within(params::QUICK_DRAIN_MSECS, || {
        GATE.entered() > 0 && pool.all_freed()
    });
    let held = !sleeps || GATE.left() == 0;
    GATE.open();
    core::barrier();
    drop(restore);
    ran?;
    let entered = GATE.entered();
    pr_info!("behind {slow} slow callbacks: the others came: {came}; {entered} entered\n");
    check!(came && held)?;
    // The barrier has waited for them.
    check!(GATE.left() == slow as u64 && GATE.late() == 0)
}

/// # Safety
///
/// There are no requirements.
unsafe extern "C" fn sleep_100ms(_head: *mut Head) {
    GATE.pass(|| {
        thread::sleep(100);
        true
    });
}

/// # Safety
///
/// There are no requirements.
unsafe extern "C" fn spin_5ms(_head: *mut Head) {
    GATE.pass(|| {
        cpus::spin(5_000_000, || false);
        true
    });
}

/// More slow callbacks than run at a time: the barrier waits for all.
fn barrier_behind(sleeps: bool) -> Result {
    GATE.reset();
    let func: core::Func = if sleeps { sleep_100ms } else { spin_5ms };
    let heads = heads(20)?;
    let body = |cpu: i32| {
        let half = &heads[cpu as usize % 2 * 10..][..10];
        // SAFETY: The heads stay until the barrier below.
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
    let missed = 20 - GATE.left();
    // If the barrier has missed some, they use `heads`.
    bound::wait_with_timeout(|| GATE.left() == 20);
    check!(missed == 0)
}

/// Slow callbacks of one CPU, others that are queued while the worker is busy with these, and two
/// overlapping barriers, each of which waits for all callbacks.
fn barriers_behind_a_busy_worker() -> Result {
    const FIRST: usize = 60;
    const ALL: u64 = 80;
    GATE.reset();
    thread::stay_here();
    let heads = heads(ALL as usize)?;
    let restore = params::quick_drain()?;
    // SAFETY: The heads stay until the barrier below.
    let queue = |heads: &[Counted]| unsafe { call_all(heads, false, spin_5ms as core::Func) };
    queue(&heads[..FIRST]);
    let entered = bound::wait_with_timeout(|| GATE.entered() > 0);
    queue(&heads[FIRST..]);
    let (started, early) = (Atomic::<u32>::new(0), Atomic::<u64>::new(0));
    let wait = |_number: i32| {
        // The second barrier starts while the first one waits.
        thread::sleep(50 * started.fetch_add(1, Relaxed));
        core::barrier();
        early.fetch_add(u64::from(GATE.left() < ALL), Relaxed);
    };
    let ran = thread::together(2, &wait, || ());
    core::barrier();
    let all = bound::wait_with_timeout(|| GATE.left() == ALL);
    drop(restore);
    ran?;
    check!(entered && all && early.load(Relaxed) == 0)
}

/// Frees objects by callbacks from timers at `place` and from tasks. All callbacks run, in the
/// context that the API promises.
fn called_from(place: Where, free_fn: FreeFn) -> Result {
    let (ran, wrong) = (COUNTERS.ran.load(Relaxed), COUNTERS.wrong.load(Relaxed));
    let pool = Pool::new(scaled(8000))?;
    let free = |n: usize| pool.free(free_fn, n);
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
    pr_info!("{free_fn:?}: {queued} queued, {came} called, {wrong} in a wrong context\n");
    check!(queued == came && wrong == 0 && pool.all_freed())
}

/// Queues 2000 callbacks when no page for a block is available. Returns how many were linked.
fn without_pages(free_fn: FreeFn) -> Result<u64> {
    let pool = Pool::new(2000)?;
    // Deferred calls, as when another CPU holds the lock, are linked as well.
    let linked = EventCounter::start(|c| c.list.load(Relaxed) + c.later.load(Relaxed))?;
    params::shrink()?;
    fault::fail_blocks(1, u64::MAX);
    let ran = cpus::on(cpu::this(), || pool.free(free_fn, usize::MAX));
    let linked = linked.count();
    core::barrier();
    fault::fail_blocks(0, 0);
    ran?;
    pr_info!("{free_fn:?}: {linked} of 2000 were linked\n");
    check!(pool.all_freed())?;
    Ok(linked)
}

/// The address of the last head whose callback was [`in_order()`]; 0: none.
static LAST: Atomic<usize> = Atomic::new(0);
/// Calls that came after that of another head than the one before.
static OUT_OF_ORDER: Atomic<usize> = Atomic::new(0);

/// # Safety
///
/// The head is an element of an array.
unsafe extern "C" fn in_order(head: *mut Head) {
    let before = LAST.xchg(head.addr(), Relaxed);
    let right = before == 0 || before + size_of::<Counted>() == head.addr();
    OUT_OF_ORDER.add(usize::from(!right), Relaxed);
}

/// Queues callbacks on one CPU. Returns how many were called before one that was queued earlier.
fn out_of_order(count: usize) -> Result<usize> {
    let heads = heads(count)?;
    LAST.store(0, Relaxed);
    OUT_OF_ORDER.store(0, Relaxed);
    // Less than a block: within a batch the order is kept.
    // SAFETY: The heads stay until the barrier below.
    let queue = || unsafe { call_all(&heads, false, in_order as core::Func) };
    core::barrier();
    cpus::on(cpu::this(), || cpu::irqs_off(queue))?;
    core::barrier();
    Ok(OUT_OF_ORDER.load(Relaxed))
}

/// Whether some hundred callbacks are called in order if all of them, or none, are linked. `None`:
/// no attempt was like that. Some are deferred if another context holds the lock, all with
/// debugobjects, and the first ones may be linked until a refill has brought blocks.
fn called_in_order(linked: bool) -> Result<Option<bool>> {
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

    /// A head in each kind of memory has one callback per call, by both functions.
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
                let object = alloc::alloc_retry(source, size_of::<Counted>()).ok_or(ENOMEM)?;
                let place = object.cast::<Counted>();
                // SAFETY: Just allocated, large enough and aligned to 8.
                unsafe {
                    place.write(Counted::new());
                    check(place.as_ref(), sleeps);
                    alloc::kvfree(object);
                }
            }
        }
        check!(wrong == 0)
    }

    #[test]
    fn from_interrupts_and_tasks() -> Result {
        for free_fn in FreeFn::CALLS {
            called_from(Where::Hardirq, free_fn)?;
            called_from(Where::Softirq, free_fn)?;
        }
        Ok(())
    }

    #[test]
    fn queued_again_from_inside() -> Result {
        [false, true]
            .into_iter()
            .try_for_each(requeued_from_callback)
    }

    #[test]
    fn in_the_order_of_calls() -> Result {
        let in_blocks = called_in_order(false)?;
        let _restore = params::no_blocks()?;
        let linked = called_in_order(true)?;
        skip_if!(
            in_blocks.is_none() || linked.is_none(),
            c"what engine rfc defers may come in another order"
        );
        check!(in_blocks == Some(true))?;
        check!(linked == Some(true))
    }

    #[test]
    fn linked_without_a_page() -> Result {
        for free_fn in FreeFn::CALLS {
            check!(without_pages(free_fn)? > 0)?;
        }
        Ok(())
    }

    #[test]
    fn only_linked() -> Result {
        let _restore = params::no_blocks()?;
        for free_fn in FreeFn::CALLS {
            check!(without_pages(free_fn)? == 2000)?;
        }
        Ok(())
    }

    /// The event at the end of a batch includes linked callbacks.
    #[test]
    fn events_count_linked_callbacks() -> Result {
        let _restore = params::no_blocks()?;
        let freed = EventCounter::start(|c| c.freed.load(Relaxed))?;
        let pool = Pool::new(50)?;
        pool.free(FreeFn::Call, 50);
        core::barrier();
        check!(pool.all_freed() && freed.count() == 50)
    }

    /// More sleeping callbacks than run at a time: the statistics show the others as ready.
    #[test]
    fn stats_show_callbacks_that_wait_for_a_worker() -> Result {
        GATE.reset();
        let heads = heads(6)?;
        let _restore = params::quick_drain()?;
        // SAFETY: The heads stay until the barrier below.
        let queue = || unsafe { call_all(&heads, true, wait_at_gate as core::Func) };
        let ran = cpus::on(cpu::this(), queue);
        let shown = bound::within(params::QUICK_DRAIN_MSECS, || {
            user::sh(c"grep -q '^sum .* now_ready=2 ' /sys/kernel/debug/rcu_ptr/stats").is_ok()
        });
        GATE.open();
        core::barrier();
        ran?;
        check!(shown && GATE.left() == 6)
    }

    #[test]
    fn nothing_waits_for_a_sleeping_callback() -> Result {
        skip_if!(!FREES_ARE_VISIBLE, c"freed objects cannot be seen here");
        // As many as may sleep without delaying other sleepable callbacks.
        let free_fns = [
            FreeFn::Kvfree,
            FreeFn::Nolock,
            FreeFn::Call,
            FreeFn::CallSleepable,
        ];
        behind_slow(3, true, &free_fns)?;
        // More than that.
        behind_slow(6, true, &free_fns[..3])
    }

    #[test]
    fn no_object_waits_for_a_slow_callback() -> Result {
        skip_if!(!FREES_ARE_VISIBLE, c"freed objects cannot be seen here");
        skip_if!(cpu::online().count() < 2, c"needs two CPUs");
        let free_fns = [FreeFn::Kvfree, FreeFn::Nolock, FreeFn::CallSleepable];
        behind_slow(1, false, &free_fns)
    }

    #[test]
    fn barrier_waits_for_callbacks() -> Result {
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
        for free_fn in FreeFn::CALLS {
            for _ in 0..50 {
                let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
                // SAFETY: Just allocated.
                unsafe { free_fn.free(object, 8) };
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
        check!(taken == 100 && called == 100)?;
        check!(right)
    }
}
