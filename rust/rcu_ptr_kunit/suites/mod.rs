// SPDX-License-Identifier: GPL-2.0

//! The suites, one per file. A suite is what `#[kunit_tests]` makes of an inline module.

mod barrier;
mod cache_api;
mod call;
mod contexts;
mod hog;
mod hotplug;
mod kinds;
mod list;
mod load;
mod mightsleep;
mod misuse;
mod nmi;
mod nmi_storm;
mod reader;
mod reclaim;
mod rust_api;
mod rust_drop;
mod sheaf_alloc;
mod sheaf_bounds;
mod sheaf_calls;
mod sheaf_ctor;
mod sheaf_debug;
mod sheaf_dtor;
mod sheaf_fail;
mod sheaf_life;
mod sheaf_limits;
mod sheaf_memory;
mod sheaf_srcu;
mod sheaf_storm;
mod tracepoints;
mod volume;
