// SPDX-License-Identifier: GPL-2.0

//! An NMI at every instruction of the core module, and of the functions of the kernel that it calls
//! with its lock held. The cases share one sweep: each adds what its loads can reach, and
//! `coverage` looks at the sums.

use crate::{
    cache_load, files,
    pool::Pool,
    provoke,
    route::Route,
    sweep::{Core, Stage, Sweep, Totals, Why},
    sys::{
        alloc::{self, Source},
        cache::SheafCache,
        cpu,
        kunit::skip,
        probes, step, text, thread,
    },
    table::{Alloc, Table, Wrong, SIZE},
    wanted::PARTS,
    workload::Load,
    SLOW,
};
use kernel::{fmt, prelude::*};

/// Whether there is time for all loads. On PREEMPT_RT, where breakpoints come and go slowly, those do
/// that the engines differ in there.
const ALL_LOADS: bool = !SLOW && cfg!(not(CONFIG_PREEMPT_RT));

/// Seconds for each case; KUnit gives a test 300.
fn secs() -> i64 {
    if text::is_short() {
        8
    } else {
        240
    }
}

/// Seconds for each load that is sampled.
const SAMPLE_SECS: i64 = 4;

/// Seconds for each load that is followed by the cycle counter, which count instructions: 10^9 each.
const STEP_SECS: i64 = 1;

/// Instructions that have to be hit then, by all loads and by the first.
const STEPPED: [usize; 2] = [8000, 2000];

/// Groups of random instructions.
const ROUNDS: usize = if SLOW {
    20
} else if ALL_LOADS {
    400
} else {
    100
};

/// Of 1000 instructions of the kernel's functions, those that have to be hit: at full length, and
/// otherwise.
const WANTED_OF_KERNEL: [usize; 2] = [500, 300];

/// Where loads are cut short, of so many functions of the core one may not be run at all.
const UNREACHED: usize = 20;

/// Instructions that have to be hit where there is time for two loads only, or for one.
const WANTED_OF_FEW: usize = if SLOW { 100 } else { 2000 };

/// Where everything is slow, what NMIs can interrupt with a lock held or a list half linked.
fn selected(name: &str) -> bool {
    const SHORT: [&str; 6] = ["nolock", "krcp", "list", "queue", "alloc", "free"];
    !SLOW || SHORT.iter().any(|part| name.contains(part))
}

/// Whether the core runs engine lockless.
fn lockless() -> Result<bool> {
    let probes = probes::Probes::register()?;
    let object = alloc::alloc(Source::Kmalloc, 64).ok_or(ENOMEM)?;
    // SAFETY: Just allocated.
    unsafe { Route::Kvfree.free(object, 0) };
    drop(probes);
    Ok(probes::saw_lockless())
}

/// Whether there are breakpoints: the case is skipped where there are none.
fn has_breakpoints() -> bool {
    if cfg!(not(CONFIG_X86)) {
        skip(c"no execution breakpoints with a handler of one's own here");
    }
    cfg!(CONFIG_X86)
}

/// The same for [`sweeps_core()`], and [`ALL_LOADS`].
fn sweeps_all_loads() -> bool {
    let sweeps_core = sweeps_core();
    if sweeps_core && !ALL_LOADS {
        skip(if SLOW {
            c"there is time for one load only: everything is slow here"
        } else {
            c"there is time for two loads only: breakpoints come and go slowly here"
        });
    }
    sweeps_core && ALL_LOADS
}

/// The same, and whether it is the core that is swept, not functions that a parameter names.
fn sweeps_core() -> bool {
    if !text::sweep_func().is_empty() {
        skip(c"parameter func names others");
        return false;
    }
    has_breakpoints()
}

fn log(sweep: &Sweep, what: &dyn fmt::Debug, left: usize, since: i64) {
    let totals = sweep.totals();
    let secs = |n: i64| n / 1_000_000_000;
    let t = sweep.times;
    pr_info!(
        "sweep: {:?}: {} left for lack of time; {} of {} instructions hit, {} groups, {} NMIs, {} s (so far {} s breakpoints, {} s loads, {} s checks)\n",
        what,
        left,
        totals.hit,
        sweep.len(),
        sweep.groups,
        sweep.nmis,
        secs(thread::now() - since),
        secs(t.breakpoints),
        secs(t.loads),
        secs(t.checks)
    );
}

/// The users of a cache beside a load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Users {
    /// There is none.
    Idle,
    /// This task, and the NMIs.
    Here,
    /// Tasks on all CPUs, and the NMIs; others come and go.
    Everywhere,
}

/// Why cases are skipped then.
const NO_LIST: &CStr = c"there is no list of instructions";

/// As [`sweep_for()`], as long as a case may take.
fn sweep(loads: &[Load], users: Users, select: impl Fn(&str) -> bool) -> Result<Option<Totals>> {
    sweep_for(secs(), loads, users, select)
}

/// Sweeps what `select` takes under each of `loads`, for `secs` seconds in all, beside objects of a
/// cache that are replaced. `None`: there is no list of instructions.
fn sweep_for(
    secs: i64,
    loads: &[Load],
    users: Users,
    select: impl Fn(&str) -> bool,
) -> Result<Option<Totals>> {
    let cache = match users {
        Users::Idle => None,
        _ => Some(SheafCache::new(
            c"rcu_ptr_sweep",
            SIZE,
            cache_load::small(),
        )?),
    };
    if let Some(cache) = &cache {
        cache.prefill(50)?;
    }
    let table = cache.as_ref().map(|c| Table::new(c, 20)).transpose()?;
    let turns = |n| {
        for _ in 0..n {
            for how in [Alloc::Sleep, Alloc::Atomic, Alloc::Nolock] {
                table.iter().for_each(|table| table.turn(how));
            }
        }
    };
    let core = text::sweep_module() == "rcu_ptr";
    let lockless = core.then(lockless).transpose()?;
    let last = thread::now() + secs * 1_000_000_000;
    let totals = files::with_sweep(lockless, |sweep| {
        for (i, &load) in loads.iter().enumerate() {
            let since = thread::now();
            // Where there is little time, each load has its part of what is left.
            let share = if text::is_short() {
                (last - since) / (loads.len() - i) as i64
            } else {
                last - since
            };
            let prepared = load.prepare()?;
            let run = |pool: &Pool| -> Result {
                if users == Users::Everywhere {
                    thread::on_cpus(cpu::online(), &|_| turns(8), || ())?;
                    if !load.has_caches() {
                        cache_load::come_and_go()?;
                    }
                } else {
                    turns(2);
                }
                load.run(pool)
            };
            let nmi = || table.iter().for_each(|table| table.turn(Alloc::Nolock));
            let stage = Stage {
                name: &load,
                run: &run,
                nmi: &nmi,
                check: &|| table.iter().all(|table| table.wrong() == Wrong::default()),
                tries: load.tries(),
                end: since + share,
            };
            let left = sweep.run(&stage, &select)?;
            drop(prepared);
            log(sweep, stage.name, left, since);
        }
        Ok(sweep.totals())
    })?;
    if totals.is_none() {
        skip(NO_LIST);
    }
    Ok(totals)
}

/// Samples what runs under `load`.
fn sample(load: Load) -> Result<Option<()>> {
    let lockless = Some(lockless()?);
    files::with_sweep(lockless, |sweep| {
        let since = thread::now();
        let prepared = load.prepare()?;
        let run = |pool: &Pool| load.run(pool);
        let stage = Stage::of(&load, &run, 1, since + SAMPLE_SECS * 1_000_000_000);
        let came = sweep.sample(&stage)?;
        drop(prepared);
        pr_info!("sweep: {:?}: {} NMIs in the code\n", stage.name, came);
        log(sweep, stage.name, 0, since);
        Ok(())
    })
}

fn random_groups() -> Result<Option<()>> {
    files::with_sweep(None, |sweep| {
        let since = thread::now();
        let seed = since as u64;
        pr_info!("sweep: random groups with seed {}\n", seed);
        let load = Load::Light;
        let run = |pool: &Pool| load.run(pool);
        let name = format_args!("random groups");
        let stage = Stage::of(&name, &run, 1, since + secs() * 1_000_000_000);
        sweep.random(seed, ROUNDS, &stage)?;
        log(sweep, stage.name, 0, since);
        Ok(())
    })
}

fn report(module: &str, sweep: &Sweep) -> Totals {
    sweep.report();
    let t = sweep.totals();
    pr_info!(
        "sweep of {}: {} instructions, {} of {} that can be reached hit ({} in functions never run, {} on branches not taken)\n",
        module,
        t.all,
        t.hit,
        t.reachable(),
        t.missed(Why::Unreached),
        t.missed(Why::Branch)
    );
    pr_info!(
        "sweep of {}: out of reach: {} of the other engine, {} lead to a panic, {} in functions without a caller, {} without breakpoints, {} NMIs in_nmi(); all their objects and {} of the loads freed once\n",
        module,
        t.missed(Why::OtherEngine),
        t.missed(Why::Panics),
        t.missed(Why::Unused),
        t.missed(Why::Refused),
        sweep.nmis,
        sweep.freed
    );
    t
}

/// Whether the core was swept as it has to be.
fn judge(sweep: &Sweep, lockless: bool) -> bool {
    let is_whole = !text::is_short();
    let core = sweep.core(lockless);
    pr_info!(
        "sweep: core: {} functions, {} complete, {} never run, {} with too much left; {} of {} instructions left\n",
        core.functions,
        core.complete,
        core.unreached,
        core.short,
        core.left,
        core.insns
    );
    let mut is_good = is_core_good(&core, is_whole);
    for part in &PARTS {
        if part.is_of_other_engine(lockless) {
            continue;
        }
        let totals = sweep.totals_of_part(part);
        let wanted = part.shares[usize::from(!is_whole)];
        let share = totals.hit * 1000 / totals.reachable().max(1);
        pr_info!(
            "sweep: {}: {} of {} that can be reached hit, {} of 1000, {} wanted\n",
            part.name,
            totals.hit,
            totals.reachable(),
            share,
            wanted
        );
        is_good &= share >= wanted;
    }
    is_good
}

fn is_core_good(core: &Core, is_whole: bool) -> bool {
    let reached = if is_whole {
        core.short == 0
    } else {
        core.unreached * UNREACHED <= core.functions
    };
    core.unknown == 0 && reached
}

#[kunit_tests(rcu_ptr_sweep)]
mod tests {
    use super::*;

    /// Where there are no breakpoints: the cycle counter interrupts what it meets.
    #[test]
    fn sampled() -> Result {
        skip_if!(
            cfg!(CONFIG_X86) || !text::sweep_func().is_empty(),
            c"breakpoints do it better"
        );
        const LOADS: [Load; 8] = [
            Load::Light,
            Load::Contend,
            Load::Full,
            Load::List,
            Load::Shrink,
            Load::Files,
            Load::Trace,
            Load::Refill,
        ];
        let loads = if text::is_short() { 2 } else { LOADS.len() };
        for &load in &LOADS[..loads] {
            let sampled = sample(load)?;
            skip_if!(sampled.is_none(), NO_LIST);
        }
        let totals = files::with_sweep(None, |sweep| Ok(report(text::sweep_module(), sweep)))?;
        let hit = totals.map_or(0, |t| t.hit);
        // QEMU takes interrupts between translated blocks only, so they are few: some 20 in all.
        check!(hit >= loads);
        Ok(())
    }

    /// Where the cycle counter counts instructions: an NMI in front of each.
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
        const LOADS: [(Load, Users); 13] = [
            (Load::Light, Users::Idle),
            (Load::Light, Users::Here),
            (Load::Contend, Users::Here),
            (Load::Full, Users::Here),
            (Load::List, Users::Here),
            (Load::Caches, Users::Here),
            (Load::Ready, Users::Here),
            (Load::Shrink, Users::Here),
            (Load::Refill, Users::Here),
            (Load::Monitor, Users::Here),
            (Load::NoBlocks, Users::Here),
            (Load::CachesFail, Users::Here),
            (Load::Files, Users::Here),
        ];
        let loads = if text::is_short() { 1 } else { LOADS.len() };
        for &(load, users) in &LOADS[..loads] {
            if sweep_for(STEP_SECS, &[load], users, selected)?.is_none() {
                return Ok(());
            }
        }
        let totals = files::with_sweep(None, |sweep| Ok(report(text::sweep_module(), sweep)))?;
        let hit = totals.map_or(0, |t| t.hit);
        check!(hit >= STEPPED[usize::from(text::is_short())]);
        Ok(())
    }

    fn sweep_if(is_time: bool, loads: &[Load], users: Users) -> Result {
        if is_time {
            sweep(loads, users, selected)?;
        }
        Ok(())
    }

    fn sweep_caches(loads: &[Load]) -> Result {
        if SLOW {
            skip(c"there is time for one load only: everything is slow here");
            return Ok(());
        }
        sweep_if(sweeps_core(), loads, Users::Everywhere)
    }

    #[test]
    fn calls() -> Result {
        if sweeps_core() {
            let loads: &[Load] = if SLOW {
                &[Load::Light]
            } else if ALL_LOADS {
                &[Load::Light, Load::Traced, Load::Contend, Load::Full]
            } else {
                &[Load::Light, Load::Contend]
            };
            if ALL_LOADS && !text::is_short() {
                sweep(&[Load::Light], Users::Idle, selected)?;
            }
            sweep(loads, Users::Here, selected)?;
        }
        Ok(())
    }

    #[test]
    fn drains() -> Result {
        if sweeps_all_loads() {
            sweep(
                &[
                    Load::Ready,
                    Load::Monitor,
                    Load::List,
                    Load::Shrink,
                    Load::Barriers,
                ],
                Users::Here,
                selected,
            )?;
            sweep(&[Load::Refill], Users::Here, |name| name.contains("refill"))?;
        }
        Ok(())
    }

    #[test]
    fn files_and_traces() -> Result {
        let loads = [Load::RareTrace, Load::Trace, Load::Files];
        sweep_if(sweeps_all_loads(), &loads, Users::Here)
    }

    #[test]
    fn rare_events() -> Result {
        let is_time = sweeps_all_loads();
        if is_time {
            provoke::all()?;
        }
        let loads = [Load::Misuse, Load::Hotplug, Load::NoBlocks];
        sweep_if(is_time, &loads, Users::Here)
    }

    #[test]
    fn caches() -> Result {
        sweep_caches(&[Load::LargeSheaves, Load::Caches])
    }

    #[test]
    fn caches_without_memory() -> Result {
        sweep_caches(&[Load::CachesFail])
    }

    #[test]
    fn caches_in_rare_events() -> Result {
        sweep_if(sweeps_all_loads(), &[Load::Hotplug], Users::Everywhere)
    }

    #[test]
    fn coverage() -> Result {
        if sweeps_core() {
            let lockless = lockless()?;
            let result = files::with_sweep(None, |sweep| {
                let totals = report(text::sweep_module(), sweep);
                let is_judged = ALL_LOADS && text::sweep_module() == "rcu_ptr";
                let is_good = !is_judged || judge(sweep, lockless);
                // Most loads free some of the pool's each time.
                Ok((totals, is_good, sweep.freed > sweep.groups))
            })?;
            let (totals, is_good, freed) = or_skip!(result, NO_LIST);
            check!(freed);
            check!(totals.hit >= WANTED_OF_FEW);
            check!(is_good);
        }
        Ok(())
    }

    #[test]
    fn random_pairs_and_triples() -> Result {
        if sweeps_core() && random_groups()?.is_none() {
            skip(NO_LIST);
        }
        Ok(())
    }

    #[test]
    fn kernel_functions() -> Result {
        if !has_breakpoints() {
            return Ok(());
        }
        let code = or_skip!(files::take_kernel(), NO_LIST);
        const LOADS: [Load; 5] = [
            Load::Light,
            Load::Contend,
            Load::Full,
            Load::Refill,
            Load::Caches,
        ];
        let mut sweep = Sweep::of(code, None)?;
        let end = thread::now() + secs() * 1_000_000_000;
        let loads = if ALL_LOADS { &LOADS[..] } else { &LOADS[..1] };
        for load in loads {
            let since = thread::now();
            let prepared = load.prepare()?;
            let run = |pool: &Pool| load.run(pool);
            let stage = Stage::of(load, &run, load.tries(), end);
            let left = sweep.run(&stage, |_| true)?;
            drop(prepared);
            log(&sweep, stage.name, left, since);
        }
        let totals = report("vmlinux", &sweep);
        check!(totals.hit > 50);
        let wanted = WANTED_OF_KERNEL[usize::from(text::is_short())];
        check!(!ALL_LOADS || totals.hit * 1000 >= totals.reachable() * wanted);
        Ok(())
    }

    #[test]
    fn chosen_functions() -> Result {
        skip_if!(text::sweep_func().is_empty(), c"parameter func names none");
        if !has_breakpoints() {
            return Ok(());
        }
        let loads: &[Load] = if text::sweep_cmd().is_empty() {
            &[Load::Light, Load::Traced, Load::Contend, Load::Heavy]
        } else {
            &[Load::Command]
        };
        let is_chosen = |name: &str| {
            text::sweep_func()
                .split(',')
                .any(|part| name.contains(part))
        };
        sweep(loads, Users::Here, is_chosen)?;
        let totals = files::with_sweep(None, |sweep| {
            sweep.choose(is_chosen);
            Ok(report(text::sweep_module(), sweep))
        })?;
        let hit = totals.map_or(0, |t| t.hit);
        check!(hit > 0);
        Ok(())
    }
}
