//! Names in natural order, fast enough for a hundred thousand of them.
//!
//! Comparing names as people do takes long. So each name has a key that sorts as the name does, of which a piece is compared at a
//! time, what all names begin with left out; only names that their keys do not tell apart are compared themselves.

use std::collections::HashMap;

use super::collect::Subject;
use crate::name::natural;
use crate::set::LOCKSET;

/// A subject as it is sorted: a piece of its key in front, its place behind, in one word.
type Entry = u128;
/// Bits of an entry that say the place.
const PLACE_BITS: u32 = u32::BITS;
/// Bytes of a key that are compared at a time.
const PIECE: usize = size_of::<Entry>() - size_of::<u32>();
/// Of names that agree in so many pieces, few are in one program.
const PIECES_MAX: usize = 4;

/// The places of the subjects by set, then by name, then as they stand; the order of [`LockName`](crate::LockName).
pub(super) fn of(subjects: &[Subject]) -> impl ExactSizeIterator<Item = usize> + use<> {
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name().name()).collect();
    let mut order = Vec::with_capacity(subjects.len());
    for (_, mut entries) in by_set(subjects) {
        Names { names: &names, skip: 0 }.sort_set(&mut entries);
        order.append(&mut entries);
    }
    order.into_iter().map(place)
}

/// The places of what belongs to each set, the sets in natural order; what belongs to none comes first.
fn by_set(subjects: &[Subject]) -> Vec<(&str, Vec<Entry>)> {
    let mut sets: HashMap<&str, Vec<Entry>> = HashMap::new();
    let mut first = 0;
    for run in subjects.chunk_by(|a, b| set(a) == set(b)) {
        let places = first..first + run.len();
        sets.entry(set(&run[0])).or_default().extend(places.map(|at| at as Entry));
        first += run.len();
    }
    let mut sets: Vec<_> = sets.into_iter().collect();
    sets.sort_by(|(a, _), (b, _)| natural(a, b));
    sets
}

fn set(subject: &Subject) -> &str {
    subject.name().set().unwrap_or_default()
}

fn place(entry: Entry) -> usize {
    entry as u32 as usize
}

/// The names of all subjects, by place, and how much of them those being sorted have in common.
struct Names<'n> {
    names: &'n [&'n str],
    skip: usize,
}

impl<'n> Names<'n> {
    fn of(&self, entry: Entry) -> &'n str {
        self.names[place(entry)]
    }

    /// Sorts what belongs to one set. Set-locks have nothing in common with the rest, and so are put in afterwards.
    fn sort_set(mut self, entries: &mut Vec<Entry>) {
        let tops: Vec<_> = entries.extract_if(.., |entry| self.of(*entry) == LOCKSET).collect();
        self.skip = common(entries.iter().map(|entry| self.of(*entry)));
        self.sort(entries, 0);
        let at = entries.partition_point(|entry| natural(self.of(*entry), LOCKSET).is_lt());
        entries.splice(at..at, tops);
    }

    /// Sorts what agrees in all pieces before this one.
    fn sort(&self, entries: &mut [Entry], piece: usize) {
        if piece == PIECES_MAX {
            entries.sort_by(|a, b| natural(self.of(*a), self.of(*b)));
            return;
        }
        for entry in &mut *entries {
            let rest = &self.of(*entry).as_bytes()[self.skip..];
            *entry = key(rest, piece) << PLACE_BITS | place(*entry) as Entry;
        }
        entries.sort_unstable();
        for equal in entries.chunk_by_mut(|a, b| a >> PLACE_BITS == b >> PLACE_BITS) {
            if equal.len() > 1 {
                self.sort(equal, piece + 1);
            }
        }
    }
}

/// How many bytes all names begin with in common, without the digits of a number that may go on.
fn common<'n>(mut names: impl Iterator<Item = &'n str>) -> usize {
    let mut common = names.next().unwrap_or_default().as_bytes();
    for name in names {
        if !name.as_bytes().starts_with(common) {
            let same = |(a, b): &(u8, &u8)| a == *b;
            let length = name.bytes().zip(common).take_while(same).count();
            common = &common[..length];
        }
    }
    common.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1)
}

/// One piece of what sorts as the name does: where the pieces of two names differ, the names differ likewise.
fn key(name: &[u8], piece: usize) -> Entry {
    let mut pieces = [[0; PIECE]; PIECES_MAX];
    encode(name, pieces[..=piece].as_flattened_mut());
    pieces[piece].iter().fold(0, |key, byte| key << 8 | Entry::from(*byte))
}

/// Writes as much of the key as there is room for: each number as a digit, its length and its digits, the rest as it is.
fn encode(name: &[u8], room: &mut [u8]) {
    let (mut rest, mut room) = (name, room.iter_mut());
    while room.len() > 0 {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            let Some((byte, after)) = rest.split_first() else { return };
            rest = after;
            write(&mut room, [*byte]);
        } else {
            rest = after;
            let zeros = number.iter().take_while(|digit| **digit == b'0').count();
            let number = &number[zeros..];
            // A longer number is a greater one; its length takes as many bytes as it needs, none of which ends it early.
            let length = std::iter::repeat_n(u8::MAX, number.len() / 255);
            write(&mut room, [b'0']);
            write(&mut room, length.chain([(number.len() % 255) as u8]));
            write(&mut room, number.iter().copied());
        }
    }
}

fn write<'r>(room: &mut impl Iterator<Item = &'r mut u8>, bytes: impl IntoIterator<Item = u8>) {
    for (byte, place) in bytes.into_iter().zip(room) {
        *place = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Row;

    fn named(name: &str) -> Subject {
        Subject::Row(Box::new(Row::new(name)))
    }

    fn sorted(names: &[String]) -> Vec<String> {
        let subjects: Vec<_> = names.iter().map(|name| named(name)).collect();
        of(&subjects).map(|at| names[at].clone()).collect()
    }

    /// Every name of at most four of these parts.
    fn names(parts: &[&str]) -> Vec<String> {
        let mut names = vec![String::new()];
        for _ in 0..4 {
            let longer =
                names.iter().flat_map(|name| parts.iter().map(move |p| format!("{name}{p}")));
            let longer: Vec<_> = longer.collect();
            names.extend(longer);
        }
        names.sort_unstable();
        names.dedup();
        names.reverse();
        names
    }

    #[track_caller]
    fn assert_natural(names: Vec<String>) {
        let mut expected = names.clone();
        expected.sort_by(|a, b| natural(a, b));
        assert_eq!(sorted(&names), expected);
    }

    #[test]
    fn keys_sort_as_names_do() {
        assert_natural(names(&["0", "9", "10", "/", ":", "a", "\0", "\u{e9}"]));
    }

    #[test]
    fn names_are_told_apart_wherever_they_differ() {
        for common in [15, 16, 17, 40, 63, 64, 65, 300] {
            let common = "x".repeat(common);
            assert_natural(["10", "9", "09", "", "a"].map(|end| format!("{common}{end}")).into());
        }
    }

    #[test]
    fn numbers_of_any_length_are_compared_by_value() {
        let number = |digits: usize| format!("n{}", "7".repeat(digits));
        assert_natural([600, 511, 510, 509, 256, 255, 254, 100, 1].map(number).into());
    }

    #[test]
    fn what_has_one_name_stays_as_it_stands() {
        let subjects: Vec<_> = ["b", "config", "a"].repeat(20).into_iter().map(named).collect();
        assert!(of(&subjects).skip(40).eq((1..60).step_by(3)));
    }

    #[test]
    fn a_set_lock_stands_where_its_name_belongs() {
        assert_natural(["node2", LOCKSET, "node10", LOCKSET].map(str::to_owned).into());
        assert_natural(["[lockset]2", LOCKSET, "[lockset]10"].map(str::to_owned).into());
        assert_natural(["A2", LOCKSET, "A10"].map(str::to_owned).into());
    }
}
