// SPDX-License-Identifier: GPL-2.0

//! The longest interrupts and softirqs while objects are freed: what an engine does in them is in
//! there. `kfree` is the control, it frees at once. The probes that measure it cost some tens of
//! instructions themselves.

use crate::{
    run,
    sys::{
        stretch::{self, Probes},
        thread,
    },
    way::{self, Objects},
    Numbers,
};
use kernel::prelude::*;

const CHUNK: usize = 1000;

/// `test=stretch`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let nmi = run::nmi_source()?;
    run::for_each_source(|name, source| {
        for way in way::ways(source) {
            let Ok(probes) = Probes::attach() else {
                pr_info!("note text=no tracepoints of interrupts here: no stretch is measured\n");
                return Ok(());
            };
            let mut freed = 0;
            while freed < numbers.objects {
                let mut objects = Objects::new(source, CHUNK.min(numbers.objects - freed))?;
                while !objects.is_done() {
                    match &nmi {
                        Some(nmi) if way.in_nmi => nmi.call(&mut || {
                            objects.free(way, 1);
                        }),
                        _ => {
                            objects.free(way, 100);
                        }
                    }
                }
                freed += objects.len();
                thread::cond_resched();
            }
            way.settle();
            drop(probes);
            pr_info!(
                "stretch free={} engine={} object={} from={} count={} irq_work={} timer={} \
                 rcu_softirq={} timer_softirq={} irq_works={} rcu_softirqs={}\n",
                way.name(),
                way.engine(),
                name,
                if way.in_nmi && nmi.is_some() {
                    "nmi"
                } else {
                    "task"
                },
                freed,
                stretch::IRQ_WORK.longest(),
                stretch::TIMER.longest(),
                stretch::SOFTIRQ[stretch::RCU_SOFTIRQ].longest(),
                stretch::SOFTIRQ[stretch::TIMER_SOFTIRQ].longest(),
                stretch::IRQ_WORK.count(),
                stretch::SOFTIRQ[stretch::RCU_SOFTIRQ].count()
            );
        }
        Ok(())
    })
}
