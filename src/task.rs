//! Locks to be taken as one request, in order.
//!
//! A [`Task`] takes what needs no waiting and stops at the first lock that does; it never waits itself.

mod taking;

use std::fmt;
use std::io;
use std::ops::Deref;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use crate::beyond::Promise;
use crate::bundle::Locks;
use crate::core::mode::Mode;
use crate::core::queue::{Priority, Queue};
use crate::error::{AcquireError, Blocker, UpgradeError};
use crate::hold::{Decisions, Hold, Lock, dispatch};
use crate::owner::{self, LockId, Owner, Record};

pub(crate) use self::taking::{Taking, take_at_once, take_each, take_top};

/// Where the names of a set are found while a request is under way.
pub(crate) trait Directory: fmt::Debug + Send + Sync + RefUnwindSafe {
    fn set_name(&self) -> &Arc<str>;
    /// The lock that has this name now.
    fn find(&self, name: &str) -> Option<Arc<Lock>>;
    /// Every lock of the set, in byte order of the names.
    fn list(&self) -> Vec<Arc<Lock>>;
}

/// What a request wants of one set, or of a lock by itself.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Where it belongs, for whoever asks for several sets.
    pub(crate) rank: usize,
    /// The set-lock, taken before any member, or the lock by itself; and in which mode.
    pub(crate) top: (Arc<Lock>, Mode),
    pub(crate) members: Members,
    /// The mode of the members.
    pub(crate) mode: Mode,
    /// Where a member is looked up whose lock was deleted meanwhile.
    pub(crate) directory: Option<Arc<dyn Directory>>,
}

impl Stage {
    /// Asks for one lock and nothing below it.
    pub(crate) fn only(lock: &Arc<Lock>, mode: Mode) -> Self {
        Self {
            rank: 0,
            top: (Arc::clone(lock), mode),
            members: Members::None,
            mode,
            directory: None,
        }
    }
}

/// Stages of a request: its own, or those of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Stages {
    One(Stage),
    Many(Arc<[Stage]>),
}

impl Deref for Stages {
    type Target = [Stage];

    #[inline]
    fn deref(&self) -> &[Stage] {
        match self {
            Self::One(stage) => std::slice::from_ref(stage),
            Self::Many(stages) => stages,
        }
    }
}

impl From<Vec<Stage>> for Stages {
    fn from(mut stages: Vec<Stage>) -> Self {
        match stages.len() {
            1 => Self::One(stages.remove(0)),
            _ => Self::Many(stages.into()),
        }
    }
}

impl Stages {
    /// To be changed for this request alone.
    fn make_mut(&mut self) -> &mut [Stage] {
        match self {
            Self::One(stage) => std::slice::from_mut(stage),
            Self::Many(stages) => Arc::make_mut(stages),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Members {
    None,
    /// All of these, in this order.
    Exactly(Locks),
    /// Those of these that are free; at least so many.
    Free(Locks, usize),
    /// Whatever is free of the set; at least so many.
    AnyFree(usize),
}

impl Members {
    /// To be held by many, one after another, none of whom counts a lock that others use as well.
    pub(crate) fn counted_once(self) -> Self {
        match self {
            Self::Exactly(Locks::One(lock)) => Self::Exactly(Locks::Many([lock].into())),
            members => members,
        }
    }
}

/// Why a request cannot go on, and at which lock.
#[derive(Debug)]
pub struct Refusal {
    pub(crate) owner: Owner,
    pub(crate) lock: Arc<Lock>,
    pub(crate) wanted: Mode,
    pub(crate) reason: Reason,
}

#[derive(Debug)]
pub(crate) enum Reason {
    AlreadyHeld(Record),
    Deleted,
    WouldBlock,
    TimedOut(Duration, Vec<Blocker>),
    NoTimer(io::ErrorKind),
    NotEnough {
        set: Arc<str>,
        wanted: usize,
        had: usize,
    },
    Deadlock(Mode, Vec<Blocker>),
    /// Something outside the process keeps the lock from the owner.
    Outside(crate::error::Outside),
}

impl From<Refusal> for AcquireError {
    fn from(refusal: Refusal) -> Self {
        let owner = Arc::clone(refusal.owner.name_arc());
        let lock = refusal.lock.name().clone();
        let wanted = refusal.wanted;
        match refusal.reason {
            Reason::AlreadyHeld(record) => {
                Self::AlreadyHeld { owner, lock, wanted, held: record.held() }
            }
            Reason::Deleted => Self::Deleted { owner, lock, wanted },
            Reason::TimedOut(waited, blockers) => {
                Self::TimedOut { owner, lock, wanted, waited, blockers }
            }
            Reason::NoTimer(reason) => Self::NoTimer { owner, lock, wanted, reason },
            // Only a conversion can deadlock, and its error has a case of its own.
            Reason::WouldBlock | Reason::Deadlock(..) => Self::WouldBlock { owner, lock, wanted },
            Reason::NotEnough { set, wanted, had } => Self::NotEnough { owner, set, wanted, had },
            #[cfg(feature = "coordination")]
            Reason::Outside(reason) => Self::Coordination { owner, lock, wanted, reason },
            #[cfg(not(feature = "coordination"))]
            Reason::Outside(never) => match never {},
        }
    }
}

impl From<Refusal> for UpgradeError {
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            Reason::Deadlock(held, blockers) => Self::WouldDeadlock {
                owner: Arc::clone(refusal.owner.name_arc()),
                lock: refusal.lock.name().clone(),
                held,
                wanted: refusal.wanted,
                blockers,
            },
            _ => Self::Acquire(refusal.into()),
        }
    }
}

/// How far a task came without waiting.
#[derive(Debug)]
pub(crate) enum Progress {
    Done,
    Blocked,
    Failed(Reason),
}

/// Something that takes locks, and may have to wait for them.
#[derive(Debug)]
pub enum Task {
    Take(Taking),
    Convert(Conversion),
}

/// A hold on its way to a stronger mode.
#[derive(Debug)]
pub struct Conversion {
    owner: Owner,
    hold: Hold,
    from: Mode,
    pub(crate) to: Mode,
    /// Holds that went to a stronger mode before it, and the modes they came from.
    before: Vec<(Hold, Mode)>,
}

impl Conversion {
    pub(crate) fn new(owner: &Owner, hold: Hold, to: Mode) -> Self {
        Self { owner: owner.clone(), from: hold.mode, hold, to, before: Vec::new() }
    }

    pub(crate) fn lock(&self) -> &Arc<Lock> {
        &self.hold.lock
    }

    /// Goes with these, in the order in which they were converted: if nothing comes of one, nothing comes of all.
    pub(crate) fn after(self, before: Vec<(Hold, Mode)>) -> Self {
        Self { before, ..self }
    }

    fn rollback(&mut self, decisions: &mut Decisions) {
        self.hold.downgrade(&self.owner, self.from, decisions);
        for (mut hold, from) in self.before.drain(..).rev() {
            hold.downgrade(&self.owner, from, decisions);
        }
    }
}

impl Task {
    pub(crate) fn take(owner: &Owner, stages: Stages) -> Self {
        Self::Take(Taking::new(owner.clone(), stages))
    }

    /// Keeps what was promised for it until it is over.
    pub(crate) fn keeping(mut self, promises: Vec<Promise>) -> Self {
        if let Self::Take(taking) = &mut self
            && !promises.is_empty()
        {
            taking.keep(promises);
        }
        self
    }

    /// Does it without waiting, or not at all.
    ///
    /// # Errors
    /// Why not; then nothing of the task is held.
    pub(crate) fn now(mut self, priority: Priority) -> Result<Self, Box<Refusal>> {
        let mut decisions = Vec::new();
        let progress = self.advance(priority, &mut decisions);
        dispatch(decisions);
        match progress {
            Progress::Done => Ok(self),
            Progress::Blocked => self.fail(Reason::WouldBlock),
            Progress::Failed(reason) => self.fail(reason),
        }
    }

    pub(crate) fn owner(&self) -> &Owner {
        match self {
            Self::Take(taking) => &taking.owner,
            Self::Convert(conversion) => &conversion.owner,
        }
    }

    /// The lock under way and the mode wanted of it.
    pub(crate) fn current(&self) -> Option<(&Arc<Lock>, Mode)> {
        match self {
            Self::Take(taking) => taking.current(),
            Self::Convert(conversion) => Some((&conversion.hold.lock, conversion.to)),
        }
    }

    pub(crate) fn advance(&mut self, priority: Priority, decisions: &mut Decisions) -> Progress {
        match self {
            Self::Take(taking) => taking.advance(priority, decisions),
            Self::Convert(c) => {
                let done = c.hold.try_convert(&c.owner, c.to);
                if done { Progress::Done } else { Progress::Blocked }
            }
        }
    }

    /// Records that the lock under way is held, by the hand of whoever released it.
    pub(crate) fn granted(&mut self) {
        match self {
            Self::Take(taking) => taking.granted(),
            Self::Convert(c) => c.hold.converted(&c.owner, c.to),
        }
    }

    /// Gives back what it took, so that all is held as before.
    pub(crate) fn rollback(&mut self, decisions: &mut Decisions) {
        match self {
            Self::Take(taking) => taking.rollback(decisions),
            Self::Convert(conversion) => conversion.rollback(decisions),
        }
    }

    pub(crate) fn fail(self, reason: Reason) -> Result<Self, Box<Refusal>> {
        let refusal = Box::new(self.refusal(reason));
        self.give_up();
        Err(refusal)
    }

    /// Ends the task without a result.
    pub(crate) fn give_up(mut self) {
        let mut decisions = Vec::new();
        self.rollback(&mut decisions);
        dispatch(decisions);
    }

    pub(crate) fn refusal(&self, reason: Reason) -> Refusal {
        let (lock, wanted) = match (self.current(), self) {
            (Some((lock, wanted)), _) => (Arc::clone(lock), wanted),
            (None, Self::Take(taking)) => {
                // An opportunistic stage failed as a whole.
                let stage = &taking.stages[taking.stage];
                (Arc::clone(&stage.top.0), stage.mode)
            }
            (None, Self::Convert(_)) => unreachable!("a conversion has one lock"),
        };
        Refusal { owner: self.owner().clone(), lock, wanted, reason }
    }

    /// The mode from which a conversion starts.
    pub(crate) fn converts_from(&self) -> Option<Mode> {
        match self {
            Self::Convert(conversion) => Some(conversion.hold.mode),
            Self::Take(_) => None,
        }
    }

    /// Who stands in the way at this moment: the holders that conflict, or else those who wait in front.
    pub(crate) fn blockers(&self) -> Vec<Blocker> {
        let Some((lock, wanted)) = self.current() else { return Vec::new() };
        let holders = conflicting_holders(self.owner(), lock, wanted);
        if !holders.is_empty() {
            return holders;
        }
        lock.inspect(|_, queue| {
            let Some(first) = queue.and_then(Queue::first) else { return Vec::new() };
            let others = first.waiters.iter().filter(|waiter| waiter.owner() != self.owner());
            others.map(|waiter| Blocker::waiting(waiter.owner(), first.mode)).collect()
        })
    }
}

pub(crate) fn conflicting_holders(asking: &Owner, lock: &Arc<Lock>, wanted: Mode) -> Vec<Blocker> {
    owner::holders(LockId::of(lock))
        .into_iter()
        .filter(|(owner, mode)| owner != asking && !wanted.admits(*mode))
        .map(|(owner, mode)| Blocker::holding(&owner, mode))
        .collect()
}

impl Blocker {
    fn holding(owner: &Owner, mode: Mode) -> Self {
        Self { owner: Arc::clone(owner.name_arc()), mode, waits: false }
    }

    fn waiting(owner: &Owner, mode: Mode) -> Self {
        Self { owner: Arc::clone(owner.name_arc()), mode, waits: true }
    }
}
