// SPDX-License-Identifier: GPL-2.0

//! A small Rust client of `rcu_ptr.ko`, to copy from: an entry that readers look at under RCU while
//! a writer replaces it again and again. No `unsafe` in here.
//!
//! `insmod rcu_ptr_client_rs.ko objects=1000` replaces it a thousand times.

#[path = "../../api/mod.rs"]
pub mod rcu_ptr;

use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu,
    },
};
use rcu_ptr::{RcuBox, RcuKBox, RcuSlot};

module! {
    type: Client,
    name: "rcu_ptr_client_rs",
    authors: ["The rcu_ptr authors"],
    description: "Example of a Rust client of rcu_ptr",
    license: "GPL",
    params: {
        objects: u32 {
            default: 1000,
            description: "how many objects to allocate and free",
        },
    },
}

/// What readers see. It owns its name, which is freed with it.
struct Entry {
    generation: u32,
    name: CString,
}

/// Entries that no reader has any more.
static DROPPED: Atomic<u32> = Atomic::new(0);

impl Drop for Entry {
    fn drop(&mut self) {
        DROPPED.add(1, Relaxed);
    }
}

static CURRENT: RcuSlot<RcuKBox<Entry>> = RcuSlot::new();

fn entry(generation: u32) -> Result<RcuKBox<Entry>> {
    let name = CString::try_from_fmt(fmt!("entry {generation}"))?;
    RcuBox::new(Entry { generation, name }, GFP_KERNEL)
}

struct Client;

impl kernel::Module for Client {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // From here on its drop, on an error too, empties the slot: that of a static never comes.
        let client = Client;
        let objects = module_parameters::objects.value();
        for generation in 0..objects {
            let new = entry(generation)?;
            let guard = rcu::read_lock();
            let before = CURRENT.load(&guard);
            // Out of readers' sight first, then the grace period, then its destructor. The
            // reference of a reader like this one stays good until the guard goes.
            drop(CURRENT.swap(Some(new)));
            if before.map_or(0, |entry| entry.generation + 1) != generation
                || before.is_some_and(|entry| !entry.name.to_bytes().starts_with(b"entry "))
            {
                return Err(EINVAL);
            }
        }
        pr_info!("replaced the entry {} times\n", objects);
        Ok(client)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(CURRENT.swap(None));
        // Not needed to unload, which waits for the destructors that are left: only to count them.
        rcu_ptr::barrier();
        pr_info!("{} entries dropped\n", DROPPED.load(Relaxed));
    }
}
