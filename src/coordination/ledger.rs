//! Sessions that allocate ids from a counter and lock them: Ganga's `SessionLockManager`.
//!
//! A [`Ledger`] opens a *registry*: a counter that only grows, and who holds which of the ids. A *session* is a member's part
//! in a registry, from [`startup`](Ledger::startup) to [`shutdown`](Ledger::shutdown) or to the end of the member. It
//! gets ids that nobody ever had, which are locked from the beginning ([`make_new_ids`](Ledger::make_new_ids)), locks others that
//! nobody else holds ([`lock_ids`](Ledger::lock_ids)), and gives them back ([`release_ids`](Ledger::release_ids)). Nothing here
//! ever waits for another session. A coordination has any number of registries, which have nothing to do with one another.
//!
//! # Who is dead holds nothing
//! A session lives exactly as long as its member, as the engine sees it; no time stamp decides anything. Whoever wants an id that a
//! dead session held gets it: [`lock_ids`](Ledger::lock_ids) ends dead sessions that stand in its way, in the same swap,
//! and [`session_of`](Ledger::session_of) and [`other_sessions`](Ledger::other_sessions) do not show them.
//! [`reap`](Ledger::reap) ends all of them, and says who they were and what they held.
//!
//! # What is stored, and what becomes of it
//! All of a registry is one record, changed by one swap at a time; its counter is stored once more, and raised there first. So a
//! process may be killed at any instruction: an id may be skipped then, none is given twice, and none is lost while the
//! session that holds it lives. If people delete or damage what is stored:
//!
//! | the record | its counter | then |
//! |---|---|---|
//! | is there | absent or damaged | the next session that counts further writes the counter anew |
//! | absent | is there | the next call makes the record anew. A session that lives holds what it held: nobody else gets an id from before until that session has called anything, or is dead |
//! | absent | damaged | every call fails with [`Gone`](LedgerError::Gone): there was something. [`repair`](Ledger::repair) begins to count at its minimum |
//! | absent | absent | every call of a session fails with [`Gone`](LedgerError::Gone); `startup(minimum)` of a process that saw no registry begins to count there |
//! | damaged | any | every call fails with [`Damaged`](CoordinationError::Damaged), and the record is left as it is, until somebody calls [`repair`](Ledger::repair) |
//!
//! An engine may notice by itself that what it stored was damaged (`file:` has checksums): its error names the file, and as long as
//! that is the counter, those calls fail that have to read or write it: `startup`, and whatever counts further. Delete the file;
//! the table says how it goes on.
//!
//! A damaged record never looks like an empty one. Each process remembers what it holds itself and how far the counter was, so
//! the counter does not go back while one of them lives, even if all is deleted.
//!
//! # Size
//! What is stored grows with ranges, not with ids: a million ids in a row are two numbers. A registry has up to 16 MiB, which is
//! half a million scattered ranges and more; what would exceed it fails with [`TooLarge`](CoordinationError::TooLarge) and changes nothing.
//! (Releasing one id out of a range makes two of it.) Each call reads all of the registry. An engine that stores smaller
//! values than that has to split them.
//!
//! # Coming from Ganga
//! | Ganga | here | differs |
//! |---|---|---|
//! | `SessionLockManager(repo, root, name, minimum_count)` | [`Ledger::open`], [`Ledger::startup`] | the root is the coordinator's URL; the session is its member, so two sessions in one process are two members |
//! | `startup()` | [`Ledger::startup`] | |
//! | `shutdown()` | [`Ledger::shutdown`] | |
//! | `make_new_ids(n)` | [`Ledger::make_new_ids`] | a deleted counter is no fatal error as long as the registry is there |
//! | `lock_ids(ids)` | [`Ledger::lock_ids`] | in order |
//! | `release_ids(ids)` | [`Ledger::release_ids`] | returns those that were held, not all that were given |
//! | `get_lock_session(id)` | [`Ledger::session_of`] | an error is an error, not "nobody" |
//! | `get_other_sessions()` | [`Ledger::other_sessions`] | writes nothing |
//! | `reap_locks()` | [`Ledger::reap`] | ends those that are dead, not those whose clock is 45 s off; says whom |
//! | `check()` | [`Ledger::check`] | |
//! | `FixedLockManager` | a coordinator of `memory:` | |
//! | session files touched every 10-20 s, `DiskIOTimeout` | the member's life, see [`Connect::ttl`](super::Connect::ttl) | a session that is dead is told so by every call |
//! | `dry_run_unix_locks` | [`Connect::join`](super::Connect::join), which refuses a store that cannot do it | |
//!
//! # Examples
//! ```
//! use tierlock::coordination::Coordinator;
//! use tierlock::coordination::ledger::Ledger;
//!
//! let (a, b) = (Coordinator::connect("memory:doc").join("a")?, Coordinator::connect("memory:doc").join("b")?);
//! let (a, b) = (Ledger::open(&a, "jobs")?, Ledger::open(&b, "jobs")?);
//! a.startup(100)?;
//! b.startup(100)?;
//!
//! assert_eq!(a.make_new_ids(3)?, 100..103);
//! assert_eq!(b.lock_ids(102..105)?.to_string(), "103-104"); // without waiting for 102
//! assert_eq!(a.session_of(103)?.expect("b has it").member().name().as_ref(), "b");
//! a.shutdown()?;
//! assert_eq!(b.lock_ids(102)?.to_string(), "102");
//! # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
//! ```

mod counter;
mod own;
mod registry;
mod shelf;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use self::own::Own;
pub use self::registry::LedgerSession;
use self::registry::Registry;
use self::shelf::{Shelf, Uncounted};
use super::coordinator::Coordinator;
use crate::clock;
pub use crate::core::ids::Ids;
use crate::core::member::MemberId;
use crate::error::CoordinationError;
pub use crate::error::LedgerError;

/// One registry of a coordination, and this member's session in it. Clones, and others that the member opens by the same
/// name, are the same session. See [the module](self).
#[derive(Clone)]
pub struct Ledger {
    shelf: Arc<Shelf>,
    own: Arc<Mutex<Own>>,
}

impl Ledger {
    /// Opens the registry of this name. Stores nothing yet: [`startup`](Self::startup) does.
    ///
    /// # Errors
    /// [`BadName`](CoordinationError::BadName) if the name is empty or too long.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// let (jobs, tasks) = (Ledger::open(&coordinator, "jobs")?, Ledger::open(&coordinator, "tasks")?);
    /// jobs.startup(0)?;
    /// tasks.startup(500)?;
    /// assert_eq!((jobs.make_new_ids(1)?, tasks.make_new_ids(1)?), (0..1, 500..501));
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn open(coordinator: &Coordinator, name: &str) -> Result<Self, LedgerError> {
        let shelf = Shelf::new(coordinator, name).map_err(|bad| CoordinationError::BadName {
            what: "a registry",
            name: name.into(),
            reason: bad.to_string().into(),
        })?;
        Ok(Self { own: shelf.own(), shelf: Arc::new(shelf) })
    }

    /// Begins this member's session. No id below `minimum` is given from now on: say one more than the greatest that is known
    /// to be used, or 0. Makes what is absent of what is stored. Does nothing else to a session that has begun.
    ///
    /// # Errors
    /// [`LedgerError::Coordination`]: the member is lost, the engine failed, or the registry is damaged.
    /// [`Gone`](LedgerError::Gone) if there was a registry, of which nothing is left that counts.
    /// [`Taken`](LedgerError::Taken) if the session had begun and somebody else has its ids.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// let jobs = Ledger::open(&coordinator, "jobs")?;
    /// jobs.startup(1)?;
    /// assert_eq!(jobs.make_new_ids(2)?, 1..3);
    /// jobs.startup(100)?; // holds 1 and 2 as before
    /// assert_eq!(jobs.make_new_ids(1)?, 100..101);
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn startup(&self, minimum: u64) -> Result<(), LedgerError> {
        self.begin(minimum, Uncounted::Begin(minimum))
    }

    /// Begins the session as [`startup`](Self::startup) does, and makes a damaged record anew, if it is: of its counter, or counting
    /// from `minimum` if that is lost, too. Sessions that live hold what they held, unless both are lost and somebody else
    /// was quicker: those are told by [`Taken`](LedgerError::Taken). What is damaged is overwritten.
    ///
    /// # Errors
    /// As [`startup`](Self::startup), but for a damaged registry.
    pub fn repair(&self, minimum: u64) -> Result<(), LedgerError> {
        self.begin(minimum, Uncounted::Repair(minimum))
    }

    fn begin(&self, minimum: u64, uncounted: Uncounted) -> Result<(), LedgerError> {
        let mut own = self.own.lock();
        let begun = own.since_s;
        own.since_s.get_or_insert_with(clock::wall_s);
        let begins = self.shelf.change(&mut own, uncounted, |registry| {
            registry.count_to(minimum);
            Ok((registry.next(), registry.members()))
        });
        // Whoever holds an id is listed with the counter: it is, before it holds any.
        let begins =
            begins.and_then(|(next, members)| self.shelf.raise(&own, next..next, &members));
        begins.map(drop).inspect_err(|_| own.since_s = begun)
    }

    /// Ends this member's session: whatever it holds is free. Once is enough, and none is needed if the member leaves.
    ///
    /// # Errors
    /// [`LedgerError::Coordination`]; the session goes on then, unless it is the member that is lost.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// let jobs = Ledger::open(&coordinator, "jobs")?;
    /// jobs.startup(0)?;
    /// jobs.make_new_ids(2)?;
    /// jobs.shutdown()?;
    /// assert_eq!(jobs.session_of(0)?, None);
    /// assert!(jobs.make_new_ids(1).is_err());
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn shutdown(&self) -> Result<(), LedgerError> {
        let mut own = self.own.lock();
        let Some(begun) = own.since_s.take() else { return Ok(()) };
        // A registry in which it still is is not as it has to be: there is nothing else to do.
        match self.shelf.change(&mut own, Uncounted::Fail, |_| Ok(())) {
            // If nothing is stored, nothing is held.
            Ok(()) | Err(LedgerError::Gone { .. }) => own.end(),
            Err(error) => {
                own.since_s = Some(begun);
                return Err(error);
            }
        }
        self.shelf.forget(std::slice::from_ref(self.shelf.me()));
        Ok(())
    }

    /// Gives this session `count` ids in a row that nobody ever had; they are locked when this returns.
    ///
    /// # Errors
    /// [`NotStarted`](LedgerError::NotStarted), [`OutOfIds`](LedgerError::OutOfIds), [`Taken`](LedgerError::Taken),
    /// [`Gone`](LedgerError::Gone), or [`LedgerError::Coordination`]. None is given then; if the engine failed, some may be
    /// skipped, or held by this session until it ends.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// # let jobs = Ledger::open(&coordinator, "jobs")?;
    /// # jobs.startup(0)?;
    /// for id in jobs.make_new_ids(1_000_000)? {
    ///     // ...
    /// }
    /// assert_eq!(jobs.make_new_ids(1)?.start, 1_000_000);
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn make_new_ids(&self, count: u64) -> Result<Range<u64>, LedgerError> {
        self.attending(|registry| self.answer(registry.make(self.shelf.me(), count)))
    }

    /// Locks those of the ids that no other session holds, and returns them; its own again, too. Does not wait for the others.
    /// What dead sessions held is free, and so are ids that were never made: no id is made anew of what is locked.
    ///
    /// # Errors
    /// As [`make_new_ids`](Self::make_new_ids); [`OutOfIds`](LedgerError::OutOfIds) if `u64::MAX` is one of them. None is locked
    /// then, unless the engine failed: ask again.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::{Ids, Ledger};
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// # let jobs = Ledger::open(&coordinator, "jobs")?;
    /// # jobs.startup(0)?;
    /// assert_eq!(jobs.lock_ids([3, 5])?, Ids::from([3, 5]));
    /// assert_eq!(jobs.lock_ids(3..5)?.len(), 2);
    /// assert_eq!(jobs.make_new_ids(1)?.start, 6);
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn lock_ids(&self, ids: impl Into<Ids>) -> Result<Ids, LedgerError> {
        let (ids, me) = (ids.into(), self.shelf.me());
        self.attending(|registry| {
            for other in registry.in_the_way(me, &ids) {
                if !self.shelf.is_alive(&other)? {
                    registry.end(&other);
                }
            }
            self.answer(registry.lock(me, &ids))
        })
    }

    /// Gives back those of the ids that this session holds, and returns them.
    ///
    /// # Errors
    /// As [`make_new_ids`](Self::make_new_ids). None is given back then, unless the engine failed: ask again.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// # let jobs = Ledger::open(&coordinator, "jobs")?;
    /// # jobs.startup(0)?;
    /// let made = jobs.make_new_ids(3)?;
    /// assert_eq!(jobs.release_ids([1, 99])?.to_string(), "1");
    /// assert_eq!(jobs.release_ids(made)?.to_string(), "0, 2");
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn release_ids(&self, ids: impl Into<Ids>) -> Result<Ids, LedgerError> {
        let ids = ids.into();
        self.attending(|registry| Ok(registry.release(self.shelf.me(), &ids)))
    }

    /// What this session holds.
    ///
    /// # Errors
    /// [`NotStarted`](LedgerError::NotStarted), or those of [`session_of`](Self::session_of).
    pub fn ids(&self) -> Result<Ids, LedgerError> {
        let own = self.own.lock();
        if own.since_s.is_none() {
            return Err(self.shelf.not_started());
        }
        let registry = self.shelf.look(&own)?;
        Ok(registry.ids_of(self.shelf.me()).cloned().unwrap_or_default())
    }

    /// Audits what is stored: the counter is above every id, its second copy is not behind, no id is in two sessions, and this one
    /// has all that it holds. Changes nothing.
    ///
    /// # Errors
    /// [`Damaged`](CoordinationError::Damaged) says which of it is not so; [`Gone`](LedgerError::Gone);
    /// [`LedgerError::Coordination`] if the member is lost or the engine cannot be read.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// # let jobs = Ledger::open(&coordinator, "jobs")?;
    /// assert!(jobs.check().unwrap_err().to_string().contains("nothing tells how far registry jobs"));
    /// jobs.startup(0)?;
    /// jobs.check()?;
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn check(&self) -> Result<(), LedgerError> {
        self.shelf.audit(&self.own.lock())
    }

    /// The session that holds the id, if one that lives does. If the registry was lost, also one that may: it has not said
    /// since what it holds, see [`LedgerSession::ids`].
    ///
    /// # Errors
    /// [`Taken`](LedgerError::Taken), [`Gone`](LedgerError::Gone), or [`LedgerError::Coordination`].
    pub fn session_of(&self, id: u64) -> Result<Option<LedgerSession>, LedgerError> {
        let mut registry = self.shelf.look(&self.own.lock())?;
        while let Some(session) = registry.holder(id).cloned() {
            if self.shelf.is_alive(session.member())? {
                return Ok(Some(session));
            }
            registry.end(session.member());
        }
        Ok(None)
    }

    /// The sessions of all others who live, in the order in which they began.
    ///
    /// # Errors
    /// [`Taken`](LedgerError::Taken), [`Gone`](LedgerError::Gone), or [`LedgerError::Coordination`].
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// let (a, b) = (Coordinator::connect("memory:").join("a")?, Coordinator::connect("memory:").join("b")?);
    /// # let (a, b) = { drop((a, b)); (Coordinator::connect("memory:others").join("a")?, Coordinator::connect("memory:others").join("b")?) };
    /// let (a, b) = (Ledger::open(&a, "jobs")?, Ledger::open(&b, "jobs")?);
    /// a.startup(0)?;
    /// b.startup(0)?;
    /// let others = a.other_sessions()?;
    /// assert_eq!(others[0].member().name().as_ref(), "b");
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn other_sessions(&self) -> Result<Vec<LedgerSession>, LedgerError> {
        let registry = self.shelf.look(&self.own.lock())?;
        let dead = self.dead(&registry)?;
        let others = registry.sessions().iter().filter(|s| s.member() != self.shelf.me());
        Ok(others.filter(|session| !dead.contains(session.member())).cloned().collect())
    }

    /// Ends the sessions of members that live no more, exactly those, and returns them with what they held, which is free now.
    /// Anyone may, with or without a session of its own.
    ///
    /// # Errors
    /// [`Taken`](LedgerError::Taken), [`Gone`](LedgerError::Gone), or [`LedgerError::Coordination`].
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::ledger::Ledger;
    /// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// # let jobs = Ledger::open(&coordinator, "jobs")?;
    /// # jobs.startup(0)?;
    /// for dead in jobs.reap()? {
    ///     println!("{dead} left {}", dead.ids().map_or("what nobody knows".to_owned(), |ids| ids.to_string()));
    /// }
    /// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
    /// ```
    pub fn reap(&self) -> Result<Vec<LedgerSession>, LedgerError> {
        let mut own = self.own.lock();
        self.shelf.change(&mut own, Uncounted::Fail, |registry| {
            let dead = self.dead(registry)?;
            Ok(dead.iter().filter_map(|member| registry.end(member)).collect())
        })
    }

    /// The members of the registry that live no more.
    fn dead(&self, registry: &Registry) -> Result<Vec<MemberId>, LedgerError> {
        let alive = self.shelf.alive(registry.members())?;
        let others = registry.members().into_iter().filter(|member| member != self.shelf.me());
        Ok(others.filter(|member| !alive.contains(member)).collect())
    }

    fn attending<R>(
        &self,
        step: impl FnMut(&mut Registry) -> Result<R, LedgerError>,
    ) -> Result<R, LedgerError> {
        let mut own = self.own.lock();
        if own.since_s.is_none() {
            return Err(self.shelf.not_started());
        }
        self.shelf.change(&mut own, Uncounted::Fail, step)
    }

    fn answer<R>(&self, result: Result<R, registry::Refusal>) -> Result<R, LedgerError> {
        result.map_err(|refusal| self.shelf.refused(refusal))
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("registry", &self.shelf.name)
            .field("coordinator", &self.shelf.coordinator)
            .finish_non_exhaustive()
    }
}
