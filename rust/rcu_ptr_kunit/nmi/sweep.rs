// SPDX-License-Identifier: GPL-2.0

//! The sweep: an NMI at every instruction of some code, a few instructions at a time, each of which
//! frees objects; after each group every object must have been freed, once.

use super::{
    actor::Actor,
    code::Code,
    workload::{self, Load},
};
use crate::{
    pool::Pool,
    route::Route,
    sys::{
        core as rcu_ptr, cpu,
        nmi::{
            breakpoint::{Breakpoint, Kind, SLOTS},
            Hook,
        },
        thread,
    },
};
use core::array;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

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

/// A sweep of one module, or of some of the kernel's functions.
pub(crate) struct Sweep {
    code: Code,
    states: KVVec<State>,
    pool: Pool,
    /// NMIs that came.
    pub(crate) nmis: u64,
    /// Groups of instructions tried.
    pub(crate) groups: u64,
}

/// The sums.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Instructions there are.
    pub(crate) all: usize,
    /// Instructions that an NMI came before.
    pub(crate) hit: usize,
    /// Those in functions of which none was hit.
    pub(crate) unreached: usize,
    /// Those where the kernel allows no breakpoint.
    pub(crate) refused: usize,
}

impl Sweep {
    /// Prepares a sweep of `code`.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn of(code: Code) -> Result<Self> {
        let mut states = KVVec::with_capacity(code.insns.len(), GFP_KERNEL)?;
        for _ in 0..code.insns.len() {
            states.push(State::Missed, GFP_KERNEL)?;
        }
        Ok(Self {
            code,
            states,
            pool: Pool::new(64)?,
            nmis: 0,
            groups: 0,
        })
    }

    /// Instructions there are.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// Tries up to [`SLOTS`] instructions under `load`; with `watch` one slot less, for a data
    /// breakpoint on the engine's first word of this CPU (the lock of `rfc`), so that NMIs come with
    /// the lock held.
    ///
    /// # Errors
    ///
    /// `EBADMSG` when an object was lost, freed early or damaged.
    fn group(&mut self, insns: &[usize], load: Load, watch: bool) -> Result {
        let counts: [Atomic<u64>; SLOTS] = array::from_fn(|_| Atomic::new(0));
        let actor = Actor::new(&self.pool, Route::Nolock, 2, 16);
        let bodies: [_; SLOTS] = array::from_fn(|i| {
            let count = &counts[i];
            let actor = &actor;
            move || {
                count.add(1, Relaxed);
                actor.fire();
            }
        });
        let fire = || actor.fire();
        let watcher = Hook::new(&fire);
        let hooks: [_; SLOTS] = array::from_fn(|i| Hook::new(&bodies[i]));
        let mut breakpoints: [Option<Breakpoint<'_>>; SLOTS] = array::from_fn(|_| None);
        for (i, &insn) in insns.iter().take(SLOTS).enumerate() {
            match Breakpoint::new(Kind::Execute, self.code.insns[insn], &hooks[i]) {
                Ok(breakpoint) => breakpoints[i] = Some(breakpoint),
                Err(e) if e == EINVAL => self.states[insn] = State::Refused,
                Err(e) => return Err(e),
            }
        }
        let word = rcu_ptr::words(cpu::this()).next().filter(|_| watch);
        let watchpoint = match word {
            Some(word) => Some(Breakpoint::new(Kind::Write4, word, &watcher)?),
            None => None,
        };
        thread::cond_resched();
        let ran = workload::run(load);
        drop(watchpoint);
        drop(breakpoints);
        ran?;
        for (i, &insn) in insns.iter().take(SLOTS).enumerate() {
            if counts[i].load(Relaxed) > 0 {
                self.states[insn] = State::Hit;
            }
        }
        self.groups += 1;
        self.nmis += actor.inside();
        let outside = actor.elsewhere();
        rcu_ptr::barrier();
        if !self.pool.all_freed() || outside > 0 {
            for &insn in insns {
                pr_err!(
                    "an object was lost or damaged: {:#x}\n",
                    self.code.insns[insn]
                );
            }
            return Err(EBADMSG);
        }
        self.pool.renew()
    }

    /// Tries every instruction in functions that `select` takes and that was not hit yet. Functions
    /// whose first instruction is never run are left out after one look. Stops after `secs` seconds;
    /// returns how many instructions were not tried for lack of time.
    pub(crate) fn run(
        &mut self,
        load: Load,
        secs: i64,
        select: impl Fn(&str) -> bool,
    ) -> Result<usize> {
        let end = thread::now() + secs * 1_000_000_000;
        let watch = load == Load::Heavy;
        let width = if watch { SLOTS - 1 } else { SLOTS };
        // The entries first: they tell which functions are run at all.
        let mut entries = KVVec::new();
        for function in self.code.functions.iter() {
            if select(self.code.name(function)) {
                entries.push(function.insns.start, GFP_KERNEL)?;
            }
        }
        for (done, group) in entries.chunks(width).enumerate() {
            if thread::now() > end {
                return Ok(entries.len() - done * width);
            }
            self.group(group, load, watch)?;
        }
        let mut rest = KVVec::new();
        for function in self.code.functions.iter() {
            let entered = self.states[function.insns.start] != State::Missed;
            if entered && select(self.code.name(function)) {
                for insn in function.insns.clone() {
                    if self.states[insn] == State::Missed {
                        rest.push(insn, GFP_KERNEL)?;
                    }
                }
            }
        }
        for (done, group) in rest.chunks(width).enumerate() {
            if thread::now() > end {
                return Ok(rest.len() - done * width);
            }
            self.group(group, load, watch)?;
        }
        Ok(0)
    }

    /// Random groups of instructions that were hit before: two, three or four at once.
    pub(crate) fn random(&mut self, seed: u64, rounds: usize) -> Result {
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
        for _ in 0..rounds {
            let group: [usize; SLOTS] = array::from_fn(|_| hit[next(hit.len())]);
            let size = 2 + next(SLOTS - 1);
            self.group(&group[..size], Load::Light, false)?;
        }
        Ok(())
    }

    /// The sums so far.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for function in self.code.functions.iter() {
            let states = &self.states[function.insns.clone()];
            let count = |state| states.iter().filter(|&&s| s == state).count();
            totals.all += states.len();
            totals.hit += count(State::Hit);
            totals.refused += count(State::Refused);
            if count(State::Hit) == 0 {
                totals.unreached += states.len();
            }
        }
        totals
    }

    /// Says in the log which functions were not hit, or not all of them.
    pub(crate) fn report(&self) {
        for function in self.code.functions.iter() {
            let states = &self.states[function.insns.clone()];
            let hit = states.iter().filter(|&&s| s == State::Hit).count();
            if hit == states.len() {
                continue;
            }
            let name = self.code.name(function);
            let refused = states.iter().filter(|&&s| s == State::Refused).count();
            if hit == 0 {
                pr_info!(
                    "sweep: never run by the load: {} ({})\n",
                    name,
                    states.len()
                );
            } else {
                let first = states.iter().position(|&s| s != State::Hit).unwrap_or(0);
                pr_info!(
                    "sweep: branches not taken in {}: {} of {} hit, {} refused, first missed is number {}\n",
                    name,
                    hit,
                    states.len(),
                    refused,
                    first
                );
            }
        }
    }
}
