// SPDX-License-Identifier: GPL-2.0

//! NMIs in tests: what a handler does, storms of them from the strongest source, and one at every
//! instruction of some code.

pub(crate) mod actor;
pub(crate) mod cache_load;
pub(crate) mod code;
pub(crate) mod storm;
pub(crate) mod sweep;
pub(crate) mod wanted;
pub(crate) mod workload;
