//! Everybody else, as one more owner of a lock of this process.
//!
//! What other members hold of a resource, or may come to hold, is held here by an owner that stands for all of them. So the rules
//! of one lock, its queue among them, decide between the owners of this process and those elsewhere: what a coordinator
//! granted is what `Elsewhere` leaves to them, and to give it back is to take it as `Elsewhere`, in line like anybody.

use std::sync::Arc;
use std::task::Waker;

use super::stake::Stake;
use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::core::queue::{Priority, Queue};
use crate::hold::{Lock, Refused, Waiter};
use crate::owner::Owner;
use crate::task::{Reason, Refusal};

/// What everybody else holds of a lock of this process.
#[derive(Debug)]
pub(super) struct Elsewhere(Stake);

/// The owners of this process, at one lock.
#[derive(Debug)]
pub(super) struct Here {
    /// What covers all they hold.
    pub(super) held: Option<Mode>,
    /// All they hold.
    word: Held,
    /// Who of them goes first of those who wait.
    pub(super) head: Option<Head>,
}

/// The first in line.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) mode: Mode,
    pub(super) priority: Priority,
    pub(super) owner: Arc<str>,
    /// Whether only those elsewhere stand in its way.
    pub(super) fits: bool,
    /// Whether it holds the lock already, in a weaker mode.
    pub(super) converts: bool,
}

impl Here {
    /// Tells whether only those elsewhere stand in the way of an owner of this process, who holds the lock `from` already.
    pub(super) fn fits(&self, mode: Mode, from: Option<Mode>) -> bool {
        let own = from.filter(|from| self.word.count(*from) > 0);
        own.map_or(self.word, |own| self.word.without(own)).admits(mode, 1)
    }
}

impl Elsewhere {
    /// Takes a lock that nobody uses yet, so that it can be had only by way of a coordinator.
    pub(super) fn new(lock: &Arc<Lock>, name: Arc<str>) -> Self {
        let mut elsewhere = Self(Stake::new(lock, name));
        let taken = elsewhere.raise(Some(Mode::Exclusive));
        debug_assert!(taken, "{} was in use", lock.name());
        elsewhere
    }

    /// The owner that stands for them.
    pub(super) fn owner(&self) -> &Owner {
        self.0.owner()
    }

    /// What it leaves to the owners of this process.
    pub(super) fn leaves(&self) -> Option<Mode> {
        Mode::beside(self.mode())
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.0.mode()
    }

    /// Looks at what the owners of this process have and want.
    pub(super) fn look(&self) -> Here {
        self.0.lock().inspect(|held, queue| {
            let waiting = queue.map(Queue::waiting).unwrap_or_default();
            let mut waiters = waiting.iter().flat_map(|waiting| &waiting.waiters);
            let waits = waiters.any(|waiter| waiter.owner() == self.owner());
            // What it claimed and was granted counts already, though it was not collected yet.
            let own = self.0.claimed().filter(|_| !waits).or(self.mode());
            let held = own.filter(|own| held.count(*own) > 0).map_or(held, |own| held.without(own));
            let head = waiting.into_iter().find_map(|waiting| {
                let waiter =
                    waiting.waiters.iter().find(|waiter| waiter.owner() != self.owner())?;
                let others = waiting.from.map_or(held, |from| held.without(from));
                Some(Head {
                    mode: waiting.mode,
                    priority: waiting.priority,
                    owner: Arc::clone(waiter.owner().name_arc()),
                    fits: others.admits(waiting.mode, 1),
                    converts: waiting.from.is_some(),
                })
            });
            let modes = Mode::ALL.into_iter().filter(|mode| held.count(*mode) > 0);
            Here { held: modes.reduce(Mode::join), word: held, head }
        })
    }

    /// Holds more, if the owners of this process leave it at once.
    pub(super) fn raise(&mut self, to: Option<Mode>) -> bool {
        match to {
            None => self.mode().is_none(),
            Some(to) => self.0.raise(to),
        }
    }

    /// Holds less, which may let owners of this process go.
    pub(super) fn lower(&mut self, to: Option<Mode>) {
        self.0.lower(to);
    }

    /// Stands in line to hold `mode` beside what it holds, on behalf of a member elsewhere; `waker` hears when it has it.
    ///
    /// # Errors
    /// A conversion of an owner of this process that waits: neither could ever go.
    pub(super) fn claim(
        &mut self,
        mode: Mode,
        priority: Priority,
        waker: &Waker,
    ) -> Result<(), Refused> {
        self.0.claim(mode, priority, waker).or_else(|refusal| refused(&refusal))
    }

    /// Stands in line no more, unless it is for this.
    pub(super) fn drop_other_claim(&mut self, mode: Mode) {
        self.0.drop_other_claim(mode);
    }

    /// Takes what a claim came to, if it is decided.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub(super) fn collect(&mut self) -> Result<(), Refused> {
        self.0.collect().or_else(|refusal| refused(&refusal))
    }

    /// Stands in line no more, and holds what it held.
    pub(super) fn drop_claim(&mut self) {
        self.0.drop_claim();
    }

    /// Refuses owners of this process that wait: all of them, or the conversions.
    pub(super) fn refuse(&self, why: &Refused) {
        let waiters: Vec<Arc<dyn Waiter>> = self.0.lock().inspect(|_, queue| {
            let waiting = queue.map(Queue::waiting).unwrap_or_default();
            let concerned = waiting
                .into_iter()
                .filter(|waiting| matches!(why, Refused::By(_)) || waiting.from.is_some());
            let all = concerned.flat_map(|waiting| waiting.waiters);
            all.filter(|waiter| waiter.owner() != self.owner()).cloned().collect()
        });
        waiters.into_iter().for_each(|waiter| waiter.refuse(why.clone()));
    }
}

fn refused(refusal: &Refusal) -> Result<(), Refused> {
    match refusal.reason {
        Reason::Deadlock(..) => Err(Refused::Deadlock),
        // The lock was deleted, which ends everything.
        _ => Ok(()),
    }
}
