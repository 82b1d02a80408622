// SPDX-License-Identifier: GPL-2.0

//! Common parts of the tests: contexts and objects, medians, and formats of numbers.

use crate::{
    bench_fn::{self, BenchFn},
    nmi::NmiSource,
    sys::{free::ObjectKind, params, thread},
};

use kernel::{
    error::to_result,
    fmt,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// The contexts with their names: task context, and NMI if there is a source.
pub(crate) fn contexts(
    nmi: &Option<NmiSource>,
) -> impl Iterator<Item = (&'static str, Option<&NmiSource>)> {
    Iterator::chain(
        core::iter::once(("task", None)),
        nmi.iter().map(|nmi| ("nmi", Some(nmi))),
    )
}

/// Calls `f` in an NMI, or directly.
pub(crate) fn in_context<R: Default>(
    nmi: Option<&NmiSource>,
    mut f: impl FnMut() -> R,
) -> Result<R> {
    let Some(nmi) = nmi else { return Ok(f()) };
    let mut ret = R::default();
    nmi.call(|| ret = f())?;
    Ok(ret)
}

/// Runs `f` in a thread for each of `cpus`, all at once. Returns one of the errors.
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

/// Calls `f` for each kind of objects of `object=`.
pub(crate) fn for_each_source(mut f: impl FnMut(&'static str, &ObjectKind) -> Result) -> Result {
    for name in params::object().split(',') {
        let source =
            ObjectKind::new(name).inspect_err(|_| pr_err!("object={}: no such object\n", name))?;
        f(name, &source)?;
    }
    Ok(())
}

/// Calls `f` for each kind of objects of `object=` and each function that frees them.
pub(crate) fn for_each_function(
    mut f: impl FnMut(&'static str, &ObjectKind, &'static BenchFn) -> Result,
) -> Result {
    for_each_source(|name, source| {
        bench_fn::functions(source).try_for_each(|function| f(name, source, function))
    })
}

/// Results of repetitions, sorted.
pub(crate) struct Samples(KVVec<i64>);

impl Samples {
    /// Collects each of the results of `f`, in `reps` repetitions after one for warming up.
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

    /// The percentile `percent`.
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

/// The results of repetitions with `count` objects each: cycles, from which `overhead` is
/// subtracted, and the number of refused objects.
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
