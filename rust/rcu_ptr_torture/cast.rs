// SPDX-License-Identifier: GPL-2.0

//! Who does it: readers and writers in threads, each with timers that do the same in a hard interrupt and
//! in a softirq, NMIs that those send; one that takes CPUs down and up, and one that disturbs.

use crate::{
    object::Source,
    sys::{
        cache::{SheafCache, With},
        core,
        cpu::{self, Context},
        mem,
        nmi::Source as Nmis,
        thread,
        timer::{Timer, Where},
    },
    world::World,
};
use kernel::sync::atomic::Relaxed;

/// Looks in interrupts are no longer than this, in nanoseconds.
const SHORT: u64 = 20_000;
/// Objects that a barrier is looked after with.
const WITNESSES: usize = 8;

/// The part of thread `number`.
pub(crate) fn play(world: &World<'_>, nmis: &Nmis, number: usize) {
    let plan = world.plan;
    let urgent = plan.writers + plan.readers;
    match number {
        0 if plan.hotplug > 0 => hotplug(world),
        0 => {}
        1 if plan.disturb > 0 => disturb(world),
        1 => {}
        n if n - 2 < plan.writers => with_timers(world, nmis, 64, false, |w| w.turn(Context::Task)),
        n if n - 2 < urgent => with_timers(world, nmis, 8, false, |w| w.look_long(plan.span)),
        _ => with_timers(world, nmis, 4, true, |w| w.turn(Context::Task)),
    }
}

/// How many threads there are.
pub(crate) fn threads(world: &World<'_>) -> usize {
    2 + world.plan.writers + world.plan.readers + world.plan.urgent
}

/// What each NMI does.
///
/// # Context
///
/// NMI.
pub(crate) fn on_nmi(world: &World<'_>) {
    let counts = &world.counts;
    counts.nmis.up();
    let context = cpu::context();
    if context != Context::Nmi {
        counts.elsewhere.up();
    }
    if world.dice.one_in(4) {
        world.look(context, SHORT / 4);
    }
    world.turn(context);
}

/// When a timer goes off next, whose handler has begun at `began`; 0: not of itself.
fn again(world: &World<'_>, began: u64) -> u64 {
    let dice = &world.dice;
    if world.idle.load(Relaxed) != 0 || dice.one_in(1024) {
        return 0;
    }
    let next = if dice.one_in(4) {
        // Right behind the last one, often.
        dice.skewed(2 * world.plan.timer)
    } else {
        1 + dice.below(2 * world.plan.timer)
    };
    // All timers together leave half of a CPU to tasks, however slow it is.
    next.max((thread::now() - began) * 4 * threads(world) as u64)
}

fn in_hardirq(world: &World<'_>, nmis: &Nmis) -> u64 {
    let (context, began) = (cpu::context(), thread::now());
    if world.dice.one_in(2) {
        world.turn(context);
    } else {
        world.look(context, SHORT);
    }
    // On PREEMPT_RT a hard timer may run late, in its thread.
    if nmis.sends() && context == Context::Hardirq && world.dice.below(8) < world.plan.nmis {
        let this = cpu::this();
        let skip = world.dice.below(4) as usize;
        let other = cpu::online().cycle().nth(skip);
        let target = match other {
            Some(cpu) if world.dice.one_in(2) => cpu,
            _ => this,
        };
        if target == this || target != world.spare.load(Relaxed) {
            nmis.send(target);
        }
    }
    again(world, began)
}

fn in_softirq(world: &World<'_>) -> u64 {
    let (context, began) = (cpu::context(), thread::now());
    if world.dice.one_in(2) {
        world.turn(context);
    } else {
        world.look(context, SHORT);
    }
    again(world, began)
}

/// Does `act` again and again, up to `burst` times in a row, and starts the thread's timers, until the thread is to stop.
fn with_timers(world: &World<'_>, nmis: &Nmis, burst: u64, urgent: bool, act: impl Fn(&World<'_>)) {
    let hard = || in_hardirq(world, nmis);
    let soft = || in_softirq(world);
    let timers = Timer::new(Where::Hardirq, &hard).and_then(|hard| {
        let soft = Timer::new(Where::Softirq, &soft)?;
        Ok((hard, soft))
    });
    let Ok((hard, soft)) = timers else { return };
    if urgent {
        thread::be_urgent();
    }
    while !thread::should_stop() {
        if world.idle.load(Relaxed) != 0 {
            thread::sleep(1 + world.dice.below(8) as u32);
            continue;
        }
        let began = thread::now();
        hard.start(world.dice.skewed(world.plan.timer) + 1);
        soft.start(world.dice.skewed(world.plan.timer) + 1);
        for _ in 0..1 + world.dice.below(burst) {
            act(world);
            if !urgent {
                thread::cond_resched();
            }
        }
        if world.dice.one_in(16) {
            move_somewhere(world);
        }
        if urgent || world.dice.one_in(8) {
            // Comes back at any moment.
            let spent = (thread::now() - began) / 1000;
            let least = if urgent { spent.min(100_000) as u32 } else { 0 };
            thread::sleep_us(least + 20 + world.dice.below(500) as u32);
        }
    }
}

fn move_somewhere(world: &World<'_>) {
    let skip = world.dice.below(16) as usize;
    let cpu = if world.dice.one_in(8) {
        -1
    } else {
        cpu::online().cycle().nth(skip).unwrap_or(-1)
    };
    thread::move_to(cpu);
}

/// CPUs go down, stay there for a while, and come up again.
fn hotplug(world: &World<'_>) {
    let every = world.plan.hotplug;
    while !thread::should_stop() {
        thread::sleep(1 + world.dice.below(2 * u64::from(every)) as u32);
        let last = cpu::online().count() as u64;
        // The first one has to stay on most machines.
        let skip = 1 + world.dice.below(last.saturating_sub(1)) as usize;
        let Some(cpu) = cpu::online().nth(skip) else {
            continue;
        };
        world.spare.store(cpu, Relaxed);
        // Who has not seen it runs with interrupts off, and has sent its NMI by then.
        kernel::sync::rcu::synchronize_rcu();
        if cpu::take_down(cpu).is_ok() {
            thread::sleep(world.dice.below(u64::from(every)) as u32);
            if cpu::bring_up(cpu).is_ok() {
                world.counts.hotplugs.up();
            }
        }
        world.spare.store(-1, Relaxed);
    }
}

fn disturb(world: &World<'_>) {
    while !thread::should_stop() {
        thread::sleep(1 + world.dice.below(2 * u64::from(world.plan.disturb)) as u32);
        match world.dice.below(8) {
            0..3 => barrier(world),
            3 | 4 => short_life(world),
            5 => {
                let source = [Source::Cache, Source::SmallCache][world.dice.below(2) as usize];
                let _ = world.cache(source).prefill(world.dice.below(4) as usize);
            }
            6 if world.plan.fail > 0 => {
                core::fail(1 + world.dice.below(world.plan.fail), world.dice.skewed(16))
            }
            7 if world.plan.squeeze > 0 => {
                mem::squeeze(world.plan.squeeze);
                world.counts.squeezes.up();
            }
            _ => world.touch(),
        }
    }
    core::fail(0, 0);
}

/// What was queued before a barrier, on several CPUs, is freed behind it.
fn barrier(world: &World<'_>) {
    let mut witnesses = [None; WITNESSES];
    for witness in &mut witnesses {
        if world.dice.one_in(3) {
            move_somewhere(world);
        }
        *witness = world.queue_one();
    }
    if world.dice.one_in(2) {
        move_somewhere(world);
    }
    core::barrier();
    for (record, number) in witnesses.into_iter().flatten() {
        if record.waits(number) {
            world.counts.left_by_barrier.up();
            record.failed(c"still waits behind a barrier");
        }
    }
    world.counts.barriers.up();
}

/// A cache that comes, is used, and goes with objects that wait.
fn short_life(world: &World<'_>) {
    let size = 32 + 8 * world.dice.below(32) as usize;
    let capacity = world.dice.below(57) as u32;
    let with = With {
        destructor: world.dice.one_in(2),
        domain: world.dice.one_in(4),
    };
    let Ok(cache) = SheafCache::new(c"rcu_ptr_torture_short", size, capacity, 0, with) else {
        return;
    };
    let source = if with.destructor {
        Source::SmallCache
    } else {
        Source::Cache
    };
    for _ in 0..world.dice.skewed(400) {
        let object = if world.dice.one_in(2) {
            cache.alloc(false)
        } else {
            cache.alloc_nolock()
        };
        if let Some(object) = object {
            world.free_rcu(&cache, source, object);
        }
        thread::cond_resched();
    }
    drop(cache);
    world.counts.caches.up();
}
