// SPDX-License-Identifier: GPL-2.0

//! NMIs in tests: what a handler does, and a storm of them from the strongest source.

pub(crate) mod actor;
pub(crate) mod storm;
