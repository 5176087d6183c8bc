//! What is asked of a lock by itself: to have it, to delete it, to hold it in a stronger mode.

use std::borrow::Cow;
use std::sync::Arc;

use super::{GONE, Guard, SharedLock};
use crate::acquire::Acquire;
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::{AcquireError, UpgradeError};
use crate::hold::{Hold, dispatch};
use crate::owner::{Owner, Slot};
use crate::raw::Tried;
use crate::target::{Patience, Target};
use crate::task::{Conversion, Members, Refusal, Stage, Task};

impl SharedLock {
    fn take(&self, owner: &Owner, mode: Mode) -> Task {
        let members = Members::Exactly(vec![Arc::clone(&self.0)]);
        Task::take(owner, vec![Stage { top: None, members, mode, directory: None }])
    }
}

/// The one hold of a task that took one lock.
fn only_hold(task: Option<Task>) -> Hold {
    let Some(Task::Take(taking)) = task else { unreachable!("it took a lock") };
    let mut had = taking.into_had();
    had.pop().and_then(|mut had| had.members.pop()).expect("granted means held")
}

/// A request for a [`SharedLock`].
///
/// Named by whoever keeps one: see [`Acquire::into_owned`].
#[derive(Debug)]
pub struct AcquireLock<'a> {
    lock: Cow<'a, SharedLock>,
    owner: Cow<'a, Owner>,
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
        self.map(|AcquireLock { lock, owner, mode }| AcquireLock {
            lock: Cow::Owned(lock.into_owned()),
            owner: Cow::Owned(owner.into_owned()),
            mode,
        })
    }
}

impl<'a> AcquireLock<'a> {
    pub(super) fn new(lock: &'a SharedLock, owner: &'a Owner, mode: Mode) -> Self {
        Self { lock: Cow::Borrowed(lock), owner: Cow::Borrowed(owner), mode }
    }

    fn guard(&self, slot: Slot) -> Guard<'a> {
        let abandoned = match self.mode {
            Mode::Exclusive => self.lock.0.take_abandoned(),
            _ => None,
        };
        Guard {
            lock: self.lock.clone(),
            owner: self.owner.clone(),
            mode: self.mode,
            slot,
            unwinding: std::thread::panicking(),
            abandoned,
        }
    }
}

impl<'a> Target for AcquireLock<'a> {
    type Granted = Guard<'a>;
    type Error = AcquireError;

    fn immediate(&mut self, priority: Priority) -> Option<Guard<'a>> {
        let id = self.lock.id();
        let slot = self.owner.claim(id).ok()?;
        if self.lock.0.try_take(self.mode, priority) == Tried::Taken {
            self.owner.record_hold(slot, id, self.mode);
            Some(self.guard(slot))
        } else {
            self.owner.clear(slot);
            None
        }
    }

    fn prepare(&mut self, _: Patience) -> Result<Option<Task>, AcquireError> {
        Ok(Some(self.lock.take(&self.owner, self.mode)))
    }

    fn granted(self, task: Option<Task>) -> Result<Guard<'a>, AcquireError> {
        Ok(self.guard(only_hold(task).slot))
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
        only_hold(task).delete(self.owner, &mut decisions);
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

    fn return_slot(&mut self) {
        if self.slot != GONE {
            self.guard.slot = std::mem::replace(&mut self.slot, GONE);
        }
    }

    /// An earlier upgrade of this guard was forgotten while it waited, and waits on.
    fn asks_already(&self) -> AcquireError {
        let Guard { owner, lock, mode, .. } = &*self.guard;
        let owner = Arc::clone(owner.name_arc());
        let lock = lock.name().clone();
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
        Ok(Some(Task::Convert(Conversion::new(&self.guard.owner, hold, self.to))))
    }

    fn undo(&mut self) {
        self.return_slot();
    }

    fn granted(mut self, _: Option<Task>) -> Result<(), UpgradeError> {
        self.return_slot();
        self.guard.mode = self.to;
        if self.to == Mode::Exclusive
            && let Some(by) = self.guard.lock.0.take_abandoned()
        {
            self.guard.abandoned = Some(by);
        }
        Ok(())
    }

    fn refused(self, refusal: Refusal) -> UpgradeError {
        refusal.into()
    }
}
