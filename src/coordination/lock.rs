//! One lock by itself, across processes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::resource::{Expected, Foresight, Resource, Upgrading};
use crate::acquire::Acquire;
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::core::record::{Holder, Moment, Record};
use crate::error::{Abandoned, AcquireError, CoordinationError, HoldError, UpgradeError};
use crate::name::LockName;
use crate::owner::{LockId, Owner};
use crate::shared_lock::{AcquireLock, Guard, SharedLock, UpgradeLock};
use crate::target::{Patience, Target};
use crate::task::{Refusal, Task};

/// A named lock that owners in several processes share: [`SharedLock`] across a coordination.
///
/// Made by [`Coordinator::lock`](super::Coordinator::lock). Everybody who takes part and says this name means this lock; the
/// rules are those of a lock in one process, priorities and arrival among them. Cheap to clone.
///
/// It is given back to the others as soon as no owner of this process uses it, unless it is [`cached`](Self::cached).
///
/// # Examples
/// ```
/// use tierlock::{Mode, Owner, coordination::Coordinator};
///
/// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
/// let (lock, job) = (coordinator.lock("config")?, Owner::new("job-17"));
/// let guard = lock.acquire(&job, Mode::Exclusive).wait()?;
/// assert!(guard.token()? > 0);
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone)]
pub struct ClusterLock {
    lock: SharedLock,
    resource: Arc<Resource>,
}

/// A party to the record of a lock, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBy {
    /// The member, with its host and process.
    pub member: super::MemberId,
    /// The owner whose request brought the lock to this member. What the member keeps, others of its owners may use by now.
    pub owner: Arc<str>,
    /// The mode that the member holds, or waits for.
    pub mode: Mode,
    /// For how long so far, in milliseconds; `None` if it waits.
    pub held_ms: Option<u64>,
    /// How long the hold lasts from now, in milliseconds, if it ends by itself.
    pub left_ms: Option<u64>,
}

impl HeldBy {
    /// Who holds what the record is of, as of now.
    fn holders_of(record: &Record, now: Moment) -> Vec<Self> {
        let held_by = |holder: &Holder| Self {
            member: holder.party.member.clone(),
            owner: Arc::clone(&holder.party.owner),
            mode: holder.mode,
            held_ms: Some(now.0.saturating_sub(holder.since.0)),
            left_ms: holder.until.map(|until| until.0.saturating_sub(now.0)),
        };
        let holders = record.holders().iter();
        let last = holders.filter(|holder| holder.until.is_none_or(|until| until > now));
        last.map(held_by).collect()
    }
}

impl ClusterLock {
    pub(crate) fn new(resource: Arc<Resource>) -> Self {
        Self { lock: SharedLock::of(Arc::clone(resource.lock())), resource }
    }

    /// Keeps what this member was granted after its use, until another member asks for it: for a lock that one member takes
    /// many times in a row, since taking it again needs no word with the engine. True for all who use it in this member.
    ///
    /// A member that dies leaves what it keeps exclusively [abandoned](ClusterGuard::abandoned), used or not: nobody can know. One
    /// that [leaves](super::Coordinator::leave) gives back what is not used.
    #[must_use]
    pub fn cached(self) -> Self {
        self.resource.cache();
        self
    }

    /// The name given.
    #[must_use]
    pub fn name(&self) -> &LockName {
        self.lock.name()
    }

    /// Asks for the lock.
    ///
    /// `now()` makes one attempt at the engine; a lock that another member keeps unused counts as held then. `wait()` goes to
    /// the engine in this thread at first; `.await` and `enqueue()` never do.
    ///
    /// # Errors
    /// As [`SharedLock::acquire`], and [`Coordination`](AcquireError::Coordination) if the member is lost, or the engine
    /// cannot be read or written.
    ///
    /// # Cancel safety
    /// As of any [`Acquire`].
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, Owner, coordination::Coordinator};
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// # let (lock, job) = (coordinator.lock("config")?, Owner::new("job-17"));
    /// let guard = lock.acquire(&job, Mode::Shared).priority(-5).wait()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[inline]
    pub fn acquire<'a>(&'a self, owner: &'a Owner, mode: Mode) -> Acquire<AcquireCluster<'a>> {
        self.lock.acquire(owner, mode).map(|local| AcquireCluster {
            local,
            resource: Cow::Borrowed(&self.resource),
            priority: None,
            expected: None,
        })
    }

    /// Asks for the lock in [`Mode::Shared`].
    #[inline]
    pub fn shared<'a>(&'a self, owner: &'a Owner) -> Acquire<AcquireCluster<'a>> {
        self.acquire(owner, Mode::Shared)
    }

    /// Asks for the lock in [`Mode::Exclusive`].
    #[inline]
    pub fn exclusive<'a>(&'a self, owner: &'a Owner) -> Acquire<AcquireCluster<'a>> {
        self.acquire(owner, Mode::Exclusive)
    }

    /// Who holds the lock, by what the engine says: members, of which each may have lent it to several owners.
    ///
    /// # Errors
    /// As of any request to the coordinator.
    pub fn holders(&self) -> Result<Vec<HeldBy>, CoordinationError> {
        let now = self.resource.member().now();
        Ok(HeldBy::holders_of(&self.resource.record()?, now))
    }

    /// Who waits for the lock, by what the engine says, in the order in which they go.
    ///
    /// # Errors
    /// As of any request to the coordinator.
    pub fn waiters(&self) -> Result<Vec<HeldBy>, CoordinationError> {
        let record = self.resource.record()?;
        let waiting = record.waiting().map(|(party, mode, _)| HeldBy {
            member: party.member.clone(),
            owner: Arc::clone(&party.owner),
            mode,
            held_ms: None,
            left_ms: None,
        });
        Ok(waiting.collect())
    }

    /// Takes the lock from whoever holds it: an administrative act. Their next use of it fails with
    /// [`Broken`](CoordinationError::Broken), and if it was exclusive the next holder is told that it was abandoned.
    ///
    /// Returns whom it was taken from.
    ///
    /// # Errors
    /// As of any request to the coordinator.
    pub fn break_lock(&self) -> Result<Vec<HeldBy>, CoordinationError> {
        let now = self.resource.member().now();
        let broken = self.resource.update(|record| {
            // In one step, so that whoever came meanwhile is among them, or keeps it.
            let broken = HeldBy::holders_of(record, now);
            broken.iter().for_each(|held| record.dispossess(&held.member, now));
            Ok(broken)
        })?;
        self.resource.settle(true)?;
        Ok(broken)
    }

    pub(crate) fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }
}

impl fmt::Debug for ClusterLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterLock").field(&self.resource).finish()
    }
}

/// A request for a [`ClusterLock`].
///
/// Named by whoever keeps one: see [`Acquire::into_owned`].
#[derive(Debug)]
pub struct AcquireCluster<'a> {
    local: AcquireLock<'a>,
    resource: Cow<'a, Arc<Resource>>,
    /// Known if this thread may go to the engine.
    priority: Option<Priority>,
    /// Kept until the outcome is there.
    expected: Option<Expected>,
}

impl<'a> Acquire<AcquireCluster<'a>> {
    /// Makes the request own lock and owner, so that it, what is pending of it and its guard may outlive the borrows.
    pub fn into_owned(self) -> Acquire<AcquireCluster<'static>> {
        self.map(|AcquireCluster { local, resource, priority, expected }| {
            let (local, resource) = (local.into_owned(), Cow::Owned(resource.into_owned()));
            AcquireCluster { local, resource, priority, expected }
        })
    }
}

/// Why `owner` is not granted what it wants, as the coordinator says.
fn refusal(
    owner: &Owner,
    lock: &LockName,
    wanted: Mode,
    reason: CoordinationError,
) -> AcquireError {
    let (owner, lock) = (Arc::clone(owner.name_arc()), lock.clone());
    AcquireError::Coordination { owner, lock, wanted, reason: Box::new(reason) }
}

impl AcquireCluster<'_> {
    fn refusal(&self, reason: CoordinationError) -> AcquireError {
        let name = self.resource.lock().name();
        refusal(self.local.owner(), name, self.local.mode(), reason)
    }
}

impl<'a> Target for AcquireCluster<'a> {
    type Granted = ClusterGuard<'a>;
    type Error = AcquireError;

    #[inline(always)]
    fn immediate(self, priority: Priority) -> Result<ClusterGuard<'a>, Self> {
        // What is lost from here on is lost to the hold.
        if let Some(mark) = self.resource.mark_at_once()
            && let Some(slot) = self.local.at_once(priority)
        {
            let Self { local, resource, .. } = self;
            return Ok(ClusterGuard::new(local.guard(slot), resource, mark));
        }
        Err(Self { priority: Some(priority), ..self })
    }

    fn prepare(&mut self, patience: Patience) -> Result<Option<Task>, AcquireError> {
        let owner = self.local.owner();
        if patience != Patience::Waits
            && let Some(priority) = self.priority
            && owner.record(LockId::of(self.resource.lock())).is_none()
        {
            let foresight = Foresight {
                mode: self.local.mode(),
                from: None,
                priority,
                owner: Arc::clone(owner.name_arc()),
                waits: patience == Patience::Blocks,
            };
            let expected = self.resource.foresee(foresight);
            self.expected = Some(expected.map_err(|error| self.refusal(error))?);
        } else {
            self.resource.member().check().map_err(|error| self.refusal(error))?;
        }
        self.local.prepare(patience)
    }

    fn undo(&mut self) {
        // What was granted and not taken is not used here any more, of which the lock by itself tells nobody.
        self.resource.ring();
    }

    fn granted(self, task: Option<Task>) -> Result<ClusterGuard<'a>, AcquireError> {
        let Self { local, resource, expected, .. } = self;
        let guard = local.granted(task)?;
        if let Some(expected) = expected {
            expected.fulfil();
        }
        let mark = resource.hold_mark();
        let guard = ClusterGuard::new(guard, resource, *mark.as_ref().unwrap_or(&0));
        match mark {
            Ok(_) => Ok(guard),
            Err(reason) => {
                let owner = guard.guard().owner();
                Err(refusal(owner, guard.name(), guard.mode(), reason))
            }
        }
    }

    fn refused(self, refusal: Refusal) -> AcquireError {
        self.local.refused(refusal)
    }
}

/// A request to hold a [`ClusterLock`] in a stronger mode.
///
/// Only ever named by the compiler: see [`ClusterGuard::upgrade_to`].
#[derive(Debug)]
pub struct UpgradeCluster<'g, 'a> {
    local: UpgradeLock<'g, 'a>,
    resource: Arc<Resource>,
    mark: u64,
    /// Kept until the outcome is there.
    upgrading: Option<Upgrading>,
    expected: Option<Expected>,
}

impl UpgradeCluster<'_, '_> {
    fn refusal(&self, reason: CoordinationError) -> UpgradeError {
        let (owner, wanted) = (Arc::clone(self.local.owner().name_arc()), self.local.wanted());
        let lock = self.resource.lock().name().clone();
        AcquireError::Coordination { owner, lock, wanted, reason: Box::new(reason) }.into()
    }

    /// Has what is only tried granted to this member, if that can be done at once.
    fn foresee(&self) -> Result<Expected, UpgradeError> {
        let foresight = Foresight {
            mode: self.local.wanted(),
            from: Some(self.local.held()),
            priority: 0,
            owner: Arc::clone(self.local.owner().name_arc()),
            waits: false,
        };
        self.resource.foresee(foresight).map_err(|error| self.refusal(error))
    }
}

impl Target for UpgradeCluster<'_, '_> {
    type Granted = ();
    type Error = UpgradeError;

    fn prepare(&mut self, patience: Patience) -> Result<Option<Task>, UpgradeError> {
        self.resource.check(self.mark).map_err(|error| self.refusal(error))?;
        self.upgrading = Some(self.resource.hold_off());
        if patience == Patience::Tries {
            self.expected = Some(self.foresee()?);
        }
        self.local.prepare(patience)
    }

    fn undo(&mut self) {
        self.local.undo();
    }

    fn granted(mut self, task: Option<Task>) -> Result<(), UpgradeError> {
        let lost = self.resource.check(self.mark).map_err(|error| self.refusal(error));
        self.local.granted(task)?;
        if let Some(expected) = self.expected.take() {
            expected.fulfil();
        }
        lost
    }

    fn refused(self, refusal: Refusal) -> UpgradeError {
        self.local.refused(refusal)
    }
}

/// A [`ClusterLock`] held; dropping it gives it back, and to the other members unless it is cached.
///
/// Borrows lock and owner, or owns them as `ClusterGuard<'static>`: see [`into_owned`](Self::into_owned).
#[must_use = "dropping a guard gives the lock back"]
pub struct ClusterGuard<'a> {
    /// There until it is dropped, or another has it.
    guard: Option<Guard<'a>>,
    resource: Cow<'a, Arc<Resource>>,
    /// What tells whether the hold is lost.
    mark: u64,
    /// [`NO_TOKEN`] until somebody asks for it.
    token: AtomicU64,
}

/// No hold has this one: they count from 1.
const NO_TOKEN: u64 = 0;

impl<'a> ClusterGuard<'a> {
    #[inline(always)]
    fn new(guard: Guard<'a>, resource: Cow<'a, Arc<Resource>>, mark: u64) -> Self {
        Self { guard: Some(guard), resource, mark, token: AtomicU64::new(NO_TOKEN) }
    }

    fn guard(&self) -> &Guard<'a> {
        self.guard.as_ref().expect("it is there until it is dropped")
    }

    fn guard_mut(&mut self) -> &mut Guard<'a> {
        self.guard.as_mut().expect("it is there until it is dropped")
    }

    /// Makes the guard own lock and owner, so that it may outlive the borrows.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Owner, coordination::{ClusterGuard, CoordinationError, Coordinator}};
    ///
    /// fn hold(coordinator: &Coordinator) -> Result<ClusterGuard<'static>, tierlock::Error> {
    ///     let (lock, job) = (coordinator.lock("config")?, Owner::new("job-17"));
    ///     let guard = lock.exclusive(&job).wait()?;
    ///     Ok(guard.into_owned())
    /// }
    /// assert!(hold(&Coordinator::connect("memory:").join("worker-1")?)?.check().is_ok());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn into_owned(mut self) -> ClusterGuard<'static> {
        ClusterGuard {
            guard: self.guard.take().map(Guard::into_owned),
            resource: Cow::Owned(Arc::clone(&self.resource)),
            mark: self.mark,
            token: AtomicU64::new(*self.token.get_mut()),
        }
    }

    /// The mode in which the lock is held.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.guard().mode()
    }

    /// The name of the lock held.
    #[must_use]
    pub fn name(&self) -> &LockName {
        self.resource.lock().name()
    }

    /// Fails if the lock is not held any more: the member is lost, the hold's lifetime is over, or somebody broke it. What
    /// does not fail was true a moment ago: whoever writes to something outside sends the [`token`](Self::token) along.
    ///
    /// # Errors
    /// [`Lost`](CoordinationError::Lost), [`Broken`](CoordinationError::Broken).
    pub fn check(&self) -> Result<(), CoordinationError> {
        self.resource.check(self.mark)
    }

    /// The fencing token of this hold: greater than those of all holds before it that conflict with it, over the life of the
    /// store. Whatever the lock protects outside can keep the greatest that it saw, and refuse who comes with a smaller one.
    ///
    /// # Errors
    /// As [`check`](Self::check); rarely, as of any request to the coordinator.
    pub fn token(&self) -> Result<u64, CoordinationError> {
        // A copy of the process that was granted it has no part in its tokens.
        self.resource.member().check_process()?;
        self.check()?;
        let known = self.token.load(Ordering::Acquire);
        if known != NO_TOKEN {
            return Ok(known);
        }
        let token = self.resource.next_token()?;
        // It may be of a grant that came after this one was lost.
        self.check()?;
        let (set, order) = (Ordering::AcqRel, Ordering::Acquire);
        // Of two threads that ask for the first time, both are told the same.
        Ok(self.token.compare_exchange(NO_TOKEN, token, set, order).map_or_else(|t| t, |_| token))
    }

    /// Who held the lock exclusively before and ended without releasing it: an owner here by a panic, or a member elsewhere by
    /// its death. Told once, to an exclusive holder.
    #[must_use]
    pub fn abandoned(&self) -> Option<Abandoned> {
        self.guard().abandoned()
    }

    /// Goes on in [`Mode::Shared`], or in the mode held if that is not stronger; see [`Guard::downgrade`].
    pub fn downgrade(&mut self) {
        self.guard_mut().downgrade();
        self.after_giving();
    }

    /// Goes on in a weaker mode; see [`Guard::downgrade_to`].
    ///
    /// # Errors
    /// [`NotWeaker`](HoldError::NotWeaker).
    pub fn downgrade_to(&mut self, mode: Mode) -> Result<(), HoldError> {
        self.guard_mut().downgrade_to(mode)?;
        self.after_giving();
        Ok(())
    }

    /// Asks to go on in a stronger mode; see [`Guard::upgrade_to`]. Two members that would wait for each other are found out:
    /// the second is told at once. The [`token`](Self::token) is another one afterwards.
    pub fn upgrade_to(&mut self, mode: Mode) -> Acquire<UpgradeCluster<'_, 'a>> {
        // Others may have held it between: a stronger hold has a number of its own.
        *self.token.get_mut() = NO_TOKEN;
        let (resource, mark) = (Arc::clone(&self.resource), self.mark);
        let (upgrading, expected) = (None, None);
        let local = self.guard_mut().upgrade_to(mode);
        local.map(|local| UpgradeCluster { local, resource, mark, upgrading, expected })
    }

    /// Asks to go on in [`Mode::Exclusive`]; see [`upgrade_to`](Self::upgrade_to).
    pub fn upgrade(&mut self) -> Acquire<UpgradeCluster<'_, 'a>> {
        self.upgrade_to(Mode::Exclusive)
    }

    /// Gives the lock back, and says whether it was still held.
    ///
    /// # Errors
    /// Why the coordinator could not be told; it is told later then, or hears of the member's end.
    pub fn release(mut self) -> Result<bool, CoordinationError> {
        let held = self.check().is_ok();
        self.guard = None;
        if held {
            self.resource.settle(true)?;
        }
        // What was taken from it meanwhile came out only now.
        Ok(held && self.resource.is_intact(self.mark))
    }

    /// Tells the coordinator, or has the agent do so.
    #[inline(always)]
    fn after_giving(&self) {
        if !self.resource.keeps_what_is_given() {
            // Why it could not be told, those who wait are told.
            let _ = self.resource.settle(true);
        }
    }
}

impl Drop for ClusterGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.guard.take().is_some() {
            self.after_giving();
        }
    }
}

impl fmt::Debug for ClusterGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterGuard")
            .field("name", &format_args!("{}", self.name()))
            .field("mode", &self.guard.as_ref().map(Guard::mode))
            .finish_non_exhaustive()
    }
}
