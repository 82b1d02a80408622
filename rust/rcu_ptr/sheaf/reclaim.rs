// SPDX-License-Identifier: GPL-2.0

//! After the grace period: closed sheaves become full ones of the barn (`rcu_free_sheaf()`).

use super::{
    cache::{Cache, CacheRef},
    sheaf::{Chain, Full, Rest},
    shrink,
};
use crate::sys::{
    debug, node,
    rcu_callback::{self, Callback, RcuHead},
    slab, trace,
};
use core::ptr::{with_exposed_provenance_mut, NonNull};

/// Sheaves that go to the barn in one go, with interrupts off.
const BATCH: usize = 16;

/// Lets all of `chain`, of `cpu`, wait for one grace period.
///
/// # Context
///
/// Any but NMI, called from code that had interrupts on.
pub(super) fn wait(cache: &Cache, cpu: i32, chain: Chain) {
    if let Some((head, _)) = chain.rcu_head() {
        trace::sheaf_wait(&cache.name, cpu, || chain.count());
        // SAFETY: The `rcu_head` of a closed sheaf is its owner's; the callback owns the chain
        // from here on.
        unsafe { rcu_callback::call::<Ready>(head) };
    }
}

/// What runs after the grace period.
struct Ready;

impl Callback for Ready {
    unsafe fn run(head: NonNull<RcuHead>) {
        // SAFETY: `wait()` handed the head over once.
        let chain = unsafe { Chain::from_rcu_head(head.as_ptr().expose_provenance()) };
        if let Some(owner) = chain.owner() {
            // INVARIANT: `destroy` waits for all callbacks.
            take_in(&CacheRef(owner.cast()), chain);
        }
    }
}

/// Puts what waited into the barn.
fn take_in(cache: &Cache, mut chain: Chain) {
    let mut node = 0;
    while !chain.is_empty() {
        let mut full = [const { None }; BATCH];
        let mut empty = [const { None }; BATCH];
        for i in 0..BATCH {
            let Some(sheaf) = chain.pop() else { break };
            let own = sheaf.node().min(cache.nr_nodes() - 1);
            // SAFETY: A grace period has passed since all of them were closed.
            let rest = go_home(cache, own, unsafe { sheaf.into_rest() });
            if i == 0 {
                node = own;
            } else if own != node {
                // Most of a chain are of one node.
                cache.store(own, rest);
                continue;
            }
            match rest {
                Rest::Full(sheaf) => full[i] = Some(sheaf),
                Rest::Empty(sheaf) => empty[i] = Some(sheaf),
            }
        }
        cache.barns[node].with(|stock| {
            full.into_iter().flatten().for_each(|s| stock.put_full(s));
            empty.into_iter().flatten().for_each(|s| stock.put_empty(s));
        });
    }
    if cache.nr_nodes() == 1 {
        return shrink::look_after(cache, node);
    }
    // Objects went to other nodes.
    (0..cache.nr_nodes()).for_each(|node| shrink::look_after(cache, node));
}

/// Sends objects of other nodes to the barns of these.
fn go_home(cache: &Cache, node: usize, rest: Rest) -> Rest {
    let Rest::Full(sheaf) = rest else { return rest };
    find_doubles(&sheaf);
    if cache.nr_nodes() == 1 {
        return Rest::Full(sheaf);
    }
    sheaf.retain(|object| {
        let Some(addr) = NonNull::new(with_exposed_provenance_mut(object)) else {
            return true;
        };
        let home = node::of_object(addr);
        // Stays where there is no sheaf for it: here it is at least used.
        home == node || home >= cache.nr_nodes() || !come_home(cache, home, object)
    })
}

/// Puts `object` into the barn of `home`. `false`: there is no sheaf for it.
fn come_home(cache: &Cache, home: usize, object: usize) -> bool {
    let barn = &cache.barns[home];
    if barn.with(|stock| stock.come_home(object, cache.capacity)) {
        return true;
    }
    // Who allocates at home and frees elsewhere has its empty sheaves elsewhere too.
    let Some(sheaf) = cache.new_sheaf(slab::GFP_ATOMIC) else {
        return false;
    };
    barn.with(|stock| {
        stock.put_empty(sheaf);
        stock.come_home(object, cache.capacity)
    })
}

/// With debug objects in the kernel: tells of an object that was freed twice into a sheaf.
fn find_doubles(sheaf: &Full) {
    if cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD) {
        if let Some(object) = sheaf.find_double() {
            let object = with_exposed_provenance_mut(object);
            debug::warn(debug::Misuse::Double, object, object, 0);
        }
    }
}
