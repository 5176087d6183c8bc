//! How often something was waited for, and how long: counters that nobody pays for but who waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bucket 0 is below a microsecond, bucket `k` begins at `2^(k - 1)` of them, and the last, from three days up, has no end.
const BUCKETS: usize = 40;

/// The waits for the locks of one set, or for a lock by itself, as they are being counted.
#[derive(Debug)]
pub(crate) struct Tally {
    total_ns: AtomicU64,
    longest_ns: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            total_ns: AtomicU64::new(0),
            longest_ns: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// Counts one wait, however it ended.
    pub(crate) fn record(&self, waited: Duration) {
        let waited_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(waited_ns)].fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(waited_ns, Ordering::Relaxed);
        self.longest_ns.fetch_max(waited_ns, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, name: Arc<str>) -> Waits {
        Waits {
            name,
            total: Duration::from_nanos(self.total_ns.load(Ordering::Relaxed)),
            longest: Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed)),
            buckets: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
        }
    }
}

fn bucket(waited_ns: u64) -> usize {
    let waited_us = waited_ns / 1000;
    ((u64::BITS - waited_us.leading_zeros()) as usize).min(BUCKETS - 1)
}

/// Where a bucket ends; the last one has no end.
fn end(bucket: usize) -> Option<Duration> {
    (bucket + 1 < BUCKETS).then(|| Duration::from_micros(1 << bucket))
}

/// How often the locks of one set, or one lock by itself, had to be waited for, and how long.
///
/// A wait is one request in the queue of one lock: a request for several locks that waits for three of them counts three times,
/// each with its own time. It counts when it ends, granted or not. Locks had at once are not counted, and cost nothing.
///
/// Read without stopping those who count: a wait that ends meanwhile may be in the histogram and not in the total yet.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{LockMonitor, Owner, SharedLock};
///
/// let lock = SharedLock::new("config");
/// let monitor = LockMonitor::new();
/// monitor.register(&lock);
/// let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
/// let _guard = lock.exclusive(&first).now()?;
/// let _ = lock.exclusive(&second).timeout(Duration::from_millis(2)).wait();
///
/// let waits = &monitor.waits()[0];
/// assert_eq!((waits.name(), waits.count()), ("config", 1));
/// assert!(waits.longest() >= Duration::from_millis(2));
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Waits {
    name: Arc<str>,
    total: Duration,
    longest: Duration,
    buckets: Vec<u64>,
}

impl Waits {
    /// The name of the set, or of the lock by itself.
    ///
    /// # Examples
    /// ```
    /// # let monitor = tierlock::LockMonitor::new();
    /// monitor.register(&tierlock::LockSet::on_demand("paths"));
    /// assert!(monitor.waits().iter().all(|waits| waits.name() == "paths"));
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of waits that have ended.
    ///
    /// # Examples
    /// ```
    /// # let (monitor, paths) = (tierlock::LockMonitor::new(), tierlock::LockSet::on_demand("paths"));
    /// monitor.register(&paths);
    /// assert_eq!(monitor.waits()[0].count(), 0);
    /// ```
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Time spent in all of them.
    ///
    /// # Examples
    /// ```
    /// # let (monitor, paths) = (tierlock::LockMonitor::new(), tierlock::LockSet::on_demand("paths"));
    /// # monitor.register(&paths);
    /// let waits = &monitor.waits()[0];
    /// let mean = waits.total().checked_div(waits.count() as u32);
    /// assert_eq!(mean, None);
    /// ```
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The longest of them.
    ///
    /// # Examples
    /// ```
    /// # let (monitor, paths) = (tierlock::LockMonitor::new(), tierlock::LockSet::on_demand("paths"));
    /// # monitor.register(&paths);
    /// assert!(monitor.waits()[0].longest().is_zero());
    /// ```
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The buckets of the histogram, shortest waits first: where each ends, and how many waits are in it. Each reaches twice as
    /// far as the one before it, from one microsecond on; the last has no end.
    ///
    /// # Examples
    /// ```
    /// # let (monitor, paths) = (tierlock::LockMonitor::new(), tierlock::LockSet::on_demand("paths"));
    /// # monitor.register(&paths);
    /// for (end, count) in monitor.waits()[0].histogram() {
    ///     if let (Some(end), true) = (end, count > 0) {
    ///         println!("{count} waits shorter than {end:?}");
    ///     }
    /// }
    /// ```
    pub fn histogram(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        self.buckets.iter().enumerate().map(|(at, count)| (end(at), *count))
    }

    /// A time that this share of the waits did not exceed: the end of their bucket, or the longest wait if that is less.
    /// Nothing was waited for in no time.
    ///
    /// # Examples
    /// ```
    /// # let (monitor, paths) = (tierlock::LockMonitor::new(), tierlock::LockSet::on_demand("paths"));
    /// # monitor.register(&paths);
    /// println!("nine of ten waited less than {:?}", monitor.waits()[0].quantile(0.9));
    /// ```
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (share.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut below = 0;
        for (end, count) in self.histogram() {
            below += count;
            if below >= wanted {
                return end.unwrap_or(self.longest).min(self.longest);
            }
        }
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(waits_us: &[u64]) -> Waits {
        let tally = Tally::new();
        waits_us.iter().for_each(|&us| tally.record(Duration::from_micros(us)));
        tally.read("config".into())
    }

    #[test]
    fn a_wait_lies_below_the_end_of_its_bucket_and_not_below_the_one_before() {
        for us in [0, 1, 2, 3, 4, 1000, 1023, 1024, 1 << 37, (1 << 38) - 1] {
            let at = bucket(us * 1000);
            assert!(Duration::from_micros(us) < end(at).unwrap(), "{us} us");
            assert!(at == 0 || Duration::from_micros(us) >= end(at - 1).unwrap(), "{us} us");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn count_total_longest_and_histogram_speak_of_the_same_waits() {
        let waits = tally(&[0, 1, 5, 1000]);
        assert_eq!((waits.count(), waits.total()), (4, Duration::from_micros(1006)));
        assert_eq!(waits.longest(), Duration::from_millis(1));
        assert_eq!(waits.histogram().map(|(_, count)| count).sum::<u64>(), 4);
        assert_eq!(waits.histogram().last(), Some((None, 0)));
    }

    #[test]
    fn a_quantile_bounds_its_share_of_the_waits_from_above() {
        let waits = tally(&[1, 1, 1, 900]);
        assert_eq!(waits.quantile(0.5), Duration::from_micros(2));
        assert_eq!(waits.quantile(1.0), Duration::from_micros(900));
        assert_eq!(tally(&[]).quantile(0.9), Duration::ZERO);
    }
}
