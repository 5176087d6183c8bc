//! One lock by itself.

mod asked;
mod party;

use std::fmt;
use std::sync::Arc;

use crate::acquire::Acquire;
use crate::core::mode::Mode;
use crate::error::{Abandoned, HoldError};
use crate::hold::{Hold, Lock, dispatch, release};
use crate::name::LockName;
use crate::owner::{LockId, Owner, Slot};

pub use self::asked::{AcquireLock, DeleteLock, UpgradeLock};
use self::party::Party;

/// A named lock: shared by many or held by one, granted by priority, then by arrival.
///
/// It guards a name, not data: what it means to hold `config` is yours to say. Cheap to clone: clones are the same lock.
///
/// Nobody overtakes: a request is granted at once only if it is compatible with what is held and nothing as urgent waits. A
/// lock given back is *handed over*: the waiter woken owns it already. That keeps the order strict and costs a wake-up for each
/// transfer; for sections of a few hundred nanoseconds, use a plain mutex.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{Mode, Owner, SharedLock};
///
/// let lock = SharedLock::new("config");
/// let owner = Owner::new("job-19");
/// let mut guard = lock.acquire(&owner, Mode::Exclusive).timeout(Duration::from_secs(30)).wait()?;
/// guard.downgrade();
/// assert_eq!(lock.mode(), Some(Mode::Shared));
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[derive(Clone)]
pub struct SharedLock(Arc<Lock>);

impl SharedLock {
    /// Makes a lock called `name`, which nobody holds. Two locks of one name are two locks.
    ///
    /// # Examples
    /// ```
    /// let lock = tierlock::SharedLock::new("config");
    /// ```
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Lock::new(LockName::alone(name.into()))))
    }

    /// The name given.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::SharedLock::new("config").name().to_string(), "config");
    /// ```
    #[must_use]
    pub fn name(&self) -> &LockName {
        self.0.name()
    }

    /// Asks for the lock.
    ///
    /// # Errors
    /// [`AlreadyHeld`](crate::AcquireError::AlreadyHeld), [`Deleted`](crate::AcquireError::Deleted), [`WouldBlock`](crate::AcquireError::WouldBlock)
    /// from `now()`, [`TimedOut`](crate::AcquireError::TimedOut) from `wait()`.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.acquire(&owner, Mode::Shared).wait()?;
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[inline]
    pub fn acquire<'a>(&'a self, owner: &'a Owner, mode: Mode) -> Acquire<AcquireLock<'a>> {
        Acquire::new(AcquireLock::new(self, owner, mode))
    }

    /// Asks for the lock in [`Mode::Shared`]; see [`acquire`](Self::acquire).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.shared(&owner).wait()?;
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[inline]
    pub fn shared<'a>(&'a self, owner: &'a Owner) -> Acquire<AcquireLock<'a>> {
        self.acquire(owner, Mode::Shared)
    }

    /// Asks for the lock in [`Mode::Exclusive`]; see [`acquire`](Self::acquire).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.exclusive(&owner).wait()?;
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[inline]
    pub fn exclusive<'a>(&'a self, owner: &'a Owner) -> Acquire<AcquireLock<'a>> {
        self.acquire(owner, Mode::Exclusive)
    }

    /// Asks to delete the lock: takes it exclusively first, by the rules of any request; then every pending and later request
    /// fails with [`Deleted`](crate::AcquireError::Deleted). A holder deletes by [`Guard::delete`].
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); the lock lives on then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{AcquireError, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// lock.delete(&owner).wait()?;
    /// assert!(matches!(lock.shared(&owner).now(), Err(AcquireError::Deleted { .. })));
    /// # Ok::<(), AcquireError>(())
    /// ```
    pub fn delete<'a>(&'a self, owner: &'a Owner) -> Acquire<DeleteLock<'a>> {
        Acquire::new(DeleteLock::new(self, owner))
    }

    /// Tells whether the lock was deleted, which is for good.
    ///
    /// # Examples
    /// ```
    /// assert!(!tierlock::SharedLock::new("config").is_deleted());
    /// ```
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.0.is_deleted()
    }

    /// The strongest mode in which somebody holds the lock at this moment.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::SharedLock::new("config").mode(), None);
    /// ```
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.0.held().mode()
    }

    /// Tells whether `owner` holds the lock in exactly this mode; for "at least", compare
    /// [`Owner::holds`] by [`Mode::covers`].
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.exclusive(&owner).wait()?;
    /// assert!(lock.is_held_by(&owner, Mode::Exclusive));
    /// assert!(!lock.is_held_by(&owner, Mode::Shared));
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn is_held_by(&self, owner: &Owner, mode: Mode) -> bool {
        owner.holds(self) == Some(mode)
    }

    #[inline]
    pub(crate) fn id(&self) -> LockId {
        LockId::of(&self.0)
    }

    #[cfg(feature = "coordination")]
    pub(crate) fn of(lock: Arc<Lock>) -> Self {
        Self(lock)
    }

    pub(crate) fn raw(&self) -> &Arc<Lock> {
        &self.0
    }
}

impl Owner {
    /// The mode in which this owner holds `lock`, if it does.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Owner, SharedLock};
    /// assert_eq!(Owner::new("job-19").holds(&SharedLock::new("config")), None);
    /// ```
    #[must_use]
    pub fn holds(&self, lock: &SharedLock) -> Option<Mode> {
        self.record(lock.id())?.held()
    }
}

impl fmt::Debug for SharedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLock")
            .field("name", &format_args!("{}", self.name()))
            .field("held", &self.0.held())
            .finish()
    }
}

/// A lock held; dropping it gives the lock back, on whatever thread.
///
/// Borrows lock and owner, or owns them as `Guard<'static>`: see [`into_owned`](Self::into_owned).
///
/// # Examples
/// ```
/// # use tierlock::{Mode, Owner, SharedLock};
/// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
/// let guard = lock.exclusive(&owner).wait()?.into_owned();
/// std::thread::spawn(move || drop(guard)).join().unwrap();
/// assert_eq!(lock.mode(), None);
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a guard gives the lock back"]
pub struct Guard<'a> {
    party: Party<'a>,
    slot: Slot,
    mode: Mode,
    /// Taken while a panic unwound already: then a panic says nothing of this hold.
    unwinding: bool,
}

impl<'a> Guard<'a> {
    /// The mode in which the lock is held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// assert_eq!(lock.shared(&owner).wait()?.mode(), Mode::Shared);
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The lock held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// assert_eq!(lock.shared(&owner).wait()?.lock().name().name(), "config");
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn lock(&self) -> &SharedLock {
        self.party.lock()
    }

    /// Who held the lock last, if that owner panicked while it held it exclusively. Told once, to an exclusive holder.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// assert!(lock.exclusive(&owner).wait()?.abandoned().is_none());
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn abandoned(&self) -> Option<Abandoned> {
        let owner = Arc::clone(self.party.abandoned()?);
        Some(Abandoned { lock: self.lock().name().clone(), owner })
    }

    /// Goes on in [`Mode::Shared`], or in the mode held if that is not stronger.
    ///
    /// From exclusive, the shared requests of the most urgent pending priority go along, even past exclusive ones of that
    /// priority that came first.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let mut guard = lock.exclusive(&owner).wait()?;
    /// guard.downgrade();
    /// assert_eq!(guard.mode(), Mode::Shared);
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    pub fn downgrade(&mut self) {
        if self.mode.covers(Mode::Shared) {
            self.weaken(Mode::Shared);
        }
    }

    /// Goes on in a weaker mode.
    ///
    /// # Errors
    /// [`NotWeaker`](HoldError::NotWeaker) if the mode held does not cover the one asked for.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let mut guard = lock.exclusive(&owner).wait()?;
    /// guard.downgrade_to(Mode::IntentShared)?;
    /// assert!(guard.downgrade_to(Mode::Shared).is_err());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn downgrade_to(&mut self, mode: Mode) -> Result<(), HoldError> {
        if self.mode.covers(mode) {
            self.weaken(mode);
            return Ok(());
        }
        Err(HoldError::NotWeaker {
            owner: Arc::clone(self.party.owner().name_arc()),
            lock: self.lock().name().clone(),
            held: self.mode,
            wanted: mode,
        })
    }

    /// Asks to go on in [`Mode::Exclusive`]; see [`upgrade_to`](Self::upgrade_to).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let mut guard = lock.shared(&owner).wait()?;
    /// guard.upgrade().wait()?;
    /// assert_eq!(guard.mode(), Mode::Exclusive);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn upgrade(&mut self) -> Acquire<UpgradeLock<'_, 'a>> {
        self.upgrade_to(Mode::Exclusive)
    }

    /// Asks to go on in the least mode that covers both the one held and `mode`.
    ///
    /// An upgrade goes before everything pending, since its owner stands in their way. While it waits the lock stays held as it
    /// is, and it stays so if the upgrade is refused.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::UpgradeError::WouldDeadlock) at once if another holder waits to upgrade and each would wait for the
    /// other. [`WouldBlock`](crate::AcquireError::WouldBlock) from `now()`, [`TimedOut`](crate::AcquireError::TimedOut) from `wait()`.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let mut guard = lock.shared(&owner).wait()?;
    /// guard.upgrade_to(Mode::IntentExclusive).now()?;
    /// assert_eq!(guard.mode(), Mode::SharedIntentExclusive);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn upgrade_to(&mut self, mode: Mode) -> Acquire<UpgradeLock<'_, 'a>> {
        let to = self.mode.join(mode);
        Acquire::new(UpgradeLock::new(self, to))
    }

    /// Deletes the lock, which has to be held exclusively; every pending and later request fails with
    /// [`Deleted`](crate::AcquireError::Deleted).
    ///
    /// # Errors
    /// The guard, unharmed, if the lock is not held exclusively.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.shared(&owner).wait()?;
    /// let mut guard = guard.delete().unwrap_err();
    /// guard.upgrade().now().unwrap();
    /// guard.delete().unwrap();
    /// assert!(lock.is_deleted());
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[allow(clippy::result_large_err, reason = "the guard is what the caller goes on with")]
    pub fn delete(mut self) -> Result<(), Self> {
        if self.mode != Mode::Exclusive || self.slot == GONE {
            return Err(self);
        }
        let mut decisions = Vec::new();
        self.hold().delete(self.party.owner(), &mut decisions);
        // Dropping it would release a lock that is gone.
        self.slot = GONE;
        dispatch(decisions);
        Ok(())
    }

    /// Makes the guard own lock and owner, so that it may outlive the borrows.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Guard, Owner, SharedLock};
    /// fn hold(name: &str) -> Guard<'static> {
    ///     let (lock, owner) = (SharedLock::new(name), Owner::new("job-19"));
    ///     let guard = lock.exclusive(&owner).now().unwrap();
    ///     guard.into_owned()
    /// }
    /// assert_eq!(hold("config").lock().name().name(), "config");
    /// ```
    pub fn into_owned(mut self) -> Guard<'static> {
        let slot = std::mem::replace(&mut self.slot, GONE);
        let party = self.party.clone().into_owned();
        Guard { party, slot, mode: self.mode, unwinding: self.unwinding }
    }

    #[cfg(feature = "coordination")]
    pub(crate) fn owner(&self) -> &Owner {
        self.party.owner()
    }

    fn weaken(&mut self, mode: Mode) {
        if self.slot == GONE {
            return;
        }
        let mut decisions = Vec::new();
        self.hold().downgrade(self.party.owner(), mode, &mut decisions);
        self.mode = mode;
        dispatch(decisions);
    }

    /// The hold as the layers below know it.
    fn hold(&self) -> Hold {
        Hold { lock: Arc::clone(&self.lock().0), mode: self.mode, slot: self.slot }
    }
}

/// Marks a lock as abandoned, by a panic in the middle of what its exclusive holder did.
#[cold]
fn abandon(lock: &SharedLock, owner: &Owner) {
    lock.0.abandon(owner.name_arc());
}

/// The slot of a guard that holds nothing: its lock was deleted, another guard has it, or an upgrade has it and was forgotten.
const GONE: Slot = Slot::MAX;

impl Drop for Guard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.slot == GONE {
            return;
        }
        let (lock, owner) = (self.party.lock(), self.party.owner());
        if self.mode == Mode::Exclusive && !self.unwinding && std::thread::panicking() {
            abandon(lock, owner);
        }
        owner.clear(self.slot);
        release(&lock.0, self.mode);
    }
}
