// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr_takeover.ko`: as long as it is loaded, objects that the kernel frees by `kvfree_rcu()`,
//! `kfree_rcu()` and `kfree_rcu_nolock()` are freed by the engine of `rcu_ptr.ko`.
//!
//! ```text
//!  exports.rs   what C calls
//!  redirect.rs  whether the engine or the kernel handles a call; destruction of kmem_caches
//!  stats.rs     what was redirected, in debugfs
//! ```
//!
//! `kmem_cache_destroy()` is redirected first, so that every cache that is destroyed from then on
//! waits for the engine as well; then the others. At unload the order is reversed, and the engine
//! is drained in between.

// The files of rust/sys that this module uses: docs/reading.md.
#[path = "../sys"]
mod sys {
    pub(crate) mod generated;
    pub(crate) mod redirected;
}

mod exports;
mod redirect;
mod stats;

use kernel::prelude::*;
use sys::redirected::{self, Function, Notified, Redirected};

module! {
    type: Takeover,
    name: "rcu_ptr_takeover",
    authors: ["The rcu_ptr authors"],
    description: "The kernel's own kfree_rcu() on rcu_ptr",
    license: "GPL",
}

/// How many functions are redirected.
const ALL: usize = 3;

/// The functions, in the order in which they were redirected; unregistered on drop.
struct Taken {
    functions: [Option<Redirected>; ALL],
    begun: bool,
}

impl Taken {
    const ORDER: [Function; ALL] = [Function::Destroy, Function::Kvfree, Function::Nolock];

    fn new(jump: bool) -> Result<Self> {
        let mut taken = Self {
            functions: [const { None }; ALL],
            begun: false,
        };
        for (slot, function) in taken.functions.iter_mut().zip(Self::ORDER) {
            *slot =
                Some(Redirected::new(function, jump).inspect_err(|&e| explain(function, e, jump))?);
        }
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.begun {
            redirect::end();
        }
        // No call reaches the engine any more, whichever function it comes by.
        for slot in self.functions.iter_mut().rev() {
            if let Some(Err(e)) = slot.take().map(Redirected::unregister) {
                pr_emerg!(
                    "ftrace can't unregister the redirections ({}): the kernel's functions are called \
                     through this module, which stays in memory\n",
                    e.to_errno()
                );
                loop {
                    redirected::sleep();
                }
            }
        }
        // After all are unregistered: further calls might keep a count above zero for ever.
        redirect::drain();
        if self.begun {
            stats::log_totals();
        }
    }
}

/// Why a function can't be redirected.
fn explain(function: Function, error: Error, jump: bool) {
    let name = function.name();
    if error == EBUSY && jump {
        pr_info!("{name}() has another user of its entry (BPF, say): trying without a jump\n");
    } else if error == EBUSY {
        pr_err!(
            "{name}() is held by a livepatch, a BPF program or another module: remove that first\n"
        );
    } else if error == EOPNOTSUPP {
        pr_err!(
            "this kernel lacks CONFIG_FUNCTION_TRACER=y with DYNAMIC_FTRACE_WITH_ARGS, or \
             KVFREE_RCU_BATCHED, or was linked with LTO: its functions can't be redirected\n"
        );
    } else if error == ENODEV {
        pr_err!("{name}() can't be redirected: ftrace is off, since an earlier bug\n");
    } else {
        pr_err!(
            "{name}() can't be redirected: error {}, the kernel does not trace this function\n",
            error.to_errno()
        );
    }
}

/// The loaded module. Fields are dropped in this order.
#[pin_data]
struct Takeover {
    #[pin]
    stats: stats::StatsFile,
    _notified: Notified,
    _taken: Taken,
}

impl kernel::InPlaceModule for Takeover {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _taken: {
                let mut jump = redirected::can_jump();
                let mut taken = Taken::new(jump).or_else(|e| {
                    if e != EBUSY || !jump {
                        return Err(e);
                    }
                    jump = false;
                    Taken::new(jump)
                })?;
                redirect::begin()?;
                taken.begun = true;
                pr_info!(
                    "kvfree_call_rcu() and kfree_call_rcu_nolock() lead to rcu_ptr.ko from now on, {}\n",
                    if jump { "by a jump" } else { "through ftrace" }
                );
                taken
            },
            _notified: Notified::new()?,
            stats <- stats::StatsFile::new(),
        })
    }
}
