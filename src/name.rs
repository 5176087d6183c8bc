//! Names of locks, and the natural order in which people read them.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::core::print::Printable;

/// The bytes of a name that lie in place.
const IN_PLACE: usize = 23;

/// A name that is asked for: up to 23 bytes lie in place, more are shared.
///
/// # Examples
/// ```
/// use tierlock::{Name, ToName};
/// let name: Name = "web1".to_name();
/// assert_eq!(name.len(), 4);
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(SmolStr);

impl Deref for Name {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    #[inline]
    fn from(name: &str) -> Self {
        Self(SmolStr::new(name))
    }
}

impl From<&Arc<str>> for Name {
    fn from(name: &Arc<str>) -> Self {
        // Whoever is copied need not be counted.
        if name.len() <= IN_PLACE { Self::from(&**name) } else { Self(Arc::clone(name).into()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

/// The full name of a lock: its set, if it belongs to one, and its own name in there; shown as `node/n1`.
///
/// Ordered naturally, digits as numbers: `node2` before `node10`.
///
/// # Examples
/// ```
/// use tierlock::{LockSet, Membership, Owner, SharedLock};
///
/// assert_eq!(SharedLock::new("config").name().to_string(), "config");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockName {
    set: Option<Arc<str>>,
    name: Arc<str>,
}

impl LockName {
    pub(crate) fn alone(name: Arc<str>) -> Self {
        Self { set: None, name }
    }

    pub(crate) fn within(set: &Arc<str>, name: Arc<str>) -> Self {
        Self { set: Some(Arc::clone(set)), name }
    }

    /// The set that the lock belongs to: the level's name, in a lock manager.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::SharedLock::new("config").name().set(), None);
    /// ```
    #[must_use]
    pub fn set(&self) -> Option<&str> {
        self.set.as_deref()
    }

    /// The name within the set, or the whole name of a lock by itself.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::SharedLock::new("config").name().name(), "config");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn name_arc(&self) -> &Arc<str> {
        &self.name
    }
}

impl fmt::Display for LockName {
    /// Control characters are shown escaped, so that a hostile name cannot forge a line of a log or a table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(set) = &self.set {
            write!(f, "{}/", Printable(set))?;
        }
        write!(f, "{}", Printable(&self.name))
    }
}

impl Ord for LockName {
    fn cmp(&self, other: &Self) -> Ordering {
        let set = |name: &Self| name.set.clone().unwrap_or_default();
        natural(&set(self), &set(other)).then_with(|| natural(&self.name, &other.name))
    }
}

impl PartialOrd for LockName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for LockName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Compares as people do: runs of digits as numbers, the rest by character; equal only if the texts are.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            compare_numbers(take_digits(&mut left), take_digits(&mut right))
        } else {
            left = &left[x.len_utf8()..];
            right = &right[y.len_utf8()..];
            x.cmp(&y)
        };
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

fn take_digits<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits
}

/// Numbers of any length, so never parsed.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_reads_digits_as_numbers() {
        let sorted = [
            "",
            "a",
            "node",
            "node2",
            "node9",
            "node010",
            "node10a",
            "node99999999999999999999",
            "z1",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(natural(a, b), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn names_that_differ_only_in_zeros_are_not_equal() {
        assert_ne!(natural("n01", "n1"), Ordering::Equal);
    }

    #[test]
    fn a_hostile_name_prints_on_one_line() {
        let name = LockName::alone("a\nb\u{1b}[2J".into());
        assert_eq!(name.to_string(), "a\\nb\\u{1b}[2J");
    }
}
