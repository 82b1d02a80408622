// SPDX-License-Identifier: GPL-2.0

//! Model of a cache for the tests: CPUs, small sheaves, one barn, and objects that detect when they
//! are allocated twice, or before their grace period is over.
//!
//! Each [`Flaw`] breaks one property, outside of the algorithm's text, and must make a test fail.

use crate::{
    hook::step,
    platform::LocalWord,
    sheaves::{
        arm::{self, Armed, Monitored},
        barn::Stock,
        cursor::{Cursor, LocalList, LocalPtr, Quiescent, NONE},
        exchange::{
            any_object, close_all, close_partial, put_object, take_stock, take_waiting, CacheCpu,
            Words, REUSE,
        },
        fastpath::{self, FastPath, Freed, Missed},
        geometry::{Slot, SHEAF_BYTES, SLOTS},
        reserve::Reserve,
        sheaf::{EmptySheaf, FullSheaf, Owned, Rest, SheafChain, Stamp},
    },
    sync::{AtomicLink, AtomicUsize, Mutex, MutexGuard, RwLock},
};
use std::{
    alloc::{alloc, dealloc, Layout},
    collections::{HashMap, HashSet},
    ptr::{without_provenance_mut, NonNull},
    sync::{
        self,
        atomic::Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

/// The property that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// A reservation is a read and a write.
    ReserveInTwoSteps,
    /// A sheaf is exchanged without a check whether another context changed the cursor meanwhile.
    ExchangeDoesNotBar,
    /// An object is taken from a reuse slot in two steps.
    ReuseInTwoSteps,
    /// An emptied sheaf is filled again while interrupted contexts may read from it.
    EmptiedNotAwaited,
    /// A used-up rcu sheaf is read, and its objects allocated, before its grace period.
    FilledNotAwaited,
    /// Preemption is enabled during operations.
    Preemptible,
    /// There is no reserve: a locked barn looks empty.
    NoReserve,
    /// Every closed sheaf is destructed, stock included.
    StockDestructed,
}

const ALLOC: usize = 0;
const RCU: usize = 1;
const SPARE_FULL: usize = 2;
const SPARE_EMPTY: usize = 3;
const SPENT: usize = 4;
const CLOSED: usize = 5;
const SPENT_LEN: usize = 6;
const CLOSED_LEN: usize = 7;
const MONITOR: usize = 8;
const REUSED: usize = 9;
const WORDS: usize = REUSED + REUSE;

/// The value of word `i` of a CPU without sheaves.
fn nothing(i: usize) -> usize {
    if i == ALLOC || i == RCU {
        NONE
    } else {
        0
    }
}

/// A word of a CPU.
#[derive(Clone, Copy)]
pub(crate) struct Word<'a> {
    value: &'a AtomicUsize,
    flaw: Flaw,
    is_cursor: bool,
}

// A context that interrupts another sees everything that this did, in program order, and vice
// versa. For threads, that is acquire and release.
impl LocalWord for Word<'_> {
    fn load(self) -> usize {
        step();
        self.value.load(Acquire)
    }

    fn fetch_add(self, n: usize) -> usize {
        step();
        if self.flaw == Flaw::ReserveInTwoSteps {
            let value = self.value.load(Acquire);
            step();
            self.value.store(value + n, Release);
            return value;
        }
        self.value.fetch_add(n, AcqRel)
    }

    fn cmpxchg(self, old: usize, new: usize) -> usize {
        step();
        match self.flaw {
            Flaw::ExchangeDoesNotBar if self.is_cursor => {
                self.value.store(new, Release);
                old
            }
            Flaw::ReuseInTwoSteps if !self.is_cursor => {
                let value = self.value.load(Acquire);
                if value == old {
                    step();
                    self.value.store(new, Release);
                }
                value
            }
            _ => match self.value.compare_exchange(old, new, AcqRel, Acquire) {
                Ok(was) | Err(was) => was,
            },
        }
    }
}

/// State of an object, as its users know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Held,
    /// In the cache, freed in this grace period; `None` if freed at once.
    Free(Option<u64>),
}

/// Memory of sheaves, freed on drop.
#[derive(Default)]
pub(crate) struct Memory(pub(crate) Vec<NonNull<u8>>);

fn layout() -> Layout {
    Layout::from_size_align(SHEAF_BYTES, SHEAF_BYTES).unwrap()
}

impl Memory {
    pub(crate) fn sheaf(&mut self) -> EmptySheaf {
        // SAFETY: The layout has a size.
        let memory = NonNull::new(unsafe { alloc(layout()) }).unwrap();
        for i in 0..SLOTS {
            // SAFETY: Slots are at the start of a sheaf, and fit.
            unsafe { memory.cast::<Slot>().add(i).write(Slot::new()) };
        }
        self.0.push(memory);
        // SAFETY: Fresh memory of the right size and alignment.
        unsafe { EmptySheaf::from_memory(memory, std::ptr::null()) }
    }

    /// A sheaf with `objects`.
    pub(crate) fn full(&mut self, objects: &[usize]) -> FullSheaf {
        let pointers: Vec<_> = objects.iter().map(|&o| without_provenance_mut(o)).collect();
        self.sheaf().fill(&pointers)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for memory in &self.0 {
            for i in 0..SLOTS {
                // SAFETY: Written when the sheaf was made.
                unsafe { memory.cast::<Slot>().add(i).drop_in_place() };
            }
            // SAFETY: Allocated with this layout.
            unsafe { dealloc(memory.as_ptr(), layout()) };
        }
    }
}

/// Bookkeeping outside of the sheaves.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) objects: HashMap<usize, State>,
    next: usize,
    pub(crate) sheaves: Memory,
    /// Number of completed grace periods.
    completed: u64,
    /// Number of sheaves counted as waiting for a grace period.
    counted: usize,
    /// Chains, with the number of the grace period that they wait for.
    waiting: Vec<(u64, SheafChain)>,
    /// CPUs with a queued irq_work.
    pub(crate) irq_work_queued: HashSet<usize>,
    /// CPUs whose irq_work arms the monitor, and those whose monitor is queued: in how many
    /// jiffies.
    arming: HashSet<usize>,
    queued: HashMap<usize, usize>,
    pub(crate) nesting_warnings: usize,
    /// A sheaf is being allocated.
    pub(crate) allocating: bool,
    pub(crate) double_frees: Vec<usize>,
    /// Another CPU holds the lock of the barn.
    pub(crate) barn_is_held: bool,
    /// Objects that were allocated since they were last destructed.
    used: HashSet<usize>,
    /// Objects that were freed, by calls that have returned, and are not in a barn yet.
    freed: HashSet<usize>,
}

/// Capacity of the reserve.
const MAX_RESERVE: usize = 16;

/// An empty reserve of `slots`, of which `keep` are promised.
pub(crate) fn ring(slots: usize, keep: usize) -> Reserve<Vec<AtomicLink>> {
    Reserve::new((0..slots).map(|_| AtomicLink::new(0)).collect(), keep)
}

/// The drain interval, in jiffies.
const INTERVAL: usize = 2;

/// Maximum number of contexts inside operations at the same time, for loom's threads.
const CONTEXTS: usize = 3;

/// A cache.
pub(crate) struct Model {
    cpus: Vec<[AtomicUsize; WORDS]>,
    stock: Mutex<Stock>,
    reserve: Reserve<Vec<AtomicLink>>,
    capacity: usize,
    max_sheaves: usize,
    /// Grace periods: an operation with preemption disabled holds the read lock of its context, a
    /// waiter takes all write locks. One lock for all would order contexts among each other.
    rcu: [RwLock<()>; CONTEXTS],
    flaw: Flaw,
    /// Not loom's lock: it must not order anything. No thread switch happens while it is held.
    books: sync::Mutex<Books>,
}

// SAFETY: As in the kernel: words are atomic, and slots have one writer, ordered before the reader
// by a grace period (which is what loom checks).
unsafe impl Sync for Model {}
// SAFETY: As above.
unsafe impl Send for Model {}

/// A context of a CPU.
#[derive(Clone, Copy)]
pub(crate) struct Ctx<'a> {
    pub(crate) model: &'a Model,
    pub(crate) cpu: usize,
    /// The thread under loom; 0 otherwise.
    pub(crate) context: usize,
    pub(crate) preemptible: bool,
    pub(crate) may_wait: bool,
}

impl Model {
    /// Creates `cpus` CPUs and `full` full sheaves in the barn, of `capacity` objects. At most
    /// `max_sheaves` sheaves exist.
    pub(crate) fn new(
        cpus: usize,
        full: usize,
        capacity: usize,
        max_sheaves: usize,
        flaw: Flaw,
    ) -> Self {
        let model = Self {
            cpus: (0..cpus)
                .map(|_| std::array::from_fn(|i| AtomicUsize::new(nothing(i))))
                .collect(),
            stock: Mutex::new(Stock::new(64)),
            reserve: ring(MAX_RESERVE, 0),
            capacity,
            max_sheaves,
            rcu: [(); CONTEXTS].map(|()| RwLock::new(())),
            flaw,
            books: sync::Mutex::default(),
        };
        for _ in 0..full {
            let objects: Vec<_> = (0..capacity)
                .map(|_| model.new_object(State::Free(None)))
                .collect();
            let sheaf = model.books().sheaves.full(&objects);
            model.stock.lock().unwrap().put_full(sheaf);
        }
        model
    }

    /// Adds `n` objects to the reserve, as a worker does.
    pub(crate) fn prefill(&self, n: usize) {
        for _ in 0..n {
            let object = self.new_object(State::Free(None));
            assert!(self.reserve.put(object), "no slot in the reserve");
        }
    }

    fn new_object(&self, state: State) -> usize {
        let mut books = self.books();
        books.next += 8;
        let object = books.next;
        books.objects.insert(object, state);
        if state == State::Held {
            books.used.insert(object);
        }
        object
    }

    fn new_sheaf(&self) -> Option<EmptySheaf> {
        let mut books = self.books();
        (books.sheaves.0.len() < self.max_sheaves).then(|| books.sheaves.sheaf())
    }

    pub(crate) fn books(&self) -> sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// Runs `f` with preemption disabled.
    fn preempt_off<R>(&self, context: usize, f: impl FnOnce() -> R) -> R {
        let guard = (self.flaw != Flaw::Preemptible).then(|| self.rcu[context].read().unwrap());
        let ret = f();
        drop(guard);
        ret
    }

    fn on_alloc(&self, object: usize) -> usize {
        let mut books = self.books();
        let completed = books.completed;
        let state = books
            .objects
            .get_mut(&object)
            .expect("allocated: no object");
        match *state {
            State::Held => panic!("allocated twice: {object}"),
            State::Free(Some(gp)) if gp >= completed => panic!("allocated early: {object}"),
            State::Free(waited) => {
                *state = State::Held;
                let first = books.used.insert(object);
                assert!(first || waited.is_none(), "not destructed: {object}");
            }
        }
        object
    }

    fn on_free(&self, object: usize, waits: bool) {
        let mut books = self.books();
        let state = State::Free(waits.then_some(books.completed));
        let was = books.objects.insert(object, state);
        assert_eq!(was, Some(State::Held), "freed and held");
    }

    /// A new object of the slab.
    pub(crate) fn from_slab(&self) -> usize {
        self.new_object(State::Held)
    }

    /// Ends a grace period: everything that began to wait before it is moved to the barn by the
    /// next [`Model::callbacks()`]. No operation is in progress.
    pub(crate) fn grace_period(&self) {
        self.rcu.iter().for_each(|rcu| drop(rcu.write().unwrap()));
        self.books().completed += 1;
    }

    /// Runs the callbacks of grace periods that are over.
    pub(crate) fn callbacks(&self) {
        loop {
            let chain = {
                let mut books = self.books();
                let completed = books.completed;
                let ready = books.waiting.iter().position(|w| w.0 <= completed);
                ready.map(|i| books.waiting.remove(i).1)
            };
            match chain {
                Some(chain) => self.take_in(chain),
                None => return,
            }
        }
    }

    fn take_in(&self, mut chain: SheafChain) {
        let mut left = self.max_sheaves;
        while let Some(mut sheaf) = chain.pop() {
            let stamp = sheaf.take_stamp();
            left = left.checked_sub(1).expect("a sheaf is there twice");
            let was_freed = sheaf.holds_freed() || self.flaw == Flaw::StockDestructed;
            // SAFETY: A grace period has passed, or a flaw is to be detected.
            let rest = unsafe { sheaf.into_rest() };
            if let (true, Rest::Full(sheaf)) = (was_freed, &rest) {
                sheaf
                    .slots()
                    .iter()
                    .for_each(|slot| self.destruct(slot.load()));
            }
            self.store(rest);
            if let Some(stamp) = stamp {
                self.uncount(stamp);
            }
        }
    }

    /// The destructor.
    fn destruct(&self, object: usize) {
        let mut books = self.books();
        books.freed.remove(&object);
        assert!(
            books.used.remove(&object),
            "destructed without a use: {object}"
        );
    }

    fn uncount(&self, stamp: Stamp) {
        assert_eq!(stamp.number(), 1, "a stamp of another place");
        let mut books = self.books();
        books.counted = books.counted.checked_sub(1).expect("uncounted twice");
    }

    fn store(&self, rest: Rest) {
        let mut stock = self.stock.lock().unwrap();
        match rest {
            Rest::Full(sheaf) => stock.put_full(sheaf),
            Rest::Empty(sheaf) => stock.put_empty(sheaf),
        }
    }

    /// A preemptible context of `cpu`, outside of interrupts.
    pub(crate) fn task(&self, cpu: usize) -> Ctx<'_> {
        Ctx {
            model: self,
            cpu,
            context: 0,
            preemptible: true,
            may_wait: true,
        }
    }

    /// A context that may have interrupted another.
    pub(crate) fn nmi(&self, cpu: usize) -> Ctx<'_> {
        Ctx {
            preemptible: false,
            may_wait: false,
            ..self.task(cpu)
        }
    }

    /// Takes the stock off a CPU on which no operation is in progress.
    fn store_stock(&self, words: &Words<Word<'_>>) {
        // No context is interrupted, and they have no objects.
        self.take_in(words.spent.take());
        // SAFETY: No operation is in progress on this CPU.
        let quiescent = unsafe { Quiescent::assume() };
        take_stock(words, &quiescent)
            .into_iter()
            .flatten()
            .for_each(|rest| self.store(rest));
    }

    /// Takes everything off `cpu`: it is dead, or the monitor runs there.
    pub(crate) fn take_off(&self, cpu: usize) {
        let at = self.task(cpu);
        let words = at.words();
        at.start_grace_period(close_all(&words, || at.count(), |stamp| at.uncount(stamp)));
        self.store_stock(&words);
        self.books().queued.remove(&cpu);
        self.cpus[cpu][MONITOR].store(arm::IDLE, Relaxed);
    }

    /// Runs the monitor on `cpu`, whose sheaves have been installed for a drain interval, or have
    /// not.
    pub(crate) fn monitor(&self, cpu: usize, is_due: bool) {
        self.books().queued.remove(&cpu);
        let left = if is_due { 0 } else { 1 };
        arm::run(&mut Monitor {
            at: self.task(cpu),
            left,
        });
        let queued = self.books().queued.get(&cpu).copied();
        assert!(
            is_due || queued == Some(left),
            "what is left waits for longer: {queued:?}"
        );
    }

    /// Moves everything to the barn, and checks that all objects and sheaves are there, once.
    pub(crate) fn check_all(self) {
        let mut objects: Vec<usize> = Vec::new();
        for cpu in 0..self.cpus.len() {
            self.take_off(cpu);
            for i in 0..REUSE {
                let object = self.cpus[cpu][REUSED + i].swap(0, Relaxed);
                objects.extend((object != 0).then_some(object));
            }
        }
        for word in self.cpus.iter().flat_map(|cpu| &cpu[SPENT_LEN..MONITOR]) {
            assert_eq!(word.load(Relaxed), 0, "sheaves of a list without any");
        }
        self.grace_period();
        self.grace_period();
        self.callbacks();
        let mut sheaves = HashSet::new();
        let mut stock = self.stock.lock().unwrap();
        while let Some(sheaf) = stock.take_full() {
            let mut out = [std::ptr::null_mut(); SLOTS];
            let (n, sheaf) = sheaf.empty_into(&mut out);
            assert!(n > 0, "a full sheaf without objects");
            objects.extend(out[..n].iter().map(|o| o.addr()));
            assert!(sheaves.insert(sheaf.into_addr()), "a sheaf is there twice");
        }
        while let Some(sheaf) = stock.take_empty() {
            assert!(sheaves.insert(sheaf.into_addr()), "a sheaf is there twice");
        }
        drop(stock);
        objects.extend(std::iter::from_fn(|| self.reserve.take()));
        let books = self.books();
        assert_eq!(books.counted, 0, "counted, and not there");
        assert_eq!(
            sheaves.len(),
            books.sheaves.0.len(),
            "sheaves there and made"
        );
        objects.sort_unstable();
        let mut free: Vec<usize> = books
            .objects
            .iter()
            .filter(|(_, &state)| state != State::Held)
            .map(|(&object, _)| object)
            .collect();
        free.sort_unstable();
        assert_eq!(objects, free, "objects there and freed");
    }

    /// Checks, at any step, that a barrier would find freed objects: sheaves to close, or a count
    /// to wait for.
    pub(crate) fn check_barrier(&self) {
        let books = self.books();
        let may_hold = |cpu: &[AtomicUsize; WORDS]| {
            cpu[RCU].load(Relaxed) != NONE || cpu[CLOSED].load(Relaxed) != 0
        };
        assert!(
            self.flaw != Flaw::None
                || books.freed.is_empty()
                || books.counted > 0
                || self.cpus.iter().any(may_hold),
            "a barrier misses objects"
        );
    }

    /// The number of spent sheaves of `cpu`.
    pub(crate) fn count_spent(&self, cpu: usize) -> usize {
        let mut n = 0;
        let list = self.task(cpu).words().spent;
        let mut chain = list.take();
        let mut back = Vec::new();
        while let Some(sheaf) = chain.pop() {
            n += 1;
            back.push(sheaf);
        }
        for sheaf in back.into_iter().rev() {
            list.push(sheaf);
        }
        assert_eq!(list.len.load(), n, "spent sheaves, and their number");
        n
    }

    /// Whether the irq_work of `cpu` is queued if sheaves are closed there.
    pub(crate) fn is_irq_work_queued(&self, cpu: usize) -> bool {
        self.cpus[cpu][CLOSED].load(Relaxed) == 0 || self.books().irq_work_queued.contains(&cpu)
    }

    /// Whether the monitor of `cpu` is armed, or not needed.
    pub(crate) fn is_monitored(&self, cpu: usize) -> bool {
        let is_set = |i: usize| self.cpus[cpu][i].load(Relaxed) != nothing(i);
        let books = self.books();
        books.arming.contains(&cpu)
            || books.queued.contains_key(&cpu)
            || ![ALLOC, RCU, SPARE_FULL, SPARE_EMPTY, SPENT]
                .into_iter()
                .chain(REUSED..REUSED + REUSE)
                .any(is_set)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Stock>> {
        let held = self.books().barn_is_held;
        self.stock.try_lock().ok().filter(|_| !held)
    }
}

impl<'a> Ctx<'a> {
    fn word(self, i: usize) -> Word<'a> {
        Word {
            value: &self.model.cpus[self.cpu][i],
            flaw: self.model.flaw,
            is_cursor: i == ALLOC || i == RCU,
        }
    }

    /// `alloc_nolock()`, without kmalloc_nolock().
    pub(crate) fn alloc(self) -> Option<usize> {
        let object = self.model.preempt_off(self.context, || {
            let object = match fastpath::alloc(self) {
                Ok(object) => Some(object),
                Err(Missed::Reuse) => fastpath::alloc_reused(self),
                Err(Missed::UsedUp) => None,
            };
            object.or_else(|| any_object(self))
        });
        object.map(|object| self.model.on_alloc(object))
    }

    /// `free_rcu()`; returns `false` if the object went to the engine.
    pub(crate) fn free_rcu(self, object: usize) -> bool {
        self.model.on_free(object, true);
        let taken = self.model.preempt_off(self.context, || {
            fastpath::free_rcu(self, object) || put_object(self, object)
        });
        let mut books = self.model.books();
        if taken {
            books.freed.insert(object);
        } else {
            books.objects.remove(&object);
        }
        taken
    }

    /// `free()`.
    pub(crate) fn free(self, object: usize) {
        self.model.on_free(object, false);
        let taken = self
            .model
            .preempt_off(self.context, || match fastpath::free(self, object) {
                Freed::Taken => true,
                Freed::NoSlot => put_object(self, object),
                Freed::Twice => panic!("freed twice: {object}"),
            });
        if !taken {
            self.model.books().objects.remove(&object);
        }
    }

    /// The irq_work: starts the grace period of closed sheaves, and queues the monitor.
    pub(crate) fn tick(self) {
        self.model.books().arming.remove(&self.cpu);
        let chain = take_waiting(&self.words());
        self.start_grace_period(chain);
        if self.armed().set_armed() {
            let mut books = self.model.books();
            books.queued.entry(self.cpu).or_insert(INTERVAL);
        }
    }

    fn armed(self) -> Armed<Word<'a>> {
        Armed(self.word(MONITOR))
    }

    fn arm(self) {
        if self.armed().arm() {
            self.model.books().arming.insert(self.cpu);
        }
    }
}

impl Ctx<'_> {
    fn take_two<S>(self, take: impl Fn(&mut Stock) -> Option<S>) -> (Option<S>, Option<S>) {
        step();
        // An interrupt while the lock is held does not get it.
        match self.model.try_lock() {
            Some(mut stock) => {
                step();
                let found = take(&mut stock);
                step();
                (found, take(&mut stock))
            }
            None => (None, None),
        }
    }

    fn put<S>(self, sheaf: S, put: impl FnOnce(&mut Stock, S)) -> Option<S> {
        step();
        match self.model.try_lock() {
            Some(mut stock) => {
                step();
                put(&mut stock, sheaf);
                None
            }
            None => Some(sheaf),
        }
    }
}

impl<'a> FastPath for Ctx<'a> {
    type Word = Word<'a>;
    type Alloc = Word<'a>;
    type Rcu = Word<'a>;

    fn alloc(self) -> Cursor<Word<'a>> {
        Cursor(self.word(ALLOC))
    }

    fn rcu(self) -> Cursor<Word<'a>> {
        Cursor(self.word(RCU))
    }

    fn reuse(self, i: usize) -> LocalPtr<Word<'a>> {
        LocalPtr(self.word(REUSED + i))
    }

    fn on_reuse_slot_filled(self) {
        self.arm();
    }
}

impl<'a> CacheCpu for Ctx<'a> {
    fn words(self) -> Words<Word<'a>> {
        Words {
            alloc: Cursor(self.word(ALLOC)),
            rcu: Cursor(self.word(RCU)),
            spare_full: LocalPtr(self.word(SPARE_FULL)),
            spare_empty: LocalPtr(self.word(SPARE_EMPTY)),
            spent: LocalList {
                head: self.word(SPENT),
                len: self.word(SPENT_LEN),
            },
            closed: LocalList {
                head: self.word(CLOSED),
                len: self.word(CLOSED_LEN),
            },
        }
    }

    fn may_reuse(self, object: usize) -> bool {
        self.model.books().objects.contains_key(&object)
    }

    fn capacity(self) -> usize {
        self.model.capacity
    }

    fn quiescent(self) -> Option<Quiescent> {
        (self.preemptible || self.model.flaw == Flaw::EmptiedNotAwaited).then(|| {
            // SAFETY: No other context is in an operation, or a flaw is to be detected.
            unsafe { Quiescent::assume() }
        })
    }

    fn may_call_rcu(self) -> bool {
        self.may_wait
    }

    fn start_grace_period(self, chain: SheafChain) {
        step();
        if self.model.flaw == Flaw::FilledNotAwaited {
            return self.model.take_in(chain);
        }
        let mut books = self.model.books();
        // The one in progress may have started before.
        let gp = books.completed + 1;
        books.waiting.push((gp, chain));
    }

    fn count(self) -> Stamp {
        step();
        self.model.books().counted += 1;
        Stamp::of(0)
    }

    fn uncount(self, stamp: Stamp) {
        step();
        self.model.uncount(stamp);
    }

    fn take_full(self) -> (Option<FullSheaf>, Option<FullSheaf>) {
        self.take_two(Stock::take_full)
    }

    fn take_remote(self) -> Option<FullSheaf> {
        None
    }

    fn take_reserved(self) -> Option<usize> {
        if self.model.flaw == Flaw::NoReserve {
            return None;
        }
        step();
        self.model.reserve.take()
    }

    fn take_empty(self) -> (Option<EmptySheaf>, Option<EmptySheaf>) {
        self.take_two(Stock::take_empty)
    }

    fn put_full(self, sheaf: FullSheaf) -> Option<FullSheaf> {
        self.put(sheaf, Stock::put_full)
    }

    fn put_empty(self, sheaf: EmptySheaf) -> Option<EmptySheaf> {
        self.put(sheaf, Stock::put_empty)
    }

    fn new_empty(self) -> Option<EmptySheaf> {
        self.model.books().allocating = true;
        step();
        self.model.books().allocating = false;
        self.model.new_sheaf()
    }

    fn queue_irq_work(self) {
        self.model.books().irq_work_queued.insert(self.cpu);
    }

    fn on_alloc_installed(self) {
        self.arm();
    }

    fn on_rcu_installed(self) {
        self.arm();
    }

    fn on_spare_kept(self) {
        self.arm();
    }

    fn warn_nesting(self) {
        self.model.books().nesting_warnings += 1;
    }

    fn warn_double_free(self, object: usize) {
        self.model.books().double_frees.push(object);
    }
}

/// A run of the monitor, for sheaves that have `left` jiffies to go.
struct Monitor<'a> {
    at: Ctx<'a>,
    left: usize,
}

impl<'a> Monitored for Monitor<'a> {
    type Word = Word<'a>;

    fn armed(&self) -> Armed<Word<'a>> {
        self.at.armed()
    }

    fn close(&mut self) -> usize {
        let words = self.at.words();
        let mut chain = words.closed.take();
        if self.left == 0 {
            match close_partial(&words, self.at.count()) {
                Ok(sheaf) => chain.push(sheaf),
                Err(stamp) => self.at.uncount(stamp),
            }
        }
        self.at.start_grace_period(chain);
        if words.rcu.is_installed() {
            self.left
        } else {
            0
        }
    }

    fn take_stock(&mut self) -> usize {
        if self.left == 0 {
            self.at.model.store_stock(&self.at.words());
            for i in 0..REUSE {
                if let Some(object) = self.at.reuse(i).take() {
                    self.at.model.books().objects.remove(&object);
                }
            }
        }
        self.left
    }

    fn queue(&self, delay: usize) {
        self.at.model.books().queued.insert(self.at.cpu, delay);
    }
}
