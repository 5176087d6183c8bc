//! Contenders side by side.
//!
//! Each runs a batch in turn, round after round: on a busy machine the ratio of two neighbours in time can be trusted, a time
//! by itself cannot. A ratio is taken within a round, and the median of the rounds is what is said.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::{nanoseconds, now, own_time};
use crate::effort::Effort;
use crate::table::Quartiles;

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

    /// The same by the clock, for what others may delay.
    pub(crate) fn delayed(name: impl Into<String>, operation: impl FnMut(bool) + 'a) -> Self {
        let begun = now();
        Self::timed(name, move || begun.elapsed(), operation)
    }

    fn timed(
        name: impl Into<String>,
        time: impl Fn() -> Duration + 'a,
        mut operation: impl FnMut(bool) + 'a,
    ) -> Self {
        let mut count = 1;
        Self::custom(name, move |batch| {
            operation(true);
            loop {
                let begun = time();
                for _ in 0..count {
                    operation(false);
                }
                let took = nanoseconds(time() - begun).max(1.0);
                let each = took / count as f64;
                count = (nanoseconds(batch) / each).max(1.0) as u64;
                if took * 2.0 >= nanoseconds(batch) {
                    return each;
                }
            }
        })
    }

    /// Repeats operations on several threads at once, and takes the time of one as if they had come one after the other.
    pub(crate) fn threads<O: FnMut(bool)>(
        name: impl Into<String>,
        threads: usize,
        make: impl Fn(usize) -> O + Sync + 'a,
    ) -> Self {
        Self::custom(name, move |batch| {
            let (start, stop) = (Barrier::new(threads), AtomicBool::new(false));
            let rate = |index| rate(make(index), index == 0, batch, &start, &stop);
            thread::scope(|scope| {
                let rate = &rate;
                let workers: Vec<_> =
                    (0..threads).map(|index| scope.spawn(move || rate(index))).collect();
                1.0 / workers.into_iter().map(|worker| worker.join().unwrap()).sum::<f64>()
            })
        })
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

/// Operations in a nanosecond of one thread among several, the first of which says when to stop.
fn rate(
    mut operation: impl FnMut(bool),
    leads: bool,
    batch: Duration,
    start: &Barrier,
    stop: &AtomicBool,
) -> f64 {
    // So many between two looks at the clock that it does not count.
    const CHUNK: u32 = 64;
    operation(true);
    start.wait();
    let (begun, mut done) = (now(), 0);
    while !stop.load(Ordering::Relaxed) {
        (0..CHUNK).for_each(|_| operation(false));
        done += CHUNK;
        if leads && begun.elapsed() >= batch {
            stop.store(true, Ordering::Relaxed);
        }
    }
    f64::from(done) / nanoseconds(begun.elapsed())
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
