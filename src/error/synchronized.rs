//! What can go wrong with locks that are called as Manila's are.

use std::sync::Arc;

use thiserror::Error;

use super::{AcquireError, TemplateError};
use crate::core::print::Printable;

/// Why a lock of [`coordination::synchronized`](crate::coordination::synchronized) was not made or not acquired.
///
/// # Examples
/// ```
/// use tierlock::coordination::synchronized::{Coordinator, SynchronizedError};
///
/// let coordinator = Coordinator::new(tierlock::coordination::Coordinator::connect("memory:"));
/// let error = coordinator.get_lock("share-7").unwrap_err();
/// assert!(matches!(error, SynchronizedError::NotStarted { .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SynchronizedError {
    /// There is no such lock: the coordinator is not started, or takes part no more.
    #[error(
        "{} cannot make the lock {}: the coordinator is not started",
        Printable(agent),
        Printable(name)
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    NotStarted { agent: Arc<str>, name: Arc<str> },

    /// There is no such lock: nothing can have this name.
    #[error("{} cannot make the lock {}: {reason}", Printable(agent), Printable(name))]
    #[allow(missing_docs, reason = "the variant says it")]
    LockCreationFailed { agent: Arc<str>, name: Arc<str>, reason: Arc<str> },

    /// Somebody else had the lock for as long as one was willing to wait; or it was to wait for itself.
    #[error(transparent)]
    LockAcquireFailed(AcquireError),

    /// The engine could not be asked, or the agent lives no more.
    #[error(transparent)]
    Coordination(AcquireError),

    /// The name could not be made of its template.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl SynchronizedError {
    /// Tells whether the agent is lost, and with it everything that it held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// coordinator.start()?;
    /// let lock = coordinator.get_lock("share-7")?;
    /// coordinator.stop()?;
    /// assert!(lock.acquire(true, Mode::Exclusive).unwrap_err().is_lost());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Coordination(AcquireError::Coordination { reason, .. }) if reason.is_lost())
    }

    /// Tells whether the same may succeed later, with nothing changed but time.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::Coordinator};
    /// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// assert!(!coordinator.get_lock("share-7").unwrap_err().is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::LockAcquireFailed(error) | Self::Coordination(error) => error.is_transient(),
            Self::NotStarted { .. } | Self::LockCreationFailed { .. } | Self::Template(_) => false,
        }
    }
}

impl From<AcquireError> for SynchronizedError {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Coordination { .. } => Self::Coordination(error),
            error => Self::LockAcquireFailed(error),
        }
    }
}
