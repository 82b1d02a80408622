// SPDX-License-Identifier: GPL-2.0

//! The module parameters: their values, limits and parsers. shim.c declares them.

use crate::{
    api,
    sys::{generated as sys, gp, module::ParamLock},
};
use core::fmt::Write;
use kernel::{
    prelude::*,
    str::Formatter,
    sync::atomic::{Atomic, AtomicFlag, Full, Relaxed},
};

/// A numeric parameter.
struct Number {
    id: c_uint,
    name: &'static str,
    value: Atomic<u32>,
    min: u32,
    max: u32,
    unit: &'static str,
}

/// Blocks to keep per CPU (`rcutree.rcu_min_cached_objs`). If 0, calls in atomic context open no
/// block.
static MIN_CACHED_OBJS: Number = Number {
    id: sys::RCU_PTR_PARAM_MIN_CACHED_OBJS,
    name: "rcu_min_cached_objs",
    value: Atomic::new(5),
    min: 0,
    max: 64,
    unit: "blocks",
};

/// Delay of a refill after memory pressure (`rcutree.rcu_delay_page_cache_fill_msec`).
static FILL_DELAY: Number = Number {
    id: sys::RCU_PTR_PARAM_FILL_DELAY,
    name: "rcu_delay_page_cache_fill_msec",
    value: Atomic::new(5000),
    min: 0,
    max: 100_000,
    unit: "ms",
};

/// How long objects are collected before their grace period is requested (`KFREE_DRAIN_JIFFIES`).
static DRAIN_INTERVAL: Number = Number {
    id: sys::RCU_PTR_PARAM_DRAIN_INTERVAL,
    name: "drain_interval_msec",
    value: Atomic::new(5000),
    min: 1,
    max: 600_000,
    unit: "ms",
};

static NUMBERS: [&Number; 3] = [&MIN_CACHED_OBJS, &FILL_DELAY, &DRAIN_INTERVAL];

/// Blocks to keep per CPU.
#[inline]
pub(crate) fn min_cached_objs() -> usize {
    MIN_CACHED_OBJS.value.load(Relaxed) as usize
}

/// The delay of a refill after memory pressure, in jiffies.
pub(crate) fn refill_delay_jiffies() -> c_ulong {
    gp::msecs_to_jiffies(FILL_DELAY.value.load(Relaxed))
}

/// The drain interval, in jiffies, at least one.
#[inline]
pub(crate) fn drain_jiffies() -> c_ulong {
    gp::msecs_to_jiffies(DRAIN_INTERVAL.value.load(Relaxed)).max(1)
}

/// A second, in jiffies.
pub(crate) fn second_jiffies() -> c_ulong {
    gp::msecs_to_jiffies(1000)
}

/// The drain interval, in milliseconds.
pub(crate) fn drain_msecs() -> u32 {
    DRAIN_INTERVAL.value.load(Relaxed)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineName {
    Rfc,
    Lockless,
}

impl EngineName {
    const ALL: [Self; 2] = [Self::Rfc, Self::Lockless];
    const DEFAULT: Self = Self::Lockless;

    /// The value of the parameter.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rfc => "rfc",
            Self::Lockless => "lockless",
        }
    }
}

/// Index of the chosen engine in [`EngineName::ALL`].
static ENGINE: Atomic<u32> = Atomic::new(EngineName::DEFAULT as u32);

pub(crate) fn engine() -> EngineName {
    EngineName::ALL[ENGINE.load(Relaxed) as usize % EngineName::ALL.len()]
}

/// Whether the engine runs and applies new values. Changed under [`ParamLock`].
static LIVE: AtomicFlag = AtomicFlag::new(false);

/// While this lives, new values are applied to the engine.
pub(crate) struct Updates(());

impl Updates {
    /// The engine has started. May sleep; at module init.
    pub(crate) fn new() -> Self {
        let _lock = ParamLock::new();
        LIVE.store(true, Relaxed);
        Self(())
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        let _lock = ParamLock::new();
        LIVE.store(false, Relaxed);
    }
}

/// Sets parameter `id` from `text`.
///
/// # Context
///
/// May sleep; [`ParamLock`]'s lock is held. Runs before module init for values on insmod's command
/// line.
///
/// # Errors
///
/// `EINVAL`, and logs the reason.
pub(crate) fn set(id: c_uint, text: &CStr) -> Result {
    let text = text.to_str().map_err(|_| EINVAL)?.trim_ascii();
    if id == sys::RCU_PTR_PARAM_ENGINE {
        return choose_engine(text);
    }
    let number = NUMBERS.iter().find(|n| n.id == id).ok_or(EINVAL)?;
    let value = text.parse::<u32>().ok();
    match value.filter(|v| (number.min..=number.max).contains(v)) {
        Some(v) => {
            // ORDERING: Full: timers that were armed with the old value are seen below.
            number.value.xchg(v, Full);
            if LIVE.load(Relaxed) {
                if id == DRAIN_INTERVAL.id {
                    api::update_drain_interval();
                } else if id == MIN_CACHED_OBJS.id {
                    api::trim();
                }
            }
            Ok(())
        }
        None => {
            pr_err!(
                "{}={}: not a whole number from {} to {} ({})\n",
                number.name,
                text,
                number.min,
                number.max,
                number.unit
            );
            Err(EINVAL)
        }
    }
}

/// Sets the engine. At load only: the file in sysfs is not writable.
#[cold]
#[inline(never)]
fn choose_engine(text: &str) -> Result {
    if let Some(chosen) = EngineName::ALL.iter().find(|e| e.name() == text) {
        ENGINE.store(*chosen as u32, Relaxed);
        return Ok(());
    }
    pr_err!(
        "engine={}: no such engine, there is: {}, {}\n",
        text,
        EngineName::ALL[0].name(),
        EngineName::ALL[1].name()
    );
    Err(EINVAL)
}

/// Writes the value of parameter `id` and a newline into `buf`. Returns the length.
pub(crate) fn get(id: c_uint, buf: &mut [u8]) -> Result<usize> {
    let mut f = Formatter::new(buf);
    let written = if id == sys::RCU_PTR_PARAM_ENGINE {
        f.write_fmt(fmt!("{}\n", engine().name()))
    } else {
        let number = NUMBERS.iter().find(|n| n.id == id).ok_or(EINVAL)?;
        f.write_fmt(fmt!("{}\n", number.value.load(Relaxed)))
    };
    written.map_err(|_| EINVAL)?;
    Ok(f.bytes_written())
}
