//! A request that waits, whoever waits for it and how.
//!
//! At a lock that has to be waited for, a task becomes a [`Chain`] in that lock's queue: whoever releases the lock hands it
//! over and takes the chain on to the next one, so that the waiter wakes once, when all is held. The only place that wakes.
//!
//! Order of mutexes: a chain's state, then a lock's queue; never two of a kind. What a queue decided is told to its chains by
//! [`dispatch`] when neither is held.

use std::mem;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::clock::{self, Limit};
use crate::core::mode::Mode;
use crate::core::queue::{Deadlock, Priority, Ticket};
#[cfg(feature = "coordination")]
use crate::hold::Refused;
use crate::hold::{Decisions, Lock, Waiter, dispatch};
use crate::listeners::Listeners;
use crate::owner::Owner;
use crate::raw::{Cancelled, Enqueued, Outcome};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::task::{Progress, Reason, Refusal, Task};
use crate::timer::Alarm;

/// Raises the priority of a request while it waits, so that it cannot starve.
///
/// Every `interval` the request becomes one step more urgent, until it reaches the floor: -20 by default, Ganeti's most urgent.
/// There it ends, whatever the priority is set to later.
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

/// What became of a task when it began.
pub(crate) enum Begun {
    Done(Task),
    Waits(Arc<Chain>),
}

/// Begins a task: takes what can be had at once, and stands in line for the rest.
///
/// # Errors
/// Why not; then nothing of the task is held.
pub(crate) fn begin(mut task: Task, terms: &Terms) -> Result<Begun, Box<Refusal>> {
    let mut decisions = Vec::new();
    let progress = task.advance(terms.priority, &mut decisions);
    dispatch(decisions);
    match progress {
        Progress::Done => return Ok(Begun::Done(task)),
        Progress::Failed(reason) => return task.fail(reason).map(Begun::Done),
        Progress::Blocked => {}
    }
    let now = clock::now();
    match terms.limit.deadline(now) {
        Ok(deadline) => Ok(Begun::Waits(Chain::begin(task, terms, now, deadline))),
        Err(clock::TooNear) => {
            let blockers = task.blockers();
            task.fail(Reason::TimedOut(Duration::ZERO, blockers)).map(Begun::Done)
        }
    }
}

/// A task that waits.
#[derive(Debug)]
pub(crate) struct Chain {
    owner: Owner,
    since: Instant,
    deadline: Option<Instant>,
    ageing: Option<Ageing>,
    state: Mutex<State>,
    /// Told to threads when it is decided.
    decided: Condvar,
}

#[derive(Debug)]
struct State {
    priority: Priority,
    /// Since when it is in the queue of the current lock.
    queued: Instant,
    phase: Phase,
    /// There until it is taken.
    task: Option<Task>,
    /// Whom to tell, beside threads, when it is decided; most chains have threads alone.
    listeners: Option<Box<Listeners>>,
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
    Failed(Box<Refusal>),
    /// Its result was taken, or it was withdrawn.
    Over,
}

impl State {
    fn is_decided(&self) -> bool {
        !matches!(self.phase, Phase::Queued(_))
    }

    /// The lock that it waits for, and the mode wanted of it.
    fn current(&self) -> (&Arc<Lock>, Mode) {
        self.task.as_ref().and_then(Task::current).expect("it waits for one")
    }

    /// Counts the wait for the current lock, which is over.
    fn count_wait(&self) {
        self.current().0.count_wait(clock::now().saturating_duration_since(self.queued));
    }
}

impl Chain {
    /// Begins to wait for the task's current lock.
    fn begin(task: Task, terms: &Terms, since: Instant, deadline: Option<Instant>) -> Arc<Self> {
        let chain = Arc::new(Self {
            owner: task.owner().clone(),
            since,
            deadline,
            ageing: terms.ageing,
            state: Mutex::new(State {
                priority: terms.priority,
                queued: since,
                phase: Phase::Moving,
                task: Some(task),
                listeners: None,
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
            match task.advance(state.priority, decisions) {
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
        Phase::Failed(Box::new(refusal))
    }

    pub(crate) fn is_decided(&self) -> bool {
        self.state.lock().is_decided()
    }

    /// Blocks this thread until the chain is decided, minding the deadline and the ageing itself.
    pub(crate) fn wait(self: &Arc<Self>) {
        let mut due = self.first_due();
        while !self.park(due) {
            due = due.and_then(|at| Arc::clone(self).on_time(at));
        }
    }

    /// Blocks this thread until the chain is decided, while a timer minds its time. The deadline it minds itself as well: it may
    /// be the timer's thread that waits here, in a waker.
    pub(crate) fn wait_timed(&self) {
        if !self.park(self.deadline) {
            self.expire();
        }
    }

    /// Blocks this thread until the chain is decided or the time has come; tells whether it is decided.
    pub(crate) fn park(&self, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while !state.is_decided() {
            match until {
                None => self.decided.wait(&mut state),
                Some(until) => {
                    if self.decided.wait_until(&mut state, until) {
                        return state.is_decided();
                    }
                }
            }
        }
        true
    }

    /// Has the waker woken when the chain is decided, in place of an earlier one; tells whether it is decided already.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        // The caller's code, and so is dropping the earlier one: neither runs under the mutex.
        let waker = waker.clone();
        let earlier = self.listen(|listeners| listeners.waker.replace(waker));
        earlier.is_none()
    }

    /// Adds a listener; `None` if the chain is decided already.
    pub(crate) fn listen<R>(&self, add: impl FnOnce(&mut Listeners) -> R) -> Option<R> {
        let mut state = self.state.lock();
        if state.is_decided() { None } else { Some(add(state.listeners.get_or_insert_default())) }
    }

    /// When there is something to be done about it for the first time.
    pub(crate) fn first_due(&self) -> Option<Instant> {
        self.next_due(self.ageing.and_then(|ageing| self.since.checked_add(ageing.interval)))
    }

    fn next_due(&self, ages: Option<Instant>) -> Option<Instant> {
        [self.deadline, ages].into_iter().flatten().min()
    }

    /// Becomes one step more urgent; returns when to do so again.
    fn age(&self, ageing: Ageing, at: Instant) -> Option<Instant> {
        let mut next = None;
        self.reprioritise(|priority| {
            if priority <= ageing.floor {
                return priority;
            }
            next = at.checked_add(ageing.interval);
            priority - 1
        });
        next
    }

    /// Changes the priority, for this lock and those that follow. Too late, it changes nothing.
    pub(crate) fn set_priority(&self, priority: Priority) {
        self.reprioritise(|_| priority);
    }

    fn reprioritise(&self, change: impl FnOnce(Priority) -> Priority) {
        let mut decisions = Vec::new();
        let mut state = self.state.lock();
        if let Phase::Queued(ticket) = state.phase {
            state.priority = change(state.priority);
            let (lock, _) = state.current();
            lock.set_priority(ticket, state.priority, &mut decisions);
        }
        drop(state);
        dispatch(decisions);
    }

    /// Number of requests that go before it at the lock it waits for; `None` if it is decided, or granted that lock.
    pub(crate) fn position(&self) -> Option<usize> {
        let state = self.state.lock();
        let Phase::Queued(ticket) = state.phase else { return None };
        let (lock, _) = state.current();
        lock.inspect(|_, queue| queue?.position(ticket))
    }

    /// Withdraws at the deadline, unless it is decided already.
    fn expire(&self) {
        let waited = clock::now().saturating_duration_since(self.since);
        let mut decisions = Vec::new();
        let mut state = self.state.lock();
        let Phase::Queued(ticket) = state.phase else { return };
        state.count_wait();
        let priority = state.priority;
        let task = state.task.as_mut().expect("taken only when decided");
        state.phase = Self::withdraw(task, ticket, priority, waited, &mut decisions);
        let listeners = self.conclude(state);
        dispatch(decisions);
        listeners.into_iter().for_each(|listeners| listeners.tell());
        // Last, since a subscriber is the caller's code.
        tracing::debug!(waited_us = waited.as_micros() as u64, "time is up");
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
                match task.advance(priority, decisions) {
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

    /// Gives up for good: leaves the queue, and gives back whatever it was granted, even if that is all of it.
    pub(crate) fn give_up(&self) {
        let mut decisions = Vec::new();
        let mut state = self.state.lock();
        if let Phase::Queued(ticket) = state.phase {
            state.count_wait();
            let (lock, _) = state.current();
            if lock.cancel(ticket, &mut decisions) == Cancelled::Granted {
                state.task.as_mut().expect("taken only when decided").granted();
            }
        }
        if let Some(mut task) = state.task.take() {
            task.rollback(&mut decisions);
        }
        state.phase = Phase::Over;
        let listeners = self.conclude(state);
        dispatch(decisions);
        listeners.into_iter().for_each(|listeners| listeners.dismiss());
    }

    /// Why it cannot go on; `None` if it is decided already.
    pub(crate) fn refusal(&self, reason: Reason) -> Option<Box<Refusal>> {
        let state = self.state.lock();
        let task = state.task.as_ref().filter(|_| !state.is_decided())?;
        Some(Box::new(task.refusal(reason)))
    }

    /// Takes the result of a chain that is decided.
    ///
    /// # Errors
    /// Why it failed; then nothing of it is held.
    pub(crate) fn take(&self) -> Result<Task, Box<Refusal>> {
        let mut state = self.state.lock();
        let task = state.task.take().expect("it is taken once");
        match mem::replace(&mut state.phase, Phase::Over) {
            Phase::Failed(refusal) => Err(refusal),
            Phase::Granted => Ok(task),
            Phase::Moving | Phase::Queued(_) | Phase::Over => unreachable!("it is decided"),
        }
    }

    /// Tells threads that it is decided, and returns who else is to be told.
    fn conclude(&self, mut state: MutexGuard<'_, State>) -> Option<Box<Listeners>> {
        let listeners = state.listeners.take();
        drop(state);
        self.decided.notify_all();
        listeners
    }
}

impl Chain {
    /// Says who waits for what; closed when nobody waits any more.
    pub(crate) fn span(&self) -> tracing::Span {
        let state = self.state.lock();
        let Some((lock, mode)) = state.task.as_ref().and_then(Task::current) else {
            return tracing::Span::none();
        };
        let (lock, priority) = (lock.name().clone(), state.priority);
        // A subscriber is the caller's code.
        drop(state);
        let owner = self.owner.name();
        tracing::debug_span!("wait", owner, lock = %lock, mode = %mode, priority)
    }
}

impl Alarm for Chain {
    fn on_time(self: Arc<Self>, at: Instant) -> Option<Instant> {
        if self.deadline.is_some_and(|deadline| deadline <= at) {
            self.expire();
            return None;
        }
        let ages = self.age(self.ageing?, at);
        self.next_due(ages)
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
    fn on_decided(
        self: Arc<Self>,
        ticket: Ticket,
        outcome: Outcome,
        decisions: &mut Decisions,
    ) -> Option<Box<Listeners>> {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Queued(queued) if queued == ticket) {
            return None;
        }
        state.count_wait();
        let task = state.task.as_mut().expect("taken only when decided");
        match outcome {
            Outcome::Granted => {
                task.granted();
                self.proceed(&mut state, decisions);
            }
            Outcome::Deleted => state.phase = Self::failed(task, Reason::Deleted, decisions),
            Outcome::Changed => unreachable!("it observes nothing"),
        }
        if state.is_decided() { self.conclude(state) } else { None }
    }

    #[cfg(feature = "coordination")]
    fn refuse(&self, why: Refused) {
        let mut decisions = Vec::new();
        let mut state = self.state.lock();
        let Phase::Queued(ticket) = state.phase else { return };
        let blockers = state.task.as_ref().map(Task::blockers).unwrap_or_default();
        if state.current().0.cancel(ticket, &mut decisions) == Cancelled::Withdrawn {
            state.count_wait();
            let task = state.task.as_mut().expect("taken only when decided");
            let reason = match (why, task.converts_from()) {
                (Refused::Deadlock, Some(held)) => Reason::Deadlock(held, blockers),
                (Refused::Deadlock, None) => unreachable!("only conversions deadlock"),
                (Refused::By(outside), _) => Reason::Outside(outside),
            };
            state.phase = Self::failed(task, reason, &mut decisions);
        }
        // Decided otherwise meanwhile, it hears so from whoever did.
        let listeners = if state.is_decided() {
            self.conclude(state)
        } else {
            drop(state);
            None
        };
        dispatch(decisions);
        listeners.into_iter().for_each(|listeners| listeners.tell());
    }
}
