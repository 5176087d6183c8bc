//! An owner's part in one lock: what it holds, and a stronger mode that it stands in line for.
//!
//! For owners that are no single request: it goes up and down as long as the owner lives.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crate::chain::{self, Begun, Chain, Terms};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::hold::{Hold, Lock, dispatch};
use crate::owner::{LockId, Owner, Slot};
use crate::raw::Tried;
use crate::task::{Conversion, Refusal, Stage, Stages, Task, take_top};

/// What an owner holds of a lock. To be given back by [`lower`](Self::lower).
pub(super) struct Stake {
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

impl Stake {
    /// The part of a new owner of this name, who holds nothing.
    pub(super) fn new(lock: &Arc<Lock>, name: Arc<str>) -> Self {
        Self { owner: Owner::new(name), lock: Arc::clone(lock), hold: None, claim: None }
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(super) fn lock(&self) -> &Arc<Lock> {
        &self.lock
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.hold.map(|(_, mode)| mode)
    }

    /// The mode that it stands in line for.
    pub(super) fn claimed(&self) -> Option<Mode> {
        self.claim.as_ref().map(|claim| claim.to)
    }

    /// Holds `to`, if that needs no waiting and overtakes nobody.
    pub(super) fn raise(&mut self, to: Mode) -> bool {
        // What it was granted meanwhile is not to be given back first.
        let _ = self.collect();
        if self.mode().is_some_and(|mode| mode.covers(to)) {
            // Nor is the place in line for more.
            return true;
        }
        self.drop_claim();
        match self.hold {
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

    /// Holds less, which may let others go.
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

    /// Stands in line no more, unless it is for `mode` beside what it holds.
    pub(super) fn drop_other_claim(&mut self, mode: Mode) {
        let to = self.mode().map_or(mode, |own| own.join(mode));
        if self.claimed().is_some_and(|claimed| claimed != to) {
            self.drop_claim();
        }
    }

    /// Has `mode` beside what it holds, at once or in line; `waker` hears when it is to be [collected](Self::collect).
    ///
    /// # Errors
    /// Why it never will; it holds what it held.
    pub(super) fn claim(
        &mut self,
        mode: Mode,
        priority: Priority,
        waker: &Waker,
    ) -> Result<(), Box<Refusal>> {
        let to = self.mode().map_or(mode, |own| own.join(mode));
        match &mut self.claim {
            Some(claim) if claim.to == to => {
                // Whoever observes the lock hears of a change, and may come by here again.
                if std::mem::replace(&mut claim.priority, priority) != priority {
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
        match chain::begin(task, &Terms { priority, ..Terms::default() })? {
            Begun::Done(task) => self.have(task, to),
            Begun::Waits(chain) => {
                let decided = chain.poll(waker);
                self.claim = Some(Claim { chain, to, priority });
                if decided {
                    self.collect()?;
                }
            }
        }
        Ok(())
    }

    /// Takes what a claim came to, if it is decided.
    ///
    /// # Errors
    /// Why nothing came of it; it holds what it held.
    pub(super) fn collect(&mut self) -> Result<(), Box<Refusal>> {
        let decided = |claim: &mut Claim| claim.chain.is_decided();
        let Some(Claim { chain, to, .. }) = self.claim.take_if(decided) else { return Ok(()) };
        let task = chain.take()?;
        self.have(task, to);
        Ok(())
    }

    fn have(&mut self, task: Task, mode: Mode) {
        let slot = match task {
            Task::Take(taking) => taking.into_had().next().and_then(|(.., had)| had.top),
            Task::Convert(_) => self.hold.map(|(slot, _)| slot),
        };
        self.hold = slot.map(|slot| (slot, mode));
    }

    /// Stands in line no more, and holds what it held.
    pub(super) fn drop_claim(&mut self) {
        if let Some(Claim { chain, .. }) = self.claim.take() {
            chain.give_up();
        }
    }

    /// The hold as the layers below know it; its slot and mode stay known here.
    fn own_hold(&self) -> Option<Hold> {
        let (slot, mode) = self.hold?;
        Some(Hold { lock: Arc::clone(&self.lock), mode, slot })
    }
}

impl fmt::Debug for Stake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stake")
            .field("lock", self.lock.name())
            .field("mode", &self.mode())
            .field("claims", &self.claimed())
            .finish_non_exhaustive()
    }
}
