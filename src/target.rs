//! What a request is for: the seam between waiting, which is the same for all, and what comes of it.

use crate::core::queue::Priority;
use crate::task::{Refusal, Task};

/// What a request is for, and what comes of it: a bound for code over any [`Acquire`](crate::Acquire) or
/// [`Pending`](crate::Pending).
///
/// Nobody else can implement it: its methods speak of what has no public name.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{Acquire, Owner, SharedLock, Target};
///
/// fn patiently<T: Target>(request: Acquire<T>) -> Result<T::Granted, T::Error> {
///     let pending = request.timeout(Duration::from_secs(60)).enqueue();
///     while !pending.wait_timeout(Duration::from_secs(1)) {
///         println!("still waiting, {:?} before it", pending.position());
///     }
///     pending.wait()
/// }
/// assert!(patiently(SharedLock::new("config").exclusive(&Owner::new("job-19"))).is_ok());
/// ```
pub trait Target: Sized {
    /// What a request that is granted gives.
    type Granted;
    /// Why it is not.
    type Error;

    /// Tries without any preparation, where that is worth it.
    ///
    /// # Errors
    /// The request, which has to go the long way.
    #[doc(hidden)]
    #[inline(always)]
    fn immediate(self, _priority: Priority) -> Result<Self::Granted, Self> {
        Err(self)
    }

    /// Checks the request and says which locks it takes, if any.
    #[doc(hidden)]
    fn prepare(&mut self, waits: Patience) -> Result<Option<Task>, Self::Error>;

    /// Undoes what `prepare` did, when nothing comes of it. The locks of the task were given back already.
    #[doc(hidden)]
    fn undo(&mut self) {}

    /// Makes something of the locks held now.
    #[doc(hidden)]
    fn granted(self, task: Option<Task>) -> Result<Self::Granted, Self::Error>;

    /// Says why nothing comes of it.
    #[doc(hidden)]
    fn refused(self, refusal: Refusal) -> Self::Error;
}

/// What a request does where it has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "not reachable from outside")]
pub enum Patience {
    /// Waits for nothing.
    Tries,
    /// Blocks its thread, which may go to whoever is asked, as well.
    Blocks,
    /// Waits beside its thread, which it must not keep.
    Waits,
}

/// What comes of a task in the end.
pub(crate) fn conclude<T: Target>(
    target: T,
    result: Result<Task, Box<Refusal>>,
) -> Result<T::Granted, T::Error> {
    match result {
        Ok(task) => target.granted(Some(task)),
        Err(refusal) => Err(refuse(target, *refusal)),
    }
}

/// What comes of a request that is refused.
pub(crate) fn refuse<T: Target>(mut target: T, refusal: Refusal) -> T::Error {
    target.undo();
    target.refused(refusal)
}
