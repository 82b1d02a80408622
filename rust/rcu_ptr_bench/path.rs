// SPDX-License-Identifier: GPL-2.0

//! The instructions that a call executes, by single-stepping (the trap flag, x86 only): counts
//! instructions, locked instructions and full barriers, and logs the path of the usual call.
//!
//! Interrupts are off, so that nothing else is stepped through, and functions take the same path as
//! in NMI.

use crate::{
    bench_fn::{self, BenchFn, BenchObjects},
    run::{self, Samples},
    sys::{
        cpu,
        step::{self, Step, Stepper},
    },
};
use kernel::prelude::*;

/// Counts of a call and the loop around it: instructions, locked ones, full barriers.
type Counts = (i64, usize, usize);

/// `test=path`.
pub(crate) fn run() -> Result {
    if cfg!(not(CONFIG_X86_64)) {
        pr_info!("note text=no single-stepping here: no path is measured\n");
        return Ok(());
    }
    let mut stepper = Stepper::new()?;
    run::for_each_function(|name, source, function| {
        // The loop has no locked instructions or barriers.
        let mut objects = BenchObjects::new(source, 2)?;
        one(&mut stepper, &bench_fn::NOTHING, &mut objects)?;
        let (overhead, ..) = one(&mut stepper, &bench_fn::NOTHING, &mut objects)?;
        // One is to warm up.
        let mut objects = BenchObjects::new(source, crate::objects() + 1)?;
        let mut calls = KVVec::with_capacity(objects.len(), GFP_KERNEL)?;
        let [lengths] = Samples::of(crate::objects(), || {
            let call = one(&mut stepper, function, &mut objects)?;
            calls.push(call, GFP_KERNEL)?;
            Ok([call.0])
        })?;
        function.settle();
        let mut usual = calls.iter().filter(|call| call.0 == lengths.median());
        let &(steps, locked, barriers) = usual.next().ok_or(EIO)?;
        pr_info!(
            "path {} object={} count={} instructions={} locked={} barriers={} \
             max_instructions={}\n",
            function,
            name,
            crate::objects(),
            steps - overhead,
            locked,
            barriers,
            lengths.at(100) - overhead
        );
        // Prints the path of a call with as many instructions.
        let mut objects = BenchObjects::new(source, 100)?;
        while !objects.is_done() {
            if one(&mut stepper, function, &mut objects)?.0 == steps {
                for (number, step) in stepper.path()?.iter().enumerate() {
                    step.print(function.name, number);
                }
                break;
            }
        }
        drop(objects);
        function.settle();
        Ok(())
    })
}

fn one(stepper: &mut Stepper, function: &BenchFn, objects: &mut BenchObjects) -> Result<Counts> {
    stepper.clear();
    cpu::irqs_off(|| {
        step::start();
        objects.free(function, 1);
        step::stop();
    });
    let path: &[Step] = stepper.path()?;
    let of = |kind| {
        let kinds = path.iter().map(|step| kind_of(&step.bytes));
        kinds.filter(|&other| other == kind).count()
    };
    Ok((path.len() as i64, of(Kind::Locked), of(Kind::FullBarrier)))
}

/// The kind of an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Neither of the others.
    Plain,
    /// A locked read-modify-write, which is a full barrier too.
    Locked,
    /// A full barrier and nothing else: `mfence`, or a locked add of 0 to the stack
    /// (`smp_mb()`).
    FullBarrier,
}

const LOCK: u8 = 0xf0;

/// The kind of the instruction that starts at `code`.
fn kind_of(code: &[u8]) -> Kind {
    let at = |i: usize| code.get(i).copied().unwrap_or(0);
    let mut i = 0;
    let mut lock = false;
    while matches!(
        at(i),
        LOCK | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64..=0x67
    ) {
        lock |= at(i) == LOCK;
        i += 1;
    }
    if at(i) & 0xf0 == 0x40 {
        i += 1;
    }
    let (opcode, modrm) = (at(i), at(i + 1));
    let in_memory = modrm >> 6 != 3;
    if lock {
        // add $0, disp8(%rsp) or disp32(%rsp)
        let stack = modrm & 7 == 4 && at(i + 2) & 7 == 4;
        let immediate = at(i + 3 + usize::from(modrm >> 6 == 1));
        let adds = opcode == 0x83 && modrm >> 3 & 7 == 0;
        return if adds && stack && immediate == 0 {
            Kind::FullBarrier
        } else {
            Kind::Locked
        };
    }
    match (opcode, modrm) {
        // xchg with memory locks by itself.
        (0x86 | 0x87, _) if in_memory => Kind::Locked,
        (0x0f, 0xae) if at(i + 2) >> 3 == 0o36 => Kind::FullBarrier,
        _ => Kind::Plain,
    }
}
