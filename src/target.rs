//! What a request is for: the seam between waiting, which is the same for all, and what comes of it.

use crate::core::queue::Priority;
use crate::task::{Refusal, Task};

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

    /// Undoes what `prepare` did, when nothing comes of it. The locks of the task were given back already.
    fn undo(&mut self) {}

    /// Makes something of the locks held now.
    fn granted(self, task: Option<Task>) -> Result<Self::Granted, Self::Error>;

    /// Says why nothing comes of it.
    fn refused(self, refusal: Refusal) -> Self::Error;
}

/// Whether a request waits where it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "not reachable from outside")]
pub enum Patience {
    Tries,
    Waits,
}

/// What comes of a task in the end.
pub(crate) fn conclude<T: Target>(
    mut target: T,
    result: Result<Task, Box<Refusal>>,
) -> Result<T::Granted, T::Error> {
    match result {
        Ok(task) => target.granted(Some(task)),
        Err(refusal) => {
            target.undo();
            Err(target.refused(*refusal))
        }
    }
}
