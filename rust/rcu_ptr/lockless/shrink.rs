// SPDX-License-Identifier: GPL-2.0

//! Memory is short: the spare blocks go back, refills pause, and what waits is pushed on
//! (`kfree_rcu_shrink_scan()`).

use super::{barrier, batch, Lockless};
use crate::sys::{irq::IrqsOff, shrinker::Shrink, trace};
use kernel::sync::atomic::Relaxed;

/// The engine as memory reclaim sees it.
pub(super) struct LocklessShrinker;

impl Shrink for LocklessShrinker {
    fn count() -> usize {
        Lockless::get()
            .krc
            .iter()
            .map(|krcp| {
                krcp.backoff.store(true, Relaxed);
                krcp.queued() + krcp.spares.len()
            })
            .sum()
    }

    fn scan(goal: usize) -> usize {
        let mut done = 0;
        for krcp in Lockless::get().krc.iter() {
            // Counted as soon as it is on its way, as the kernel's own does. A CPU that has no object is
            // left alone, with its empty block if it has one.
            let waiting = krcp.queued();
            barrier::close_current(&krcp);
            batch::start(&krcp, &IrqsOff::save());
            let blocks = batch::trim_spares(&krcp, 0);
            trace::shrink(krcp.cpu, blocks, waiting);
            done += blocks + waiting;
            if done >= goal {
                break;
            }
        }
        done
    }
}
