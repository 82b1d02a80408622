// SPDX-License-Identifier: GPL-2.0

//! The Rust interface: boxes, slots and destructors, with readers and writers on all CPUs.

use crate::{
    nmi::storm,
    rcu_ptr::{
        self, free_mightsleep, impl_has_rcu_ptr, try_free_nolock, DropBeforeGp, HasRcuPtr, RcuBox,
        RcuDropBox, RcuNolockBox, RcuPtr, RcuSlot,
    },
    scaled,
    sys::{
        cpu::{self, Context},
        skip::skip,
        thread,
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu,
    },
};

#[pin_data]
struct Entry {
    key: u64,
    check: u64,
    #[pin]
    rcu: RcuPtr,
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Entry { self.rcu }
}

static RETIRED: Atomic<usize> = Atomic::new(0);

impl DropBeforeGp for Entry {
    fn drop_before_gp(self: Pin<&Self>) {
        RETIRED.fetch_add(1, Relaxed);
    }
}

// Rust would put the small field behind the large one.
#[pin_data]
#[repr(C)]
struct Large {
    #[pin]
    rcu: RcuPtr,
    rest: [u8; 20_000],
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Large { self.rcu }
}

fn entry(key: u64) -> Result<RcuBox<Entry>> {
    let check = !key;
    let init = pin_init!(Entry {
        key,
        check,
        rcu: RcuPtr::new(),
    });
    RcuBox::new(init, GFP_KERNEL)
}

/// Writers exchange the entries of a slot while readers compare its two halves.
fn slot() -> Result<(usize, usize, usize)> {
    let slot = RcuSlot::<Entry>::new();
    let made = Atomic::<usize>::new(0);
    let read = Atomic::<usize>::new(0);
    let torn = Atomic::<usize>::new(0);
    let before = RETIRED.load(Relaxed);
    let body = |cpu: i32| {
        for i in 0..3000u64 {
            if let Ok(new) = entry(i << 8 | cpu as u64) {
                made.fetch_add(1, Relaxed);
                drop(slot.swap(Some(new)).map(RcuDropBox::from));
            }
            let guard = rcu::read_lock();
            if let Some(entry) = slot.load(&guard) {
                read.fetch_add(1, Relaxed);
                torn.fetch_add(usize::from(entry.check != !entry.key), Relaxed);
            }
        }
    };
    thread::on_cpus(cpu::online(), &body, || ())?;
    drop(slot.swap(None).map(RcuDropBox::from));
    rcu_ptr::barrier();
    let kept = made.load(Relaxed) - (RETIRED.load(Relaxed) - before);
    Ok((read.load(Relaxed), torn.load(Relaxed), kept))
}

/// What came of NMIs that make, exchange and free typed boxes.
struct Seen {
    nmis: Atomic<usize>,
    made: Atomic<usize>,
    missed: Atomic<usize>,
    /// Boxes that were taken out of the slot and freed.
    freed: Atomic<usize>,
    read: Atomic<usize>,
    torn: Atomic<usize>,
}

impl Seen {
    /// Puts a new entry there, frees the one that was, and looks at what there is; no `unsafe`.
    fn exchange(&self, slot: &RcuSlot<Entry>, key: u64) {
        let check = !key;
        let init = pin_init!(Entry {
            key,
            check,
            rcu: RcuPtr::new(),
        });
        let guard = rcu::read_lock();
        match RcuNolockBox::new(init) {
            Ok(new) => {
                self.made.fetch_add(1, Relaxed);
                let before = slot.swap_nolock(Some(new));
                self.freed.fetch_add(usize::from(before.is_some()), Relaxed);
            }
            Err(_init) => {
                self.missed.fetch_add(1, Relaxed);
            }
        }
        if let Some(entry) = slot.load(&guard) {
            self.read.fetch_add(1, Relaxed);
            self.torn
                .fetch_add(usize::from(entry.check != !entry.key), Relaxed);
        }
    }
}

/// NMIs that a slow machine has within seconds.
const ENOUGH: usize = 100;

/// NMIs and tasks of every CPU exchange the entries of one slot.
fn in_nmi(rounds: usize) -> Result<Option<Seen>> {
    let Some(weather) = storm::strongest() else {
        return Ok(None);
    };
    let slot = RcuSlot::<Entry>::new();
    let none = || Atomic::<usize>::new(0);
    let seen = Seen {
        nmis: none(),
        made: none(),
        missed: none(),
        freed: none(),
        read: none(),
        torn: none(),
    };
    let next = Atomic::<u64>::new(0);
    let nmi = || {
        seen.nmis
            .fetch_add(usize::from(cpu::context() == Context::Nmi), Relaxed);
        seen.exchange(&slot, next.fetch_add(1, Relaxed));
    };
    let task = |_cpu: i32| {
        for _ in 0..rounds {
            seen.exchange(&slot, next.fetch_add(1, Relaxed));
        }
    };
    storm::during(weather, &nmi, None, || {
        let ran = thread::on_cpus(cpu::online(), &task, || ());
        // Where the tasks were quick.
        thread::wait_for(20_000, || seen.nmis.load(Relaxed) > ENOUGH);
        ran
    })??;
    seen.freed
        .fetch_add(usize::from(slot.swap_nolock(None).is_some()), Relaxed);
    rcu_ptr::barrier();
    Ok(Some(seen))
}

/// Boxes without a field, as long as there is room; those that come back are counted.
fn try_free(n: u64) -> Result<(usize, usize)> {
    let (mut taken, mut back) = (0, 0);
    for i in 0..n {
        match try_free_nolock(KBox::pin(i, GFP_KERNEL)?) {
            Ok(()) => taken += 1,
            Err(object) => back += usize::from(*object == i),
        }
    }
    rcu_ptr::barrier();
    Ok((taken, back))
}

#[kunit_tests(rcu_ptr_rust_api)]
mod tests {
    use super::*;

    #[test]
    fn boxes_in_nmi() -> Result {
        let Some(seen) = in_nmi(scaled(20_000))? else {
            skip(c"the machine has no NMIs");
            return Ok(());
        };
        let [nmis, made, missed, freed, read, torn] = [
            &seen.nmis,
            &seen.made,
            &seen.missed,
            &seen.freed,
            &seen.read,
            &seen.torn,
        ]
        .map(|n| n.load(Relaxed));
        pr_info!(
            "boxes: {} NMIs; {} made and {} freed, {} not to be had, {} looks\n",
            nmis,
            made,
            freed,
            missed,
            read
        );
        assert!(nmis > ENOUGH && made > 1000 && read > 1000);
        assert!(made == freed);
        assert!(torn == 0);
        Ok(())
    }

    #[test]
    fn boxes_that_may_come_back() -> Result {
        const N: u64 = 3000;
        // With debugobjects or kmemleak engine rfc never has room.
        let never = cfg!(any(CONFIG_DEBUG_KMEMLEAK, CONFIG_DEBUG_OBJECTS_RCU_HEAD));
        let mut taken = 0;
        // After memory was short, as other suites make it, refills pause, and it has none for long.
        for _ in 0..600 {
            let (some, back) = try_free(N)?;
            assert!(some + back == N as usize);
            taken = some;
            if taken > 0 || never {
                break;
            }
            drop(entry(0)?);
            thread::sleep(100);
        }
        assert!(taken > 0 || never);
        Ok(())
    }

    #[test]
    fn boxes() -> Result {
        for key in 0..2000 {
            let object = entry(key)?;
            assert!(object.key == key && object.check == !key);
        }
        rcu_ptr::barrier();
        Ok(())
    }

    #[test]
    fn boxes_of_kvmalloc() -> Result {
        for _ in 0..50 {
            let init = pin_init!(Large {
                rcu: RcuPtr::new(),
                rest: [7; 20_000],
            });
            let object = RcuBox::new_kv(init, GFP_KERNEL)?;
            assert!(object.rest[19_999] == 7);
        }
        rcu_ptr::barrier();
        Ok(())
    }

    #[test]
    fn boxes_without_a_field() -> Result {
        for i in 0..500u64 {
            free_mightsleep(KBox::pin(i, GFP_KERNEL)?);
        }
        rcu_ptr::barrier();
        Ok(())
    }

    #[test]
    fn slot_with_readers_and_writers() -> Result {
        let (read, torn, kept) = slot()?;
        assert!(read > 1000);
        assert!(torn == 0);
        assert!(kept == 0);
        Ok(())
    }
}
