// SPDX-License-Identifier: GPL-2.0

//! What the tests share: contexts to free objects in, medians, and how numbers are printed.

use crate::{
    context::{HardInterrupts, NmiSource},
    sys::{cpu, object::Source, params},
    way::{Objects, Way},
};

use kernel::{fmt, prelude::*};

/// Where objects are freed from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Task,
    IrqsOff,
    Hardirq,
    Nmi,
}

/// All of them.
pub(crate) const CONTEXTS: [Context; 4] = [
    Context::Task,
    Context::IrqsOff,
    Context::Hardirq,
    Context::Nmi,
];

impl Context {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::IrqsOff => "irqs_off",
            Self::Hardirq => "hardirq",
            Self::Nmi => "nmi",
        }
    }

    /// Whether `way` may be called here, and this machine has it.
    pub(crate) fn allows(self, way: &Way, nmi: Option<&NmiSource>) -> bool {
        self != Self::Nmi || (way.in_nmi && nmi.is_some())
    }

    /// Objects that are handed out at once: interrupts must not be off for long.
    fn chunk(self) -> usize {
        match self {
            Self::Task => usize::MAX / 2,
            _ => 100,
        }
    }
}

/// A machine without NMIs that can be sent has its reason in the log once.
pub(crate) fn nmi_source() -> Result<Option<NmiSource>> {
    if !NmiSource::exists() {
        pr_info!("note text=no NMIs can be sent here: nothing is measured in NMI\n");
        return Ok(None);
    }
    NmiSource::new().map(Some)
}

/// Frees all of `objects` in `context`. Returns the cycles.
///
/// # Errors
///
/// `EIO` if the context was not what it should be.
pub(crate) fn free_all(
    context: Context,
    way: &Way,
    nmi: Option<&NmiSource>,
    objects: &mut Objects,
) -> Result<u64> {
    let mut cycles = 0;
    let mut wrong = false;
    let interrupts = (context == Context::Hardirq)
        .then(HardInterrupts::new)
        .transpose()?;
    while !objects.is_done() {
        let chunk = context.chunk().min(objects.len());
        match context {
            Context::Task => cycles += objects.free(way, chunk),
            Context::IrqsOff => cycles += cpu::irqs_off(|| objects.free(way, chunk)),
            Context::Hardirq => interrupts.as_ref().ok_or(EIO)?.call(&mut || {
                wrong |= cpu::context() != cpu::Context::Hardirq;
                cycles += objects.free(way, chunk);
            }),
            Context::Nmi => nmi.ok_or(EOPNOTSUPP)?.call(&mut || {
                wrong |= cpu::context() != cpu::Context::Nmi;
                cycles += objects.free(way, chunk);
            }),
        }
    }
    if wrong {
        pr_err!("context {} was something else\n", context.name());
        return Err(EIO);
    }
    Ok(cycles)
}

/// The kinds of objects that `object=` names.
///
/// # Errors
///
/// As for [`Source::new()`].
pub(crate) fn for_each_source(mut f: impl FnMut(&'static str, &Source) -> Result) -> Result {
    for name in params::object().split(',') {
        let source =
            Source::new(name).inspect_err(|_| pr_err!("object={}: no such object\n", name))?;
        f(name, &source)?;
    }
    Ok(())
}

/// Numbers that were measured again and again.
pub(crate) struct Samples(KVVec<i64>);

impl Samples {
    pub(crate) fn new(capacity: usize) -> Result<Self> {
        Ok(Self(KVVec::with_capacity(capacity, GFP_KERNEL)?))
    }

    pub(crate) fn push(&mut self, value: i64) -> Result {
        Ok(self.0.push(value, GFP_KERNEL)?)
    }

    pub(crate) fn sorted(mut self) -> Sorted {
        self.0.sort_unstable();
        Sorted(self.0)
    }
}

/// The same, in order.
pub(crate) struct Sorted(KVVec<i64>);

impl Sorted {
    /// The value below which `percent` of them are.
    pub(crate) fn at(&self, percent: usize) -> i64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or(0)
    }

    pub(crate) fn median(&self) -> i64 {
        self.at(50)
    }
}

/// `total / count`, printed with two decimals.
pub(crate) struct Per(pub(crate) i64, pub(crate) usize);

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0 * 100 / self.1.max(1) as i64;
        let sign = if hundredths < 0 { "-" } else { "" };
        let hundredths = hundredths.unsigned_abs();
        write!(f, "{}{}.{:02}", sign, hundredths / 100, hundredths % 100)
    }
}
