//! Named locks with a lifetime, in groups and pools: what Ariba's `GlobalLockingService` offers, across processes.
//!
//! A lock is its name. Whoever acquires it has a [`Lease`]: the one valid object of this lock in the whole cluster, until it is
//! released or its time is over, two minutes after the grant unless said otherwise. Nobody renews a lease but its holder. When it
//! is over, the lock is free for others within milliseconds, whatever its holder does: a thread that hangs, an object
//! forgotten in a list, a process that died. Whoever has it next is told whom to clean up after.
//!
//! A *group* is a set of locks of which any one will do: acquire one [from it](Leases::acquire_from_group). A *pool* is a group
//! that comes with its locks.
//!
//! # Rules
//! - A grant goes to whoever waits longest, among the members and among the threads of one. A try never goes before who waits.
//! - Time is read from the engine's clock, which all members share ([`Capability::CommonClock`]); ends are counted from before
//!   the engine was asked, so that a holder never thinks longer than others that it holds.
//! - Two objects exclude each other in one process as they do in two; a thread that acquires what it holds waits for itself,
//!   until its own lease is over.
//! - When a member dies, all its leases end at once. (Ariba may free them only when the node starts again.) Its locks stay in
//!   their groups.
//! - The next holder is told of whoever left the lock behind last. What was granted and never came to a [`Lease`], since the
//!   wait for it was over, is given back as if it had not been, and the next one is told what this one would have been.
//! - What is stored outlives the processes where the engine keeps it ([`Capability::Persistent`]): groups are there after a
//!   restart of all. In `memory:`, as with Ariba, all is forgotten.
//!
//! What a lease guards outside is safe from a holder whose time passed while it was not looking if it checks the
//! [token](Lease::token). Short of that: look again, under the lock, at whatever made you want it, and at
//! [`is_valid`](Lease::is_valid) before what cannot be undone.
//!
//! # Groups and crashes
//! All groups are one record, of at most 1 MiB (some 40,000 locks with names of twenty letters), which changes at once or not at
//! all. It never says who holds, the record of a lock never says in which group it is, so nobody who dies in between leaves
//! the two at odds. What holds:
//! 1. A lock is in one group at most, and stays in it until the group is deleted, held or not.
//! 2. A group has no more locks than places.
//! 3. At the moment at which a group is deleted, all its locks are free and owe no clean-up. Whoever deletes it holds them all
//!    then; if it dies in the middle, the group is there still or not, and the next holders clean up after nothing.
//!
//! # From Ariba
//! | there | here |
//! |---|---|
//! | `acquireLock(name)`, null | [`acquire_lock`](Leases::acquire_lock), `None` |
//! | `acquireLock(name, ms)` | [`acquire_lock_within`](Leases::acquire_lock_within); in line, where Ariba tries again and again |
//! | then `setExpirationTime(ms)` | [`lasting`](Leases::lasting), in the same step: no gap with the wrong lifetime |
//! | `lock.setExpirationTime(ms)` | [`set_expiration`](Lease::set_expiration) |
//! | `lock.release()`, `isValid()`, `getName()` | [`release`](Lease::release), [`is_valid`](Lease::is_valid), [`name`](Lease::name) |
//! | an exception of an invalid lock | an error that says why: [`Released`](LeaseError::Released), [`Expired`](LeaseError::Expired), [`Lost`](LeaseError::Lost) |
//! | topic `ariba.util.GlobalLocking.Cleanup` | [`on_cleanup`](Leases::on_cleanup), and [`cleanup`](Lease::cleanup) of the lease itself |
//! | - | [`on_lost`](Lease::on_lost), [`expires_in`](Lease::expires_in), [`token`](Lease::token) |
//! | `createLockGroup(g, n)` | [`create_group`](Leases::create_group) |
//! | `lock.setGroup(g)`, `getGroup()` | [`set_group`](Lease::set_group), [`group`](Lease::group) |
//! | `acquireLockFromGroup(g[, ms])` | [`acquire_from_group`](Leases::acquire_from_group), [`acquire_from_group_within`](Leases::acquire_from_group_within) |
//! | `deleteLockGroup(g)` | [`delete_group`](Leases::delete_group) |
//! | `createLockPool(g, n)` | [`create_pool`](Leases::create_pool): at once, where Ariba takes and releases each lock |
//! | `nodeHasLock(lock, node)` | [`node_has_lock`](Leases::node_has_lock) |
//! | a lock object belongs to one thread | [`Lease`] is `Send` and `Sync` |
//! | `GlobalLockUtil`, null for any failure | an error is not `None` |
//!
//! # Examples
//! ```
//! use std::time::Duration;
//! use tierlock::coordination::{Coordinator, lease::Leases};
//!
//! let coordinator = Coordinator::connect("memory:").join("worker-1")?;
//! let leases = Leases::new(&coordinator)?.lasting(Duration::from_secs(30));
//! leases.create_pool("licence", 2)?;
//! let licence = leases.acquire_from_group("licence")?.expect("two are free");
//! assert_eq!(licence.group()?.as_deref(), Some("licence"));
//! licence.release()?;
//! leases.delete_group("licence")?;
//! # Ok::<(), tierlock::Error>(())
//! ```

mod groups;
mod held;
mod line;
mod node;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never};

use self::groups::Groups;
use self::held::whole_ms;
pub use self::held::{Cleanup, Lease};
use self::line::{Claim, Event, Line, Terms};
use self::node::{Named, Node};
use super::coordinator::Coordinator;
use super::driver::{Capability, Reporter, Subject, Watch};
use super::member::Member;
use crate::clock;
use crate::core::member::MemberId;
use crate::error::CoordinationError;
pub use crate::error::LeaseError;

/// How long a lease lasts unless it is said: two minutes.
pub const LIFETIME: Duration = Duration::from_secs(120);

/// The locks with a lifetime of a cluster, and their groups: Ariba's `GlobalLockingService`. Cheap to clone.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::coordination::{Coordinator, lease::Leases};
///
/// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
/// let leases = Leases::new(&coordinator)?;
/// if let Some(lock) = leases.acquire_lock_within("report", Duration::from_secs(5))? {
///     lock.release()?;
/// }
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone)]
pub struct Leases {
    coordinator: Coordinator,
    node: Arc<Node>,
    terms: Terms,
}

impl Leases {
    /// The leases of all who take part where this coordinator does.
    ///
    /// # Errors
    /// [`Incapable`](CoordinationError::Incapable) if the engine has no clock that all members share: nobody could say when a lease
    /// is over.
    pub fn new(coordinator: &Coordinator) -> Result<Self, LeaseError> {
        let driver = coordinator.seat().driver();
        if !driver.capabilities().contains(&Capability::CommonClock) {
            let capability = format!("{:?}", Capability::CommonClock).into();
            let at = driver.name().into();
            return Err(CoordinationError::Incapable { at, capability }.into());
        }
        let owner = Arc::clone(coordinator.member().name());
        let terms = Terms { owner, lifetime_ms: Some(whole_ms(LIFETIME)) };
        let node = Node::of(coordinator);
        Ok(Self { coordinator: coordinator.clone(), node, terms })
    }

    /// The same, with leases that last so long from the grant: in whole milliseconds, rounded up, and at least one.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// let lock = leases.lasting(Duration::from_secs(5)).acquire_lock("report")?.expect("it is free");
    /// assert!(lock.expires_in()? <= Duration::from_secs(5));
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn lasting(&self, lifetime: Duration) -> Self {
        let lifetime_ms = Some(whole_ms(lifetime).max(1));
        Self { terms: Terms { lifetime_ms, ..self.terms.clone() }, ..self.clone() }
    }

    /// The same, with leases on behalf of this owner: for whoever is told of them. The name of the member unless it is said.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// let lock = leases.owned_by("job-17").acquire_lock("report")?;
    /// # assert!(lock.is_some());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn owned_by(&self, owner: impl Into<Arc<str>>) -> Self {
        Self { terms: Terms { owner: owner.into(), ..self.terms.clone() }, ..self.clone() }
    }

    /// Calls `call` with these leases whenever something of this member acquires a lock that was left behind, by whatever
    /// [`Leases`] of this member: in the thread that acquires, before it has the lock. For as long as the member is there. A panic of
    /// it ends there, and the lock is had all the same.
    ///
    /// It may use the leases that it is given. Some that it kept would keep the member, for ever.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// leases.on_cleanup(|_, cleanup| eprintln!("{cleanup}"));
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn on_cleanup(&self, call: impl Fn(&Self, &Cleanup) + Send + Sync + 'static) {
        self.node.on_cleanup(self.terms.clone(), Arc::new(call));
    }

    /// Acquires the lock of this name if it is free, in one attempt; `None` if somebody holds it, or waits for it.
    ///
    /// # Errors
    /// [`Acquire`](LeaseError::Acquire) if the coordinator could not be asked, [`Coordination`](LeaseError::Coordination) if no lock can
    /// have this name. [`Expired`](LeaseError::Expired) if the lease was over before it could be returned.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// let lock = leases.acquire_lock("report")?.expect("it is free");
    /// assert!(leases.acquire_lock("report")?.is_none());
    /// # drop(lock);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn acquire_lock(&self, name: &str) -> Result<Option<Lease>, LeaseError> {
        Claim::now(&self.named(name)?, &self.terms)?.map(Lease::new).transpose()
    }

    /// Acquires the lock of this name, and waits in line for it, for so long at most; `None` if the time was up first.
    ///
    /// # Errors
    /// As [`acquire_lock`](Self::acquire_lock).
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// let lock = leases.acquire_lock("report")?.expect("it is free");
    /// assert!(leases.acquire_lock_within("report", Duration::from_millis(5))?.is_none());
    /// # drop(lock);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn acquire_lock_within(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<Option<Lease>, LeaseError> {
        let until = deadline(timeout);
        let named = self.named(name)?;
        if let Some(claim) = Claim::now(&named, &self.terms)? {
            return Lease::new(claim).map(Some);
        }
        let mut line = Line::new(&self.terms);
        line.stand_for(&[named]);
        match line.next(&never(), until)? {
            Event::Had(claim) => Lease::new(*claim).map(Some),
            Event::News | Event::TimeIsUp => Ok(None),
        }
    }

    /// Tells whether this member holds the lock of this name, by what the engine says: one whose time is over does not, nor does
    /// one that died.
    ///
    /// # Errors
    /// As of any request to the coordinator.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// # let leases = Leases::new(&coordinator)?;
    /// let lock = leases.acquire_lock("report")?;
    /// assert!(leases.node_has_lock("report", coordinator.member())?);
    /// # drop(lock);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn node_has_lock(&self, lock: &str, member: &MemberId) -> Result<bool, LeaseError> {
        let holders = self.named(lock)?.lock.holders()?;
        if !holders.iter().any(|holder| holder.member == *member) {
            return Ok(false);
        }
        let alive = self.seat().driver().is_alive(member);
        Ok(alive.map_err(|error| self.seat().engine_error(lock, error))?)
    }

    /// Creates a group with so many places, and no locks.
    ///
    /// # Errors
    /// [`GroupExists`](LeaseError::GroupExists). As of any request to the coordinator; too many groups, or a name that no group
    /// can have.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// leases.create_group("printers", 3)?;
    /// assert!(leases.create_group("printers", 3).is_err());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn create_group(&self, group: &str, capacity: usize) -> Result<(), LeaseError> {
        groups::check_name(group)?;
        Groups::update(&self.coordinator, |all| all.create(group, capacity, &BTreeSet::new()))
    }

    /// Creates a group and its locks: as many as it has places, called `<group>Lock<i>`, with `i` counted from 0 (Ariba's
    /// documentation leaves open from what). They are free on return, unless somebody has acquired one by its name already.
    ///
    /// # Errors
    /// [`GroupExists`](LeaseError::GroupExists), [`InGroup`](LeaseError::InGroup) if a lock of such a name belongs to another
    /// group; nothing was created then. Others as [`create_group`](Self::create_group).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// leases.create_pool("licence", 1)?;
    /// let lock = leases.acquire_from_group("licence")?.expect("one is free");
    /// assert_eq!(lock.name(), "licenceLock0");
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn create_pool(&self, group: &str, locks: usize) -> Result<(), LeaseError> {
        groups::check_name(group)?;
        groups::check_size(locks, self.seat().at())?;
        let names: BTreeSet<Arc<str>> =
            (0..locks).map(|i| format!("{group}Lock{i}").into()).collect();
        if let Some(longest) = names.iter().max_by_key(|name| name.len()) {
            self.named(longest)?;
        }
        Groups::update(&self.coordinator, |all| all.create(group, locks, &names))
    }

    /// Acquires any lock of the group that is free, in one attempt at each; `None` if none is. One whose holder's time is over is
    /// free, and owes a [clean-up](Lease::cleanup).
    ///
    /// # Errors
    /// [`NoGroup`](LeaseError::NoGroup), [`NoLocks`](LeaseError::NoLocks). Others as [`acquire_lock`](Self::acquire_lock).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// leases.create_pool("licence", 1)?;
    /// let lock = leases.acquire_from_group("licence")?.expect("one is free");
    /// assert!(leases.acquire_from_group("licence")?.is_none());
    /// # drop(lock);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn acquire_from_group(&self, group: &str) -> Result<Option<Lease>, LeaseError> {
        let locks = self.locks_of(group)?;
        self.try_any(group, &locks)
    }

    /// Acquires any lock of the group, the first that comes free within so long; `None` if the time was up first.
    ///
    /// Stands in line for all of them, and so has one before whoever came later for it or for the group. Locks that come into the
    /// group meanwhile are waited for, too. What it is granted beyond the first is given back at once, before this returns.
    ///
    /// # Errors
    /// As [`acquire_from_group`](Self::acquire_from_group), also if the group is deleted meanwhile.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// leases.create_pool("licence", 1)?;
    /// let hasty = leases.acquire_from_group("licence")?.expect("one is free");
    /// hasty.set_expiration(Duration::from_millis(10))?;
    /// let lock = leases.acquire_from_group_within("licence", Duration::from_secs(10))?;
    /// assert!(lock.is_some_and(|lock| lock.cleanup().is_some()));
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn acquire_from_group_within(
        &self,
        group: &str,
        timeout: Duration,
    ) -> Result<Option<Lease>, LeaseError> {
        let until = deadline(timeout);
        let (news, _watch) = self.watch_groups()?;
        let mut locks = self.locks_of(group)?;
        if let Some(lease) = self.try_any(group, &locks)? {
            return Ok(Some(lease));
        }
        let mut line = Line::new(&self.terms);
        loop {
            line.stand_for(&locks);
            // Reports may get lost.
            let look = clock::now().checked_add(self.seat().driver().poll_interval());
            let first = [until, look].into_iter().flatten().min();
            match line.next(&news, first)? {
                Event::Had(claim) => {
                    if let Some(lease) = self.confirm(group, *claim)? {
                        return Ok(Some(lease));
                    }
                    locks = self.locks_of(group)?;
                }
                Event::TimeIsUp if first == until && first != look => return Ok(None),
                Event::News | Event::TimeIsUp => locks = self.locks_of(group)?,
            }
        }
    }

    /// Deletes the group; its locks are then in none. It takes each of them for a moment: whoever tries meanwhile finds it held.
    ///
    /// # Errors
    /// [`NoGroup`](LeaseError::NoGroup), [`GroupLocked`](LeaseError::GroupLocked) if one is held,
    /// [`GroupNotClean`](LeaseError::GroupNotClean) if one was left behind and nobody acquired it since; the group is as before then.
    /// As of any request to the coordinator.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::{LeaseError, Leases}};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// leases.create_pool("licence", 1)?;
    /// let lock = leases.acquire_from_group("licence")?.expect("one is free");
    /// assert!(matches!(leases.delete_group("licence"), Err(LeaseError::GroupLocked { .. })));
    /// lock.release()?;
    /// leases.delete_group("licence")?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn delete_group(&self, group: &str) -> Result<(), LeaseError> {
        let locks = Groups::read(&self.coordinator)?.locks(group)?.clone();
        // Until it is over, however long that takes.
        let terms = Terms { lifetime_ms: None, ..self.terms.clone() };
        let claim = |lock| self.claim_free(group, lock, &terms);
        let claims: Vec<Claim> = locks.iter().map(claim).collect::<Result<_, _>>()?;
        Groups::update(&self.coordinator, |all| {
            // Whoever put one in meanwhile holds it.
            if let Some(lock) = all.locks(group)?.difference(&locks).next() {
                return Err(locked(group, lock));
            }
            all.remove(group);
            Ok(())
        })?;
        drop(claims);
        Ok(())
    }

    /// Takes a lock of a group, if it is free and owes nothing.
    fn claim_free(&self, group: &str, lock: &Arc<str>, terms: &Terms) -> Result<Claim, LeaseError> {
        let claim = Claim::now(&self.named(lock)?, terms)?;
        let claim = claim.ok_or_else(|| locked(group, lock))?;
        match claim.previous() {
            None => Ok(claim),
            Some(previous) => Err(LeaseError::GroupNotClean {
                group: group.into(),
                lock: Arc::clone(lock),
                owner: Arc::clone(&previous.party.owner),
                by: previous.party.member.clone(),
            }),
        }
    }

    fn named(&self, name: &str) -> Result<Arc<Named>, LeaseError> {
        self.node.named(&self.coordinator, name)
    }

    fn locks_of(&self, group: &str) -> Result<Vec<Arc<Named>>, LeaseError> {
        let groups = Groups::read(&self.coordinator)?;
        let names = groups.locks(group)?;
        if names.is_empty() {
            return Err(LeaseError::NoLocks { group: group.into() });
        }
        names.iter().map(|name| self.named(name)).collect()
    }

    fn try_any(&self, group: &str, locks: &[Arc<Named>]) -> Result<Option<Lease>, LeaseError> {
        let (late, early) = locks.split_at(self.node.next_look() % locks.len());
        for named in early.iter().chain(late) {
            if let Some(claim) = Claim::now(named, &self.terms)?
                && let Some(lease) = self.confirm(group, claim)?
            {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    /// Makes a lease of a lock that is in the group still: from now on, nobody can delete the group.
    fn confirm(&self, group: &str, claim: Claim) -> Result<Option<Lease>, LeaseError> {
        let groups = Groups::read(&self.coordinator)?;
        let is_in = groups.locks(group)?.contains(&claim.named.name);
        is_in.then(|| Lease::new(claim)).transpose()
    }

    /// A message whenever something about groups changes.
    fn watch_groups(&self) -> Result<(Receiver<()>, Watch), LeaseError> {
        let (changed, news) = bounded(1);
        let reporter = Reporter::new(move |_| {
            // One message is enough for any number of changes.
            let _ = changed.try_send(());
        });
        let key = groups::key();
        let watch = self.seat().driver().watch(Subject::Record(key.clone()), reporter);
        Ok((news, watch.map_err(|error| self.seat().engine_error(key.as_str(), error))?))
    }

    fn seat(&self) -> &Arc<Member> {
        self.coordinator.seat()
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases")
            .field("coordinator", &self.coordinator)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

fn deadline(timeout: Duration) -> Option<Instant> {
    // Beyond the clock's range is for ever.
    clock::now().checked_add(timeout)
}

fn locked(group: &str, lock: &Arc<str>) -> LeaseError {
    LeaseError::GroupLocked { group: group.into(), lock: Arc::clone(lock) }
}
