// SPDX-License-Identifier: GPL-2.0

//! The sweep: an NMI at every instruction of some code, each of which frees objects; after each
//! group every object must have been freed, once.
//!
//! From breakpoints at the entries of a few functions on there are single steps: debug exceptions in
//! front of each further instruction, in and below these functions, whatever branches they take. Each
//! is an NMI; those in front of an instruction that was not hit yet act. What a function of the kernel
//! does that the code calls is stepped through for a while; where stepping ends in it, it goes on from
//! a breakpoint behind the call.

use crate::{
    code::{Code, Flags, Function},
    pool::Pool,
    route::Route,
    scaled,
    storm::{self, Actor},
    sys::{
        core as rcu_ptr, core_test, cpu,
        perf::{Breakpoint, Cycles, Hook, Kind, SLOTS},
        step::{Counted, Steps},
        thread,
    },
    wanted::{self, Part, Wanted},
};
use core::{array, mem};
use kernel::{
    fmt,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// NMIs of a group that free something; an instruction in a loop has many more.
const ACTS: i64 = 16;

/// The same for a group that is followed step by step: those in front of instructions that were not
/// hit yet, and others, without which nothing would come in between any more once all were.
const WALK_ACTS: i64 = 256;
const OTHER_ACTS: i64 = 64;
/// In front of what exchanges a word if it is unchanged: so many in a stage at each, as what one
/// NMI does may not change that word, and so many in a group.
const WINDOWS: i32 = 4;
const WINDOW_ACTS: i64 = 128;
/// Of the other steps, one in so many is such an NMI.
const OTHERS: u64 = 12;

/// Objects of the pool that the loads of a group free; others they allocate themselves.
const LOADED: usize = 256;

/// Steps through what the swept code calls elsewhere, before stepping ends.
const DETOUR: usize = 2000;

/// Steps without anything new after which a run of the load is followed no further.
const MAX_STEPS: usize = 100_000;

/// How often stepping goes on behind calls: it may end again behind the next one, where another task
/// gets the CPU.
const RESUMES: usize = 8;

/// Runs of a load that find nothing new, where the cycle counter makes the steps.
const IDLE: usize = 3;

/// Objects of a round of samples, and how long one takes.
const SAMPLED: usize = scaled(20_000);
const SAMPLE_NSECS: i64 = 2_000_000_000;

/// What became of an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not yet tried, or never run by the load.
    Missed,
    /// An NMI came right before it.
    Hit,
    /// The kernel allows no breakpoint there.
    Refused,
}

/// What came by on the way, by instruction. Any CPU writes, and a mark that gets lost when two do is
/// made the next time.
struct Marks {
    marks: KVVec<Atomic<i32>>,
    /// Instructions that were run, and hit.
    runs: Atomic<usize>,
    hits: Atomic<usize>,
}

impl Marks {
    /// It was run.
    const RAN: i32 = 1;
    /// An NMI is to act there.
    const WANTED: i32 = 2;
    /// One did.
    const HIT: i32 = 4;
    /// NMIs that acted there though it was hit before, times this.
    const AGAIN: i32 = 8;

    fn new(len: usize) -> Result<Self> {
        Ok(Self {
            marks: filled(len, |_| Atomic::new(0))?,
            runs: Atomic::new(0),
            hits: Atomic::new(0),
        })
    }

    /// The instruction is about to be run; `act` says whether it acted. Returns whether it was to.
    fn visit(&self, insn: usize, act: impl FnOnce() -> bool) -> bool {
        let Some(mark) = self.marks.get(insn) else {
            return false;
        };
        let old = mark.load(Relaxed);
        let wanted = old & Self::WANTED != 0;
        let mut new = old | Self::RAN;
        if wanted && act() {
            new = new & !Self::WANTED | Self::HIT;
            self.hits.fetch_add(1, Relaxed);
        }
        if new != old {
            mark.store(new, Relaxed);
        }
        if old & Self::RAN == 0 {
            self.runs.fetch_add(1, Relaxed);
        }
        wanted
    }

    /// How often an NMI acts there though it was hit before, 0: no more. [`WINDOWS`] times, each time
    /// more often, as it takes one step, or several, to change the word.
    fn again(&self, insn: usize) -> usize {
        let Some(mark) = self.marks.get(insn) else {
            return 0;
        };
        let old = mark.load(Relaxed);
        let turn = old / Self::AGAIN;
        if turn >= WINDOWS {
            return 0;
        }
        mark.store(old + Self::AGAIN, Relaxed);
        1 << turn
    }

    fn has(&self, insn: usize, bit: i32) -> bool {
        self.marks[insn].load(Relaxed) & bit != 0
    }

    fn ran(&self, insn: usize) -> bool {
        self.has(insn, Self::RAN)
    }
}

/// Where stepping of a CPU is.
struct Place {
    /// The stack pointer in the swept code.
    stack: Atomic<usize>,
    /// Steps since.
    outside: Atomic<usize>,
}

impl Place {
    const fn new() -> Self {
        Self {
            stack: Atomic::new(0),
            outside: Atomic::new(0),
        }
    }

    /// A step in the swept code.
    fn come(&self, stack: usize) {
        self.stack.store(stack, Relaxed);
        self.outside.store(0, Relaxed);
    }

    /// A step elsewhere. Returns whether it is in something that the code called and may come back.
    fn detour(&self, stack: usize) -> bool {
        let steps = self.outside.load(Relaxed) + 1;
        self.outside.store(steps, Relaxed);
        steps < DETOUR && stack < self.stack.load(Relaxed)
    }
}

/// What makes the code run, and what the NMIs do besides freeing objects.
pub(crate) struct Stage<'a> {
    /// For the log.
    pub(crate) name: &'a dyn fmt::Debug,
    /// Makes the code run, once. Objects of the pool that it frees have to be freed after each group.
    pub(crate) run: &'a dyn Fn(&Pool) -> Result,
    /// Runs in each of a group's first NMIs.
    pub(crate) nmi: &'a (dyn Fn() + Sync),
    /// Whether all is well, after each group.
    pub(crate) check: &'a dyn Fn() -> bool,
    /// How often it runs for a group of which not all are hit.
    pub(crate) tries: u32,
    /// When to stop, as [`thread::now()`] counts.
    pub(crate) end: i64,
}

impl<'a> Stage<'a> {
    /// One whose NMIs free objects and nothing else.
    pub(crate) fn of(
        name: &'a dyn fmt::Debug,
        run: &'a dyn Fn(&Pool) -> Result,
        tries: u32,
        end: i64,
    ) -> Self {
        Self {
            name,
            run,
            nmi: &|| (),
            check: &|| true,
            tries,
            end,
        }
    }
}

/// A sweep of one module, or of some of the kernel's functions.
pub(crate) struct Sweep {
    code: Code,
    states: KVVec<State>,
    /// By function, whether it is of the engine that does not run.
    others: KVVec<bool>,
    /// By function, whether every instruction of it is to be hit: these are tried first.
    wanted: KVVec<bool>,
    /// By function, whether it is in the sums and the report.
    chosen: KVVec<bool>,
    /// What NMIs free.
    pool: Pool,
    /// What the load frees: an NMI endangers the object of the call that it interrupts.
    loaded: Pool,
    /// By CPU.
    places: KVVec<Place>,
    /// Whether steps come from the cycle counter, as there are no breakpoints.
    by_counter: bool,
    /// NMIs that came.
    pub(crate) nmis: u64,
    /// Objects of the pool that the loads freed.
    pub(crate) freed: u64,
    /// Groups of instructions tried.
    pub(crate) groups: u64,
    /// Where the time went.
    pub(crate) times: Times,
}

/// Nanoseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    /// Setting and removing breakpoints.
    pub(crate) breakpoints: i64,
    /// The loads.
    pub(crate) loads: i64,
    /// The barrier, and a look at all objects.
    pub(crate) checks: i64,
}

/// Adds what has passed since `start` to `sum`; the next stretch starts now.
fn lap(sum: &mut i64, start: &mut i64) {
    let now = thread::now();
    *sum += now - *start;
    *start = now;
}

fn filled<T>(len: usize, of: impl Fn(usize) -> T) -> Result<KVVec<T>> {
    let mut all = KVVec::with_capacity(len, GFP_KERNEL)?;
    for i in 0..len {
        all.push(of(i), GFP_KERNEL)?;
    }
    Ok(all)
}

/// Breakpoints with `hook(i)` at the first [`SLOTS`] of `insns`, but for those that the kernel refuses.
fn breakpoints<'a>(
    insns: &[usize],
    code: &Code,
    states: &mut [State],
    hook: impl Fn(usize) -> &'a Hook<'a>,
) -> Result<[Option<Breakpoint<'a>>; SLOTS]> {
    let mut set = array::from_fn(|_| None);
    for (i, &insn) in insns.iter().take(SLOTS).enumerate() {
        match Breakpoint::new(Kind::Execute, code.insns[insn], hook(i)) {
            Ok(breakpoint) => set[i] = Some(breakpoint),
            Err(e) if e == EINVAL => {
                if states[insn] == State::Missed {
                    states[insn] = State::Refused;
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(set)
}

/// The sums.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Instructions there are.
    pub(crate) all: usize,
    /// An NMI came before it.
    pub(crate) hit: usize,
    /// The others, by [`Why`].
    missed: [usize; 6],
}

impl Totals {
    pub(crate) fn missed(&self, why: Why) -> usize {
        self.missed[why as usize]
    }

    /// Instructions that can be reached, as far as is known.
    pub(crate) fn reachable(&self) -> usize {
        self.hit + self.missed(Why::Unreached) + self.missed(Why::Branch)
    }
}

/// The same for the functions of which every instruction is to be hit.
#[derive(Clone, Copy, Default)]
pub(crate) struct Core {
    /// How many there are.
    pub(crate) functions: usize,
    /// Their instructions.
    pub(crate) insns: usize,
    /// Of these, not hit.
    pub(crate) left: usize,
    /// Functions that were never run.
    pub(crate) unreached: usize,
    /// Functions of which every instruction was hit.
    pub(crate) complete: usize,
    /// Functions of which more instructions are left than may be.
    pub(crate) short: usize,
    /// Names that no function has.
    pub(crate) unknown: usize,
}

/// Why an instruction was not hit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The kernel allows no breakpoint there, or the CPU puts it off.
    Refused,
    /// It leads to a panic and nowhere else.
    Panics,
    /// Nothing refers to its function.
    Unused,
    /// It is of the engine that is not loaded.
    OtherEngine,
    /// Its function was never run.
    Unreached,
    /// It is on a branch that was not taken.
    Branch,
}

impl Sweep {
    /// Prepares a sweep of `code`. Of the core module, `lockless` says which engine runs.
    pub(crate) fn of(mut code: Code, lockless: Option<bool>) -> Result<Self> {
        code.lockless = lockless;
        let functions = code.functions.len();
        let is_wanted = |number: usize| {
            let name = code.name(&code.functions[number]);
            lockless.is_some_and(|lockless| wanted::of(lockless).any(|w| w.is(name)))
        };
        Ok(Self {
            states: filled(code.insns.len(), |_| State::Missed)?,
            others: filled(functions, |number| {
                code.is_of_other_engine(&code.functions[number])
            })?,
            wanted: filled(functions, is_wanted)?,
            chosen: filled(functions, |_| true)?,
            code,
            pool: Pool::new((WALK_ACTS + OTHER_ACTS + WINDOW_ACTS) as usize)?,
            loaded: Pool::new(LOADED)?,
            places: filled(cpu::nr_ids() as usize, |_| Place::new())?,
            by_counter: cfg!(not(CONFIG_X86)),
            nmis: 0,
            freed: 0,
            groups: 0,
            times: Times::default(),
        })
    }

    /// Leaves all but some functions out of the sums and the report.
    pub(crate) fn choose(&mut self, select: impl Fn(&str) -> bool) {
        for (chosen, function) in self.chosen.iter_mut().zip(self.code.functions.iter()) {
            *chosen = select(self.code.name(function));
        }
    }

    /// Functions that are in the sums, and their numbers.
    fn functions(&self) -> impl Iterator<Item = (usize, &Function)> {
        let all = self.code.functions.iter().enumerate();
        all.filter(|&(number, _)| self.chosen[number])
    }

    /// Instructions there are.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// Tries up to [`SLOTS`] instructions in `stage`; with `watch` one slot less, for a data
    /// breakpoint on the engine's first word of this CPU (the lock of `rfc`), so that NMIs come with
    /// the lock held.
    ///
    /// # Errors
    ///
    /// `EBADMSG` when an object was lost, freed early or damaged, or an NMI was none.
    fn group(&mut self, insns: &[usize], stage: &Stage<'_>, watch: bool) -> Result {
        let counts: [Atomic<u64>; SLOTS] = array::from_fn(|_| Atomic::new(0));
        let actor = Actor::new(&self.pool, Route::Nolock, 2, ACTS);
        let bodies: [_; SLOTS] = array::from_fn(|i| {
            let count = &counts[i];
            let actor = &actor;
            let nmi = stage.nmi;
            move || {
                if actor.fire() {
                    nmi();
                }
                count.add(1, Relaxed);
            }
        });
        let fire = || {
            actor.fire();
        };
        let watcher = Hook::new(&fire);
        let hooks: [_; SLOTS] = array::from_fn(|i| Hook::new(&bodies[i]));
        let mut start = thread::now();
        let breakpoints = breakpoints(insns, &self.code, &mut self.states, |i| &hooks[i])?;
        let wanted = breakpoints.iter().flatten().count();
        let word = core_test::words(cpu::this()).next().filter(|_| watch);
        let watchpoint = match word {
            Some(word) => Some(Breakpoint::new(Kind::Write4, word, &watcher)?),
            None => None,
        };
        thread::still_alive();
        lap(&mut self.times.breakpoints, &mut start);
        let mut ran = Ok(());
        for _ in 0..stage.tries {
            let hit = counts.iter().filter(|n| n.load(Relaxed) > 0).count();
            if ran.is_err() || hit >= wanted {
                break;
            }
            ran = (stage.run)(&self.loaded);
        }
        lap(&mut self.times.loads, &mut start);
        drop(watchpoint);
        drop(breakpoints);
        ran?;
        lap(&mut self.times.breakpoints, &mut start);
        for (i, &insn) in insns.iter().take(SLOTS).enumerate() {
            if counts[i].load(Relaxed) > 0 {
                self.states[insn] = State::Hit;
            }
        }
        self.nmis += actor.inside();
        let outside = actor.elsewhere();
        self.conclude(insns, stage, outside)?;
        lap(&mut self.times.checks, &mut start);
        Ok(())
    }

    /// After a group, or a round of samples: were all objects freed, and was every interrupt an NMI?
    fn conclude(&mut self, insns: &[usize], stage: &Stage<'_>, outside: u64) -> Result {
        self.groups += 1;
        rcu_ptr::barrier();
        self.freed += self.loaded.taken() as u64;
        let all_freed = self.pool.all_freed() && self.loaded.all_freed();
        if !all_freed || outside > 0 || !(stage.check)() {
            for &insn in insns {
                pr_err!(
                    "an object was lost or damaged: {:#x}\n",
                    self.code.insns[insn]
                );
            }
            return Err(EBADMSG);
        }
        self.pool.renew()?;
        self.loaded.renew()
    }

    /// Whether instruction `insn` of function `number` is still to be hit.
    fn is_open(&self, number: usize, insn: usize) -> bool {
        self.states[insn] != State::Hit && !self.code.is_excluded(insn) && !self.others[number]
    }

    /// Follows what runs in `stage` from breakpoints at up to [`SLOTS`] instructions on, step by
    /// step, `tries` times at most: until they were run, and while there is anything new. An NMI acts at each instruction
    /// that `marks` wants. Returns whether more would have acted than a group may.
    ///
    /// # Errors
    ///
    /// As [`Self::group()`].
    fn walk(
        &mut self,
        insns: &[usize],
        stage: &Stage<'_>,
        marks: &Marks,
        tries: u32,
    ) -> Result<bool> {
        let most = WALK_ACTS + OTHER_ACTS + WINDOW_ACTS;
        let actor = Actor::new(&self.pool, Route::Nolock, 1, most);
        let steps_seen = Atomic::<u64>::new(0);
        // In every other group: what an NMI does may keep the load from what it would do.
        let most = OTHER_ACTS * (self.groups % 2) as i64;
        let others = Atomic::<i64>::new(most);
        // Not in step with any loop.
        let is_other = || {
            let n = steps_seen.load(Relaxed);
            steps_seen.store(n + 1, Relaxed);
            let chosen = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % OTHERS == 0;
            chosen && others.load(Relaxed) > 0 && others.fetch_sub(1, Relaxed) > 0
        };
        let windows = Atomic::<i64>::new(WINDOW_ACTS);
        let places = &self.places;
        let code = &self.code;
        let by_counter = self.by_counter;
        let window = |insn: usize| {
            if !code.flags[insn].has(Flags::EXCHANGES) || windows.load(Relaxed) <= 0 {
                return 0;
            }
            let acts = marks.again(insn);
            windows.fetch_sub(acts as i64, Relaxed);
            acts
        };
        let bored = Atomic::<usize>::new(0);
        let step = |address, stack| {
            let steps = bored.load(Relaxed) + 1;
            bored.store(steps, Relaxed);
            if steps > MAX_STEPS {
                return false;
            }
            let Some(place) = places.get(cpu::this() as usize) else {
                return false;
            };
            let Some(insn) = code.at(address) else {
                return !by_counter && place.detour(stack);
            };
            place.come(stack);
            let act = || {
                let acts = actor.fire();
                if acts {
                    (stage.nmi)();
                }
                acts
            };
            if marks.visit(insn, act) {
                bored.store(0, Relaxed);
            } else {
                let acts = match window(insn) {
                    0 => usize::from(is_other()),
                    acts => acts,
                };
                for _ in 0..acts {
                    act();
                }
            }
            true
        };
        let hook = Hook::stepping(&step);
        let mut start = thread::now();
        let steps = Steps::new(&hook);
        let breakpoints = breakpoints(insns, &self.code, &mut self.states, |_| &hook)?;
        let counted = by_counter.then(|| Counted::new(&hook)).transpose()?;
        lap(&mut self.times.breakpoints, &mut start);
        let mut ran = Ok(());
        for _ in 0..tries {
            let before = marks.hits.load(Relaxed);
            bored.store(0, Relaxed);
            ran = (stage.run)(&self.loaded);
            thread::still_alive();
            let all = insns.iter().take(SLOTS).all(|&insn| marks.ran(insn));
            if ran.is_err() || actor.is_spent() || all && marks.hits.load(Relaxed) == before {
                break;
            }
        }
        lap(&mut self.times.loads, &mut start);
        drop(counted);
        drop(breakpoints);
        drop(steps);
        ran?;
        lap(&mut self.times.breakpoints, &mut start);
        let spent = actor.is_spent();
        let outside = actor.elsewhere();
        self.nmis += actor.inside();
        self.conclude(insns, stage, outside)?;
        lap(&mut self.times.checks, &mut start);
        Ok(spent)
    }

    /// All of `list`, [`SLOTS`] at a time. Returns how many were left for lack of time.
    fn walk_all(
        &mut self,
        list: &[usize],
        stage: &Stage<'_>,
        marks: &Marks,
        tries: u32,
    ) -> Result<usize> {
        for (done, group) in list.chunks(SLOTS).enumerate() {
            loop {
                if thread::now() > stage.end {
                    return Ok(list.len() - done * SLOTS);
                }
                if !self.walk(group, stage, marks, tries)? {
                    break;
                }
            }
        }
        Ok(0)
    }

    /// Numbers of the functions that `select` takes with anything left to try: first those that are
    /// wanted, then the rest, each from another one on every time, as there may not be time for all.
    fn open(&self, select: impl Fn(&str) -> bool) -> Result<KVVec<usize>> {
        let mut found = KVVec::new();
        let functions = || self.code.functions.iter().enumerate();
        let start = self.groups as usize * SLOTS % self.code.functions.len().max(1);
        for is_wanted in [true, false] {
            for (number, function) in
                Iterator::chain(functions().skip(start), functions().take(start))
            {
                let mut insns = function.insns.clone();
                if self.wanted[number] == is_wanted
                    && select(self.code.name(function))
                    && insns.any(|i| self.is_open(number, i))
                {
                    found.push(number, GFP_KERNEL)?;
                }
            }
        }
        Ok(found)
    }

    /// Tries every instruction in functions that `select` takes and that was not hit yet: enters
    /// each function and goes on step by step, out of it and through all that it calls in the swept
    /// code; once more with more steps where that found something; then from behind each call where
    /// stepping ended. Returns how many breakpoints were left for lack of time.
    pub(crate) fn run(
        &mut self,
        stage: &Stage<'_>,
        select: impl Fn(&str) -> bool,
    ) -> Result<usize> {
        let marks = Marks::new(self.len())?;
        for (number, function) in self.code.functions.iter().enumerate() {
            for insn in function.insns.clone() {
                if self.is_open(number, insn) {
                    marks.marks[insn].store(Marks::WANTED, Relaxed);
                }
            }
        }
        if self.by_counter {
            return self.run_by_counter(stage, &marks);
        }
        let mut left = 0;
        for tries in [1, stage.tries] {
            let mut entries = KVVec::new();
            for &number in self.open(&select)?.iter() {
                let entry = self.code.functions[number].insns.start;
                if tries == 1 || marks.ran(entry) {
                    entries.push(entry, GFP_KERNEL)?;
                }
            }
            left += self.walk_all(&entries, stage, &marks, tries)?;
            self.take(&marks);
        }
        for _ in 0..RESUMES {
            let mut behind = KVVec::new();
            for &number in self.open(&select)?.iter() {
                for insn in self.code.functions[number].insns.clone().skip(1) {
                    // Where it goes on may be known from another load, but not what comes then.
                    if self.code.flags[insn].has(Flags::FOLLOWS_CALL)
                        && marks.ran(insn - 1)
                        && !marks.ran(insn)
                        && !self.code.is_excluded(insn)
                    {
                        behind.push(insn, GFP_KERNEL)?;
                    }
                }
            }
            let before = marks.runs.load(Relaxed);
            left += self.walk_all(&behind, stage, &marks, stage.tries.min(2))?;
            self.take(&marks);
            if marks.runs.load(Relaxed) == before {
                break;
            }
        }
        Ok(left)
    }

    /// The same where the cycle counter makes the steps: they go on all the time, and the code is met
    /// anywhere, so that its first instructions are hit by the way. Until some runs bring nothing new.
    fn run_by_counter(&mut self, stage: &Stage<'_>, marks: &Marks) -> Result<usize> {
        let mut idle = 0;
        while idle < IDLE {
            if thread::now() > stage.end {
                break;
            }
            let before = marks.hits.load(Relaxed);
            self.walk(&[], stage, marks, stage.tries)?;
            idle = if marks.hits.load(Relaxed) == before {
                idle + 1
            } else {
                0
            };
        }
        self.take(marks);
        Ok(0)
    }

    /// Takes over what `marks` say.
    fn take(&mut self, marks: &Marks) {
        for (insn, state) in self.states.iter_mut().enumerate() {
            if marks.has(insn, Marks::HIT) {
                *state = State::Hit;
            }
        }
    }

    /// Runs `stage` until its end while the cycle counter interrupts it all the time: instructions
    /// where an NMI came count as hit. For machines without breakpoints: it cannot be chosen where they
    /// come. Returns how many came in the code.
    ///
    /// # Errors
    ///
    /// `ENOENT` where no counter raises NMIs; `EBADMSG` as with breakpoints.
    pub(crate) fn sample(&mut self, stage: &Stage<'_>) -> Result<u64> {
        let seen = filled(self.len(), |_| Atomic::<i32>::new(0))?;
        let mut came = 0;
        let small = mem::replace(&mut self.pool, Pool::new(SAMPLED)?);
        while thread::now() < stage.end {
            let actor = Actor::new(&self.pool, Route::Nolock, 1, SAMPLED as i64);
            let inside = Atomic::<u64>::new(0);
            let code = &self.code;
            let body = |address| {
                if let Some(seen) = code.at(address).and_then(|insn| seen.get(insn)) {
                    seen.store(1, Relaxed);
                    inside.add(1, Relaxed);
                    actor.fire();
                }
            };
            let hook = Hook::with_address(&body);
            let cycles = Cycles::new(storm::PERIOD, &hook)?;
            let mut ran = Ok(());
            let round = thread::now() + SAMPLE_NSECS;
            while ran.is_ok() && thread::now() < round {
                ran = (stage.run)(&self.loaded);
                thread::still_alive();
            }
            drop(cycles);
            ran?;
            came += inside.load(Relaxed);
            self.nmis += actor.inside();
            let outside = actor.elsewhere();
            self.conclude(&[], stage, outside)?;
        }
        self.pool = small;
        for (state, seen) in self.states.iter_mut().zip(seen.iter()) {
            if seen.load(Relaxed) != 0 {
                *state = State::Hit;
            }
        }
        Ok(came)
    }

    /// Random groups of instructions that were hit before: two or three at once and a watchpoint on
    /// the engine's first word, or up to four.
    pub(crate) fn random(&mut self, seed: u64, rounds: usize, stage: &Stage<'_>) -> Result {
        let mut hit = KVVec::new();
        for (insn, &state) in self.states.iter().enumerate() {
            if state == State::Hit {
                hit.push(insn, GFP_KERNEL)?;
            }
        }
        let mut random = seed;
        let mut next = |n: usize| {
            // A linear congruential generator: any will do.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % n.max(1)
        };
        if hit.is_empty() {
            return Err(ENOENT);
        }
        for round in 0..rounds {
            if thread::now() > stage.end {
                pr_info!("sweep: {} random groups of {}\n", round, rounds);
                break;
            }
            let watch = round % 2 == 0;
            let group: [usize; SLOTS] = array::from_fn(|_| hit[next(hit.len())]);
            let size = 2 + next(SLOTS - 1 - usize::from(watch));
            self.group(&group[..size], stage, watch)?;
        }
        Ok(())
    }

    /// Why `insn`, an instruction of function `number`, was not hit. `None`: it was.
    fn why(&self, number: usize, insn: usize) -> Option<Why> {
        match self.states[insn] {
            State::Hit => return None,
            State::Refused => return Some(Why::Refused),
            State::Missed => {}
        }
        if self.code.flags[insn].has(Flags::IN_SHADOW) {
            return Some(Why::Refused);
        }
        if self.code.flags[insn].has(Flags::PANICS) {
            return Some(Why::Panics);
        }
        if self.code.flags[insn].has(Flags::UNUSED) {
            return Some(Why::Unused);
        }
        if self.code.is_excluded(insn) || self.others[number] {
            return Some(Why::OtherEngine);
        }
        let mut all = self.code.functions[number].insns.clone();
        Some(if all.any(|i| self.states[i] == State::Hit) {
            Why::Branch
        } else {
            Why::Unreached
        })
    }

    /// The sums so far.
    pub(crate) fn totals(&self) -> Totals {
        self.totals_of(|_| true)
    }

    /// The sums of a part of the core.
    pub(crate) fn totals_of_part(&self, part: &Part) -> Totals {
        self.totals_of(|insn| part.has(self.code.source(insn)))
    }

    fn totals_of(&self, is_in: impl Fn(usize) -> bool) -> Totals {
        let mut totals = Totals::default();
        for (number, function) in self.functions() {
            for insn in function.insns.clone().filter(|&insn| is_in(insn)) {
                totals.all += 1;
                match self.why(number, insn) {
                    None => totals.hit += 1,
                    Some(why) => totals.missed[why as usize] += 1,
                }
            }
        }
        totals
    }

    /// How the functions did of which every instruction is to be hit.
    pub(crate) fn core(&self, lockless: bool) -> Core {
        let mut core = Core::default();
        for wanted in wanted::of(lockless) {
            let mut found = 0;
            for (number, function) in self.functions() {
                if !wanted.is(self.code.name(function)) || self.others[number] {
                    continue;
                }
                found += 1;
                self.look_at_core(&mut core, wanted, number, function);
            }
            if found == 0 {
                pr_err!("sweep: no function has {} in its name\n", wanted.name);
                core.unknown += 1;
            }
        }
        core
    }

    fn look_at_core(&self, core: &mut Core, wanted: &Wanted, number: usize, function: &Function) {
        // What was inlined counts with the part that it is of.
        let is_own = |insn: usize| wanted::is_core(self.code.source(insn));
        let is_left = |&insn: &usize| {
            let why = self.why(number, insn).filter(|_| is_own(insn));
            // The kernel refuses breakpoints there, but steps lead there.
            matches!(why, Some(Why::Unreached | Why::Branch))
                || why == Some(Why::Refused) && !self.code.flags[insn].has(Flags::IN_SHADOW)
        };
        let left = function.insns.clone().filter(is_left).count();
        let is_hit = |&insn: &usize| self.states[insn] == State::Hit;
        core.functions += 1;
        core.insns += function.insns.clone().filter(|&insn| is_own(insn)).count();
        core.left += left;
        let is_run = function.insns.clone().any(|insn| is_hit(&insn));
        core.unreached += usize::from(!is_run && left > wanted.most);
        core.complete += usize::from(left == 0);
        core.short += usize::from(left > wanted.most);
        if left > 0 {
            let why = if left > wanted.most {
                "too many"
            } else {
                wanted.reason
            };
            pr_info!(
                "sweep: core: {} of {} left, at most {}: {} ({})\n",
                left,
                function.insns.len(),
                wanted.most,
                self.code.name(function),
                why
            );
        }
    }

    /// Says in the log what was not hit: by function, and by reason.
    pub(crate) fn report(&self) {
        for (number, function) in self.functions() {
            let name = self.code.name(function);
            let all = function.insns.len();
            let count = |wanted: fn(Why) -> bool| {
                let is = |&insn: &usize| self.why(number, insn).is_some_and(wanted);
                function.insns.clone().filter(is).count()
            };
            let refused = count(|w| w == Why::Refused);
            if refused > 0 {
                pr_info!("sweep: {} of {} refused in {}\n", refused, all, name);
            }
            if count(|w| w == Why::Unreached) > 0 {
                pr_info!("sweep: never run by the load: {} ({})\n", name, all);
            }
            let branches = count(|w| w == Why::Branch);
            if branches > 0 {
                pr_info!(
                    "sweep: branches not taken in {}: {} of {}\n",
                    name,
                    branches,
                    all
                );
                self.report_runs(number, function);
            }
        }
    }

    /// What of `function` was not hit: the offset of each first instruction, how many there are, and
    /// where the first comes from.
    fn report_runs(&self, number: usize, function: &Function) {
        let missed = |&insn: &usize| self.why(number, insn) == Some(Why::Branch);
        let mut insns = function.insns.clone();
        while let Some(first) = insns.find(missed) {
            let next = (first..function.insns.end).find(|insn| !missed(insn));
            let end = next.unwrap_or(function.insns.end);
            pr_info!(
                "sweep:   +{:#x}, {}, {}\n",
                self.code.insns[first].wrapping_sub(self.code.insns[function.insns.start]),
                end - first,
                self.code.source(first)
            );
            insns = end..function.insns.end;
        }
    }
}
