// SPDX-License-Identifier: GPL-2.0

//! Workloads of a sweep with caches: short-lived ones, sheaves of several sizes, failing
//! allocations.

use crate::{
    provoke::{free_rcu_twice, free_twice},
    sys::{
        cache::{self, sheaves, Args, Limits, SheafCache},
        core as rcu_ptr,
        cpu::{self, DownStep},
        fault,
        srcu_domain::{Domain, Kind},
        thread,
    },
    table::{Alloc, Table, SIZE},
};
use core::array;
use kernel::prelude::*;

/// Small sheaves, so that the slow paths are taken often.
pub(crate) fn small() -> Args {
    sheaves(2, 4)
}

/// Every call, with more objects than the limit of the barn.
fn exercise(cache: &SheafCache, objects: usize) -> Result {
    let table = Table::new(cache, objects)?;
    for i in 0..3 * objects {
        match i % 3 {
            0 => table.replace(i, Alloc::Sleep),
            1 => table.replace(i, Alloc::Atomic),
            _ => cpu::irqs_off(|| table.replace(i, Alloc::Nolock)),
        }
        table.alloc_and_free(Alloc::Sleep);
    }
    cpu::irqs_off(|| (0..objects).for_each(|i| table.clear(i)));
    // More than there are reuse slots.
    let held: [_; 6] = array::from_fn(|_| cache.alloc(false));
    for object in held.into_iter().flatten() {
        // SAFETY: An object of this cache, owned by the caller.
        unsafe { cache.free(object) };
    }
    cache::null(cache);
    Ok(())
}

/// Short-lived caches beside others; one is destroyed while objects wait for a grace period.
pub(crate) fn short_lived() -> Result {
    let first = SheafCache::new(c"rcu_ptr_come", SIZE, small())?;
    first.prefill(8)?;
    let second = SheafCache::new(c"rcu_ptr_go", SIZE, sheaves(1, 4))?;
    second.prefill(3)?;
    exercise(&first, 24)?;
    exercise(&second, 6)?;
    rcu_ptr::barrier();
    exercise(&first, 8)?;
    drop(first);
    create_invalid();
    with_link_offset()?;
    with_dtor(Kind::Plain)?;
    with_dtor(Kind::Fast)?;
    with_limits()
}

/// A cache with sheaves of the default size.
pub(crate) fn large() -> Result {
    let cache = SheafCache::new(c"rcu_ptr_usual", SIZE, Args::default())?;
    cache.prefill(200)?;
    exercise(&cache, 80)?;
    // The rcu sheaf is partially filled.
    exercise(&cache, 5)?;
    let _ = (cache.stats(), cache.size());
    cache.barrier();
    exercise(&cache, 80)?;
    Ok(())
}

/// Does nothing. Unsafe only because the type of a destructor is.
///
/// # Safety
///
/// There are no requirements.
unsafe extern "C" fn destruct(_object: *mut c_void) {}

/// Caches with a destructor, without and with an SRCU domain.
fn with_dtor(kind: Kind) -> Result {
    let domain = Domain::new(kind)?;
    for srcu in [core::ptr::null_mut(), domain.raw()] {
        let args = Args {
            dtor: Some(destruct),
            srcu,
            ..small()
        };
        let cache = SheafCache::new(c"rcu_ptr_dtor", SIZE, args)?;
        cache.prefill(8)?;
        exercise(&cache, 24)?;
        cache.barrier();
        // Objects that are freed without a sheaf.
        let held: [_; 12] = array::from_fn(|_| cache.alloc(false));
        fault::fail_alloc(1, 12);
        cpu::irqs_off(|| {
            for object in held.into_iter().flatten() {
                // SAFETY: An object of this cache, owned by the caller.
                unsafe { cache.free_rcu(object) };
            }
        });
        fault::fail_alloc(0, 0);
        exercise(&cache, 6)?;
    }
    Ok(())
}

/// A cache with a low wait limit, and limits that change.
fn with_limits() -> Result {
    let args = Args {
        wait_limit: 200,
        ..small()
    };
    let cache = SheafCache::new(c"rcu_ptr_limited", SIZE, args)?;
    let _ = exercise(&cache, 8);
    cache.set_limits(&Limits::default())?;
    let limits = cache.limits();
    let too_large = Limits {
        sheaf_capacity: 100,
        ..limits
    };
    let _ = cache.set_limits(&too_large);
    if let Some(object) = cache.alloc(false) {
        // SAFETY: A new object of this cache, freed once.
        unsafe {
            cache.zero(object);
            cache.free(object);
        }
    }
    Ok(())
}

/// Creates caches with invalid arguments.
fn create_invalid() {
    let wrong = [
        Args {
            align: 3,
            ..Args::default()
        },
        sheaves(1000, 4),
        at(4),
        at(SIZE as u32),
    ];
    for args in wrong {
        drop(SheafCache::new(c"rcu_ptr_wrong", SIZE, args));
    }
    drop(SheafCache::new(c"rcu_ptr_wrong", 0, Args::default()));
    drop(SheafCache::new(c"rcu_ptr_wrong", 1 << 14, at(1 << 13)));
}

fn at(link_offset: u32) -> Args {
    Args {
        link_offset,
        use_link_offset: true,
        ..small()
    }
}

/// Several caches at once, with a field for the link.
fn with_link_offset() -> Result {
    const NAMES: [&CStr; 5] = [
        c"rcu_ptr_a",
        c"rcu_ptr_b",
        c"rcu_ptr_c",
        c"rcu_ptr_d",
        c"rcu_ptr_e",
    ];
    let caches = NAMES.map(|name| SheafCache::new(name, SIZE, at(16)));
    for cache in caches {
        exercise(&cache?, 3)?;
    }
    Ok(())
}

/// Double frees, after the core has given its warnings.
pub(crate) fn misuse() -> Result {
    let cache = SheafCache::new(c"rcu_ptr_twice", SIZE, Args::default())?;
    free_rcu_twice(&cache)?;
    free_twice(&cache)?;
    let held = cache.alloc_many(4)?;
    // SAFETY: Objects of this cache, owned by the caller.
    unsafe { cache.free_rcu_all(&held) };
    Ok(())
}

/// Calls `f`, and on each CPU that goes down meanwhile uses a cache and calls `free` at `moment`;
/// at [`DownStep::Ended`] the CPU is rolled back.
pub(crate) fn at_down_step(
    moment: DownStep,
    free: &(dyn Fn() -> Result + Sync),
    f: impl FnOnce() -> Result,
) -> Result {
    let cache = SheafCache::new(c"rcu_ptr_dying", SIZE, small())?;
    cache.prefill(30)?;
    let table = Table::new(&cache, 10)?;
    let last = || {
        for i in 0..25 {
            table.replace(i, Alloc::Nolock);
            table.alloc_and_free(Alloc::Nolock);
        }
        free()?;
        if moment == DownStep::Ended {
            return Err(EBUSY);
        }
        Ok(())
    };
    cpu::at_down_step(moment, &last, f)?
}

/// Creates caches with each allocation failing in turn, and runs [`short_lived()`] with one failing
/// allocation, and with all failing from that one on.
pub(crate) fn fail(turn: u64) {
    for nth in 1..12 {
        fault::fail_alloc(nth, 1);
        drop(SheafCache::new(c"rcu_ptr_fails", SIZE, small()));
    }
    for times in [1, u64::MAX] {
        fault::fail_alloc(1 + turn % 100, times);
        let _ = short_lived();
        fault::fail_alloc(0, 0);
    }
    thread::still_alive();
}
