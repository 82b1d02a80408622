// SPDX-License-Identifier: GPL-2.0

//! Stepping: follows the code from breakpoints at a few instructions on by single steps, each of
//! which is an NMI; or by the cycle counter, where there are no breakpoints.

use super::{add_elapsed, breakpoints, vec_of, InsnState, Stage, Sweep};
use crate::{
    code::Flags,
    pool::Pool,
    scaled,
    storm::{self, Actor},
    sys::{
        cpu,
        perf::{Cycles, Hook, SLOTS},
        step::{Counted, Steps},
        thread,
    },
};
use core::mem;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// NMIs of a group that free objects before instructions that were not hit yet.
const NEW_ACTS: i64 = 256;
/// NMIs of a group that free objects elsewhere, so that calls are still interrupted when everything
/// has been hit.
const OTHER_ACTS: i64 = 64;
/// One in this many of the other steps is such an NMI.
const OTHER_EVERY: u64 = 12;
/// Visits of a cmpxchg at which NMIs free objects, per stage: a single free may not change its
/// word.
const CMPXCHG_VISITS: i32 = 4;
/// NMIs of a group that free objects before a cmpxchg.
const CMPXCHG_ACTS: i64 = 128;
/// NMIs of a group that free objects.
pub(super) const MAX_ACTS: i64 = NEW_ACTS + OTHER_ACTS + CMPXCHG_ACTS;

/// Steps outside of the swept code after which stepping ends.
const MAX_OUTSIDE_STEPS: usize = 2000;

/// Steps without a new hit after which stepping ends.
const MAX_IDLE_STEPS: usize = 100_000;

/// Runs without a new hit after which a stage ends, with the cycle counter.
const MAX_IDLE_RUNS: usize = 3;

/// Objects of a round of samples.
const SAMPLED_OBJECTS: usize = scaled(20_000);
/// The length of a round of samples.
const SAMPLE_NSECS: i64 = 2_000_000_000;

/// Marks of each instruction in a stage. All CPUs write them; a mark that is lost in a race is set
/// the next time.
pub(super) struct InsnMarks {
    marks: KVVec<Atomic<i32>>,
    /// Instructions that were run.
    pub(super) runs: Atomic<usize>,
    /// Instructions that were hit.
    hits: Atomic<usize>,
}

impl InsnMarks {
    /// It was executed.
    const RAN: i32 = 1;
    /// An NMI should free objects there.
    const WANTED: i32 = 2;
    /// An NMI has freed objects there.
    const HIT: i32 = 4;
    /// The unit of the number of visits of a cmpxchg.
    const AGAIN: i32 = 8;

    pub(super) fn new(len: usize) -> Result<Self> {
        Ok(Self {
            marks: vec_of(len, |_| Atomic::new(0))?,
            runs: Atomic::new(0),
            hits: Atomic::new(0),
        })
    }

    /// Records that `insn` is about to be executed. Calls `act` if it is wanted; that returns
    /// whether it freed objects. Returns whether it was wanted.
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

    /// How many times an NMI frees objects before the cmpxchg `insn`: at the first
    /// [`CMPXCHG_VISITS`] visits, twice as many each time, as one free or several change the word.
    fn cmpxchg_acts(&self, insn: usize) -> usize {
        let Some(mark) = self.marks.get(insn) else {
            return 0;
        };
        let old = mark.load(Relaxed);
        let turn = old / Self::AGAIN;
        if turn >= CMPXCHG_VISITS {
            return 0;
        }
        mark.store(old + Self::AGAIN, Relaxed);
        1 << turn
    }

    /// Has an NMI free objects at `insn`.
    pub(super) fn want(&self, insn: usize) {
        self.marks[insn].store(Self::WANTED, Relaxed);
    }

    fn has(&self, insn: usize, bit: i32) -> bool {
        self.marks[insn].load(Relaxed) & bit != 0
    }

    pub(super) fn ran(&self, insn: usize) -> bool {
        self.has(insn, Self::RAN)
    }
}

/// The state of stepping on a CPU.
pub(super) struct StepState {
    /// The stack pointer in the swept code.
    stack: Atomic<usize>,
    /// Steps outside of it since.
    outside: Atomic<usize>,
}

impl StepState {
    pub(super) const fn new() -> Self {
        Self {
            stack: Atomic::new(0),
            outside: Atomic::new(0),
        }
    }

    /// Records a step in the swept code.
    fn enter(&self, stack: usize) {
        self.stack.store(stack, Relaxed);
        self.outside.store(0, Relaxed);
    }

    /// Records a step elsewhere. Returns whether to go on: it is in a function that the swept code
    /// has called, and within the limit.
    fn step_outside(&self, stack: usize) -> bool {
        let steps = self.outside.load(Relaxed) + 1;
        self.outside.store(steps, Relaxed);
        steps < MAX_OUTSIDE_STEPS && stack < self.stack.load(Relaxed)
    }
}

impl Sweep {
    /// Single-steps the workload of `stage` from breakpoints at up to [`SLOTS`] instructions on, in
    /// at most `tries` runs: until these were executed and nothing new is hit. NMIs free objects at
    /// each instruction that `marks` wants. Returns whether the group has used up its NMIs.
    ///
    /// # Errors
    ///
    /// As [`Self::group()`].
    fn walk(
        &mut self,
        insns: &[usize],
        stage: &Stage<'_>,
        marks: &InsnMarks,
        tries: u32,
    ) -> Result<bool> {
        let actor = Actor::new(&self.pool, 1, MAX_ACTS);
        let steps_seen = Atomic::<u64>::new(0);
        // In every other group: the objects that NMIs free may change the path of the workload.
        let others_left = Atomic::<i64>::new(OTHER_ACTS * (self.groups % 2) as i64);
        // Pseudo-random, so as not to be in step with a loop.
        let is_other = || {
            let n = steps_seen.load(Relaxed);
            steps_seen.store(n + 1, Relaxed);
            let chosen = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % OTHER_EVERY == 0;
            chosen && others_left.load(Relaxed) > 0 && others_left.fetch_sub(1, Relaxed) > 0
        };
        let cmpxchg_acts_left = Atomic::<i64>::new(CMPXCHG_ACTS);
        let step_states = &self.step_states;
        let code = &self.code;
        let by_counter = self.by_counter;
        let cmpxchg_acts_at = |insn: usize| {
            if !code.flags[insn].has(Flags::IS_CMPXCHG) || cmpxchg_acts_left.load(Relaxed) <= 0 {
                return 0;
            }
            let acts = marks.cmpxchg_acts(insn);
            cmpxchg_acts_left.fetch_sub(acts as i64, Relaxed);
            acts
        };
        let idle_steps = Atomic::<usize>::new(0);
        let step = |address, stack| {
            let steps = idle_steps.load(Relaxed) + 1;
            idle_steps.store(steps, Relaxed);
            if steps > MAX_IDLE_STEPS {
                return false;
            }
            let Some(step_state) = step_states.get(cpu::this() as usize) else {
                return false;
            };
            let Some(insn) = code.at(address) else {
                return !by_counter && step_state.step_outside(stack);
            };
            step_state.enter(stack);
            let act = || {
                let acts = actor.on_nmi();
                if acts {
                    (stage.nmi)();
                }
                acts
            };
            if marks.visit(insn, act) {
                idle_steps.store(0, Relaxed);
            } else {
                let acts = match cmpxchg_acts_at(insn) {
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
        add_elapsed(&mut self.times.breakpoints, &mut start);
        let mut ran = Ok(());
        for _ in 0..tries {
            let before = marks.hits.load(Relaxed);
            idle_steps.store(0, Relaxed);
            ran = (stage.run)(&self.workload_pool);
            thread::still_alive();
            let all = insns.iter().take(SLOTS).all(|&insn| marks.ran(insn));
            if ran.is_err() || actor.is_spent() || all && marks.hits.load(Relaxed) == before {
                break;
            }
        }
        add_elapsed(&mut self.times.workloads, &mut start);
        drop(counted);
        drop(breakpoints);
        drop(steps);
        ran?;
        add_elapsed(&mut self.times.breakpoints, &mut start);
        let spent = actor.is_spent();
        let not_nmi = actor.elsewhere();
        self.nmis += actor.inside();
        self.finish_group(insns, stage, not_nmi)?;
        add_elapsed(&mut self.times.checks, &mut start);
        Ok(spent)
    }

    /// Walks from all of `list`, [`SLOTS`] at a time. Returns how many were left for lack of time.
    pub(super) fn walk_all(
        &mut self,
        list: &[usize],
        stage: &Stage<'_>,
        marks: &InsnMarks,
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

    /// As [`Self::run()`], with steps from the cycle counter. Stepping never stops, so no
    /// breakpoints are needed. Ends after [`MAX_IDLE_RUNS`] runs without a new hit.
    pub(super) fn run_by_counter(&mut self, stage: &Stage<'_>, marks: &InsnMarks) -> Result<usize> {
        let mut idle = 0;
        while idle < MAX_IDLE_RUNS && thread::now() <= stage.end {
            let before = marks.hits.load(Relaxed);
            self.walk(&[], stage, marks, stage.tries)?;
            idle = if marks.hits.load(Relaxed) == before {
                idle + 1
            } else {
                0
            };
        }
        self.record_hits(marks);
        Ok(0)
    }

    /// Records the hits of a stage.
    pub(super) fn record_hits(&mut self, marks: &InsnMarks) {
        for (insn, state) in self.states.iter_mut().enumerate() {
            if marks.has(insn, InsnMarks::HIT) {
                *state = InsnState::Hit;
            }
        }
    }

    /// Runs `stage` until its end while the cycle counter raises NMIs at arbitrary instructions,
    /// which count as hit. Returns how many NMIs came in the swept code.
    ///
    /// # Errors
    ///
    /// `ENOENT` if no counter raises NMIs; `EBADMSG` as for [`Self::group()`].
    pub(crate) fn sample(&mut self, stage: &Stage<'_>) -> Result<u64> {
        let seen = vec_of(self.len(), |_| Atomic::<i32>::new(0))?;
        let mut came = 0;
        let small = mem::replace(&mut self.pool, Pool::new(SAMPLED_OBJECTS)?);
        while thread::now() < stage.end {
            let actor = Actor::new(&self.pool, 1, SAMPLED_OBJECTS as i64);
            let inside = Atomic::<u64>::new(0);
            let code = &self.code;
            let body = |address, _| {
                if let Some(seen) = code.at(address).and_then(|insn| seen.get(insn)) {
                    seen.store(1, Relaxed);
                    inside.add(1, Relaxed);
                    actor.on_nmi();
                }
                false
            };
            let hook = Hook::stepping(&body);
            let cycles = Cycles::new(storm::PERIOD, &hook)?;
            let mut ran = Ok(());
            let round = thread::now() + SAMPLE_NSECS;
            while ran.is_ok() && thread::now() < round {
                ran = (stage.run)(&self.workload_pool);
                thread::still_alive();
            }
            drop(cycles);
            ran?;
            came += inside.load(Relaxed);
            self.nmis += actor.inside();
            let not_nmi = actor.elsewhere();
            self.finish_group(&[], stage, not_nmi)?;
        }
        self.pool = small;
        for (state, seen) in self.states.iter_mut().zip(seen.iter()) {
            if seen.load(Relaxed) != 0 {
                *state = InsnState::Hit;
            }
        }
        Ok(came)
    }
}
