//! Row 9: many exclusive requests pending on one lock, over all of Ganeti's priorities.
//!
//! The lock is held throughout, so that nobody moves but whom the operation moves. Requests cost the same whatever the
//! priorities; how long they take with a hundred times as many pending shows the order of growth.

use std::cmp::Reverse;
use std::mem;
use std::time::Duration;

use tierlock::{AcquireLock, Guard, Owner, Pending, SharedLock};

use super::Inputs;
use crate::clock::{nanoseconds, own_time};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::Dice;
use crate::table::{Case, Target};

/// So many operations are timed at once: enough for the clock, and few beside those pending.
const TIMED: usize = 32;
const SIZES: [usize; 3] = [10_000, 1_000, 100];
const WITHIN: Target = Target::AtMost(1_000.0);
/// The logarithm doubles from 100 to 10,000; as much again for caches that are too small.
const LOGARITHMIC: Target = Target::Ratio(4.0);

type Measure = fn(&mut Crowd) -> Duration;

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let operations: [(&str, Measure); 4] = [
        ("enqueue", Crowd::enqueue),
        ("cancel", Crowd::cancel),
        ("re-prioritise", Crowd::reprioritise),
        ("grant", Crowd::grant),
    ];
    let cases = operations.map(|(operation, measure)| {
        let contenders = SIZES.iter().map(|&size| {
            let mut crowd = Crowd::new(size);
            Contender::custom(format!("tierlock, {size} pending"), move |_| {
                nanoseconds(measure(&mut crowd)) / TIMED as f64
            })
        });
        Case::race(9, operation, effort, contenders.collect())
            .target("tierlock, 10000 pending", WITHIN)
            .target("tierlock, 100 pending", LOGARITHMIC)
    });
    cases.into()
}

/// A pending request, and where it stands in line: the more urgent first, then the earlier.
struct Waiting {
    place: (i32, u64),
    owner: Owner,
    request: Pending<AcquireLock<'static>>,
}

/// A lock, who holds it, and those who want it, each of them another owner.
struct Crowd {
    lock: SharedLock,
    held: Option<Guard<'static>>,
    holder: Owner,
    waiting: Vec<Waiting>,
    idle: Vec<Owner>,
    arrivals: u64,
    dice: Dice,
}

impl Crowd {
    fn new(size: usize) -> Self {
        let lock = SharedLock::new("config");
        let holder = Owner::new("job");
        let held = Some(lock.exclusive(&holder).now().unwrap().into_owned());
        let idle = (0..size + TIMED).map(|_| Owner::new("job")).collect();
        let (waiting, dice) = (Vec::with_capacity(size + TIMED), Dice::new());
        let mut crowd = Self { lock, held, holder, waiting, idle, arrivals: 0, dice };
        (0..size).for_each(|_| crowd.join());
        crowd
    }

    /// One more asks for the lock.
    fn join(&mut self) {
        let owner = self.idle.pop().expect("an owner for each");
        self.arrivals += 1;
        let place = (self.priority(), self.arrivals);
        let request = self.lock.exclusive(&owner).into_owned().priority(place.0).enqueue();
        self.waiting.push(Waiting { place, owner, request });
    }

    fn priority(&mut self) -> i32 {
        self.dice.below(40) as i32 - 20
    }

    fn enqueue(&mut self) -> Duration {
        let size = self.waiting.len();
        let begun = own_time();
        (0..TIMED).for_each(|_| self.join());
        let took = own_time() - begun;
        for newcomer in self.waiting.drain(size..) {
            assert!(!newcomer.request.is_decided());
            self.idle.push(newcomer.owner);
        }
        took
    }

    /// Some leave from all over the line.
    fn cancel(&mut self) -> Duration {
        let leave = |_| self.waiting.swap_remove(self.dice.below(self.waiting.len()));
        let leaving: Vec<_> = (0..TIMED).map(leave).collect();
        let (owners, requests): (Vec<_>, Vec<_>) =
            leaving.into_iter().map(|waiting| (waiting.owner, waiting.request)).unzip();
        let begun = own_time();
        for request in requests {
            assert!(request.cancel().is_none());
        }
        let took = own_time() - begun;
        self.idle.extend(owners);
        (0..TIMED).for_each(|_| self.join());
        took
    }

    fn reprioritise(&mut self) -> Duration {
        let some = |_| (self.dice.below(self.waiting.len()), self.dice.below(40) as i32 - 20);
        let some: Vec<(usize, i32)> = (0..TIMED).map(some).collect();
        let begun = own_time();
        for (at, priority) in some {
            self.waiting[at].request.set_priority(priority);
        }
        own_time() - begun
    }

    /// One after the other gets the lock and gives it to the next.
    fn grant(&mut self) -> Duration {
        self.waiting.sort_unstable_by_key(|waiting| Reverse(waiting.place));
        let next = self.waiting.split_off(self.waiting.len() - TIMED);
        let (owners, requests): (Vec<_>, Vec<_>) =
            next.into_iter().rev().map(|waiting| (waiting.owner, waiting.request)).unzip();
        let begun = own_time();
        for request in requests {
            drop(self.held.take());
            // Not its turn, it would wait for ever.
            self.held = Some(request.wait().unwrap());
        }
        let took = own_time() - begun;
        // The last one holds the lock now, and who held it before may ask again.
        self.idle.extend(owners);
        let last = self.idle.pop().expect("some were granted");
        self.idle.push(mem::replace(&mut self.holder, last));
        (0..TIMED).for_each(|_| self.join());
        took
    }
}
