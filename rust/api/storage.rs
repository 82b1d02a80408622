// SPDX-License-Identifier: GPL-2.0

//! The memory of a box: the object, behind the words that RCU needs.
//!
//! ```text
//!  start            object, which pointers name
//!  | head | padding | T                        |
//! ```
//!
//! The head is first because it has to be in the first 4096 bytes. As `T` has no field for it, the
//! head is always aligned, in range, and not used otherwise.

use super::sys::core as sys;
use core::{alloc::Layout, marker::PhantomData, mem::needs_drop, ptr::NonNull};
use kernel::alloc::{
    allocator::{KVmalloc, Kmalloc, Vmalloc},
    AllocError, Allocator, Flags, NumaNode,
};

/// An allocator whose memory kvfree() accepts.
///
/// # Safety
///
/// Its memory is an object of kmalloc() or vmalloc(), from its start, and may be freed with
/// interrupts on and BH disabled.
pub unsafe trait KvFree: Allocator + 'static {}

// SAFETY: krealloc_node_align() makes its objects.
unsafe impl KvFree for Kmalloc {}
// SAFETY: vrealloc_node_align() makes its objects.
unsafe impl KvFree for Vmalloc {}
// SAFETY: kvrealloc_node_align() makes its objects, by one of the above.
unsafe impl KvFree for KVmalloc {}

/// Where a `T` lies in memory of `A`, behind its head.
pub(super) struct Storage<T, A>(PhantomData<(T, A)>);

const fn max(a: usize, b: usize) -> usize {
    if a > b {
        a
    } else {
        b
    }
}

impl<T, A: KvFree> Storage<T, A> {
    /// Alignment of the object, and of the whole.
    pub(super) const ALIGN: usize = max(align_of::<T>(), align_of::<sys::Head>());

    /// 16 bytes for a `struct rcu_head` if `T` has a destructor, otherwise 8.
    const HEAD: usize = if needs_drop::<T>() {
        size_of::<sys::Head>()
    } else {
        size_of::<sys::RawRcuPtr>()
    };

    /// Bytes from the start to the object.
    const OFFSET: usize = Self::HEAD.next_multiple_of(Self::ALIGN);

    const LAYOUT: Layout = match Layout::from_size_align(Self::OFFSET + size_of::<T>(), Self::ALIGN)
    {
        Ok(layout) => layout,
        Err(_) => panic!("the object is too large"),
    };

    /// Memory for an object.
    ///
    /// # Context
    ///
    /// As `flags` say.
    pub(super) fn alloc(flags: Flags) -> Result<NonNull<T>, AllocError> {
        let start = A::alloc(Self::LAYOUT, flags, NumaNode::NO_NODE)?.cast::<u8>();
        // SAFETY: The object lies inside of what `LAYOUT` asked for.
        Ok(unsafe { start.byte_add(Self::OFFSET) }.cast())
    }

    /// Where the memory of `object` starts.
    ///
    /// # Safety
    ///
    /// `object` is from here.
    unsafe fn start(object: NonNull<T>) -> NonNull<u8> {
        // SAFETY: By the safety requirements of this function it lies that far in its memory.
        unsafe { object.byte_sub(Self::OFFSET) }.cast()
    }

    /// Frees the memory at once; no destructor runs.
    ///
    /// # Context
    ///
    /// Any but hardirq and NMI.
    ///
    /// # Safety
    ///
    /// `object` is from here, the caller's, and has no readers.
    pub(super) unsafe fn free(object: NonNull<T>) {
        // SAFETY: By the safety requirements of this function; `A` gave it for this layout, or
        // kmalloc_nolock() did, whose objects kfree() takes as those of kmalloc().
        unsafe { A::free(Self::start(object), Self::LAYOUT) };
    }

    /// Frees the memory after a grace period; no destructor runs.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    ///
    /// # Safety
    ///
    /// `object` is from here and the caller's.
    #[inline]
    pub(super) unsafe fn free_after_gp(object: NonNull<T>) {
        // SAFETY: By the safety requirements of this function.
        let start = unsafe { Self::start(object) };
        // SAFETY: A live object that kvfree() takes (the contract of `KvFree`), with a head at its
        // start.
        unsafe { sys::kfree_nolock(start.as_ptr(), start.as_ptr()) };
    }

    /// Queues a call of `func` with the head of `object` after a grace period: in process context
    /// if it `may_sleep`, otherwise with BH disabled.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    ///
    /// # Safety
    ///
    /// `T` has a destructor. `object` is from here, and the caller's until `func` has it; `func`
    /// may be called so, whenever and in whichever task that is.
    #[inline]
    pub(super) unsafe fn call(object: NonNull<T>, may_sleep: bool, func: sys::Func) {
        // SAFETY: By the safety requirements of this function.
        let head = unsafe { Self::start(object) };
        // SAFETY: By the safety requirements of this function exclusively owned, and as large as
        // that (`HEAD`); rcu_ptr.ko keeps the code of this module, which depends on it, until
        // `func` has returned.
        unsafe {
            sys::call(head.as_ptr(), may_sleep, func);
        }
    }

    /// The object that [`Self::call()`] was given.
    ///
    /// # Safety
    ///
    /// `head` is what its `func` was given.
    pub(super) unsafe fn of_head(head: *mut sys::Head) -> NonNull<T> {
        // SAFETY: By the safety requirements of this function the head of an object from here.
        unsafe { NonNull::new_unchecked(head.byte_add(Self::OFFSET).cast()) }
    }
}

impl<T> Storage<T, Kmalloc> {
    /// Memory for an object, in any context.
    ///
    /// # Context
    ///
    /// Any, NMI included; on PREEMPT_RT not hardirq and NMI, where there never is any.
    pub(super) fn alloc_nolock() -> Option<NonNull<T>> {
        const {
            assert!(
                align_of::<T>() <= align_of::<u64>(),
                "kmalloc_nolock() aligns to 8 bytes"
            );
        }
        let start = NonNull::new(sys::kmalloc_nolock(Self::LAYOUT.size()))?;
        // SAFETY: The object lies inside of the size of `LAYOUT`.
        Some(unsafe { start.byte_add(Self::OFFSET) }.cast())
    }
}
