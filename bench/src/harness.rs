//! Contenders side by side.
//!
//! Each runs a batch in turn, round after round: on a busy machine the ratio of two neighbours in time can be trusted, a time
//! by itself cannot. A ratio is taken within a round, and the median of the rounds is what is said.

use std::time::Duration;

use crate::clock::{nanoseconds, own_time};
use crate::effort::Effort;
use crate::table::Quartiles;
use crate::threads::{Pace, together};

/// Somebody who does the work of a case in one way. What it is given when it is run is how long a batch takes; it answers with
/// the nanoseconds of one operation.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    run: Box<dyn FnMut(Duration) -> f64 + 'a>,
}

impl<'a> Contender<'a> {
    /// Repeats an operation on this thread. `true` has it look closely at what it holds, once before each batch. What counts is
    /// the time of this thread, and not what others do to it.
    pub(crate) fn new(name: impl Into<String>, operation: impl FnMut(bool) + 'a) -> Self {
        Self::timed(name, own_time, operation)
    }

    /// Repeats an operation on this thread, by this clock.
    pub(crate) fn timed(
        name: impl Into<String>,
        clock: fn() -> Duration,
        mut operation: impl FnMut(bool) + 'a,
    ) -> Self {
        let mut count = 1;
        Self::custom(name, move |batch| {
            operation(true);
            loop {
                let begun = clock();
                (0..count).for_each(|_| operation(false));
                let took = nanoseconds(clock() - begun).max(1.0);
                let each = took / count as f64;
                count = (nanoseconds(batch) / each).max(1.0) as u64;
                if took * 2.0 >= nanoseconds(batch) {
                    return each;
                }
            }
        })
    }

    /// Repeats operations on several threads that share nothing but what they are given, each on a core. A batch in which
    /// somebody else had one of the cores is repeated, for it says nothing of threads that meet.
    pub(crate) fn threads<O: FnMut(bool)>(
        name: impl Into<String>,
        threads: usize,
        make: impl Fn(usize) -> O + Sync + 'a,
    ) -> Self {
        Self::custom(name, move |batch| {
            let attempts = (0..20).map(|_| together(threads, batch, &make));
            let mut best = Pace { rate: 0.0, share: -1.0 };
            for pace in attempts {
                best = if pace.share > best.share { pace } else { best };
                if best.share > 0.9 {
                    break;
                }
            }
            1.0 / best.rate
        })
    }

    /// Repeats operations on more threads than can run, or on such as wait for each other.
    pub(crate) fn crowd<O: FnMut(bool)>(
        name: impl Into<String>,
        threads: usize,
        make: impl Fn(usize) -> O + Sync + 'a,
    ) -> Self {
        Self::custom(name, move |batch| 1.0 / together(threads, batch, &make).rate)
    }

    /// Measures as it sees fit.
    pub(crate) fn custom(name: impl Into<String>, run: impl FnMut(Duration) -> f64 + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// The nanoseconds of one operation in a batch of about this long.
    pub(crate) fn run(&mut self, batch: Duration) -> f64 {
        (self.run)(batch)
    }
}

/// Runs contenders against each other. The order changes from round to round, lest somebody always come after the same.
pub(crate) fn race(effort: Effort, mut contenders: Vec<Contender<'_>>) -> Race {
    let mut samples = vec![Vec::with_capacity(effort.rounds); contenders.len()];
    for contender in &mut contenders {
        contender.run(effort.batch);
    }
    for round in 0..effort.rounds {
        for place in 0..contenders.len() {
            let index = (round + place) % contenders.len();
            samples[index].push(contenders[index].run(effort.batch));
        }
    }
    Race { names: contenders.into_iter().map(|contender| contender.name).collect(), samples }
}

/// What came of it: for each contender the nanoseconds of one operation, round by round.
pub(crate) struct Race {
    pub(crate) names: Vec<String>,
    samples: Vec<Vec<f64>>,
}

impl Race {
    pub(crate) fn time(&self, index: usize) -> Quartiles {
        Quartiles::of(self.samples[index].iter().copied())
    }

    /// How many times as long as this contender the first one takes.
    pub(crate) fn ratio(&self, index: usize) -> Quartiles {
        Quartiles::of(self.samples[0].iter().zip(&self.samples[index]).map(|(own, its)| own / its))
    }
}
