// SPDX-License-Identifier: GPL-2.0

//! kmalloc_nolock() gives no cache lines.

// error: E0080
// says: kmalloc_nolock() aligns to 8 bytes

#[path = "../mod.rs"]
pub mod rcu_ptr;

use rcu_ptr::RcuKBox;

#[repr(align(64))]
struct Line;

fn line() -> Option<RcuKBox<Line>> {
    RcuKBox::new_nolock(Line).ok()
}

#[used]
static LINE: fn() -> Option<RcuKBox<Line>> = line;
