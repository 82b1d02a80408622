// SPDX-License-Identifier: GPL-2.0

//! A table whose entries own memory, to copy from: which tasks sleep, since when, and where. No
//! `unsafe` in here.
//!
//! ```text
//!  sched_switch  a task that goes to sleep gets an entry, which owns its stack trace; the one that
//!                wakes up loses its own. Interrupts are off and the run queue is locked:
//!                kmalloc(), kfree(), call_rcu() and all that wakes a task can't be used here
//!  task          reads /sys/kernel/debug/rcu_ptr_sleepers/sleepers, under RCU
//! ```
//!
//! A removed entry is dropped after a grace period, and its stack trace with it: a destructor runs
//! then, in a worker. When the module is unloaded there are always some that still wait. Nothing
//! has to be done about them: rcu_ptr.ko keeps the module's code until they are dropped.
//!
//! For PREEMPT_RT take the entries from a `Cache`: kmalloc_nolock() must not be called there with
//! the lock of a run queue held.

#[path = "../../api/mod.rs"]
pub mod rcu_ptr;
// The files of rust/sys that this module uses (docs/reading.md). `shared`: others use the rest.
#[path = "../../sys"]
mod sys {
    pub(crate) mod generated;
    pub(crate) mod switches;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod tracepoint;
}

use kernel::{
    debugfs, fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu, Arc,
    },
    time::{Instant, Monotonic},
};
use rcu_ptr::{RcuKBox, RcuSlot};
use sys::switches::{self, OnSwitch, Switch, Switches, Symbol};

module! {
    type: Module,
    name: "rcu_ptr_sleepers",
    authors: ["The rcu_ptr authors"],
    description: "Example of rcu_ptr in Rust: which tasks sleep, and where",
    license: "GPL",
    params: {
        buckets: u32 {
            default: 64,
            description: "buckets of the table, of 4 entries each (1..65536)",
        },
    },
}

/// Entries of a bucket. A handler has no time for long chains.
const WAYS: usize = 4;
/// Frames of a stack trace.
const DEPTH: usize = 24;

/// Where a task was when it went to sleep.
struct Trace {
    frames: [usize; DEPTH],
    len: usize,
}

/// A task that sleeps.
struct Sleeper {
    pid: i32,
    name: [u8; switches::NAME],
    since: Instant<Monotonic>,
    /// Memory of its own, if there was any.
    trace: Option<RcuKBox<Trace>>,
}

/// Events since the module was loaded. Static: the last entries are dropped when the rest is gone.
struct Counts {
    added: Atomic<u64>,
    /// Removed because the task came back; to make room for another.
    woken: Atomic<u64>,
    evicted: Atomic<u64>,
    /// Dropped after their grace period.
    dropped: Atomic<u64>,
    /// No memory for an entry, or for its trace.
    missed: Atomic<u64>,
    traceless: Atomic<u64>,
}

static COUNTS: Counts = Counts {
    added: Atomic::new(0),
    woken: Atomic::new(0),
    evicted: Atomic::new(0),
    dropped: Atomic::new(0),
    missed: Atomic::new(0),
    traceless: Atomic::new(0),
};

fn count(n: &Atomic<u64>) {
    n.add(1, Relaxed);
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // The trace goes after this.
        count(&COUNTS.dropped);
    }
}

impl Sleeper {
    fn of(switch: &Switch<'_>) -> Self {
        let mut trace = Trace {
            frames: [0; DEPTH],
            len: 0,
        };
        trace.len = switch.trace(&mut trace.frames);
        let trace = RcuKBox::new_nolock(trace).ok();
        if trace.is_none() {
            count(&COUNTS.traceless);
        }
        Self {
            pid: switch.prev(),
            name: switch.name(),
            since: Instant::now(),
            trace,
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = CStr::from_bytes_until_nul(&self.name).unwrap_or(c"?");
        let millis = self.since.elapsed().as_millis();
        f.write_fmt(fmt!("pid={} name={} ms={}\n", self.pid, name, millis))?;
        let Some(trace) = &self.trace else {
            return Ok(());
        };
        trace
            .frames
            .iter()
            .take(trace.len)
            .try_for_each(|&ip| f.write_fmt(fmt!("    {}\n", Symbol(ip))))
    }
}

/// The table.
struct Table {
    buckets: usize,
    slots: KVVec<RcuSlot<RcuKBox<Sleeper>>>,
}

impl Table {
    fn new(buckets: usize) -> Result<Arc<Self>> {
        let mut slots = KVVec::with_capacity(buckets * WAYS, GFP_KERNEL)?;
        for _ in 0..buckets * WAYS {
            slots.push(RcuSlot::new(), GFP_KERNEL)?;
        }
        Ok(Arc::new(Self { buckets, slots }, GFP_KERNEL)?)
    }

    fn bucket(&self, pid: i32) -> &[RcuSlot<RcuKBox<Sleeper>>] {
        let first = (pid as usize).checked_rem(self.buckets).unwrap_or(0) * WAYS;
        self.slots.get(first..first + WAYS).unwrap_or(&[])
    }

    /// Adds an entry for the task that goes to sleep.
    fn add(&self, switch: &Switch<'_>) {
        let Ok(mut new) = RcuKBox::new_nolock(Sleeper::of(switch)) else {
            return count(&COUNTS.missed);
        };
        let bucket = self.bucket(new.pid);
        count(&COUNTS.added);
        for slot in bucket {
            match slot.put(new) {
                Ok(()) => return,
                Err(back) => new = back,
            }
        }
        // Evict the task that has slept longest.
        let guard = rcu::read_lock();
        let age =
            |slot: &RcuSlot<RcuKBox<Sleeper>>| slot.load(&guard).map(|seen| seen.since.elapsed());
        if let Some(slot) = bucket
            .iter()
            .max_by_key(|slot| age(slot).map(|age| age.as_nanos()))
        {
            if slot.swap(Some(new)).is_some() {
                count(&COUNTS.evicted);
            }
        }
    }

    /// Removes the entry of a task that wakes up.
    fn remove(&self, pid: i32) {
        let guard = rcu::read_lock();
        for slot in self.bucket(pid) {
            if let Some(seen) = slot.load(&guard).filter(|seen| seen.pid == pid) {
                // Dropping it is safe here: its destructor runs later, in a worker.
                if slot.remove(seen).is_some() {
                    count(&COUNTS.woken);
                }
            }
        }
    }
}

impl OnSwitch for Table {
    fn on_switch(&self, switch: &Switch<'_>) {
        self.remove(switch.next());
        if switch.sleeps {
            self.add(switch);
        }
    }
}

fn show(table: &Arc<Table>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let n = [
        ("added", &COUNTS.added),
        ("woken", &COUNTS.woken),
        ("evicted", &COUNTS.evicted),
        ("dropped", &COUNTS.dropped),
        ("missed", &COUNTS.missed),
        ("traceless", &COUNTS.traceless),
    ];
    for (name, n) in n {
        write!(f, "{}={} ", name, n.load(Relaxed))?;
    }
    writeln!(f)?;
    for slot in table.slots.iter() {
        // An entry stays as it is while it is shown, though its task may wake up meanwhile.
        let guard = rcu::read_lock();
        if let Some(sleeper) = slot.load(&guard) {
            sleeper.show(f)?;
        }
    }
    Ok(())
}

/// Dropped in this order: no more reads begin and no entries are added when the table goes.
#[pin_data(PinnedDrop)]
struct Module {
    #[pin]
    file: debugfs::File<Arc<Table>>,
    dir: debugfs::Dir,
    switches: Option<Switches>,
    table: Arc<Table>,
}

impl kernel::InPlaceModule for Module {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let buckets = module_parameters::buckets.value() as usize;
        try_pin_init!(Self {
            table: {
                if !(1..=65536).contains(&buckets) {
                    return Err(EINVAL);
                }
                Table::new(buckets)?
            },
            switches: Some(Switches::new(table.clone())?),
            dir: debugfs::Dir::new(c"rcu_ptr_sleepers"),
            file <- dir.read_callback_file(c"sleepers", table.clone(), &show),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Module {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        *this.switches = None;
        let table: &Table = this.table;
        let left = table
            .slots
            .iter()
            .filter(|slot| slot.swap(None).is_some())
            .count() as u64;
        let [added, woken, evicted, dropped] = [
            &COUNTS.added,
            &COUNTS.woken,
            &COUNTS.evicted,
            &COUNTS.dropped,
        ]
        .map(|n| n.load(Relaxed));
        pr_info!(
            "{} entries added, {} removed: {} woken, {} evicted, {} at the end; {} are still to be dropped\n",
            added,
            woken + evicted + left,
            woken,
            evicted,
            left,
            added.saturating_sub(dropped)
        );
    }
}
