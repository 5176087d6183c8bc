//! Sets of ids, as ranges: a million consecutive ids are two numbers.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use serde::{Deserialize, Serialize};

/// A set of ids, in ascending order.
///
/// It is made of a range, of one id, or of whatever yields ids; it costs memory by ranges, not by ids.
///
/// # Examples
/// ```
/// use tierlock::coordination::ledger::Ids;
///
/// let ids = Ids::from([7, 1, 2, 3]);
/// assert_eq!(ids.to_string(), "1-3, 7");
/// assert_eq!(ids.len(), 4);
/// assert!(ids.contains(2) && !ids.contains(4));
/// assert_eq!(Ids::from(0..1_000_000).ranges().count(), 1);
/// ```
// Invariant: first <= last of each range, and between two of them lies an id that is in neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>")]
pub struct Ids(Vec<(u64, u64)>);

impl Ids {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether the id is one of them.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < id);
        self.0.get(at).is_some_and(|(first, _)| *first <= id)
    }

    /// Each of them, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges().flatten()
    }

    /// The ranges that they form, as few as can be, in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.0.iter().map(|(first, last)| *first..=*last)
    }

    /// The greatest of them.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// Those of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::of([self.0.as_slice(), other.0.as_slice()].concat())
    }

    /// Those of this one that are not of the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let (mut rest, mut at) = (Vec::new(), 0);
        for &(first, last) in &self.0 {
            at += other.0[at..].partition_point(|(_, last)| *last < first);
            cut((first, last), &other.0[at..], &mut rest);
        }
        Self(rest)
    }

    /// Those of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }

    /// Ranges in any order, whatever they share.
    fn of(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.sort_unstable();
        let mut ids = Self(Vec::with_capacity(ranges.len()));
        for range in ranges {
            ids.append(range);
        }
        ids
    }

    /// Adds a range that begins no earlier than the last one.
    fn append(&mut self, (first, last): (u64, u64)) {
        match self.0.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => self.0.push((first, last)),
        }
    }
}

/// What the holes, of which none ends before the range begins, leave of it.
fn cut((mut first, last): (u64, u64), holes: &[(u64, u64)], rest: &mut Vec<(u64, u64)>) {
    for &(from, to) in holes.iter().take_while(|(from, _)| *from <= last) {
        if first < from {
            rest.push((first, from - 1));
        }
        if last <= to {
            return;
        }
        first = to + 1;
    }
    rest.push((first, last));
}

impl TryFrom<Vec<(u64, u64)>> for Ids {
    type Error = &'static str;

    fn try_from(ranges: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let upright = ranges.iter().all(|(first, last)| first <= last);
        let apart = ranges.windows(2).all(|pair| pair[0].1 < u64::MAX && pair[0].1 + 1 < pair[1].0);
        if upright && apart { Ok(Self(ranges)) } else { Err("ids that are not in order") }
    }
}

impl FromIterator<u64> for Ids {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for id in ids {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
                _ => ranges.push((id, id)),
            }
        }
        Self::of(ranges)
    }
}

impl From<u64> for Ids {
    fn from(id: u64) -> Self {
        Self(vec![(id, id)])
    }
}

impl From<Range<u64>> for Ids {
    fn from(ids: Range<u64>) -> Self {
        if ids.is_empty() { Self::default() } else { Self(vec![(ids.start, ids.end - 1)]) }
    }
}

impl<const N: usize> From<[u64; N]> for Ids {
    fn from(ids: [u64; N]) -> Self {
        ids.into_iter().collect()
    }
}

impl From<Vec<u64>> for Ids {
    fn from(ids: Vec<u64>) -> Self {
        ids.into_iter().collect()
    }
}

impl From<&Self> for Ids {
    fn from(ids: &Self) -> Self {
        ids.clone()
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        for (at, (first, last)) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 if self.is_empty() => f.write_str("none"),
            0 => Ok(()),
            more => write!(f, " and {more} more ranges"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ids(set: &BTreeSet<u64>) -> Ids {
        set.iter().rev().copied().collect()
    }

    fn agree(a: &BTreeSet<u64>, b: &BTreeSet<u64>) {
        let (x, y) = (ids(a), ids(b));
        assert!(x.iter().eq(a.iter().copied()));
        assert_eq!(x.len(), a.len() as u64);
        assert_eq!(x.last(), a.last().copied());
        assert_eq!(x.union(&y), ids(&(a | b)));
        assert_eq!(x.difference(&y), ids(&(a - b)));
        assert_eq!(x.intersection(&y), ids(&(a & b)));
        assert!((0..300).chain([u64::MAX]).all(|id| x.contains(id) == a.contains(&id)));
        assert_eq!(Ids::try_from(x.0.clone()), Ok(x));
    }

    #[test]
    fn every_two_sets_of_seven_ids_are_as_their_elements_say() {
        let set = |bits: u64| (0..7).filter(|id| bits >> id & 1 == 1).collect();
        for (a, b) in (0..128).flat_map(|a| (0..128).map(move |b| (a, b))) {
            agree(&set(a), &set(b));
        }
    }

    #[test]
    fn the_last_of_all_numbers_is_an_id_like_another() {
        let end: BTreeSet<u64> = [u64::MAX - 1, u64::MAX].into();
        agree(&end, &[u64::MAX].into());
        agree(&[u64::MAX].into(), &end);
        agree(&[0, u64::MAX].into(), &[0].into());
    }

    #[test]
    fn ranges_out_of_order_are_no_set() {
        for ranges in
            [vec![(2, 1)], vec![(1, 2), (3, 4)], vec![(5, 6), (1, 2)], vec![(0, u64::MAX), (1, 1)]]
        {
            assert!(Ids::try_from(ranges.clone()).is_err(), "{ranges:?}");
        }
    }

    #[test]
    fn as_many_ranges_as_one_can_read_are_shown() {
        assert_eq!(Ids::default().to_string(), "none");
        assert_eq!(Ids::from([3, 1, 2, 9]).to_string(), "1-3, 9");
        let odd: Ids = (0..20).map(|id| 2 * id).collect();
        assert!(odd.to_string().ends_with(", 30 and 4 more ranges"), "{odd}");
    }

    proptest! {
        #[test]
        fn any_two_sets_are_as_their_elements_say(
            a in proptest::collection::btree_set(0..300u64, 0..200),
            b in proptest::collection::btree_set(0..300u64, 0..200),
        ) {
            agree(&a, &b);
        }
    }
}
