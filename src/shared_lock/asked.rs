//! What is asked of a lock by itself: to have it, to delete it, to hold it in a stronger mode.

use std::sync::Arc;

use super::party::Party;
use super::{GONE, Guard, SharedLock};
use crate::acquire::Acquire;
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::{AcquireError, UpgradeError};
use crate::hold::{Hold, dispatch};
use crate::owner::{Owner, Slot};
use crate::raw::Tried;
use crate::target::{Patience, Target};
use crate::task::{Conversion, Refusal, Stage, Stages, Task, take_at_once};

impl SharedLock {
    fn take(&self, owner: &Owner, mode: Mode) -> Task {
        Task::take(owner, Stages::One(Stage::only(&self.0, mode)))
    }
}

/// The slot of the one hold of a task that took one lock.
fn only_slot(task: Option<Task>) -> Slot {
    let Some(Task::Take(taking)) = task else { unreachable!("it took a lock") };
    taking.into_had().next().and_then(|(.., had)| had.top).expect("granted means held")
}

/// A request for a [`SharedLock`].
///
/// Named by whoever keeps one: see [`Acquire::into_owned`].
#[derive(Debug)]
pub struct AcquireLock<'a> {
    party: Party<'a>,
    mode: Mode,
}

impl<'a> Acquire<AcquireLock<'a>> {
    /// Makes the request own lock and owner, so that it, what is pending of it and its guard may outlive the borrows.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{AcquireLock, Owner, Pending, SharedLock};
    ///
    /// fn ask(lock: &SharedLock, name: &str) -> Pending<AcquireLock<'static>> {
    ///     lock.exclusive(&Owner::new(name)).into_owned().enqueue()
    /// }
    /// assert!(ask(&SharedLock::new("config"), "job-19").wait().is_ok());
    /// ```
    pub fn into_owned(self) -> Acquire<AcquireLock<'static>> {
        self.map(AcquireLock::into_owned)
    }
}

impl<'a> AcquireLock<'a> {
    pub(crate) fn into_owned(self) -> AcquireLock<'static> {
        AcquireLock { party: self.party.into_owned(), mode: self.mode }
    }

    #[inline]
    pub(super) fn new(lock: &'a SharedLock, owner: &'a Owner, mode: Mode) -> Self {
        Self { party: Party::Borrowed(lock, owner), mode }
    }

    #[cfg(feature = "coordination")]
    pub(crate) fn owner(&self) -> &Owner {
        self.party.owner()
    }

    #[cfg(feature = "coordination")]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes the lock if that needs no waiting; where the hold stands then.
    #[inline(always)]
    pub(crate) fn at_once(&self, priority: Priority) -> Option<Slot> {
        let (lock, owner) = (self.party.lock(), self.party.owner());
        let slot = owner.claim(lock.id()).ok()?;
        if take_at_once(&lock.0, self.mode, priority, owner, slot) == Tried::Taken {
            return Some(slot);
        }
        owner.clear(slot);
        None
    }

    #[inline(always)]
    pub(crate) fn guard(self, slot: Slot) -> Guard<'a> {
        let Self { party, mode } = self;
        let party = if mode == Mode::Exclusive { party.told() } else { party };
        Guard { party, slot, mode, unwinding: std::thread::panicking() }
    }
}

impl<'a> Target for AcquireLock<'a> {
    type Granted = Guard<'a>;
    type Error = AcquireError;

    #[inline(always)]
    fn immediate(self, priority: Priority) -> Result<Guard<'a>, Self> {
        match self.at_once(priority) {
            Some(slot) => Ok(self.guard(slot)),
            None => Err(self),
        }
    }

    fn prepare(&mut self, _: Patience) -> Result<Option<Task>, AcquireError> {
        Ok(Some(self.party.lock().take(self.party.owner(), self.mode)))
    }

    fn granted(self, task: Option<Task>) -> Result<Guard<'a>, AcquireError> {
        Ok(self.guard(only_slot(task)))
    }

    fn refused(self, refusal: Refusal) -> AcquireError {
        refusal.into()
    }
}

/// A request to delete a [`SharedLock`].
///
/// Only ever named by the compiler, so without an example of its own: see [`SharedLock::delete`].
#[derive(Debug)]
pub struct DeleteLock<'a> {
    lock: &'a SharedLock,
    owner: &'a Owner,
}

impl<'a> DeleteLock<'a> {
    pub(super) fn new(lock: &'a SharedLock, owner: &'a Owner) -> Self {
        Self { lock, owner }
    }
}

impl Target for DeleteLock<'_> {
    type Granted = ();
    type Error = AcquireError;

    fn prepare(&mut self, _: Patience) -> Result<Option<Task>, AcquireError> {
        Ok(Some(self.lock.take(self.owner, Mode::Exclusive)))
    }

    fn granted(self, task: Option<Task>) -> Result<(), AcquireError> {
        let mut decisions = Vec::new();
        let (lock, slot) = (Arc::clone(&self.lock.0), only_slot(task));
        Hold { lock, mode: Mode::Exclusive, slot }.delete(self.owner, &mut decisions);
        dispatch(decisions);
        Ok(())
    }

    fn refused(self, refusal: Refusal) -> AcquireError {
        refusal.into()
    }
}

/// A request to hold a [`SharedLock`] in a stronger mode.
///
/// Only ever named by the compiler, so without an example of its own: see [`Guard::upgrade_to`].
#[derive(Debug)]
pub struct UpgradeLock<'g, 'a> {
    guard: &'g mut Guard<'a>,
    to: Mode,
    /// The guard's, while the request is under way.
    slot: Slot,
}

impl<'g, 'a> UpgradeLock<'g, 'a> {
    pub(super) fn new(guard: &'g mut Guard<'a>, to: Mode) -> Self {
        Self { guard, to, slot: GONE }
    }

    #[cfg(feature = "coordination")]
    pub(crate) fn owner(&self) -> &Owner {
        self.guard.party.owner()
    }

    #[cfg(feature = "coordination")]
    pub(crate) fn held(&self) -> Mode {
        self.guard.mode
    }

    #[cfg(feature = "coordination")]
    pub(crate) fn wanted(&self) -> Mode {
        self.to
    }

    fn return_slot(&mut self) {
        if self.slot != GONE {
            self.guard.slot = std::mem::replace(&mut self.slot, GONE);
        }
    }

    /// An earlier upgrade of this guard was forgotten while it waited, and waits on.
    fn asks_already(&self) -> AcquireError {
        let Guard { party, mode, .. } = &*self.guard;
        let owner = Arc::clone(party.owner().name_arc());
        let lock = party.lock().name().clone();
        AcquireError::AlreadyHeld { owner, lock, wanted: self.to, held: Some(*mode) }
    }
}

impl Target for UpgradeLock<'_, '_> {
    type Granted = ();
    type Error = UpgradeError;

    fn prepare(&mut self, _: Patience) -> Result<Option<Task>, UpgradeError> {
        if self.guard.mode == self.to {
            return Ok(None);
        }
        let hold = self.guard.hold();
        if hold.slot == GONE {
            return Err(self.asks_already().into());
        }
        // The guard has it back with the outcome. If that is never taken, since the request was forgotten, the guard holds
        // nothing that it could give back a second time.
        self.guard.slot = GONE;
        self.slot = hold.slot;
        Ok(Some(Task::Convert(Conversion::new(self.guard.party.owner(), hold, self.to))))
    }

    fn undo(&mut self) {
        self.return_slot();
    }

    fn granted(mut self, _: Option<Task>) -> Result<(), UpgradeError> {
        self.return_slot();
        self.guard.mode = self.to;
        if self.to == Mode::Exclusive {
            self.guard.party = self.guard.party.clone().told();
        }
        Ok(())
    }

    fn refused(self, refusal: Refusal) -> UpgradeError {
        refusal.into()
    }
}
