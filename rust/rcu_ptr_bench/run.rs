// SPDX-License-Identifier: GPL-2.0

//! What the tests share: where and what they measure, medians, and how numbers are printed.

use crate::{
    nmi::NmiSource,
    sys::{free::Source, params, thread},
    way::{self, Way},
};

use kernel::{
    error::to_result,
    fmt,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Task context, and NMI where there is one: their names, and how to get there.
pub(crate) fn contexts(
    nmi: &Option<NmiSource>,
) -> impl Iterator<Item = (&'static str, Option<&NmiSource>)> {
    Iterator::chain(
        core::iter::once(("task", None)),
        nmi.iter().map(|nmi| ("nmi", Some(nmi))),
    )
}

/// Calls `f` in an NMI, or as it is.
pub(crate) fn inside<R: Default>(nmi: Option<&NmiSource>, mut f: impl FnMut() -> R) -> Result<R> {
    let Some(nmi) = nmi else { return Ok(f()) };
    let mut ret = R::default();
    nmi.call(|| ret = f())?;
    Ok(ret)
}

/// Runs `f` in a thread on each of `cpus`, all at once. One that is named twice has two. Returns one of its errors.
pub(crate) fn in_threads(
    cpus: impl Iterator<Item = i32>,
    f: &(dyn Fn() -> Result + Sync),
) -> Result {
    let error = Atomic::<i32>::new(0);
    let body = |_| {
        let _ = f().inspect_err(|e| error.store(e.to_errno(), Relaxed));
    };
    thread::on_cpus(cpus, &body, || ())?;
    to_result(error.load(Relaxed))
}

/// The kinds of objects that `object=` names.
pub(crate) fn for_each_source(mut f: impl FnMut(&'static str, &Source) -> Result) -> Result {
    for name in params::object().split(',') {
        let source =
            Source::new(name).inspect_err(|_| pr_err!("object={}: no such object\n", name))?;
        f(name, &source)?;
    }
    Ok(())
}

/// The same, with each function that frees them.
pub(crate) fn for_each_way(
    mut f: impl FnMut(&'static str, &Source, &'static Way) -> Result,
) -> Result {
    for_each_source(|name, source| way::ways(source).try_for_each(|way| f(name, source, way)))
}

/// Numbers that were measured again and again, in order.
pub(crate) struct Samples(KVVec<i64>);

impl Samples {
    /// Each of what `f` returns, of `reps` repetitions after one that only warms up.
    pub(crate) fn of<const N: usize>(
        reps: usize,
        mut f: impl FnMut() -> Result<[i64; N]>,
    ) -> Result<[Self; N]> {
        let mut all = [const { Self(KVVec::new()) }; N];
        for samples in &mut all {
            samples.0.reserve(reps, GFP_KERNEL)?;
        }
        f()?;
        for _ in 0..reps {
            for (samples, value) in all.iter_mut().zip(f()?) {
                samples.0.push(value, GFP_KERNEL)?;
            }
        }
        all.iter_mut().for_each(|samples| samples.0.sort_unstable());
        Ok(all)
    }

    /// The value below which `percent` of them are.
    pub(crate) fn at(&self, percent: usize) -> i64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or(0)
    }

    pub(crate) fn median(&self) -> i64 {
        self.at(50)
    }

    pub(crate) fn sum(&self) -> i64 {
        self.0.iter().sum()
    }
}

/// What is printed of repetitions: their cycles and how many objects were refused, with `count` objects each;
/// of a call `overhead` cycles of all are subtracted.
pub(crate) struct Spread<'a> {
    pub(crate) cycles: &'a Samples,
    pub(crate) refused: &'a Samples,
    pub(crate) count: usize,
    pub(crate) overhead: i64,
}

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent| Per(self.cycles.at(percent) - self.overhead, self.count);
        f.write_fmt(fmt!(
            "count={} reps={} refused={} min={} median={} max={}",
            self.count,
            self.cycles.0.len(),
            self.refused.sum(),
            at(0),
            at(50),
            at(100)
        ))
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
