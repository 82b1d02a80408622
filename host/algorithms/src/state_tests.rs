// SPDX-License-Identifier: GPL-2.0

//! The state of one CPU of engine `rfc`: random sequences of queueing, batches, grace periods,
//! monitors, refills and hotplug free every object exactly once, and none before a grace period
//! that started after it was queued.

use super::list_tests::{linked, object};
use crate::{
    entry::{split_calls, Call},
    list::Linked,
    platform::Platform,
    rfc::{
        arm::{Kick, Monitor},
        bnode::Bnode,
        state::{
            BatchFill, Channel, ObjectSet, Push, State, BARRIER_BATCH, CHANNELS, MAX_READY_BNODES,
            N_BATCHES,
        },
    },
    stats::{Counter, Stats, NAMES},
};
use proptest::prelude::*;
use std::{
    alloc::{alloc, dealloc, Layout},
    cell::Cell,
    collections::HashMap,
    ptr::NonNull,
};

thread_local! {
    /// Grace periods completed so far.
    static COMPLETED: Cell<u64> = const { Cell::new(0) };
    /// Pages that are allocated.
    pub(crate) static PAGES: Cell<isize> = const { Cell::new(0) };
}

/// Grace periods that the test ends, and blocks of a few slots.
struct Model;

impl Platform for Model {
    type Snap = u64;
    const BLOCK_BYTES: usize = 24 + 4 * 8;

    fn snapshot() -> u64 {
        // The one in progress doesn't count: it may have started before.
        COMPLETED.get() + 2
    }

    fn now() -> u32 {
        COMPLETED.get() as u32
    }

    fn is_over(snap: &u64) -> bool {
        COMPLETED.get() >= *snap
    }
}

const OBJECT_WORDS: usize = (4096 + 16) / 8;

fn page_layout<P: Platform>() -> Layout {
    Layout::from_size_align(P::BLOCK_BYTES, 8).unwrap()
}

/// A block in a page of its own.
pub(crate) fn new_page<P: Platform>() -> Bnode<P> {
    PAGES.set(PAGES.get() + 1);
    // SAFETY: The layout has a size; a fresh page.
    unsafe { Bnode::from_page(NonNull::new(alloc(page_layout::<P>())).unwrap()) }
}

pub(crate) fn free_page<P: Platform>(bnode: Bnode<P>) {
    PAGES.set(PAGES.get() - 1);
    // SAFETY: Every block of these tests comes from `new_page()`.
    unsafe { dealloc(bnode.into_page().as_ptr(), page_layout::<P>()) };
}

fn free_cached(state: &mut State<Model>) {
    let mut cached = state.take_cached();
    std::iter::from_fn(|| cached.pop()).for_each(free_page);
}

#[derive(Debug, Clone)]
enum Step {
    /// Queues an object of this channel with its field in this word.
    Queue(Channel, usize),
    QueueWithBlock(Channel),
    Call,
    /// Queues the last object again, in the same way.
    Again,
    GracePeriod,
    Monitor,
    Work(usize),
    Barrier,
    Limit(usize),
    /// Refills up to this limit.
    Refill(usize),
    Shrink,
    Online(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = || prop_oneof![Just(Channel::Slab), Just(Channel::Vmalloc)];
    let step = prop_oneof![
        8 => (channel(), 0usize..512).prop_map(|(channel, slot)| Step::Queue(channel, slot)),
        4 => Just(Step::Call),
        1 => channel().prop_map(Step::QueueWithBlock),
        1 => Just(Step::Again),
        3 => Just(Step::GracePeriod),
        3 => Just(Step::Monitor),
        4 => (0..N_BATCHES).prop_map(Step::Work),
        1 => Just(Step::Barrier),
        1 => (0usize..4).prop_map(Step::Limit),
        2 => (0usize..4).prop_map(Step::Refill),
        1 => Just(Step::Shrink),
        1 => any::<bool>().prop_map(Step::Online),
    ];
    prop::collection::vec(step, 1..200)
}

/// The state, with the queued objects and the work items.
struct World {
    state: State<Model>,
    /// Queued objects, with the number of grace periods when they were queued.
    live: HashMap<usize, u64>,
    /// The object that was queued last.
    last: Option<(Channel, Linked, Push)>,
    /// The grace periods that the work items wait for.
    waiting: [Option<u64>; N_BATCHES],
    limit: usize,
}

impl World {
    fn new() -> Self {
        COMPLETED.set(0);
        PAGES.set(0);
        Self {
            state: State::new(),
            live: HashMap::new(),
            last: None,
            waiting: [None; N_BATCHES],
            limit: 3,
        }
    }

    fn new_object(&mut self) -> NonNull<u8> {
        let object = NonNull::from(Box::leak(Box::new([0u64; OBJECT_WORDS]))).cast::<u8>();
        self.live.insert(object.as_ptr() as usize, COMPLETED.get());
        object
    }

    fn free_object(&mut self, object: *mut u8) {
        let queued_at = self
            .live
            .remove(&(object as usize))
            .expect("freed twice, or never queued");
        // A grace period that was in progress when it was queued does not count.
        assert!(
            COMPLETED.get() >= queued_at + 2,
            "freed before its grace period"
        );
        // SAFETY: `new_object()` leaked an array of this length.
        drop(unsafe { Box::from_raw(object.cast::<[u64; OBJECT_WORDS]>()) });
    }

    /// Runs a callback, which frees the object of its head. Every other one may sleep.
    fn call(&mut self, call: Call) {
        let head = call.head().as_ptr();
        assert_eq!(call.sleeps(), head.addr() / 16 % 2 == 0, "another kind");
        self.free_object(head);
    }

    fn put(&mut self, bnode: Bnode<Model>) {
        let excess = self.state.put_cached(bnode, self.limit);
        excess.into_iter().for_each(free_page);
    }

    fn free(&mut self, mut objects: ObjectSet<Model>) {
        for channel in CHANNELS {
            while let Some(mut bnode) = objects.bnodes[channel as usize].pop() {
                assert!(bnode.is_ready(), "a block came before its grace period");
                let mut calls = Vec::new();
                let objects = split_calls(bnode.objects(), |call| calls.push(call)).to_vec();
                let is_call = channel == Channel::Call;
                let others = if is_call { objects.len() } else { calls.len() };
                assert_eq!(others, 0);
                for object in objects {
                    self.free_object(object);
                }
                for call in calls {
                    self.call(call);
                }
                self.put(bnode);
            }
        }
        assert!(objects.list.is_sound(|| ()));
        while let Some(linked) = objects.list.pop() {
            assert!(Model::is_over(&objects.list_snap.unwrap()));
            match linked {
                Linked::Object { object, .. } => self.free_object(object.as_ptr()),
                Linked::Call(call) => self.call(call),
            }
        }
    }

    fn drop_cached(&mut self) {
        free_cached(&mut self.state);
        assert_eq!(self.state.nr_cached(), 0);
    }

    /// `queue_rcu_work()`, which does nothing while the work is pending.
    fn queue_work(&mut self, i: usize) {
        self.waiting[i].get_or_insert_with(Model::snapshot);
    }

    fn work(&mut self, i: usize) {
        if self.waiting[i].is_some_and(|snap| Model::is_over(&snap)) {
            self.waiting[i] = None;
            match self.state.take_batch(i) {
                Some(objects) => self.free(objects),
                None => self.queue_work(i),
            }
        }
    }

    /// Frees all objects that were queued before, after one grace period.
    fn barrier(&mut self) {
        let queued: Vec<usize> = self.live.keys().copied().collect();
        self.state.fill_barrier_batch();
        assert_eq!(self.state.queued.len(), 0);
        if self.state.is_waiting() {
            COMPLETED.set(COMPLETED.get() + 2);
        }
        for i in 0..=BARRIER_BATCH {
            let objects = self.state.take_batch(i).expect("a grace period has passed");
            self.free(objects);
        }
        assert!(queued.iter().all(|object| !self.live.contains_key(object)));
    }

    fn trim(&mut self) {
        while let Some(bnode) = self.state.take_excess(self.limit) {
            free_page(bnode);
        }
        assert!(self.state.nr_cached() <= self.limit);
    }

    fn monitor(&mut self) {
        loop {
            let ready = self.state.take_ready();
            assert!(ready
                .bnodes
                .iter()
                .all(|q| q.objects() <= MAX_READY_BNODES * Bnode::<Model>::CAPACITY));
            if ready.is_empty() {
                break;
            }
            self.free(ready);
        }
        match self.state.fill_batch() {
            BatchFill::Batch(i) => {
                assert_eq!(self.state.queued.len(), 0);
                self.queue_work(i);
            }
            BatchFill::Busy => assert!(self.waiting.iter().all(Option::is_some)),
            BatchFill::Nothing => assert_eq!(self.state.queued.len(), 0),
        }
    }

    fn step(&mut self, step: &Step) {
        if !matches!(step, Step::Again | Step::Limit(_) | Step::Refill(_)) {
            self.last = None;
        }
        match *step {
            Step::Queue(channel, slot) => {
                let object = self.new_object();
                // SAFETY: The field lies in the object.
                let field = unsafe { object.add(slot * 8) };
                let linked = Linked::Object { object, field };
                // SAFETY: As above.
                let pushed = unsafe { self.state.push(channel, linked) };
                assert!(matches!(pushed, Push::Block | Push::List));
                self.last = Some((channel, linked, pushed));
            }
            Step::Call => {
                let head = self.new_object().as_ptr();
                let linked = Linked::Call(Call::new(head, head.addr() / 16 % 2 == 0));
                // SAFETY: There is room for a head.
                let pushed = unsafe { self.state.push(Channel::Call, linked) };
                assert!(matches!(pushed, Push::Block | Push::List));
                self.last = Some((Channel::Call, linked, pushed));
            }
            Step::QueueWithBlock(channel) => {
                let object = self.new_object();
                let (pushed, unused) = self.state.push_with(channel, new_page(), object);
                assert_eq!(pushed, Push::Block);
                self.last = Some((channel, linked(object), pushed));
                unused.into_iter().for_each(free_page);
            }
            Step::Again => {
                if let Some((channel, linked, before)) = self.last {
                    let again = match before {
                        Push::Block => self.state.push_bulk(channel, linked.entry()),
                        // SAFETY: The field lies in the object, the head is one.
                        _ => unsafe { self.state.push_list(linked, None) },
                    };
                    assert_eq!(again, Push::Twice);
                }
            }
            Step::GracePeriod => COMPLETED.set(COMPLETED.get() + 1),
            Step::Monitor => self.monitor(),
            Step::Work(i) => self.work(i),
            Step::Barrier => self.barrier(),
            Step::Limit(limit) => {
                self.limit = limit;
                self.trim();
            }
            Step::Refill(limit) => {
                self.limit = limit;
                self.trim();
                while self.state.nr_cached() < limit && self.state.online {
                    self.put(new_page());
                }
            }
            Step::Shrink => {
                self.drop_cached();
                self.monitor();
            }
            Step::Online(online) => {
                self.state.online = online;
                if !online {
                    self.drop_cached();
                }
            }
        }
        assert_eq!(
            self.state.queued.len() + self.state.in_batches(),
            self.live.len(),
            "objects are lost or counted twice"
        );
        assert_eq!(self.state.is_waiting(), self.state.in_batches() > 0);
        let most = if self.state.online { self.limit } else { 0 };
        assert!(self.state.nr_cached() <= most, "too many blocks are kept");
    }

    fn end(mut self) {
        for _ in 0..4 {
            self.monitor();
            COMPLETED.set(COMPLETED.get() + 2);
            for i in 0..N_BATCHES {
                self.work(i);
            }
        }
        self.drop_cached();
        assert!(
            self.live.is_empty(),
            "{} objects are stranded",
            self.live.len()
        );
        assert_eq!(PAGES.get(), 0, "block pages are lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn every_object_is_freed_once_after_its_grace_period(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.end();
    }
}

/// An online state with `cached` blocks. Objects are leaked.
fn online(cached: usize) -> State<Model> {
    COMPLETED.set(0);
    let mut state = State::new();
    state.online = true;
    for _ in 0..cached {
        assert!(state.put_cached(new_page(), cached).is_none());
    }
    state
}

/// Queues an object of `channel`, or a callback.
fn queue(state: &mut State<Model>, channel: Channel) -> Push {
    let object = object();
    let linked = match channel {
        Channel::Call => Linked::Call(Call::new(object.as_ptr(), false)),
        _ => linked(object),
    };
    // SAFETY: There is room for a head, or a field.
    unsafe { state.push(channel, linked) }
}

/// The counters that are not 0.
fn counted(stats: &Stats) -> Vec<(&'static str, u64)> {
    stats.named().filter(|counter| counter.1 != 0).collect()
}

/// Every event is counted, under its name.
#[test]
fn is_counted() {
    let mut state = online(0);
    for (channel, n) in [
        (Channel::Slab, 2),
        (Channel::Vmalloc, 3),
        (Channel::Call, 2),
    ] {
        (0..n).for_each(|_| assert_eq!(queue(&mut state, channel), Push::List));
    }
    assert_eq!(
        counted(&state.stats),
        [("queued_list", 5), ("queued_call_list", 2)]
    );
    let mut state = online(3);
    let calls = [
        (Channel::Slab, 2),
        (Channel::Vmalloc, 3),
        (Channel::Call, 4),
    ];
    for (channel, n) in calls {
        (0..n).for_each(|_| assert_eq!(queue(&mut state, channel), Push::Block));
    }
    for _ in 0..2 {
        // First the open block has no room, then it has.
        let (pushed, unused) = state.push_with(Channel::Call, new_page(), object());
        assert_eq!(pushed, Push::Block);
        unused.into_iter().for_each(free_page);
    }
    assert_eq!(state.queued.len(), 11);
    assert_eq!(
        counted(&state.stats),
        [
            ("queued_slab", 2),
            ("queued_vmalloc", 3),
            ("queued_call", 6)
        ]
    );
    let mut state = online(0);
    let linked = linked(object());
    for pushed in [Push::List, Push::Twice] {
        // SAFETY: There is room for a field.
        let got = unsafe { state.push_list(linked, Some(Counter::QueuedNolock)) };
        assert_eq!(got, pushed);
    }
    assert_eq!(
        counted(&state.stats),
        [("queued_list", 1), ("queued_nolock", 1)]
    );
    let mut state = online(0);
    let fills = [
        BatchFill::Nothing,
        BatchFill::Batch(0),
        BatchFill::Batch(1),
        BatchFill::Busy,
        BatchFill::Busy,
    ];
    for fill in fills {
        assert_eq!(state.fill_batch(), fill);
        queue(&mut state, Channel::Slab);
    }
    assert!(state.fill_barrier_batch() && !state.fill_barrier_batch());
    assert_eq!(
        counted(&state.stats),
        [("queued_list", 5), ("batches", 3), ("batches_busy", 2)]
    );
    let mut state = online(5);
    free_page(state.take_excess(4).expect("one more than these"));
    free_page(state.take_excess(3).expect("one more than these"));
    assert!(state.take_excess(3).is_none());
    assert_eq!(state.stats[Counter::Shrunk], 2);
    free_cached(&mut state);
    assert_eq!(counted(&state.stats), [("shrunk", 5)]);
    let mut sum = state.stats;
    sum += Stats([1; NAMES.len()]);
    assert_eq!(sum[Counter::Shrunk], 6);
    assert_eq!(sum[Counter::Freed], 1);
}

/// Lists and blocks wait since their first object, also when they are reused.
#[test]
fn since_the_first() {
    let mut state = online(1);
    for round in 1..3 {
        COMPLETED.set(10 * round);
        assert_eq!(queue(&mut state, Channel::Slab), Push::Block);
        assert_eq!(queue(&mut state, Channel::Vmalloc), Push::List);
        COMPLETED.set(10 * round + 1);
        assert_eq!(queue(&mut state, Channel::Slab), Push::Block);
        assert_eq!(queue(&mut state, Channel::Vmalloc), Push::List);
        assert_eq!(state.queued.list_since, 10 * round as u32);
        // The grace period is that of the last object.
        COMPLETED.set(10 * round + 2);
        assert!(state.take_ready().is_empty());
        COMPLETED.set(10 * round + 3);
        let mut ready = state.take_ready();
        assert_eq!((ready.len(), state.queued.len()), (4, 0));
        assert_eq!(ready.list_since, 10 * round as u32);
        let bnode = ready.bnodes[Channel::Slab as usize].pop().unwrap();
        assert_eq!((bnode.since(), bnode.len()), (10 * round as u32, 2));
        assert!(state.put_cached(bnode, 1).is_none());
    }
    free_cached(&mut state);
}

/// The monitor is needed as soon as there is an object, and fast for a full block; the irq_work is
/// queued if the monitor is late, or a refill is needed and can start.
#[test]
fn irq_work_is_queued_if_needed() {
    let mut state = online(0);
    assert_eq!(State::<Model>::FAST, 4, "pointers that fit");
    assert_eq!(state.wanted_monitor(), Monitor::Idle);
    assert_eq!(state.kick(Kick::No), Kick::No);
    for n in 1..9 * State::<Model>::FAST {
        queue(&mut state, Channel::Slab);
        let fast = n >= State::<Model>::FAST;
        assert_eq!(
            state.wanted_monitor(),
            if fast { Monitor::Fast } else { Monitor::Slow }
        );
        assert_eq!(state.kick(Kick::No), Kick::Lazy);
        assert_eq!(state.kick(Kick::No), Kick::No);
        // A refill does not wait for the tick.
        assert_eq!(state.kick(Kick::Now), Kick::Now);
        assert_eq!(state.kick(Kick::Now), Kick::No);
        state.arming.irq_work_runs();
    }
    // One refill runs at a time; that of a dead CPU does not start.
    assert!(state.begin_refill() && !state.begin_refill());
    assert!(!state.want_refill(Kick::Now) && !state.begin_refill());
    assert_eq!(state.kick(Kick::Now), Kick::Lazy);
    state.arming.irq_work_runs();
    state.end_refill();
    state.online = false;
    assert!(!state.want_refill(Kick::Now) && !state.begin_refill());
    assert_eq!(state.kick(Kick::Now), Kick::Lazy);
    state.online = true;
    assert!(!state.want_refill(Kick::No) && state.want_refill(Kick::Lazy));
    assert!(state.begin_refill() && !state.begin_refill());
}

/// The list of a batch waits for the grace period of the batch.
#[test]
fn batches_have_one_grace_period() {
    let mut state = online(1);
    for (batch, channels) in [
        &[Channel::Slab][..],
        &[Channel::Vmalloc],
        &[Channel::Slab, Channel::Call],
    ]
    .into_iter()
    .enumerate()
    {
        channels.iter().for_each(|&channel| {
            queue(&mut state, channel);
        });
        COMPLETED.set(COMPLETED.get() + 1);
        if batch == BARRIER_BATCH {
            assert!(state.fill_barrier_batch());
        } else {
            assert_eq!(state.fill_batch(), BatchFill::Batch(batch));
        }
        let (objects, snap) = state.batch(batch);
        assert_eq!(snap, Some(Model::snapshot()));
        let list_snap = (!objects.list.is_empty()).then(Model::snapshot);
        assert_eq!(objects.list_snap, list_snap);
        assert_eq!(objects.list.is_empty(), batch == 0);
    }
}
