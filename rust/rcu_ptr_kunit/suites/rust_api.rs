// SPDX-License-Identifier: GPL-2.0

//! The Rust interface: boxes, slots and destructors, with readers and writers on all CPUs.

use crate::{
    rcu_ptr::{
        self, free_mightsleep, impl_has_rcu_ptr, DropBeforeGp, RcuBox, RcuDropBox, RcuPtr, RcuSlot,
    },
    sys::{cpu, thread},
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

#[kunit_tests(rcu_ptr_rust_api)]
mod tests {
    use super::*;

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
