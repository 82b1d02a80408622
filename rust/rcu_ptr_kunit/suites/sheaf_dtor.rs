// SPDX-License-Identifier: GPL-2.0

//! The destructor of a cache: it runs once for each use of an object, after the grace period and
//! before the next use, on every path; and objects that destructors free.

use super::sheaf_calls;
use crate::{callback::Gate, prelude::*, provoke, sys::cache::Handle, table::DESTRUCTOR};
use ::core::{cell::Cell, ptr};

fn with(dtor: Option<cache::ObjectFn>) -> Args {
    Args {
        dtor,
        ..Args::default()
    }
}

/// The cache that destructors of nodes free into, and counts of their calls.
pub(super) struct DtorContext {
    pub(super) cache: Cell<Option<Handle>>,
    destructed: Atomic<u64>,
    /// Calls for objects that were not freed.
    pub(super) wrong: Atomic<u64>,
    /// How long each call sleeps, in milliseconds.
    pub(super) naps: Atomic<u32>,
}

// SAFETY: The cache is set before objects are allocated.
unsafe impl Sync for DtorContext {}

impl DtorContext {
    pub(super) const fn new() -> Self {
        Self {
            cache: Cell::new(None),
            destructed: Atomic::new(0),
            wrong: Atomic::new(0),
            naps: Atomic::new(0),
        }
    }

    pub(super) fn destructed(&self) -> u64 {
        self.destructed.load(Relaxed)
    }
}

const FREED: u64 = 0xf0ee_0000_0d0d_0001;
const DONE: u64 = 0xd0e0_0000_0d0d_0002;

/// An object that owns the next.
#[repr(C)]
pub(super) struct Node {
    state: Atomic<u64>,
    next: *mut Node,
    ctx: *const DtorContext,
}

/// # Safety
///
/// `object` is a node.
pub(super) unsafe extern "C" fn destruct_node(object: *mut c_void) {
    // SAFETY: By the safety requirements of this function; the context outlives the cache.
    let (node, ctx) = unsafe { (&*object.cast::<Node>(), &*(*object.cast::<Node>()).ctx) };
    if node.state.xchg(DONE, Full) != FREED {
        ctx.wrong.add(1, Relaxed);
    }
    if let (Some(next), Some(cache)) = (NonNull::new(node.next), ctx.cache.get()) {
        // SAFETY: A live object of the cache, owned by this one.
        unsafe { free(cache, next) };
    }
    let naps = ctx.naps.load(Relaxed);
    if naps > 0 {
        thread::sleep(naps);
    }
    ctx.destructed.add(1, Relaxed);
}

/// # Safety
///
/// `node` is a live object of `cache` that the caller owns.
pub(super) unsafe fn free(cache: Handle, node: NonNull<Node>) {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        node.as_ref().state.store(FREED, Relaxed);
        cache.free_rcu(node.cast());
    }
}

/// Creates a cache of nodes.
fn node_cache(name: &CStr, ctx: &DtorContext) -> Result<SheafCache> {
    node_cache_with(name, ctx, Args::default())
}

/// Creates a cache of nodes with the arguments `args`.
pub(super) fn node_cache_with(name: &CStr, ctx: &DtorContext, args: Args) -> Result<SheafCache> {
    let args = Args {
        dtor: Some(destruct_node),
        ..args
    };
    let cache = SheafCache::new(name, SIZE, args)?;
    ctx.cache.set(Some(cache.handle()));
    Ok(cache)
}

/// Allocates a list of `n` nodes, each of which owns the next.
pub(super) fn list(cache: &SheafCache, ctx: &DtorContext, n: usize) -> Result<NonNull<Node>> {
    let mut first = ptr::null_mut();
    for _ in 0..n {
        let node = cache.alloc(false).ok_or(ENOMEM)?.cast::<Node>();
        let value = Node {
            state: Atomic::new(0),
            next: first,
            ctx,
        };
        // SAFETY: A new object, large enough.
        unsafe { node.write(value) };
        first = node.as_ptr();
    }
    NonNull::new(first).ok_or(EINVAL)
}

/// Frees `n` single nodes.
pub(super) fn free_some(cache: &SheafCache, ctx: &DtorContext, n: usize) -> Result {
    for _ in 0..n {
        let node = list(cache, ctx, 1)?;
        // SAFETY: An object of this cache, owned by the caller.
        unsafe { free(cache.handle(), node) };
    }
    Ok(())
}

/// Frees `n` single nodes with interrupts off while there is no memory for a sheaf.
pub(super) fn free_without_a_sheaf(cache: &SheafCache, ctx: &DtorContext, n: usize) -> Result {
    let mut held = KVVec::<NonNull<Node>>::new();
    for _ in 0..n {
        held.push(list(cache, ctx, 1)?, GFP_KERNEL)?;
    }
    fault::fail_alloc(1, u64::MAX);
    cpu::irqs_off(|| {
        for &node in &held {
            // SAFETY: An object of this cache, owned by the caller.
            unsafe { free(cache.handle(), node) };
        }
    });
    fault::fail_alloc(0, 0);
    Ok(())
}

/// # Safety
///
/// `object` has [`SIZE`] bytes.
pub(super) unsafe extern "C" fn scribble(object: *mut c_void) {
    // SAFETY: By the safety requirements of this function.
    unsafe { object.cast::<u8>().write_bytes(0xdd, SIZE) };
}

/// Frees objects beside readers, with a destructor that overwrites them: readers find none broken,
/// while a barrier runs and while the cache is destroyed.
pub(super) fn destruct_under_readers(n: usize, args: Args) -> Result {
    let barrier: fn(SheafCache) = |cache| cache.barrier();
    for end in [barrier, drop] {
        let args = Args {
            dtor: Some(scribble),
            ..args
        };
        let cache = SheafCache::new(c"rcu_ptr_dtor_seen", SIZE, args)?;
        let seen = sheaf_calls::free_under_readers(cache, n, 60, end)?;
        check!(seen.checks > 100 * n && seen.broken == 0)?;
    }
    Ok(())
}

static GATE: Gate = Gate::new();

/// # Safety
///
/// There are no requirements.
unsafe extern "C" fn wait_at_gate(_object: *mut c_void) {
    GATE.wait();
}

#[kunit_tests(rcu_ptr_sheaf_dtor)]
mod tests {
    use super::*;

    /// All functions, on a table.
    #[test]
    fn once_for_each_use() -> Result {
        for (capacity, flags) in [
            (0, 0),
            (1, 0),
            (7, alloc::TYPESAFE),
            (56, alloc::POISON_CHECKED),
            (3, alloc::POISON_CHECKED | alloc::TYPESAFE),
        ] {
            let args = Args {
                sheaf_capacity: capacity,
                ..with(DESTRUCTOR)
            };
            let cache = SheafCache::with_flags(c"rcu_ptr_dtor", SIZE, args, flags)?;
            let table = Table::with_destructor(&cache, 50)?;
            table.under_readers(|| {
                for i in table.rounds(1000) {
                    table.replace(i, Alloc::Sleep);
                    cpu::irqs_off(|| table.replace(i * 7, Alloc::Nolock));
                    table.check(i);
                    table.alloc_and_free(Alloc::Atomic);
                    if i % 200 == 0 {
                        core::barrier();
                    }
                }
            })?;
            let off = table.dtor_imbalance();
            check!(table.violations() == Violations::default())?;
            check!(off == 0 && cache.stats().destructed > 2000)?;
        }
        Ok(())
    }

    /// Objects that return to the slab without having been allocated are not destructed.
    #[test]
    fn not_for_unused_objects() -> Result {
        let ctx = DtorContext::new();
        let cache = node_cache(c"rcu_ptr_dtor_stock", &ctx)?;
        cache.prefill(200)?;
        let object = cache.alloc(false).ok_or(ENOMEM)?.cast::<Node>();
        params::shrink()?;
        core::barrier();
        let (unused, stats) = (ctx.destructed(), cache.stats());
        // SAFETY: A new object of this cache, owned by the caller.
        unsafe {
            object.write(Node {
                state: Atomic::new(0),
                next: ptr::null_mut(),
                ctx: &ctx,
            });
            free(cache.handle(), object);
        }
        drop(cache);
        check!(unused == 0 && stats.destructed == 0 && stats.slab_allocs > 200)?;
        check!(ctx.destructed() == 1 && ctx.wrong.load(Relaxed) == 0)
    }

    /// The destruction of a cache waits for all destructors.
    #[test]
    fn at_the_end() -> Result {
        let _restore = params::no_drain()?;
        for n in [1, 10, 57, 500, 5000] {
            let ctx = DtorContext::new();
            let cache = node_cache(c"rcu_ptr_dtor_end", &ctx)?;
            free_some(&cache, &ctx, n)?;
            drop(cache);
            check!(ctx.destructed() == n as u64 && ctx.wrong.load(Relaxed) == 0)?;
        }
        Ok(())
    }

    /// The destruction waits for objects that destructors free, recursively.
    #[test]
    fn objects_that_own_others() -> Result {
        let ctx = DtorContext::new();
        let cache = node_cache(c"rcu_ptr_dtor_list", &ctx)?;
        let mut nodes = 0;
        for n in [1, 2, 30, 3] {
            let first = list(&cache, &ctx, n)?;
            // SAFETY: An object of this cache, owned by the caller.
            unsafe { free(cache.handle(), first) };
            nodes += n as u64;
        }
        core::barrier();
        // At least the first node of each list.
        let first = ctx.destructed();
        drop(cache);
        check!(first >= 4 && first < nodes)?;
        check!(ctx.destructed() == nodes && ctx.wrong.load(Relaxed) == 0)
    }

    /// Without memory for a sheaf, and with interrupts off, objects wait without a sheaf.
    #[test]
    fn without_a_sheaf() -> Result {
        let ctx = DtorContext::new();
        let cache = node_cache(c"rcu_ptr_dtor_stray", &ctx)?;
        free_without_a_sheaf(&cache, &ctx, 1000)?;
        let early = ctx.destructed();
        // The tick starts their grace period.
        let by_themselves = bound::soon(|| ctx.destructed() > 800);
        core::barrier();
        let (all, stats) = (ctx.destructed(), cache.stats());
        drop(cache);
        check!(early == 0 && by_themselves && all == 1000)?;
        check!(stats.engine_fallback > 800 && stats.destructed == 1000)?;
        check!(ctx.wrong.load(Relaxed) == 0)
    }

    /// One of them is freed twice, which breaks their list: the barrier returns, and waits for
    /// those that are freed later.
    #[test]
    fn broken_list() -> Result {
        const OBJECTS: usize = 200;
        let ctx = DtorContext::new();
        let cache = node_cache(c"rcu_ptr_dtor_broken", &ctx)?;
        let mut nodes = KVVec::<NonNull<Node>>::new();
        for _ in 0..OBJECTS {
            nodes.push(list(&cache, &ctx, 1)?, GFP_KERNEL)?;
        }
        provoke::broken_list(|| {
            fault::fail_alloc(1, u64::MAX);
            cpu::irqs_off(|| {
                for &node in Iterator::chain(nodes.iter(), &nodes[OBJECTS - 2..OBJECTS - 1]) {
                    // SAFETY: An object of this cache; the double free is intended.
                    unsafe { free(cache.handle(), node) };
                }
            });
            fault::fail_alloc(0, 0);
            core::barrier();
        });
        let before = ctx.destructed();
        ctx.naps.store(1, Relaxed);
        free_without_a_sheaf(&cache, &ctx, OBJECTS)?;
        core::barrier();
        let later = ctx.destructed() - before;
        ctx.naps.store(0, Relaxed);
        // The first ones may have found a slot; what was lost belongs to this test again.
        let lost = &nodes[before as usize..];
        for &node in lost {
            // SAFETY: An object of this cache, owned by the caller.
            unsafe { cache.free(node.cast()) };
        }
        drop(cache);
        check!(lost.len() > 2)?;
        check!(later == OBJECTS as u64)
    }

    /// Nothing is destructed while a reader may have it.
    #[test]
    fn after_a_grace_period() -> Result {
        for n in [3, 57, 500] {
            destruct_under_readers(n, Args::default())?;
        }
        Ok(())
    }

    /// Both barriers wait until slow destructors have returned.
    #[test]
    fn barriers_wait_for_it() -> Result {
        let ctx = DtorContext::new();
        let cache = node_cache(c"rcu_ptr_dtor_slow", &ctx)?;
        ctx.naps.store(20, Relaxed);
        let mut seen = [0; 4];
        for (i, seen) in seen.iter_mut().enumerate() {
            free_some(&cache, &ctx, 10)?;
            if i % 2 == 0 {
                cache.barrier();
            } else {
                core::barrier();
            }
            *seen = ctx.destructed();
        }
        ctx.naps.store(0, Relaxed);
        check!(seen == [10, 20, 30, 40])
    }

    /// The barrier of a cache waits for the objects of every CPU, in closed and open sheaves, and
    /// without a sheaf.
    #[test]
    fn barrier_of_all_cpus() -> Result {
        let _restore = params::no_drain()?;
        let ctx = DtorContext::new();
        let cache = node_cache(c"rcu_ptr_dtor_cpus", &ctx)?;
        let failed = Atomic::<i32>::new(0);
        let mut missing = [0; 6];
        for (i, missing) in missing.iter_mut().enumerate() {
            let n = [3, 70, 300][i % 3];
            let body = |_: i32| {
                failed.add(i32::from(free_some(&cache, &ctx, n).is_err()), Relaxed);
            };
            let before = ctx.destructed();
            thread::on_cpus(cpu::online(), &body, || ())?;
            cache.barrier();
            *missing = n * cpu::online().count() - (ctx.destructed() - before) as usize;
        }
        drop(cache);
        check!(missing == [0; 6] && failed.load(Relaxed) == 0)
    }

    /// A CPU goes down with waiting objects.
    #[test]
    fn dead_cpu() -> Result {
        let cpu = other_cpu!();
        let _restore = params::no_drain()?;
        let ctx = DtorContext::new();
        let cache = node_cache(c"rcu_ptr_dtor_dead", &ctx)?;
        cpus::on(cpu, || free_some(&cache, &ctx, 300))??;
        let down = Down::take(cpu)?;
        let came = bound::soon(|| ctx.destructed() == 300);
        down.up()?;
        drop(cache);
        check!(came && ctx.wrong.load(Relaxed) == 0)
    }

    /// The monitor closes the sheaf of an idle CPU, and so does the shrinker.
    #[test]
    fn by_monitor_and_shrinker() -> Result {
        let ctx = DtorContext::new();
        let cache = node_cache(c"rcu_ptr_dtor_idle", &ctx)?;
        let came = {
            let _restore = params::quick_drain()?;
            free_some(&cache, &ctx, 3)?;
            bound::within(params::QUICK_DRAIN_MSECS, || ctx.destructed() == 3)
        };
        let shrunk = {
            let _restore = params::no_drain()?;
            free_some(&cache, &ctx, 3)?;
            let mut result = Ok(());
            let shrunk = bound::soon(|| {
                result = params::shrink();
                result.is_err() || ctx.destructed() == 6
            });
            result?;
            shrunk
        };
        for _ in 0..3 {
            free_some(&cache, &ctx, 200)?;
            cache.barrier();
        }
        drop(cache);
        check!(came && shrunk && ctx.wrong.load(Relaxed) == 0)
    }

    /// Objects that a destructor frees into another cache, which outlives it.
    #[test]
    fn owns_another_cache() -> Result {
        let (inner, outer) = (DtorContext::new(), DtorContext::new());
        let leaves = node_cache(c"rcu_ptr_dtor_leaf", &inner)?;
        let cache = SheafCache::new(c"rcu_ptr_dtor_owner", SIZE, with(Some(destruct_node)))?;
        // Its nodes own nodes of the other cache.
        outer.cache.set(Some(leaves.handle()));
        for _ in 0..300 {
            let leaf = list(&leaves, &inner, 1)?;
            let owner = list(&cache, &outer, 1)?;
            // SAFETY: Not shared, and owned by the caller.
            unsafe {
                (*owner.as_ptr()).next = leaf.as_ptr();
                free(cache.handle(), owner);
            }
        }
        drop(cache);
        let owners = outer.destructed();
        drop(leaves);
        check!(owners == 300 && inner.destructed() == 300)?;
        check!(inner.wrong.load(Relaxed) + outer.wrong.load(Relaxed) == 0)
    }

    /// A destructor blocks while another task waits for other caches: sheaves of these that the
    /// barrier has closed don't wait for the destructor.
    #[test]
    fn others_do_not_wait_for_it() -> Result {
        let _restore = params::no_drain()?;
        let new = |name, dtor| SheafCache::new(name, SIZE, with(dtor));
        let scribbles = Some(scribble as cache::ObjectFn);
        let others = [
            new(c"rcu_ptr_gate_plain", None)?,
            new(c"rcu_ptr_gate_dtor", scribbles)?,
        ];
        let cache = new(c"rcu_ptr_gate", Some(wait_at_gate))?;
        let later = [
            new(c"rcu_ptr_gate_plain2", None)?,
            new(c"rcu_ptr_gate_dtor2", scribbles)?,
        ];
        let ends = new(c"rcu_ptr_gate_ends", scribbles)?;
        for cache in [&others[0], &others[1], &cache, &ends, &later[0], &later[1]] {
            drop(cache.hold()?);
        }
        GATE.reset();
        let body = |_: i32| core::barrier();
        let reached = thread::on_cpus(cpu::online().take(1), &body, || {
            let reached = bound::wait_with_timeout(|| GATE.entered() > 0);
            others.iter().for_each(SheafCache::barrier);
            later.iter().for_each(SheafCache::barrier);
            drop(ends);
            GATE.open();
            reached
        })?;
        drop((cache, others, later));
        check!(reached && GATE.late() == 0)
    }
}
