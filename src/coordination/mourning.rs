//! The end of a member, and whom to tell of it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;

use parking_lot::Mutex;

use crate::error::CoordinationError;
use crate::listeners::alone;

/// Called when a member is no more, with why.
pub(crate) type OnLost = Box<dyn FnOnce(&CoordinationError) + Send>;

#[derive(Default)]
pub(crate) struct Mourning {
    lost: OnceLock<CoordinationError>,
    mourners: Mutex<Mourners>,
    /// How many futures there were.
    futures: AtomicU64,
}

#[derive(Default)]
struct Mourners {
    /// Told however it ended.
    calls: Vec<OnLost>,
    /// The caller's: told unless the member left, since whoever leaves knows.
    surprised: Vec<OnLost>,
    wakers: BTreeMap<u64, Waker>,
}

impl Mourning {
    /// Why the member is no more, if it is.
    pub(super) fn lost(&self) -> Option<&CoordinationError> {
        self.lost.get()
    }

    /// Calls when the member is lost, but not when it leaves; at once, if it is lost.
    pub(super) fn on_lost(&self, call: OnLost) {
        self.call(call, |mourners| &mut mourners.surprised);
    }

    /// Calls when the member is no more, also because it left; at once, if it is no more.
    pub(super) fn on_end(&self, call: OnLost) {
        self.call(call, |mourners| &mut mourners.calls);
    }

    fn call(&self, call: OnLost, among: impl FnOnce(&mut Mourners) -> &mut Vec<OnLost>) {
        let mut mourners = self.mourners.lock();
        match self.lost.get() {
            None => among(&mut mourners).push(call),
            Some(error) => {
                drop(mourners);
                call(error);
            }
        }
    }

    /// Whoever leaves knows.
    pub(super) fn leave(&self) {
        let knows = std::mem::take(&mut self.mourners.lock().surprised);
        drop(knows);
    }

    /// The member is no more, for this reason unless it was no more before.
    pub(super) fn end(&self, error: &CoordinationError) {
        let Mourners { calls, surprised, wakers } = {
            let mut mourners = self.mourners.lock();
            if self.lost.set(error.clone()).is_err() {
                return;
            }
            std::mem::take(&mut *mourners)
        };
        tracing::warn!(%error, "member lost");
        calls.into_iter().for_each(|call| call(error));
        wakers.into_values().for_each(|waker| alone(|| waker.wake()));
        tell_apart(surprised, error);
    }

    pub(super) fn future(self: &Arc<Self>) -> Lost {
        let number = self.futures.fetch_add(1, Ordering::Relaxed);
        Lost { mourning: Arc::clone(self), number }
    }
}

/// Runs the caller's code in a thread of its own: whoever found the end by looking may hold a mutex that the code wants.
fn tell_apart(surprised: Vec<OnLost>, error: &CoordinationError) {
    if surprised.is_empty() {
        return;
    }
    let error = error.clone();
    let tell = move || surprised.into_iter().for_each(|call| alone(|| call(&error)));
    if let Err(error) = thread::Builder::new().name("tierlock-lost".into()).spawn(tell) {
        tracing::error!(%error, "nobody can be told that the member is lost");
    }
}

impl fmt::Debug for Mourning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mourning").field("lost", &self.lost).finish_non_exhaustive()
    }
}

/// Resolves when the member is no more, with why. Does not keep it alive.
///
/// # Cancel safety
/// Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Lost {
    mourning: Arc<Mourning>,
    number: u64,
}

impl Future for Lost {
    type Output = CoordinationError;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CoordinationError> {
        // The caller's code, and so is dropping an earlier one: neither runs under the mutex.
        let waker = cx.waker().clone();
        let mut mourners = self.mourning.mourners.lock();
        if let Some(error) = self.mourning.lost.get() {
            return Poll::Ready(error.clone());
        }
        let earlier = mourners.wakers.insert(self.number, waker);
        drop(mourners);
        drop(earlier);
        Poll::Pending
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        let waker = self.mourning.mourners.lock().wakers.remove(&self.number);
        drop(waker);
    }
}
