// SPDX-License-Identifier: GPL-2.0

//! An NMI at every instruction of the core module, and of the functions of the kernel that it calls
//! with its lock held.

use crate::{
    files,
    nmi::{
        code::Code,
        sweep::{Sweep, Totals},
        workload::Load,
    },
    sys::{skip::skip, text, thread},
    SLOW,
};
use kernel::prelude::*;

/// Seconds for each load; KUnit gives a test 300.
const SECS: i64 = 40;

/// Groups of random instructions.
const ROUNDS: usize = if SLOW { 20 } else { 200 };

/// Where everything is slow, what NMIs can interrupt with a lock held or a list half linked.
/// Caches have a sweep of their own.
fn selected(name: &str) -> bool {
    const SHORT: [&str; 4] = ["nolock", "krcp", "list", "queue"];
    let slow = SLOW && !SHORT.iter().any(|part| name.contains(part));
    !slow && !name.contains("5sheaf") && !name.contains("cache")
}

/// Sweeps `code` of `module` under each of `loads`, then random groups.
fn sweep(
    module: &str,
    code: Code,
    loads: &[Load],
    select: impl Fn(&str) -> bool,
) -> Result<Totals> {
    let mut sweep = Sweep::of(code)?;
    let start = thread::now();
    for &load in loads {
        let untried = sweep.run(load, SECS, &select)?;
        let totals = sweep.totals();
        pr_info!(
            "sweep of {}: {:?} load: {} untried for lack of time, {} of {} instructions hit, {} groups, {} NMIs, {} s\n",
            module,
            load,
            untried,
            totals.hit,
            sweep.len(),
            sweep.groups,
            sweep.nmis,
            (thread::now() - start) >> 30
        );
    }
    let seed = thread::now() as u64;
    pr_info!("sweep of {}: random groups with seed {}\n", module, seed);
    sweep.random(seed, ROUNDS)?;
    sweep.report();
    let totals = sweep.totals();
    pr_info!(
        "sweep of {}: {} instructions, {} hit, {} in functions the load never runs, {} refused by the kernel, {} on branches not taken; {} NMIs in_nmi(), all objects freed once\n",
        module,
        totals.all,
        totals.hit,
        totals.unreached,
        totals.refused,
        totals.all - totals.hit - totals.unreached - totals.refused,
        sweep.nmis
    );
    Ok(totals)
}

/// The code, where there are breakpoints and somebody listed its instructions.
fn possible(code: Option<Code>) -> Option<Code> {
    if cfg!(not(CONFIG_X86)) {
        skip(c"no execution breakpoints with a handler of one's own here");
        return None;
    }
    if code.is_none() {
        skip(c"there is no list of instructions");
    }
    code
}

#[kunit_tests(rcu_ptr_sweep)]
mod tests {
    use super::*;

    #[test]
    fn core_module() -> Result {
        if !text::sweep_func().is_empty() {
            skip(c"parameter sweep_func names others");
            return Ok(());
        }
        let Some(code) = possible(files::take_module()) else {
            return Ok(());
        };
        let loads: &[Load] = if SLOW {
            &[Load::Light]
        } else {
            &[Load::Light, Load::Heavy]
        };
        let totals = sweep(text::sweep_module(), code, loads, selected)?;
        assert!(totals.hit > 100);
        Ok(())
    }

    #[test]
    fn kernel_functions() -> Result {
        let Some(code) = possible(files::take_kernel()) else {
            return Ok(());
        };
        let totals = sweep("vmlinux", code, &[Load::Light], |_| true)?;
        assert!(totals.hit > 50);
        Ok(())
    }

    #[test]
    fn chosen_functions() -> Result {
        if text::sweep_func().is_empty() {
            skip(c"parameter sweep_func names none");
            return Ok(());
        }
        let Some(code) = possible(files::take_module()) else {
            return Ok(());
        };
        let loads: &[Load] = if text::sweep_cmd().is_empty() {
            &[Load::Light, Load::Heavy]
        } else {
            &[Load::Command]
        };
        let totals = sweep(text::sweep_module(), code, loads, |name| {
            name.contains(text::sweep_func())
        })?;
        assert!(totals.hit > 0);
        Ok(())
    }
}
