//! The builder of a request: nothing happens until it is told how to wait.

use std::time::{Duration, Instant};

use crate::clock::Limit;
use crate::core::queue::Priority;
use crate::pending::{self, Ageing, Terms};
use crate::task::{Refusal, Task};

/// A request not made yet: says how urgent it is and how long it may take, then [`now`](Self::now) or [`wait`](Self::wait)
/// makes it.
///
/// Made by [`SharedLock::acquire`](crate::SharedLock::acquire), [`LockSet::acquire`](crate::LockSet::acquire),
/// [`Session::acquire`](crate::Session::acquire) and whatever else may have to wait for a lock: upgrading, deleting, adding
/// and removing.
///
/// Requests are granted by priority, then by arrival; requests in a mode compatible with itself, of one priority, go together.
/// A request for several locks takes them in order and keeps what it has while it waits for the next.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{Owner, SharedLock};
///
/// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
/// let guard = lock.exclusive(&owner).priority(-5).timeout(Duration::from_secs(30)).wait()?;
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[derive(Debug)]
#[must_use = "a request does nothing until `now()` or `wait()`"]
pub struct Acquire<T> {
    target: T,
    terms: Terms,
}

/// What is asked for, and what comes of it. Not to be implemented elsewhere.
pub trait Target: Sized {
    /// What a request that is granted gives.
    type Granted;
    /// Why it is not.
    type Error;

    /// Tries without any preparation, where that is worth it. `None` says to go the long way.
    fn immediate(&mut self, _priority: Priority) -> Option<Self::Granted> {
        None
    }

    /// Checks the request and says which locks it takes, if any.
    fn prepare(&mut self, waits: Patience) -> Result<Option<Task>, Self::Error>;

    /// Makes something of the locks held now.
    fn granted(self, task: Option<Task>) -> Result<Self::Granted, Self::Error>;

    /// Undoes what `prepare` did.
    fn refused(self, task: Task, refusal: Refusal) -> Self::Error;
}

/// Whether a request waits where it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "not reachable from outside")]
pub enum Patience {
    Tries,
    Waits,
}

impl<T> Acquire<T> {
    pub(crate) fn new(target: T) -> Self {
        Self { target, terms: Terms::default() }
    }

    /// Says how urgent the request is: lower goes first, 0 unless said otherwise.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.shared(&owner).priority(-5).wait();
    /// ```
    pub fn priority(mut self, priority: Priority) -> Self {
        self.terms.priority = priority;
        self
    }

    /// Waits no longer than this, counted from when waiting begins: one budget for all locks of the request.
    ///
    /// Below one millisecond it does not queue at all. A later `timeout` or `deadline` replaces an earlier one.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.shared(&owner).timeout(Duration::from_secs(30)).wait();
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.terms.limit = Limit::Within(timeout);
        self
    }

    /// Waits no longer than until `deadline`.
    ///
    /// With less than one millisecond left it does not queue at all. A later `timeout` or `deadline` replaces an earlier one.
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let deadline = Instant::now() + Duration::from_secs(30);
    /// let guard = lock.shared(&owner).deadline(deadline).wait();
    /// ```
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.terms.limit = Limit::At(deadline);
        self
    }

    /// Becomes more urgent while it waits.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::{Ageing, Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.shared(&owner).ageing(Ageing::every(Duration::from_secs(60))).wait();
    /// ```
    pub fn ageing(mut self, ageing: Ageing) -> Self {
        self.terms.ageing = Some(ageing);
        self
    }
}

impl<T: Target> Acquire<T> {
    /// Makes the request if that needs no waiting and overtakes nobody as urgent.
    ///
    /// # Errors
    /// [`WouldBlock`](crate::AcquireError::WouldBlock) if it would have to wait, and whatever else the request can be refused
    /// for. Nothing is taken then, and nothing held is lost.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// assert!(lock.shared(&owner).now().is_ok());
    /// ```
    pub fn now(mut self) -> Result<T::Granted, T::Error> {
        if let Some(granted) = self.target.immediate(self.terms.priority) {
            return Ok(granted);
        }
        let Some(task) = self.target.prepare(Patience::Tries)? else {
            return self.target.granted(None);
        };
        Self::conclude(self.target, task.now(self.terms.priority))
    }

    /// Makes the request and blocks this thread until it is granted, fails, or the time is up.
    ///
    /// # Errors
    /// [`TimedOut`](crate::AcquireError::TimedOut) if the time is up first, [`Deleted`](crate::AcquireError::Deleted) if a lock
    /// is deleted first, and whatever else the request can be refused for. Nothing is taken then, and nothing held is lost.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// assert!(lock.shared(&owner).wait().is_ok());
    /// ```
    pub fn wait(mut self) -> Result<T::Granted, T::Error> {
        if let Some(granted) = self.target.immediate(self.terms.priority) {
            return Ok(granted);
        }
        let Some(task) = self.target.prepare(Patience::Waits)? else {
            return self.target.granted(None);
        };
        Self::conclude(self.target, pending::wait(task, &self.terms))
    }

    fn conclude(
        target: T,
        result: Result<Task, Box<(Task, Refusal)>>,
    ) -> Result<T::Granted, T::Error> {
        match result {
            Ok(task) => target.granted(Some(task)),
            Err(refused) => {
                let (task, refusal) = *refused;
                Err(target.refused(task, refusal))
            }
        }
    }
}
