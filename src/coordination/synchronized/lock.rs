//! One lock of an agent.

use std::fmt;
use std::sync::Arc;

use super::holds::{Held, Hold, Holds};
use super::{Blocking, Coordinator, SynchronizedError};
use crate::coordination::{ClusterLock, HeldBy};
use crate::core::mode::Mode;
use crate::error::{Abandoned, AcquireError, CoordinationError};
use crate::owner::{LockId, Owner, Record};
use crate::template::{Data, Template};

/// A lock by name, shared with the other agents.
///
/// It is held once at a time, by whatever thread; so it can be acquired in one thread and released in another. Two locks of one name
/// are two, and exclude each other. Dropping it gives back what it holds.
///
/// # Examples
/// ```
/// use tierlock::Mode;
/// use tierlock::coordination::{self, synchronized::{Coordinator, Lock}};
/// use tierlock::template::Data;
///
/// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
/// coordinator.start()?;
/// let lock = Lock::new("share-{id}", &Data::new().with("id", 7), &coordinator)?;
/// assert!(lock.acquire(true, Mode::Exclusive)?);
/// assert!(lock.is_still_owner());
/// assert!(lock.release());
/// assert!(!lock.release());
/// # Ok::<(), tierlock::Error>(())
/// ```
pub struct Lock {
    lock: ClusterLock,
    /// As which it asks. Not the owner who acquires, since it may be handed on.
    owner: Owner,
    holds: Arc<Holds>,
}

impl Lock {
    /// A lock whose name is made of a template and data, behind the coordinator's prefix.
    ///
    /// # Errors
    /// [`Template`](SynchronizedError::Template) if no name can be made;
    /// [`LockCreationFailed`](SynchronizedError::LockCreationFailed) as [`Coordinator::get_lock`]. Nothing was asked for then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::{Coordinator, Lock, SynchronizedError}};
    /// # use tierlock::template::Data;
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// coordinator.start()?;
    /// let nothing = Data::new().with("share_id", None::<u32>);
    /// let error = Lock::new("share-{share_id}", &nothing, &coordinator).unwrap_err();
    /// assert_eq!(error.to_string(), "{share_id} in share-{share_id}: its value is empty");
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn new(
        template: &str,
        data: &Data,
        coordinator: &Coordinator,
    ) -> Result<Self, SynchronizedError> {
        coordinator.get_lock(&Template::parse(template)?.format(data)?)
    }

    pub(super) fn over(lock: ClusterLock, holds: Arc<Holds>) -> Self {
        Self { lock, owner: Owner::new(Owner::current().name()), holds }
    }

    /// Its name, prefix and all.
    ///
    /// # Examples
    /// See [`Coordinator::prefix`].
    #[must_use]
    pub fn name(&self) -> &str {
        self.lock.name().name()
    }

    /// Takes the lock in `mode` and tells whether it is held: false if somebody has it, for as long as this was willing to wait.
    /// This lock having it already is somebody.
    ///
    /// # Errors
    /// [`LockAcquireFailed`](SynchronizedError::LockAcquireFailed) if it would wait for ever for what this lock or the current
    /// owner holds, be it by another lock of this agent, an annotated function or [`cluster_lock`](Self::cluster_lock). [`Coordination`](SynchronizedError::Coordination) if the engine cannot be asked or the agent is lost.
    ///
    /// # Cancel safety
    /// It blocks the thread. What is to be awaited goes by [`cluster_lock`](Self::cluster_lock), or
    /// `#[ssynchronized("..", in = coordinator)]`.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// # coordinator.start()?;
    /// let (one, two) = (coordinator.get_lock("share-7")?, coordinator.get_lock("share-7")?);
    /// assert!(one.acquire(true, Mode::Shared)?);
    /// assert!(two.acquire(true, Mode::Shared)?);
    /// two.release();
    /// assert!(!two.acquire(Duration::from_millis(5), Mode::Exclusive)?);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn acquire(
        &self,
        blocking: impl Into<Blocking>,
        mode: Mode,
    ) -> Result<bool, SynchronizedError> {
        let blocking = blocking.into();
        match self.take(blocking, mode) {
            Ok(()) => Ok(true),
            Err(SynchronizedError::LockAcquireFailed(error)) if was_in_use(&error, blocking) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn take(&self, blocking: Blocking, mode: Mode) -> Result<(), SynchronizedError> {
        let by = Owner::current();
        if self.holds.any(self.name()) {
            // Else it could be shared with one that was broken. An engine that cannot be reached is no news of that.
            let _ = self.lock.resource().settle(true);
        }
        let request = self.lock.acquire(&self.owner, mode);
        let guard = match blocking {
            Blocking::No => request.now(),
            Blocking::For(time) => request.timeout(time).wait(),
            Blocking::Yes => match self.held_by(&by) {
                None => request.wait(),
                Some(held) => request.now().map_err(|error| self.own(error, &by, mode, held)),
            },
        }?;
        let hold = Hold::new(self.owner.clone(), by, self.lock.resource(), guard.into_owned());
        hold.and_then(|hold| self.holds.keep(hold)).map_err(|reason| {
            AcquireError::Coordination {
                owner: self.owner.name().into(),
                lock: self.lock.name().clone(),
                wanted: mode,
                reason: Box::new(reason),
            }
            .into()
        })
    }

    /// The mode in which an owner holds the lock: by a lock of this agent, or by itself, as annotated functions do.
    fn held_by(&self, by: &Owner) -> Option<Mode> {
        let itself = || by.record(LockId::of(self.lock.resource().lock())).and_then(Record::held);
        self.holds.held_by(self.name(), by).or_else(itself)
    }

    fn held(&self) -> Option<Arc<Held>> {
        self.holds.held(self.name(), &self.owner)
    }

    /// Says that who asks is who is in the way.
    fn own(&self, error: AcquireError, by: &Owner, wanted: Mode, held: Mode) -> AcquireError {
        match error {
            AcquireError::WouldBlock { .. } => already_held(&self.lock, by, wanted, held),
            error => error,
        }
    }

    /// Gives the lock back, and tells whether it was held until now: not if it was not acquired, or was broken or lost.
    ///
    /// An engine that cannot be reached hears of it later.
    ///
    /// # Examples
    /// See [`Lock`].
    pub fn release(&self) -> bool {
        let Some(guard) = self.holds.take(self.name(), &self.owner) else { return false };
        guard.release().unwrap_or_else(|error| {
            tracing::warn!(lock = %self.lock.name(), %error, "will be given back later");
            !error.is_lost()
        })
    }

    /// Tells whether the lock is held by this one still: the engine is asked, or, if it cannot be reached, what was known last
    /// and is true until the agent's time is up.
    ///
    /// # Examples
    /// See [`Lock::break_lock`].
    #[must_use]
    pub fn is_still_owner(&self) -> bool {
        if !self.acquired() {
            return false;
        }
        match self.lock.resource().settle(true) {
            // A copy of the process, whose clock says nothing of that, is told so only here.
            Err(error) if error.is_lost() => false,
            _ => self.acquired(),
        }
    }

    /// Tells whether the lock was acquired, and neither released nor lost since, by what is known here.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// # coordinator.start()?;
    /// let lock = coordinator.get_lock("share-7")?;
    /// assert!(!lock.acquired());
    /// lock.with(true, Mode::Exclusive, || assert!(lock.acquired()))?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn acquired(&self) -> bool {
        self.held().is_some_and(|held| held.check().is_ok())
    }

    /// The fencing token of this hold: greater than those of all before it. `None` if the lock is not held, or is lost.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// # coordinator.start()?;
    /// let lock = coordinator.get_lock("share-7")?;
    /// let first = lock.with(true, Mode::Exclusive, || lock.token())?;
    /// let second = lock.with(true, Mode::Exclusive, || lock.token())?;
    /// assert!(first.is_some() && first < second);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn token(&self) -> Option<u64> {
        let held = self.held()?;
        let token = held.token().ok()?;
        // If it was given back meanwhile, it may be the token of whoever has the lock now.
        self.held().is_some_and(|now| Arc::ptr_eq(&now, &held)).then_some(token)
    }

    /// Who had the lock exclusively before and ended without giving it back; see
    /// [`ClusterGuard::abandoned`](crate::coordination::ClusterGuard::abandoned).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// # coordinator.start()?;
    /// let (lost, next) = (coordinator.get_lock("share-7")?, coordinator.get_lock("share-7")?);
    /// lost.acquire(true, Mode::Exclusive)?;
    /// next.break_lock()?;
    /// next.acquire(true, Mode::Exclusive)?;
    /// assert!(next.abandoned().is_some());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn abandoned(&self) -> Option<Abandoned> {
        self.held()?.abandoned.clone()
    }

    /// Takes the lock from whoever has it, and returns who that was: an administrative act.
    ///
    /// Whoever is next in line gets it. Those it was taken from are not told before they ask: their
    /// [`is_still_owner`](Self::is_still_owner) and [`release`](Self::release) are false.
    ///
    /// # Errors
    /// As of any request to the coordinator.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// # coordinator.start()?;
    /// let (stale, next) = (coordinator.get_lock("share-7")?, coordinator.get_lock("share-7")?);
    /// stale.acquire(true, Mode::Exclusive)?;
    /// assert_eq!(next.break_lock()?.len(), 1);
    /// assert!(next.acquire(false, Mode::Exclusive)?);
    /// assert!(!stale.is_still_owner() && !stale.release());
    /// assert!(next.is_still_owner());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn break_lock(&self) -> Result<Vec<HeldBy>, CoordinationError> {
        self.lock.break_lock()
    }

    /// Holds the lock as long as the guard is there.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`LockAcquireFailed`](SynchronizedError::LockAcquireFailed) where that is false.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// # coordinator.start()?;
    /// let lock = coordinator.get_lock("share-7")?;
    /// let guard = lock.guard(true, Mode::Exclusive)?;
    /// assert!(lock.guard(false, Mode::Exclusive).is_err());
    /// drop(guard);
    /// assert!(!lock.acquired());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn guard(
        &self,
        blocking: impl Into<Blocking>,
        mode: Mode,
    ) -> Result<LockGuard<'_>, SynchronizedError> {
        self.take(blocking.into(), mode)?;
        Ok(LockGuard(self))
    }

    /// Holds the lock while `work` runs; it is given back also if that panics.
    ///
    /// # Errors
    /// As [`guard`](Self::guard); `work` did not run then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// # coordinator.start()?;
    /// let lock = coordinator.get_lock("share-7")?;
    /// assert_eq!(lock.with(true, Mode::Shared, || 17)?, 17);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn with<R>(
        &self,
        blocking: impl Into<Blocking>,
        mode: Mode,
        work: impl FnOnce() -> R,
    ) -> Result<R, SynchronizedError> {
        let _guard = self.guard(blocking, mode)?;
        Ok(work())
    }

    /// The lock that this is a name for: to be awaited, upgraded or looked at. What is acquired there is not held by this one.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// # coordinator.start()?;
    /// let lock = coordinator.get_lock("share-7")?;
    /// lock.with(true, Mode::Shared, || {
    ///     assert_eq!(lock.cluster_lock().holders().unwrap()[0].mode, Mode::Shared);
    /// })?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn cluster_lock(&self) -> &ClusterLock {
        &self.lock
    }
}

/// Tells whether there was no more to it than that somebody had the lock.
fn was_in_use(error: &AcquireError, blocking: Blocking) -> bool {
    match error {
        AcquireError::TimedOut { .. } | AcquireError::WouldBlock { .. } => true,
        AcquireError::AlreadyHeld { .. } => blocking != Blocking::Yes,
        _ => false,
    }
}

pub(super) fn already_held(
    lock: &ClusterLock,
    by: &Owner,
    wanted: Mode,
    held: Mode,
) -> AcquireError {
    let (owner, lock) = (Arc::clone(by.name_arc()), lock.name().clone());
    AcquireError::AlreadyHeld { owner, lock, wanted, held: Some(held) }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.holds.take(self.name(), &self.owner));
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &format_args!("{}", self.lock.name()))
            .field("acquired", &self.acquired())
            .finish_non_exhaustive()
    }
}

/// A [`Lock`] held; dropping it gives it back.
///
/// # Examples
/// See [`Lock::guard`].
#[derive(Debug)]
#[must_use = "dropping a guard gives the lock back"]
pub struct LockGuard<'l>(&'l Lock);

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        drop(self.0.holds.take(self.0.name(), &self.0.owner));
    }
}
