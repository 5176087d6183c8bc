//! Locks to be taken as one request, in order.
//!
//! A [`Task`] takes what needs no waiting and stops at the first lock that does; it never waits itself.

use std::fmt;
use std::io;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use crate::core::mode::Mode;
use crate::core::queue::{Priority, Queue};
use crate::error::{AcquireError, Blocker, UpgradeError};
use crate::hold::{Decisions, Had, Hold, Lock, dispatch};
use crate::owner::{self, LockId, Owner, Record, Slot};
use crate::raw::Tried;

/// Where the names of a set are found while a request is under way.
pub(crate) trait Directory: fmt::Debug + Send + Sync + RefUnwindSafe {
    fn set_name(&self) -> &Arc<str>;
    /// The lock that has this name now.
    fn find(&self, name: &Arc<str>) -> Option<Arc<Lock>>;
    /// Every lock of the set, in byte order of the names.
    fn list(&self) -> Vec<Arc<Lock>>;
}

/// What a request wants of one set, or of a lock by itself.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// The set-lock and the mode it is taken in, before any member.
    pub(crate) top: Option<(Arc<Lock>, Mode)>,
    pub(crate) members: Members,
    /// The mode of the members.
    pub(crate) mode: Mode,
    pub(crate) directory: Option<Arc<dyn Directory>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Members {
    /// All of these, in this order.
    Exactly(Vec<Arc<Lock>>),
    /// Those of these that are free; at least so many.
    Free(Vec<Arc<Lock>>, usize),
    /// Whatever is free of the set; at least so many.
    AnyFree(usize),
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
    NotEnough { set: Arc<str>, wanted: usize, had: usize },
    Deadlock(Mode, Vec<Blocker>),
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

/// Locks being taken, stage by stage. Holds what it has; [`rollback`](Self::rollback) gives it back.
#[derive(Debug)]
pub struct Taking {
    owner: Owner,
    stages: Vec<Stage>,
    /// The stage under way, and how many of its locks are had.
    stage: usize,
    next: usize,
    /// The slot of the lock asked for, while it is not had.
    asked: Option<Slot>,
    had: Vec<Had>,
}

impl Taking {
    pub(crate) fn new(owner: Owner, stages: Vec<Stage>) -> Self {
        let had = Vec::with_capacity(stages.len());
        Self { owner, stages, stage: 0, next: 0, asked: None, had }
    }

    /// What each stage got, in order.
    pub(crate) fn into_had(self) -> Vec<Had> {
        self.had
    }

    /// Takes what can be had without waiting.
    fn advance(&mut self, priority: Priority) -> Progress {
        while self.stage < self.stages.len() {
            if self.had.len() == self.stage {
                self.had.push(Had::default());
            }
            let step = match self.stages[self.stage].members {
                Members::Exactly(_) => self.take_next(priority),
                Members::Free(..) | Members::AnyFree(_) => self.take_free(priority),
            };
            if let Err(progress) = step {
                return progress;
            }
        }
        Progress::Done
    }

    /// The lock that comes next in the stage under way: the set-lock, then the members.
    fn current(&self) -> Option<(&Arc<Lock>, Mode)> {
        let stage = self.stages.get(self.stage)?;
        let tops = usize::from(stage.top.is_some());
        if self.next < tops {
            return stage.top.as_ref().map(|(lock, mode)| (lock, *mode));
        }
        match &stage.members {
            Members::Exactly(locks) => Some((locks.get(self.next - tops)?, stage.mode)),
            Members::Free(..) | Members::AnyFree(_) => None,
        }
    }

    /// Takes the next lock of the stage, or ends the stage.
    fn take_next(&mut self, priority: Priority) -> Result<(), Progress> {
        let Some((lock, mode)) = self.current() else {
            self.stage += 1;
            self.next = 0;
            return Ok(());
        };
        let lock = Arc::clone(lock);
        let slot = self.ask(&lock)?;
        match lock.try_take(mode, priority) {
            Tried::Taken => {
                self.granted(lock, mode, slot);
                Ok(())
            }
            Tried::Blocked => Err(Progress::Blocked),
            Tried::Deleted => self.look_up_again(&lock),
        }
    }

    /// Claims the slot of the lock that comes next.
    fn ask(&mut self, lock: &Arc<Lock>) -> Result<Slot, Progress> {
        if let Some(slot) = self.asked {
            return Ok(slot);
        }
        let id = LockId::of(lock);
        // The set-lock, or a lock by itself, is where asking twice shows.
        let slot = if self.next == 0 {
            self.owner.claim(id).map_err(|record| Progress::Failed(Reason::AlreadyHeld(record)))?
        } else {
            self.owner.reserve(id)
        };
        self.asked = Some(slot);
        Ok(slot)
    }

    fn granted(&mut self, lock: Arc<Lock>, mode: Mode, slot: Slot) {
        self.owner.record_hold(slot, LockId::of(&lock), mode);
        self.asked = None;
        let is_top = self.next == 0 && self.stages[self.stage].top.is_some();
        let hold = Hold { lock, mode, slot };
        let had = &mut self.had[self.stage];
        if is_top {
            had.top = Some(hold);
        } else {
            had.members.push(hold);
        }
        self.next += 1;
    }

    /// The lock was deleted before its turn came; if the name has a lock again, that one is meant.
    fn look_up_again(&mut self, deleted: &Arc<Lock>) -> Result<(), Progress> {
        self.forget_asked();
        let stage = &mut self.stages[self.stage];
        let tops = usize::from(stage.top.is_some());
        let found = stage.directory.as_ref().and_then(|d| d.find(deleted.name().name_arc()));
        match (found, &mut stage.members) {
            (Some(found), Members::Exactly(locks)) if self.next >= tops && !found.is_deleted() => {
                locks[self.next - tops] = found;
                Ok(())
            }
            _ => Err(Progress::Failed(Reason::Deleted)),
        }
    }

    fn forget_asked(&mut self) {
        if let Some(slot) = self.asked.take() {
            self.owner.clear(slot);
        }
    }

    /// Takes what is free of an opportunistic stage, in one go.
    fn take_free(&mut self, priority: Priority) -> Result<(), Progress> {
        let (wanted, candidates) = self.candidates(priority)?;
        let mode = self.stages[self.stage].mode;
        for lock in candidates {
            let slot = self.owner.reserve(LockId::of(&lock));
            if lock.try_take(mode, priority) == Tried::Taken {
                self.granted(lock, mode, slot);
            } else {
                self.owner.clear(slot);
            }
        }
        let had = self.had[self.stage].members.len();
        if had < wanted {
            let set = self.stages[self.stage].directory.as_ref().map(|d| Arc::clone(d.set_name()));
            let set = set.unwrap_or_default();
            return Err(Progress::Failed(Reason::NotEnough { set, wanted, had }));
        }
        self.stage += 1;
        self.next = 0;
        Ok(())
    }

    /// What an opportunistic stage may take, and how much it must: nothing is free if the set-lock is not.
    fn candidates(&mut self, priority: Priority) -> Result<(usize, Vec<Arc<Lock>>), Progress> {
        if let Some((top, mode)) = self.stages[self.stage].top.clone() {
            let slot = self.ask(&top)?;
            let tried = top.try_take(mode, priority);
            if tried == Tried::Taken {
                self.granted(top, mode, slot);
            } else {
                self.forget_asked();
                return Ok((self.stages[self.stage].members.wanted(), Vec::new()));
            }
        }
        let stage = &self.stages[self.stage];
        let candidates = match &stage.members {
            Members::Exactly(locks) | Members::Free(locks, _) => locks.clone(),
            Members::AnyFree(_) => stage.directory.as_ref().map_or_else(Vec::new, |d| d.list()),
        };
        Ok((stage.members.wanted(), candidates))
    }

    /// Gives back what was taken, the last first.
    fn rollback(&mut self, decisions: &mut Decisions) {
        self.forget_asked();
        for had in self.had.drain(..).rev() {
            had.release(&self.owner, decisions);
        }
    }
}

impl Members {
    fn wanted(&self) -> usize {
        match self {
            Self::Exactly(locks) => locks.len(),
            Self::Free(_, at_least) | Self::AnyFree(at_least) => *at_least,
        }
    }
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
    pub(crate) fn take(owner: &Owner, stages: Vec<Stage>) -> Self {
        Self::Take(Taking::new(owner.clone(), stages))
    }

    /// Does it without waiting, or not at all.
    ///
    /// # Errors
    /// Why not; then nothing of the task is held.
    pub(crate) fn now(mut self, priority: Priority) -> Result<Self, Box<Refusal>> {
        match self.advance(priority) {
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

    pub(crate) fn advance(&mut self, priority: Priority) -> Progress {
        match self {
            Self::Take(taking) => taking.advance(priority),
            Self::Convert(c) => {
                let done = c.hold.try_convert(&c.owner, c.to);
                if done { Progress::Done } else { Progress::Blocked }
            }
        }
    }

    /// Records that the lock under way is held, by the hand of whoever released it.
    pub(crate) fn granted(&mut self) {
        match self {
            Self::Take(taking) => {
                let (lock, mode) = taking.current().expect("it waited for one");
                let lock = Arc::clone(lock);
                let slot = taking.asked.expect("a lock waited for was asked for");
                taking.granted(lock, mode, slot);
            }
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
                let (top, _) = taking.stages[taking.stage].top.as_ref().expect("it has a set");
                (Arc::clone(top), taking.stages[taking.stage].mode)
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
