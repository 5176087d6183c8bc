//! Who hears that a request is decided, beside the thread that may be waiting at its condition: a task, whoever selects on a
//! channel, whoever polls a descriptor.
//!
//! Wakers are the caller's code, which may do anything, panicking included. So it runs with no mutex held, when all that was
//! decided has been delivered, and its panics end here.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crossbeam_channel::Sender;

#[cfg(unix)]
use crate::descriptor::Ends;

/// Listeners to one request. All of them are told once, by [`tell`](Self::tell).
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Of the task that polled last.
    pub(crate) waker: Option<Waker>,
    /// The disconnection tells.
    pub(crate) channel: Option<Sender<Infallible>>,
    #[cfg(unix)]
    pub(crate) descriptors: Ends,
}

impl Listeners {
    /// Tells everybody that the request is decided. To be called with no mutex held.
    pub(crate) fn tell(self) {
        let Self { waker, .. } = self.disconnect();
        alone(|| waker.map(Waker::wake));
    }

    /// Tells everybody but the task that the request was withdrawn, which is the task's own doing.
    pub(crate) fn dismiss(self) {
        let Self { waker, .. } = self.disconnect();
        alone(|| drop(waker));
    }

    fn disconnect(mut self) -> Self {
        self.channel = None;
        #[cfg(unix)]
        self.descriptors.close();
        self
    }
}

/// Runs code of the caller's whose panic, which the hook has shown, is no affair of whoever happens to run it. To be called with no
/// mutex held.
pub(crate) fn alone<R>(code: impl FnOnce() -> R) {
    drop(catch_unwind(AssertUnwindSafe(code)).map(drop));
}
