//! What can go wrong with a ledger.

use std::sync::Arc;

use thiserror::Error;

use super::ids::Ids;
use crate::core::member::MemberId;
use crate::error::CoordinationError;

/// Why a [`Ledger`](super::Ledger) did not do what was asked of it.
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
/// # Ok::<(), LedgerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The member is lost, the engine did not do it, or what is stored cannot be understood or would be too large.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),

    /// [`startup`](super::Ledger::startup) was not called, or [`shutdown`](super::Ledger::shutdown) was since.
    #[error("{member} has no session in registry {registry} at {at}: it did not start up")]
    #[allow(missing_docs, reason = "the variant says it")]
    NotStarted { member: MemberId, registry: Arc<str>, at: Arc<str> },

    /// Neither the registry is there nor the second copy of its counter: nobody ever started up, or both were lost.
    #[error(
        "nothing tells how far registry {registry} at {at} was counted: its record is absent, its counter is {counter}"
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    Gone { registry: Arc<str>, at: Arc<str>, counter: Arc<str> },

    /// What is stored is not what this session left, and somebody else has ids that it held. It may shut down, and start up
    /// anew without them.
    #[error(
        "{by} has {ids} of registry {registry} at {at}, which this session held: the record was replaced"
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    Taken { ids: Ids, by: MemberId, registry: Arc<str>, at: Arc<str> },

    /// The numbers are used up.
    #[error("registry {registry} at {at} has not {wanted} ids left")]
    #[allow(missing_docs, reason = "the variant says it")]
    OutOfIds { wanted: u64, registry: Arc<str>, at: Arc<str> },
}
