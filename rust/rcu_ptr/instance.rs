// SPDX-License-Identifier: GPL-2.0

//! Services that run from module init to module exit: the engine, and the caches. Each has one
//! instance, a shrinker and CPU hotplug callbacks.

use crate::sys::{
    hotplug::{Callbacks, Hotplug, IrqWorksRun},
    shrinker::{Shrink, Shrinker},
};
use core::{pin::Pin, ptr};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// A singleton; [`single!`] provides its storage.
pub(crate) trait Single: Sized + 'static {
    fn instance() -> &'static Instance<Self>;
}

/// Implements [`Single`], and `get()`.
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

/// A singleton that runs from module init to module exit.
pub(crate) trait Service: Single {
    /// Its shrinker, and the name of that.
    type Shrinker: Shrink;
    const SHRINKER: &'static CStr;
    /// Its CPU hotplug callbacks, and their name.
    type Hotplug: Callbacks;
    const HOTPLUG: &'static CStr;

    /// The first step of module exit: there are no new calls, and the hotplug callbacks are still
    /// registered. May sleep.
    fn drain(&self) {}

    /// The last step: the hotplug callbacks are unregistered. Stops all work items and frees all
    /// memory. May sleep.
    fn stop(&self);
}

/// The pointer to a singleton, NULL while it does not run.
pub(crate) struct Instance<S>(Atomic<*mut S>);

impl<S> Instance<S> {
    pub(crate) const fn none() -> Self {
        Self(Atomic::new(ptr::null_mut()))
    }

    /// The instance, which runs.
    #[inline]
    pub(crate) fn get(&self) -> &'static S {
        // SAFETY: Set by `Running::start()` before anything that calls this is reachable: the
        // exports are resolved after module init, the callbacks registered after the store. Reset
        // in the drop of `Running`, when the users of the exports are gone and the callbacks
        // unregistered.
        unsafe { &*self.0.load(Relaxed) }
    }
}

/// Keeps a service running; dropping it drains and stops it.
pub(crate) struct Running<S: Service> {
    shrinker: Option<Shrinker<S::Shrinker>>,
    hotplug: Option<Hotplug<S::Hotplug>>,
}

impl<S: Service> Running<S> {
    /// Starts `service`, and registers its shrinker and hotplug callbacks. May sleep; at module
    /// init.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and the errors of `service` and of the registrations.
    pub(crate) fn start(service: impl PinInit<S, Error>, irq_works: &IrqWorksRun) -> Result<Self> {
        let service = KBox::pin_init(service, GFP_KERNEL)?;
        // SAFETY: It stays where it is until it is dropped.
        let service = KBox::into_raw(unsafe { Pin::into_inner_unchecked(service) });
        // ORDERING: None needed: it is read after module init has returned, or by callbacks, which
        // the registrations below order after this.
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
        let instance = S::instance();
        self.shrinker = None;
        instance.get().drain();
        self.hotplug = None;
        instance.get().stop();
        let service = instance.0.xchg(ptr::null_mut(), Relaxed);
        // SAFETY: From `KBox::into_raw()` in `start()`. `stop()` has ended its work items, and
        // nothing else refers to it any more.
        drop(unsafe { Pin::new_unchecked(KBox::from_raw(service)) });
    }
}
