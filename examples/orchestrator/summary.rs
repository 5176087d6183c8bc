//! What a run amounts to: counted by each worker for itself, added up, and printed for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tierlock::Level as _;
use tierlock::ganeti::{LEVELS, Level};

use crate::checker::Verdict;
use crate::contention::Contended;
use crate::setback::Setback;

/// Priorities that belong together, from the first to the last of each.
const BANDS: [(i32, i32); 5] = [(-20, -10), (-9, -1), (0, 0), (1, 10), (11, 19)];

/// What one worker, or all of them, did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    failed: BTreeMap<String, u64>,
    attempts: u64,
    timed_out: u64,
    too_few: u64,
    most_attempts: u32,
    /// From submission until all locks were held, by band of priority.
    submit_to_held: [Samples; BANDS.len()],
    /// The same without the time spent waiting for other jobs.
    ready_to_held: Samples,
    waits_by_level: [Samples; LEVELS.len()],
    waits_by_band: [Samples; BANDS.len()],
    /// With a job in hand.
    pub(crate) busy: Duration,
    /// With all its locks held.
    pub(crate) working: Duration,
}

impl Tally {
    /// Counts a request that ended, one way or the other, after `waited`.
    pub(crate) fn waited(&mut self, level: Level, priority: i32, waited: Duration) {
        self.waits_by_level[level.rank()].push(waited);
        self.waits_by_band[band(priority)].push(waited);
    }

    /// Counts a job that has got all its locks.
    pub(crate) fn all_held(
        &mut self,
        priority: i32,
        since_submit: Duration,
        since_ready: Duration,
    ) {
        self.submit_to_held[band(priority)].push(since_submit);
        self.ready_to_held.push(since_ready);
    }

    /// Counts an attempt, the `number`th of its job.
    pub(crate) fn attempted(&mut self, number: u32, result: &Result<(), Setback>) {
        self.attempts += 1;
        self.most_attempts = self.most_attempts.max(number);
        match result {
            Ok(()) => self.done += 1,
            Err(Setback::TimedOut) => self.timed_out += 1,
            Err(Setback::TooFew) => self.too_few += 1,
            Err(Setback::Failed(why)) => *self.failed.entry(why.clone()).or_default() += 1,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.done += other.done;
        for (why, count) in other.failed {
            *self.failed.entry(why).or_default() += count;
        }
        self.attempts += other.attempts;
        self.timed_out += other.timed_out;
        self.too_few += other.too_few;
        self.most_attempts = self.most_attempts.max(other.most_attempts);
        add_each(&mut self.submit_to_held, other.submit_to_held);
        self.ready_to_held.add(other.ready_to_held);
        add_each(&mut self.waits_by_level, other.waits_by_level);
        add_each(&mut self.waits_by_band, other.waits_by_band);
        self.busy += other.busy;
        self.working += other.working;
    }

    fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

fn band(priority: i32) -> usize {
    let in_band = |&(first, last): &(i32, i32)| (first..=last).contains(&priority);
    BANDS.iter().position(in_band).unwrap_or(BANDS.len() - 1)
}

fn add_each<const N: usize>(to: &mut [Samples; N], from: [Samples; N]) {
    to.iter_mut().zip(from).for_each(|(to, from)| to.add(from));
}

/// Durations, in microseconds.
#[derive(Clone, Debug, Default)]
struct Samples(Vec<u32>);

impl Samples {
    fn push(&mut self, duration: Duration) {
        // An hour and more counts as an hour and some.
        self.0.push(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX));
    }

    fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        Self(all.into_iter().flat_map(|samples| &samples.0).copied().collect())
    }

    /// A line of the table: how many, and median, 99th percentile and maximum in milliseconds.
    fn row(&self, f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        if sorted.is_empty() {
            return Ok(());
        }
        let at = |part: f64| {
            let index = (part * (sorted.len() - 1) as f64).round() as usize;
            f64::from(sorted[index]) / 1000.0
        };
        let (count, median, p99, max) = (grouped(sorted.len()), at(0.5), at(0.99), at(1.0));
        writeln!(f, "  {title:<38} {count:>10} {median:>9.3} {p99:>9.3} {max:>9.3}")
    }
}

/// All there is to say at the end.
pub(crate) struct Summary<'a> {
    pub(crate) jobs: usize,
    pub(crate) workers: usize,
    pub(crate) wall: Duration,
    pub(crate) tally: &'a Tally,
    pub(crate) contended: &'a [Contended],
    pub(crate) interrupted: bool,
    pub(crate) verdict: &'a Verdict,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_jobs(f)?;
        self.write_waits(f)?;
        self.write_contended(f)?;
        writeln!(f, "\n{}", self.verdict)
    }
}

impl Summary<'_> {
    fn write_jobs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, wall, .. } = self;
        let failed = tally.failures();
        let ended = tally.done + failed;
        if self.interrupted {
            let left = grouped(self.jobs as u64 - ended);
            writeln!(f, "interrupted: {left} jobs were not begun or go back to the queue")?;
        }
        let (jobs, done) = (grouped(self.jobs), grouped(tally.done));
        writeln!(f, "jobs      {jobs}: {done} done, {} failed", grouped(failed))?;
        for (why, count) in &tally.failed {
            writeln!(f, "            {} because {why}", grouped(*count))?;
        }
        let seconds = wall.as_secs_f64();
        writeln!(f, "time      {seconds:.2} s, {:.1} jobs a second", ended as f64 / seconds)?;
        writeln!(
            f,
            "attempts  {}: {} timed out, {} found too few locks free; {} at most for one job",
            grouped(tally.attempts),
            grouped(tally.timed_out),
            grouped(tally.too_few),
            tally.most_attempts,
        )?;
        writeln!(
            f,
            "workers   {}: {:.1} busy on average, {:.1} with all locks held",
            self.workers,
            tally.busy.as_secs_f64() / seconds,
            tally.working.as_secs_f64() / seconds,
        )
    }

    fn write_waits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = self.tally;
        let title = "milliseconds";
        writeln!(f, "\n{title:<40} {:>10} {:>9} {:>9} {:>9}", "count", "median", "p99", "max")?;
        let all = Samples::merged(&tally.submit_to_held);
        all.row(f, "submit to all locks held")?;
        for ((first, last), samples) in BANDS.iter().zip(&tally.submit_to_held) {
            samples.row(f, &format!("  {}", Band(*first, *last)))?;
        }
        tally.ready_to_held.row(f, "ready (nothing to wait for) to all held")?;
        for (level, samples) in LEVELS.iter().zip(&tally.waits_by_level) {
            samples.row(f, &format!("one request at level {}", level.name()))?;
        }
        for ((first, last), samples) in BANDS.iter().zip(&tally.waits_by_band) {
            samples.row(f, &format!("one request, {}", Band(*first, *last)))?;
        }
        Ok(())
    }

    fn write_contended(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.contended.is_empty() {
            return Ok(());
        }
        let title = "most contended locks";
        writeln!(f, "\n{title:<40} {:>10} {:>9} {:>9}", "waits", "mean ms", "sum s")?;
        for Contended { lock, waits, waited } in self.contended {
            let (mean, sum) = (waited.as_secs_f64() * 1000.0 / *waits as f64, waited.as_secs_f64());
            writeln!(f, "  {lock:<38} {:>10} {mean:>9.3} {sum:>9.2}", grouped(*waits))?;
        }
        Ok(())
    }
}

struct Band(i32, i32);

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            write!(f, "priority {}", self.0)
        } else {
            write!(f, "priority {} to {}", self.0, self.1)
        }
    }
}

/// A number with its thousands set apart.
pub(crate) fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in numbers {
            assert_eq!(grouped(number), text, "{number}");
        }
    }

    #[test]
    fn every_priority_has_its_band() {
        for (i, (first, last)) in BANDS.into_iter().enumerate() {
            assert_eq!((band(first), band(last)), (i, i));
        }
        assert_eq!(band(99), BANDS.len() - 1);
    }

    #[test]
    fn tallies_add_up() {
        let mut total = Tally::default();
        for number in 1..=3 {
            let mut tally = Tally::default();
            tally.attempted(number, &Err(Setback::TimedOut));
            tally.attempted(number, &Err(Setback::Failed("gone".to_owned())));
            total.add(tally);
        }
        assert_eq!((total.attempts, total.timed_out, total.most_attempts), (6, 3, 3));
        assert_eq!(total.failed["gone"], 3);
    }
}
