//! What is asked of a set: which names, in which mode, and whether all of them are needed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::core::mode::Mode;
use crate::name::Name;

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
    /// In byte order, each once.
    These(SmallVec<[Name; 1]>),
}

impl Names {
    #[inline]
    fn one(name: impl ToName) -> Self {
        Self(Which::These(SmallVec::from_buf([name.to_name()])))
    }

    fn these<N: ToName>(names: impl IntoIterator<Item = N>) -> Self {
        let keyed = |name: N| {
            let name = name.to_name();
            (sort_key(&name), name)
        };
        let mut names: Vec<_> = names.into_iter().map(keyed).collect();
        names.sort_unstable();
        names.dedup();
        Self(Which::These(names.into_iter().map(|(_, name)| name).collect()))
    }
}

/// The first bytes of a name as a number, in the order of the names: comparing two numbers takes no look at what nearly always
/// would come to the same, and sorting is most of what many names cost.
fn sort_key(name: &str) -> u128 {
    let mut first = [0; size_of::<u128>()];
    let length = name.len().min(first.len());
    first[..length].copy_from_slice(&name.as_bytes()[..length]);
    u128::from_be_bytes(first)
}

impl<N: ToName> FromIterator<N> for Names {
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
        Self::one(name)
    }
}

impl From<String> for Names {
    fn from(name: String) -> Self {
        Self::one(name)
    }
}

impl From<&String> for Names {
    fn from(name: &String) -> Self {
        Self::one(name)
    }
}

impl From<Arc<str>> for Names {
    fn from(name: Arc<str>) -> Self {
        Self::one(name)
    }
}

impl<N: ToName> From<Vec<N>> for Names {
    fn from(names: Vec<N>) -> Self {
        Self::these(names)
    }
}

impl<N: ToName, const COUNT: usize> From<[N; COUNT]> for Names {
    fn from(names: [N; COUNT]) -> Self {
        Self::these(names)
    }
}

impl<N: ToName> From<&[N]> for Names {
    fn from(names: &[N]) -> Self {
        Self::these(names)
    }
}

impl<N: ToName> From<&Vec<N>> for Names {
    fn from(names: &Vec<N>) -> Self {
        Self::from(&names[..])
    }
}

/// What names are made of: strings of any kind, and references to them.
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
    /// The name. A short one is copied, and a longer one too, unless it is shared already.
    ///
    /// # Examples
    /// ```
    /// use tierlock::ToName;
    /// assert_eq!(&*"n1".to_owned().to_name(), "n1");
    /// ```
    fn to_name(&self) -> Name;
}

impl ToName for Name {
    fn to_name(&self) -> Name {
        self.clone()
    }
}

impl ToName for Arc<str> {
    fn to_name(&self) -> Name {
        Name::from(self)
    }
}

impl ToName for str {
    #[inline]
    fn to_name(&self) -> Name {
        Name::from(self)
    }
}

impl ToName for String {
    #[inline]
    fn to_name(&self) -> Name {
        Name::from(self.as_str())
    }
}

impl ToName for Box<str> {
    fn to_name(&self) -> Name {
        Name::from(&**self)
    }
}

impl ToName for Cow<'_, str> {
    fn to_name(&self) -> Name {
        Name::from(&**self)
    }
}

impl<N: ToName + ?Sized> ToName for &N {
    #[inline]
    fn to_name(&self) -> Name {
        (**self).to_name()
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Bytes below, at and beyond the length of a sort key, which is filled up with zeros.
        #[test]
        fn names_are_in_byte_order_and_each_once_however_alike_they_begin(
            names in vec("[\0a-bä]{0,4}(0123456789abcdef)?[\0ab]{0,20}", 0..40)
        ) {
            let Names(Which::These(sorted)) = Names::from(&names) else { unreachable!() };
            let mut expected = names;
            expected.sort();
            expected.dedup();
            prop_assert_eq!(sorted.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_name_is_the_same_whatever_kind_of_string_it_was() {
        for text in ["", "web1", "a name of more bytes than lie in place"] {
            let owned = text.to_owned();
            let kinds: [&dyn ToName; 6] = [
                &text,
                &owned,
                &Arc::<str>::from(text),
                &Box::<str>::from(text),
                &Cow::from(text),
                &Name::from(text),
            ];
            assert!(kinds.iter().all(|kind| *kind.to_name() == *text), "{text}");
        }
    }
}
