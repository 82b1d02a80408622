// SPDX-License-Identifier: GPL-2.0

//! What most suites use. `core` is rcu_ptr.ko here; Rust's is `::core`.

pub(crate) use crate::{
    bound::{self, by_length, scaled, SLOW},
    cpus::{self, Down},
    events::EventCounter,
    free_fn::FreeFn,
    held::Held,
    params,
    pool::{Pool, FREES_ARE_VISIBLE},
    sys::{
        alloc::{self, Source},
        cache::{self, sheaves, Args, SheafCache},
        core, core_test,
        cpu::{self, Context},
        fault, gp, thread,
        timer::{self, Where},
        user,
    },
    table::{Alloc, Table, Violations, SIZE},
};
pub(crate) use ::core::ptr::NonNull;
pub(crate) use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        rcu,
    },
};
