// SPDX-License-Identifier: GPL-2.0

//! What runs from module init to module exit: an engine, and all caches. One instance of each, with its
//! shrinker and its hotplug callbacks.

use crate::sys::{
    hotplug::{Callbacks, Hotplug, IrqWorksRun},
    shrinker::{Shrink, Shrinker},
};
use core::{pin::Pin, ptr};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Something of which there is one instance, in a place that [`single!`] gives it.
pub(crate) trait Single: Sized + 'static {
    /// Where the instance is.
    fn instance() -> &'static Instance<Self>;
}

/// Gives a [`Single`] its place, and `get()`.
macro_rules! single {
    ($service:ty) => {
        impl $crate::instance::Single for $service {
            #[inline(always)]
            fn instance() -> &'static $crate::instance::Instance<Self> {
                static INSTANCE: $crate::instance::Instance<$service> =
                    $crate::instance::Instance::none();
                &INSTANCE
            }
        }

        impl $service {
            /// The running instance.
            #[inline]
            pub(crate) fn get() -> &'static Self {
                <Self as $crate::instance::Single>::instance().get()
            }
        }
    };
}
pub(crate) use single;

/// What runs from module init to module exit.
pub(crate) trait Service: Single {
    /// What memory reclaim calls, and the shrinker's name.
    type Shrinker: Shrink;
    const SHRINKER: &'static CStr;
    /// What CPU hotplug calls, and the callbacks' name.
    type Hotplug: Callbacks;
    const HOTPLUG: &'static CStr;

    /// The first step of the end, at module exit: no more calls come in, CPUs that go down still call back. May sleep.
    fn drain(&self) {}

    /// The last one: no more callbacks come. Ends all work items, and gives all memory back. May sleep.
    fn stop(&self);
}

/// The place of an instance.
pub(crate) struct Instance<S>(Atomic<*mut S>);

impl<S> Instance<S> {
    /// An empty place.
    pub(crate) const fn none() -> Self {
        Self(Atomic::new(ptr::null_mut()))
    }

    /// The instance.
    #[inline]
    pub(crate) fn get(&self) -> &'static S {
        // SAFETY: Set by `Running::start()` before anything that calls this is reachable: the exports are
        // resolved after module init, the callbacks registered after the store. Reset in the drop of
        // `Running`, when the users of the exports are gone and the callbacks unregistered.
        unsafe { &*self.0.load(Relaxed) }
    }
}

/// Keeps a service running; dropping it drains and stops it.
pub(crate) struct Running<S: Service> {
    shrinker: Option<Shrinker<S::Shrinker>>,
    hotplug: Option<Hotplug<S::Hotplug>>,
}

impl<S: Service> Running<S> {
    /// Puts `service` in its place, and registers its shrinker and hotplug callbacks. May sleep; at module init.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, what `service` fails with, and what the registrations do.
    pub(crate) fn start(service: impl PinInit<S, Error>, irq_works: &IrqWorksRun) -> Result<Self> {
        let service = KBox::pin_init(service, GFP_KERNEL)?;
        // SAFETY: It stays where it is until it is dropped.
        let service = KBox::into_raw(unsafe { Pin::into_inner_unchecked(service) });
        // ORDERING: It is not looked at before module init has returned, or before the registrations
        // below, which order it themselves.
        S::instance().0.store(service, Relaxed);
        let mut running = Self {
            shrinker: None,
            hotplug: None,
        };
        // On an error the drop of `running` undoes what was done.
        running.hotplug = Some(Hotplug::register(S::HOTPLUG, irq_works)?);
        running.shrinker = Some(Shrinker::register(S::SHRINKER)?);
        Ok(running)
    }
}

impl<S: Service> Drop for Running<S> {
    fn drop(&mut self) {
        let place = S::instance();
        self.shrinker = None;
        place.get().drain();
        self.hotplug = None;
        place.get().stop();
        let service = place.0.load(Relaxed);
        place.0.store(ptr::null_mut(), Relaxed);
        // SAFETY: `start()` made it with `KBox::into_raw()`; `stop()` has ended all its work, and
        // it can't be reached otherwise any more.
        drop(unsafe { Pin::new_unchecked(KBox::from_raw(service)) });
    }
}
