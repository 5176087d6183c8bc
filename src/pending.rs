//! Waiting for the locks of a task.
//!
//! At a lock that has to be waited for, a task becomes a [`Chain`] in that lock's queue: whoever releases the lock hands it
//! over and takes the chain on to the next one, so that the waiter wakes once, when all is held. The only place that wakes.
//!
//! Order of mutexes: a chain's state, then a lock's queue; never two of a kind. What a queue decided is told to its chains by
//! [`dispatch`] when neither is held.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{self, Limit};
use crate::core::mode::Mode;
use crate::core::queue::{Deadlock, Priority, Ticket};
use crate::hold::{Decisions, Waiter, dispatch};
use crate::owner::Owner;
use crate::raw::{Cancelled, Enqueued, Outcome};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::task::{Progress, Reason, Refusal, Task};

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

/// Does a task, waiting where it must.
///
/// # Errors
/// The task, which holds what it held before, with why.
pub(crate) fn wait(mut task: Task, terms: &Terms) -> Result<Task, Box<(Task, Refusal)>> {
    match task.advance(terms.priority) {
        Progress::Done => return Ok(task),
        Progress::Failed(reason) => return task.fail(reason),
        Progress::Blocked => {}
    }
    let start = clock::now();
    match terms.limit.deadline(start) {
        Ok(deadline) => Chain::begin(task, terms.priority, start).wait(deadline, terms.ageing),
        Err(clock::TooNear) => {
            let blockers = task.blockers();
            task.fail(Reason::TimedOut(Duration::ZERO, blockers))
        }
    }
}

/// A task that waits.
#[derive(Debug)]
pub(crate) struct Chain {
    owner: Owner,
    since: Instant,
    state: Mutex<State>,
    decided: Condvar,
}

#[derive(Debug)]
struct State {
    priority: Priority,
    /// Since when it is in the queue of the current lock.
    queued: Instant,
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
}

impl State {
    /// Counts the wait for the current lock, which is over.
    fn count_wait(&self) {
        if let Some((lock, _)) = self.task.as_ref().and_then(Task::current) {
            lock.count_wait(clock::now().saturating_duration_since(self.queued));
        }
    }
}

impl Chain {
    /// Begins to wait for the task's current lock.
    fn begin(task: Task, priority: Priority, since: Instant) -> Arc<Self> {
        let chain = Arc::new(Self {
            owner: task.owner().clone(),
            since,
            state: Mutex::new(State {
                priority,
                queued: since,
                phase: Phase::Moving,
                task: Some(task),
            }),
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
                Ok(Enqueued::Pending(ticket)) => {
                    state.queued = clock::now();
                    break Phase::Queued(ticket);
                }
                Ok(Enqueued::Granted) => task.granted(),
                // It may have come back under the same name: the next attempt finds out.
                Ok(Enqueued::Deleted) => {}
                Err((held, Deadlock)) => {
                    let reason = Reason::Deadlock(held, task.blockers());
                    break Self::failed(task, reason, decisions);
                }
            }
        };
    }

    /// Stands in line for the lock that blocks the task.
    ///
    /// # Errors
    /// [`Deadlock`], with the mode from which a conversion starts.
    fn join_queue(
        self: &Arc<Self>,
        task: &Task,
        priority: Priority,
        decisions: &mut Decisions,
    ) -> Result<Enqueued, (Mode, Deadlock)> {
        let (lock, wanted) = task.current().expect("it is blocked by one");
        let waiter = Arc::clone(self) as Arc<dyn Waiter>;
        match task.converts_from() {
            None => Ok(lock.enqueue(wanted, priority, waiter, decisions)),
            Some(held) => lock
                .enqueue_conversion(held, wanted, priority, waiter, decisions)
                .map_err(|deadlock| (held, deadlock)),
        }
    }

    fn failed(task: &mut Task, reason: Reason, decisions: &mut Decisions) -> Phase {
        let refusal = task.refusal(reason);
        task.rollback(decisions);
        Phase::Failed(refusal)
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
        if priority <= ageing.floor {
            return None;
        }
        self.set_priority(priority - 1);
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

    /// Withdraws at the deadline, unless it is decided already.
    fn give_up(self: &Arc<Self>) -> Result<Task, Box<(Task, Refusal)>> {
        let waited = clock::now().saturating_duration_since(self.since);
        tracing::debug!(waited_us = waited.as_micros() as u64, "time is up");
        let mut decisions = Vec::new();
        let mut state = self.state.lock();
        if let Phase::Queued(ticket) = state.phase {
            state.count_wait();
            let priority = state.priority;
            let task = state.task.as_mut().expect("taken only when decided");
            state.phase = Self::withdraw(task, ticket, priority, waited, &mut decisions);
        }
        let result = Self::conclude(state);
        dispatch(decisions);
        result
    }

    /// Leaves the queue of the current lock. If that was granted meanwhile, and all the rest can be had without waiting, the
    /// grant counts.
    fn withdraw(
        task: &mut Task,
        ticket: Ticket,
        priority: Priority,
        waited: Duration,
        decisions: &mut Decisions,
    ) -> Phase {
        let blockers = task.blockers();
        let (lock, _) = task.current().expect("it waits for one");
        match lock.cancel(ticket, decisions) {
            Cancelled::Withdrawn => {
                Self::failed(task, Reason::TimedOut(waited, blockers), decisions)
            }
            Cancelled::Deleted => Self::failed(task, Reason::Deleted, decisions),
            Cancelled::Granted => {
                task.granted();
                match task.advance(priority) {
                    Progress::Done => Phase::Granted,
                    Progress::Failed(reason) => Self::failed(task, reason, decisions),
                    Progress::Blocked => {
                        let reason = Reason::TimedOut(waited, task.blockers());
                        Self::failed(task, reason, decisions)
                    }
                }
            }
        }
    }

    /// What the waiter gets in the end.
    fn conclude(mut state: MutexGuard<'_, State>) -> Result<Task, Box<(Task, Refusal)>> {
        let task = state.task.take().expect("the waiter comes once");
        match std::mem::replace(&mut state.phase, Phase::Moving) {
            Phase::Failed(refusal) => Err(Box::new((task, refusal))),
            Phase::Granted => Ok(task),
            Phase::Moving | Phase::Queued(_) => unreachable!("only a decided chain is concluded"),
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

impl Waiter for Chain {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn since(&self) -> Instant {
        self.since
    }

    /// Ignores what the waiter found out by itself meanwhile.
    fn on_decided(self: Arc<Self>, ticket: Ticket, outcome: Outcome, decisions: &mut Decisions) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Queued(queued) if queued == ticket) {
            return;
        }
        state.count_wait();
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
}
