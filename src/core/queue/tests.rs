//! What a queue looks like inside, for tests that compare it with a model.
#![cfg_attr(fuzzing, allow(unused_imports, reason = "a fuzzer runs no tests"))]

use super::{Conversion, Group, Held, Mode, Priority, Queue, Ticket};

/// A pending request and its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending<W> {
    pub(crate) waiter: W,
    /// The mode held already, for a conversion.
    pub(crate) from: Option<Mode>,
    pub(crate) mode: Mode,
    pub(crate) priority: Priority,
    /// The arrival that its group stands for; its own, if it goes alone.
    pub(crate) place: u64,
    pub(crate) arrival: u64,
}

impl<W: Clone> Queue<W> {
    /// Everything pending, in queue order, after a look at what only later steps would show.
    pub(crate) fn anatomy(&self) -> Vec<Pending<W>> {
        let mut ranks: Vec<_> = self.order.iter().map(|(_, rank)| rank.0).collect();
        ranks.sort_unstable();
        let conversions = self.conversions.iter().map(|c| Pending {
            waiter: c.waiter.clone(),
            from: Some(c.from),
            mode: c.to,
            priority: c.priority,
            place: c.ticket.0,
            arrival: c.ticket.0,
        });
        let groups = ranks.iter().flat_map(|rank| {
            let group = &self.groups[&rank.group];
            assert_eq!(rank.priority, group.priority);
            let open = self.open.get(&(group.mode, group.priority)) == Some(&rank.group);
            assert_eq!(open, group.mode.admits(group.mode), "who can be joined is joined");
            group.members.iter().map(|(ticket, waiter)| Pending {
                waiter: waiter.clone(),
                from: None,
                mode: group.mode,
                priority: group.priority,
                place: rank.earliest.0,
                arrival: ticket.0,
            })
        });
        let all: Vec<_> = conversions.chain(groups).collect();
        assert_eq!(all.len(), self.len());
        all
    }
}

impl<W: Clone> Clone for Queue<W> {
    fn clone(&self) -> Self {
        let conversions =
            self.conversions.iter().map(|c| Conversion { waiter: c.waiter.clone(), ..*c });
        let group =
            |g: &Group<W>| Group { mode: g.mode, priority: g.priority, members: g.members.clone() };
        Self {
            conversions: conversions.collect(),
            order: self.order.clone(),
            groups: self.groups.iter().map(|(id, g)| (*id, group(g))).collect(),
            open: self.open.clone(),
            places: self.places.clone(),
            ..*self
        }
    }
}

#[test]
fn a_group_that_could_never_be_granted_whole_is_not_formed() {
    const MAX: u64 = Held::SHARERS_MAX;
    let mut queue = Queue::new(MAX - 1);
    // As if all but one had come: pushing each takes its time.
    let group = queue.found(Ticket(1), Mode::Shared, 0);
    let members = (1..MAX).map(|arrival| (Ticket(arrival), ())).collect();
    queue.groups.get_mut(&group).expect("it was founded").members = members;
    queue.places = (1..MAX).map(|arrival| (Ticket(arrival), group)).collect();
    let [last, excess] = [queue.push(Mode::Shared, 0, ()), queue.push(Mode::Shared, 0, ())];
    assert_eq!((queue.position(last), queue.position(excess)), (Some(0), Some(MAX as usize)));
}
