//! The builder of a request: nothing happens until it is told how to wait.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::chain::{Ageing, Terms};
use crate::clock::Limit;
use crate::core::queue::Priority;
use crate::pending::Pending;
use crate::target::{Patience, Target, conclude};

/// A request not made yet: says how urgent it is and how long it may take. It is made by one of
/// - [`now`](Self::now), which tries;
/// - [`wait`](Self::wait), which blocks the thread;
/// - `.await`, which suspends the task, on any runtime;
/// - [`enqueue`](Self::enqueue), which returns it under way, to be waited for beside other things.
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
#[must_use = "a request does nothing until `now()`, `wait()`, `.await` or `enqueue()`"]
pub struct Acquire<T> {
    target: T,
    terms: Terms,
}

impl<T> Acquire<T> {
    #[inline]
    pub(crate) fn new(target: T) -> Self {
        Self { target, terms: Terms::default() }
    }

    /// Asks for something else on the same terms.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Acquire<U> {
        Acquire { target: change(self.target), terms: self.terms }
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

    /// Becomes more urgent while it waits, however it is waited for.
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
    #[inline(always)]
    pub fn now(self) -> Result<T::Granted, T::Error> {
        let Self { target, terms } = self;
        match target.immediate(terms.priority) {
            Ok(granted) => Ok(granted),
            Err(target) => unbox(Self { target, terms }.try_at_length()),
        }
    }

    #[inline(never)]
    fn try_at_length(mut self) -> Box<Result<T::Granted, T::Error>> {
        Box::new(match self.target.prepare(Patience::Tries) {
            Ok(Some(task)) => conclude(self.target, task.now(self.terms.priority)),
            Ok(None) => self.target.granted(None),
            Err(error) => Err(error),
        })
    }

    /// Makes the request and blocks this thread until it is granted, fails, or the time is up.
    ///
    /// # Errors
    /// [`TimedOut`](crate::AcquireError::TimedOut) if the time is up first, [`Deleted`](crate::AcquireError::Deleted) if a lock
    /// is deleted first, and whatever else the request can be refused for. Nothing is taken then, and nothing held is lost.
    ///
    /// # Cancel safety
    /// It ends before its outcome by its `timeout` or `deadline` alone; what others shall cancel goes by
    /// [`enqueue`](Self::enqueue) or `.await`.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// assert!(lock.shared(&owner).wait().is_ok());
    /// ```
    #[inline(always)]
    pub fn wait(self) -> Result<T::Granted, T::Error> {
        let Self { target, terms } = self;
        match target.immediate(terms.priority) {
            Ok(granted) => Ok(granted),
            Err(target) => unbox(Self { target, terms }.wait_at_length()),
        }
    }

    #[inline(never)]
    fn wait_at_length(self) -> Box<Result<T::Granted, T::Error>> {
        Box::new(Pending::begin_blocking(self.target, &self.terms).wait())
    }

    /// Makes the request and returns it under way, to be waited for beside other things.
    ///
    /// Nothing is returned as an error here: a request that is refused at once is a [`Pending`] that is decided.
    ///
    /// It borrows what the request borrows. To keep it beside others, ask a lock by
    /// [`into_owned`](Acquire::into_owned) and a session by [`acquire_owned`](crate::Session::acquire_owned); a request for a
    /// set borrows nothing.
    ///
    /// # Cancel safety
    /// Dropping the [`Pending`] withdraws the request and gives back what it was granted.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let pending = lock.shared(&owner).enqueue();
    /// let guard = pending.wait()?;
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    pub fn enqueue(self) -> Pending<T> {
        Pending::begin_timed(self.target, &self.terms)
    }
}

/// Takes a result out of its box. What goes the long way comes back in one, so that what is had at once need not go through the
/// memory that a call would write to.
#[expect(
    clippy::boxed_local,
    clippy::needless_match,
    reason = "field by field, it stays in registers"
)]
#[inline(always)]
fn unbox<R, E>(result: Box<Result<R, E>>) -> Result<R, E> {
    match *result {
        Ok(granted) => Ok(granted),
        Err(error) => Err(error),
    }
}

/// Awaiting a request makes it, and suspends the task until it is granted, fails, or the time is up, on any runtime.
///
/// # Cancel safety
/// Nothing is asked for before the first poll. Dropped later, at whatever moment, it withdraws the request: nothing of it is held
/// afterwards, nothing is left in a queue, and whoever comes next is served. A `select!` that cancels it should look at the
/// cancelling arm first (`biased`), or it may take a grant that came in the same moment.
///
/// # Examples
/// ```
/// use tierlock::{AcquireError, Owner, SharedLock};
///
/// async fn guarded(lock: &SharedLock, owner: &Owner) -> Result<(), AcquireError> {
///     let _guard = lock.exclusive(owner).await?;
///     Ok(())
/// }
/// # pollster::block_on(guarded(&SharedLock::new("config"), &Owner::new("job-19"))).unwrap();
/// ```
impl<T: Target> IntoFuture for Acquire<T> {
    type Output = Result<T::Granted, T::Error>;
    type IntoFuture = Acquiring<T>;

    fn into_future(self) -> Acquiring<T> {
        Acquiring(Step::Asked(self))
    }
}

/// A request that is awaited.
///
/// Only ever named by the compiler, so without an example of its own: see [`Acquire`].
///
/// # Panics
/// If it is polled after it gave its outcome.
#[must_use = "a future does nothing until it is awaited"]
pub struct Acquiring<T: Target>(Step<T>);

enum Step<T: Target> {
    Asked(Acquire<T>),
    Made(Pending<T>),
    Over,
}

/// Nothing in it is pinned.
impl<T: Target> Unpin for Acquiring<T> {}

impl<T: Target> Future for Acquiring<T> {
    type Output = Result<T::Granted, T::Error>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut pending = match mem::replace(&mut self.0, Step::Over) {
            Step::Made(pending) => pending,
            Step::Asked(Acquire { target, terms }) => match target.immediate(terms.priority) {
                Ok(granted) => return Poll::Ready(Ok(granted)),
                Err(target) => Acquire { target, terms }.enqueue(),
            },
            Step::Over => panic!("polled after it gave its outcome"),
        };
        let outcome = Pin::new(&mut pending).poll(context);
        if outcome.is_pending() {
            self.0 = Step::Made(pending);
        }
        outcome
    }
}

impl<T: Target> fmt::Debug for Acquiring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Step::Asked(_) => f.write_str("Acquiring(not polled)"),
            Step::Made(pending) => f.debug_tuple("Acquiring").field(pending).finish(),
            Step::Over => f.write_str("Acquiring(over)"),
        }
    }
}
