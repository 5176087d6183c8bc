//! What annotated functions ask a coordinator for.

use super::lock::already_held;
use super::{Coordinator, SynchronizedError};
use crate::acquire::Acquire;
use crate::annotation::{Name, Within, WithinAs};
use crate::coordination::{AcquireCluster, ClusterGuard};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::owner::Owner;
use crate::target::{Patience, Target};
use crate::task::{Refusal, Task};

impl Within for Coordinator {
    type Request = Acquire<AcquireNamed>;

    fn request(&self, name: Name, mode: Mode) -> Self::Request {
        self.request_as(&Owner::current(), name, mode)
    }
}

impl WithinAs for Coordinator {
    fn request_as(&self, owner: &Owner, name: Name, mode: Mode) -> Self::Request {
        match self.asked(owner, name, mode) {
            Ok(request) => request.map(|asked| AcquireNamed(Ok(asked))),
            Err(error) => Acquire::new(AcquireNamed(Err(error))),
        }
    }
}

impl Coordinator {
    fn asked(
        &self,
        owner: &Owner,
        name: Name,
        mode: Mode,
    ) -> Result<Acquire<AcquireCluster<'static>>, SynchronizedError> {
        if let Some(placeholder) = name.empty_value() {
            let reason = format!("{placeholder} in it is empty");
            return Err(self.refusal(name.as_str(), &reason));
        }
        let (part, lock) = self.lock(name.as_str())?;
        if let Some(held) = part.holds.held_by(lock.name().name(), owner) {
            return Err(already_held(&lock, owner, mode, held).into());
        }
        Ok(lock.acquire(owner, mode).into_owned())
    }
}

/// A request for a lock of a [`Coordinator`] by a name that was made at run time.
///
/// Only ever named by the compiler, so without an example of its own: see [`Within`].
#[derive(Debug)]
pub struct AcquireNamed(Result<AcquireCluster<'static>, SynchronizedError>);

impl Target for AcquireNamed {
    type Granted = ClusterGuard<'static>;
    type Error = SynchronizedError;

    fn immediate(self, priority: Priority) -> Result<ClusterGuard<'static>, Self> {
        match self.0 {
            Ok(asked) => asked.immediate(priority).map_err(|asked| Self(Ok(asked))),
            refused => Err(Self(refused)),
        }
    }

    fn prepare(&mut self, patience: Patience) -> Result<Option<Task>, SynchronizedError> {
        match &mut self.0 {
            Ok(asked) => Ok(asked.prepare(patience)?),
            Err(error) => Err(error.clone()),
        }
    }

    fn undo(&mut self) {
        if let Ok(asked) = &mut self.0 {
            asked.undo();
        }
    }

    fn granted(self, task: Option<Task>) -> Result<ClusterGuard<'static>, SynchronizedError> {
        Ok(self.0?.granted(task)?)
    }

    fn refused(self, refusal: Refusal) -> SynchronizedError {
        match self.0 {
            Ok(asked) => asked.refused(refusal).into(),
            Err(error) => error,
        }
    }
}
