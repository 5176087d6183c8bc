//! One level as a place where locks are taken by name and held by a guard, which outlives the request's borrow of the session.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::Session;
use super::asked::Asked;
use crate::core::mode::Mode;
use crate::error::{Abandoned, AcquireError};
use crate::hold::dispatch;
use crate::lent::Lent;
use crate::level::{Level, LevelId, LevelRequest};
use crate::owner::Owner;
use crate::plan::Hierarchy;
use crate::set_hold::SetHold;
use crate::target::{Patience, Target};
use crate::task::{Refusal, Task};

/// A level of a session, to be named in `in = ..` of an [annotation](crate::ssynchronized): see [`Session::at`].
///
/// It is good for one request, which takes the session's borrow along; to ask it again is a mistake, and panics.
///
/// # Examples
/// ```
/// use tierlock::{Error, Session, ganeti::Level::*, ssynchronized};
///
/// #[ssynchronized("{node}", in = job.at(Node))]
/// fn reboot(job: &mut Session, node: &str) -> Result<(), Error> {
///     Ok(())
/// }
/// ```
pub struct SessionLevel<'s> {
    /// Taken by the request.
    session: Cell<Option<&'s mut Session>>,
    level: LevelId,
}

impl<'s> SessionLevel<'s> {
    pub(super) fn new(session: &'s mut Session, level: &impl Level) -> Self {
        session.lent.get_or_insert_default();
        Self { session: Cell::new(Some(session)), level: id_of(level) }
    }

    /// # Panics
    /// If it was asked before.
    #[track_caller]
    pub(crate) fn take(&self) -> &'s mut Session {
        self.session.take().expect("a level is asked once")
    }

    pub(crate) fn name(&self) -> &str {
        self.level.name()
    }

    pub(crate) fn acquire(
        &self,
        session: &'s mut Session,
        name: String,
        mode: Mode,
    ) -> AcquireLevel<'s> {
        AcquireLevel::new(Asking::Session(session), &self.level, name, mode)
    }
}

impl fmt::Debug for SessionLevel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionLevel").field(&self.level.name()).finish()
    }
}

/// A level of a manager, to be named in `in = ..` of an [annotation](crate::ssynchronized): see
/// [`LockManager::at`](crate::LockManager::at).
///
/// # Examples
/// ```
/// use tierlock::{Error, LockManager, ganeti::Level::*, ssynchronized};
///
/// #[ssynchronized("{node}", in = manager.at(Node))]
/// fn reboot(manager: &LockManager, node: &str) -> Result<(), Error> {
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ManagerLevel {
    hierarchy: Arc<Hierarchy>,
    level: LevelId,
}

impl ManagerLevel {
    pub(crate) fn new(hierarchy: &Arc<Hierarchy>, level: &impl Level) -> Self {
        Self { hierarchy: Arc::clone(hierarchy), level: id_of(level) }
    }

    pub(crate) fn name(&self) -> &str {
        self.level.name()
    }

    pub(crate) fn acquire(&self, owner: &Owner, name: String, mode: Mode) -> AcquireLevel<'static> {
        let mut session = Session::new(&self.hierarchy, owner.clone());
        session.lent = Some(self.hierarchy.visitors.enter(owner));
        let visitor = Asking::Visitor(Visitor(session));
        AcquireLevel::new(visitor, &self.level, name, mode)
    }
}

fn id_of(level: &impl Level) -> LevelId {
    LevelId::new(level.rank(), level.name())
}

/// An owner that comes to a manager without a session of its own: with one in which nothing is held but by guards.
#[derive(Debug)]
struct Visitor(Session);

impl Drop for Visitor {
    fn drop(&mut self) {
        let Session { hierarchy, owner, lent, .. } = &mut self.0;
        if let Some(lent) = lent.take() {
            hierarchy.visitors.leave(owner, lent);
        }
    }
}

#[derive(Debug)]
enum Asking<'s> {
    Session(&'s mut Session),
    Visitor(Visitor),
}

impl Asking<'_> {
    fn session(&self) -> &Session {
        match self {
            Self::Session(session) => session,
            Self::Visitor(Visitor(session)) => session,
        }
    }
}

/// A request for a lock of a level, to be held by a guard of its own.
///
/// Only ever named by the compiler, so without an example of its own: see [`Session::at`].
#[derive(Debug)]
pub struct AcquireLevel<'s> {
    asking: Asking<'s>,
    asked: Asked<'static>,
    rank: usize,
}

impl<'s> AcquireLevel<'s> {
    fn new(asking: Asking<'s>, level: &LevelId, name: String, mode: Mode) -> Self {
        let request = LevelRequest::new(level, mode, name.into());
        Self { asking, asked: Asked::new(request.into()), rank: level.rank() }
    }
}

impl Target for AcquireLevel<'_> {
    type Granted = LevelGuard;
    type Error = AcquireError;

    fn prepare(&mut self, patience: Patience) -> Result<Option<Task>, AcquireError> {
        self.asked.prepare(self.asking.session(), patience)
    }

    fn granted(self, task: Option<Task>) -> Result<LevelGuard, AcquireError> {
        let session = self.asking.session();
        let task = session.still_beyond(task)?;
        let had = match task {
            Some(Task::Take(taking)) => taking.into_had().next(),
            _ => None,
        };
        let set = &session.hierarchy.sets[self.rank];
        let hold = had.and_then(|(_, mode, had)| SetHold::new(mode, had));
        let (lent, owner) = (session.lent(), session.owner.clone());
        let mut abandoned = Vec::new();
        if let Some(hold) = hold {
            abandoned = hold.take_abandoned(set);
            lent.put(self.rank, set, hold);
        }
        let visitor = match self.asking {
            Asking::Session(_) => None,
            Asking::Visitor(visitor) => Some(visitor),
        };
        let unwinding = std::thread::panicking();
        Ok(LevelGuard { rank: self.rank, lent, owner, abandoned, unwinding, _visitor: visitor })
    }

    fn refused(self, refusal: Refusal) -> AcquireError {
        refusal.into()
    }
}

/// What is held of a level for the time of a guard; dropping it gives everything back.
///
/// Only ever named by the compiler, so without an example of its own: see [`Session::at`].
#[derive(Debug)]
#[must_use = "dropping a guard gives the locks back"]
pub struct LevelGuard {
    rank: usize,
    lent: Arc<Lent>,
    owner: Owner,
    abandoned: Vec<Abandoned>,
    /// Taken while a panic unwound already: then a panic says nothing of this hold.
    unwinding: bool,
    /// Leaves after all the rest is dropped, if it was a visit.
    _visitor: Option<Visitor>,
}

impl LevelGuard {
    /// Locks of which the last exclusive holder panicked; each is told once, to an exclusive holder.
    #[must_use]
    pub fn abandoned(&self) -> &[Abandoned] {
        &self.abandoned
    }
}

impl Drop for LevelGuard {
    fn drop(&mut self) {
        let Some((set, hold)) = self.lent.take(self.rank) else { return };
        if !self.unwinding && std::thread::panicking() {
            hold.abandon(&set, &self.owner);
        }
        let mut decisions = Vec::new();
        hold.release_all(&set, &self.owner, &mut decisions);
        dispatch(decisions);
    }
}
