// SPDX-License-Identifier: GPL-2.0

//! Concurrent barriers of engine `rfc` under loom: each frees the objects that its thread queued
//! before, whether it takes a turn of its own or shares one.

use super::loom_tests::{model, spawn};
use crate::{
    rfc::barrier::{barrier, RfcBarrier},
    sync::AtomicLink,
};
use loom::sync::{
    atomic::{fence, AtomicBool, Ordering},
    Arc, Mutex,
};

/// An engine with one object per thread.
struct Engine {
    turns: AtomicLink,
    mutex: Mutex<()>,
    /// Accessed with relaxed ordering: only the barriers order them.
    queued: [AtomicBool; 3],
    freed: [AtomicBool; 3],
    no_mb: bool,
}

impl RfcBarrier for Engine {
    type Cpu = ();

    fn turns(&self) -> &AtomicLink {
        &self.turns
    }

    fn with_mutex(&self, f: impl FnOnce()) {
        let _held = self.mutex.lock().unwrap();
        f();
    }

    fn mb(&self) {
        if !self.no_mb {
            fence(Ordering::SeqCst);
        }
    }

    fn each(&self, mut f: impl FnMut(&())) {
        f(&());
    }

    fn requeue_deferred(&self, (): &()) {
        for (queued, freed) in self.queued.iter().zip(&self.freed) {
            if queued.load(Ordering::Relaxed) {
                freed.store(true, Ordering::Relaxed);
            }
        }
    }

    fn start(&self, (): &()) -> bool {
        false
    }

    fn grace_period(&self) {}

    fn free_expired_batches(&self, (): &()) {}

    fn wait_for_others(&self, (): &()) {}
}

fn together(threads: usize, no_mb: bool) {
    model(move || {
        let engine = Arc::new(Engine {
            turns: AtomicLink::new(0),
            mutex: Mutex::new(()),
            queued: [(); 3].map(|()| AtomicBool::new(false)),
            freed: [(); 3].map(|()| AtomicBool::new(false)),
            no_mb,
        });
        let client = |engine: &Engine, i: usize| {
            engine.queued[i].store(true, Ordering::Relaxed);
            barrier(engine);
            let freed = engine.freed[i].load(Ordering::Relaxed);
            assert!(freed, "the barrier missed an object");
        };
        let others: Vec<_> = (1..threads)
            .map(|i| spawn(&engine, move |engine| client(engine, i)))
            .collect();
        client(&engine, 0);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

tests! {
    two: together(2, false);
    three: together(3, false);
    without_memory_barriers, "the barrier missed an object": together(2, true);
}
