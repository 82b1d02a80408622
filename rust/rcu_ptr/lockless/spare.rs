// SPDX-License-Identifier: GPL-2.0

//! Spare blocks of a CPU: slots that are emptied and filled by exchange, from any context and CPU.
//! No list, so no ABA.

use crate::sync::AtomicLink;

/// The most spare blocks per CPU; few where loom tries every order.
pub(crate) const MAX_SPARES: usize = if cfg!(loom) { 4 } else { 64 };

/// Addresses of blocks that nobody uses; 0: none.
pub(crate) struct Spares([AtomicLink; MAX_SPARES]);

impl Spares {
    /// None.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self([const { AtomicLink::new(0) }; MAX_SPARES])
    }

    /// None.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicLink::new(0)))
    }

    /// Takes one.
    ///
    /// # Context
    ///
    /// Any, NMI included; several at once.
    pub(crate) fn take(&self) -> Option<u64> {
        self.0.iter().find_map(|slot| {
            if slot.load_relaxed() == 0 {
                return None;
            }
            // ORDERING: Full; pairs with the exchange in `put()`: the block is as it was left.
            match slot.xchg_full(0) {
                0 => None,
                base => Some(base),
            }
        })
    }

    /// Keeps a block if one of the first `limit()` slots is free. Otherwise, and if the limit has been
    /// lowered meanwhile, `excess` gets what is too much.
    ///
    /// # Context
    ///
    /// As for [`Self::take()`].
    pub(crate) fn keep(&self, base: u64, limit: impl Fn() -> usize, mut excess: impl FnMut(u64)) {
        let before = limit();
        if !self.put(base, before) {
            return excess(base);
        }
        // ORDERING: The exchange in `put()` came before that in `trim()`, which then found the block; or
        // it read what that left, and the limit that was stored before that is seen here.
        let now = limit();
        if now < before {
            self.trim(now, excess);
        }
    }

    fn put(&self, base: u64, limit: usize) -> bool {
        self.0[..limit.min(MAX_SPARES)]
            .iter()
            .any(|slot| slot.load_relaxed() == 0 && slot.cmpxchg_full(0, base).is_ok())
    }

    /// Gives all blocks beyond the first `limit` slots to `excess`, now that no more are to be kept.
    ///
    /// # Context
    ///
    /// As for [`Self::take()`].
    pub(crate) fn trim(&self, limit: usize, mut excess: impl FnMut(u64)) {
        for slot in &self.0[limit.min(MAX_SPARES)..] {
            // ORDERING: Full, whether there is a block or not; see `keep()`.
            let base = slot.xchg_full(0);
            if base != 0 {
                excess(base);
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0
            .iter()
            .filter(|slot| slot.load_relaxed() != 0)
            .count()
    }
}
