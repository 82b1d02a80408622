// SPDX-License-Identifier: GPL-2.0

//! Memory is short: the cached blocks go back, refills pause, and what waits is pushed on
//! (`kfree_rcu_shrink_scan()`).

use super::{monitor, refill, Rfc};
use crate::sys::{shrinker::Shrink, trace};

/// The engine as memory reclaim sees it.
pub(super) struct KrcShrinker;

impl Shrink for KrcShrinker {
    fn count() -> usize {
        Rfc::get()
            .krc
            .iter()
            .map(|krcp| {
                krcp.with(|state| {
                    state.backoff = true;
                    state.queued.len() + state.nr_cached()
                })
            })
            .sum()
    }

    fn scan(goal: usize) -> usize {
        let mut done = 0;
        for krcp in Rfc::get().krc.iter() {
            let blocks = refill::drop_cached(&krcp);
            // What is not ready goes on its way to be: counted too, as the kernel's own does.
            let waiting = krcp.with(|state| state.queued.len());
            let freed = monitor::run(&krcp);
            trace::shrink(krcp.cpu, blocks, freed);
            done += blocks + waiting.max(freed);
            if done >= goal {
                break;
            }
        }
        done
    }
}
