//! What can go wrong with leases and their groups.

use std::sync::Arc;

use thiserror::Error;

use super::{AcquireError, CoordinationError};
use crate::core::member::MemberId;
use crate::core::print::Printable;

/// Why something was not done with a lease or a group of [`coordination::lease`](crate::coordination::lease).
///
/// That a lock is held by somebody else is no error there.
///
/// # Examples
/// ```
/// use tierlock::coordination::{Coordinator, lease::{LeaseError, Leases}};
///
/// let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
/// let lease = leases.acquire_lock("config")?.expect("nobody else is there");
/// lease.release()?;
/// let error = lease.release().unwrap_err();
/// assert!(matches!(error, LeaseError::Released { .. }));
/// assert_eq!(error.to_string(), "config is held no more: it was released");
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The lease was released before.
    #[error("{} is held no more: it was released", Printable(lock))]
    #[allow(missing_docs, reason = "the variant says it")]
    Released { lock: Arc<str> },

    /// The lease's time is over. Others may hold the lock by now.
    #[error("{} is held no more: its time was over", Printable(lock))]
    #[allow(missing_docs, reason = "the variant says it")]
    Expired { lock: Arc<str> },

    /// The member that held the lease is lost, and all its leases with it.
    #[error("{} is held no more: {reason}", Printable(lock))]
    #[allow(missing_docs, reason = "the variant says it")]
    Lost { lock: Arc<str>, reason: Box<CoordinationError> },

    /// There is a group of this name already.
    #[error("there is a group {} already", Printable(group))]
    #[allow(missing_docs, reason = "the variant says it")]
    GroupExists { group: Arc<str> },

    /// There is no group of this name; it may have been deleted.
    #[error("there is no group {}", Printable(group))]
    #[allow(missing_docs, reason = "the variant says it")]
    NoGroup { group: Arc<str> },

    /// The group has as many locks as it has places.
    #[error(
        "{} does not fit into the group {}: it has {capacity} places",
        Printable(lock),
        Printable(group)
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    GroupFull { lock: Arc<str>, group: Arc<str>, capacity: usize },

    /// The group has no locks, so none of it will ever be free.
    #[error("the group {} has no locks", Printable(group))]
    #[allow(missing_docs, reason = "the variant says it")]
    NoLocks { group: Arc<str> },

    /// The lock belongs to another group, which it cannot leave.
    #[error("{} belongs to the group {} already", Printable(lock), Printable(group))]
    #[allow(missing_docs, reason = "the variant says it")]
    InGroup { lock: Arc<str>, group: Arc<str> },

    /// The group cannot be deleted while this lock of it is held.
    #[error("the group {} cannot be deleted: {} is held", Printable(group), Printable(lock))]
    #[allow(missing_docs, reason = "the variant says it")]
    GroupLocked { group: Arc<str>, lock: Arc<str> },

    /// The group cannot be deleted before somebody acquires this lock of it, and cleans up after who held it.
    #[error(
        "the group {} cannot be deleted: {} was not released by {} at {by}",
        Printable(group),
        Printable(lock),
        Printable(owner)
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    GroupNotClean { group: Arc<str>, lock: Arc<str>, owner: Arc<str>, by: MemberId },

    /// The lock could not be asked for.
    #[error(transparent)]
    Acquire(#[from] AcquireError),

    /// The coordinator did not do it.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
}

impl LeaseError {
    /// Tells whether the lease is held no more: it was released, or is [lost](Self::is_lost).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::lease::LeaseError;
    /// assert!(LeaseError::Released { lock: "config".into() }.is_over());
    /// assert!(!LeaseError::NoGroup { group: "printers".into() }.is_over());
    /// ```
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Released { .. }) || self.is_lost()
    }

    /// Tells whether what was held is lost against its holder's will: its time was over, or the member is lost.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::lease::LeaseError;
    /// assert!(LeaseError::Expired { lock: "config".into() }.is_lost());
    /// assert!(!LeaseError::Released { lock: "config".into() }.is_lost());
    /// ```
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Expired { .. } | Self::Lost { .. } => true,
            Self::Acquire(AcquireError::Coordination { reason, .. }) => reason.is_lost(),
            Self::Coordination(error) => error.is_lost(),
            _ => false,
        }
    }

    /// Tells whether the same may succeed later, with nothing changed but time.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::lease::LeaseError;
    /// assert!(!LeaseError::Released { lock: "config".into() }.is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Coordination(error) => error.is_transient(),
            Self::Acquire(error) => error.is_transient(),
            Self::GroupLocked { .. } => true,
            _ => false,
        }
    }
}
