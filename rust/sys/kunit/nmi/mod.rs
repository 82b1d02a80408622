// SPDX-License-Identifier: GPL-2.0

//! Sources of non-maskable interrupts, and what one does when it comes.
//!
//! | source | x86 | arm64 |
//! |---|---|---|
//! | [`cycles`] | with a PMU | with pseudo-NMIs |
//! | [`breakpoint`] | execution and data | |
//! | [`counted`] | | each next instruction, where the counter counts these |
//! | [`step`] | from an execution breakpoint on | |
//! | [`ipi`] | to this and other CPUs | |

pub(crate) mod breakpoint;
pub(crate) mod counted;
pub(crate) mod cycles;
pub(crate) mod ipi;
pub(crate) mod step;

/// What runs when the interrupt comes. It has to be pinned while a source knows it.
pub(crate) struct Hook<'a> {
    body: Body<'a>,
}

enum Body<'a> {
    Plain(&'a (dyn Fn() + Sync)),
    Where(&'a (dyn Fn(usize) + Sync)),
    Trail(&'a (dyn Fn(usize, usize) -> bool + Sync)),
}

impl<'a> Hook<'a> {
    /// Runs `body`, which must be fit for NMI.
    pub(crate) fn new(body: &'a (dyn Fn() + Sync)) -> Self {
        Self {
            body: Body::Plain(body),
        }
    }

    /// Runs `body`, which must be fit for NMI, with the address of the instruction that was
    /// interrupted; 0 from a source that doesn't tell.
    pub(crate) fn with_address(body: &'a (dyn Fn(usize) + Sync)) -> Self {
        Self {
            body: Body::Where(body),
        }
    }

    /// Runs `body`, which must be fit for NMI, with the address of the instruction that was
    /// interrupted and the stack pointer there. Where that was a breakpoint or a [`step`], the
    /// result says whether the next instruction is to be a step.
    pub(crate) fn trail(body: &'a (dyn Fn(usize, usize) -> bool + Sync)) -> Self {
        Self {
            body: Body::Trail(body),
        }
    }

    #[inline]
    fn run(&self, address: usize, stack: usize) -> bool {
        match self.body {
            Body::Plain(body) => body(),
            Body::Where(body) => body(address),
            Body::Trail(body) => return body(address, stack),
        }
        false
    }
}
