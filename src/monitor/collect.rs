//! Reading locks so that each row agrees with itself, without stopping anybody.
//!
//! Who holds a lock stands in the owners' slots, in which modes stands in its word, and who waits in its queue; each changes while
//! the others are read. So a row counts once what the slots said agrees with the word, and is read again until it does.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::order;
use crate::clock;
use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::core::queue::{self, Priority, Queue};
use crate::hold::{Lock, Waiter};
use crate::name::LockName;
use crate::owner::{self, LockId};
use crate::snapshot::{Field, Fields, Group, Holder, Row, Waiting, Who};

/// How often a row that does not agree with itself is read again. Each time costs a look at every owner; a row still changing
/// after so many is one that no reader can catch.
const RETRIES_MAX: usize = 16;

/// What becomes a row.
pub(super) enum Subject {
    Lock(Arc<Lock>),
    /// A lock seen free and unawaited, of which there is no more to say than its name.
    Free(LockName),
    Row(Box<Row>),
}

/// The rows of all subjects, by name.
///
/// Locks are looked at as they lie in memory, and most are done with then: coming back to each in the order of names would take
/// longer than all the rest.
pub(super) fn rows(subjects: Vec<Subject>, fields: Fields) -> Vec<Row> {
    let reader = Reader { fields, now: clock::now() };
    let holds = if reader.wants_owners() { Holds::scan(|_| true) } else { Holds(Vec::new()) };
    let subjects: Vec<_> = subjects.into_iter().map(Subject::glimpse).collect();
    let order = order::of(&subjects);
    let mut subjects: Vec<_> = subjects.into_iter().map(Some).collect();
    let (mut rows, mut unsettled) = (Vec::with_capacity(order.len()), Vec::new());
    for at in order {
        let subject = subjects[at].take().expect("each is in one place");
        let (row, lock) = reader.turn(subject, &holds);
        unsettled.extend(lock.filter(|_| row.unsettled).map(|lock| (rows.len(), lock)));
        rows.push(row);
    }
    reader.settle(&mut rows, unsettled);
    rows
}

impl Subject {
    pub(super) fn name(&self) -> &LockName {
        match self {
            Self::Lock(lock) => lock.name(),
            Self::Free(name) => name,
            Self::Row(row) => &row.name,
        }
    }

    fn glimpse(self) -> Self {
        match self {
            Self::Lock(lock) if lock.held() == Held::FREE => Self::Free(lock.name().clone()),
            seen => seen,
        }
    }
}

/// Somebody seen holding a lock.
struct Hold {
    lock: LockId,
    owner: Who,
    mode: Mode,
}

/// What one look at every owner's slots found, by lock.
struct Holds(Vec<Hold>);

impl Holds {
    fn scan(concerns: impl Fn(LockId) -> bool) -> Self {
        let mut holds = Vec::new();
        owner::scan(|owner, lock, mode| {
            if concerns(lock) {
                holds.push(Hold { lock, owner: Who::from(owner), mode });
            }
        });
        holds.sort_unstable_by_key(|hold| hold.lock);
        Self(holds)
    }

    fn of(&self, lock: LockId) -> &[Hold] {
        let from = self.0.partition_point(|hold| hold.lock < lock);
        let count = self.0[from..].partition_point(|hold| hold.lock == lock);
        &self.0[from..from + count]
    }
}

/// A lock's word, and its queue at the same instant.
struct Reading {
    held: Held,
    pending: Vec<Entry>,
}

/// A pending group, its waiters kept to be looked at when the queue is free again.
struct Entry {
    mode: Mode,
    from: Option<Mode>,
    priority: Priority,
    waiters: Vec<Arc<dyn Waiter>>,
}

struct Reader {
    fields: Fields,
    now: Instant,
}

impl Reader {
    fn wants_owners(&self) -> bool {
        self.fields.contains(Field::Owner)
    }

    /// Reads the rows again that do not agree with themselves, as often as that may help.
    fn settle(&self, rows: &mut [Row], mut unsettled: Vec<(usize, Arc<Lock>)>) {
        for _ in 0..RETRIES_MAX {
            if unsettled.is_empty() {
                return;
            }
            // Whoever took a lock and has not written it down yet may be waiting for this processor.
            std::thread::yield_now();
            let ids: HashSet<_> = unsettled.iter().map(|(_, lock)| LockId::of(lock)).collect();
            let holds = Holds::scan(|lock| ids.contains(&lock));
            unsettled.retain(|(at, lock)| {
                rows[*at] = self.row(lock, &holds);
                rows[*at].unsettled
            });
        }
    }

    /// Makes a row; of a lock that may have to be read again, returns that too.
    fn turn(&self, subject: Subject, holds: &Holds) -> (Row, Option<Arc<Lock>>) {
        match subject {
            Subject::Free(name) => (Row::of(name), None),
            Subject::Row(row) => (*row, None),
            Subject::Lock(lock) => (self.row(&lock, holds), Some(lock)),
        }
    }

    fn row(&self, lock: &Arc<Lock>, holds: &Holds) -> Row {
        let reading = self.read(lock);
        let mut row = Row::of(lock.name().clone());
        if self.fields.contains(Field::Mode) {
            row.mode = reading.held.mode();
            row.deleted = reading.held.is(Held::DELETED);
            row.abandoned =
                if reading.held.is(Held::ABANDONED) { lock.abandoned_by() } else { None };
        }
        if self.wants_owners() && reading.held.mode().is_some() {
            let holds = holds.of(LockId::of(lock));
            let confirmed = reading.confirmed(holds);
            row.unsettled = confirmed.len() < holds.len() || !reading.agrees_with(&confirmed);
            row.owners = confirmed.into_iter().map(Hold::shown).collect();
        }
        row.pending = reading.pending.iter().map(|entry| entry.shown(self.now)).collect();
        row.sorted()
    }

    fn read(&self, lock: &Lock) -> Reading {
        let held = lock.held();
        if !self.fields.contains(Field::Pending) || !held.is(Held::QUEUED) {
            return Reading { held, pending: Vec::new() };
        }
        lock.inspect(|held, queue| {
            let waiting = queue.map_or_else(Vec::new, Queue::waiting);
            Reading { held, pending: waiting.into_iter().map(Entry::from).collect() }
        })
    }
}

impl Reading {
    /// Those of `holds` that the word and the queue do not speak against.
    fn confirmed<'h>(&self, holds: &'h [Hold]) -> Vec<&'h Hold> {
        let requests = self.pending.iter().filter(|entry| entry.from.is_none());
        // Nobody asks for what it holds, and nobody holds it twice: one of the two was over when the other was seen.
        let mut others: HashSet<Who> = requests.flat_map(Entry::owners).collect();
        let mut confirmed: Vec<&Hold> =
            holds.iter().filter(|hold| others.insert(hold.owner.clone())).collect();
        let counts = counts(&confirmed);
        confirmed.retain(|hold| counts[hold.mode as usize] <= self.held.count(hold.mode));
        confirmed
    }

    /// Tells whether these are all the holders that the word counts, and whoever wants a stronger mode is one of them.
    fn agrees_with(&self, holds: &[&Hold]) -> bool {
        let counts = counts(holds);
        let mut conversions = self.pending.iter().filter(|entry| entry.from.is_some());
        let holds = |owner: &Who, mode| holds.iter().any(|h| h.owner == *owner && h.mode == mode);
        Mode::ALL.into_iter().all(|mode| counts[mode as usize] == self.held.count(mode))
            && conversions.all(|entry| {
                entry.owners().all(|owner| entry.from.is_some_and(|from| holds(&owner, from)))
            })
    }
}

/// Number of holds in each mode.
fn counts(holds: &[&Hold]) -> [u64; Mode::ALL.len()] {
    let mut counts = [0; Mode::ALL.len()];
    for hold in holds {
        counts[hold.mode as usize] += 1;
    }
    counts
}

impl Hold {
    fn shown(&self) -> Holder {
        Holder { owner: self.owner.clone(), mode: self.mode }
    }
}

impl Entry {
    fn owners(&self) -> impl Iterator<Item = Who> {
        self.waiters.iter().map(|waiter| Who::from(waiter.owner()))
    }

    fn shown(&self, now: Instant) -> Group {
        let waiting = |waiter: &Arc<dyn Waiter>| Waiting {
            owner: Who::from(waiter.owner()),
            waited: now.saturating_duration_since(waiter.since()),
        };
        let Self { mode, from, priority, .. } = *self;
        Group { mode, from, priority, members: self.waiters.iter().map(waiting).collect() }
    }
}

impl From<queue::Waiting<'_, Arc<dyn Waiter>>> for Entry {
    fn from(waiting: queue::Waiting<'_, Arc<dyn Waiter>>) -> Self {
        let queue::Waiting { mode, priority, from, waiters } = waiting;
        Self { mode, from, priority, waiters: waiters.into_iter().map(Arc::clone).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::queue::Ticket;
    use crate::hold::Decisions;
    use crate::listeners::Listeners;
    use crate::owner::Owner;
    use crate::raw::Outcome;
    use Mode::{Exclusive, IntentShared, Shared};

    #[derive(Debug)]
    struct Patient(Owner, Instant);

    impl Waiter for Patient {
        fn owner(&self) -> &Owner {
            &self.0
        }

        fn since(&self) -> Instant {
            self.1
        }

        fn on_decided(
            self: Arc<Self>,
            _: Ticket,
            _: Outcome,
            _: &mut Decisions,
        ) -> Option<Box<Listeners>> {
            None
        }

        #[cfg(feature = "coordination")]
        fn refuse(&self, _: crate::hold::Refused) {}
    }

    fn hold(owner: &Owner, mode: Mode) -> Hold {
        Hold { lock: LockId::of(&Arc::new(0_u64)), owner: Who::from(owner), mode }
    }

    fn entry(owner: &Owner, from: Option<Mode>, mode: Mode) -> Entry {
        let waiter = Arc::new(Patient(owner.clone(), clock::now()));
        Entry { mode, from, priority: 0, waiters: vec![waiter] }
    }

    /// A word that counts a holder in each of these modes.
    fn held(modes: &[Mode]) -> Held {
        modes.iter().fold(Held::FREE, |held, mode| held.with(*mode, 1))
    }

    /// Who of the holders seen is shown, and whether that is all there is to show.
    fn judged(held: Held, pending: Vec<Entry>, holds: &[Hold]) -> (Vec<String>, bool) {
        let reading = Reading { held, pending };
        let confirmed = reading.confirmed(holds);
        let names = confirmed.iter().map(|hold| hold.owner.name().to_owned()).collect();
        (names, confirmed.len() == holds.len() && reading.agrees_with(&confirmed))
    }

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn holders_that_the_word_counts_are_shown() {
        let (a, b) = (Owner::new("a"), Owner::new("b"));
        let holds = [hold(&a, Shared), hold(&b, IntentShared)];
        let word = held(&[Shared, IntentShared]);
        assert_eq!(judged(word, vec![], &holds), (named(&["a", "b"]), true));
    }

    #[test]
    fn of_more_holders_than_the_word_counts_none_is_shown() {
        let (a, b) = (Owner::new("a"), Owner::new("b"));
        let holds = [hold(&a, Exclusive), hold(&b, Exclusive)];
        assert_eq!(judged(held(&[Exclusive]), vec![], &holds), (vec![], false));
        let holds = [hold(&a, Exclusive), hold(&b, Shared)];
        assert_eq!(judged(held(&[Shared]), vec![], &holds), (named(&["b"]), false));
    }

    #[test]
    fn fewer_holders_than_the_word_counts_are_shown_but_not_as_all() {
        let a = Owner::new("a");
        let word = held(&[Shared, Shared]);
        assert_eq!(judged(word, vec![], &[hold(&a, Shared)]), (named(&["a"]), false));
    }

    #[test]
    fn who_asks_does_not_hold() {
        let (a, b) = (Owner::new("a"), Owner::new("b"));
        let (holds, asks) = ([hold(&a, Shared), hold(&b, Shared)], entry(&b, None, Exclusive));
        assert_eq!(judged(held(&[Shared, Shared]), vec![asks], &holds), (named(&["a"]), false));
    }

    #[test]
    fn nobody_holds_twice() {
        let a = Owner::new("a");
        let holds = [hold(&a, Shared), hold(&a, Shared)];
        assert_eq!(judged(held(&[Shared, Shared]), vec![], &holds), (named(&["a"]), false));
    }

    #[test]
    fn who_asks_for_more_holds_what_it_keeps() {
        let (a, b) = (Owner::new("a"), Owner::new("b"));
        let asks = || vec![entry(&b, Some(Shared), Exclusive)];
        let both = [hold(&a, Shared), hold(&b, Shared)];
        let word = held(&[Shared, Shared]);
        assert_eq!(judged(word, asks(), &both), (named(&["a", "b"]), true));
        let other = [hold(&a, Shared), hold(&Owner::new("c"), Shared)];
        assert_eq!(judged(word, asks(), &other), (named(&["a", "c"]), false));
    }
}
