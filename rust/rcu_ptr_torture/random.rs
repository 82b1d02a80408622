// SPDX-License-Identifier: GPL-2.0

//! Random numbers from a seed, in any context, NMI included: splitmix64 with a counter per CPU.

use crate::sys::cpu;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

const CPUS: usize = 64;
/// The increment of the counters: odd, so that its multiples differ in all bits.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes the bits of `x`: each bit of `x` changes half of those of the result.
pub(crate) const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn skewed(n: u64, mut below: impl FnMut(u64) -> u64) -> u64 {
    let bits = u64::from(n.max(1).ilog2()) + 1;
    let top = 1u64 << below(bits);
    (top + below(top)).min(n)
}

/// A counter in a cache line of its own.
#[repr(align(64))]
struct Counter(Atomic<u64>);

/// Random numbers. The order of callers depends on the schedule, so a run depends on the seed alone
/// only on a machine with a deterministic schedule: docs/simulation.md.
pub(crate) struct Random {
    counters: KVec<Counter>,
}

impl Random {
    /// Seeds the counters.
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let mut counters = KVec::with_capacity(CPUS, GFP_KERNEL)?;
        for i in 0..CPUS as u64 {
            let start = mix(seed.wrapping_add(i.wrapping_mul(STEP)));
            counters.push(Counter(Atomic::new(start)), GFP_KERNEL)?;
        }
        Ok(Self { counters })
    }

    /// 64 bits.
    pub(crate) fn next(&self) -> u64 {
        let counter = &self.counters[cpu::this() as usize % CPUS].0;
        mix(counter.fetch_add(STEP, Relaxed))
    }

    /// A number below `n`, 0 if `n` is 0.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }

    /// `true` in one of `n` cases.
    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A number from 1 to `n` for which each power of two is equally likely as the size class, so
    /// that small numbers are frequent.
    pub(crate) fn skewed(&self, n: u64) -> u64 {
        skewed(n, |n| self.below(n))
    }

    /// Returns a source of small numbers.
    pub(crate) fn draw(&self) -> Draw<'_> {
        Draw {
            random: self,
            bits: 0,
            left: 0,
        }
    }
}

/// Small random numbers, several from each 64-bit number.
pub(crate) struct Draw<'a> {
    random: &'a Random,
    /// A fraction of 1, in 2^-64.
    bits: u64,
    /// Unused bits of it.
    left: u32,
}

impl Draw<'_> {
    /// A number below `n`, less than 2^32; 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        let takes = u64::BITS - n.leading_zeros();
        // At least 16 bits remain below the number, so that all values are about equally likely.
        if self.left < takes + 16 {
            self.bits = self.random.next();
            self.left = u64::BITS;
        }
        self.left -= takes;
        let product = u128::from(self.bits) * u128::from(n);
        self.bits = product as u64;
        (product >> u64::BITS) as u64
    }

    /// `true` in one of `n` cases.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// As [`Random::skewed()`].
    pub(crate) fn skewed(&mut self, n: u64) -> u64 {
        skewed(n, |n| self.below(n))
    }
}
