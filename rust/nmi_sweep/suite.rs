// SPDX-License-Identifier: GPL-2.0

//! The KUnit suite: an NMI at every instruction of the core module, and of the functions of the
//! kernel that it calls with its lock held. The cases share one sweep: each adds what its workloads
//! reach, and `coverage` checks the totals.

use crate::{
    cache_workload, files,
    free_fn::FreeFn,
    pool::Pool,
    provoke,
    sweep::{
        coverage::{judge, log_coverage, Coverage},
        Stage, Sweep,
    },
    sys::{
        alloc::{self, Source},
        cache::SheafCache,
        cpu,
        kunit::skip,
        probes, step, text, thread,
    },
    table::{Alloc, Table, Violations, SIZE},
    workload::Workload,
    SLOW,
};
use kernel::{fmt, prelude::*};

/// Whether there is time for all workloads. On PREEMPT_RT, where setting breakpoints is slow, only
/// those run in which the engines differ there.
const ALL_WORKLOADS: bool = !SLOW && cfg!(not(CONFIG_PREEMPT_RT));

/// Seconds for each case; KUnit gives a test 300.
fn secs() -> i64 {
    if text::is_short() {
        8
    } else {
        240
    }
}

/// Seconds for each workload that is sampled.
const SAMPLE_SECS: i64 = 4;

/// Seconds for each workload that the cycle counter steps through, of 10^9 instructions each.
const STEP_SECS: i64 = 1;

/// Instructions that have to be hit then, by all workloads and by the first.
const STEPPED: [usize; 2] = [8000, 2000];

/// Groups of random instructions.
const ROUNDS: usize = if SLOW {
    20
} else if ALL_WORKLOADS {
    400
} else {
    100
};

/// Instructions of 1000 of the kernel's functions that have to be hit: at full length, and
/// otherwise.
const WANTED_OF_KERNEL: [usize; 2] = [500, 300];

/// Instructions that have to be hit where there is time for two workloads only, or for one.
const WANTED_OF_FEW: usize = if SLOW { 100 } else { 2000 };

/// Whether the function `name` is swept: on slow kernels only those in which a lock may be held or
/// a list is being changed.
fn selected(name: &str) -> bool {
    const SHORT: [&str; 6] = ["nolock", "krcp", "list", "queue", "alloc", "free"];
    !SLOW || SHORT.iter().any(|part| name.contains(part))
}

/// Whether the core runs engine lockless.
fn lockless() -> Result<bool> {
    let probes = probes::Probes::register()?;
    let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
    // SAFETY: Just allocated.
    unsafe { FreeFn::Kvfree.free(object, 0) };
    drop(probes);
    Ok(probes::saw_lockless())
}

/// Whether there are breakpoints; without them the case is skipped.
fn has_breakpoints() -> bool {
    if cfg!(not(CONFIG_X86)) {
        skip(c"no execution breakpoints with a handler of one's own here");
    }
    cfg!(CONFIG_X86)
}

/// Whether [`sweeps_core()`] and [`ALL_WORKLOADS`]; otherwise the case is skipped.
fn sweeps_all_workloads() -> bool {
    let sweeps_core = sweeps_core();
    if sweeps_core && !ALL_WORKLOADS {
        skip(if SLOW {
            c"there is time for one workload only: everything is slow here"
        } else {
            c"there is time for two workloads only: breakpoints come and go slowly here"
        });
    }
    sweeps_core && ALL_WORKLOADS
}

/// Whether there are breakpoints, and the core is swept, not functions that a parameter names;
/// otherwise the case is skipped.
fn sweeps_core() -> bool {
    if !text::sweep_func().is_empty() {
        skip(c"parameter func names others");
        return false;
    }
    has_breakpoints()
}

fn log(sweep: &Sweep, what: &dyn fmt::Debug, left: usize, since: i64) {
    let coverage = sweep.coverage();
    let secs = |n: i64| n / 1_000_000_000;
    let t = sweep.times;
    pr_info!(
        "sweep: {:?}: {} left for lack of time; {} of {} instructions hit, {} groups, {} NMIs, {} \
         s (so far {} s breakpoints, {} s workloads, {} s checks)\n",
        what,
        left,
        coverage.hit,
        sweep.len(),
        sweep.groups,
        sweep.nmis,
        secs(thread::now() - since),
        secs(t.breakpoints),
        secs(t.workloads),
        secs(t.checks)
    );
}

/// The users of a cache beside a workload.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Users {
    /// There is no cache.
    Idle,
    /// This task, and the NMIs.
    Here,
    /// Tasks on all CPUs, and the NMIs, beside short-lived caches.
    Everywhere,
}

/// Skip reason.
const NO_LIST: &CStr = c"there is no list of instructions";

/// As [`sweep_for()`], for as long as a case may take.
fn sweep(
    workloads: &[Workload],
    users: Users,
    select: impl Fn(&str) -> bool,
) -> Result<Option<Coverage>> {
    sweep_for(secs(), workloads, users, select)
}

/// Sweeps what `select` takes under each of `workloads`, for `secs` seconds in all, beside objects
/// of a cache that are replaced. `None`: there is no list of instructions.
fn sweep_for(
    secs: i64,
    workloads: &[Workload],
    users: Users,
    select: impl Fn(&str) -> bool,
) -> Result<Option<Coverage>> {
    let new_cache = || SheafCache::new(c"rcu_ptr_sweep", SIZE, cache_workload::small());
    let cache = (users != Users::Idle).then(new_cache).transpose()?;
    if let Some(cache) = &cache {
        cache.prefill(50)?;
    }
    let table = cache.as_ref().map(|c| Table::new(c, 20)).transpose()?;
    let turns = |n| {
        for _ in 0..n {
            for how in [Alloc::Sleep, Alloc::Atomic, Alloc::Nolock] {
                table.iter().for_each(|table| table.exercise(how));
            }
        }
    };
    let core = text::sweep_module() == "rcu_ptr";
    let lockless = core.then(lockless).transpose()?;
    let last = thread::now() + secs * 1_000_000_000;
    let coverage = files::with_sweep(lockless, |sweep| {
        for (i, &workload) in workloads.iter().enumerate() {
            let since = thread::now();
            // In the short form the remaining time is divided evenly.
            let share = if text::is_short() {
                (last - since) / (workloads.len() - i) as i64
            } else {
                last - since
            };
            let prepared = workload.prepare()?;
            let run = |pool: &Pool| -> Result {
                if users == Users::Everywhere {
                    thread::on_cpus(cpu::online(), &|_| turns(8), || ())?;
                    if !workload.has_caches() {
                        cache_workload::short_lived()?;
                    }
                } else {
                    turns(2);
                }
                workload.run(pool)
            };
            let nmi = || table.iter().for_each(|table| table.exercise(Alloc::Nolock));
            let is_good = |table: &Table<'_>| table.violations() == Violations::default();
            let stage = Stage {
                name: &workload,
                run: &run,
                nmi: &nmi,
                check: &|| table.iter().all(is_good),
                tries: workload.tries(),
                end: since + share,
            };
            let left = sweep.run(&stage, &select)?;
            drop(prepared);
            log(sweep, stage.name, left, since);
        }
        Ok(sweep.coverage())
    })?;
    if coverage.is_none() {
        skip(NO_LIST);
    }
    Ok(coverage)
}

/// Samples what runs under `workload`.
fn sample(workload: Workload) -> Result<Option<()>> {
    let lockless = Some(lockless()?);
    files::with_sweep(lockless, |sweep| {
        let since = thread::now();
        let prepared = workload.prepare()?;
        let run = |pool: &Pool| workload.run(pool);
        let stage = Stage::of(&workload, &run, 1, since + SAMPLE_SECS * 1_000_000_000);
        let came = sweep.sample(&stage)?;
        drop(prepared);
        pr_info!("sweep: {:?}: {} NMIs in the code\n", stage.name, came);
        log(sweep, stage.name, 0, since);
        Ok(())
    })
}

#[kunit_tests(rcu_ptr_sweep)]
mod tests {
    use super::*;

    /// Without breakpoints: the cycle counter raises NMIs at arbitrary instructions.
    #[test]
    fn sampled() -> Result {
        skip_if!(
            cfg!(CONFIG_X86) || !text::sweep_func().is_empty(),
            c"breakpoints do it better"
        );
        const WORKLOADS: [Workload; 8] = [
            Workload::Light,
            Workload::Contend,
            Workload::Full,
            Workload::List,
            Workload::Shrink,
            Workload::Debugfs,
            Workload::Trace,
            Workload::Refill,
        ];
        let workloads = if text::is_short() { 2 } else { WORKLOADS.len() };
        for &workload in &WORKLOADS[..workloads] {
            let sampled = sample(workload)?;
            skip_if!(sampled.is_none(), NO_LIST);
        }
        let coverage =
            files::with_sweep(None, |sweep| Ok(log_coverage(text::sweep_module(), sweep)))?;
        let hit = coverage.map_or(0, |t| t.hit);
        // QEMU delivers interrupts only between translated blocks, so they are few: about 20 in
        // all.
        check!(hit >= workloads)
    }

    /// Where the cycle counter counts instructions: an NMI before each.
    #[test]
    fn stepped() -> Result {
        skip_if!(
            cfg!(CONFIG_X86) || !text::sweep_func().is_empty(),
            c"breakpoints do it better"
        );
        skip_if!(
            cpu::online().count() > 1 || !step::is_exact()?,
            c"needs one CPU, and a cycle counter that counts instructions: QEMU's -icount"
        );
        const WORKLOADS: [(Workload, Users); 13] = [
            (Workload::Light, Users::Idle),
            (Workload::Light, Users::Here),
            (Workload::Contend, Users::Here),
            (Workload::Full, Users::Here),
            (Workload::List, Users::Here),
            (Workload::Caches, Users::Here),
            (Workload::Ready, Users::Here),
            (Workload::Shrink, Users::Here),
            (Workload::Refill, Users::Here),
            (Workload::Monitor, Users::Here),
            (Workload::NoBlocks, Users::Here),
            (Workload::CachesFail, Users::Here),
            (Workload::Debugfs, Users::Here),
        ];
        let workloads = if text::is_short() { 1 } else { WORKLOADS.len() };
        for &(workload, users) in &WORKLOADS[..workloads] {
            if sweep_for(STEP_SECS, &[workload], users, selected)?.is_none() {
                return Ok(());
            }
        }
        let coverage =
            files::with_sweep(None, |sweep| Ok(log_coverage(text::sweep_module(), sweep)))?;
        let hit = coverage.map_or(0, |t| t.hit);
        check!(hit >= STEPPED[usize::from(text::is_short())])
    }

    fn sweep_if(is_time: bool, workloads: &[Workload], users: Users) -> Result {
        if is_time {
            sweep(workloads, users, selected)?;
        }
        Ok(())
    }

    fn sweep_caches(workloads: &[Workload]) -> Result {
        if SLOW {
            skip(c"there is time for one workload only: everything is slow here");
            return Ok(());
        }
        sweep_if(sweeps_core(), workloads, Users::Everywhere)
    }

    #[test]
    fn calls() -> Result {
        if sweeps_core() {
            let workloads: &[Workload] = if SLOW {
                &[Workload::Light]
            } else if ALL_WORKLOADS {
                &[
                    Workload::Light,
                    Workload::Traced,
                    Workload::Contend,
                    Workload::Full,
                ]
            } else {
                &[Workload::Light, Workload::Contend]
            };
            if ALL_WORKLOADS && !text::is_short() {
                sweep(&[Workload::Light], Users::Idle, selected)?;
            }
            sweep(workloads, Users::Here, selected)?;
        }
        Ok(())
    }

    #[test]
    fn drains() -> Result {
        if sweeps_all_workloads() {
            sweep(
                &[
                    Workload::Ready,
                    Workload::Monitor,
                    Workload::List,
                    Workload::Shrink,
                    Workload::Barriers,
                ],
                Users::Here,
                selected,
            )?;
            sweep(&[Workload::Refill], Users::Here, |name| {
                name.contains("refill")
            })?;
        }
        Ok(())
    }

    #[test]
    fn files_and_traces() -> Result {
        let workloads = [Workload::RareTrace, Workload::Trace, Workload::Debugfs];
        sweep_if(sweeps_all_workloads(), &workloads, Users::Here)
    }

    #[test]
    fn rare_events() -> Result {
        let is_time = sweeps_all_workloads();
        if is_time {
            provoke::all()?;
        }
        let workloads = [Workload::Misuse, Workload::Hotplug, Workload::NoBlocks];
        sweep_if(is_time, &workloads, Users::Here)
    }

    #[test]
    fn caches() -> Result {
        sweep_caches(&[Workload::LargeSheaves, Workload::Caches])
    }

    #[test]
    fn caches_without_memory() -> Result {
        sweep_caches(&[Workload::CachesFail])
    }

    #[test]
    fn caches_in_rare_events() -> Result {
        let is_time = sweeps_all_workloads();
        sweep_if(is_time, &[Workload::Hotplug], Users::Everywhere)
    }

    #[test]
    fn coverage() -> Result {
        if sweeps_core() {
            let lockless = lockless()?;
            let result = files::with_sweep(None, |sweep| {
                let coverage = log_coverage(text::sweep_module(), sweep);
                let is_judged = ALL_WORKLOADS && text::sweep_module() == "rcu_ptr";
                let is_good = !is_judged || judge(sweep, lockless);
                // Most workloads free some objects of the pool in each run.
                Ok((coverage, is_good, sweep.freed > sweep.groups))
            })?;
            let (coverage, is_good, freed) = or_skip!(result, NO_LIST);
            check!(freed)?;
            check!(coverage.hit >= WANTED_OF_FEW)?;
            check!(is_good)?;
        }
        Ok(())
    }

    #[test]
    fn random_pairs_and_triples() -> Result {
        if !sweeps_core() {
            return Ok(());
        }
        let swept = files::with_sweep(None, |sweep| {
            let since = thread::now();
            let seed = since as u64;
            pr_info!("sweep: random groups with seed {}\n", seed);
            let run = |pool: &Pool| Workload::Light.run(pool);
            let name = format_args!("random groups");
            let stage = Stage::of(&name, &run, 1, since + secs() * 1_000_000_000);
            sweep.random(seed, ROUNDS, &stage)?;
            log(sweep, stage.name, 0, since);
            Ok(())
        })?;
        skip_if!(swept.is_none(), NO_LIST);
        Ok(())
    }

    #[test]
    fn kernel_functions() -> Result {
        if !has_breakpoints() {
            return Ok(());
        }
        let code = or_skip!(files::take_kernel(), NO_LIST);
        const WORKLOADS: [Workload; 5] = [
            Workload::Light,
            Workload::Contend,
            Workload::Full,
            Workload::Refill,
            Workload::Caches,
        ];
        let mut sweep = Sweep::of(code, None)?;
        let end = thread::now() + secs() * 1_000_000_000;
        let workloads = if ALL_WORKLOADS {
            &WORKLOADS[..]
        } else {
            &WORKLOADS[..1]
        };
        for workload in workloads {
            let since = thread::now();
            let prepared = workload.prepare()?;
            let run = |pool: &Pool| workload.run(pool);
            let stage = Stage::of(workload, &run, workload.tries(), end);
            let left = sweep.run(&stage, |_| true)?;
            drop(prepared);
            log(&sweep, stage.name, left, since);
        }
        let coverage = log_coverage("vmlinux", &sweep);
        check!(coverage.hit > 50)?;
        let wanted = WANTED_OF_KERNEL[usize::from(text::is_short())];
        check!(!ALL_WORKLOADS || coverage.hit * 1000 >= coverage.reachable() * wanted)
    }

    #[test]
    fn chosen_functions() -> Result {
        skip_if!(text::sweep_func().is_empty(), c"parameter func names none");
        if !has_breakpoints() {
            return Ok(());
        }
        let workloads: &[Workload] = if text::sweep_cmd().is_empty() {
            &[
                Workload::Light,
                Workload::Traced,
                Workload::Contend,
                Workload::Heavy,
            ]
        } else {
            &[Workload::Command]
        };
        let is_chosen = |name: &str| {
            text::sweep_func()
                .split(',')
                .any(|part| name.contains(part))
        };
        sweep(workloads, Users::Here, is_chosen)?;
        let coverage = files::with_sweep(None, |sweep| {
            sweep.choose(is_chosen);
            Ok(log_coverage(text::sweep_module(), sweep))
        })?;
        let hit = coverage.map_or(0, |t| t.hit);
        check!(hit > 0)
    }
}
