//! Waiting requests of one lock, most urgent first.
//!
//! Decides who goes next; that somebody went is the caller's to record: [`next`](Queue::next) proposes, given what is held,
//! and [`take`](Queue::take) carries out. Knows no owners: a waiter is whatever the caller put in.

mod members;
#[cfg(feature = "coordination")]
pub(crate) mod written;

use std::cmp::Reverse;
use std::collections::HashMap;

use priority_queue::PriorityQueue;

use self::members::Members;
use super::held::Held;
use super::mode::Mode;

/// How urgent a request is: lower goes first, 0 unless said otherwise.
///
/// # Examples
/// ```
/// let urgent: tierlock::Priority = -10;
/// assert!(urgent < 0);
/// ```
pub type Priority = i32;

/// One request's place in the order of arrival at its lock; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// The ticket of no request: arrivals count from 1.
    pub(crate) const NOBODY: Self = Self(0);
}

/// Two owners who each wait for the other to give up a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadlock;

/// Who may go next, and what the lock's word becomes then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    who: Who,
    /// The mode that is given up for it, for a conversion, and the one that is had then.
    pub(crate) change: (Option<Mode>, Mode),
    pub(crate) after: Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Conversion(usize),
    Group(GroupId),
}

type GroupId = u64;

impl Pick {
    /// The mode in which they go who were picked.
    #[cfg(feature = "coordination")]
    pub(crate) fn mode<W>(self, queue: &Queue<W>) -> Mode {
        match self.who {
            Who::Conversion(at) => queue.conversions[at].to,
            Who::Group(id) => queue.groups[&id].mode,
        }
    }
}

/// Place of a group in the queue: priority, then the earliest arrival of all that ever joined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Priority,
    earliest: Ticket,
    group: GroupId,
}

/// Requests granted together: one, or any number in a mode that admits itself.
#[derive(Debug)]
struct Group<W> {
    mode: Mode,
    priority: Priority,
    members: Members<W>,
}

/// A holder that wants a stronger mode.
#[derive(Debug)]
struct Conversion<W> {
    ticket: Ticket,
    priority: Priority,
    from: Mode,
    to: Mode,
    waiter: W,
}

/// One entry of a queue, for those who want to look.
#[derive(Debug)]
pub(crate) struct Waiting<'q, W> {
    pub(crate) mode: Mode,
    pub(crate) priority: Priority,
    /// The mode held already, for a conversion.
    pub(crate) from: Option<Mode>,
    pub(crate) waiters: Vec<&'q W>,
}

/// The pending requests of one lock.
///
/// Invariants:
/// 1. `order`, `groups` and `places` speak of the same groups; no group is empty.
/// 2. For each mode that admits itself and each priority at most one group is open to newcomers.
/// 3. Conversions stand before every group, the more urgent and then the earlier first.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    conversions: Vec<Conversion<W>>,
    order: PriorityQueue<GroupId, Reverse<Rank>>,
    groups: HashMap<GroupId, Group<W>>,
    open: HashMap<(Mode, Priority), GroupId>,
    places: HashMap<Ticket, GroupId>,
    arrivals: u64,
    founded: GroupId,
}

impl<W> Queue<W> {
    /// An empty queue of a lock for which so many requests have queued before.
    pub(crate) fn new(arrivals: u64) -> Self {
        Self {
            conversions: Vec::new(),
            order: PriorityQueue::new(),
            groups: HashMap::new(),
            open: HashMap::new(),
            places: HashMap::new(),
            arrivals,
            founded: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.conversions.is_empty() && self.order.is_empty()
    }

    /// Requests that ever queued.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Pending requests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn len(&self) -> usize {
        self.conversions.len() + self.places.len()
    }

    /// Tells whether a request of this priority is more urgent than everything pending.
    pub(crate) fn yields_to(&self, priority: Priority) -> bool {
        self.conversions.is_empty() && self.front().is_none_or(|front| priority < front.priority)
    }

    /// Adds a request; it goes when [`next`](Self::next) says so.
    pub(crate) fn push(&mut self, mode: Mode, priority: Priority, waiter: W) -> Ticket {
        let ticket = self.arrive();
        self.place(ticket, mode, priority, waiter);
        self.assert_valid();
        ticket
    }

    /// Adds a holder's request for a stronger mode, before everything but earlier and more urgent conversions.
    ///
    /// # Errors
    /// [`Deadlock`] if this one and another pending conversion would each wait for the other. Looking at pairs suffices: in a
    /// longer circle somebody wants `Exclusive`, who stands in a pair with everybody, or all hold one mode and want
    /// `SharedIntentExclusive`.
    pub(crate) fn push_conversion(
        &mut self,
        from: Mode,
        to: Mode,
        priority: Priority,
        waiter: W,
    ) -> Result<Ticket, Deadlock> {
        if self.conversions.iter().any(|c| c.deadlocks(from, to)) {
            return Err(Deadlock);
        }
        let ticket = self.arrive();
        self.place_conversion(Conversion { ticket, priority, from, to, waiter });
        Ok(ticket)
    }

    /// Withdraws a request, or returns `None` if it has left the queue already.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        if let Some(at) = self.conversions.iter().position(|c| c.ticket == ticket) {
            return Some(self.conversions.remove(at).waiter);
        }
        let (_, _, waiter) = self.unplace(ticket)?;
        self.assert_valid();
        Some(waiter)
    }

    /// Gives a request another priority, or returns false if it has left the queue already.
    ///
    /// Among its new equals it stands where its arrival puts it.
    pub(crate) fn set_priority(&mut self, ticket: Ticket, priority: Priority) -> bool {
        if let Some(at) = self.conversions.iter().position(|c| c.ticket == ticket) {
            let conversion = self.conversions.remove(at);
            self.place_conversion(Conversion { priority, ..conversion });
            return true;
        }
        if self.places.get(&ticket).is_some_and(|group| self.groups[group].priority == priority) {
            return true;
        }
        let Some((mode, _, waiter)) = self.unplace(ticket) else { return false };
        self.place(ticket, mode, priority, waiter);
        self.assert_valid();
        true
    }

    /// Puts another waiter in the place of a request that waits.
    #[cfg(feature = "coordination")]
    pub(crate) fn replace(&mut self, ticket: Ticket, waiter: W) {
        let mut converting = self.conversions.iter_mut();
        if let Some(conversion) = converting.find(|c| c.ticket == ticket) {
            conversion.waiter = waiter;
        } else if let Some(id) = self.places.get(&ticket)
            && let Some(place) = self.groups.get_mut(id).and_then(|g| g.members.get_mut(ticket))
        {
            *place = waiter;
        }
    }

    /// Proposes who goes next, or returns `None` if the front has to wait.
    ///
    /// While a conversion is pending nobody else goes, since its owner stands in their way.
    pub(crate) fn next(&self, held: Held) -> Option<Pick> {
        for (at, c) in self.conversions.iter().enumerate() {
            let others = held.without(c.from);
            if others.admits(c.to, 1) {
                let after = others.with(c.to, 1);
                let change = (Some(c.from), c.to);
                return Some(Pick { who: Who::Conversion(at), change, after });
            }
        }
        if !self.conversions.is_empty() {
            return None;
        }
        self.pick(self.front()?.group, held)
    }

    /// Proposes the shared group of the front priority, even if it does not stand in front: what goes along with a downgrade.
    pub(crate) fn next_shared(&self, held: Held) -> Option<Pick> {
        if !self.conversions.is_empty() {
            return None;
        }
        let priority = self.front()?.priority;
        self.pick(*self.open.get(&(Mode::Shared, priority))?, held)
    }

    /// Takes out whom `next` proposed. The queue must not have changed since.
    pub(crate) fn take(&mut self, pick: Pick) -> Vec<(Ticket, W)> {
        let taken = match pick.who {
            Who::Conversion(at) => {
                let conversion = self.conversions.remove(at);
                vec![(conversion.ticket, conversion.waiter)]
            }
            Who::Group(id) => {
                let group = self.dissolve(id);
                for (ticket, _) in group.members.iter() {
                    self.places.remove(&ticket);
                }
                group.members.into_iter().collect()
            }
        };
        self.assert_valid();
        taken
    }

    /// Takes out everybody, in queue order.
    pub(crate) fn drain(&mut self) -> Vec<(Ticket, W)> {
        let mut all: Vec<_> = self.conversions.drain(..).map(|c| (c.ticket, c.waiter)).collect();
        while let Some(front) = self.front() {
            let group = self.dissolve(front.group);
            all.extend(group.members);
        }
        self.places.clear();
        all
    }

    /// Requests that go before this one, or `None` if it has left the queue. Looks at every group.
    pub(crate) fn position(&self, ticket: Ticket) -> Option<usize> {
        if let Some(at) = self.conversions.iter().position(|c| c.ticket == ticket) {
            return Some(at);
        }
        let id = self.places.get(&ticket)?;
        let (_, Reverse(own)) = self.order.get(id)?;
        let before = self.order.iter().filter(|(_, Reverse(rank))| rank < own);
        Some(
            self.conversions.len()
                + before.map(|(id, _)| self.groups[id].members.len()).sum::<usize>(),
        )
    }

    /// The request of the first waiter that is so, in no particular order. Looks at everybody.
    #[cfg(feature = "coordination")]
    pub(crate) fn find(&self, is: impl Fn(&W) -> bool) -> Option<Ticket> {
        let converting = self.conversions.iter().map(|c| (c.ticket, &c.waiter));
        let members = self.groups.values().flat_map(|group| group.members.iter());
        let mut all = converting.chain(members);
        all.find(|(_, waiter)| is(waiter)).map(|(ticket, _)| ticket)
    }

    /// Tells whether [`push_conversion`](Self::push_conversion) between these modes would be refused if this request were not
    /// pending any more.
    #[cfg(feature = "coordination")]
    pub(crate) fn deadlocks_without(&self, gone: Option<Ticket>, from: Mode, to: Mode) -> bool {
        let mut staying = self.conversions.iter().filter(|c| Some(c.ticket) != gone);
        staying.any(|c| c.deadlocks(from, to))
    }

    /// What goes first.
    pub(crate) fn first(&self) -> Option<Waiting<'_, W>> {
        let group = self.front().map(|rank| &self.groups[&rank.group]);
        self.conversions.first().map(Conversion::look).or_else(|| group.map(Group::look))
    }

    /// Everything pending, in queue order.
    pub(crate) fn waiting(&self) -> Vec<Waiting<'_, W>> {
        let mut ranks: Vec<Rank> = self.order.iter().map(|(_, Reverse(rank))| *rank).collect();
        ranks.sort_unstable();
        let groups = ranks.iter().map(|rank| self.groups[&rank.group].look());
        self.conversions.iter().map(Conversion::look).chain(groups).collect()
    }

    fn arrive(&mut self) -> Ticket {
        self.arrivals += 1;
        Ticket(self.arrivals)
    }

    fn front(&self) -> Option<Rank> {
        self.order.peek().map(|(_, Reverse(rank))| *rank)
    }

    fn pick(&self, id: GroupId, held: Held) -> Option<Pick> {
        let group = &self.groups[&id];
        let count = group.members.len() as u64;
        held.admits(group.mode, count).then(|| Pick {
            who: Who::Group(id),
            change: (None, group.mode),
            after: held.with(group.mode, count),
        })
    }

    /// Puts a request into the open group of its kind, or into a new one.
    fn place(&mut self, ticket: Ticket, mode: Mode, priority: Priority, waiter: W) {
        let id = match self.open.get(&(mode, priority)) {
            Some(&id) => id,
            None => self.found(ticket, mode, priority),
        };
        // One that changed its priority may have come before the group that it joins.
        self.order
            .change_priority_by(&id, |Reverse(rank)| rank.earliest = rank.earliest.min(ticket));
        let group = self.groups.get_mut(&id).expect("an open group exists");
        group.members.insert(ticket, waiter);
        if group.members.len() as u64 == Held::SHARERS_MAX {
            // A larger group could never be granted whole.
            self.open.remove(&(mode, priority));
        }
        self.places.insert(ticket, id);
    }

    fn found(&mut self, earliest: Ticket, mode: Mode, priority: Priority) -> GroupId {
        self.founded += 1;
        let id = self.founded;
        self.order.push(id, Reverse(Rank { priority, earliest, group: id }));
        self.groups.insert(id, Group { mode, priority, members: Members::new() });
        if mode.admits(mode) {
            self.open.insert((mode, priority), id);
        }
        id
    }

    fn unplace(&mut self, ticket: Ticket) -> Option<(Mode, Priority, W)> {
        let id = self.places.remove(&ticket)?;
        let group = self.groups.get_mut(&id).expect("a place lies in a group");
        let waiter = group.members.remove(ticket).expect("a place is taken");
        let (mode, priority) = (group.mode, group.priority);
        if group.members.is_empty() {
            self.dissolve(id);
        }
        Some((mode, priority, waiter))
    }

    fn dissolve(&mut self, id: GroupId) -> Group<W> {
        self.order.remove(&id);
        let group = self.groups.remove(&id).expect("a group is dissolved once");
        let kind = (group.mode, group.priority);
        if self.open.get(&kind) == Some(&id) {
            self.open.remove(&kind);
        }
        group
    }

    fn place_conversion(&mut self, new: Conversion<W>) {
        let at = self
            .conversions
            .partition_point(|c| (c.priority, c.ticket) < (new.priority, new.ticket));
        self.conversions.insert(at, new);
    }

    fn assert_valid(&self) {
        debug_assert_eq!(self.order.len(), self.groups.len());
        debug_assert!(self.open.values().all(|id| self.groups.contains_key(id)));
        // Counting everything at each step would make a long queue quadratic.
        debug_assert!(
            self.groups.len() > 64 || {
                let members: usize = self.groups.values().map(|group| group.members.len()).sum();
                members == self.places.len()
            }
        );
    }
}

impl<W> Group<W> {
    fn look(&self) -> Waiting<'_, W> {
        let waiters = self.members.iter().map(|(_, waiter)| waiter).collect();
        Waiting { mode: self.mode, priority: self.priority, from: None, waiters }
    }
}

impl<W> Conversion<W> {
    /// Tells whether this one and a conversion between these modes would each wait for the other.
    fn deadlocks(&self, from: Mode, to: Mode) -> bool {
        !to.admits(self.from) && !self.to.admits(from)
    }

    fn look(&self) -> Waiting<'_, W> {
        let waiters = vec![&self.waiter];
        Waiting { mode: self.to, priority: self.priority, from: Some(self.from), waiters }
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
