//! Taking several locks as one request, and waiting for them.
//!
//! A [`Taking`] goes through its locks in order and takes what needs no waiting. At the first lock that does, it becomes a
//! [`Chain`] in that lock's queue: whoever releases the lock hands it over and takes the chain on to the next one, so that the
//! waiter wakes once, when all is held. The only place that wakes anybody.
//!
//! Order of mutexes: a chain's state, then a lock's queue; never two of a kind. What a queue decided is told to its chains by
//! [`dispatch`] when neither is held.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{self, Limit};
use crate::core::mode::Mode;
use crate::core::queue::{Deadlock, Priority, Ticket};
use crate::error::{AcquireError, Blocker};
use crate::owner::{self, LockId, Owner, Record, Slot};
use crate::raw::{self, Cancelled, Enqueued, Outcome, Tried};
use crate::sync::{Condvar, Mutex};

/// A lock in whose queue chains wait.
pub(crate) type Lock = raw::Lock<Arc<Chain>>;
/// What a transition of a lock decided about chains; to be given to [`dispatch`].
pub(crate) type Decisions = Vec<raw::Decided<Arc<Chain>>>;

/// Raises the priority of a request while it waits, so that it cannot starve.
///
/// Every `interval` the request becomes one step more urgent, until it reaches the floor: -20 by default, Ganeti's most urgent.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{Ageing, Owner, SharedLock};
///
/// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
/// let patient = Ageing::every(Duration::from_secs(60)).floor(-5);
/// let guard = lock.exclusive(&owner).ageing(patient).wait();
/// # assert!(guard.is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ageing {
    interval: Duration,
    floor: Priority,
}

impl Ageing {
    /// One step each `interval`, which counts as at least one millisecond.
    ///
    /// # Examples
    /// ```
    /// let ageing = tierlock::Ageing::every(std::time::Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self { interval: interval.max(clock::WAIT_MIN), floor: -20 }
    }

    /// Goes no further than `floor`.
    ///
    /// # Examples
    /// ```
    /// let ageing = tierlock::Ageing::every(std::time::Duration::from_secs(60)).floor(-5);
    /// ```
    #[must_use]
    pub fn floor(self, floor: Priority) -> Self {
        Self { floor, ..self }
    }
}

/// How urgent a request is and how long it may wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) priority: Priority,
    pub(crate) limit: Limit,
    pub(crate) ageing: Option<Ageing>,
}

/// Where the names of a set are found while a request is under way.
pub(crate) trait Directory: Send + Sync + std::fmt::Debug {
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

/// A lock held.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) lock: Arc<Lock>,
    pub(crate) mode: Mode,
    pub(crate) slot: Slot,
}

impl Hold {
    /// Gives the lock back.
    pub(crate) fn release(self, owner: &Owner, decisions: &mut Decisions) {
        owner.clear(self.slot);
        self.lock.release(self.mode, decisions);
    }

    /// Goes on in a weaker mode.
    pub(crate) fn downgrade(&mut self, owner: &Owner, to: Mode, decisions: &mut Decisions) {
        if self.mode != to {
            owner.record_hold(self.slot, LockId::of(&self.lock), to);
            self.lock.downgrade(self.mode, to, decisions);
            self.mode = to;
        }
    }

    /// Goes on in a stronger mode if that needs no waiting.
    pub(crate) fn try_convert(&mut self, owner: &Owner, to: Mode) -> bool {
        let done = self.mode == to || self.lock.try_convert(self.mode, to);
        if done {
            self.converted(owner, to);
        }
        done
    }

    fn converted(&mut self, owner: &Owner, to: Mode) {
        self.mode = to;
        owner.record_hold(self.slot, LockId::of(&self.lock), to);
    }

    /// Ends the hold by deleting the lock.
    pub(crate) fn delete(self, owner: &Owner, decisions: &mut Decisions) {
        owner.clear(self.slot);
        self.lock.delete(decisions);
    }
}

/// What a stage got.
#[derive(Debug, Default)]
pub(crate) struct Had {
    pub(crate) top: Option<Hold>,
    pub(crate) members: Vec<Hold>,
}

impl Had {
    /// Gives everything back, the set-lock last: whoever is let in there finds everything below free.
    pub(crate) fn release(self, owner: &Owner, decisions: &mut Decisions) {
        for hold in self.members.into_iter().rev().chain(self.top) {
            hold.release(owner, decisions);
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
            // Only a conversion can deadlock, and its error has a case of its own.
            Reason::WouldBlock | Reason::Deadlock(..) => Self::WouldBlock { owner, lock, wanted },
            Reason::NotEnough { set, wanted, had } => Self::NotEnough { owner, set, wanted, had },
        }
    }
}

/// How far a task came without waiting.
#[derive(Debug)]
enum Progress {
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
    pub(crate) owner: Owner,
    pub(crate) hold: Hold,
    pub(crate) to: Mode,
}

impl Task {
    pub(crate) fn take(owner: &Owner, stages: Vec<Stage>) -> Self {
        Self::Take(Taking::new(owner.clone(), stages))
    }

    /// Does it without waiting, or not at all.
    ///
    /// # Errors
    /// The task as it was before, with why.
    pub(crate) fn now(mut self, priority: Priority) -> Result<Self, Box<(Self, Refusal)>> {
        match self.advance(priority) {
            Progress::Done => Ok(self),
            Progress::Blocked => self.fail(Reason::WouldBlock),
            Progress::Failed(reason) => self.fail(reason),
        }
    }

    /// Does it, waiting where it must.
    ///
    /// # Errors
    /// The task as it was before, with why.
    pub(crate) fn wait(mut self, terms: &Terms) -> Result<Self, Box<(Self, Refusal)>> {
        match self.advance(terms.priority) {
            Progress::Done => Ok(self),
            Progress::Blocked => self.queue_up(terms),
            Progress::Failed(reason) => self.fail(reason),
        }
    }

    fn queue_up(self, terms: &Terms) -> Result<Self, Box<(Self, Refusal)>> {
        let start = clock::now();
        match terms.limit.deadline(start) {
            Err(clock::TooNear) => {
                let blockers = self.blockers();
                self.fail(Reason::TimedOut(Duration::ZERO, blockers))
            }
            Ok(deadline) => Chain::begin(self, terms.priority, start).wait(deadline, terms.ageing),
        }
    }

    fn owner(&self) -> &Owner {
        match self {
            Self::Take(taking) => &taking.owner,
            Self::Convert(conversion) => &conversion.owner,
        }
    }

    /// The lock under way and the mode wanted of it.
    fn current(&self) -> Option<(&Arc<Lock>, Mode)> {
        match self {
            Self::Take(taking) => taking.current(),
            Self::Convert(conversion) => Some((&conversion.hold.lock, conversion.to)),
        }
    }

    fn advance(&mut self, priority: Priority) -> Progress {
        match self {
            Self::Take(taking) => taking.advance(priority),
            Self::Convert(c) => {
                let done = c.hold.try_convert(&c.owner, c.to);
                if done { Progress::Done } else { Progress::Blocked }
            }
        }
    }

    /// Records that the lock under way is held, by the hand of whoever released it.
    fn granted(&mut self) {
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

    fn rollback(&mut self, decisions: &mut Decisions) {
        if let Self::Take(taking) = self {
            taking.rollback(decisions);
        }
    }

    fn fail(mut self, reason: Reason) -> Result<Self, Box<(Self, Refusal)>> {
        let refusal = self.refusal(reason);
        let mut decisions = Vec::new();
        self.rollback(&mut decisions);
        dispatch(decisions);
        Err(Box::new((self, refusal)))
    }

    fn refusal(&self, reason: Reason) -> Refusal {
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

    /// Who stands in the way at this moment: the holders that conflict, or else those who wait in front.
    fn blockers(&self) -> Vec<Blocker> {
        let Some((lock, wanted)) = self.current() else { return Vec::new() };
        let mut blockers = conflicting_holders(self.owner(), lock, wanted);
        if blockers.is_empty() {
            blockers = lock.inspect(|_, queue| {
                let waiting = queue.map_or_else(Vec::new, |queue| queue.waiting());
                let first = waiting.into_iter().next();
                first.map_or_else(Vec::new, |first| {
                    let others = first.waiters.iter().filter(|chain| chain.owner != *self.owner());
                    others.map(|chain| Blocker::waiting(&chain.owner, first.mode)).collect()
                })
            });
        }
        blockers
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

/// A task that waits.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) owner: Owner,
    pub(crate) since: Instant,
    state: Mutex<State>,
    decided: Condvar,
}

#[derive(Debug)]
struct State {
    priority: Priority,
    phase: Phase,
    /// There until the waiter takes it.
    task: Option<Task>,
}

/// How far a chain is. It leaves the first two phases once, and for good.
#[derive(Debug)]
enum Phase {
    /// Somebody takes it on; only seen by whoever holds the state.
    Moving,
    /// In the queue of the current lock. If its ticket is gone from there, whoever granted it is about to say so.
    Queued(Ticket),
    /// Holds everything.
    Granted,
    /// Holds nothing any more.
    Failed(Refusal),
    /// Holds nothing any more, because the waiter gave up.
    Withdrawn,
}

impl Chain {
    /// Begins to wait for the task's current lock.
    fn begin(task: Task, priority: Priority, since: Instant) -> Arc<Self> {
        let chain = Arc::new(Self {
            owner: task.owner().clone(),
            since,
            state: Mutex::new(State { priority, phase: Phase::Moving, task: Some(task) }),
            decided: Condvar::new(),
        });
        let mut decisions = Vec::new();
        chain.proceed(&mut chain.state.lock(), &mut decisions);
        dispatch(decisions);
        chain
    }

    /// Goes on until everything is held, something failed, or the next lock has to be waited for.
    fn proceed(self: &Arc<Self>, state: &mut State, decisions: &mut Decisions) {
        state.phase = loop {
            let task = state.task.as_mut().expect("taken only when decided");
            match task.advance(state.priority) {
                Progress::Done => break Phase::Granted,
                Progress::Failed(reason) => break Self::failed(task, reason, decisions),
                Progress::Blocked => {}
            }
            match self.join_queue(task, state.priority, decisions) {
                Ok(Enqueued::Pending(ticket)) => break Phase::Queued(ticket),
                Ok(Enqueued::Granted) => task.granted(),
                // It may have come back under the same name: the next attempt finds out.
                Ok(Enqueued::Deleted) => {}
                Err(Deadlock) => {
                    let reason = Reason::Deadlock(task.held_mode(), task.blockers());
                    break Self::failed(task, reason, decisions);
                }
            }
        };
    }

    fn join_queue(
        self: &Arc<Self>,
        task: &Task,
        priority: Priority,
        decisions: &mut Decisions,
    ) -> Result<Enqueued, Deadlock> {
        let (lock, wanted) = task.current().expect("it is blocked by one");
        let chain = Arc::clone(self);
        match task {
            Task::Take(_) => Ok(lock.enqueue(wanted, priority, chain, decisions)),
            Task::Convert(c) => {
                lock.enqueue_conversion(c.hold.mode, wanted, priority, chain, decisions)
            }
        }
    }

    fn failed(task: &mut Task, reason: Reason, decisions: &mut Decisions) -> Phase {
        let refusal = task.refusal(reason);
        task.rollback(decisions);
        Phase::Failed(refusal)
    }

    /// Hears that its current lock was decided, and goes on. Ignores what the waiter found out by itself.
    fn on_decided(self: &Arc<Self>, ticket: Ticket, outcome: Outcome, decisions: &mut Decisions) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Queued(queued) if queued == ticket) {
            return;
        }
        let task = state.task.as_mut().expect("taken only when decided");
        match outcome {
            Outcome::Granted => {
                task.granted();
                self.proceed(&mut state, decisions);
            }
            Outcome::Deleted => state.phase = Self::failed(task, Reason::Deleted, decisions),
        }
        let waits_on = matches!(state.phase, Phase::Queued(_));
        drop(state);
        if !waits_on {
            self.decided.notify_one();
        }
    }

    /// Blocks this thread until the task is decided or the deadline has passed.
    fn wait(
        self: Arc<Self>,
        deadline: Option<Instant>,
        ageing: Option<Ageing>,
    ) -> Result<Task, Box<(Task, Refusal)>> {
        let span = self.span();
        let _entered = span.enter();
        let mut ages_at = ageing.and_then(|ageing| self.since.checked_add(ageing.interval));
        let mut state = self.state.lock();
        while matches!(state.phase, Phase::Queued(_)) {
            let until = [deadline, ages_at].into_iter().flatten().min();
            let Some(until) = until else {
                self.decided.wait(&mut state);
                continue;
            };
            let passed = self.decided.wait_until(&mut state, until);
            if !passed || !matches!(state.phase, Phase::Queued(_)) {
                continue;
            }
            let priority = state.priority;
            drop(state);
            if deadline == Some(until) {
                return self.give_up();
            }
            let ageing = ageing.expect("only ageing has another time");
            ages_at = self.age(priority, ageing, until);
            state = self.state.lock();
        }
        Self::conclude(state)
    }

    /// Becomes one step more urgent; returns when to do so again.
    fn age(self: &Arc<Self>, priority: Priority, ageing: Ageing, now: Instant) -> Option<Instant> {
        let aged = priority.saturating_sub(1);
        if aged < ageing.floor {
            return None;
        }
        self.set_priority(aged);
        now.checked_add(ageing.interval)
    }

    /// Changes the priority, for this lock and those that follow. Too late, it changes nothing.
    pub(crate) fn set_priority(self: &Arc<Self>, priority: Priority) {
        let mut decisions = Vec::new();
        let mut state = self.state.lock();
        state.priority = priority;
        if let (Phase::Queued(ticket), Some(task)) = (&state.phase, &state.task) {
            let (lock, _) = task.current().expect("it waits for one");
            lock.set_priority(*ticket, priority, &mut decisions);
        }
        drop(state);
        dispatch(decisions);
    }

    /// Withdraws at the deadline. What was granted by now is kept if it is all there is to have.
    fn give_up(self: &Arc<Self>) -> Result<Task, Box<(Task, Refusal)>> {
        let waited = clock::now().saturating_duration_since(self.since);
        let refusal = {
            let state = self.state.lock();
            state.task.as_ref().map(|task| {
                let blockers = task.blockers();
                task.refusal(Reason::TimedOut(waited, blockers))
            })
        };
        self.cancel();
        let state = self.state.lock();
        if let (Phase::Withdrawn, Some(refusal)) = (&state.phase, refusal) {
            tracing::debug!(waited_us = waited.as_micros() as u64, "timed out");
            let task = { state }.task.take().expect("nobody else takes it");
            return Err(Box::new((task, refusal)));
        }
        Self::conclude(state)
    }

    /// Withdraws, unless it is decided already; a lock granted meanwhile is given on.
    pub(crate) fn cancel(self: &Arc<Self>) {
        let mut decisions = Vec::new();
        let mut state = self.state.lock();
        if let Phase::Queued(ticket) = state.phase {
            let priority = state.priority;
            let task = state.task.as_mut().expect("taken only when decided");
            let (lock, _) = task.current().expect("it waits for one");
            state.phase = match lock.cancel(ticket, &mut decisions) {
                Cancelled::Deleted => Self::failed(task, Reason::Deleted, &mut decisions),
                Cancelled::Withdrawn => {
                    task.rollback(&mut decisions);
                    Phase::Withdrawn
                }
                Cancelled::Granted => {
                    task.granted();
                    Self::conclude_without_waiting(task, priority, &mut decisions)
                }
            };
        }
        drop(state);
        dispatch(decisions);
    }

    fn conclude_without_waiting(
        task: &mut Task,
        priority: Priority,
        decisions: &mut Decisions,
    ) -> Phase {
        match task.advance(priority) {
            Progress::Done => Phase::Granted,
            Progress::Failed(reason) => Self::failed(task, reason, decisions),
            Progress::Blocked => {
                task.rollback(decisions);
                Phase::Withdrawn
            }
        }
    }

    /// What the waiter gets in the end.
    fn conclude(
        mut state: crate::sync::MutexGuard<'_, State>,
    ) -> Result<Task, Box<(Task, Refusal)>> {
        let task = state.task.take().expect("the waiter comes once");
        match std::mem::replace(&mut state.phase, Phase::Moving) {
            Phase::Failed(refusal) => Err(Box::new((task, refusal))),
            Phase::Granted => Ok(task),
            Phase::Moving | Phase::Queued(_) | Phase::Withdrawn => {
                unreachable!("only a decided chain is concluded")
            }
        }
    }

    fn span(&self) -> tracing::Span {
        let state = self.state.lock();
        let current = state.task.as_ref().and_then(Task::current);
        current.map_or_else(tracing::Span::none, |(lock, mode)| {
            tracing::debug_span!(
                "wait",
                owner = self.owner.name(),
                lock = %lock.name(),
                mode = %mode,
                priority = state.priority
            )
        })
    }
}

impl Task {
    /// The mode from which a conversion starts.
    fn held_mode(&self) -> Mode {
        match self {
            Self::Convert(conversion) => conversion.hold.mode,
            Self::Take(_) => unreachable!("only conversions start from a mode"),
        }
    }
}

/// Tells chains what was decided about them, until nothing more follows from it. To be called with no mutex held.
pub(crate) fn dispatch(decisions: Decisions) {
    let mut todo = VecDeque::from(decisions);
    while let Some(decided) = todo.pop_front() {
        let mut more = Vec::new();
        decided.waiter.on_decided(decided.ticket, decided.outcome, &mut more);
        todo.extend(more);
    }
}
