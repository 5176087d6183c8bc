//! A queue as it is written down, and the checks on what comes back.

use std::cmp::Reverse;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::members::Members;
use super::{Conversion, Group, Queue, Rank, Ticket};
use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::core::queue::Priority;

/// Everything a [`Queue`] consists of, in queue order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written<W> {
    arrivals: u64,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    conversions: Vec<WrittenConversion<W>>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    groups: Vec<WrittenGroup<W>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenConversion<W> {
    ticket: u64,
    priority: Priority,
    from: Mode,
    to: Mode,
    waiter: W,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup<W> {
    mode: Mode,
    priority: Priority,
    earliest: u64,
    members: Vec<(u64, W)>,
}

/// Half the numbers there are, so that a number read and believed can still be counted on from.
const ARRIVALS_MAX: u64 = u64::MAX / 2;

/// What is wrong with a queue that was read.
pub(crate) type Flaw = &'static str;

impl<W> Queue<W> {
    /// The queue in writing.
    pub(crate) fn write(&self) -> Written<W>
    where
        W: Clone,
    {
        let mut ranks: Vec<Rank> = self.order.iter().map(|(_, Reverse(rank))| *rank).collect();
        ranks.sort_unstable();
        Written {
            arrivals: self.arrivals,
            conversions: self.conversions.iter().map(WrittenConversion::of).collect(),
            groups: ranks
                .iter()
                .map(|rank| WrittenGroup::of(&self.groups[&rank.group], rank.earliest))
                .collect(),
        }
    }

    /// The queue that was written.
    ///
    /// # Errors
    /// What no queue ever looks like.
    pub(crate) fn read(written: Written<W>) -> Result<Self, Flaw> {
        if written.arrivals > ARRIVALS_MAX {
            return Err("more arrivals than there can have been");
        }
        let mut tickets = HashSet::new();
        let mut ticket = |number: u64| {
            let fresh = (1..=written.arrivals).contains(&number) && tickets.insert(number);
            if fresh { Ok(Ticket(number)) } else { Err("a ticket that was never given, or twice") }
        };
        let mut queue = Self::new(written.arrivals);
        for c in written.conversions {
            if c.from == c.to || !c.to.covers(c.from) {
                return Err("a conversion to a mode that is not stronger");
            }
            if queue.deadlocks_without(None, c.from, c.to) {
                return Err("two conversions that wait for one another");
            }
            queue.place_conversion(Conversion {
                ticket: ticket(c.ticket)?,
                priority: c.priority,
                from: c.from,
                to: c.to,
                waiter: c.waiter,
            });
        }
        for group in written.groups {
            let mut members = Members::new();
            for (number, waiter) in group.members {
                members.insert(ticket(number)?, waiter);
            }
            queue.restore(group.mode, group.priority, Ticket(group.earliest), members)?;
        }
        queue.assert_valid();
        Ok(queue)
    }

    /// Puts a whole group back into its place.
    fn restore(
        &mut self,
        mode: Mode,
        priority: Priority,
        earliest: Ticket,
        members: Members<W>,
    ) -> Result<(), Flaw> {
        let Some((first, _)) = members.iter().next() else { return Err("a group of nobody") };
        let full = if mode.admits(mode) { Held::SHARERS_MAX } else { 1 };
        // Who goes alone stands in no place but its own; a group keeps that of a member that left.
        let stands = if full == 1 { first..=first } else { Ticket(1)..=first };
        if !stands.contains(&earliest) || members.len() as u64 > full {
            return Err("a group that arrived after its members, or has too many");
        }
        if self.open.contains_key(&(mode, priority)) {
            return Err("two groups that should be one");
        }
        let id = self.found(earliest, mode, priority);
        if members.len() as u64 == full {
            self.open.remove(&(mode, priority));
        }
        self.places.extend(members.iter().map(|(ticket, _)| (ticket, id)));
        self.groups.insert(id, Group { mode, priority, members });
        Ok(())
    }
}

impl<W: Clone> WrittenConversion<W> {
    fn of(c: &Conversion<W>) -> Self {
        let Conversion { ticket, priority, from, to, ref waiter } = *c;
        Self { ticket: ticket.0, priority, from, to, waiter: waiter.clone() }
    }
}

impl<W: Clone> WrittenGroup<W> {
    fn of(group: &Group<W>, earliest: Ticket) -> Self {
        let members = group.members.iter().map(|(ticket, waiter)| (ticket.0, waiter.clone()));
        Self {
            mode: group.mode,
            priority: group.priority,
            earliest: earliest.0,
            members: members.collect(),
        }
    }
}
