//! What can go wrong: one small enum per operation, each naming who, what and how; [`Error`] is what all of them convert into.

#[cfg(feature = "coordination")]
mod coordination;
#[cfg(feature = "coordination")]
mod global;
#[cfg(feature = "coordination")]
mod lease;
#[cfg(feature = "coordination")]
mod ledger;
#[cfg(feature = "coordination")]
mod synchronized;
mod template;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::core::mode::Mode;
use crate::core::print::Printable;
use crate::name::LockName;
use crate::request::Membership;

#[cfg(feature = "coordination")]
pub use self::coordination::{CoordinationError, DriverError, DriverErrorKind};
#[cfg(feature = "coordination")]
pub use self::global::GlobalLockError;
#[cfg(feature = "coordination")]
pub use self::lease::LeaseError;
#[cfg(feature = "coordination")]
pub use self::ledger::LedgerError;
#[cfg(feature = "coordination")]
pub use self::synchronized::SynchronizedError;
pub use self::template::{TemplateError, TemplateFault};

/// What keeps a lock from its owner that lies outside this process.
#[cfg(feature = "coordination")]
pub(crate) type Outside = Box<CoordinationError>;
/// Nothing lies outside.
#[cfg(not(feature = "coordination"))]
pub(crate) type Outside = std::convert::Infallible;

/// Somebody who stands in the way of a request.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{AcquireError, Owner, SharedLock};
///
/// let lock = SharedLock::new("config");
/// let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
/// let _guard = lock.exclusive(&first).now().unwrap();
/// let refused = lock.shared(&second).timeout(Duration::from_millis(2)).wait();
/// let Err(AcquireError::TimedOut { blockers, .. }) = refused else { panic!() };
/// assert_eq!(&*blockers[0].owner, "job-1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocker {
    /// Its name.
    pub owner: Arc<str>,
    /// The mode it holds, or waits for.
    pub mode: Mode,
    /// True if it holds nothing yet but waits in front.
    pub waits: bool,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = if self.waits { "waiting " } else { "" };
        write!(f, "{} ({waits}{})", Printable(&self.owner), self.mode)
    }
}

/// Blockers as an error shows them: the first few by name.
struct Blockers<'a>(&'a [Blocker]);

impl fmt::Display for Blockers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        if self.0.is_empty() {
            // Whoever it was has left since.
            return Ok(());
        }
        f.write_str(", blocked by ")?;
        for (at, blocker) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{blocker}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A lock whose last exclusive holder ended without releasing it, by a panic.
///
/// What the lock guards may be half done.
///
/// # Examples
/// ```
/// use tierlock::{Owner, SharedLock};
///
/// let lock = SharedLock::new("config");
/// let hasty = Owner::new("hasty");
/// # std::panic::set_hook(Box::new(|_| ()));
/// let _ = std::panic::catch_unwind(|| {
///     let _guard = lock.exclusive(&hasty).now().unwrap();
///     panic!("half way");
/// });
/// let next = Owner::new("next");
/// let guard = lock.exclusive(&next).now().unwrap();
/// assert_eq!(&*guard.abandoned().unwrap().owner, "hasty");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abandoned {
    /// The lock.
    pub lock: LockName,
    /// Who held it.
    pub owner: Arc<str>,
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was abandoned by {}", self.lock, Printable(&self.owner))
    }
}

/// Why a lock, a set or a plan was not acquired. Whatever the reason, nothing was taken and nothing held was lost.
///
/// # Examples
/// ```
/// use tierlock::{Owner, SharedLock};
///
/// let lock = SharedLock::new("config");
/// let owner = Owner::new("job-19");
/// let _guard = lock.exclusive(&owner).now().unwrap();
/// let error = lock.shared(&owner).now().unwrap_err();
/// assert_eq!(error.to_string(), "job-19 asked for config shared, but holds it exclusive");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The owner holds the lock already, or asks for it on another thread (`held` is `None` then). For a set: it holds
    /// something of the set, and may acquire there once at a time.
    #[error("{by} asked for {lock} {wanted}, but {}", held.map_or("asks for it already".into(), |held| format!("holds it {held}")), by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    AlreadyHeld { owner: Arc<str>, lock: LockName, wanted: Mode, held: Option<Mode> },

    /// The lock was deleted, before or while the owner waited for it.
    #[error("{by} asked for {lock} {wanted}, but it was deleted", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    Deleted { owner: Arc<str>, lock: LockName, wanted: Mode },

    /// There is no lock of this name in the set; it may have been removed.
    #[error("{by} asked for {lock} {wanted}, but there is none (it may have been removed)", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    NotFound { owner: Arc<str>, lock: LockName, wanted: Mode },

    /// The time was up before the lock could be granted. A timeout below one millisecond never queues.
    #[error("{by} timed out after {waited:?} waiting for {lock} {wanted}{}", Blockers(blockers), by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    TimedOut {
        owner: Arc<str>,
        lock: LockName,
        wanted: Mode,
        waited: Duration,
        blockers: Vec<Blocker>,
    },

    /// The lock could not be had at once, and the owner would not wait.
    #[error("{by} could not have {lock} {wanted} at once", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    WouldBlock { owner: Arc<str>, lock: LockName, wanted: Mode },

    /// The request is awaited or pending and minds the time, but the thread that keeps time for such requests could not be
    /// started.
    #[error("{by} could not wait for {lock} {wanted} in time: no timer thread ({reason})", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    NoTimer { owner: Arc<str>, lock: LockName, wanted: Mode, reason: std::io::ErrorKind },

    /// Levels are taken in increasing rank: `wanted` does not come after `held`, a lock held already or asked for before.
    #[error("{by} asked for level {in_level}, but holds {held} {mode}, which comes later", by = Printable(owner), in_level = Printable(wanted))]
    #[allow(missing_docs, reason = "the variant says it")]
    OutOfOrder { owner: Arc<str>, wanted: Arc<str>, held: LockName, mode: Mode },

    /// Before anything else the owner has to hold the root, in any mode.
    #[error("{by} asked for level {in_level}, but does not hold the root {root}", by = Printable(owner), in_level = Printable(wanted))]
    #[allow(missing_docs, reason = "the variant says it")]
    RootNotHeld { owner: Arc<str>, wanted: Arc<str>, root: LockName },

    /// The manager has no such level, or one of another name at this rank.
    #[error("{by} asked for level {in_level}, which this manager does not have", by = Printable(owner), in_level = Printable(level))]
    #[allow(missing_docs, reason = "the variant says it")]
    UnknownLevel { owner: Arc<str>, level: Arc<str> },

    /// Fewer locks were free than an opportunistic request needs.
    #[error("{by} asked for at least {wanted} locks of {in_set}, but only {had} were free", by = Printable(owner), in_set = Printable(set))]
    #[allow(missing_docs, reason = "the variant says it")]
    NotEnough { owner: Arc<str>, set: Arc<str>, wanted: usize, had: usize },

    /// The coordinator did not grant the lock, which is held across processes.
    #[cfg(feature = "coordination")]
    #[error("{by} asked for {lock} {wanted}: {reason}", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    Coordination { owner: Arc<str>, lock: LockName, wanted: Mode, reason: Box<CoordinationError> },

    /// A value that is part of the name was empty: with it, all for whom it is empty would share one lock.
    #[error("{by} asked for {lock}, but {placeholder} in its name is empty", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    EmptyValue { owner: Arc<str>, lock: LockName, placeholder: &'static str },
}

impl AcquireError {
    /// Tells whether the same request may succeed later, with nothing changed but time.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Owner, SharedLock};
    ///
    /// let lock = SharedLock::new("config");
    /// let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
    /// let _guard = lock.exclusive(&first).now().unwrap();
    /// assert!(lock.exclusive(&second).now().unwrap_err().is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        #[cfg(feature = "coordination")]
        if let Self::Coordination { reason, .. } = self {
            return reason.is_transient();
        }
        matches!(self, Self::TimedOut { .. } | Self::WouldBlock { .. } | Self::NotEnough { .. })
    }

    /// Tells whether the time was up.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tierlock::{Owner, SharedLock};
    ///
    /// let lock = SharedLock::new("config");
    /// let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
    /// let _guard = lock.exclusive(&first).now().unwrap();
    /// assert!(lock.exclusive(&second).timeout(Duration::ZERO).wait().unwrap_err().is_timeout());
    /// ```
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}

/// Why a lock was not taken in a stronger mode. It is still held as before.
///
/// # Examples
/// ```
/// use tierlock::{Owner, SharedLock, UpgradeError};
///
/// let lock = SharedLock::new("config");
/// let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
/// let mut guard = lock.shared(&first).now().unwrap();
/// let _other = lock.shared(&second).now().unwrap();
/// assert!(matches!(guard.upgrade().now(), Err(UpgradeError::Acquire(_))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// Waiting would never end: `blockers` wait for this owner, or may come to. To be tried with `now()`, or to be had by
    /// releasing and asking again.
    #[error("{by} cannot wait for {lock} {wanted} while it holds it {held}: it would deadlock{}", Blockers(blockers), by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    WouldDeadlock {
        owner: Arc<str>,
        lock: LockName,
        held: Mode,
        wanted: Mode,
        blockers: Vec<Blocker>,
    },

    /// The lock is not held.
    #[error(transparent)]
    Hold(#[from] HoldError),

    /// The other holders did not make way.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
}

/// Why something held was not given back, narrowed or downgraded. It is held as before.
///
/// # Examples
/// ```
/// use tierlock::{HoldError, Level, ganeti};
///
/// let manager = ganeti::manager(["web1"], [""; 0], ["n1"], [""; 0]).build().unwrap();
/// let mut job = manager.session("job-17");
/// let error = job.release(ganeti::Level::Node, ["n1"]).unwrap_err();
/// assert_eq!(error.to_string(), "job-17 does not hold node/n1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HoldError {
    /// The owner does not hold this.
    #[error("{by} does not hold {lock}", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    NotHeld { owner: Arc<str>, lock: LockName },

    /// The root is released last.
    #[error("{by} cannot release the root {root} while it holds {held} {mode}", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    RootNeeded { owner: Arc<str>, root: LockName, held: LockName, mode: Mode },

    /// The manager has no such level.
    #[error("{by} spoke of level {in_level}, which this manager does not have", by = Printable(owner), in_level = Printable(level))]
    #[allow(missing_docs, reason = "the variant says it")]
    UnknownLevel { owner: Arc<str>, level: Arc<str> },

    /// The coordinator did not grant by itself a name that was held across processes by its level.
    #[cfg(feature = "coordination")]
    #[error("{by} cannot go on with {lock} alone: {reason}", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    Coordination { owner: Arc<str>, lock: LockName, reason: Box<CoordinationError> },

    /// A downgrade leads to a mode that the present one covers.
    #[error("{by} cannot downgrade {lock} from {held} to {wanted}, which it does not cover", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    NotWeaker { owner: Arc<str>, lock: LockName, held: Mode, wanted: Mode },
}

/// Why names were not added to a set, or not removed. None of them was.
///
/// # Examples
/// ```
/// use tierlock::{LockSet, Membership, Owner};
///
/// let set = LockSet::new("tenants", Membership::Listed, ["a"]).unwrap();
/// let error = set.add(&Owner::new("job"), ["a"]).now().unwrap_err();
/// assert_eq!(error.to_string(), "job cannot add tenants/a: there is one already");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// The name is in the set, or twice in the request.
    #[error("{by} cannot add {lock}: there is one already", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    AlreadyExists { owner: Arc<str>, lock: LockName },

    /// The members of this set are fixed, or come and go on demand.
    #[error("{by} cannot change the members of {in_set}: they are {membership}", by = Printable(owner), in_set = Printable(set))]
    #[allow(missing_docs, reason = "the variant says it")]
    NotModifiable { owner: Arc<str>, set: Arc<str>, membership: Membership },

    /// Locks are added by an owner that holds nothing of the set, or its set-lock in a mode that permits it; they are removed
    /// by one that holds nothing of the set, or holds them exclusively.
    #[error("{by} cannot change {lock} while it holds {held} {mode}", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    HeldOtherwise { owner: Arc<str>, lock: LockName, held: LockName, mode: Mode },

    /// The locks of this set are held across processes, where somebody else may hold the names by the time they are added: they
    /// are added first, and acquired then.
    #[error("{by} cannot add names to {in_set} already held: it is held across processes", by = Printable(owner), in_set = Printable(set))]
    #[allow(missing_docs, reason = "the variant says it")]
    HeldAcross { owner: Arc<str>, set: Arc<str> },

    /// The root is there as long as its manager.
    #[error("{by} cannot remove {root}: it is the root", by = Printable(owner))]
    #[allow(missing_docs, reason = "the variant says it")]
    RootStays { owner: Arc<str>, root: LockName },

    /// What the change needs was not acquired.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
}

/// Why a set or a manager was not built.
///
/// # Examples
/// ```
/// use tierlock::{BuildError, LockSet, Membership};
///
/// let error = LockSet::new("tenants", Membership::Listed, ["a", "a"]).unwrap_err();
/// assert_eq!(error.to_string(), "tenants/a is there twice");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A name is there twice.
    #[error("{lock} is there twice")]
    #[allow(missing_docs, reason = "the variant says it")]
    DuplicateName { lock: LockName },

    /// Two levels have one rank or one name.
    #[error("level {in_level} (rank {rank}) is there twice", in_level = Printable(level))]
    #[allow(missing_docs, reason = "the variant says it")]
    DuplicateLevel { level: Arc<str>, rank: usize },

    /// Ranks count from 0 without a gap.
    #[error("there is no level of rank {rank}: ranks count from 0 without a gap")]
    #[allow(missing_docs, reason = "the variant says it")]
    MissingRank { rank: usize },

    /// A level that was to be held across processes is none of the manager's.
    #[error("there is no level {in_level} that could be held across processes", in_level = Printable(level))]
    #[allow(missing_docs, reason = "the variant says it")]
    UnknownLevel { level: Arc<str> },

    /// The level cannot be held across processes.
    #[cfg(feature = "coordination")]
    #[error(transparent)]
    Coordination(Box<CoordinationError>),

    /// The root has to be a lock of the first level, listed there.
    #[error("the root {root} is not a lock of the first level")]
    #[allow(missing_docs, reason = "the variant says it")]
    NoRoot { root: LockName },
}

/// Any error of this crate.
///
/// # Examples
/// ```
/// use tierlock::{Error, Owner, SharedLock};
///
/// fn work(lock: &SharedLock, owner: &Owner) -> Result<(), Error> {
///     let mut guard = lock.shared(owner).wait()?; // AcquireError
///     guard.upgrade().now()?; // UpgradeError
///     Ok(())
/// }
/// assert!(work(&SharedLock::new("config"), &Owner::new("job")).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum Error {
    /// Not acquired.
    Acquire(#[from] AcquireError),
    /// Not upgraded.
    Upgrade(#[from] UpgradeError),
    /// Not released, narrowed or downgraded.
    Hold(#[from] HoldError),
    /// Not added or removed.
    Membership(#[from] MembershipError),
    /// Not built.
    Build(#[from] BuildError),
    /// Not named.
    Template(#[from] TemplateError),
    /// Not done by a coordinator.
    #[cfg(feature = "coordination")]
    Coordination(#[from] CoordinationError),
    /// Not made or not acquired by the name that Manila's locks have.
    #[cfg(feature = "coordination")]
    Synchronized(#[from] SynchronizedError),
    /// Not done with a lease.
    #[cfg(feature = "coordination")]
    Lease(#[from] LeaseError),
    /// Not done with the ids of a registry.
    #[cfg(feature = "coordination")]
    Ledger(#[from] LedgerError),
    /// Not granted to a node.
    #[cfg(feature = "coordination")]
    Global(#[from] GlobalLockError),
}
