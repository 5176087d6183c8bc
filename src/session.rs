//! One owner's keyring in a manager: what it holds, level by level, and the rules between levels.

mod asked;
mod beyond;
mod level;
mod rules;

use std::fmt;
use std::sync::Arc;

use crate::acquire::Acquire;
use crate::change::{Change, ChangeMembers, Holder, Seat, UpgradeNames};
use crate::core::mode::Mode;
use crate::error::{Abandoned, AcquireError, HoldError, UpgradeError};
use crate::hold::dispatch;
use crate::lent::Lent;
use crate::level::Level;
use crate::owner::Owner;
use crate::plan::{Hierarchy, Wanted};
use crate::request::{Names, Which};
use crate::set::Set;
use crate::set_hold::SetHold;

pub use self::asked::{AcquireLevels, AcquireOwned, SessionRefused};
pub use self::level::{AcquireLevel, LevelGuard, ManagerLevel, SessionLevel};

/// What one owner holds in a [`LockManager`](crate::LockManager): its keyring. Dropping it releases everything, the deepest
/// level first.
///
/// It may move between threads and tasks. The rules: the root first and last; a level only while nothing deeper is held; at a
/// level once at a time. A call that breaks one is refused with an error of its own, and nothing is taken or lost by it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{ALL, Level, ganeti::{self, Level::*}};
///
/// let manager = ganeti::manager(["web1", "web2"], ["default"], ["n1", "n2", "n3"], [""; 0]).build()?;
/// let mut job = manager.session("job-17");
/// job.acquire(Cluster.shared("BGL")).wait()?;
/// job.acquire(Instance.exclusive(["web1", "web2"])).priority(-5).timeout(Duration::from_secs(30)).wait()?;
/// job.acquire(Node.shared(ALL)).wait()?;
/// job.keep(Node, ["n1", "n3"])?;
/// job.downgrade(Instance, "web2")?;
/// # Ok::<(), tierlock::Error>(())
/// ```
pub struct Session {
    hierarchy: Arc<Hierarchy>,
    owner: Owner,
    /// By rank.
    levels: Box<[Option<SetHold>]>,
    /// What guards of their own hold for it, once some did.
    lent: Option<Arc<Lent>>,
    /// Opened while a panic unwound already: then a panic says nothing of what is held.
    unwinding: bool,
}

/// What a granted request took.
///
/// # Examples
/// ```
/// use tierlock::{ALL, Level, ganeti::{self, Level::*}};
///
/// let manager = ganeti::manager(["web1", "web2"], [""; 0], [""; 0], [""; 0]).build()?;
/// let mut job = manager.session("job-17");
/// job.acquire(Cluster.shared("BGL")).wait()?;
/// let grant = job.acquire(Instance.exclusive(ALL)).wait()?;
/// assert!(grant.abandoned().is_empty());
/// assert_eq!(job.owned(Instance).len(), 2);
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    abandoned: Vec<Abandoned>,
}

impl Grant {
    /// Locks of which the last exclusive holder panicked; each is told once, to an exclusive holder.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// for abandoned in job.acquire(Cluster.exclusive("BGL")).wait()?.abandoned() {
    ///     println!("to be looked after: {abandoned}");
    /// }
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn abandoned(&self) -> &[Abandoned] {
        &self.abandoned
    }
}

impl Session {
    pub(crate) fn new(hierarchy: &Arc<Hierarchy>, owner: Owner) -> Self {
        let levels = hierarchy.sets.iter().map(|_| None).collect();
        let unwinding = std::thread::panicking();
        Self { hierarchy: Arc::clone(hierarchy), owner, levels, lent: None, unwinding }
    }

    /// Who this is.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::ganeti;
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// assert_eq!(manager.session("job-17").owner().name(), "job-17");
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Asks for locks of a level, of several in increasing order, or of a [`Plan`](crate::Plan).
    ///
    /// Names are looked up before anything is taken. Several levels are one request: it waits once, has one budget of time, and
    /// is granted whole or refused whole. Asking for no names of a level takes nothing there, and does not count as holding it.
    ///
    /// # Errors
    /// [`UnknownLevel`](AcquireError::UnknownLevel), [`RootNotHeld`](AcquireError::RootNotHeld),
    /// [`OutOfOrder`](AcquireError::OutOfOrder) while something deeper is held, [`AlreadyHeld`](AcquireError::AlreadyHeld)
    /// while anything of the level is, [`NotFound`](AcquireError::NotFound), [`NotEnough`](AcquireError::NotEnough), and what
    /// [`Acquire`] says. Nothing of the request is kept then, and nothing held before is lost.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], ["n1"], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire(Cluster.shared("BGL")).wait()?;
    /// job.acquire([Instance.exclusive("web1"), Node.shared(ALL)]).now()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[inline]
    pub fn acquire<'a>(&'a mut self, wanted: impl Into<Wanted<'a>>) -> Acquire<AcquireLevels<'a>> {
        Acquire::new(AcquireLevels::new(self, wanted.into()))
    }

    /// Asks as [`acquire`](Self::acquire) does, and takes the session along: for loops that wait for many sessions at once, and
    /// keep their requests beside one another.
    ///
    /// Withdrawing the request drops the session, which releases what it held before.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); the session comes back in the [`SessionRefused`].
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let pending: Vec<_> = ["job-17", "job-18"]
    ///     .map(|job| manager.session(job).acquire_owned(Cluster.shared("BGL")).enqueue())
    ///     .into();
    /// for request in pending {
    ///     let (mut job, _grant) = request.wait()?;
    ///     job.acquire(Instance.shared("web1")).wait()?;
    /// }
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn acquire_owned(self, wanted: impl Into<Wanted<'static>>) -> Acquire<AcquireOwned> {
        Acquire::new(AcquireOwned::new(self, wanted.into()))
    }

    /// A level as a place where locks are taken by name, for `in = ..` of an [annotation](crate::ssynchronized).
    ///
    /// What is taken there belongs to a guard, which gives it back; the session knows of it, and takes levels in order with it.
    /// `keep`, `release`, `downgrade` and `upgrade` do not touch it, and if it is the root, it goes with its guard, whatever else
    /// is held.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Error, Mode, Session, ganeti::{self, Level::*}, ssynchronized};
    ///
    /// #[ssynchronized("BGL", in = job.at(Cluster), shared)]
    /// #[ssynchronized("{node}", in = job.at(Node))]
    /// fn reboot(job: &mut Session, node: &str) -> Result<Option<Mode>, Error> {
    ///     Ok(job.holds(Node, node))
    /// }
    ///
    /// let manager = ganeti::manager([""; 0], [""; 0], ["n1"], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// assert_eq!(reboot(&mut job, "n1")?, Some(Mode::Exclusive));
    /// assert_eq!(job.holds(Node, "n1"), None);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn at(&mut self, level: impl Level) -> SessionLevel<'_> {
        SessionLevel::new(self, &level)
    }

    /// Gives back all but these names of a level. From all of the level, that costs as much as the names kept.
    ///
    /// # Errors
    /// [`NotHeld`](HoldError::NotHeld), [`UnknownLevel`](HoldError::UnknownLevel),
    /// [`RootNeeded`](HoldError::RootNeeded) if the root would go before what is deeper; nothing is given back then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager([""; 0], [""; 0], ["n1", "n2"], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Node.exclusive(ALL)]).wait()?;
    /// job.keep(Node, "n1")?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn keep(&mut self, level: impl Level, names: impl Into<Names>) -> Result<(), HoldError> {
        let names = names.into();
        let rank = self.rank(&level)?;
        let keeps_root = self.root_in(rank).is_none_or(|root| asks_for(&names, root));
        self.check_root_stays(keeps_root)?;
        self.seat(rank).keep(&names)
    }

    /// Gives names of a level back, or all that is held there by [`ALL`](crate::ALL).
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager([""; 0], [""; 0], ["n1", "n2"], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Node.exclusive(["n1", "n2"])]).wait()?;
    /// job.release(Node, "n2")?;
    /// job.release(Node, ALL)?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn release(&mut self, level: impl Level, names: impl Into<Names>) -> Result<(), HoldError> {
        let names = names.into();
        let rank = self.rank(&level)?;
        let keeps_root = self.root_in(rank).is_none_or(|root| !asks_for(&names, root));
        self.check_root_stays(keeps_root)?;
        self.seat(rank).release(&names)
    }

    /// Gives everything back, the deepest level first.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager([""; 0], [""; 0], ["n1", "n2"], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Node.exclusive(ALL)]).wait()?;
    /// job.release_all();
    /// assert!(job.holds(Cluster, "BGL").is_none());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn release_all(&mut self) {
        self.release_from(0);
    }

    /// Gives back this level and everything deeper, the deepest first.
    fn release_from(&mut self, rank: usize) {
        let mut decisions = Vec::new();
        let Self { hierarchy, owner, levels, .. } = self;
        for (set, level) in hierarchy.sets.iter().zip(levels).skip(rank).rev() {
            if let Some(hold) = level.take() {
                hold.release_all(set, owner, &mut decisions);
            }
        }
        dispatch(decisions);
    }

    /// Goes on with names of a level, or all that is held there, in [`Mode::Shared`]; what is held so stays.
    ///
    /// # Errors
    /// [`NotHeld`](HoldError::NotHeld), [`UnknownLevel`](HoldError::UnknownLevel); nothing changes then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, Mode, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Instance.exclusive("web1")]).wait()?;
    /// job.downgrade(Instance, "web1")?;
    /// assert_eq!(job.holds(Instance, "web1"), Some(Mode::Shared));
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn downgrade(
        &mut self,
        level: impl Level,
        names: impl Into<Names>,
    ) -> Result<(), HoldError> {
        let rank = self.rank(&level)?;
        self.seat(rank).downgrade(&names.into())
    }

    /// Asks to go on with names of a level, or all that is held there, in [`Mode::Exclusive`].
    ///
    /// Only what comes last in the order of everything held may be waited for: waiting for another could deadlock. The others
    /// are tried.
    ///
    /// # Errors
    /// [`WouldDeadlock`](UpgradeError::WouldDeadlock) where another holder would have to be waited for and must not be,
    /// [`HoldError`] as [`downgrade`](Self::downgrade), and what [`Acquire`] says. Everything is held as before then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, Mode, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Instance.shared("web1")]).wait()?;
    /// job.upgrade(Instance, "web1").wait()?;
    /// assert_eq!(job.holds(Instance, "web1"), Some(Mode::Exclusive));
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn upgrade(
        &mut self,
        level: impl Level,
        names: impl Into<Names>,
    ) -> Acquire<UpgradeNames<LevelSeat<'_>>> {
        let seat = match self.rank(&level) {
            Ok(rank) => Ok(LevelSeat { session: self, rank }),
            Err(error) => Err(UpgradeError::Hold(error)),
        };
        Acquire::new(UpgradeNames::new(seat, names.into()))
    }

    /// Asks to add free locks to a level: all of these names or none. Waits for whoever holds all of the level.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire) of this level, [`AlreadyExists`](crate::MembershipError::AlreadyExists),
    /// [`NotModifiable`](crate::MembershipError::NotModifiable), and [`HeldOtherwise`](crate::MembershipError::HeldOtherwise) if names of the
    /// level are held, but only shared.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire(Cluster.shared("BGL")).wait()?;
    /// job.add(Instance, ["web2"]).wait()?;
    /// assert_eq!(manager.names(Instance).len(), 2);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn add(
        &mut self,
        level: impl Level,
        names: impl Into<Names>,
    ) -> Acquire<ChangeMembers<LevelSeat<'_>>> {
        self.change(&level, names.into(), Change::Add)
    }

    /// Asks to add locks that this session holds exclusively before anybody else can see them.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, Mode, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire(Cluster.shared("BGL")).wait()?;
    /// job.add_held(Instance, ["web2"]).wait()?;
    /// assert_eq!(job.holds(Instance, "web2"), Some(Mode::Exclusive));
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn add_held(
        &mut self,
        level: impl Level,
        names: impl Into<Names>,
    ) -> Acquire<ChangeMembers<LevelSeat<'_>>> {
        self.change(&level, names.into(), Change::AddHeld)
    }

    /// Asks to remove names of a level: those held exclusively at once, whatever is held deeper; or, if nothing of the level
    /// is held, all of them after they were taken exclusively. Whoever waits for one fails with
    /// [`Deleted`](AcquireError::Deleted).
    ///
    /// # Errors
    /// [`NotFound`](AcquireError::NotFound), [`NotModifiable`](crate::MembershipError::NotModifiable),
    /// [`HeldOtherwise`](crate::MembershipError::HeldOtherwise), and as [`acquire`](Self::acquire). None is removed then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Instance.exclusive("web1")]).wait()?;
    /// job.remove(Instance, "web1").now()?;
    /// assert!(manager.names(Instance).is_empty());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn remove(
        &mut self,
        level: impl Level,
        names: impl Into<Names>,
    ) -> Acquire<ChangeMembers<LevelSeat<'_>>> {
        self.change(&level, names.into(), Change::Remove)
    }

    /// The mode in which a name is held, by itself or with all of its level.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, Mode, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Instance.shared(ALL)]).wait()?;
    /// assert_eq!(job.holds(Instance, "web1"), Some(Mode::Shared));
    /// assert_eq!(job.holds(Instance, "web2"), None);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn holds(&self, level: impl Level, name: &str) -> Option<Mode> {
        self.look(&level, |hold, set| hold.mode_of(set, name))?
    }

    /// The mode in which all of a level is held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, Mode, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Instance.shared("web1")]).wait()?;
    /// assert_eq!(job.holds_all(Instance), None);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn holds_all(&self, level: impl Level) -> Option<Mode> {
        self.look(&level, |hold, _| hold.all())?
    }

    /// The names held at a level, in byte order; all that are there, if all are held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti::{self, Level::*}};
    /// # let manager = ganeti::manager(["web2", "web1"], [""; 0], [""; 0], [""; 0]).build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Instance.exclusive(ALL).opportunistic()]).wait()?;
    /// assert_eq!(job.owned(Instance), ["web1".into(), "web2".into()]);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn owned(&self, level: impl Level) -> Vec<Arc<str>> {
        self.look(&level, SetHold::names).unwrap_or_default()
    }

    fn change(
        &mut self,
        level: &impl Level,
        names: Names,
        change: Change,
    ) -> Acquire<ChangeMembers<LevelSeat<'_>>> {
        let seat = match self.check_change(level) {
            Ok(rank) => Ok(LevelSeat { session: self, rank }),
            Err(error) => Err(error.into()),
        };
        Acquire::new(ChangeMembers::new(seat, names, change))
    }

    /// What is held at the level permits to change it; otherwise it is taken for the change, by the rules of any request.
    fn check_change(&self, level: &impl Level) -> Result<usize, AcquireError> {
        let Some((rank, _)) = self.hierarchy.level(level) else {
            return Err(AcquireError::UnknownLevel {
                owner: self.owner_name(),
                level: level.name().into(),
            });
        };
        if self.levels[rank].is_none() {
            self.check_not_lent(rank)?;
            self.check_root(rank, false)?;
            self.check_nothing_deeper(rank)?;
        }
        Ok(rank)
    }

    /// The root, if this is its level.
    fn root_in(&self, rank: usize) -> Option<&str> {
        self.hierarchy.root.as_deref().filter(|_| rank == 0)
    }

    fn rank(&self, level: &impl Level) -> Result<usize, HoldError> {
        match self.hierarchy.level(level) {
            Some((rank, _)) => Ok(rank),
            None => Err(HoldError::UnknownLevel {
                owner: self.owner_name(),
                level: level.name().into(),
            }),
        }
    }

    /// Where guards keep what they hold for it.
    fn lent(&self) -> Arc<Lent> {
        self.lent.clone().unwrap_or_default()
    }

    /// What is seen in what is held at a level, by the session itself or by a guard.
    fn look<T>(&self, level: &impl Level, look: impl FnOnce(&SetHold, &Set) -> T) -> Option<T> {
        let (rank, _) = self.hierarchy.level(level)?;
        self.look_at(rank, look)
    }

    fn look_at<T>(&self, rank: usize, look: impl FnOnce(&SetHold, &Set) -> T) -> Option<T> {
        match (&self.levels[rank], &self.lent) {
            (Some(hold), _) => Some(look(hold, &self.hierarchy.sets[rank])),
            (None, Some(lent)) => lent.at(rank, look),
            (None, None) => None,
        }
    }

    /// What it holds itself, by rank.
    fn held(&self) -> impl DoubleEndedIterator<Item = (usize, &Set, &SetHold)> {
        let levels = self.hierarchy.sets.iter().zip(&self.levels).enumerate();
        levels.filter_map(|(rank, (set, hold))| Some((rank, &**set, hold.as_ref()?)))
    }

    fn seat(&mut self, rank: usize) -> Seat<'_> {
        let last = self.deepest_below(rank).is_none();
        let Self { hierarchy, owner, levels, .. } = self;
        let root = hierarchy.root.as_ref().filter(|_| rank == 0);
        Seat { set: &hierarchy.sets[rank], owner, hold: &mut levels[rank], last, root }
    }

    fn owner_name(&self) -> Arc<str> {
        Arc::clone(self.owner.name_arc())
    }
}

fn asks_for(names: &Names, name: &str) -> bool {
    match &names.0 {
        Which::All => true,
        Which::These(names) => names.iter().any(|n| **n == *name),
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_struct("Session");
        map.field("owner", &self.owner.name());
        for (_, set, hold) in self.held() {
            map.field(set.name(), &hold.names(set));
        }
        map.finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.unwinding && std::thread::panicking() {
            for (_, set, hold) in self.held() {
                hold.abandon(set, &self.owner);
            }
        }
        self.release_all();
    }
}

/// A session at one of its levels.
///
/// Only ever named by the compiler, so without an example of its own: see [`Session::upgrade`].
#[derive(Debug)]
pub struct LevelSeat<'s> {
    session: &'s mut Session,
    rank: usize,
}

impl Holder for LevelSeat<'_> {
    type Out = ();

    fn seat(&mut self) -> Seat<'_> {
        self.session.seat(self.rank)
    }

    fn done(self) {}
}
