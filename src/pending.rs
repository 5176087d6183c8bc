//! A request under way, to be waited for in whatever way suits: by a thread, a task, a channel or a descriptor.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::chain::{self, Begun, Chain, Terms};
use crate::clock;
use crate::core::queue::Priority;
#[cfg(unix)]
use crate::descriptor::Descriptor;
use crate::sync;
use crate::target::{Patience, Target, conclude, refuse};
use crate::task::{Reason, Task};
use crate::timer::{Alarm, Timer};

/// A request under way: in line, or decided and not taken yet. Made by [`Acquire::enqueue`](crate::Acquire::enqueue).
///
/// One object for every way to wait, each of which leaves the others open until the outcome is taken:
///
/// | who waits | how it hears | how it takes the outcome |
/// |---|---|---|
/// | a thread | [`wait`](Self::wait), or [`wait_timeout`](Self::wait_timeout) | `wait()` |
/// | a task, on any runtime | `.await` | `.await` |
/// | a thread in `crossbeam_channel::select!` | [`receiver`](Self::receiver) disconnects | `wait()`, at once |
/// | a loop over epoll, kqueue or mio (Unix) | [`descriptor`](Self::descriptor) becomes readable | `wait()`, at once |
///
/// The request stands in the queues of its locks like any other, with its priority and its deadline, whether or not somebody
/// looks at it; whoever releases a lock takes it on to the next. It occupies no thread: the time of those that have a deadline
/// or age is kept by one thread for all of them, started by the first. Wakers are woken by whoever decides, that thread among
/// them, so one that blocks keeps others waiting; one that panics harms nobody.
///
/// Nothing comes of a request until its outcome is taken; what it was granted is held all the same, and keeps others out.
/// Dropping it withdraws it: it leaves the queue, and what it was granted is given back, even all of it. *Forgetting* it
/// ([`mem::forget`]) leaves it in line as its owner, and nobody gives back what it is granted, nor what it was to upgrade.
///
/// # Examples
/// ```
/// use tierlock::{Owner, SharedLock};
///
/// let (lock, first, second) = (SharedLock::new("config"), Owner::new("job-1"), Owner::new("job-2"));
/// let guard = lock.exclusive(&first).now()?;
/// let pending = lock.exclusive(&second).enqueue();
/// assert_eq!((pending.is_decided(), pending.position()), (false, Some(0)));
///
/// drop(guard);
/// assert!(pending.is_decided());
/// let guard = pending.wait()?;
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[must_use = "dropping it withdraws the request"]
pub struct Pending<T: Target> {
    stage: Stage<T>,
    /// Made when it is asked for.
    receiver: OnceLock<Receiver<Infallible>>,
}

enum Stage<T: Target> {
    /// Had at once, and not taken yet. In a box, since those that wait need no room for it.
    Granted(T, Option<Box<Task>>),
    Refused(T::Error),
    Waits(T, Wait),
    Taken,
}

/// What a request has while it waits.
struct Wait {
    chain: Arc<Chain>,
    /// Keeps its time, unless a thread does.
    timer: Option<Timer>,
    span: tracing::Span,
}

/// Nothing in it is pinned.
impl<T: Target> Unpin for Pending<T> {}
/// No caller's code runs in the middle of a transition, so no panic of theirs is seen half way.
impl<T: Target> UnwindSafe for Pending<T> {}
impl<T: Target> RefUnwindSafe for Pending<T> {}

impl<T: Target> Pending<T> {
    /// Makes the request of a thread that waits for it, and minds the time.
    pub(crate) fn begin_blocking(target: T, terms: &Terms) -> Self {
        Self::begin(target, terms, Patience::Blocks)
    }

    fn begin(mut target: T, terms: &Terms, patience: Patience) -> Self {
        let stage = match target.prepare(patience) {
            Err(error) => Stage::Refused(error),
            Ok(None) => Stage::Granted(target, None),
            Ok(Some(task)) => match chain::begin(task, terms) {
                Ok(Begun::Done(task)) => Stage::Granted(target, Some(Box::new(task))),
                Ok(Begun::Waits(chain)) => {
                    let span = tracing::Span::none();
                    Stage::Waits(target, Wait { chain, timer: None, span })
                }
                Err(refusal) => Stage::Refused(refuse(target, *refusal)),
            },
        };
        let mut pending = Self { stage, receiver: OnceLock::new() };
        if let Stage::Waits(_, wait) = &mut pending.stage {
            // A subscriber is the caller's code: if it panics, the request is withdrawn.
            wait.span = wait.chain.span();
        }
        pending
    }

    /// Makes the request, and has its time kept.
    pub(crate) fn begin_timed(target: T, terms: &Terms) -> Self {
        let mut pending = Self::begin(target, terms, Patience::Waits);
        if let Stage::Waits(_, wait) = &mut pending.stage
            && let Err(reason) = wait.set_timer()
        {
            pending.refuse(reason);
        }
        pending
    }

    /// Ends the request for this reason, unless it is decided already.
    fn refuse(&mut self, reason: Reason) {
        let Stage::Waits(_, wait) = &self.stage else { return };
        let Some(refusal) = wait.chain.refusal(reason) else { return };
        let Stage::Waits(target, wait) = mem::replace(&mut self.stage, Stage::Taken) else {
            return;
        };
        wait.chain.give_up();
        self.stage = Stage::Refused(refuse(target, *refusal));
    }

    /// Tells whether it was granted or refused, so that taking the outcome does not block.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// assert!(lock.exclusive(&owner).enqueue().is_decided());
    /// ```
    #[must_use]
    pub fn is_decided(&self) -> bool {
        match &self.stage {
            Stage::Waits(_, wait) => wait.chain.is_decided(),
            _ => true,
        }
    }

    /// Blocks this thread until the request is granted or refused, and takes the outcome.
    ///
    /// # Errors
    /// What the request can be refused for; see [`Acquire::wait`](crate::Acquire::wait).
    ///
    /// # Panics
    /// If the outcome was taken by `.await` before.
    ///
    /// # Cancel safety
    /// It ends before its outcome by the request's `timeout` or `deadline` alone.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let guard = lock.exclusive(&owner).enqueue().wait()?;
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[track_caller]
    pub fn wait(mut self) -> Result<T::Granted, T::Error> {
        if let Stage::Waits(_, wait) = &self.stage {
            wait.block();
        }
        self.take()
    }

    /// Blocks this thread for at most `timeout`, and tells whether the request is decided; the outcome is taken by
    /// [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// When the time is over the request waits on, in its place: its own time is that of its `timeout` or `deadline`.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner, other) = (SharedLock::new("config"), Owner::new("job-19"), Owner::new("job-20"));
    /// let guard = lock.exclusive(&other).now()?;
    /// let pending = lock.exclusive(&owner).enqueue();
    /// while !pending.wait_timeout(Duration::from_millis(1)) {
    ///     // Something else to do meanwhile.
    ///     # return Ok(());
    /// }
    /// let guard = pending.wait()?;
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        match &self.stage {
            // A duration beyond the clock's range is for ever.
            Stage::Waits(_, wait) => wait.chain.park(clock::now().checked_add(timeout)),
            _ => true,
        }
    }

    /// A channel that carries nothing, and is disconnected when the request is granted or refused: an arm of
    /// `crossbeam_channel::select!`.
    ///
    /// Its clones hear of it too. It tells that the outcome can be taken, which [`wait`](Self::wait) does then without blocking.
    /// For an arm that is not always there, `select!` on [`crossbeam_channel::never`] meanwhile.
    ///
    /// # Cancel safety
    /// Dropping a receiver, or selecting another arm, leaves the request in line.
    ///
    /// # Examples
    /// ```
    /// use crossbeam_channel::{never, select};
    /// use tierlock::{Owner, SharedLock};
    ///
    /// let (lock, owner, shutdown) = (SharedLock::new("config"), Owner::new("job-19"), never::<()>());
    /// let pending = lock.exclusive(&owner).enqueue();
    /// select! {
    ///     recv(pending.receiver()) -> _ => drop(pending.wait()?),
    ///     recv(shutdown) -> _ => drop(pending),
    /// }
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn receiver(&self) -> &Receiver<Infallible> {
        self.receiver.get_or_init(|| {
            let (sender, receiver) = bounded(0);
            if let Stage::Waits(_, wait) = &self.stage {
                wait.chain.listen(|listeners| listeners.channel = Some(sender));
            }
            receiver
        })
    }

    /// A descriptor that becomes readable, and is hung up, when the request is granted or refused: for epoll, kqueue, mio, or
    /// `tokio::io::unix::AsyncFd`. What wants a socket is content with a clone, as `UnixStream::from(OwnedFd)`.
    ///
    /// There is nothing to read from it but its end. It tells that the outcome can be taken, which [`wait`](Self::wait) does then
    /// without blocking. Each call makes another; close it by dropping it, before or after the request, and where a loop has
    /// registered it by number (mio's `SourceFd`), deregister it first.
    ///
    /// # Errors
    /// If the system has no descriptors left. The request waits on.
    ///
    /// # Cancel safety
    /// Dropping the descriptor leaves the request in line.
    ///
    /// # Examples
    /// ```
    /// use std::os::fd::AsFd;
    /// use tierlock::{Owner, SharedLock};
    ///
    /// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let pending = lock.exclusive(&owner).enqueue();
    /// let descriptor = pending.descriptor()?;
    /// // Now it can be registered as `descriptor.as_fd()`.
    /// # let _ = descriptor.as_fd();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn descriptor(&self) -> std::io::Result<Descriptor> {
        let descriptor = Descriptor::new()?;
        let waits = match &self.stage {
            Stage::Waits(_, wait) => {
                wait.chain.listen(|listeners| listeners.descriptors.add(&descriptor)).is_some()
            }
            _ => false,
        };
        if !waits {
            descriptor.close();
        }
        Ok(descriptor)
    }

    /// Changes the priority, for the lock waited for now and those that follow. Too late, it changes nothing.
    ///
    /// Among its new equals the request stands where its arrival puts it.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let pending = lock.exclusive(&owner).enqueue();
    /// pending.set_priority(-10);
    /// ```
    pub fn set_priority(&self, priority: Priority) {
        if let Stage::Waits(_, wait) = &self.stage {
            wait.chain.set_priority(priority);
        }
    }

    /// How many requests go before it at the lock it waits for now; `None` when it is decided. Those of one mode that go
    /// together stand at the same place.
    ///
    /// Costs a look at everything that waits for the lock, by group. Outdated at once.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let [a, b, c] = ["a", "b", "c"].map(Owner::new);
    /// let lock = SharedLock::new("config");
    /// let _guard = lock.exclusive(&a).now()?;
    /// let (first, second) = (lock.exclusive(&b).enqueue(), lock.exclusive(&c).enqueue());
    /// assert_eq!(second.position(), Some(1));
    /// second.set_priority(-1);
    /// assert_eq!((second.position(), first.position()), (Some(0), Some(1)));
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        match &self.stage {
            Stage::Waits(_, wait) => wait.chain.position(),
            _ => None,
        }
    }

    /// Withdraws the request. If it comes too late, returns what was decided; `None` says that it was withdrawn, and that
    /// nothing of it is held.
    ///
    /// # Errors
    /// What the request was refused for before.
    ///
    /// # Panics
    /// If the outcome was taken by `.await` before.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Owner, SharedLock};
    /// # let (lock, owner, other) = (SharedLock::new("config"), Owner::new("job-19"), Owner::new("job-20"));
    /// let guard = lock.exclusive(&other).now()?;
    /// assert!(lock.exclusive(&owner).enqueue().cancel().is_none());
    /// drop(guard);
    /// let guard = lock.exclusive(&owner).enqueue().cancel().expect("too late")?;
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[track_caller]
    pub fn cancel(mut self) -> Option<Result<T::Granted, T::Error>> {
        if self.is_decided() { Some(self.take()) } else { None }
    }

    /// Takes the outcome, which is decided.
    #[track_caller]
    fn take(&mut self) -> Result<T::Granted, T::Error> {
        match mem::replace(&mut self.stage, Stage::Taken) {
            Stage::Granted(target, task) => target.granted(task.map(|task| *task)),
            Stage::Refused(error) => Err(error),
            Stage::Waits(target, wait) => conclude(target, wait.chain.take()),
            Stage::Taken => panic!("the outcome of this request was taken already"),
        }
    }
}

impl Wait {
    /// Has the time kept, if there is any to keep.
    fn set_timer(&mut self) -> Result<(), Reason> {
        let Some(due) = self.chain.first_due() else { return Ok(()) };
        if !sync::TIME_PASSES {
            Arc::clone(&self.chain).on_time(due);
            return Ok(());
        }
        let alarm = Arc::downgrade(&self.chain);
        self.timer = Some(Timer::set(due, alarm).map_err(|error| Reason::NoTimer(error.kind()))?);
        Ok(())
    }

    fn block(&self) {
        let _entered = self.span.enter();
        match self.timer {
            None => self.chain.wait(),
            Some(_) => self.chain.wait_timed(),
        }
    }
}

/// # Cancel safety
/// Dropping it withdraws the request, as everywhere: at whatever moment, nothing of it is held afterwards, nothing is left in a
/// queue, and whoever comes next is served.
///
/// # Panics
/// If it is polled after it gave its outcome.
impl<T: Target> Future for Pending<T> {
    type Output = Result<T::Granted, T::Error>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.stage {
            Stage::Waits(_, wait) if !wait.chain.poll(context.waker()) => Poll::Pending,
            _ => Poll::Ready(self.take()),
        }
    }
}

impl<T: Target> Drop for Pending<T> {
    fn drop(&mut self) {
        match mem::replace(&mut self.stage, Stage::Taken) {
            Stage::Granted(mut target, task) => {
                task.into_iter().for_each(|task| task.give_up());
                target.undo();
            }
            Stage::Waits(mut target, wait) => {
                wait.chain.give_up();
                target.undo();
            }
            Stage::Refused(_) | Stage::Taken => {}
        }
    }
}

impl<T: Target> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("decided", &self.is_decided())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
