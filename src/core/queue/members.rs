//! Who belongs to a group: most often one alone, who needs no tree.

use std::collections::{BTreeMap, btree_map};
use std::{iter, mem};

use super::Ticket;

/// Requests by arrival.
#[derive(Clone, Debug)]
pub(super) enum Members<W> {
    One(Ticket, W),
    /// None as well, which takes no memory.
    Many(BTreeMap<Ticket, W>),
}

impl<W> Members<W> {
    pub(super) const fn new() -> Self {
        Self::Many(BTreeMap::new())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Many(members) => members.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, ticket: Ticket, waiter: W) {
        *self = match mem::replace(self, Self::new()) {
            Self::Many(members) if members.is_empty() => Self::One(ticket, waiter),
            Self::One(first, its) => Self::Many([(first, its), (ticket, waiter)].into()),
            Self::Many(mut members) => {
                members.insert(ticket, waiter);
                Self::Many(members)
            }
        };
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<W> {
        match self {
            Self::Many(members) => members.remove(&ticket),
            Self::One(own, _) if *own != ticket => None,
            Self::One(..) => mem::replace(self, Self::new()).into_iter().next().map(|(_, w)| w),
        }
    }

    #[cfg(feature = "coordination")]
    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        match self {
            Self::Many(members) => members.get_mut(&ticket),
            Self::One(own, waiter) => (*own == ticket).then_some(waiter),
        }
    }

    /// All of them, the earliest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ticket, &W)> {
        let (one, many) = match self {
            Self::One(ticket, waiter) => (Some((*ticket, waiter)), None),
            Self::Many(members) => (None, Some(members)),
        };
        let many = many.into_iter().flatten().map(|(ticket, waiter)| (*ticket, waiter));
        one.into_iter().chain(many)
    }
}

impl<W> IntoIterator for Members<W> {
    type Item = (Ticket, W);
    type IntoIter = iter::Chain<std::option::IntoIter<(Ticket, W)>, btree_map::IntoIter<Ticket, W>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::One(ticket, waiter) => (Some((ticket, waiter)), BTreeMap::new()),
            Self::Many(members) => (None, members),
        };
        one.into_iter().chain(many)
    }
}

impl<W> FromIterator<(Ticket, W)> for Members<W> {
    fn from_iter<I: IntoIterator<Item = (Ticket, W)>>(members: I) -> Self {
        Self::Many(members.into_iter().collect())
    }
}
