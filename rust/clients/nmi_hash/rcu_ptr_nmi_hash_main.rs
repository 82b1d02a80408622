// SPDX-License-Identifier: GPL-2.0

//! An example of use in NMI: a profiler whose perf handler adds entries to an RCU hash table and
//! evicts old ones, while others read it. Without `unsafe`.
//!
//! ```text
//!  NMI      cycles overflow, or the watched word is written: looks its entry up, adds one if there
//!           is none (alloc_nolock()), in place of the oldest if the bucket is full
//!  softirq  a timer begins a new phase now and then, and removes entries of old phases
//!  task     reads /sys/kernel/debug/rcu_ptr_nmi_hash/entries
//! ```
//!
//! A removed entry is freed after a grace period (free_rcu() in NMI), and its memory is allocated
//! again for a new one. At unload every entry that was added must have been removed, once.

#[path = "../../api/mod.rs"]
pub mod rcu_ptr;
// The files of rust/sys that this module uses (docs/reading.md). `shared`: others use the rest.
#[path = "../../sys"]
#[expect(dead_code, unused_imports, reason = "shared")]
mod sys {
    pub(crate) mod cpu;
    pub(crate) mod generated;
    pub(crate) mod irq;
    pub(crate) mod perf;
    pub(crate) mod smp;
    pub(crate) mod static_ref;
}

use kernel::{
    debugfs, fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu, Arc, ArcBorrow,
    },
    time::{
        hrtimer::{
            ArcHrTimerHandle, HrTimer, HrTimerCallback, HrTimerCallbackContext, HrTimerPointer,
            HrTimerRestart, RelativeSoftMode,
        },
        Delta, Monotonic,
    },
};
use rcu_ptr::{Cache, CacheTable};
use sys::perf::{Events, OnSample};

module! {
    type: NmiHash,
    name: "rcu_ptr_nmi_hash",
    authors: ["The rcu_ptr authors"],
    description: "Example of rcu_ptr in NMI: a profiler with an RCU hash table",
    license: "GPL",
    params: {
        buckets: u32 {
            default: 64,
            description: "buckets of the hash table, of 4 entries each (1..65536)",
        },
        period: u64 {
            default: 100_000,
            description: "cycles between two samples",
        },
    },
}

/// Entries of a bucket. A handler has no time for long chains.
const WAYS: usize = 4;
/// Phases that each tick of the timer begins, and their time in all.
const PHASES: u64 = 8;
const TICK_NANOS: i64 = 1_000_000;
/// An entry stays for this many phases.
const KEPT: u64 = 64;

/// What was executed in one phase. No field for RCU: the cache needs none.
struct Entry {
    ip: Atomic<usize>,
    phase: Atomic<u64>,
    hits: Atomic<u64>,
    /// Follows from the two: an entry that changes under a reader shows.
    check: Atomic<u64>,
}

fn check_of(ip: usize, phase: u64) -> u64 {
    !(ip as u64 ^ phase.rotate_left(32))
}

impl Entry {
    fn new(ip: usize, phase: u64) -> Self {
        Self {
            ip: Atomic::new(ip),
            phase: Atomic::new(phase),
            hits: Atomic::new(1),
            check: Atomic::new(check_of(ip, phase)),
        }
    }

    fn is(&self, ip: usize, phase: u64) -> bool {
        self.ip.load(Relaxed) == ip && self.phase.load(Relaxed) == phase
    }
}

/// Events since the module was loaded.
struct Counts {
    nmis: Atomic<u64>,
    elsewhere: Atomic<u64>,
    added: Atomic<u64>,
    /// Removed in the handler, for another.
    evicted: Atomic<u64>,
    /// Removed by the timer.
    aged: Atomic<u64>,
    /// No object at hand.
    missed: Atomic<u64>,
    /// Reads of entries, and entries that were found changed.
    looks: Atomic<u64>,
    torn: Atomic<u64>,
}

fn count(n: &Atomic<u64>) {
    n.add(1, Relaxed);
}

/// The profile.
#[pin_data]
struct Profile {
    #[pin]
    timer: HrTimer<Self>,
    buckets: usize,
    /// The word that is watched where there is no PMU.
    phase: Atomic<u64>,
    counts: Counts,
    table: CacheTable<Entry>,
}

kernel::impl_has_hr_timer! {
    impl HasHrTimer<Self> for Profile {
        mode: RelativeSoftMode<Monotonic>, field: self.timer
    }
}

impl Profile {
    fn new(buckets: usize) -> Result<Arc<Self>> {
        let cache = Cache::new(c"rcu_ptr_nmi_hash")?;
        // For the first NMIs. Later the cache has what they need.
        cache.prefill(256)?;
        let table = CacheTable::new(cache, buckets * WAYS)?;
        Arc::pin_init(
            pin_init!(Self {
                timer <- HrTimer::new(),
                buckets,
                phase: Atomic::new(0),
                counts: Counts {
                    nmis: Atomic::new(0),
                    elsewhere: Atomic::new(0),
                    added: Atomic::new(0),
                    evicted: Atomic::new(0),
                    aged: Atomic::new(0),
                    missed: Atomic::new(0),
                    looks: Atomic::new(0),
                    torn: Atomic::new(0),
                },
                table,
            }),
            GFP_KERNEL,
        )
    }

    /// The slots of the bucket of an entry.
    fn bucket(&self, ip: usize, phase: u64) -> impl Iterator<Item = usize> {
        let hash = (ip as u64 ^ phase << 48 ^ phase).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let first = hash.checked_rem(self.buckets as u64).unwrap_or(0) as usize * WAYS;
        first..first + WAYS
    }

    /// Counts one sample.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    fn record(&self, ip: usize, phase: u64) {
        let guard = rcu::read_lock();
        let mut oldest = (u64::MAX, 0);
        for i in self.bucket(ip, phase) {
            match self.table.load(i, &guard) {
                Some(entry) if entry.is(ip, phase) => return count(&entry.hits),
                Some(entry) => oldest = oldest.min((entry.phase.load(Relaxed), i)),
                None => (),
            }
        }
        let Ok(new) = self.table.cache().alloc_nolock(Entry::new(ip, phase)) else {
            return count(&self.counts.missed);
        };
        count(&self.counts.added);
        // Two CPUs that see the same for the first time may each add an entry. A profile can bear
        // that: their sum is right.
        let mut new = new.share();
        for i in self.bucket(ip, phase) {
            match self.table.put(i, new) {
                Ok(()) => return,
                Err(back) => new = back,
            }
        }
        // What was there is freed after a grace period.
        if self.table.swap(oldest.1, Some(new)).is_some() {
            count(&self.counts.evicted);
        }
    }

    /// Removes entries of old phases.
    fn age(&self) {
        let now = self.phase.load(Relaxed);
        for i in 0..self.table.len() {
            let guard = rcu::read_lock();
            if let Some(entry) = self.table.load(i, &guard) {
                let is_old = entry.phase.load(Relaxed) + KEPT < now;
                if is_old && self.table.remove(i, entry).is_some() {
                    count(&self.counts.aged);
                }
            }
        }
    }

    /// Reads an entry repeatedly, to notice if it is allocated again meanwhile.
    fn look(&self, entry: &Entry) -> (usize, u64, u64) {
        let (ip, phase) = (entry.ip.load(Relaxed), entry.phase.load(Relaxed));
        for _ in 0..100 {
            if !entry.is(ip, phase) || entry.check.load(Relaxed) != check_of(ip, phase) {
                count(&self.counts.torn);
                break;
            }
        }
        count(&self.counts.looks);
        (ip, phase, entry.hits.load(Relaxed))
    }
}

impl OnSample for Profile {
    fn on_sample(&self, ip: usize, in_nmi: bool) {
        if in_nmi {
            count(&self.counts.nmis);
        } else {
            count(&self.counts.elsewhere);
        }
        self.record(ip, self.phase.load(Relaxed));
    }
}

impl HrTimerCallback for Profile {
    type Pointer<'a> = Arc<Self>;

    fn run(this: ArcBorrow<'_, Self>, mut ctx: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        for _ in 0..PHASES {
            // Not only read and written back: with a watchpoint each is an NMI, right here.
            this.phase.fetch_add(1, Relaxed);
        }
        this.age();
        ctx.forward_now(Delta::from_nanos(TICK_NANOS));
        HrTimerRestart::Restart
    }
}

fn show(profile: &Arc<Profile>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let n = &profile.counts;
    writeln!(
        f,
        "nmis={} elsewhere={} added={} evicted={} aged={} missed={} looks={} torn={}",
        n.nmis.load(Relaxed),
        n.elsewhere.load(Relaxed),
        n.added.load(Relaxed),
        n.evicted.load(Relaxed),
        n.aged.load(Relaxed),
        n.missed.load(Relaxed),
        n.looks.load(Relaxed),
        n.torn.load(Relaxed)
    )?;
    for i in 0..profile.table.len() {
        let seen = {
            let guard = rcu::read_lock();
            profile.table.load(i, &guard).map(|e| profile.look(e))
        };
        if let Some((ip, phase, hits)) = seen {
            writeln!(f, "ip={ip:#x} phase={phase} hits={hits}")?;
        }
    }
    Ok(())
}

/// Dropped in this order: no more reads, samples or phases begin when the profile goes.
#[pin_data(PinnedDrop)]
struct NmiHash {
    #[pin]
    file: debugfs::File<Arc<Profile>>,
    dir: debugfs::Dir,
    events: Option<Events>,
    timer: Option<ArcHrTimerHandle<Profile>>,
    profile: Arc<Profile>,
}

impl kernel::InPlaceModule for NmiHash {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let buckets = module_parameters::buckets.value() as usize;
        let period = module_parameters::period.value();
        try_pin_init!(Self {
            profile: {
                if !(1..=65536).contains(&buckets) || period == 0 {
                    return Err(EINVAL);
                }
                Profile::new(buckets)?
            },
            events: {
                let cycles = Events::cycles(profile.clone(), period);
                let source = if cycles.is_ok() { "cycles" } else { "writes" };
                // On a machine without a PMU the phases themselves are what is seen.
                let events = cycles.or_else(|_| Events::writes(profile.clone(), |p| &p.phase))?;
                pr_info!("samples {}\n", source);
                Some(events)
            },
            timer: Some(profile.clone().start(Delta::from_nanos(TICK_NANOS))),
            dir: debugfs::Dir::new(c"rcu_ptr_nmi_hash"),
            file <- dir.read_callback_file(c"entries", profile.clone(), &show),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for NmiHash {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        *this.events = None;
        *this.timer = None;
        let profile: &Profile = this.profile;
        let mut live = 0u64;
        let n = &profile.counts;
        for i in 0..profile.table.len() {
            live += u64::from(profile.table.swap(i, None).is_some());
        }
        let removed = n.evicted.load(Relaxed) + n.aged.load(Relaxed) + live;
        let nmis = n.nmis.load(Relaxed);
        pr_info!(
            "{} entries added, {} removed: {} evicted, {} aged, {} at the end; {} NMIs\n",
            n.added.load(Relaxed),
            removed,
            n.evicted.load(Relaxed),
            n.aged.load(Relaxed),
            live,
            nmis
        );
        // The cache is destroyed with the profile, and complains if an entry is missing.
    }
}
