// SPDX-License-Identifier: GPL-2.0

//! A small Rust client of `rcu_ptr.ko`, to copy from: an entry that readers look at under RCU while
//! a writer replaces it again and again. No `unsafe` in here.
//!
//! `insmod rcu_ptr_client_rs.ko objects=1000` replaces it a thousand times.

#[path = "../../api/mod.rs"]
mod rcu_ptr;

use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu,
    },
};
use rcu_ptr::{impl_has_rcu_ptr, DropBeforeGp, HasRcuPtr, RcuBox, RcuDropBox, RcuPtr, RcuSlot};

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

/// What readers see. The 8 bytes of `rcu` are all that it costs to be freed after a grace period.
#[pin_data]
struct Entry {
    generation: u32,
    #[pin]
    rcu: RcuPtr,
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Entry { self.rcu }
}

/// Entries whose owner has let go of them.
static RETIRED: Atomic<u32> = Atomic::new(0);

impl DropBeforeGp for Entry {
    fn drop_before_gp(self: Pin<&Self>) {
        RETIRED.add(1, Relaxed);
    }
}

static CURRENT: RcuSlot<Entry> = RcuSlot::new();

struct Client;

impl kernel::Module for Client {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // From here on its drop, on an error too, empties the slot: that of a static never comes.
        let client = Client;
        let objects = module_parameters::objects.value();
        for generation in 0..objects {
            let entry = RcuBox::new(
                pin_init!(Entry {
                    generation,
                    rcu: RcuPtr::new(),
                }),
                GFP_KERNEL,
            )?;
            let guard = rcu::read_lock();
            let before = CURRENT.load(&guard).map(|entry| entry.generation);
            // Out of readers' sight first, then its destructor, then the grace period. The
            // reference of a reader like this one stays good until the guard goes.
            drop(CURRENT.swap(Some(entry)).map(RcuDropBox::from));
            if before.map_or(0, |g| g + 1) != generation {
                return Err(EINVAL);
            }
        }
        pr_info!("replaced the entry {} times\n", objects);
        Ok(client)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(CURRENT.swap(None).map(RcuDropBox::from));
        // Not needed to unload: no code of this module runs when its memory is freed.
        pr_info!("{} entries retired\n", RETIRED.load(Relaxed));
    }
}
