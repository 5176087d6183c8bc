//! What can go wrong with global locks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::coordination::CoordinationError;
use crate::core::member::MemberId;
use crate::core::print::Printable;

/// Why a global lock was not upgraded, or not used. Whatever the reason, what was granted before still is, unless it says
/// that it is lost.
///
/// # Examples
/// ```
/// use tierlock::coordination::Coordinator;
/// use tierlock::coordination::global::{GlobalLockCoordinator, GlobalLockError, RwLockValue};
///
/// let node = Coordinator::connect("memory:").join("node-1")?;
/// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
/// let error = user.downgrade(RwLockValue::Read).unwrap_err();
/// assert_eq!(error.to_string(), "cannot downgrade config to Read: it is granted NoLock");
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GlobalLockError {
    /// The time was up first: somebody is slow, or dead-locked in a way that nobody can see from here.
    #[error("timed out after {waited:?} waiting for {res} {wanted}{}", Nodes(blockers), res = Printable(resource))]
    TimedOut {
        /// The resource.
        resource: Arc<str>,
        /// The value wanted.
        wanted: Arc<str>,
        /// How long this call waited.
        waited: Duration,
        /// The other nodes that held the resource then, as far as that could be read.
        blockers: Vec<MemberId>,
    },

    /// This node and another would each wait for the other to give up what it keeps. Found out at once. To ask again helps when one
    /// of the two gave up what it keeps, or the other what it asks for; whoever downgrades lets the other go.
    #[error("{res} {wanted} would deadlock: this node keeps {granted}, and so does another that waits likewise", res = Printable(resource))]
    #[allow(missing_docs, reason = "the variant says it")]
    Deadlock { resource: Arc<str>, wanted: Arc<str>, granted: Arc<str> },

    /// A downgrade goes no higher than what is granted.
    #[error("cannot downgrade {res} to {wanted}: it is granted {granted}", res = Printable(resource))]
    #[allow(missing_docs, reason = "the variant says it")]
    NotLower { resource: Arc<str>, wanted: Arc<str>, granted: Arc<str> },

    /// Nothing of the resource is granted to this node, so there is no token of it.
    #[error("{res} is not granted to this node", res = Printable(resource))]
    #[allow(missing_docs, reason = "the variant says it")]
    NotGranted { resource: Arc<str> },

    /// A type whose values, or one of them, cannot be used as lock values.
    #[error("{values} are no lock values: {reason}")]
    #[allow(missing_docs, reason = "the variant says it")]
    BadValues { values: Arc<str>, reason: Arc<str> },

    /// This node uses the resource with lock values of another type already.
    #[error("{res} is used by this node with other lock values than {values}", res = Printable(resource))]
    #[allow(missing_docs, reason = "the variant says it")]
    OtherValues { resource: Arc<str>, values: Arc<str> },

    /// Not done by the coordination below.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
}

impl GlobalLockError {
    /// Tells whether what was granted is lost: the node is none any more, or it was declared failed.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// user.upgrade(RwLockValue::Write, None)?;
    /// node.leave()?;
    /// assert!(user.check().unwrap_err().is_lost());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Coordination(error) if error.is_lost())
    }

    /// Tells whether the same may succeed later, with nothing changed but time. Of a [`Deadlock`](Self::Deadlock) that is not so:
    /// one of the two has to give something up.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:nodes").join("node-1")?;
    /// let other = Coordinator::connect("memory:nodes").join("node-2")?;
    /// let [ours, theirs] = [&node, &other].map(|node| GlobalLockCoordinator::new(node).user("config"));
    /// let (ours, theirs) = (ours?, theirs?);
    /// theirs.upgrade(RwLockValue::Write, None)?;
    /// let error = ours.upgrade(RwLockValue::Read, Some(Duration::from_millis(1))).unwrap_err();
    /// assert!(error.is_transient());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Coordination(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// Nodes as an error shows them: the first few.
struct Nodes<'a>(&'a [MemberId]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        for (at, node) in self.0.iter().take(SHOWN).enumerate() {
            let before = if at == 0 { ", held by" } else { "," };
            write!(f, "{before} {node}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
