// SPDX-License-Identifier: GPL-2.0

//! NMIs in tests: what a handler does, and storms of them from the strongest source. One at every
//! instruction is rust/nmi_sweep.

#[allow(dead_code)]
pub(crate) mod actor;
pub(crate) mod storm;
