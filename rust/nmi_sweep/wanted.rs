// SPDX-License-Identifier: GPL-2.0

//! What a sweep of the core module has to hit: every instruction of the functions that objects pass
//! through, and a share of each part of the source.

/// A function of which every instruction has to be hit.
pub(crate) struct Wanted {
    /// The name, or a path whose words are in the mangled name in this order.
    pub(crate) name: &'static str,
    /// Instructions that may be left: the number that full-length sweeps leave, and a few more.
    pub(crate) most: usize,
    /// Why these are not hit.
    pub(crate) reason: &'static str,
}

const fn all_of(name: &'static str) -> Wanted {
    all_but(0, name, "")
}

const fn all_but(most: usize, name: &'static str, reason: &'static str) -> Wanted {
    Wanted { name, most, reason }
}

// Why instructions are left.
const PREEMPT: &str = "a task becomes ready while preemption is off";
const TWICE: &str = "queued twice, or overwritten: suite misuse";
const CPUS: &str = "another CPU interferes";
const DOWN: &str = "a CPU is neither up nor dead";
const ZERO: &str = "kernels that zero freed objects, and KFENCE";
const BARN: &str = "the interrupted context holds the barn lock";
const LATE: &str = "the monitor is brought forward again";
const REFUSED: &str = "there is neither a sheaf nor a page, and no reserve";
const BUSY: &str = "all batches wait, or another context takes over";
const FREED: &str = "an object is freed twice: suite sheaf_bounds";
const SPENT: &str = "eight spent sheaves wait, or the barn is locked";
const LEAK: &str = "objects are leaked: a cyclic list (suite misuse), a grace period not over";
const NONE: &str = "no block, and the caller can't wait";

const LOCKLESS: &[Wanted] = &[
    // Insertion, and its slow path: cursor, push and close.
    all_of("__rcu_ptr_kvfree"),
    all_of("__rcu_ptr_kfree_nolock"),
    all_but(4, "__rcu_ptr_try_kfree_nolock", PREEMPT),
    all_of("rcu_ptr_rs_kvfree_no_slot"),
    all_of("rcu_ptr_rs_call_no_slot"),
    all_of("lockless::store_in_next"),
    all_but(4, "exports::try_kfree_nolock_no_slot", PREEMPT),
    all_but(60, "lockless::store_or_link", LATE),
    all_but(8, "lockless::insert::close", CPUS),
    all_of("lockless::Lockless::queue_nolock"),
    all_but(14, "lockless::Lockless::Engine::call", NONE),
    all_but(4, "lockless::Slow::BlockCpu::on_closed", LATE),
    all_but(4, "lockless::Slow::BlockCpu::on_opened", LATE),
    all_but(4, "lockless::Slow::BlockCpu::take_block", LATE),
    all_but(20, "lockless::Slow::BlockCpu::put_block", CPUS),
    all_but(8, "lockless::drain::close_there", CPUS),
    // The monitor and the batches.
    all_of("lockless::MonitorTimer::Handler::run"),
    all_of("lockless::CollectWork::Handler::run"),
    all_of("lockless::drain::CollectCtx::Collect::batch_filled"),
    all_but(8, "lockless::batches::Batches::fill", BUSY),
    all_but(15, "lockless::drain::start_batch", BUSY),
    all_but(36, "lockless::drain::free", TWICE),
    all_of("lockless::Batches::is_any_over"),
    all_of("lockless::Krcp::free_batch"),
    all_of("lockless::PolledWork::Handler::run"),
    // The barrier.
    all_but(21, "lockless::barrier::barrier", BUSY),
    all_of("lockless::barrier::flush_expired_batches"),
];

const RFC: &[Wanted] = &[
    // Insertion, blocks and the list.
    all_but(12, "rcu_ptr_rs_kvfree", TWICE),
    all_but(12, "rcu_ptr_rs_kfree_nolock", TWICE),
    all_of("rfc::State::push_in_cached"),
    all_but(60, "rfc::Krcp::with_locked", BUSY),
    all_but(12, "rfc::Rfc::Engine::try_queue_nolock", TWICE),
    all_but(25, "rfc::Rfc::Engine::call", TWICE),
    all_but(4, "rfc::blocks::start", CPUS),
    // Deferral.
    all_but(9, "rfc::queue::defer", TWICE),
    all_but(36, "rfc::queue::requeue_deferred", BUSY),
    all_but(46, "rfc::deferred::requeue_some", TWICE),
    all_but(4, "rfc::DeferWork::Handler::run", BUSY),
    // The monitor and the batches.
    all_but(5, "rfc::drain::arm", CPUS),
    all_but(10, "rfc::drain::run", CPUS),
    all_but(80, "rfc::drain::free_objects", LEAK),
    // The barrier.
    all_of("rfc::barrier::barrier"),
    all_of("rfc::RfcBarrier::start"),
    all_but(5, "rfc::RfcBarrier::free_expired_batches", BUSY),
];

/// For both engines.
const BOTH: &[Wanted] = &[
    // Callbacks.
    all_of("rcu_ptr_call"),
    all_of("rcu_ptr_call_sleepable"),
    all_but(18, "calls::Calls::add", TWICE),
    all_but(22, "calls::CallWork::Handler::run", TWICE),
    all_but(18, "calls::SleepWork::Handler::run", TWICE),
    // Caches: the fast paths, and the slow paths behind them.
    all_of("__rcu_ptr_cache_alloc"),
    all_but(4, "rcu_ptr_cache_alloc_nolock", PREEMPT),
    all_of("rcu_ptr_cache_free_rcu"),
    all_but(5, "rcu_ptr_cache_free", FREED),
    all_but(8, "sheaves::alloc::again", ZERO),
    all_but(8, "sheaves::alloc::again_nolock", ZERO),
    all_but(40, "sheaves::alloc::slow", REFUSED),
    all_but(30, "sheaves::alloc::slow_nolock", REFUSED),
    all_but(85, "sheaves::alloc::no_slot", REFUSED),
    // Exchange of sheaves.
    all_but(10, "sheaves::exchange::any_reused", ZERO),
    all_but(4, "sheaves::exchange::close", CPUS),
    all_of("sheaves::exchange::install"),
    all_but(48, "sheaves::exchange::keep_full", BARN),
    all_but(16, "sheaves::exchange::next_object", BARN),
    all_but(50, "sheaves::exchange::push_spent", SPENT),
    all_but(14, "sheaves::exchange::retire", BARN),
    all_but(9, "sheaves::exchange::find_empty", BARN),
    all_but(36, "sheaves::exchange::take_reused", FREED),
    all_of("sheaves::HereCtx::exchange::CacheCpu::put_empty"),
    all_but(16, "sheaves::HereCtx::exchange::CacheCpu::put_full", BARN),
    all_but(5, "sheaves::HereCtx::exchange::CacheCpu::take_empty", BARN),
    all_but(6, "sheaves::HereCtx::exchange::CacheCpu::take_full", BARN),
    all_of("sheaves::HereCtx::exchange::CacheCpu::take_reserved"),
    all_of("sheaves::Cache::free_to_slab"),
    // The monitor, the batches and the processing after the grace period.
    all_but(4, "sheaves::monitor::queue_irq_work", LATE),
    all_but(9, "sheaves::CacheIrqWork::Handler::run", BUSY),
    all_but(7, "sheaves::Cache::start_batches", BUSY),
    all_of("sheaves::CacheBatches::any_over"),
    all_but(5, "sheaves::batches::gp_over", PREEMPT),
    all_of("sheaves::reclaim::call"),
    all_but(160, "sheaves::reclaim::into_rest", FREED),
    all_of("sheaves::reclaim::add_to_backlog"),
    all_but(12, "sheaves::reclaim::leave_closed", BARN),
    all_but(66, "sheaves::reclaim::put_chain", ZERO),
    // The barrier.
    all_but(165, "sheaves::barrier::close_on", DOWN),
];

/// The functions for an engine.
pub(crate) fn of(lockless: bool) -> impl Iterator<Item = &'static Wanted> {
    let engine = if lockless { LOCKLESS } else { RFC };
    engine.iter().chain(BOTH)
}

impl Wanted {
    /// Whether `mangled` is the name of the function: each word follows its length there.
    pub(crate) fn is(&self, mangled: &str) -> bool {
        if self.name == mangled {
            return true;
        }
        if !self.name.contains("::") {
            return false;
        }
        let mut rest = mangled;
        self.name.split("::").all(|word| {
            let is_whole = |&(at, _): &(usize, &str)| {
                let before = rest[..at].trim_end_matches(|c: char| c.is_ascii_digit());
                rest[before.len()..at].parse() == Ok(word.len())
            };
            let found = rest.match_indices(word).find(is_whole);
            if let Some((at, _)) = found {
                rest = &rest[at + word.len()..];
            }
            found.is_some()
        })
    }
}

/// A part of the source.
#[derive(PartialEq, Eq)]
pub(crate) struct Part {
    folder: &'static str,
    /// For the log.
    pub(crate) name: &'static str,
    /// The share that has to be hit, in 1/1000 of the instructions that can be: at full length, and
    /// in the short form on a host that builds a kernel meanwhile.
    pub(crate) shares: [usize; 2],
}

const fn part(folder: &'static str, name: &'static str, shares: [usize; 2]) -> Part {
    Part {
        folder,
        name,
        shares,
    }
}

const LOCKLESS_PART: Part = part("rust/rcu_ptr/lockless/", "engine lockless", [850, 300]);
const RFC_PART: Part = part("rust/rcu_ptr/rfc/", "engine rfc", [850, 200]);

/// All parts: a source line belongs to the first one whose folder it is in.
pub(crate) static PARTS: [Part; 6] = [
    LOCKLESS_PART,
    RFC_PART,
    part("rust/rcu_ptr/sheaves/", "caches", [760, 280]),
    part("rust/rcu_ptr/", "common to engines", [720, 180]),
    part("rust/sys/", "bindings", [730, 220]),
    // Code from outside of this tree: headers, trace events, Rust crates.
    part("", "headers and events", [560, 100]),
];

impl Part {
    /// Whether a source line belongs to this part.
    pub(crate) fn has(&self, source: &str) -> bool {
        let first = PARTS.iter().find(|part| source.starts_with(part.folder));
        first == Some(self)
    }

    /// Whether it is the engine that is not loaded.
    pub(crate) fn is_of_other_engine(&self, lockless: bool) -> bool {
        *self == if lockless { RFC_PART } else { LOCKLESS_PART }
    }
}
