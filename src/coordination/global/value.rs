//! How much of a global lock: values in a strict order, each of which is a mode.

use std::fmt::Debug;

use crate::core::mode::Mode;
use crate::error::GlobalLockError;

/// How much of a resource a node holds, or asks for: values of which each includes all before it.
///
/// The order has to be strict, since "enough" is `wanted <= granted`. So values are compared by `Ord` alone, and what a node holds
/// with a greater value has to cover what it holds with a smaller one: modes that do not cover one another, such as
/// [`Mode::Shared`] and [`Mode::IntentExclusive`], cannot both be values of one type. Two nodes may hold two values at a time if
/// [`Mode::admits`] says so of their modes. All that is checked when a type is first
/// [used](super::GlobalLockCoordinator::user).
///
/// # Examples
/// Locks of which one holder announces a change while others read on:
/// ```
/// use tierlock::Mode;
/// use tierlock::coordination::Coordinator;
/// use tierlock::coordination::global::{GlobalLockCoordinator, LockValue};
///
/// #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
/// enum Update { Nothing, Read, Announce, Change }
///
/// impl LockValue for Update {
///     const ALL: &'static [Self] = &[Self::Nothing, Self::Read, Self::Announce, Self::Change];
///     fn mode(self) -> Option<Mode> {
///         match self {
///             Self::Nothing => None,
///             Self::Read => Some(Mode::IntentShared),
///             Self::Announce => Some(Mode::SharedIntentExclusive),
///             Self::Change => Some(Mode::Exclusive),
///         }
///     }
///     fn keeps(self) -> bool { self >= Self::Announce }
/// }
///
/// let node = Coordinator::connect("memory:").join("node-1")?;
/// let user = GlobalLockCoordinator::new(&node).user::<Update>("config")?;
/// user.upgrade(Update::Announce, None)?;
/// assert_eq!(user.granted(), Update::Announce);
/// # Ok::<(), tierlock::Error>(())
/// ```
pub trait LockValue: Copy + Ord + Debug + Send + Sync + 'static {
    /// Every value, the least first, which holds nothing.
    const ALL: &'static [Self];

    /// The mode in which a node holds the resource with this value: `None` of the least, and of no other. Two values may have one
    /// mode.
    fn mode(self) -> Option<Mode>;

    /// Whether those who ask for this value keep what was granted to the node meanwhile. If so, they go before nodes that hold
    /// nothing, and two nodes that wait for each other are refused as deadlocked at once. If not, they wait until the node has
    /// given up what it is called back for.
    fn keeps(self) -> bool;

    /// Tells whether two nodes can hold the resource at a time with these two values, as their modes say; symmetric. Not to be
    /// overridden: nobody would heed it.
    ///
    /// # Examples
    /// ```
    /// use tierlock::coordination::global::{LockValue, RwLockValue};
    /// assert!(RwLockValue::Read.admits(RwLockValue::Read));
    /// assert!(!RwLockValue::Read.admits(RwLockValue::Upgrade));
    /// ```
    #[must_use]
    fn admits(self, other: Self) -> bool {
        let (Some(mode), Some(other)) = (self.mode(), other.mode()) else { return true };
        mode.admits(other)
    }

    /// The greatest value with which another node can hold the resource beside one that holds it with this. Not to be overridden:
    /// nobody would heed it.
    ///
    /// # Examples
    /// ```
    /// use tierlock::coordination::global::{LockValue, RwLockValue};
    /// assert_eq!(RwLockValue::Read.beside(), RwLockValue::Read);
    /// assert_eq!(RwLockValue::Upgrade.beside(), RwLockValue::NoLock);
    /// assert_eq!(RwLockValue::NoLock.beside(), RwLockValue::Write);
    /// ```
    #[must_use]
    fn beside(self) -> Self {
        greatest_within(Mode::beside(self.mode()))
    }
}

/// Whether a node reads a resource or writes it.
///
/// | | `Read` | `Upgrade` | `Write` |
/// |---|---|---|---|
/// | `Read` | yes | | |
/// | `Upgrade` | | | |
/// | `Write` | | | |
///
/// # Examples
/// ```
/// use tierlock::coordination::global::RwLockValue;
/// assert!(RwLockValue::NoLock < RwLockValue::Read && RwLockValue::Upgrade < RwLockValue::Write);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RwLockValue {
    /// Holds nothing.
    #[default]
    NoLock,
    /// Reads, together with other nodes.
    Read,
    /// Writes, and goes on reading until then: what a reader asks for that becomes a writer. It fits nothing but `NoLock`, and is
    /// told from `Write` so that two such readers are found out to wait for each other.
    Upgrade,
    /// Writes, and needs none of what the node holds until then.
    Write,
}

impl LockValue for RwLockValue {
    const ALL: &'static [Self] = &[Self::NoLock, Self::Read, Self::Upgrade, Self::Write];

    fn mode(self) -> Option<Mode> {
        match self {
            Self::NoLock => None,
            Self::Read => Some(Mode::Shared),
            Self::Upgrade | Self::Write => Some(Mode::Exclusive),
        }
    }

    fn keeps(self) -> bool {
        self == Self::Upgrade
    }
}

/// Fails unless order and modes of all values agree.
pub(super) fn check_all<V: LockValue>() -> Result<(), GlobalLockError> {
    let Some((least, greater)) = V::ALL.split_first() else {
        return Err(bad::<V>("there are none".to_owned()));
    };
    if let Some(mode) = least.mode() {
        return Err(bad::<V>(format!("{least:?} is the least, and holds {mode}")));
    }
    let mut last = least;
    for value in greater {
        let Some(mode) = value.mode() else {
            return Err(bad::<V>(format!("{value:?} is not the least, and holds nothing")));
        };
        if value <= last {
            return Err(bad::<V>(format!("{value:?} comes after {last:?}, and is not greater")));
        }
        if let Some(smaller) = last.mode().filter(|smaller| !mode.covers(*smaller)) {
            let (greater, least) = (format!("{value:?} ({mode})"), format!("{last:?} ({smaller})"));
            return Err(bad::<V>(format!("{greater} does not cover {least}, which is smaller")));
        }
        last = value;
    }
    Ok(())
}

/// Fails unless this is one of the values.
pub(super) fn check_one<V: LockValue>(value: V) -> Result<(), GlobalLockError> {
    if V::ALL.contains(&value) {
        return Ok(());
    }
    Err(bad::<V>(format!("{value:?} is not among all of them")))
}

fn bad<V>(reason: String) -> GlobalLockError {
    GlobalLockError::BadValues { values: std::any::type_name::<V>().into(), reason: reason.into() }
}

/// Nothing of it.
pub(super) fn least<V: LockValue>() -> V {
    V::ALL[0]
}

/// The greatest value that a node can hold if it may hold this mode.
pub(super) fn greatest_within<V: LockValue>(mode: Option<Mode>) -> V {
    let within = |value: &V| match (value.mode(), mode) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(value), Some(mode)) => mode.covers(value),
    };
    V::ALL.iter().copied().rfind(within).unwrap_or_else(least)
}
