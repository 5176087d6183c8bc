//! Taking locks one after another, and giving them back when it comes to nothing.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use smallvec::SmallVec;

use super::{Members, Progress, Reason, Stage, Stages};
use crate::beyond::Promise;
use crate::bundle::{Had, Locks, SlotList};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::hold::{Decisions, Hold, Lock, release};
use crate::owner::{LockId, Owner, Slot};
use crate::raw::Tried;

/// Locks being taken, stage by stage. Holds what it has; [`rollback`](Self::rollback) gives it back.
#[derive(Debug)]
pub struct Taking {
    pub(super) owner: Owner,
    pub(super) stages: Stages,
    /// Number of the stage under way.
    pub(super) stage: usize,
    /// What that and those before it got.
    had: SmallVec<[Had; 1]>,
    /// The slot of the lock asked for, while it is not had.
    asked: Option<Slot>,
    /// What was promised for it by somebody beyond this process.
    promises: Option<Box<[Promise]>>,
}

impl Taking {
    pub(super) fn new(owner: Owner, stages: Stages) -> Self {
        let had = SmallVec::with_capacity(stages.len());
        Self { owner, stages, stage: 0, had, asked: None, promises: None }
    }

    pub(super) fn keep(&mut self, promises: Vec<Promise>) {
        self.promises = Some(promises.into());
    }

    /// What was asked for.
    pub(crate) fn stages(&self) -> &[Stage] {
        &self.stages
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
    pub(super) fn advance(&mut self, priority: Priority, decisions: &mut Decisions) -> Progress {
        while self.stage < self.stages.len() {
            if let Err(progress) = self.take_stage(priority, decisions) {
                return progress;
            }
            self.stage += 1;
        }
        Progress::Done
    }

    fn take_stage(
        &mut self,
        priority: Priority,
        decisions: &mut Decisions,
    ) -> Result<(), Progress> {
        if self.had.len() == self.stage {
            self.had.push(Had::default());
        }
        match self.stages[self.stage].members {
            Members::None => self.take_top(priority, decisions),
            Members::Exactly(_) => {
                self.take_top(priority, decisions)?;
                self.take_members(priority, decisions)
            }
            Members::Free(..) | Members::AnyFree(_) => self.take_free(priority, decisions),
        }
    }

    /// The lock that comes next in the stage under way: the set-lock, then the members.
    pub(super) fn current(&self) -> Option<(&Arc<Lock>, Mode)> {
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
    fn take_top(&mut self, priority: Priority, decisions: &mut Decisions) -> Result<(), Progress> {
        if self.had[self.stage].top.is_some() {
            return Ok(());
        }
        let (lock, mode) = &self.stages[self.stage].top;
        let again = |record| Progress::Failed(Reason::AlreadyHeld(record));
        let claimed = self.asked.map_or_else(|| self.owner.claim(LockId::of(lock)), Ok);
        let slot = claimed.map_err(again)?;
        self.asked = Some(slot);
        match take_top(lock, *mode, priority, &self.owner, slot, decisions) {
            Tried::Taken => {
                self.had[self.stage].top = Some(slot);
                self.asked = None;
                Ok(())
            }
            Tried::Blocked => {
                // Nothing may have been exchanged, and next the lock is waited for.
                fence(Ordering::SeqCst);
                let twin = self.owner.twin(slot, LockId::of(lock));
                Err(twin.map_or(Progress::Blocked, again))
            }
            Tried::Deleted => {
                self.forget_asked();
                Err(Progress::Failed(Reason::Deleted))
            }
        }
    }

    /// Takes the members one after another.
    fn take_members(
        &mut self,
        priority: Priority,
        decisions: &mut Decisions,
    ) -> Result<(), Progress> {
        loop {
            let Stage { members: Members::Exactly(locks), mode, .. } = &self.stages[self.stage]
            else {
                unreachable!("its members are listed")
            };
            let slots = self.had[self.stage].members.alike(locks, *mode);
            let tried = match self.asked {
                None => take_each(locks, *mode, priority, &self.owner, slots, decisions),
                Some(slot) => {
                    let lock = &locks[slots.len()];
                    let at = self.owner.stripe();
                    let tried = lock.try_take_at(*mode, priority, at, decisions);
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
        locks.make_mut()[at] = found;
        self.had[self.stage].members.moved_to(locks);
        Ok(())
    }

    /// Records that the lock under way is held, by the hand of whoever released it.
    pub(super) fn granted(&mut self) {
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
    fn take_free(&mut self, priority: Priority, decisions: &mut Decisions) -> Result<(), Progress> {
        // Nothing is free if the set-lock is not.
        match self.take_top(priority, decisions) {
            Ok(()) => self.take_free_members(priority, decisions),
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

    fn take_free_members(&mut self, priority: Priority, decisions: &mut Decisions) {
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
        let (mut filler, at) = (self.owner.filler(), self.owner.stripe());
        for lock in candidates {
            if lock.try_take_at(stage.mode, priority, at, decisions) == Tried::Taken {
                let slot = filler.hold(LockId::of(lock), stage.mode);
                had.push(Hold { lock: Arc::clone(lock), mode: stage.mode, slot });
            }
        }
    }

    /// Gives back what was taken, the last first.
    pub(super) fn rollback(&mut self, decisions: &mut Decisions) {
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

/// As [`take_at_once`], a set-lock.
#[inline]
pub(crate) fn take_top(
    lock: &Arc<Lock>,
    mode: Mode,
    priority: Priority,
    owner: &Owner,
    slot: Slot,
    decisions: &mut Decisions,
) -> Tried {
    let at = owner.stripe();
    let tried = lock.try_take_at(mode, priority, at, decisions);
    if tried != Tried::Taken {
        return tried;
    }
    let id = LockId::of(lock);
    if owner.twin(slot, id).is_some() {
        lock.release(mode, at, decisions);
        return Tried::Blocked;
    }
    owner.record_hold(slot, id, mode);
    Tried::Taken
}

/// Takes a lock by itself in a slot claimed for it, if that needs no waiting. A lock that another thread asks for as the same owner counts
/// as blocked.
#[inline(always)]
pub(crate) fn take_at_once(
    lock: &Arc<Lock>,
    mode: Mode,
    priority: Priority,
    owner: &Owner,
    slot: Slot,
) -> Tried {
    let tried = lock.try_take(mode, priority);
    if tried != Tried::Taken {
        return tried;
    }
    let id = LockId::of(lock);
    if owner.twin(slot, id).is_some() {
        release(lock, mode);
        return Tried::Blocked;
    }
    owner.record_hold(slot, id, mode);
    Tried::Taken
}

/// Takes those of `locks` that have no slot yet, one after another, until one is not to be had at once.
pub(crate) fn take_each(
    locks: &Locks,
    mode: Mode,
    priority: Priority,
    owner: &Owner,
    slots: &mut SlotList,
    decisions: &mut Decisions,
) -> Tried {
    let at = owner.stripe();
    let todo = &locks[slots.len()..];
    if let [lock] = todo {
        let tried = lock.try_take_at(mode, priority, at, decisions);
        if tried == Tried::Taken {
            slots.push(owner.hold(LockId::of(lock), mode));
        }
        return tried;
    }
    let mut filler = owner.filler();
    for lock in todo {
        match lock.try_take_at(mode, priority, at, decisions) {
            Tried::Taken => slots.push(filler.hold(LockId::of(lock), mode)),
            tried => return tried,
        }
    }
    Tried::Taken
}
