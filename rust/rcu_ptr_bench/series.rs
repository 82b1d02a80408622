// SPDX-License-Identifier: GPL-2.0

//! Pending memory over time: the increase of slab pages while objects are allocated and freed as
//! fast as possible, and while the machine is idle afterwards. Each function gets a new kmem_cache,
//! so that waiting objects use memory and freed ones don't. In addition the peak of all memory
//! (MemAvailable), which includes the blocks of the engine, but also the free pages on per-CPU
//! lists.

use crate::{
    cycle::CHUNK,
    run,
    sys::{counters, free::ObjectKind, thread},
};
use kernel::{fmt, prelude::*};

/// Samples while objects are freed.
const BUSY: usize = 160;
/// Samples afterwards.
const IDLE: usize = 70;
/// The time between samples afterwards.
const IDLE_MSECS: u32 = 100;
/// Samples per line of the log.
const LINE: usize = 20;

/// Time in microseconds, and bytes.
type Sample = (u64, i64);

/// `test=series`.
pub(crate) fn run() -> Result {
    run::for_each_function(|name, _, function| {
        // A new kmem_cache: no allocation is served by objects of earlier functions.
        let source = &ObjectKind::new(name)?;
        // Warm up.
        function.alloc_and_free(source, crate::objects() / 10)?;
        function.settle();
        thread::sleep(100);
        let mut samples = KVVec::with_capacity(BUSY + IDLE + 2, GFP_KERNEL)?;
        let start = thread::now() as u64;
        let slabs = counters::slab_bytes();
        let memory = counters::available_bytes();
        let periods = counters::grace_periods();
        let (mut peak, mut peak_all) = (0, 0);
        let mut sample = |samples: &mut KVVec<Sample>, keep| {
            let bytes = counters::slab_bytes() - slabs;
            peak = peak.max(bytes);
            peak_all = peak_all.max(memory - counters::available_bytes());
            if keep {
                let time = ((thread::now() as u64) - start) / 1000;
                samples.push((time, bytes), GFP_KERNEL)?;
            }
            Ok::<(), Error>(())
        };
        let chunks = crate::objects().div_ceil(CHUNK);
        for i in 0..chunks {
            function.alloc_and_free(source, CHUNK)?;
            sample(&mut samples, i % (chunks / BUSY + 1) == 0)?;
            thread::cond_resched();
        }
        let busy = ((thread::now() as u64) - start) / 1000;
        let periods = counters::grace_periods() - periods;
        for _ in 0..IDLE {
            sample(&mut samples, true)?;
            thread::sleep(IDLE_MSECS);
        }
        pr_info!(
            "series {} object={} count={} size={} busy_us={} peak_bytes={} peak_available_bytes={} \
             left_bytes={} grace_periods={}\n",
            function,
            name,
            chunks * CHUNK,
            source.size(),
            busy,
            peak,
            peak_all,
            counters::slab_bytes() - slabs,
            periods
        );
        for line in samples.chunks(LINE) {
            pr_info!(
                "sample {} object={} values={}\n",
                function,
                name,
                Values(line)
            );
        }
        function.settle();
        Ok(())
    })
}

/// `TIME:BYTES,TIME:BYTES...`
struct Values<'a>(&'a [Sample]);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (time, bytes)) in self.0.iter().enumerate() {
            write!(f, "{}{}:{}", if i > 0 { "," } else { "" }, time, bytes)?;
        }
        Ok(())
    }
}
