//! One lock beside a naive model of it: whatever is done is done to both, and they have to agree.
#![cfg_attr(fuzzing, allow(dead_code, unused_imports, reason = "a fuzzer needs the steps alone"))]

pub(crate) mod bytes;
#[cfg(test)]
mod histories;
mod naive;
#[cfg(test)]
mod random;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod scripts;
mod stripes;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::naive::{Naive, ranked};
use super::{Busy, Cancelled, Decided, Enqueued, Lock, Outcome, Slow, Tried};
use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::core::queue::{Deadlock, Priority, Queue, Ticket};
use crate::name::LockName;
use crate::striped::{Counted, Stripe};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// An owner: a letter.
type Who = char;

/// What an owner does to a lock, or to its request for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Request {
        who: Who,
        mode: Mode,
        priority: Priority,
    },
    /// Like a request, but waits for nothing.
    Try {
        who: Who,
        mode: Mode,
        priority: Priority,
    },
    Release {
        who: Who,
    },
    /// Withdraws what waits: on purpose, or because its deadline has passed.
    Cancel {
        who: Who,
    },
    Downgrade {
        who: Who,
        to: Mode,
    },
    /// Asks for a stronger mode of what it holds.
    Upgrade {
        who: Who,
        to: Mode,
        priority: Priority,
    },
    /// Like an upgrade, but waits for nothing.
    TryUpgrade {
        who: Who,
        to: Mode,
    },
    /// Deletes the lock, held exclusively.
    Delete {
        who: Who,
    },
    SetPriority {
        who: Who,
        priority: Priority,
    },
}

/// What whoever takes a step is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Granted,
    Waits,
    /// Not without waiting.
    Blocked,
    WouldDeadlock,
    Deleted,
    Withdrawn,
    Done,
    /// It is decided already.
    TooLate,
}

/// What follows from a step: the answer, and who else is told what, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Effect {
    answer: Answer,
    told: Vec<(Who, Outcome)>,
}

impl Effect {
    /// Those who waited and need not any more.
    fn granted(&self) -> String {
        self.told(Outcome::Granted)
    }

    /// Those who waited for a lock that is gone.
    fn failed(&self) -> String {
        self.told(Outcome::Deleted)
    }

    fn told(&self, outcome: Outcome) -> String {
        self.told.iter().filter(|told| told.1 == outcome).map(|told| told.0).collect()
    }
}

impl Counted for Who {
    fn stripe(&self) -> Stripe {
        Stripe::of(u64::from(*self))
    }
}

impl Step {
    fn who(self) -> Who {
        match self {
            Self::Request { who, .. }
            | Self::Try { who, .. }
            | Self::Release { who }
            | Self::Cancel { who }
            | Self::Downgrade { who, .. }
            | Self::Upgrade { who, .. }
            | Self::TryUpgrade { who, .. }
            | Self::Delete { who }
            | Self::SetPriority { who, .. } => who,
        }
    }
}

/// A lock and its model.
#[derive(Clone, Debug)]
struct Trial {
    lock: Lock<Who>,
    /// The same, counted in stripes: whatever is done is done to both, and they have to agree.
    striped: Lock<Who>,
    model: Naive,
    /// Each owner's latest ticket, decided or not: withdrawing may come too late.
    tickets: BTreeMap<Who, Ticket>,
}

impl Trial {
    fn new() -> Self {
        let lock = Lock::new(LockName::alone(Arc::from("lock")));
        let striped = Lock::new(LockName::alone(Arc::from("striped"))).striped(Mode::Shared);
        Self { lock, striped, model: Naive::new(), tickets: BTreeMap::new() }
    }

    /// Takes a step and compares all there is to see.
    fn take(&mut self, step: Step) -> Effect {
        assert!(self.model.permits(step), "{step:?} makes no sense to {:#?}", self.model);
        let effect = self.carry_out(step);
        std::mem::swap(&mut self.lock, &mut self.striped);
        assert_eq!(self.carry_out(step), effect, "{step:?}: left the striped one, right the word");
        self.assert_looks_like(&self.striped);
        std::mem::swap(&mut self.lock, &mut self.striped);
        assert_eq!(effect, self.model.take(step), "{step:?}: left the lock, right the model");
        self.assert_agrees();
        effect
    }

    /// The striped lock says what the other one does, and its gate is open if it can be.
    fn assert_looks_like(&self, plain: &Lock<Who>) {
        let (held, queue) = self.lock.inspect(|held, q| (held, q.map(Queue::anatomy)));
        let plain = plain.inspect(|held, q| (held, q.map(Queue::anatomy)));
        assert_eq!(held, plain.0, "left the striped one, right the word");
        assert_eq!(ranked(&queue.unwrap_or_default()), ranked(&plain.1.unwrap_or_default()));
        for mode in Mode::ALL.into_iter().filter(|mode| self.lock.flags().is_open_for(*mode)) {
            assert!(held.admits_newcomer(mode), "the gate is open for {mode} beside {held:?}");
        }
        let idle = held == Held::FREE;
        assert!(!idle || self.lock.flags().is_open_for(Mode::IntentShared), "a gate left closed");
    }

    fn request(&mut self, who: Who, mode: Mode, priority: Priority) -> Answer {
        let effect = self.take(Step::Request { who, mode, priority });
        assert_eq!(effect.told, [], "who asks helps nobody else");
        effect.answer
    }

    fn try_take(&mut self, who: Who, mode: Mode, priority: Priority) -> Answer {
        self.take(Step::Try { who, mode, priority }).answer
    }

    fn release(&mut self, who: Who) -> Effect {
        self.take(Step::Release { who })
    }

    fn cancel(&mut self, who: Who) -> Effect {
        self.take(Step::Cancel { who })
    }

    fn downgrade(&mut self, who: Who, to: Mode) -> Effect {
        self.take(Step::Downgrade { who, to })
    }

    fn upgrade(&mut self, who: Who, to: Mode) -> Answer {
        self.take(Step::Upgrade { who, to, priority: 0 }).answer
    }

    fn delete(&mut self, who: Who) -> Effect {
        self.take(Step::Delete { who })
    }

    fn set_priority(&mut self, who: Who, priority: Priority) -> Effect {
        self.take(Step::SetPriority { who, priority })
    }

    fn carry_out(&mut self, step: Step) -> Effect {
        let mut decided = Vec::new();
        let answer = self.call(step, &mut decided);
        let told = decided.into_iter().map(|d: Decided<Who>| (d.waiter, d.outcome)).collect();
        Effect { answer, told }
    }

    fn call(&mut self, step: Step, decided: &mut Vec<Decided<Who>>) -> Answer {
        let held = self.model.mode_of(step.who());
        let from = || held.expect("it holds the lock");
        let ticket = || self.tickets[&step.who()];
        let at = step.who().stripe();
        match step {
            Step::Request { who, mode, priority } => {
                let enqueued = self.lock.enqueue(mode, priority, who, decided);
                self.enqueued(who, enqueued)
            }
            Step::Try { mode, priority, .. } => {
                match self.lock.try_take_at(mode, priority, at, decided) {
                    Tried::Taken => Answer::Granted,
                    Tried::Blocked => Answer::Blocked,
                    Tried::Deleted => Answer::Deleted,
                }
            }
            Step::Release { .. } => {
                self.lock.release(from(), at, decided);
                Answer::Done
            }
            Step::Cancel { .. } => match self.lock.cancel(ticket(), decided) {
                Cancelled::Withdrawn => Answer::Withdrawn,
                Cancelled::Granted => Answer::Granted,
                Cancelled::Deleted => Answer::Deleted,
            },
            Step::Downgrade { to, .. } => {
                self.lock.downgrade(from(), to, at, decided);
                Answer::Done
            }
            Step::Upgrade { who, to, priority } => {
                match self.lock.enqueue_conversion(from(), to, priority, who, decided) {
                    Ok(enqueued) => self.enqueued(who, enqueued),
                    Err(Deadlock) => Answer::WouldDeadlock,
                }
            }
            Step::TryUpgrade { to, .. } => {
                if self.lock.try_convert(from(), to, at) {
                    Answer::Granted
                } else {
                    Answer::Blocked
                }
            }
            Step::Delete { .. } => {
                self.lock.delete(decided);
                Answer::Done
            }
            Step::SetPriority { priority, .. } => {
                let waits = self.lock.set_priority(ticket(), priority, decided);
                if waits { Answer::Done } else { Answer::TooLate }
            }
        }
    }

    fn enqueued(&mut self, who: Who, enqueued: Enqueued) -> Answer {
        match enqueued {
            Enqueued::Granted => Answer::Granted,
            Enqueued::Deleted => Answer::Deleted,
            Enqueued::Pending(ticket) => {
                self.tickets.insert(who, ticket);
                Answer::Waits
            }
        }
    }

    /// The word and the queue say what the model says, and nobody is left behind.
    fn assert_agrees(&self) {
        let held = self.lock.held();
        for mode in Mode::ALL {
            assert_eq!(held.count(mode), self.model.count(mode), "{mode} in {held:?}");
        }
        assert_eq!(held.is(Held::DELETED), self.model.is_deleted());
        assert_eq!(held.is(Held::QUEUED), !self.model.pending().is_empty(), "{held:?}");
        let queue = self.lock.inspect(|_, queue| queue.map_or_else(Vec::new, Queue::anatomy));
        assert_eq!(ranked(&queue), ranked(self.model.pending()), "left the queue, right the model");
        assert_eq!(
            self.lock.slow.lock().busy.is_some(),
            !queue.is_empty(),
            "a lock at rest is small"
        );
        for request in self.model.pending() {
            let (who, ticket) = (request.waiter, self.tickets[&request.waiter]);
            let position = self.lock.inspect(|_, queue| queue?.position(ticket));
            assert_eq!(position, self.model.position(who), "requests before {who}");
        }
        assert_eq!(self.model.left_behind(), None, "can go, but waits");
        self.assert_deciding_is_final();
    }

    /// Whoever was told withdraws too late, and changes its priority too late.
    fn assert_deciding_is_final(&self) {
        for who in self.model.told() {
            let (ticket, mut decided) = (self.tickets[who], Vec::new());
            let owns = self.model.mode_of(*who).is_some();
            let expected = if owns { Cancelled::Granted } else { Cancelled::Deleted };
            assert_eq!(self.lock.cancel(ticket, &mut decided), expected, "{who} withdraws");
            assert!(!self.lock.set_priority(ticket, 0, &mut decided), "{who} is pending still");
            assert!(decided.is_empty(), "{decided:?} by what came too late");
        }
    }
}

impl Clone for Lock<Who> {
    fn clone(&self) -> Self {
        let slow = self.slow.lock();
        let queue = slow.queue().cloned();
        let busy = queue.map(|queue| Box::new(Busy { queue, abandoned_by: None, observer: None }));
        let slow = Mutex::new(Slow { busy, arrivals: slow.arrivals });
        let word = AtomicU64::new(self.flags().bits());
        let stripes = self.stripes.clone();
        Self { word, stripes, slow, ..Self::new(self.name.clone()) }
    }
}
