// SPDX-License-Identifier: GPL-2.0

//! The 8-byte field, and the trait that says where it is.

use super::sys;
use core::ptr::NonNull;

/// The field that an object needs to be freed after a grace period from any context but NMI: 8
/// bytes, pinned, anywhere in its first 4096 (`struct rcu_ptr`).
#[repr(transparent)]
pub(crate) struct RcuPtr(sys::RawRcuPtr);

// SAFETY: Nothing can be done with a field: only the core uses it, once the object is queued.
unsafe impl Send for RcuPtr {}
// SAFETY: As above.
unsafe impl Sync for RcuPtr {}

impl RcuPtr {
    /// A field of an object that is not queued. Needs no particular content.
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) const fn new() -> Self {
        Self(sys::RawRcuPtr::uninit())
    }
}

/// A type with an [`RcuPtr`] field.
///
/// # Safety
///
/// `OFFSET` is that of an aligned field of type [`RcuPtr`] (use [`impl_has_rcu_ptr!`]).
pub(crate) unsafe trait HasRcuPtr: Sized {
    /// Bytes from the start of the object to the field.
    const OFFSET: usize;

    /// The field lies in the first 4096 bytes of the object.
    #[doc(hidden)]
    const IS_NEAR: () = assert!(
        Self::OFFSET < sys::MAX_OFFSET,
        "the RcuPtr field starts beyond the first 4096 bytes of its object"
    );

    /// Takes nothing but such a field.
    #[doc(hidden)]
    fn accept(_field: *const RcuPtr) {}
}

/// The raw field of `object`.
///
/// # Safety
///
/// `object` is valid.
pub(super) unsafe fn raw_field<T: HasRcuPtr>(object: NonNull<T>) -> *mut sys::RawRcuPtr {
    let () = T::IS_NEAR;
    // SAFETY: By the contract of `HasRcuPtr` the field lies that far in the object.
    unsafe { object.byte_add(T::OFFSET) }.as_ptr().cast()
}

/// Implements [`HasRcuPtr`], by whatever path, for a struct: `impl HasRcuPtr for Entry { self.rcu }`.
macro_rules! impl_has_rcu_ptr {
    (impl $($name:ident)::+ for $type:ty { self.$field:ident }) => {
        // SAFETY: `OFFSET` is that of `$field`, and the closure compiles for an aligned `RcuPtr` only:
        // a reference to a field of a packed struct is refused, and a raw borrow has no deref
        // coercion.
        unsafe impl $($name)::+ for $type {
            const OFFSET: usize = {
                let _: fn(&$type) = |object| {
                    let _ = &object.$field;
                    <$type as $($name)::+>::accept(&raw const object.$field)
                };
                ::core::mem::offset_of!($type, $field)
            };
        }
    };
}
pub(crate) use impl_has_rcu_ptr;
