//! Who hears that a request is decided, beside the thread that may be waiting at its condition: a task, whoever selects on a
//! channel, whoever polls a descriptor.
//!
//! Telling runs code of the caller's, so it is done with no mutex held.

use std::convert::Infallible;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crossbeam_channel::Sender;

/// Listeners to one request. Each is told once, and all of them by [`tell`](Self::tell).
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Of the task that polled last.
    pub(crate) waker: Option<Waker>,
    /// The disconnection tells.
    pub(crate) channel: Option<Sender<Infallible>>,
    /// The end of the stream tells.
    #[cfg(unix)]
    pub(crate) descriptors: Vec<UnixStream>,
}

impl Listeners {
    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(unix)]
        if !self.descriptors.is_empty() {
            return false;
        }
        self.waker.is_none() && self.channel.is_none()
    }

    /// Tells everybody. To be called with no mutex held.
    pub(crate) fn tell(mut self) {
        let Some(waker) = self.waker.take() else { return };
        // Whoever releases a lock is not to suffer from the waker of the next holder, nor those who hear of it later.
        if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
            tracing::error!("a waker panicked when it was told that a lock is granted");
        }
    }
}
