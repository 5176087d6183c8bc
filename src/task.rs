//! Locks to be taken as one request, in order.
//!
//! A [`Task`] takes what needs no waiting and stops at the first lock that does; it never waits itself.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use smallvec::SmallVec;

use crate::bundle::{Had, Locks, SlotList};
use crate::core::mode::Mode;
use crate::core::queue::{Priority, Queue};
use crate::error::{AcquireError, Blocker, UpgradeError};
use crate::hold::{Decisions, Hold, Lock, dispatch, release};
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
    stages: Stages,
    /// Number of the stage under way.
    stage: usize,
    /// What that and those before it got.
    had: SmallVec<[Had; 1]>,
    /// The slot of the lock asked for, while it is not had.
    asked: Option<Slot>,
}

impl Taking {
    fn new(owner: Owner, stages: Stages) -> Self {
        let had = SmallVec::with_capacity(stages.len());
        Self { owner, stages, stage: 0, had, asked: None }
    }

    /// What each stage got, in order: where it belongs, the mode of its set-lock, and the holds.
    pub(crate) fn into_had(self) -> impl Iterator<Item = (usize, Mode, Had)> {
        let stages = self.stages;
        let described = move |(at, had)| {
            let Stage { rank, top: (_, mode), .. } = &stages[at];
            (*rank, *mode, had)
        };
        self.had.into_iter().enumerate().map(described)
    }

    /// Takes what can be had without waiting.
    fn advance(&mut self, priority: Priority) -> Progress {
        while self.stage < self.stages.len() {
            if let Err(progress) = self.take_stage(priority) {
                return progress;
            }
            self.stage += 1;
        }
        Progress::Done
    }

    fn take_stage(&mut self, priority: Priority) -> Result<(), Progress> {
        if self.had.len() == self.stage {
            self.had.push(Had::default());
        }
        match self.stages[self.stage].members {
            Members::None => self.take_top(priority),
            Members::Exactly(_) => {
                self.take_top(priority)?;
                self.take_members(priority)
            }
            Members::Free(..) | Members::AnyFree(_) => self.take_free(priority),
        }
    }

    /// The lock that comes next in the stage under way: the set-lock, then the members.
    fn current(&self) -> Option<(&Arc<Lock>, Mode)> {
        let stage = self.stages.get(self.stage)?;
        let had = self.had.get(self.stage);
        if had.is_none_or(|had| had.top.is_none()) {
            return Some((&stage.top.0, stage.top.1));
        }
        match &stage.members {
            Members::Exactly(locks) => {
                Some((locks.get(had.map_or(0, |had| had.members.len()))?, stage.mode))
            }
            Members::None | Members::Free(..) | Members::AnyFree(_) => None,
        }
    }

    /// Takes the set-lock, or the lock by itself. There it shows whether the owner asks twice.
    fn take_top(&mut self, priority: Priority) -> Result<(), Progress> {
        if self.had[self.stage].top.is_some() {
            return Ok(());
        }
        let (lock, mode) = &self.stages[self.stage].top;
        let again = |record| Progress::Failed(Reason::AlreadyHeld(record));
        let claimed = self.asked.map_or_else(|| self.owner.claim(LockId::of(lock)), Ok);
        let slot = claimed.map_err(again)?;
        self.asked = Some(slot);
        if take_at_once(lock, *mode, priority, &self.owner, slot) {
            self.had[self.stage].top = Some(slot);
            self.asked = None;
            return Ok(());
        }
        // Nothing may have been exchanged, and next the lock is waited for.
        fence(Ordering::SeqCst);
        if let Some(record) = self.owner.twin(slot, LockId::of(lock)) {
            return Err(again(record));
        }
        Err(if lock.is_deleted() { Progress::Failed(Reason::Deleted) } else { Progress::Blocked })
    }

    /// Takes the members one after another.
    fn take_members(&mut self, priority: Priority) -> Result<(), Progress> {
        loop {
            let Stage { members: Members::Exactly(locks), mode, .. } = &self.stages[self.stage]
            else {
                unreachable!("its members are listed")
            };
            let slots = self.had[self.stage].members.alike(locks, *mode);
            let tried = match self.asked {
                None => take_each(locks, *mode, priority, &self.owner, slots),
                Some(slot) => {
                    let lock = &locks[slots.len()];
                    let tried = lock.try_take(*mode, priority);
                    if tried == Tried::Taken {
                        self.owner.record_hold(slot, LockId::of(lock), *mode);
                        slots.push(slot);
                        self.asked = None;
                        continue;
                    }
                    tried
                }
            };
            let at = slots.len();
            match tried {
                Tried::Taken => return Ok(()),
                Tried::Blocked => {
                    let id = LockId::of(&locks[at]);
                    self.asked.get_or_insert_with(|| self.owner.reserve(id));
                    return Err(Progress::Blocked);
                }
                Tried::Deleted => self.look_up_again(at)?,
            }
        }
    }

    /// A lock was deleted before its turn came; if the name has a lock again, that one is meant.
    #[cold]
    fn look_up_again(&mut self, at: usize) -> Result<(), Progress> {
        self.forget_asked();
        let stage = &mut self.stages.make_mut()[self.stage];
        let Members::Exactly(locks) = &mut stage.members else {
            unreachable!("its members are listed")
        };
        let name = locks[at].name().name_arc();
        let found = stage.directory.as_ref().and_then(|directory| directory.find(name));
        let Some(found) = found.filter(|found| !found.is_deleted()) else {
            return Err(Progress::Failed(Reason::Deleted));
        };
        Arc::make_mut(locks)[at] = found;
        self.had[self.stage].members.moved_to(locks);
        Ok(())
    }

    /// Records that the lock under way is held, by the hand of whoever released it.
    fn granted(&mut self) {
        let slot = self.asked.take().expect("a lock waited for was asked for");
        let (lock, mode) = self.current().expect("it waited for one");
        self.owner.record_hold(slot, LockId::of(lock), mode);
        let had = &mut self.had[self.stage];
        match &self.stages[self.stage].members {
            Members::Exactly(locks) if had.top.is_some() => {
                had.members.alike(locks, mode).push(slot);
            }
            _ => had.top = Some(slot),
        }
    }

    fn forget_asked(&mut self) {
        if let Some(slot) = self.asked.take() {
            self.owner.clear(slot);
        }
    }

    /// Takes what is free of an opportunistic stage, in one go.
    fn take_free(&mut self, priority: Priority) -> Result<(), Progress> {
        // Nothing is free if the set-lock is not.
        match self.take_top(priority) {
            Ok(()) => self.take_free_members(priority),
            Err(Progress::Blocked) => self.forget_asked(),
            Err(progress) => return Err(progress),
        }
        let (stage, had) = (&self.stages[self.stage], self.had[self.stage].members.len());
        let wanted = stage.members.wanted();
        if had < wanted {
            let set = stage.directory.as_ref().map(|directory| Arc::clone(directory.set_name()));
            let set = set.unwrap_or_default();
            return Err(Progress::Failed(Reason::NotEnough { set, wanted, had }));
        }
        Ok(())
    }

    fn take_free_members(&mut self, priority: Priority) {
        let stage = &self.stages[self.stage];
        let listed;
        let candidates = match &stage.members {
            Members::None => &[][..],
            Members::Exactly(locks) | Members::Free(locks, _) => locks,
            Members::AnyFree(_) => {
                listed = stage.directory.as_ref().map_or_else(Vec::new, |d| d.list());
                &listed
            }
        };
        let had = self.had[self.stage].members.each();
        let mut filler = self.owner.filler();
        for lock in candidates {
            if lock.try_take(stage.mode, priority) == Tried::Taken {
                let slot = filler.hold(LockId::of(lock), stage.mode);
                had.push(Hold { lock: Arc::clone(lock), mode: stage.mode, slot });
            }
        }
    }

    /// Gives back what was taken, the last first.
    fn rollback(&mut self, decisions: &mut Decisions) {
        self.forget_asked();
        let stages = self.stages.iter().take(self.had.len());
        for (had, stage) in self.had.drain(..).zip(stages).rev() {
            let (top, mode) = &stage.top;
            had.release(top, *mode, &self.owner, decisions);
        }
    }
}

impl Members {
    fn wanted(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Exactly(locks) => locks.len(),
            Self::Free(_, at_least) | Self::AnyFree(at_least) => *at_least,
        }
    }
}

/// Takes a lock in a slot claimed for it, if that needs no waiting and no other thread asks for it as the same owner; tells
/// whether it did.
#[inline(always)]
pub(crate) fn take_at_once(
    lock: &Arc<Lock>,
    mode: Mode,
    priority: Priority,
    owner: &Owner,
    slot: Slot,
) -> bool {
    if lock.try_take(mode, priority) != Tried::Taken {
        return false;
    }
    let id = LockId::of(lock);
    if owner.twin(slot, id).is_some() {
        release(lock, mode);
        return false;
    }
    owner.record_hold(slot, id, mode);
    true
}

/// Takes those of `locks` that have no slot yet, one after another, until one is not to be had at once.
pub(crate) fn take_each(
    locks: &Locks,
    mode: Mode,
    priority: Priority,
    owner: &Owner,
    slots: &mut SlotList,
) -> Tried {
    let mut filler = owner.filler();
    for lock in &locks[slots.len()..] {
        match lock.try_take(mode, priority) {
            Tried::Taken => slots.push(filler.hold(LockId::of(lock), mode)),
            tried => return tried,
        }
    }
    Tried::Taken
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
    pub(crate) fn take(owner: &Owner, stages: Stages) -> Self {
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
