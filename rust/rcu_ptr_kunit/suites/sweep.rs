// SPDX-License-Identifier: GPL-2.0

//! An NMI at every instruction of the core module, and of the functions of the kernel that it calls
//! with its lock held.

use crate::{
    nmi::{
        sweep::{Sweep, Totals},
        workload::Load,
    },
    sys::{skip::skip, text, thread},
    SLOW,
};
use kernel::prelude::*;

/// Groups of random instructions.
const ROUNDS: usize = if SLOW { 20 } else { 200 };

/// Where everything is slow, what NMIs can interrupt with a lock held or a list half linked.
fn selected(name: &str) -> bool {
    const SHORT: [&str; 4] = ["nolock", "krcp", "list", "queue"];
    !SLOW || SHORT.iter().any(|part| name.contains(part))
}

/// Sweeps `module` under each of `loads`, then random groups.
fn sweep(module: &str, loads: &[Load], select: impl Fn(&str) -> bool) -> Result<Totals> {
    let mut sweep = Sweep::of(module)?;
    let start = thread::now();
    for &load in loads {
        sweep.run(load, &select)?;
        let totals = sweep.totals();
        pr_info!(
            "sweep of {}: {:?} load: {} of {} instructions hit, {} groups, {} NMIs, {} s\n",
            module,
            load,
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

/// Whether there are breakpoints, and the lists of instructions.
fn possible(module: &str) -> bool {
    if cfg!(not(CONFIG_X86)) {
        skip(c"no execution breakpoints with a handler of one's own here");
        return false;
    }
    match Sweep::of(module) {
        Ok(_) => true,
        Err(e) => {
            pr_info!("no list of the instructions of {}: {:?}\n", module, e);
            skip(c"there is no list of instructions");
            false
        }
    }
}

#[kunit_tests(rcu_ptr_sweep)]
mod tests {
    use super::*;

    #[test]
    fn core_module() -> Result {
        if !possible("rcu_ptr") || !text::sweep_func().is_empty() {
            return Ok(());
        }
        let loads: &[Load] = if SLOW {
            &[Load::Light]
        } else {
            &[Load::Light, Load::Heavy]
        };
        let totals = sweep("rcu_ptr", loads, selected)?;
        assert!(totals.hit > 100);
        Ok(())
    }

    #[test]
    fn kernel_functions() -> Result {
        if !possible("vmlinux") || !text::sweep_func().is_empty() {
            return Ok(());
        }
        let totals = sweep("vmlinux", &[Load::Light], |_| true)?;
        assert!(totals.hit > 50);
        Ok(())
    }

    #[test]
    fn chosen_functions() -> Result {
        if text::sweep_func().is_empty() {
            skip(c"parameter sweep_func names none");
            return Ok(());
        }
        if !possible(text::sweep_module()) {
            return Ok(());
        }
        let loads: &[Load] = if text::sweep_cmd().is_empty() {
            &[Load::Light, Load::Heavy]
        } else {
            &[Load::Command]
        };
        let totals = sweep(text::sweep_module(), loads, |name| {
            name.contains(text::sweep_func())
        })?;
        assert!(totals.hit > 0);
        Ok(())
    }
}
