//! Everybody else, as one more owner of a lock of this process.
//!
//! What other members hold of a resource, or may come to hold, is held here by an owner that stands for all of them. So the rules
//! of one lock, its queue among them, decide between the owners of this process and those elsewhere: what a coordinator
//! granted is what `Elsewhere` leaves to them, and to give it back is to take it as `Elsewhere`, in line like anybody.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crate::chain::{self, Begun, Chain, Terms};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::hold::{Hold, Lock, Refused, Waiter, dispatch};
use crate::owner::{LockId, Owner, Slot};
use crate::raw::Tried;
use crate::task::{Conversion, Reason, Refusal, Stage, Stages, Task, take_top};

/// What everybody else holds of a lock of this process.
pub(super) struct Elsewhere {
    owner: Owner,
    lock: Arc<Lock>,
    hold: Option<(Slot, Mode)>,
    claim: Option<Claim>,
}

/// In line for a stronger mode.
struct Claim {
    chain: Arc<Chain>,
    to: Mode,
    priority: Priority,
}

/// The owners of this process, at one lock.
#[derive(Debug)]
pub(super) struct Here {
    /// What covers all they hold.
    pub(super) held: Option<Mode>,
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

impl Elsewhere {
    /// Takes a lock that nobody uses yet, so that it can be had only by way of a coordinator.
    pub(super) fn new(lock: &Arc<Lock>, name: Arc<str>) -> Self {
        let mut elsewhere =
            Self { owner: Owner::new(name), lock: Arc::clone(lock), hold: None, claim: None };
        let taken = elsewhere.raise(Some(Mode::Exclusive));
        debug_assert!(taken, "{} was in use", lock.name());
        elsewhere
    }

    /// The owner that stands for them.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What it leaves to the owners of this process.
    pub(super) fn leaves(&self) -> Option<Mode> {
        Mode::beside(self.mode())
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.hold.map(|(_, mode)| mode)
    }

    /// Looks at what the owners of this process have and want.
    pub(super) fn look(&self) -> Here {
        let own = self.mode();
        self.lock.inspect(|held, queue| {
            let held = own.map_or(held, |own| held.without(own));
            let waiting = queue.map(super::super::core::queue::Queue::waiting).unwrap_or_default();
            let head = waiting.into_iter().find_map(|waiting| {
                let waiter = waiting.waiters.iter().find(|waiter| *waiter.owner() != self.owner)?;
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
            Here { held: modes.reduce(Mode::join), head }
        })
    }

    /// Tells whether only those elsewhere stand in the way of an owner of this process, who holds the lock `from` already.
    pub(super) fn fits(&self, mode: Mode, from: Option<Mode>) -> bool {
        let own = [self.mode(), from].into_iter().flatten();
        own.fold(self.lock.held(), super::super::core::held::Held::without).admits(mode, 1)
    }

    /// Holds more, if the owners of this process leave it at once.
    pub(super) fn raise(&mut self, to: Option<Mode>) -> bool {
        let Some(to) = to else { return self.hold.is_none() };
        self.drop_claim();
        match self.hold {
            Some((_, mode)) if mode == to => true,
            Some(_) => {
                let mut hold = self.own_hold().expect("there is one");
                let raised = hold.try_convert(&self.owner, to);
                self.hold = Some((hold.slot, hold.mode));
                raised
            }
            None => {
                let id = LockId::of(&self.lock);
                let Ok(slot) = self.owner.claim(id) else { return false };
                // After all who wait.
                let mut decisions = Vec::new();
                let last = Priority::MAX;
                let tried = take_top(&self.lock, to, last, &self.owner, slot, &mut decisions);
                dispatch(decisions);
                if tried == Tried::Taken {
                    self.hold = Some((slot, to));
                } else {
                    self.owner.clear(slot);
                }
                tried == Tried::Taken
            }
        }
    }

    /// Holds less, which may let owners of this process go.
    pub(super) fn lower(&mut self, to: Option<Mode>) {
        self.drop_claim();
        let Some(mut hold) = self.own_hold() else { return };
        let mut decisions = Vec::new();
        self.hold = None;
        match to {
            None => hold.release(&self.owner, &mut decisions),
            Some(to) => {
                hold.downgrade(&self.owner, to, &mut decisions);
                self.hold = Some((hold.slot, hold.mode));
            }
        }
        dispatch(decisions);
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
        let to = self.mode().map_or(mode, |own| own.join(mode));
        match &mut self.claim {
            Some(claim) if claim.to == to => {
                if claim.priority != priority {
                    claim.priority = priority;
                    claim.chain.set_priority(priority);
                }
                return Ok(());
            }
            _ => self.drop_claim(),
        }
        if self.mode() == Some(to) {
            return Ok(());
        }
        let task = match self.own_hold() {
            Some(hold) => Task::Convert(Conversion::new(&self.owner, hold, to)),
            None => Task::take(&self.owner, Stages::One(Stage::only(&self.lock, to))),
        };
        match chain::begin(task, &Terms { priority, ..Terms::default() }) {
            Ok(Begun::Done(task)) => self.have(task, to),
            Ok(Begun::Waits(chain)) => {
                let decided = chain.poll(waker);
                self.claim = Some(Claim { chain, to, priority });
                if decided {
                    self.collect()?;
                }
            }
            Err(refusal) => return self.refused(&refusal),
        }
        Ok(())
    }

    /// Takes what a claim came to, if it is decided.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub(super) fn collect(&mut self) -> Result<(), Refused> {
        let decided = |claim: &mut Claim| claim.chain.is_decided();
        let Some(Claim { chain, to, .. }) = self.claim.take_if(decided) else { return Ok(()) };
        match chain.take() {
            Ok(task) => self.have(task, to),
            Err(refusal) => return self.refused(&refusal),
        }
        Ok(())
    }

    fn have(&mut self, task: Task, mode: Mode) {
        let slot = match task {
            Task::Take(taking) => taking.into_had().next().and_then(|(.., had)| had.top),
            Task::Convert(_) => self.hold.map(|(slot, _)| slot),
        };
        self.hold = slot.map(|slot| (slot, mode));
    }

    fn refused(&self, refusal: &Refusal) -> Result<(), Refused> {
        match refusal.reason {
            Reason::Deadlock(..) => Err(Refused::Deadlock),
            // The lock was deleted, which ends everything.
            _ => Ok(()),
        }
    }

    /// Stands in line no more, and holds what it held.
    pub(super) fn drop_claim(&mut self) {
        if let Some(Claim { chain, .. }) = self.claim.take() {
            chain.give_up();
        }
    }

    /// Refuses owners of this process that wait: all of them, or the conversions.
    pub(super) fn refuse(&self, why: &Refused) {
        let waiters: Vec<Arc<dyn Waiter>> = self.lock.inspect(|_, queue| {
            let waiting = queue.map(super::super::core::queue::Queue::waiting).unwrap_or_default();
            let concerned = waiting
                .into_iter()
                .filter(|waiting| matches!(why, Refused::By(_)) || waiting.from.is_some());
            let all = concerned.flat_map(|waiting| waiting.waiters);
            all.filter(|waiter| *waiter.owner() != self.owner).cloned().collect()
        });
        waiters.into_iter().for_each(|waiter| waiter.refuse(why.clone()));
    }

    /// The hold as the layers below know it; its slot and mode stay known here.
    fn own_hold(&self) -> Option<Hold> {
        let (slot, mode) = self.hold?;
        Some(Hold { lock: Arc::clone(&self.lock), mode, slot })
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere")
            .field("lock", self.lock.name())
            .field("mode", &self.mode())
            .field("claims", &self.claim.as_ref().map(|claim| claim.to))
            .finish_non_exhaustive()
    }
}
