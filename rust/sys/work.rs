// SPDX-License-Identifier: GPL-2.0

//! Work items: delayed, and those that wait for a grace period (`rcu_work`).
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)
//!
//! # Context
//!
//! Functions that create workqueues or wait may sleep.

use super::{generated as sys, gp};
use core::ptr::NonNull;
use kernel::{
    bindings::{
        self, wq_flags_WQ_HIGHPRI as HIGHPRI, wq_flags_WQ_MEM_RECLAIM as MEM_RECLAIM,
        wq_flags_WQ_PERCPU as PERCPU, wq_flags_WQ_UNBOUND as UNBOUND,
    },
    prelude::*,
    sync::Arc,
    types::Opaque,
};

/// The handler of a work item, an irq_work or a timer.
pub(crate) trait Handler: Sync {
    /// Runs in the context that the type of the item states; calls for one item do not overlap.
    fn run(&self);
}

/// A kernel object of type `T` that has a callback, and the handler that the callback runs.
#[pin_data]
#[repr(C)]
pub(crate) struct Item<T, H> {
    #[pin]
    raw: Opaque<T>,
    handler: H,
}

// SAFETY: The C code synchronises access to the object; `handler` is only shared.
unsafe impl<T, H: Sync> Sync for Item<T, H> {}
// SAFETY: As above.
unsafe impl<T, H: Send> Send for Item<T, H> {}

impl<T, H: Handler> Item<T, H> {
    /// An idle item: `init` initialises the object, with [`Self::entry()`] as its function.
    ///
    /// # Safety
    ///
    /// `init` initialises what it gets.
    pub(super) unsafe fn with(init: impl FnOnce(*mut T), handler: H) -> impl PinInit<Self> {
        pin_init!(Self {
            raw <- Opaque::ffi_init(init),
            handler,
        })
    }

    /// The C callback, called with the object or its first member.
    ///
    /// # Safety
    ///
    /// `at` is the object of a live `Self`, whose owner stops the item before it is dropped.
    pub(super) unsafe extern "C" fn entry<A>(at: *mut A) {
        // SAFETY: By the safety requirements of this function; the object is the first member
        // (`repr(C)`), and so is the work_struct of the larger work items.
        let this = unsafe { &*at.cast::<Self>() };
        this.handler.run();
    }

    /// The object, which is initialised.
    pub(super) fn raw(&self) -> *mut T {
        self.raw.get()
    }
}

/// A pointer from a work item to the structure that contains it.
///
/// # Invariants
///
/// The owner is pinned and outlives every run of the handlers: its work items are stopped before it
/// is dropped.
pub(crate) struct OwnerRef<T>(*const T);

impl<T> OwnerRef<T> {
    /// A reference to `owner`, which may not be initialised yet.
    ///
    /// # Safety
    ///
    /// The type invariants hold from the first use on.
    pub(crate) unsafe fn new(owner: NonNull<T>) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(owner.as_ptr())
    }
}

impl<T> Clone for OwnerRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OwnerRef<T> {}

// SAFETY: Only gives a shared reference.
unsafe impl<T: Sync> Sync for OwnerRef<T> {}
// SAFETY: As above.
unsafe impl<T: Sync> Send for OwnerRef<T> {}

impl<T> core::ops::Deref for OwnerRef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { &*self.0 }
    }
}

/// A workqueue.
///
/// # Invariants
///
/// The pointer is a workqueue made by `with()` that lives as long as this value.
pub(crate) struct WorkQueue(*mut bindings::workqueue_struct);

// SAFETY: Workqueues may be used and destroyed from any task.
unsafe impl Send for WorkQueue {}
// SAFETY: As above.
unsafe impl Sync for WorkQueue {}

impl WorkQueue {
    /// Creates an unbound workqueue called `name` that makes progress under memory pressure. Memory
    /// reclaim may wait for its items, so they do not allocate.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        Self::with(name, UNBOUND | MEM_RECLAIM)
    }

    /// Creates a workqueue for items that allocate: unbound, with high priority. Nothing that frees
    /// memory waits for them.
    pub(crate) fn for_refills(name: &'static CStr) -> Result<Self> {
        Self::with(name, UNBOUND | HIGHPRI)
    }

    /// Creates a workqueue whose items run on the CPU that they are queued for.
    pub(crate) fn per_cpu(name: &'static CStr) -> Result<Self> {
        Self::with(name, PERCPU | MEM_RECLAIM)
    }

    fn with(name: &'static CStr, flags: bindings::wq_flags) -> Result<Self> {
        // SAFETY: The format takes the one string that follows.
        let wq = unsafe {
            bindings::alloc_workqueue_noprof(c"%s".as_char_ptr(), flags, 0, name.as_char_ptr())
        };
        if wq.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: Made just now.
        Ok(Self(wq))
    }
}

/// The workqueues of an engine.
#[derive(Clone)]
pub(crate) struct WorkQueues {
    /// For items that memory reclaim may wait for: see [`WorkQueue::new()`].
    pub(crate) reclaim: Arc<WorkQueue>,
    /// For refills, which allocate.
    pub(crate) refill: Arc<WorkQueue>,
    /// For callbacks that can't sleep. Memory reclaim may wait for what they free. High priority,
    /// as they replace softirq context: at normal priority, tasks could queue callbacks faster than
    /// the worker calls them.
    pub(crate) calls: Arc<WorkQueue>,
    /// For callbacks that may sleep.
    pub(crate) sleeping: Arc<WorkQueue>,
}

impl WorkQueues {
    /// Creates them.
    pub(crate) fn new() -> Result<Self> {
        let shared = |wq: Result<WorkQueue>| Ok::<_, Error>(Arc::new(wq?, GFP_KERNEL)?);
        let calls = UNBOUND | HIGHPRI | MEM_RECLAIM;
        Ok(Self {
            reclaim: shared(WorkQueue::new(c"rcu_ptr_reclaim"))?,
            refill: shared(WorkQueue::for_refills(c"rcu_ptr_refill"))?,
            calls: shared(WorkQueue::with(c"rcu_ptr_calls", calls))?,
            sleeping: shared(WorkQueue::with(c"rcu_ptr_sleeping", UNBOUND))?,
        })
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; waits for what is queued.
        unsafe { bindings::destroy_workqueue(self.0) };
    }
}

/// A delayed work item: the handler runs in process context.
///
/// # Context
///
/// It may be queued in any but NMI. With a delay a timer is set, without one a worker is woken: the
/// caller holds none of the locks that these take (timer base; worker pool, `pi_lock`, run queue),
/// and none under which others take them.
pub(crate) type DelayedWork<H> = Item<bindings::delayed_work, H>;

impl<H: Handler> DelayedWork<H> {
    /// An idle item that does not allocate: memory reclaim, and barriers under locks that reclaim
    /// takes, may wait for it.
    pub(crate) fn new(handler: H) -> impl PinInit<Self> {
        Self::of_class(sys::RCU_PTR_WORK_FREES, handler)
    }

    /// An idle item that allocates, with a lockdep class of its own.
    pub(crate) fn for_refills(handler: H) -> impl PinInit<Self> {
        Self::of_class(sys::RCU_PTR_WORK_ALLOCATES, handler)
    }

    /// An idle item that calls destructors of users, if `of_others`: these may take locks that are
    /// held by tasks which wait for other items.
    pub(crate) fn for_destructors(handler: H, of_others: bool) -> impl PinInit<Self> {
        let class = if of_others {
            sys::RCU_PTR_WORK_DESTRUCTS
        } else {
            sys::RCU_PTR_WORK_FREES
        };
        Self::of_class(class, handler)
    }

    /// An idle item that calls callbacks of users: these may wait for other items.
    pub(crate) fn for_calls(handler: H) -> impl PinInit<Self> {
        Self::of_class(sys::RCU_PTR_WORK_CALLS, handler)
    }

    /// As [`Self::for_calls()`], for callbacks that may sleep.
    pub(crate) fn for_sleeping_calls(handler: H) -> impl PinInit<Self> {
        Self::of_class(sys::RCU_PTR_WORK_SLEEPS, handler)
    }

    fn of_class(class: sys::rcu_ptr_work, handler: H) -> impl PinInit<Self> {
        // SAFETY: The shim initialises it; `entry` fits its type.
        let init = move |slot| unsafe {
            sys::rcu_ptr_shim_init_delayed_work(slot, Some(Self::entry), class)
        };
        // SAFETY: As above.
        unsafe { Self::with(init, handler) }
    }

    /// Queues the item to run in `delay` jiffies. Returns `false` if it is queued already; an item
    /// that is running can be queued again.
    pub(crate) fn queue(&self, wq: &WorkQueue, delay: c_ulong) -> bool {
        self.queue_on(WORK_CPU_UNBOUND, wq, delay)
    }

    /// As [`Self::queue()`], to run on `cpu`, or on any CPU if that goes down.
    pub(crate) fn queue_on(&self, cpu: i32, wq: &WorkQueue, delay: c_ulong) -> bool {
        // SAFETY: Both are live and initialised; `cpu` is a possible CPU, or any.
        unsafe { bindings::queue_delayed_work_on(cpu, wq.0, self.raw(), delay) }
    }

    /// As [`Self::queue_on()`], also if it is queued already (`mod_delayed_work_on()`).
    pub(crate) fn modify_on(&self, cpu: i32, wq: &WorkQueue, delay: c_ulong) {
        // SAFETY: As above.
        unsafe { bindings::mod_delayed_work_on(cpu, wq.0, self.raw(), delay) };
    }

    /// Whether the item is queued or its timer is pending. Any context, NMI included.
    pub(crate) fn is_pending(&self) -> bool {
        // SAFETY: The item is initialised.
        unsafe { sys::rcu_ptr_shim_work_pending(self.raw()) }
    }

    /// Runs a delayed item immediately, and waits until the item has run if it was queued, or found
    /// queued, before the call.
    ///
    /// Several callers may wait. None may use mod_delayed_work_on() to run the item earlier: it
    /// removes the item from the worklist, and earlier flushes would no longer wait for it.
    pub(crate) fn flush(&self) {
        // A pending item may be queued behind a running instance of it, so two flushes may be
        // needed. Later instances are not waited for.
        let mut left = if self.is_pending() { 2 } else { 1 };
        while left > 0 {
            // SAFETY: As above.
            if unsafe { bindings::flush_delayed_work(self.raw()) } {
                left -= 1;
            } else if self.is_pending() {
                // A context has marked it as pending, but not inserted it yet, with interrupts
                // disabled.
                gp::cond_resched();
            } else {
                return;
            }
        }
    }

    /// Runs the item now if it is idle or its timer is pending. If it is on the worklist it keeps
    /// its position; mod_delayed_work_on() would move it to the end.
    pub(crate) fn queue_now(&self, wq: &WorkQueue) {
        // SAFETY: The item is initialised.
        if unsafe { sys::rcu_ptr_shim_work_waits(self.raw()) } {
            self.modify(wq, 0);
        } else {
            self.queue(wq, 0);
        }
    }

    /// Runs the item in `delay` jiffies, also if it is queued already.
    pub(crate) fn modify(&self, wq: &WorkQueue, delay: c_ulong) {
        self.modify_on(WORK_CPU_UNBOUND, wq, delay);
    }

    /// Removes the item from its queue and waits until it no longer runs.
    pub(crate) fn cancel_sync(&self) {
        // SAFETY: The item is initialised.
        unsafe { bindings::cancel_delayed_work_sync(self.raw()) };
    }

    /// As [`Self::cancel_sync()`], and the item cannot be queued again
    /// (`disable_delayed_work_sync()`).
    pub(crate) fn shutdown_sync(&self) {
        // SAFETY: The item is initialised.
        unsafe { bindings::disable_delayed_work_sync(self.raw()) };
    }
}

const WORK_CPU_UNBOUND: c_int = bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int;

/// A work item whose handler runs in process context after a grace period.
pub(crate) type RcuWork<H> = Item<bindings::rcu_work, H>;

impl<H: Handler> RcuWork<H> {
    /// An idle item.
    pub(crate) fn new(handler: H) -> impl PinInit<Self> {
        // SAFETY: The shim initialises it; `entry` fits its type.
        let init = |slot| unsafe { sys::rcu_ptr_shim_init_rcu_work(slot, Some(Self::entry)) };
        // SAFETY: As above.
        unsafe { Self::with(init, handler) }
    }

    /// Queues the item to run after a grace period. Returns `false` if it is queued already.
    ///
    /// # Context
    ///
    /// Any but NMI; no lock is held that call_rcu() or a wakeup takes.
    pub(crate) fn queue(&self, wq: &WorkQueue) -> bool {
        // SAFETY: Both are live and initialised.
        unsafe { bindings::queue_rcu_work(wq.0, self.raw()) }
    }

    /// Waits until the queued item has run.
    pub(crate) fn flush(&self) {
        // SAFETY: The item is initialised.
        unsafe { bindings::flush_rcu_work(self.raw()) };
    }

    /// Waits for the item if it is running or on the workqueue; does not wait for its grace period.
    pub(crate) fn flush_running(&self) {
        // SAFETY: The item is initialised. One that waits for its grace period is on no queue yet.
        unsafe { bindings::flush_work(&raw mut (*self.raw()).work) };
    }
}
