// SPDX-License-Identifier: GPL-2.0

//! Raw spinlocks, which spin on PREEMPT_RT too; taken with interrupts disabled.

use super::{generated as sys, irq::IrqsOff};
use kernel::{
    bindings,
    prelude::*,
    sync::{
        lock::{Backend, Guard, Lock},
        LockClassKey,
    },
};

/// The backend of [`RawSpinLock`].
pub(crate) struct RawSpin;

// SAFETY: `raw_spin_lock()` excludes every other owner, and `relock()` is the default one.
unsafe impl Backend for RawSpin {
    type State = bindings::raw_spinlock_t;
    type GuardState = ();

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_shim_raw_lock_init(ptr, name, key) };
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) {
        // SAFETY: By the safety requirements of this function `ptr` was initialised.
        unsafe { sys::rcu_ptr_shim_raw_lock(ptr) };
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<()> {
        // SAFETY: By the safety requirements of this function `ptr` was initialised.
        (unsafe { sys::rcu_ptr_shim_raw_trylock(ptr) } != 0).then_some(())
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, (): &()) {
        // SAFETY: By the safety requirements of this function the caller owns the lock.
        unsafe { sys::rcu_ptr_shim_raw_unlock(ptr) };
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // Each lock() asserts it.
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: By the safety requirements of this function `ptr` was initialised.
            unsafe { sys::rcu_ptr_shim_raw_assert_held(ptr) };
        }
    }
}

/// A raw spinlock that requires disabled interrupts.
#[pin_data]
pub(crate) struct RawSpinLock<T> {
    #[pin]
    inner: Lock<T, RawSpin>,
}

/// Owner of a [`RawSpinLock`].
pub(crate) type RawGuard<'a, T> = Guard<'a, T, RawSpin>;

impl<T> RawSpinLock<T> {
    /// A lock around `t`; `name` and `key` are what lockdep shows.
    pub(crate) fn new(
        t: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self { inner <- Lock::new(t, name, key) })
    }

    /// Takes the lock.
    ///
    /// # Context
    ///
    /// Any but NMI. The guard can't outlive `_irqs`.
    #[inline]
    pub(crate) fn lock<'a>(&'a self, _irqs: &'a IrqsOff) -> RawGuard<'a, T> {
        self.inner.lock()
    }

    /// Where the lock word is: in front, as `Lock` is `repr(C)`.
    pub(crate) fn word(&self) -> usize {
        core::ptr::from_ref(&self.inner).addr()
    }

    /// Tries to take the lock (`raw_spin_trylock()`).
    ///
    /// # Context
    ///
    /// Any, NMI included. The guard can't outlive `_irqs`.
    #[inline]
    pub(crate) fn try_lock<'a>(&'a self, _irqs: &'a IrqsOff) -> Option<RawGuard<'a, T>> {
        self.inner.try_lock()
    }
}
