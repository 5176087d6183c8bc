//! What a session asks for, by a request that borrows the session or owns it.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use super::{Grant, Session};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::{AcquireError, Error};
use crate::hold::dispatch;
use crate::plan::{Ask, Source, Wanted};
use crate::set_hold::SetHold;
use crate::target::{Patience, Target};
use crate::task::{Members, Refusal, Task};

/// What is asked for, until it is known which locks that are, and at which levels it is asked for then.
#[derive(Debug)]
pub(super) struct Asked<'w> {
    wanted: Wanted<'w>,
    /// Known of requests that were tried already.
    priority: Priority,
}

impl<'w> Asked<'w> {
    #[inline]
    pub(super) fn new(wanted: Wanted<'w>) -> Self {
        Self { wanted, priority: 0 }
    }

    pub(super) fn prepare(
        &mut self,
        session: &Session,
        patience: Patience,
    ) -> Result<Option<Task>, AcquireError> {
        let prepared = self.wanted.prepared(&session.hierarchy, &session.owner)?;
        session.check(&prepared.asks)?;
        let stages = match prepared {
            Cow::Borrowed(prepared) => prepared.stages.clone(),
            Cow::Owned(prepared) => prepared.stages,
        };
        if stages.is_empty() {
            return Ok(None);
        }
        let promises = if session.hierarchy.extends {
            session.ask_beyond(&stages, self.priority, patience)?
        } else {
            Vec::new()
        };
        Ok(Some(Task::take(&session.owner, stages).keeping(promises)))
    }

    /// Takes what is asked for, if that needs no waiting.
    #[inline]
    fn at_once(&self, session: &mut Session, priority: Priority) -> Option<Grant> {
        match &self.wanted.0 {
            Source::Plan(plan) => {
                let prepared = plan.current(&session.hierarchy)?;
                let stages = prepared.stages.iter();
                let takes = stages.map(|s| (s.rank, (s.top.1, s.mode), s.members.clone()));
                session.take_at_once(&prepared.asks, takes, priority)
            }
            Source::Requests(requests) => {
                let mut asks = SmallVec::<[Ask; 4]>::new();
                let mut takes = SmallVec::<[Take; 4]>::new();
                // All of them are looked up before any is taken.
                for wanted in requests {
                    let (ask, set) = session.hierarchy.ask(wanted)?;
                    let found = set.wanted(&wanted.request).ok()?;
                    takes.extend(found.map(|(top, members)| (ask.rank, (top, ask.mode), members)));
                    asks.push(ask);
                }
                session.take_at_once(&asks, takes, priority)
            }
        }
    }

    /// Has the session hold what was acquired.
    fn granted(session: &mut Session, task: Option<Task>) -> Result<Grant, AcquireError> {
        let mut abandoned = Vec::new();
        let task = session.still_beyond(task)?;
        let Some(Task::Take(taking)) = task else { return Ok(Grant { abandoned }) };
        let mut decisions = Vec::new();
        for (rank, mode, had) in taking.into_had() {
            let mut seat = session.seat(rank);
            *seat.hold = SetHold::new(mode, had);
            seat.stand_up(&mut decisions);
            abandoned.extend(seat.hold.iter().flat_map(|hold| hold.take_abandoned(seat.set)));
        }
        dispatch(decisions);
        Ok(Grant { abandoned })
    }
}

/// What is to be taken of a level: its rank, the modes of set-lock and members, and these.
type Take = (usize, (Mode, Mode), Members);

impl Session {
    /// Takes levels, if the rules permit it and all of it can be had at once.
    fn take_at_once(
        &mut self,
        asks: &[Ask],
        takes: impl IntoIterator<Item = Take>,
        priority: Priority,
    ) -> Option<Grant> {
        self.check(asks).ok()?;
        let first = asks.first().map_or(self.levels.len(), |ask| ask.rank);
        for (rank, modes, members) in takes {
            let set = &self.hierarchy.sets[rank];
            let hold = SetHold::at_once(set, modes, members, priority, &self.owner);
            if hold.is_none() {
                // Nothing from there on was held before.
                self.release_from(first);
                return None;
            }
            self.levels[rank] = hold;
        }
        let mut abandoned = Vec::new();
        for (_, set, hold) in
            self.held().filter(|(rank, set, _)| *rank >= first && set.has_abandoned())
        {
            abandoned.extend(hold.take_abandoned(set));
        }
        Some(Grant { abandoned })
    }
}

/// A request for levels of a [`Session`].
///
/// It borrows the session, so it cannot be kept beside it: see [`Session::acquire_owned`] for that.
#[derive(Debug)]
pub struct AcquireLevels<'s> {
    session: &'s mut Session,
    asked: Asked<'s>,
}

impl<'s> AcquireLevels<'s> {
    #[inline]
    pub(super) fn new(session: &'s mut Session, wanted: Wanted<'s>) -> Self {
        Self { session, asked: Asked::new(wanted) }
    }

    fn tried(mut self, priority: Priority) -> Self {
        self.asked.priority = priority;
        self
    }
}

impl Target for AcquireLevels<'_> {
    type Granted = Grant;
    type Error = AcquireError;

    #[inline]
    fn immediate(self, priority: Priority) -> Result<Grant, Self> {
        self.asked.at_once(self.session, priority).ok_or_else(|| self.tried(priority))
    }

    fn prepare(&mut self, patience: Patience) -> Result<Option<Task>, AcquireError> {
        self.asked.prepare(self.session, patience)
    }

    fn granted(self, task: Option<Task>) -> Result<Grant, AcquireError> {
        Asked::granted(self.session, task)
    }

    fn refused(self, refusal: Refusal) -> AcquireError {
        refusal.into()
    }
}

/// A request that owns its [`Session`], so that it can be kept beside others.
///
/// # Examples
/// ```
/// # use tierlock::{AcquireOwned, Level, Pending, ganeti::{self, Level::*}};
/// struct Job {
///     pending: Pending<AcquireOwned>,
/// }
/// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
/// let job = Job { pending: manager.session("job-17").acquire_owned(Cluster.shared("BGL")).enqueue() };
/// let (session, _grant) = job.pending.wait()?;
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Debug)]
pub struct AcquireOwned {
    /// Gone only with an error that takes it along.
    session: Option<Session>,
    asked: Asked<'static>,
}

impl AcquireOwned {
    pub(super) fn new(session: Session, wanted: Wanted<'static>) -> Self {
        Self { session: Some(session), asked: Asked::new(wanted) }
    }
}

impl Target for AcquireOwned {
    type Granted = (Session, Grant);
    type Error = SessionRefused;

    fn prepare(&mut self, patience: Patience) -> Result<Option<Task>, SessionRefused> {
        let session = self.session.take().expect("prepared once");
        match self.asked.prepare(&session, patience) {
            Ok(task) => {
                self.session = Some(session);
                Ok(task)
            }
            Err(error) => Err(SessionRefused { session, error }),
        }
    }

    fn granted(self, task: Option<Task>) -> Result<(Session, Grant), SessionRefused> {
        let mut session = self.session.expect("there until it is refused");
        match Asked::granted(&mut session, task) {
            Ok(grant) => Ok((session, grant)),
            Err(error) => Err(SessionRefused { session, error }),
        }
    }

    fn refused(self, refusal: Refusal) -> SessionRefused {
        let session = self.session.expect("there until it is refused");
        SessionRefused { session, error: refusal.into() }
    }
}

/// Why a session's request was refused, and the session, which holds what it held before.
///
/// Converts into [`Error`] where the session is to be dropped with it.
///
/// # Examples
/// ```
/// # use tierlock::{Level, ganeti::{self, Level::*}};
/// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
/// let refused = manager.session("job-17").acquire_owned(Instance.shared("web1")).now().unwrap_err();
/// assert_eq!(refused.to_string(), "job-17 asked for level instance, but does not hold the root cluster/BGL");
/// let mut job = refused.session;
/// job.acquire(Cluster.shared("BGL")).now()?;
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionRefused {
    /// As it was before.
    pub session: Session,
    /// Why not.
    pub error: AcquireError,
}

impl fmt::Display for SessionRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SessionRefused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<SessionRefused> for Error {
    fn from(refused: SessionRefused) -> Self {
        refused.error.into()
    }
}
