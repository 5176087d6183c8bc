//! Conditions in the manner of a pipe: whoever waits sees the other end close.
//!
//! Each stands beside a [`Mutex`] of yours, parking_lot's, and every call but the questions takes that mutex's
//! guard. A notification disconnects a channel, as closing the write end hangs up a pipe: it reaches any number
//! of waiters at once, each with its own deadline, without polling and without a file descriptor.
//!
//! Whoever notifies holds the mutex alone. Over a lock that it shared, a waiter could come in the middle of a notification, and
//! hear nothing of it; so this does not compile:
//!
//! ```compile_fail,E0308
//! use std::sync::RwLock;
//! use tierlock::condition::PipeCondition;
//!
//! let (lock, condition) = (RwLock::new(()), PipeCondition::<&str>::new());
//! condition.notify_all(&lock.read().unwrap());
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
#[doc(no_inline)]
pub use crate::sync::pipe::{Mutex, MutexGuard};
use crate::sync::pipe::{Receiver, RecvTimeoutError, Sender, bounded};

/// How a wait with a deadline ended.
///
/// Decided with the mutex held again: a notification that comes after the deadline, but before the waiter has the
/// mutex back, still counts.
///
/// # Examples
/// ```
/// use tierlock::condition::{Mutex, PipeCondition, Wake};
/// # use std::time::Duration;
/// let (mutex, condition) = (Mutex::new(()), PipeCondition::new());
/// let wake = condition.wait_for(&mut mutex.lock(), "job-17", Duration::ZERO)?;
/// assert_eq!(wake, Wake::TimedOut);
/// # Ok::<(), tierlock::condition::ConditionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a wait that timed out was not notified"]
pub enum Wake {
    /// A notification came, and counted this waiter.
    Notified,
    /// The deadline passed, and no notification counted this waiter.
    TimedOut,
}

/// Why a condition refused a call. Nothing was waited for, notified or released.
///
/// # Examples
/// ```
/// use tierlock::condition::{ConditionError, Mutex, SingleNotifyCondition};
/// let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
/// let mut guard = mutex.lock();
/// condition.notify_all(&guard)?;
/// assert_eq!(condition.wait(&mut guard), Err(ConditionError::AlreadyNotified));
/// # Ok::<(), ConditionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// A [`SingleNotifyCondition`] was used after its notification.
    #[error("the condition has been notified before, and can be only once")]
    AlreadyNotified,
    /// Those who wait released another mutex than the one whose guard was given.
    #[error("the guard belongs to another mutex than the one the waiters released")]
    WrongMutex,
}

/// A condition that is notified once.
///
/// A notification wakes all who wait; after it the condition is used up, whether anybody waited or not. A wait that
/// times out does not use it up. While somebody waits, the condition belongs to the mutex they released; nothing
/// is allocated while nobody does.
///
/// # Examples
/// ```
/// use tierlock::condition::{ConditionError, Mutex, SingleNotifyCondition};
///
/// let (results, finished) = (Mutex::new(Vec::new()), SingleNotifyCondition::new());
/// std::thread::scope(|scope| {
///     let mut results_held = results.lock();
///     scope.spawn(|| {
///         let mut results = results.lock();
///         results.push("web1 is up");
///         finished.notify_all(&results)
///     });
///     finished.wait(&mut results_held)?;
///     assert_eq!(*results_held, ["web1 is up"]);
///     Ok::<(), ConditionError>(())
/// })?;
/// # Ok::<(), ConditionError>(())
/// ```
#[derive(Debug, Default)]
pub struct SingleNotifyCondition {
    // Never held while waiting: the user's mutex orders the calls, this one makes them sound without `unsafe`.
    state: Mutex<State>,
}

/// Where a [`SingleNotifyCondition`] is in its life: back and forth between the first two, then the third for good.
#[derive(Debug, Default)]
enum State {
    /// Nobody waits.
    #[default]
    Idle,
    /// `count` threads released the mutex at `mutex` and wait for `sender` to go.
    Waited {
        count: usize,
        mutex: usize,
        sender: Sender<Infallible>,
        receiver: Receiver<Infallible>,
    },
    /// The sender is gone.
    Notified,
}

impl SingleNotifyCondition {
    /// Makes a condition that has not been notified.
    ///
    /// # Examples
    /// ```
    /// use tierlock::condition::SingleNotifyCondition;
    /// static SHUT_DOWN: SingleNotifyCondition = SingleNotifyCondition::new();
    /// assert_eq!(SHUT_DOWN.waiting(), 0);
    /// ```
    pub const fn new() -> Self {
        Self { state: Mutex::new(State::Idle) }
    }

    /// Releases the mutex, waits for the notification, and takes the mutex again.
    ///
    /// In which order those who are woken get the mutex is up to the mutex.
    ///
    /// # Errors
    /// [`AlreadyNotified`](ConditionError::AlreadyNotified) after the notification,
    /// [`WrongMutex`](ConditionError::WrongMutex) if others wait with another mutex.
    ///
    /// # Examples
    /// See [`SingleNotifyCondition`].
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) -> Result<(), ConditionError> {
        self.park(guard, None).map(drop)
    }

    /// Like [`wait`](Self::wait), for at most `timeout`, counted from now on a monotonic clock.
    ///
    /// # Errors
    /// As [`wait`](Self::wait). Timing out is no error: see [`Wake`].
    ///
    /// # Examples
    /// ```
    /// use tierlock::condition::{Mutex, SingleNotifyCondition, Wake};
    /// # use std::time::Duration;
    /// let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
    /// let wake = condition.wait_for(&mut mutex.lock(), Duration::from_millis(1))?;
    /// assert_eq!(wake, Wake::TimedOut);
    /// # Ok::<(), tierlock::condition::ConditionError>(())
    /// ```
    pub fn wait_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> Result<Wake, ConditionError> {
        self.park(guard, deadline_in(timeout))
    }

    /// Like [`wait`](Self::wait), at the longest until `deadline`. One that has passed still releases the mutex once.
    ///
    /// # Errors
    /// As [`wait`](Self::wait). Timing out is no error: see [`Wake`].
    ///
    /// # Examples
    /// ```
    /// use tierlock::condition::{Mutex, SingleNotifyCondition, Wake};
    /// # use std::time::Instant;
    /// let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
    /// let wake = condition.wait_until(&mut mutex.lock(), Instant::now())?;
    /// assert_eq!(wake, Wake::TimedOut);
    /// # Ok::<(), tierlock::condition::ConditionError>(())
    /// ```
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> Result<Wake, ConditionError> {
        self.park(guard, Some(deadline))
    }

    /// Wakes all who wait, uses the condition up, and returns how many those were.
    ///
    /// They go on once the mutex is free, so let go of it soon.
    ///
    /// # Errors
    /// [`AlreadyNotified`](ConditionError::AlreadyNotified) the second time,
    /// [`WrongMutex`](ConditionError::WrongMutex) if those who wait released another mutex.
    ///
    /// # Examples
    /// ```
    /// use tierlock::condition::{Mutex, SingleNotifyCondition};
    /// let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
    /// assert_eq!(condition.notify_all(&mutex.lock()), Ok(0));
    /// assert!(condition.notify_all(&mutex.lock()).is_err());
    /// ```
    pub fn notify_all<T: ?Sized>(
        &self,
        guard: &MutexGuard<'_, T>,
    ) -> Result<usize, ConditionError> {
        let mut state = self.state.lock();
        state.check(address(guard))?;
        match mem::replace(&mut *state, State::Notified) {
            State::Waited { count, sender, .. } => {
                drop(sender);
                Ok(count)
            }
            State::Idle | State::Notified => Ok(0),
        }
    }

    /// How many wait. Outdated at once unless the mutex is held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::condition::SingleNotifyCondition;
    /// assert_eq!(SingleNotifyCondition::new().waiting(), 0);
    /// ```
    pub fn waiting(&self) -> usize {
        match *self.state.lock() {
            State::Waited { count, .. } => count,
            State::Idle | State::Notified => 0,
        }
    }

    fn park<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
    ) -> Result<Wake, ConditionError> {
        let receiver = self.enter(address(guard))?;
        Ok(self.sleep(guard, &receiver, deadline))
    }

    fn enter(&self, mutex: usize) -> Result<Receiver<Infallible>, ConditionError> {
        let mut state = self.state.lock();
        state.check(mutex)?;
        if let State::Waited { count, receiver, .. } = &mut *state {
            *count += 1;
            return Ok(receiver.clone());
        }
        let (sender, receiver) = bounded(0);
        *state = State::Waited { count: 1, mutex, sender, receiver: receiver.clone() };
        Ok(receiver)
    }

    fn sleep<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        receiver: &Receiver<Infallible>,
        deadline: Option<Instant>,
    ) -> Wake {
        // Nothing is ever sent, so this ends with the sender or with the deadline. Which of them it was does not
        // matter: as long as the mutex is not back, a notification may still come.
        let _ = MutexGuard::unlocked(guard, || match deadline {
            None => receiver.recv().map_err(RecvTimeoutError::from),
            Some(deadline) => receiver.recv_deadline(deadline),
        });
        self.leave()
    }

    fn leave(&self) -> Wake {
        let mut state = self.state.lock();
        match &mut *state {
            State::Notified => return Wake::Notified,
            State::Waited { count, .. } if *count > 1 => *count -= 1,
            State::Waited { .. } | State::Idle => *state = State::Idle,
        }
        Wake::TimedOut
    }
}

impl State {
    fn check(&self, mutex: usize) -> Result<(), ConditionError> {
        match self {
            Self::Notified => Err(ConditionError::AlreadyNotified),
            Self::Waited { mutex: released, .. } if *released != mutex => {
                Err(ConditionError::WrongMutex)
            }
            Self::Waited { .. } | Self::Idle => Ok(()),
        }
    }
}

/// A condition that is notified any number of times, and knows who waits.
///
/// A notification wakes exactly those who wait when it comes, and begins a new generation; without waiters it is
/// forgotten. A waiter calls itself `W`: a job's name, a number. While somebody waits, the condition belongs to
/// the mutex they released.
///
/// # Examples
/// ```
/// use tierlock::condition::{ConditionError, Mutex, PipeCondition};
///
/// let (queue, filled) = (Mutex::new(Vec::new()), PipeCondition::new());
/// std::thread::scope(|scope| {
///     let mut queue_held = queue.lock();
///     scope.spawn(|| {
///         let mut queue = queue.lock();
///         assert_eq!(filled.waiters(), ["consumer"]);
///         queue.push(17);
///         filled.notify_all(&queue)
///     });
///     while queue_held.is_empty() {
///         filled.wait(&mut queue_held, "consumer")?;
///     }
///     assert_eq!(queue_held.pop(), Some(17));
///     Ok::<(), ConditionError>(())
/// })?;
/// # Ok::<(), ConditionError>(())
/// ```
#[derive(Debug)]
pub struct PipeCondition<W> {
    state: Mutex<Pipe<W>>,
}

#[derive(Debug)]
struct Pipe<W> {
    /// What the next notification uses up.
    generation: Option<Arc<SingleNotifyCondition>>,
    /// Everybody not yet back with the mutex, of all generations, by arrival.
    waiters: BTreeMap<u64, W>,
    arrivals: u64,
}

impl<W> PipeCondition<W> {
    /// Makes a condition that nobody waits for.
    ///
    /// # Examples
    /// ```
    /// use tierlock::condition::PipeCondition;
    /// static CHANGED: PipeCondition<u64> = PipeCondition::new();
    /// assert_eq!(CHANGED.waiting(), 0);
    /// ```
    pub const fn new() -> Self {
        Self { state: Mutex::new(Pipe { generation: None, waiters: BTreeMap::new(), arrivals: 0 }) }
    }

    /// Releases the mutex, waits for the next notification as `waiter`, and takes the mutex again.
    ///
    /// In which order those who are woken get the mutex is up to the mutex, and somebody else may get it before
    /// them: look again at what you waited for.
    ///
    /// # Errors
    /// [`WrongMutex`](ConditionError::WrongMutex) if others wait with another mutex.
    ///
    /// # Examples
    /// See [`PipeCondition`].
    pub fn wait<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        waiter: W,
    ) -> Result<(), ConditionError> {
        self.park(guard, waiter, None).map(drop)
    }

    /// Like [`wait`](Self::wait), for at most `timeout`, counted from now on a monotonic clock.
    ///
    /// # Errors
    /// As [`wait`](Self::wait). Timing out is no error: see [`Wake`].
    ///
    /// # Examples
    /// See [`Wake`].
    pub fn wait_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        waiter: W,
        timeout: Duration,
    ) -> Result<Wake, ConditionError> {
        self.park(guard, waiter, deadline_in(timeout))
    }

    /// Like [`wait`](Self::wait), at the longest until `deadline`. One that has passed still releases the mutex once.
    ///
    /// # Errors
    /// As [`wait`](Self::wait). Timing out is no error: see [`Wake`].
    ///
    /// # Examples
    /// ```
    /// use tierlock::condition::{Mutex, PipeCondition, Wake};
    /// # use std::time::{Duration, Instant};
    /// let (ready, changed) = (Mutex::new(false), PipeCondition::new());
    /// let deadline = Instant::now() + Duration::from_millis(1);
    /// let mut ready = ready.lock();
    /// // However often it is notified, this ends at the deadline.
    /// while !*ready && changed.wait_until(&mut ready, "job-17", deadline)? == Wake::Notified {}
    /// # Ok::<(), tierlock::condition::ConditionError>(())
    /// ```
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        waiter: W,
        deadline: Instant,
    ) -> Result<Wake, ConditionError> {
        self.park(guard, waiter, Some(deadline))
    }

    /// Wakes all who wait for this generation, begins the next, and returns how many were woken.
    ///
    /// They go on once the mutex is free, so let go of it soon.
    ///
    /// # Errors
    /// [`WrongMutex`](ConditionError::WrongMutex) if those who wait released another mutex.
    ///
    /// # Examples
    /// ```
    /// use tierlock::condition::{Mutex, PipeCondition};
    /// let (mutex, condition) = (Mutex::new(()), PipeCondition::<u64>::new());
    /// assert_eq!(condition.notify_all(&mutex.lock()), Ok(0));
    /// ```
    pub fn notify_all<T: ?Sized>(
        &self,
        guard: &MutexGuard<'_, T>,
    ) -> Result<usize, ConditionError> {
        let mut state = self.state.lock();
        let Some(generation) = &state.generation else { return Ok(0) };
        let woken = generation.notify_all(guard)?;
        state.generation = None;
        Ok(woken)
    }

    /// How many wait. One who was woken counts until it is back with the mutex.
    ///
    /// Outdated at once unless the mutex is held.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::condition::PipeCondition;
    /// assert_eq!(PipeCondition::<u64>::new().waiting(), 0);
    /// ```
    pub fn waiting(&self) -> usize {
        self.state.lock().waiters.len()
    }

    /// Who waits, in the order they came. One who was woken counts until it is back with the mutex.
    ///
    /// Outdated at once unless the mutex is held.
    ///
    /// # Examples
    /// See [`PipeCondition`].
    pub fn waiters(&self) -> Vec<W>
    where
        W: Clone,
    {
        self.state.lock().waiters.values().cloned().collect()
    }

    fn park<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        waiter: W,
        deadline: Option<Instant>,
    ) -> Result<Wake, ConditionError> {
        let (arrival, generation, receiver) = self.state.lock().enter(address(guard), waiter)?;
        let wake = generation.sleep(guard, &receiver, deadline);
        self.state.lock().waiters.remove(&arrival);
        Ok(wake)
    }
}

impl<W> Pipe<W> {
    fn enter(
        &mut self,
        mutex: usize,
        waiter: W,
    ) -> Result<(u64, Arc<SingleNotifyCondition>, Receiver<Infallible>), ConditionError> {
        let generation = self.generation.get_or_insert_default();
        let receiver = generation.enter(mutex)?;
        self.arrivals += 1;
        self.waiters.insert(self.arrivals, waiter);
        Ok((self.arrivals, Arc::clone(generation), receiver))
    }
}

impl<W> Default for PipeCondition<W> {
    fn default() -> Self {
        Self::new()
    }
}

/// None if `timeout` reaches beyond the clock's range: that is for ever.
fn deadline_in(timeout: Duration) -> Option<Instant> {
    clock::now().checked_add(timeout)
}

/// Tells mutexes apart for as long as both are borrowed, as those of waiters are.
fn address<T: ?Sized>(guard: &MutexGuard<'_, T>) -> usize {
    std::ptr::from_ref(MutexGuard::mutex(guard)).addr()
}
