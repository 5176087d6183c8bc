//! What is asked of a set: which names, in which mode, and whether all of them are needed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::core::mode::Mode;

/// Whether the names of a set can change, and how.
///
/// # Examples
/// ```
/// use tierlock::{LockSet, Membership};
///
/// let regions = LockSet::new("regions", Membership::Fixed, ["eu", "us"])?;
/// let tenants = LockSet::new("tenants", Membership::OnDemand, [""; 0])?;
/// # Ok::<(), tierlock::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Names are added and removed; asking for one that is not there is [`NotFound`](crate::AcquireError::NotFound).
    Listed,
    /// The names given at the start stay.
    Fixed,
    /// Any name is there when it is asked for, and gone when nobody holds it, waits for it or has a plan with it.
    OnDemand,
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Listed => "listed",
            Self::Fixed => "fixed",
            Self::OnDemand => "there on demand",
        })
    }
}

/// Every name of a set; taking it costs the same whatever their number.
///
/// # Examples
/// ```
/// use tierlock::{ALL, LockSet, Membership, Owner, exclusive};
///
/// let set = LockSet::new("tenants", Membership::Listed, ["a", "b"]).unwrap();
/// let owner = Owner::new("nightly");
/// let guard = set.acquire(&owner, exclusive(ALL)).wait()?;
/// assert_eq!(guard.names().len(), 2);
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct All;

/// Every name of a set: see [`All`].
///
/// # Examples
/// ```
/// let every: tierlock::Names = tierlock::ALL.into();
/// ```
pub const ALL: All = All;

/// Some names of a set, or [`ALL`]. Order and repetition do not matter.
///
/// # Examples
/// ```
/// use tierlock::{ALL, Names};
///
/// let one: Names = "web1".into();
/// let some: Names = ["web1", "web2"].into();
/// let every: Names = ALL.into();
/// ```
#[derive(Clone, Debug)]
pub struct Names(pub(crate) Which);

#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    /// In byte order, once each.
    /// In byte order, each once.
    These(SmallVec<[Arc<str>; 1]>),
}

impl Names {
    fn these<N: Into<Arc<str>>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut names: SmallVec<[Arc<str>; 1]> = names.into_iter().map(Into::into).collect();
        if names.len() > 1 {
            names.sort_unstable();
            names.dedup();
        }
        Self(Which::These(names))
    }
}

impl<N: Into<Arc<str>>> FromIterator<N> for Names {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        Self::these(names)
    }
}

impl From<All> for Names {
    fn from(_: All) -> Self {
        Self(Which::All)
    }
}

impl From<&str> for Names {
    fn from(name: &str) -> Self {
        Self::these([name])
    }
}

impl From<String> for Names {
    fn from(name: String) -> Self {
        Self::these([name])
    }
}

impl From<Arc<str>> for Names {
    fn from(name: Arc<str>) -> Self {
        Self::these([name])
    }
}

impl<N: Into<Arc<str>>> From<Vec<N>> for Names {
    fn from(names: Vec<N>) -> Self {
        Self::these(names)
    }
}

impl<N: Into<Arc<str>>, const COUNT: usize> From<[N; COUNT]> for Names {
    fn from(names: [N; COUNT]) -> Self {
        Self::these(names)
    }
}

impl<N: ToName> From<&[N]> for Names {
    fn from(names: &[N]) -> Self {
        Self::these(names.iter().map(ToName::to_name))
    }
}

impl<N: ToName> From<&Vec<N>> for Names {
    fn from(names: &Vec<N>) -> Self {
        Self::from(&names[..])
    }
}

/// What names are made of where they are not given away: as `&names` of a list of strings of any kind.
///
/// # Examples
/// ```
/// use tierlock::{Names, ToName};
///
/// fn sorted<N: ToName>(names: &[N]) -> Names {
///     names.into()
/// }
/// # let _ = sorted(&["a", "b"]);
/// ```
pub trait ToName {
    /// The name; not copied if it is shared already.
    ///
    /// # Examples
    /// ```
    /// use tierlock::ToName;
    /// assert_eq!(&*"n1".to_owned().to_name(), "n1");
    /// ```
    fn to_name(&self) -> Arc<str>;
}

impl ToName for Arc<str> {
    fn to_name(&self) -> Arc<str> {
        Self::clone(self)
    }
}

impl ToName for &str {
    fn to_name(&self) -> Arc<str> {
        Arc::from(*self)
    }
}

impl ToName for String {
    fn to_name(&self) -> Arc<str> {
        Arc::from(self.as_str())
    }
}

impl ToName for Box<str> {
    fn to_name(&self) -> Arc<str> {
        Arc::from(&**self)
    }
}

impl ToName for Cow<'_, str> {
    fn to_name(&self) -> Arc<str> {
        Arc::from(&**self)
    }
}

/// What is asked of a set: which names, in which mode, and whether all of them are needed.
///
/// # Examples
/// ```
/// use tierlock::{ALL, shared};
///
/// let some_free_ones = shared(ALL).at_least(2);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a request does nothing by itself"]
pub struct SetRequest {
    pub(crate) mode: Mode,
    pub(crate) names: Names,
    /// The least number wanted of an opportunistic request.
    pub(crate) at_least: Option<usize>,
}

/// Asks for names of a set in [`Mode::Shared`].
///
/// # Examples
/// ```
/// let request = tierlock::shared(["a", "b"]);
/// ```
pub fn shared(names: impl Into<Names>) -> SetRequest {
    SetRequest { mode: Mode::Shared, names: names.into(), at_least: None }
}

/// Asks for names of a set in [`Mode::Exclusive`].
///
/// # Examples
/// ```
/// let request = tierlock::exclusive(["a", "b"]);
/// ```
pub fn exclusive(names: impl Into<Names>) -> SetRequest {
    SetRequest { mode: Mode::Exclusive, names: names.into(), at_least: None }
}

impl SetRequest {
    /// Takes what is free and waits for nothing in this set: not even for its set-lock, so nothing is free while another
    /// holds all of it. Names that are not there are passed over.
    ///
    /// # Examples
    /// ```
    /// let request = tierlock::exclusive(["a", "b"]).opportunistic();
    /// ```
    pub fn opportunistic(self) -> Self {
        self.at_least(0)
    }

    /// As [`opportunistic`](Self::opportunistic), but fails with [`NotEnough`](crate::AcquireError::NotEnough), keeping
    /// nothing, if fewer than `count` are free.
    ///
    /// # Examples
    /// ```
    /// let request = tierlock::exclusive(tierlock::ALL).at_least(3);
    /// ```
    pub fn at_least(self, count: usize) -> Self {
        Self { at_least: Some(count), ..self }
    }
}
