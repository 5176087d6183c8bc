//! What these tests share: threads that wait, and seeing that they do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use tierlock::{Acquire, AcquireError, AcquireLock, Guard, Mode, Owner, SharedLock};

/// Longer than anything here takes; waiting for longer means that a wake-up was lost.
pub(crate) const LONG: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "measured from outside, by the clock it promises")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Yields until `holds`; tells whether that came in time.
pub(crate) fn in_time(mut holds: impl FnMut() -> bool) -> bool {
    let limit = now() + LONG;
    loop {
        if holds() {
            return true;
        }
        if now() > limit {
            return false;
        }
        thread::yield_now();
    }
}

/// Yields until `holds`; a test that waits in vain fails.
#[track_caller]
pub(crate) fn until(holds: impl FnMut() -> bool) {
    assert!(in_time(holds), "waited in vain");
}

/// Tells whether something is in time, if it is given enough: what is true of a timeout may be hidden by a busy machine, but not
/// of every longer one.
pub(crate) fn on_a_slow_machine(is_in_time: impl FnMut(Duration) -> bool) -> bool {
    [ms(150), ms(600), ms(2400), ms(9600)].into_iter().any(is_in_time)
}

/// Tells whether somebody is in the queue of the lock.
pub(crate) fn is_queued(lock: &SharedLock) -> bool {
    format!("{lock:?}").contains("queued")
}

/// Number of locks that the owner holds.
pub(crate) fn holds(owner: &Owner) -> usize {
    format!("{owner:?}").matches("Held").count()
}

/// Number of locks that the owner holds or asks for.
pub(crate) fn slots(owner: &Owner) -> usize {
    holds(owner) + format!("{owner:?}").matches("Asked").count()
}

/// Hears when its thread begins to wait, which is told when it stands in the queue.
#[derive(Clone, Default)]
struct Ear(Arc<AtomicBool>);

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("tierlock")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.0.store(true, Ordering::SeqCst);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A thread that waits for something as an owner of its own.
pub(crate) struct Waiter<T> {
    pub(crate) owner: Owner,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Waiter<T> {
    /// Begins, and comes back when the owner stands in a queue, or is through already.
    #[track_caller]
    pub(crate) fn begin(name: &str, work: impl FnOnce(&Owner) -> T + Send + 'static) -> Self {
        let owner = Owner::new(name);
        let own = owner.clone();
        Self::of(&owner, move || work(&own))
    }

    /// As [`begin`](Self::begin), for an owner that holds something already and goes on with it.
    #[track_caller]
    pub(crate) fn of(owner: &Owner, work: impl FnOnce() -> T + Send + 'static) -> Self {
        let ear = Ear::default();
        let own = ear.clone();
        let thread = thread::spawn(move || tracing::subscriber::with_default(own, work));
        until(|| ear.0.load(Ordering::SeqCst) || thread.is_finished());
        Self { owner: owner.clone(), thread }
    }

    pub(crate) fn is_through(&self) -> bool {
        self.thread.is_finished()
    }

    #[track_caller]
    pub(crate) fn join(self) -> T {
        until(|| self.thread.is_finished());
        self.thread.join().expect("the waiting thread does not panic")
    }
}

pub(crate) type Waited = Result<Guard<'static>, AcquireError>;

/// A thread that waits for a lock that is not to be had; comes back when it stands in the queue.
#[track_caller]
pub(crate) fn waits(
    lock: &SharedLock,
    name: &str,
    mode: Mode,
    terms: impl for<'a> FnOnce(Acquire<AcquireLock<'a>>) -> Acquire<AcquireLock<'a>> + Send + 'static,
) -> Waiter<Waited> {
    let lock = lock.clone();
    Waiter::begin(name, move |owner| terms(lock.acquire(owner, mode)).wait().map(Guard::into_owned))
}

/// Tells whether somebody else could have the lock in this mode now.
pub(crate) fn admits(lock: &SharedLock, mode: Mode) -> bool {
    lock.acquire(&Owner::new("observer"), mode).now().is_ok()
}

/// Panics while `hold` is held.
pub(crate) fn panic_holding<H>(hold: H) {
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _hold = hold;
        panic!("half way");
    }));
    assert!(panicked.is_err());
}
