//! An owner, as somebody remembers it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::core::print::Printable;
use crate::name::natural;
use crate::owner::Owner;

/// An owner as a snapshot shows it: its name, and which owner of this name it is. Keeps no owner alive.
///
/// Made of an [`Owner`], or of a name alone, which then stands for every owner of that name.
///
/// # Examples
/// ```
/// use tierlock::{Owner, monitor::Who};
///
/// let (first, second) = (Owner::new("job"), Owner::new("job"));
/// assert!(Who::from(&first).is(&Who::from("job")));
/// assert!(!Who::from(&first).is(&Who::from(&second)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    name: Arc<str>,
    id: Option<u64>,
}

impl Who {
    /// The name of the owner.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::monitor::Who::from("job-19").name(), "job-19");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether the two are one owner, as far as both are known: by identity, or else by name.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Owner, monitor::Who};
    /// assert!(Who::from("job-19").is(&Who::from(&Owner::new("job-19"))));
    /// ```
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self.id, other.id) {
            (Some(own), Some(others)) => own == others,
            _ => self.name == other.name,
        }
    }

    /// As people sort names.
    pub(super) fn natural(&self, other: &Self) -> Ordering {
        natural(&self.name, &other.name).then_with(|| self.id.cmp(&other.id))
    }
}

impl fmt::Display for Who {
    /// Control characters are shown escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(&self.name).fmt(f)
    }
}

impl From<&Owner> for Who {
    fn from(owner: &Owner) -> Self {
        Self { name: Arc::clone(owner.name_arc()), id: Some(owner.id()) }
    }
}

impl From<&Self> for Who {
    fn from(who: &Self) -> Self {
        who.clone()
    }
}

impl From<&str> for Who {
    fn from(name: &str) -> Self {
        Self { name: name.into(), id: None }
    }
}

impl From<String> for Who {
    fn from(name: String) -> Self {
        Self { name: name.into(), id: None }
    }
}

impl From<Arc<str>> for Who {
    fn from(name: Arc<str>) -> Self {
        Self { name, id: None }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Who {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}
