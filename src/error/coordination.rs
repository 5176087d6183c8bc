//! What can go wrong between processes.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::core::member::MemberId;
use crate::core::print::Printable;

/// Why an engine did not do what was asked of it.
///
/// # Examples
/// ```
/// use tierlock::coordination::{DriverError, DriverErrorKind};
///
/// let error = DriverError::new(DriverErrorKind::Unavailable, "cannot write /srv/locks: disk full");
/// assert_eq!(error.to_string(), "cannot write /srv/locks: disk full");
/// assert_eq!(error.kind(), DriverErrorKind::Unavailable);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct DriverError {
    kind: DriverErrorKind,
    what: Arc<str>,
}

/// What follows from a [`DriverError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DriverErrorKind {
    /// The engine could not be reached, read or written. It may be later; what is held stays held.
    Unavailable,
    /// The member lives no more. What it held is lost.
    Lost,
    /// Another member of this name lives.
    NameTaken,
    /// The engine will not do this, now or later: a bad URL, a file that belongs to somebody else.
    Refused,
}

impl DriverError {
    /// An error that says what was attempted, and why it failed.
    #[must_use]
    pub fn new(kind: DriverErrorKind, what: impl fmt::Display) -> Self {
        Self { kind, what: Printable(&what.to_string()).to_string().into() }
    }

    /// What follows from it.
    #[must_use]
    pub fn kind(&self) -> DriverErrorKind {
        self.kind
    }
}

/// Why a coordinator did not do what was asked of it.
///
/// # Examples
/// ```
/// use tierlock::coordination::{CoordinationError, Coordinator};
///
/// let error = Coordinator::connect("carrier-pigeon://loft").join("worker-1").unwrap_err();
/// assert!(matches!(error, CoordinationError::BadUrl { .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CoordinationError {
    /// The member lives no more: its time was up before it could say that it lives, it left, or its process was forked.
    /// Everything it held is lost, and others may hold it by now.
    #[error("{member} is no longer a member of {at}: {reason}")]
    #[allow(missing_docs, reason = "the variant says it")]
    Lost { member: MemberId, at: Arc<str>, reason: Arc<str> },

    /// This hold is lost, though its member lives: its lifetime was over, or somebody broke it.
    #[error("{resource} at {at} is held no more: its time was over, or it was broken")]
    #[allow(missing_docs, reason = "the variant says it")]
    Broken { resource: Arc<str>, at: Arc<str> },

    /// The engine did not do it; see [`DriverError::kind`]. What was held stays held.
    #[error("{what} at {}: {error}", Printable(at))]
    #[allow(missing_docs, reason = "the variant says it")]
    Engine { what: Arc<str>, at: Arc<str>, error: DriverError },

    /// What is stored for the resource cannot be understood. It was left as it is; nobody can be granted it until somebody
    /// repairs it.
    #[error("what is stored for {resource} at {at} is damaged: {reason}")]
    #[allow(missing_docs, reason = "the variant says it")]
    Damaged { resource: Arc<str>, at: Arc<str>, reason: Arc<str> },

    /// What is stored for the resource was written by a later version of this crate.
    #[error(
        "what is stored for {resource} at {at} has format {format}, which this version does not know"
    )]
    #[allow(missing_docs, reason = "the variant says it")]
    UnknownFormat { resource: Arc<str>, at: Arc<str>, format: u32 },

    /// Too many wait for the resource to be written down.
    #[error("what would be stored for {resource} at {at} is too large: {bytes} bytes")]
    #[allow(missing_docs, reason = "the variant says it")]
    TooLarge { resource: Arc<str>, at: Arc<str>, bytes: usize },

    /// The engine cannot do what the program needs.
    #[error("{at} lacks what is asked of it: {capability}")]
    #[allow(missing_docs, reason = "the variant says it")]
    Incapable { at: Arc<str>, capability: Arc<str> },

    /// Two managers of one member would hold the level by one name in the record, so that neither kept out the other.
    #[error("{resource} is used by another lock manager of {member} already")]
    #[allow(missing_docs, reason = "the variant says it")]
    InUse { resource: Arc<str>, member: MemberId },

    /// The URL names no engine, or not well.
    #[error("cannot connect to {}: {}", Printable(url), Printable(reason))]
    #[allow(missing_docs, reason = "the variant says it")]
    BadUrl { url: Arc<str>, reason: Arc<str> },

    /// No resource, member, group or registry can have this name.
    #[error("{what} cannot be called {name:?}: {reason}")]
    #[allow(missing_docs, reason = "the variant says it")]
    BadName { what: &'static str, name: Arc<str>, reason: Arc<str> },
}

impl CoordinationError {
    /// Tells whether what was held is lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Broken { .. })
    }

    /// Tells whether the same may succeed later, with nothing changed but time.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Engine { error, .. } if error.kind() == DriverErrorKind::Unavailable)
    }
}
