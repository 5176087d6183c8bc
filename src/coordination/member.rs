//! A member of a coordination: one process, alive as long as it says so.
//!
//! Whatever a member was granted, it holds only while it lives. Its life is kept by a thread of its own and judged by a
//! deadline, counted from before the last beat was sent, so that the member knows of its end no later than anybody else.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::driver::{Driver, Key, Seat, Stored, Swap, Version};
use super::mourning::{Lost, Mourning, OnLost};
use crate::core::member::MemberId;
use crate::core::record::Moment;
use crate::error::{CoordinationError, DriverError, DriverErrorKind};

/// A deadline that never passes: the member lives as long as its process.
const FOR_LIFE: u64 = u64::MAX;
/// A deadline that has passed, whatever the clock says.
const LOST: u64 = 0;

/// A member, and the engine that it is a member at.
pub(crate) struct Member {
    driver: Arc<dyn Driver>,
    seat: Box<dyn Seat>,
    at: Arc<str>,
    /// Until when it lives for certain, in milliseconds on the driver's clock.
    until_ms: AtomicU64,
    mourning: Arc<Mourning>,
    /// A thread beats as long as this end of its channel is there.
    keeper: OnceLock<Sender<()>>,
    /// What the process knows of what it holds, by the key it is stored under.
    known: Mutex<HashMap<Key, Arc<dyn Any + Send + Sync>>>,
    pid: u32,
}

impl Member {
    /// Joins, for as long as a beat lasts.
    pub(crate) fn join(
        driver: Arc<dyn Driver>,
        name: &str,
        ttl: Duration,
    ) -> Result<Arc<Self>, CoordinationError> {
        let at: Arc<str> = driver.name().into();
        let failed = |error| engine_error(format!("joining as {name}"), &at, error);
        let seat = driver.join(name, ttl).map_err(failed)?;
        let until = seat.beat().map_err(failed)?;
        Ok(Arc::new(Self {
            until_ms: AtomicU64::new(deadline(until)),
            driver,
            seat,
            at: Arc::clone(&at),
            mourning: Arc::default(),
            keeper: OnceLock::new(),
            known: Mutex::default(),
            pid: std::process::id(),
        }))
    }

    /// Stays alive from now on.
    pub(crate) fn stay_alive(self: &Arc<Self>, ttl: Duration) -> io::Result<()> {
        let (keeper, gone) = bounded(0);
        let weak = Arc::downgrade(self);
        let beats = move || keep_alive(&weak, &gone, ttl);
        thread::Builder::new().name("tierlock-member".into()).spawn(beats)?;
        let _ = self.keeper.set(keeper);
        Ok(())
    }

    pub(crate) fn id(&self) -> &MemberId {
        self.seat.id()
    }

    /// Where it is a member.
    pub(crate) fn at(&self) -> &Arc<str> {
        &self.at
    }

    pub(crate) fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// What the process knows of what is stored under the key: one for all who ask, nothing at first.
    ///
    /// # Panics
    /// If something of another type is known of it.
    pub(crate) fn known<T: Default + Send + Sync + 'static>(&self, key: &Key) -> Arc<T> {
        let mut known = self.known.lock();
        let of_key = known.entry(key.clone()).or_insert_with(|| Arc::<T>::default());
        Arc::clone(of_key).downcast().expect("under a key, things of one kind are stored")
    }

    /// Fails if the member is lost.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), CoordinationError> {
        if self.lives_as_its_process() { Ok(()) } else { self.check_time() }
    }

    /// Tells whether it lives, and needs no clock to know that.
    #[inline(always)]
    pub(crate) fn lives_as_its_process(&self) -> bool {
        self.until_ms.load(Ordering::Acquire) == FOR_LIFE
    }

    fn check_time(&self) -> Result<(), CoordinationError> {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        if until_ms == LOST {
            return Err(self.mourning.lost().cloned().unwrap_or_else(|| self.obituary("it left")));
        }
        if self.driver.now().0 < until_ms {
            return Ok(());
        }
        // A beat may have been answered just now.
        self.lose_if(until_ms, "its time-to-live passed without a word from it");
        self.check()
    }

    /// Fails also if this process is a copy of the one that joined: for whatever goes to the engine anyway.
    pub(crate) fn check_process(&self) -> Result<(), CoordinationError> {
        if std::process::id() != self.pid {
            return Err(self.obituary("this process was forked from the one that joined"));
        }
        self.check()
    }

    /// Fails if the member is lost, also if only the engine knows of it yet.
    pub(crate) fn check_with_engine(&self) -> Result<(), CoordinationError> {
        self.check_process()?;
        let asked = self.driver.is_alive(self.id());
        let failed =
            |error| engine_error(format!("asking whether {} lives", self.id()), &self.at, error);
        if !asked.map_err(failed)? {
            self.lose("others found it dead");
        }
        self.check()
    }

    /// Calls when the member is lost, but not when it leaves; at once, if it is lost.
    pub(crate) fn on_lost(&self, call: OnLost) {
        self.mourning.on_lost(call);
    }

    /// Calls when the member is no more, also because it left; at once, if it is no more.
    pub(crate) fn on_end(&self, call: OnLost) {
        self.mourning.on_end(call);
    }

    /// The member's end, to be awaited.
    pub(crate) fn lost(&self) -> Lost {
        self.mourning.future()
    }

    /// Leaves: nothing is held any more by the time others hear of it.
    pub(crate) fn leave(&self) -> Result<(), CoordinationError> {
        if self.until_ms.load(Ordering::Acquire) == LOST {
            return Ok(());
        }
        self.mourning.leave();
        self.lose("it left");
        self.seat.leave().map_err(|error| engine_error("leaving".to_owned(), &self.at, error))
    }

    fn obituary(&self, reason: &str) -> CoordinationError {
        CoordinationError::Lost {
            member: self.id().clone(),
            at: Arc::clone(&self.at),
            reason: reason.into(),
        }
    }

    fn lose(&self, reason: &str) {
        self.until_ms.store(LOST, Ordering::Release);
        self.mourn(reason);
    }

    /// Is lost, unless the deadline moved on meanwhile.
    fn lose_if(&self, until_ms: u64, reason: &str) {
        let passed =
            self.until_ms.compare_exchange(until_ms, LOST, Ordering::AcqRel, Ordering::Acquire);
        if passed.is_ok() {
            self.mourn(reason);
        }
    }

    fn mourn(&self, reason: &str) {
        self.mourning.end(&self.obituary(reason));
    }

    /// Says once more that the member lives; returns when to say so again, or `None` if it is lost.
    pub(crate) fn beat(&self, ttl: Duration) -> Option<Duration> {
        if self.check().is_err() {
            // Nobody has to wait for the end of what is over.
            let _ = self.seat.leave();
            return None;
        }
        match self.seat.beat() {
            Ok(until) => {
                let renewed = |now: u64| (now != LOST).then(|| deadline(until));
                self.until_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, renewed).ok()?;
                Some(ttl / 3)
            }
            Err(error) if error.kind() == DriverErrorKind::Lost => {
                self.lose(&error.to_string());
                None
            }
            Err(error) => {
                tracing::warn!(at = %self.at, %error, "cannot say that the member lives");
                self.check().ok()?;
                Some((ttl / 10).min(Duration::from_secs(1)))
            }
        }
    }

    /// Reads what is stored under the key.
    pub(crate) fn read(&self, key: &Key) -> Result<Stored, CoordinationError> {
        self.check_process()?;
        self.driver.read(key).map_err(|error| self.failed(key, error))
    }

    /// Changes what is stored under the key: `change` gets what is there, and returns what shall be there instead, if that is
    /// something else, and a result. It is called again whenever somebody else was quicker.
    pub(crate) fn update<R>(
        &self,
        key: &Key,
        change: impl FnMut(Option<&[u8]>) -> Result<(Option<Vec<u8>>, R), CoordinationError>,
    ) -> Result<R, CoordinationError> {
        self.update_to(key, change).map(|(result, _)| result)
    }

    /// As [`update`](Self::update); says as which version it is stored then.
    pub(crate) fn update_to<R>(
        &self,
        key: &Key,
        mut change: impl FnMut(Option<&[u8]>) -> Result<(Option<Vec<u8>>, R), CoordinationError>,
    ) -> Result<(R, Version), CoordinationError> {
        let mut stored = self.read(key)?;
        loop {
            let (content, result) = change(stored.content.as_deref())?;
            let content = content.filter(|content| stored.content.as_ref() != Some(content));
            let Some(content) = content else { return Ok((result, stored.version)) };
            if let Swap::Done(version) = self.swap(key, stored.version, &content)? {
                return Ok((result, version));
            }
            // Somebody else went on, so this is no livelock.
            stored = self.read(key)?;
        }
    }

    fn swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
    ) -> Result<Swap, CoordinationError> {
        let swap = self.driver.compare_and_swap(key, expected, content, self.id());
        let swap = swap.map_err(|error| self.failed(key, error))?;
        // What was stored by a member that died meanwhile is not its own any more.
        self.check()?;
        Ok(swap)
    }

    fn failed(&self, key: &Key, error: DriverError) -> CoordinationError {
        if error.kind() == DriverErrorKind::Lost {
            self.lose(&error.to_string());
            return self.obituary(&error.to_string());
        }
        self.engine_error(key.as_str(), error)
    }

    pub(crate) fn engine_error(&self, what: &str, error: DriverError) -> CoordinationError {
        engine_error(what.to_owned(), &self.at, error)
    }

    pub(crate) fn now(&self) -> Moment {
        self.driver.now()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // A fork is no member, and must not take leave for its parent.
        if std::process::id() == self.pid {
            let _ = self.leave();
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", self.id())
            .field("at", &self.at)
            .field("lost", &self.mourning.lost().is_some())
            .finish_non_exhaustive()
    }
}

fn deadline(until: Option<Moment>) -> u64 {
    // No clock of milliseconds ever shows the two that mean something else.
    until.map_or(FOR_LIFE, |at| at.0.clamp(LOST + 1, FOR_LIFE - 1))
}

pub(crate) fn engine_error(what: String, at: &Arc<str>, error: DriverError) -> CoordinationError {
    CoordinationError::Engine { what: what.into(), at: Arc::clone(at), error }
}

/// Beats until the member is gone or lost.
fn keep_alive(member: &Weak<Member>, gone: &Receiver<()>, ttl: Duration) {
    let mut pause = ttl / 3;
    while gone.recv_timeout(pause) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
        let Some(next) = member.upgrade().and_then(|member| member.beat(ttl)) else { return };
        pause = next;
    }
}
