// SPDX-License-Identifier: GPL-2.0

//! The sweep: an NMI at every instruction of some code, which frees objects; after each group of
//! instructions every object must have been freed, once.
//!
//! A group starts with breakpoints at a few function entries. From there on the code is
//! single-stepped (walk.rs): each debug exception is an NMI, and those before an instruction that
//! was not hit yet free objects. Functions outside of the swept code are stepped through up to a
//! limit; if that is reached, a later group resumes at a breakpoint behind the call.

use crate::{
    code::{Code, Flags, Function},
    pool::Pool,
    storm::Actor,
    sys::{
        core as rcu_ptr, core_test, cpu,
        perf::{Breakpoint, Hook, Kind, SLOTS},
        thread,
    },
    wanted,
};
use core::array;
use kernel::{
    fmt,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use walk::{InsnMarks, StepState, MAX_ACTS};

pub(crate) mod coverage;
mod walk;

/// NMIs of a group without stepping that free objects; an instruction in a loop has many more.
const GROUP_ACTS: i64 = 16;

/// Objects of the pool that the workload of a group frees, in addition to those that it allocates.
const WORKLOAD_OBJECTS: usize = 256;

/// How often stepping is resumed behind calls: it may end again in the next one, when the CPU
/// switches to another task.
const MAX_RESUMES: usize = 8;

/// The state of an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InsnState {
    /// Not tried yet, or never executed.
    Missed,
    /// An NMI came before it.
    Hit,
    /// The kernel allows no breakpoint there.
    NoBreakpoint,
}

/// A stage of a sweep: a workload, what the NMIs do besides freeing objects, and limits.
pub(crate) struct Stage<'a> {
    /// For the log.
    pub(crate) name: &'a dyn fmt::Debug,
    /// Runs the workload once. It may free objects of the pool.
    pub(crate) run: &'a dyn Fn(&Pool) -> Result,
    /// Runs in each of a group's first NMIs.
    pub(crate) nmi: &'a (dyn Fn() + Sync),
    /// Checks the results after each group.
    pub(crate) check: &'a dyn Fn() -> bool,
    /// How often the workload runs at most for a group.
    pub(crate) tries: u32,
    /// When to stop, as [`thread::now()`] counts.
    pub(crate) end: i64,
}

impl<'a> Stage<'a> {
    /// A stage whose NMIs only free objects.
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
    states: KVVec<InsnState>,
    /// By function: belongs to the engine that is not loaded.
    other_engine: KVVec<bool>,
    /// By function: every instruction has to be hit. These come first.
    wanted: KVVec<bool>,
    /// By function: counts towards the coverage.
    chosen: KVVec<bool>,
    /// Objects that NMIs free.
    pool: Pool,
    /// Objects that the workload frees, of which calls are interrupted.
    workload_pool: Pool,
    /// By CPU.
    step_states: KVVec<StepState>,
    /// Whether the cycle counter makes the steps, as there are no breakpoints.
    by_counter: bool,
    /// Number of NMIs.
    pub(crate) nmis: u64,
    /// Objects of the pool that the workloads freed.
    pub(crate) freed: u64,
    /// Groups of instructions tried.
    pub(crate) groups: u64,
    pub(crate) times: Times,
}

/// Times spent, in nanoseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    /// Setting and removing breakpoints.
    pub(crate) breakpoints: i64,
    /// Running workloads.
    pub(crate) workloads: i64,
    /// The barrier, and checking all objects.
    pub(crate) checks: i64,
}

/// Adds the time since `start` to `sum`, and sets `start` to now.
fn add_elapsed(sum: &mut i64, start: &mut i64) {
    let now = thread::now();
    *sum += now - *start;
    *start = now;
}

fn vec_of<T>(len: usize, of: impl Fn(usize) -> T) -> Result<KVVec<T>> {
    let mut all = KVVec::with_capacity(len, GFP_KERNEL)?;
    for i in 0..len {
        all.push(of(i), GFP_KERNEL)?;
    }
    Ok(all)
}

/// Sets breakpoints with `hook(i)` at the first [`SLOTS`] of `insns`, except where the kernel
/// rejects them.
fn breakpoints<'a>(
    insns: &[usize],
    code: &Code,
    states: &mut [InsnState],
    hook: impl Fn(usize) -> &'a Hook<'a>,
) -> Result<[Option<Breakpoint<'a>>; SLOTS]> {
    let mut set = array::from_fn(|_| None);
    for (i, &insn) in insns.iter().take(SLOTS).enumerate() {
        match Breakpoint::new(Kind::Execute, code.insns[insn], hook(i)) {
            Ok(breakpoint) => set[i] = Some(breakpoint),
            Err(e) if e == EINVAL => {
                if states[insn] == InsnState::Missed {
                    states[insn] = InsnState::NoBreakpoint;
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(set)
}

impl Sweep {
    /// Prepares a sweep of `code`; for the core module, `lockless` is the engine that is loaded.
    pub(crate) fn of(mut code: Code, lockless: Option<bool>) -> Result<Self> {
        code.lockless = lockless;
        let functions = code.functions.len();
        let is_wanted = |number: usize| {
            let name = code.name(&code.functions[number]);
            lockless.is_some_and(|lockless| wanted::of(lockless).any(|w| w.is(name)))
        };
        Ok(Self {
            states: vec_of(code.insns.len(), |_| InsnState::Missed)?,
            other_engine: vec_of(functions, |number| {
                code.is_of_other_engine(&code.functions[number])
            })?,
            wanted: vec_of(functions, is_wanted)?,
            chosen: vec_of(functions, |_| true)?,
            code,
            pool: Pool::new(MAX_ACTS as usize)?,
            workload_pool: Pool::new(WORKLOAD_OBJECTS)?,
            step_states: vec_of(cpu::nr_ids() as usize, |_| StepState::new())?,
            by_counter: cfg!(not(CONFIG_X86)),
            nmis: 0,
            freed: 0,
            groups: 0,
            times: Times::default(),
        })
    }

    /// Restricts the coverage to functions that `select` accepts.
    pub(crate) fn choose(&mut self, select: impl Fn(&str) -> bool) {
        for (chosen, function) in self.chosen.iter_mut().zip(self.code.functions.iter()) {
            *chosen = select(self.code.name(function));
        }
    }

    /// The functions that count towards the coverage, with their numbers.
    fn functions(&self) -> impl Iterator<Item = (usize, &Function)> {
        let all = self.code.functions.iter().enumerate();
        all.filter(|&(number, _)| self.chosen[number])
    }

    /// The number of instructions.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// Tries up to [`SLOTS`] instructions without stepping; with `watch` one less, and a data
    /// breakpoint on the engine's first word of this CPU (the lock of `rfc`), so that NMIs come
    /// with the lock held.
    ///
    /// # Errors
    ///
    /// `EBADMSG` if an object was lost, freed early or damaged, or the handler ran outside of NMI.
    fn group(&mut self, insns: &[usize], stage: &Stage<'_>, watch: bool) -> Result {
        let counts: [Atomic<u64>; SLOTS] = array::from_fn(|_| Atomic::new(0));
        let actor = Actor::new(&self.pool, 2, GROUP_ACTS);
        let bodies: [_; SLOTS] = array::from_fn(|i| {
            let count = &counts[i];
            let actor = &actor;
            let nmi = stage.nmi;
            move || {
                if actor.on_nmi() {
                    nmi();
                }
                count.add(1, Relaxed);
            }
        });
        let fire = || {
            actor.on_nmi();
        };
        let watcher = Hook::new(&fire);
        let hooks: [_; SLOTS] = array::from_fn(|i| Hook::new(&bodies[i]));
        let mut start = thread::now();
        let breakpoints = breakpoints(insns, &self.code, &mut self.states, |i| &hooks[i])?;
        let wanted = breakpoints.iter().flatten().count();
        let word = core_test::words(cpu::this()).next().filter(|_| watch);
        let watchpoint = word.map(|word| Breakpoint::new(Kind::Write4, word, &watcher));
        let watchpoint = watchpoint.transpose()?;
        thread::still_alive();
        add_elapsed(&mut self.times.breakpoints, &mut start);
        let mut ran = Ok(());
        for _ in 0..stage.tries {
            let hit = counts.iter().filter(|n| n.load(Relaxed) > 0).count();
            if ran.is_err() || hit >= wanted {
                break;
            }
            ran = (stage.run)(&self.workload_pool);
        }
        add_elapsed(&mut self.times.workloads, &mut start);
        drop(watchpoint);
        drop(breakpoints);
        ran?;
        add_elapsed(&mut self.times.breakpoints, &mut start);
        for (i, &insn) in insns.iter().take(SLOTS).enumerate() {
            if counts[i].load(Relaxed) > 0 {
                self.states[insn] = InsnState::Hit;
            }
        }
        self.nmis += actor.inside();
        let not_nmi = actor.elsewhere();
        self.finish_group(insns, stage, not_nmi)?;
        add_elapsed(&mut self.times.checks, &mut start);
        Ok(())
    }

    /// Checks after a group, or a round of samples, that all objects were freed, and that all of
    /// the `not_nmi` other contexts are none.
    fn finish_group(&mut self, insns: &[usize], stage: &Stage<'_>, not_nmi: u64) -> Result {
        self.groups += 1;
        rcu_ptr::barrier();
        self.freed += self.workload_pool.taken() as u64;
        let all_freed = self.pool.all_freed() && self.workload_pool.all_freed();
        if !all_freed || not_nmi > 0 || !(stage.check)() {
            for &insn in insns {
                pr_err!(
                    "an object was lost or damaged: {:#x}\n",
                    self.code.insns[insn]
                );
            }
            return Err(EBADMSG);
        }
        self.pool.renew()?;
        self.workload_pool.renew()
    }

    /// Whether instruction `insn` of function `number` is not hit yet and can be.
    fn is_left(&self, number: usize, insn: usize) -> bool {
        self.states[insn] != InsnState::Hit
            && !self.code.is_excluded(insn)
            && !self.other_engine[number]
    }

    /// The numbers of functions that `select` accepts and that have instructions left: wanted
    /// functions first. The starting point rotates, as there may not be time for all.
    fn functions_left(&self, select: impl Fn(&str) -> bool) -> Result<KVVec<usize>> {
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
                    && insns.any(|i| self.is_left(number, i))
                {
                    found.push(number, GFP_KERNEL)?;
                }
            }
        }
        Ok(found)
    }

    /// Tries to hit every instruction of functions that `select` accepts:
    ///
    /// 1. steps from the entry of each function, once;
    /// 2. again, with more runs, from those entries that were executed;
    /// 3. from behind each call in which stepping ended.
    ///
    /// Returns the number of breakpoints that were left for lack of time.
    pub(crate) fn run(
        &mut self,
        stage: &Stage<'_>,
        select: impl Fn(&str) -> bool,
    ) -> Result<usize> {
        let marks = InsnMarks::new(self.len())?;
        for (number, function) in self.code.functions.iter().enumerate() {
            for insn in function.insns.clone() {
                if self.is_left(number, insn) {
                    marks.want(insn);
                }
            }
        }
        if self.by_counter {
            return self.run_by_counter(stage, &marks);
        }
        let mut left = 0;
        for tries in [1, stage.tries] {
            let mut entries = KVVec::new();
            for &number in self.functions_left(&select)?.iter() {
                let entry = self.code.functions[number].insns.start;
                if tries == 1 || marks.ran(entry) {
                    entries.push(entry, GFP_KERNEL)?;
                }
            }
            left += self.walk_all(&entries, stage, &marks, tries)?;
            self.record_hits(&marks);
        }
        for _ in 0..MAX_RESUMES {
            let mut behind = KVVec::new();
            for &number in self.functions_left(&select)?.iter() {
                for insn in self.code.functions[number].insns.clone().skip(1) {
                    // That instruction may have been hit by another workload, but not what follows
                    // here.
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
            self.record_hits(&marks);
            if marks.runs.load(Relaxed) == before {
                break;
            }
        }
        Ok(left)
    }

    /// Tries random groups of instructions that were hit before: two or three with a watchpoint on
    /// the engine's first word, or up to four.
    pub(crate) fn random(&mut self, seed: u64, rounds: usize, stage: &Stage<'_>) -> Result {
        let mut hit = KVVec::new();
        for (insn, &state) in self.states.iter().enumerate() {
            if state == InsnState::Hit {
                hit.push(insn, GFP_KERNEL)?;
            }
        }
        let mut random = seed;
        let mut next = |n: usize| {
            // Any generator is good enough; this one is linear congruential.
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
}
