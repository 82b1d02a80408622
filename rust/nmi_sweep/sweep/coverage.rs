// SPDX-License-Identifier: GPL-2.0

//! Coverage: which instructions were hit, why the others were not, and whether that is enough.

use super::{InsnState, Sweep};
use crate::{
    code::{Flags, Function},
    sys::text,
    wanted::{self, Wanted, PARTS},
};
use kernel::prelude::*;

/// With short workloads, one in this many functions of the core may not be executed at all.
const UNREACHED: usize = 20;

/// Numbers of instructions by result.
#[derive(Clone, Copy, Default)]
pub(crate) struct Coverage {
    /// All instructions.
    pub(crate) all: usize,
    /// Instructions that an NMI came before.
    pub(crate) hit: usize,
    /// The others, by [`MissReason`].
    missed: [usize; 6],
}

impl Coverage {
    pub(crate) fn missed(&self, miss_reason: MissReason) -> usize {
        self.missed[miss_reason as usize]
    }

    /// Instructions that can be hit, as far as is known.
    pub(crate) fn reachable(&self) -> usize {
        self.hit + self.missed(MissReason::Unreached) + self.missed(MissReason::Branch)
    }
}

/// Results for the functions of which every instruction has to be hit.
#[derive(Clone, Copy, Default)]
pub(crate) struct CoreCoverage {
    pub(crate) functions: usize,
    /// Instructions of these functions.
    pub(crate) insns: usize,
    /// Subset of `insns`: not hit.
    pub(crate) left: usize,
    /// Functions that were never executed.
    pub(crate) unreached: usize,
    /// Functions of which every instruction was hit.
    pub(crate) complete: usize,
    /// Functions of which more instructions than allowed were not hit.
    pub(crate) short: usize,
    /// Names that no function has.
    pub(crate) unknown: usize,
}

/// Why an instruction was not hit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissReason {
    /// The kernel allows no breakpoint there, or the CPU delays the debug exception.
    NoBreakpoint,
    /// It leads only to a panic.
    Panics,
    /// Nothing refers to its function.
    Unused,
    /// It belongs to the engine that is not loaded.
    OtherEngine,
    /// Its function was never executed.
    Unreached,
    /// It is on a branch that was not taken.
    Branch,
}

impl Sweep {
    /// Why `insn`, an instruction of function `number`, was not hit. `None`: it was.
    fn miss_reason(&self, number: usize, insn: usize) -> Option<MissReason> {
        match self.states[insn] {
            InsnState::Hit => return None,
            InsnState::NoBreakpoint => return Some(MissReason::NoBreakpoint),
            InsnState::Missed => {}
        }
        if self.code.flags[insn].has(Flags::IN_SHADOW) {
            return Some(MissReason::NoBreakpoint);
        }
        if self.code.flags[insn].has(Flags::PANICS) {
            return Some(MissReason::Panics);
        }
        if self.code.flags[insn].has(Flags::UNUSED) {
            return Some(MissReason::Unused);
        }
        if self.code.is_excluded(insn) || self.other_engine[number] {
            return Some(MissReason::OtherEngine);
        }
        let mut all = self.code.functions[number].insns.clone();
        Some(if all.any(|i| self.states[i] == InsnState::Hit) {
            MissReason::Branch
        } else {
            MissReason::Unreached
        })
    }

    /// The coverage so far.
    pub(crate) fn coverage(&self) -> Coverage {
        self.coverage_of(|_| true)
    }

    fn coverage_of(&self, is_in: impl Fn(usize) -> bool) -> Coverage {
        let mut coverage = Coverage::default();
        for (number, function) in self.functions() {
            for insn in function.insns.clone().filter(|&insn| is_in(insn)) {
                coverage.all += 1;
                match self.miss_reason(number, insn) {
                    None => coverage.hit += 1,
                    Some(miss_reason) => coverage.missed[miss_reason as usize] += 1,
                }
            }
        }
        coverage
    }

    /// The results of the functions of which every instruction has to be hit.
    pub(crate) fn core(&self, lockless: bool) -> CoreCoverage {
        let mut core = CoreCoverage::default();
        for wanted in wanted::of(lockless) {
            let mut found = 0;
            for (number, function) in self.functions() {
                if !wanted.is(self.code.name(function)) || self.other_engine[number] {
                    continue;
                }
                found += 1;
                self.count_core_function(&mut core, wanted, number, function);
            }
            if found == 0 {
                pr_err!("sweep: no function has {} in its name\n", wanted.name);
                core.unknown += 1;
            }
        }
        core
    }

    fn count_core_function(
        &self,
        core: &mut CoreCoverage,
        wanted: &Wanted,
        number: usize,
        function: &Function,
    ) {
        // Inlined code counts with the part of the source that it comes from.
        let is_own = |insn: usize| self.code.source(insn).starts_with("rust/rcu_ptr/");
        let is_left = |&insn: &usize| {
            let miss_reason = self.miss_reason(number, insn).filter(|_| is_own(insn));
            // Stepping gets to instructions where the kernel allows no breakpoint.
            matches!(
                miss_reason,
                Some(MissReason::Unreached | MissReason::Branch)
            ) || miss_reason == Some(MissReason::NoBreakpoint)
                && !self.code.flags[insn].has(Flags::IN_SHADOW)
        };
        let left = function.insns.clone().filter(is_left).count();
        let is_hit = |&insn: &usize| self.states[insn] == InsnState::Hit;
        core.functions += 1;
        core.insns += function.insns.clone().filter(|&insn| is_own(insn)).count();
        core.left += left;
        let is_run = function.insns.clone().any(|insn| is_hit(&insn));
        core.unreached += usize::from(!is_run && left > wanted.most);
        core.complete += usize::from(left == 0);
        core.short += usize::from(left > wanted.most);
        if left > 0 {
            let reason = if left > wanted.most {
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
                reason
            );
        }
    }

    /// Logs what was not hit, by function and by reason.
    pub(crate) fn report(&self) {
        for (number, function) in self.functions() {
            let name = self.code.name(function);
            let all = function.insns.len();
            let count = |wanted: fn(MissReason) -> bool| {
                let is = |&insn: &usize| self.miss_reason(number, insn).is_some_and(wanted);
                function.insns.clone().filter(is).count()
            };
            let unarmed = count(|w| w == MissReason::NoBreakpoint);
            if unarmed > 0 {
                pr_info!("sweep: {} of {} refused in {}\n", unarmed, all, name);
            }
            if count(|w| w == MissReason::Unreached) > 0 {
                pr_info!("sweep: never run by the workload: {} ({})\n", name, all);
            }
            let branches = count(|w| w == MissReason::Branch);
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

    /// Logs the runs of instructions of `function` that were not hit: offset, length, and source
    /// line.
    fn report_runs(&self, number: usize, function: &Function) {
        let missed = |&insn: &usize| self.miss_reason(number, insn) == Some(MissReason::Branch);
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

/// Logs the coverage of `module`, and returns it.
pub(crate) fn log_coverage(module: &str, sweep: &Sweep) -> Coverage {
    sweep.report();
    let t = sweep.coverage();
    pr_info!(
        "sweep of {}: {} instructions, {} of {} that can be reached hit ({} in functions never \
         run, {} on branches not taken)\n",
        module,
        t.all,
        t.hit,
        t.reachable(),
        t.missed(MissReason::Unreached),
        t.missed(MissReason::Branch)
    );
    pr_info!(
        "sweep of {}: out of reach: {} of the other engine, {} lead to a panic, {} in functions \
         without a caller, {} without breakpoints, {} NMIs in_nmi(); all their objects and {} of \
           the workloads freed once\n",
        module,
        t.missed(MissReason::OtherEngine),
        t.missed(MissReason::Panics),
        t.missed(MissReason::Unused),
        t.missed(MissReason::NoBreakpoint),
        sweep.nmis,
        sweep.freed
    );
    t
}

/// Logs the coverage of the core, and returns whether it is sufficient.
pub(crate) fn judge(sweep: &Sweep, lockless: bool) -> bool {
    let is_whole = !text::is_short();
    let core = sweep.core(lockless);
    pr_info!(
        "sweep: core: {} functions, {} complete, {} never run, {} with too much left; {} of {} \
         instructions left\n",
        core.functions,
        core.complete,
        core.unreached,
        core.short,
        core.left,
        core.insns
    );
    let reached = if is_whole {
        core.short == 0
    } else {
        core.unreached * UNREACHED <= core.functions
    };
    let mut is_good = core.unknown == 0 && reached;
    for part in &PARTS {
        if part.is_of_other_engine(lockless) {
            continue;
        }
        let coverage = sweep.coverage_of(|insn| part.has(sweep.code.source(insn)));
        let wanted = part.shares[usize::from(!is_whole)];
        let share = coverage.hit * 1000 / coverage.reachable().max(1);
        pr_info!(
            "sweep: {}: {} of {} that can be reached hit, {} of 1000, {} wanted\n",
            part.name,
            coverage.hit,
            coverage.reachable(),
            share,
            wanted
        );
        is_good &= share >= wanted;
    }
    is_good
}
