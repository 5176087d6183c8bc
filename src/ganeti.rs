//! Ganeti's hierarchy, ready-made: its seven levels, its constants, and its strategy of repeated attempts.
//!
//! From Ganeti 2.10 (`lib/locking.py`, `lib/mcpu.py`), restated. What differs is told in `docs/ganeti.md`.

use std::sync::Arc;
use std::time::Duration;

use crate::core::queue::Priority;
use crate::manager::{LockManager, LockManagerBuilder};

/// Ganeti's levels, in the order in which they are taken.
///
/// # Examples
/// ```
/// use tierlock::{Level as _, ganeti::Level};
/// assert_eq!(Level::NodeRes.name(), "node-res");
/// assert!(Level::Instance.rank() < Level::Node.rank());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, tierlock_macros::Level)]
pub enum Level {
    /// The whole cluster: its one lock is the [`BGL`].
    #[level(root = "BGL", fixed)]
    Cluster,
    /// Virtual machines.
    Instance,
    /// The right to choose nodes for an instance: its one lock is the [`NAL`].
    #[level(fixed)]
    NodeAlloc,
    /// Groups of nodes.
    #[level(name = "nodegroup")]
    NodeGroup,
    /// Physical machines.
    Node,
    /// Heavy work of a node, such as wiping disks, that must not block choosing it.
    NodeRes,
    /// Networks of instances.
    Network,
}

/// All levels, in order.
///
/// # Examples
/// ```
/// use tierlock::ganeti::{LEVELS, Level};
/// assert_eq!(LEVELS.first(), Some(&Level::Cluster));
/// ```
pub const LEVELS: [Level; 7] = [
    Level::Cluster,
    Level::Instance,
    Level::NodeAlloc,
    Level::NodeGroup,
    Level::Node,
    Level::NodeRes,
    Level::Network,
];

/// The levels to which locks can be added, and from which they can be removed.
///
/// # Examples
/// ```
/// use tierlock::ganeti::{Level, MODIFIABLE_LEVELS};
/// assert!(!MODIFIABLE_LEVELS.contains(&Level::Cluster));
/// ```
pub const MODIFIABLE_LEVELS: [Level; 5] =
    [Level::Instance, Level::NodeGroup, Level::Node, Level::NodeRes, Level::Network];

/// The "big Ganeti lock", root of everything: held shared by every operation, exclusively by those that want to be alone.
///
/// # Examples
/// ```
/// assert_eq!(tierlock::ganeti::BGL, "BGL");
/// ```
pub const BGL: &str = "BGL";

/// The "node allocation lock": held exclusively while nodes are chosen among all.
///
/// # Examples
/// ```
/// assert_eq!(tierlock::ganeti::NAL, "NAL");
/// ```
pub const NAL: &str = "NAL";

/// The name under which the set-lock of a level is shown.
///
/// # Examples
/// ```
/// assert_eq!(tierlock::ganeti::LOCKSET, "[lockset]");
/// ```
pub const LOCKSET: &str = crate::set::LOCKSET;

/// Every lock of a level.
pub use crate::request::ALL;

/// Describes a manager of Ganeti's levels: the BGL as root, the NAL, and these names. `node` and `node-res` begin with the
/// same names and are independent afterwards.
///
/// # Examples
/// ```
/// use tierlock::ganeti;
///
/// let manager = ganeti::manager(["web1"], ["default"], ["n1", "n2"], ["net1"]).build()?;
/// assert_eq!(manager.names(ganeti::Level::NodeRes).len(), 2);
/// # Ok::<(), tierlock::BuildError>(())
/// ```
pub fn manager<I, G, N, W>(
    instances: impl IntoIterator<Item = I>,
    groups: impl IntoIterator<Item = G>,
    nodes: impl IntoIterator<Item = N>,
    networks: impl IntoIterator<Item = W>,
) -> LockManagerBuilder
where
    I: Into<Arc<str>>,
    G: Into<Arc<str>>,
    N: Into<Arc<str>>,
    W: Into<Arc<str>>,
{
    let (instances, groups) = (list(instances), list(groups));
    let (nodes, networks) = (list(nodes), list(networks));
    LockManager::builder().levels(|level| match level {
        Level::Cluster => vec![BGL.into()],
        Level::Instance => instances.clone(),
        Level::NodeAlloc => vec![NAL.into()],
        Level::NodeGroup => groups.clone(),
        Level::Node | Level::NodeRes => nodes.clone(),
        Level::Network => networks.clone(),
    })
}

fn list<N: Into<Arc<str>>>(names: impl IntoIterator<Item = N>) -> Vec<Arc<str>> {
    names.into_iter().map(Into::into).collect()
}

/// The most urgent priority; only an attempt at this one blocks.
///
/// # Examples
/// ```
/// assert!(tierlock::ganeti::PRIORITY_MIN < tierlock::ganeti::PRIORITY_MAX);
/// ```
pub const PRIORITY_MIN: Priority = -20;

/// The least urgent priority.
///
/// # Examples
/// ```
/// assert_eq!(tierlock::ganeti::PRIORITY_MAX, 19);
/// ```
pub const PRIORITY_MAX: Priority = 19;

const TIMEOUT_MIN_S: f64 = 1.0;
const TIMEOUT_MAX_S: f64 = 15.0;
/// Ten hours of waiting, spread over the steps from priority 0 to the most urgent.
const ROUND_S: f64 = 36_000.0 / 20.0;
/// The random part of a timeout, so that two jobs do not collide for ever.
const JITTER: f64 = 0.05;

/// One attempt to get everything an operation needs.
///
/// # Examples
/// ```
/// let first = tierlock::ganeti::Attempts::new(0).next(0.0);
/// assert_eq!((first.priority, first.timeout), (0, Some(std::time::Duration::from_secs(1))));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attempt {
    /// The priority of every request of the attempt.
    pub priority: Priority,
    /// One budget for all levels of the attempt; none for the last, which blocks.
    pub timeout: Option<Duration>,
}

/// Ganeti's strategy against hoarding: an operation that does not get all its locks in time gives everything back and tries
/// again, a little more patiently; after 130 attempts it becomes one step more urgent and starts over; only at the most urgent
/// priority, after its 130 attempts there, it blocks.
///
/// A manager that takes all of a level in one step and never strands a waiter needs this less: a plain `wait()` with
/// [`Ageing`](crate::Ageing) is the simpler choice.
///
/// # Examples
/// ```
/// use tierlock::ganeti::Attempts;
///
/// let mut attempts = Attempts::new(0).scaled(0.001); // a simulation, a thousand times as fast
/// let jitter = 0.3; // random, between -1 and 1
/// let attempt = attempts.next(jitter);
/// assert!(attempt.timeout < Some(std::time::Duration::from_millis(2)));
/// ```
#[derive(Clone, Debug)]
pub struct Attempts {
    priority: Priority,
    scale: f64,
    /// Seconds of the next timeout, and of all in this round so far.
    next_s: f64,
    round_s: f64,
}

impl Attempts {
    /// Starts at a priority.
    ///
    /// # Examples
    /// ```
    /// let attempts = tierlock::ganeti::Attempts::new(10);
    /// ```
    #[must_use]
    pub fn new(priority: Priority) -> Self {
        Self { priority, scale: 1.0, next_s: TIMEOUT_MIN_S, round_s: 0.0 }
    }

    /// Multiplies every timeout by `factor`, which counts as 0 unless it is a positive number.
    ///
    /// # Examples
    /// ```
    /// let attempts = tierlock::ganeti::Attempts::new(0).scaled(0.001);
    /// ```
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { scale: if factor > 0.0 { factor.min(1e6) } else { 0.0 }, ..self }
    }

    /// The priority of the next attempt.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::ganeti::Attempts::new(10).priority(), 10);
    /// ```
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Goes on from another priority, in the same round: what a user asks for overrides the ageing so far.
    ///
    /// # Examples
    /// ```
    /// let mut attempts = tierlock::ganeti::Attempts::new(10);
    /// attempts.set_priority(-10);
    /// assert_eq!(attempts.next(0.0).priority, -10);
    /// ```
    pub fn set_priority(&mut self, priority: Priority) {
        self.priority = priority;
    }

    /// The next attempt. `jitter`, from -1 to 1, is the random part: up to 5 % of the timeout.
    ///
    /// # Examples
    /// ```
    /// use tierlock::ganeti::Attempts;
    ///
    /// let mut attempts = Attempts::new(0);
    /// let round: Vec<_> = (0..131).map(|_| attempts.next(0.0).priority).collect();
    /// assert_eq!((round[129], round[130]), (0, -1));
    /// ```
    pub fn next(&mut self, jitter: f64) -> Attempt {
        if self.round_s >= ROUND_S {
            if self.priority <= PRIORITY_MIN {
                return Attempt { priority: self.priority, timeout: None };
            }
            self.priority -= 1;
            (self.next_s, self.round_s) = (TIMEOUT_MIN_S, 0.0);
        }
        let timeout_s = self.next_s;
        self.round_s += timeout_s;
        self.next_s = (timeout_s * 1.05).powf(1.25).clamp(TIMEOUT_MIN_S, TIMEOUT_MAX_S);
        let jitter = if jitter.is_finite() { jitter.clamp(-1.0, 1.0) } else { 0.0 };
        let timeout = Duration::from_secs_f64(timeout_s * (1.0 + jitter * JITTER) * self.scale);
        Attempt { priority: self.priority, timeout: Some(timeout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeouts_of_a_round_are_ganetis() {
        let mut attempts = Attempts::new(0);
        let round: Vec<Attempt> = (0..130).map(|_| attempts.next(0.0)).collect();
        let seconds: Vec<f64> = round.iter().map(|a| a.timeout.unwrap().as_secs_f64()).collect();
        let known =
            [1.0, 1.063, 1.147, 1.262, 1.421, 1.650, 1.987, 2.508, 3.354, 4.824, 7.599, 13.410];
        for (timeout, known) in seconds.iter().zip(known) {
            assert!((timeout - known).abs() < 0.0006, "{timeout} for {known}");
        }
        assert!(seconds[12..].iter().all(|&timeout| timeout == 15.0));
        assert!((seconds.iter().sum::<f64>() - 1811.2).abs() < 0.1);
        assert!(round.iter().all(|attempt| attempt.priority == 0));
        assert_eq!(attempts.next(0.0).priority, -1);
    }

    #[test]
    fn only_the_most_urgent_priority_blocks_and_only_after_its_own_round() {
        let mut attempts = Attempts::new(-19);
        let timed = std::iter::from_fn(|| Some(attempts.next(1.0)).filter(|a| a.timeout.is_some()));
        assert_eq!(timed.count(), 260);
        assert_eq!(attempts.next(0.0), Attempt { priority: -20, timeout: None });
    }

    #[test]
    fn no_factor_and_no_jitter_makes_a_timeout_that_is_none() {
        for wild in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300] {
            assert!(Attempts::new(0).scaled(wild).next(wild).timeout.is_some());
        }
    }
}
