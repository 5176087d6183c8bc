//! What can go wrong with a ledger.

use std::sync::Arc;

use thiserror::Error;

use super::coordination::CoordinationError;
use crate::core::ids::Ids;
use crate::core::member::MemberId;
use crate::core::print::Printable;

/// Why a [`Ledger`](crate::coordination::ledger::Ledger) did not do what was asked of it.
///
/// # Examples
/// ```
/// use tierlock::coordination::Coordinator;
/// use tierlock::coordination::ledger::{Ledger, LedgerError};
///
/// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
/// let jobs = Ledger::open(&coordinator, "jobs")?;
/// let error = jobs.make_new_ids(1).unwrap_err();
/// assert!(matches!(error, LedgerError::NotStarted { .. }));
/// assert!(error.to_string().contains("has no session in registry jobs"));
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The member is lost, the engine did not do it, or what is stored cannot be understood or would be too large.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),

    /// [`startup`](crate::coordination::ledger::Ledger::startup) was not called, or
    /// [`shutdown`](crate::coordination::ledger::Ledger::shutdown) was since.
    #[error(
        "{member} has no session in registry {} at {}: it did not start up",
        Printable(registry),
        Printable(at)
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    NotStarted { member: MemberId, registry: Arc<str>, at: Arc<str> },

    /// Neither the registry is there nor the second copy of its counter: nobody ever started up, or both were lost.
    /// `lost` says what became of the one and the other.
    #[error(
        "nothing tells how far registry {} at {} was counted: {}; `startup` begins it if it is new, `repair(minimum)` if not",
        Printable(registry),
        Printable(at),
        Printable(lost)
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    Gone { registry: Arc<str>, at: Arc<str>, lost: Arc<str> },

    /// What is stored is not what this session left, and somebody else has ids that it held. It may shut down, and start up
    /// anew without them.
    #[error(
        "{by} has {ids} of registry {} at {}, which this session held: the record was replaced",
        Printable(registry),
        Printable(at)
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    Taken { ids: Ids, by: MemberId, registry: Arc<str>, at: Arc<str> },

    /// The numbers are used up.
    #[error("registry {} at {} has not {wanted} ids left", Printable(registry), Printable(at))]
    #[allow(missing_docs, reason = "the variant says it")]
    OutOfIds { wanted: u64, registry: Arc<str>, at: Arc<str> },
}

impl LedgerError {
    /// Tells whether what this session held, or some of it, is lost: its member is, or somebody else has the ids.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// let jobs = Ledger::open(&coordinator, "jobs")?;
    /// jobs.startup(0)?;
    /// coordinator.leave()?;
    /// assert!(jobs.make_new_ids(1).unwrap_err().is_lost());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Coordination(error) => error.is_lost(),
            Self::Taken { .. } => true,
            _ => false,
        }
    }

    /// Tells whether the same may succeed later, with nothing changed but time.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// let jobs = Ledger::open(&coordinator, "jobs")?;
    /// assert!(!jobs.make_new_ids(1).unwrap_err().is_transient());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Coordination(error) if error.is_transient())
    }
}
