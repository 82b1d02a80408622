// SPDX-License-Identifier: GPL-2.0

//! Spare blocks of a CPU: slots that are emptied and filled by exchange, from any context and CPU.
//! No list, so no ABA.

use crate::sync::AtomicLink;

/// The most spare blocks per CPU.
pub(crate) const MAX_SPARES: usize = 64;

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

    /// Takes one of the first `limit`.
    ///
    /// # Context
    ///
    /// Any, NMI included; several at once.
    pub(crate) fn take(&self, limit: usize) -> Option<u64> {
        self.0[..limit.min(MAX_SPARES)].iter().find_map(|slot| {
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

    /// Keeps a block if one of the first `limit` slots is free.
    ///
    /// # Context
    ///
    /// As for [`Self::take()`].
    pub(crate) fn put(&self, base: u64, limit: usize) -> bool {
        self.0[..limit.min(MAX_SPARES)]
            .iter()
            .any(|slot| slot.load_relaxed() == 0 && slot.cmpxchg_full(0, base).is_ok())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0
            .iter()
            .filter(|slot| slot.load_relaxed() != 0)
            .count()
    }
}
