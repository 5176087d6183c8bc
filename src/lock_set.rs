//! A set of locks by itself: names, all of them, or whatever is free.

use std::fmt;
use std::sync::Arc;

use crate::acquire::Acquire;
use crate::change::{Change, ChangeMembers, Holder, Seat, UpgradeNames};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::{Abandoned, AcquireError, BuildError, HoldError};
use crate::hold::dispatch;
use crate::owner::Owner;
use crate::request::{Membership, Names, SetRequest};
use crate::set::{NoLock, Set};
use crate::set_hold::SetHold;
use crate::target::{Patience, Target};
use crate::task::{Refusal, Stages, Task};

/// Named locks that are taken together: some by name, or [`ALL`](crate::ALL) at the cost of one.
///
/// Above the names stands a set-lock: names take it in an intention, [`ALL`](crate::ALL) takes it shared or exclusively and
/// nothing else, adding takes it so that it waits for whoever holds all. Names are taken in byte order, each kept while the next
/// is waited for. One owner acquires in a set once at a time. Cheap to clone: clones are the same set.
///
/// # Examples
/// ```
/// use tierlock::{ALL, LockSet, Membership, Owner, exclusive, shared};
///
/// let tenants = LockSet::new("tenants", Membership::Listed, ["a", "b", "c"])?;
/// let (job, backup) = (Owner::new("job"), Owner::new("backup"));
///
/// let mut guard = tenants.acquire(&job, exclusive(["a", "b"])).wait()?;
/// assert!(tenants.acquire(&backup, shared(ALL)).now().is_err());
/// assert_eq!(tenants.acquire(&backup, shared(ALL).opportunistic()).wait()?.names().len(), 1);
/// guard.downgrade(["a"])?;
/// guard.release(["b"])?;
/// assert!(tenants.acquire(&backup, shared(ALL)).now().is_ok());
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone)]
pub struct LockSet(Arc<Set>);

impl LockSet {
    /// Makes a set called `name` of free locks.
    ///
    /// # Errors
    /// [`DuplicateName`](BuildError::DuplicateName) if a name is there twice.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockSet, Membership};
    /// let tenants = LockSet::new("tenants", Membership::Listed, ["a", "b"])?;
    /// assert_eq!(tenants.names().len(), 2);
    /// # Ok::<(), tierlock::BuildError>(())
    /// ```
    pub fn new<N: Into<Arc<str>>>(
        name: impl Into<Arc<str>>,
        membership: Membership,
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, BuildError> {
        let set = Set::new(name.into(), membership, names.into_iter().map(Into::into))?;
        Ok(Self(Arc::new(set)))
    }

    /// Makes an empty set whose names are there on demand.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockSet, Owner, exclusive};
    ///
    /// let paths = LockSet::on_demand("paths");
    /// let owner = Owner::new("job");
    /// let guard = paths.acquire(&owner, exclusive("/etc")).wait()?;
    /// assert_eq!(paths.names().len(), 1);
    /// drop(guard);
    /// assert!(paths.names().is_empty());
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn on_demand(name: impl Into<Arc<str>>) -> Self {
        let set = Set::new(name.into(), Membership::OnDemand, []);
        Self(Arc::new(set.expect("no names, none twice")))
    }

    /// The name given.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::LockSet::on_demand("paths").name(), "paths");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The names that are there now, in byte order.
    ///
    /// # Examples
    /// ```
    /// assert!(tierlock::LockSet::on_demand("paths").names().is_empty());
    /// ```
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.0.names()
    }

    /// Asks for names of the set, or for all of them.
    ///
    /// Names are looked up at once, before anything is taken. Asking for no names gets nothing and holds nothing.
    ///
    /// # Errors
    /// [`NotFound`](AcquireError::NotFound) for a name that is not there, [`AlreadyHeld`](AcquireError::AlreadyHeld) if the
    /// owner holds anything of the set, [`NotEnough`](AcquireError::NotEnough) if too little is free for an opportunistic
    /// request, and what [`Acquire`] says. Nothing of the request is kept then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Owner, shared};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let guard = paths.acquire(&owner, shared(["/etc", "/usr"])).priority(-5).wait()?;
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    pub fn acquire(&self, owner: &Owner, request: SetRequest) -> Acquire<AcquireSet> {
        Acquire::new(AcquireSet::new(self, owner, request))
    }

    /// Asks to add free locks: all of these names or none. Waits for whoever holds all of the set.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::MembershipError::AlreadyExists),
    /// [`NotModifiable`](crate::MembershipError::NotModifiable) unless the members are [`Membership::Listed`],
    /// and what [`Acquire`] says.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Membership, Owner};
    /// # let (set, owner) = (LockSet::new("nodes", Membership::Listed, ["n1"]).unwrap(), Owner::new("job"));
    /// set.add(&owner, ["n2", "n3"]).wait()?;
    /// # Ok::<(), tierlock::MembershipError>(())
    /// ```
    pub fn add(&self, owner: &Owner, names: impl Into<Names>) -> Acquire<ChangeMembers<Visit>> {
        let visit = Visit(SetGuard::empty(&self.0, owner));
        Acquire::new(ChangeMembers::new(Ok(visit), names.into(), Change::Add))
    }

    /// Asks to add locks that the owner holds exclusively before anybody else can see them.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Membership, Owner};
    /// # let (set, owner) = (LockSet::new("nodes", Membership::Listed, ["n1"]).unwrap(), Owner::new("job"));
    /// let guard = set.add_held(&owner, "n2").wait()?;
    /// assert_eq!(guard.names().len(), 1);
    /// # Ok::<(), tierlock::MembershipError>(())
    /// ```
    pub fn add_held(
        &self,
        owner: &Owner,
        names: impl Into<Names>,
    ) -> Acquire<ChangeMembers<SetGuard>> {
        let guard = SetGuard::empty(&self.0, owner);
        Acquire::new(ChangeMembers::new(Ok(guard), names.into(), Change::AddHeld))
    }

    /// Asks to remove names: takes all of them exclusively first, then deletes them. Whoever waits for one of them fails with
    /// [`Deleted`](AcquireError::Deleted).
    ///
    /// # Errors
    /// [`NotFound`](AcquireError::NotFound) for a name that is not there,
    /// [`NotModifiable`](crate::MembershipError::NotModifiable) unless the members are
    /// [`Membership::Listed`], and what [`Acquire`] says. None is removed then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Membership, Owner};
    /// # let (set, owner) = (LockSet::new("nodes", Membership::Listed, ["n1"]).unwrap(), Owner::new("job"));
    /// set.remove(&owner, "n1").wait()?;
    /// assert!(set.names().is_empty());
    /// # Ok::<(), tierlock::MembershipError>(())
    /// ```
    pub fn remove(&self, owner: &Owner, names: impl Into<Names>) -> Acquire<ChangeMembers<Visit>> {
        let visit = Visit(SetGuard::empty(&self.0, owner));
        Acquire::new(ChangeMembers::new(Ok(visit), names.into(), Change::Remove))
    }

    pub(crate) fn inner(&self) -> &Arc<Set> {
        &self.0
    }
}

impl fmt::Debug for LockSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request for names of a [`LockSet`]; it borrows nothing.
///
/// # Examples
/// ```
/// use tierlock::{AcquireSet, LockSet, Owner, Pending, exclusive};
///
/// struct Job {
///     pending: Pending<AcquireSet>,
/// }
/// let paths = LockSet::on_demand("paths");
/// let job = Job { pending: paths.acquire(&Owner::new("job"), exclusive("/etc")).enqueue() };
/// assert!(job.pending.wait()?.holds("/etc").is_some());
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[derive(Debug)]
pub struct AcquireSet {
    guard: SetGuard,
    request: SetRequest,
}

impl AcquireSet {
    pub(crate) fn new(set: &LockSet, owner: &Owner, request: SetRequest) -> Self {
        Self { guard: SetGuard::empty(&set.0, owner), request }
    }
}

impl Target for AcquireSet {
    type Granted = SetGuard;
    type Error = AcquireError;

    fn immediate(mut self, priority: Priority) -> Result<SetGuard, Self> {
        let (SetGuard { set, owner, .. }, request) = (&self.guard, &self.request);
        let Ok(Some((top_mode, members))) = set.wanted(request) else { return Err(self) };
        let modes = (top_mode, request.mode);
        let Some(hold) = SetHold::at_once(set, modes, members, priority, owner) else {
            return Err(self);
        };
        self.guard.abandoned = hold.take_abandoned(set);
        self.guard.hold = Some(hold);
        Ok(self.guard)
    }

    fn prepare(&mut self, _: Patience) -> Result<Option<Task>, AcquireError> {
        let SetGuard { set, owner, .. } = &self.guard;
        let told = |no: NoLock| no.told(Arc::clone(owner.name_arc()), self.request.mode);
        let stage = set.stage(&self.request).map_err(told)?;
        Ok(stage.map(|stage| Task::take(owner, Stages::One(stage))))
    }

    fn granted(self, task: Option<Task>) -> Result<SetGuard, AcquireError> {
        let mut guard = self.guard;
        let mut decisions = Vec::new();
        let mut seat = guard.seat();
        seat.sit_down(task);
        seat.stand_up(&mut decisions);
        dispatch(decisions);
        if let Some(hold) = &guard.hold {
            guard.abandoned = hold.take_abandoned(&guard.set);
        }
        Ok(guard)
    }

    fn refused(self, refusal: Refusal) -> AcquireError {
        refusal.into()
    }
}

/// What an owner holds of a [`LockSet`]; dropping it gives everything back.
///
/// # Examples
/// ```
/// use tierlock::{ALL, LockSet, Membership, Mode, Owner, exclusive};
///
/// let set = LockSet::new("nodes", Membership::Listed, ["n1", "n2", "n3"])?;
/// let owner = Owner::new("job");
/// let mut guard = set.acquire(&owner, exclusive(ALL)).wait()?;
/// guard.keep(["n1", "n2"])?;
/// guard.downgrade("n2")?;
/// assert_eq!((guard.holds("n1"), guard.holds("n2")), (Some(Mode::Exclusive), Some(Mode::Shared)));
/// assert_eq!(guard.holds("n3"), None);
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a guard gives the locks back"]
pub struct SetGuard {
    set: Arc<Set>,
    owner: Owner,
    hold: Option<SetHold>,
    abandoned: Vec<Abandoned>,
    /// Taken while a panic unwound already: then a panic says nothing of this hold.
    unwinding: bool,
}

impl SetGuard {
    fn empty(set: &Arc<Set>, owner: &Owner) -> Self {
        Self {
            set: Arc::clone(set),
            owner: owner.clone(),
            hold: None,
            abandoned: Vec::new(),
            unwinding: std::thread::panicking(),
        }
    }

    /// The names held, in byte order; all that are there, if all are held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Owner, shared};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let guard = paths.acquire(&owner, shared(["/usr", "/etc"])).wait()?;
    /// assert_eq!(guard.names(), ["/etc".into(), "/usr".into()]);
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.hold.as_ref().map_or_else(Vec::new, |hold| hold.names(&self.set))
    }

    /// The mode in which `name` is held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Mode, Owner, shared};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let guard = paths.acquire(&owner, shared("/etc")).wait()?;
    /// assert_eq!(guard.holds("/etc"), Some(Mode::Shared));
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn holds(&self, name: &str) -> Option<Mode> {
        self.hold.as_ref()?.mode_of(&self.set, name)
    }

    /// The mode in which all of the set is held, by whatever names come into it.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, LockSet, Mode, Owner, shared};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let guard = paths.acquire(&owner, shared(ALL)).wait()?;
    /// assert_eq!(guard.holds_all(), Some(Mode::Shared));
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn holds_all(&self) -> Option<Mode> {
        self.hold.as_ref()?.all()
    }

    /// Locks of which the last exclusive holder panicked; each is told once, to an exclusive holder.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Owner, exclusive};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let guard = paths.acquire(&owner, exclusive("/etc")).wait()?;
    /// assert!(guard.abandoned().is_empty());
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn abandoned(&self) -> &[Abandoned] {
        &self.abandoned
    }

    /// Gives back all but these names. From all of the set, that costs as much as the names kept.
    ///
    /// # Errors
    /// [`NotHeld`](HoldError::NotHeld) if one of them is not held; nothing is given back then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Owner, exclusive};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let mut guard = paths.acquire(&owner, exclusive(["/etc", "/usr"])).wait()?;
    /// guard.keep("/etc")?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn keep(&mut self, names: impl Into<Names>) -> Result<(), HoldError> {
        self.seat().keep(&names.into())
    }

    /// Gives these names back. From all of the set, that costs as much as the names that stay.
    ///
    /// # Errors
    /// [`NotHeld`](HoldError::NotHeld) if one of them is not held; nothing is given back then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Owner, exclusive};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let mut guard = paths.acquire(&owner, exclusive(["/etc", "/usr"])).wait()?;
    /// guard.release("/etc")?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn release(&mut self, names: impl Into<Names>) -> Result<(), HoldError> {
        self.seat().release(&names.into())
    }

    /// Goes on with these names in [`Mode::Shared`]; those held so stay.
    ///
    /// # Errors
    /// [`NotHeld`](HoldError::NotHeld) if one of them is not held; nothing changes then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Owner, exclusive};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let mut guard = paths.acquire(&owner, exclusive(["/etc", "/usr"])).wait()?;
    /// guard.downgrade("/etc")?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn downgrade(&mut self, names: impl Into<Names>) -> Result<(), HoldError> {
        self.seat().downgrade(&names.into())
    }

    /// Asks to go on with these names in [`Mode::Exclusive`].
    ///
    /// Only the greatest name held, or all of the set, may be waited for: waiting for another while later ones are held could
    /// deadlock. The others are tried.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::UpgradeError::WouldDeadlock) where another holder would have to be waited for and must not be,
    /// [`NotHeld`](HoldError::NotHeld), and what [`Acquire`] says. Everything is held as before then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Owner, shared};
    /// # let (paths, owner) = (LockSet::on_demand("paths"), Owner::new("job"));
    /// let mut guard = paths.acquire(&owner, shared(["/etc", "/usr"])).wait()?;
    /// guard.upgrade("/usr").wait()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn upgrade(&mut self, names: impl Into<Names>) -> Acquire<UpgradeNames<&mut Self>> {
        Acquire::new(UpgradeNames::new(Ok(self), names.into()))
    }

    /// Asks to add free locks; the set has to be held exclusively, all of it or some names.
    ///
    /// # Errors
    /// As [`LockSet::add`], and [`HeldOtherwise`](crate::MembershipError::HeldOtherwise).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, LockSet, Membership, Owner, exclusive};
    /// # let (set, owner) = (LockSet::new("nodes", Membership::Listed, ["n1"]).unwrap(), Owner::new("job"));
    /// let mut guard = set.acquire(&owner, exclusive(ALL)).wait()?;
    /// guard.add("n2").now()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn add(&mut self, names: impl Into<Names>) -> Acquire<ChangeMembers<&mut Self>> {
        Acquire::new(ChangeMembers::new(Ok(self), names.into(), Change::Add))
    }

    /// Asks to remove names that are held exclusively; that ends their holds.
    ///
    /// # Errors
    /// As [`LockSet::remove`], and [`HeldOtherwise`](crate::MembershipError::HeldOtherwise).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LockSet, Membership, Owner, exclusive};
    /// # let (set, owner) = (LockSet::new("nodes", Membership::Listed, ["n1"]).unwrap(), Owner::new("job"));
    /// let mut guard = set.acquire(&owner, exclusive("n1")).wait()?;
    /// guard.remove("n1").now()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn remove(&mut self, names: impl Into<Names>) -> Acquire<ChangeMembers<&mut Self>> {
        Acquire::new(ChangeMembers::new(Ok(self), names.into(), Change::Remove))
    }
}

impl Drop for SetGuard {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        if !self.unwinding && std::thread::panicking() {
            hold.abandon(&self.set, &self.owner);
        }
        let mut decisions = Vec::new();
        hold.release_all(&self.set, &self.owner, &mut decisions);
        dispatch(decisions);
    }
}

impl Holder for SetGuard {
    type Out = Self;

    fn seat(&mut self) -> Seat<'_> {
        Seat { set: &self.set, owner: &self.owner, hold: &mut self.hold, last: true, root: None }
    }

    fn done(self) -> Self {
        self
    }
}

impl Holder for &mut SetGuard {
    type Out = ();

    fn seat(&mut self) -> Seat<'_> {
        SetGuard::seat(self)
    }

    fn done(self) {
        // What was upgraded may have been abandoned before.
        self.abandoned.extend(self.hold.iter().flat_map(|hold| hold.take_abandoned(&self.set)));
    }
}

/// An owner that comes to a set only to change its members.
///
/// Only ever named by the compiler, so without an example of its own: see [`LockSet::add`].
#[derive(Debug)]
pub struct Visit(SetGuard);

impl Holder for Visit {
    type Out = ();

    fn seat(&mut self) -> Seat<'_> {
        self.0.seat()
    }

    fn done(self) {}
}
