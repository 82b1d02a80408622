// SPDX-License-Identifier: GPL-2.0

//! A hook before every step of an algorithm: the models call [`step()`] where an interrupt may
//! occur.

use std::{cell::RefCell, rc::Rc};

thread_local! {
    /// Runs before every step of this thread.
    static HOOK: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Removes the hook, also if a test panics: others may follow on this thread.
struct Hooked;

impl Drop for Hooked {
    fn drop(&mut self) {
        HOOK.set(None);
    }
}

/// Runs `f` with `hook` before every step, both with `world`, which is returned.
pub(crate) fn hooked<W: 'static>(world: W, hook: impl Fn(&W) + 'static, f: impl FnOnce(&W)) -> W {
    let world = Rc::new(world);
    let other = Rc::clone(&world);
    HOOK.set(Some(Rc::new(move || hook(&other))));
    let hooked = Hooked;
    f(&world);
    drop(hooked);
    Rc::into_inner(world).expect("one owner is left")
}

/// A point where an interrupt may occur.
pub(crate) fn step() {
    let hook = HOOK.with_borrow(Option::clone);
    if let Some(hook) = hook {
        hook();
    }
}
