//! Who may write now: one file, of which each byte is a lock. Held for some microseconds, by one thread of one process.
//!
//! The file is never removed nor replaced, or some would lock the old one and some the new. Its bytes say of each lock whether
//! what was written under it has yet to be made to survive a loss of power.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::advisory::{self, Extent};
use super::folder::{Folder, failed};
use super::who;
use crate::clock;
use crate::error::{DriverError, DriverErrorKind};

/// How often to try before sleeping: what is guarded takes no longer.
const TRIES_BEFORE_PAUSE: u32 = 8;
/// What the kernel's timers resolve, about.
const PAUSE_MIN: Duration = Duration::from_micros(50);
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// Something that one writes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// The directory's format.
    Setup,
    /// Which members there are.
    Members,
    /// The records whose name has this hash, and some others.
    Records(u64),
}

impl Lock {
    fn at(self) -> usize {
        let at = match self {
            Self::Setup => 0,
            Self::Members => 1,
            Self::Records(hash) => {
                // The upper half, since neighbours differ in the lower.
                2 + (hash >> 32) as usize % advisory::LOCKS.saturating_sub(2).max(1)
            }
        };
        at % advisory::LOCKS
    }
}

#[derive(Debug)]
pub(super) struct Locks {
    file: File,
    path: PathBuf,
    /// A description's locks are everybody's who shares it, so threads need their own.
    threads: [Mutex<()>; advisory::LOCKS],
    patience: Duration,
}

/// A lock as held; dropping it releases it.
#[derive(Debug)]
pub(super) struct Held<'l> {
    locks: &'l Locks,
    at: usize,
    _thread: MutexGuard<'l, ()>,
}

impl Locks {
    pub(super) fn open(
        folder: &Folder,
        name: &str,
        patience: Duration,
    ) -> Result<Self, DriverError> {
        let file = folder.open_or_create(name)?;
        let path = folder.path().join(name);
        Ok(Self { file, path, threads: Default::default(), patience })
    }

    /// Reserves the bytes, so that a full disk is noticed now.
    pub(super) fn reserve(&self) -> Result<(), DriverError> {
        let written = self.file.write_all_at(&[0; advisory::LOCKS], 0);
        written.map_err(|error| failed("write", &self.path, error))
    }

    /// Takes a lock, as soon as it is free.
    ///
    /// # Errors
    /// `Unavailable` if that takes longer than there is patience: who has it is stopped, or its disk hangs.
    pub(super) fn hold(&self, lock: Lock) -> Result<Held<'_>, DriverError> {
        let held = self.hold_for(lock, self.patience)?;
        held.ok_or_else(|| self.busy(lock.at()))
    }

    /// Takes a lock, unless that takes longer than `patience`.
    pub(super) fn hold_for(
        &self,
        lock: Lock,
        patience: Duration,
    ) -> Result<Option<Held<'_>>, DriverError> {
        self.hold_at(lock.at(), patience)
    }

    /// As [`hold_for`](Self::hold_for), by its number; there is none with too high a number.
    pub(super) fn hold_at(
        &self,
        at: usize,
        patience: Duration,
    ) -> Result<Option<Held<'_>>, DriverError> {
        let Some(threads) = self.threads.get(at) else { return Ok(None) };
        let deadline = clock::now() + patience;
        let Some(thread) = threads.try_lock_until(deadline) else { return Ok(None) };
        if !self.wait(at, deadline)? {
            return Ok(None);
        }
        let held = Held { locks: self, at, _thread: thread };
        self.check_linked()?;
        Ok(Some(held))
    }

    /// Tries until the deadline: a wait that the kernel does would have none.
    fn wait(&self, at: usize, deadline: Instant) -> Result<bool, DriverError> {
        let failed = |error| failed("lock", &self.path, error);
        let (mut tries, mut pause) = (0, PAUSE_MIN);
        while !advisory::try_lock(&self.file, Extent::Byte(at)).map_err(failed)? {
            let now = clock::now();
            if now >= deadline {
                return Ok(false);
            }
            if tries < TRIES_BEFORE_PAUSE {
                tries += 1;
                thread::yield_now();
            } else {
                sleep_until(deadline.min(now + pause));
                pause = PAUSE_MAX.min(pause * 2);
            }
        }
        Ok(true)
    }

    fn check_linked(&self) -> Result<(), DriverError> {
        let metadata = self.file.metadata().map_err(|error| failed("lock", &self.path, error))?;
        if metadata.nlink() > 0 {
            return Ok(());
        }
        let what = "was removed while it was in use: whoever comes now does not see our locks";
        let what = format!("{} {what}", self.path.display());
        Err(DriverError::new(DriverErrorKind::Refused, what))
    }

    fn busy(&self, at: usize) -> DriverError {
        let (path, patience) = (self.path.display(), self.patience);
        let who = who::holders(&self.file, at);
        let what = format!("{path} could not be locked for {patience:?}: held by {who}");
        DriverError::new(DriverErrorKind::Unavailable, what)
    }
}

impl Held<'_> {
    /// Tells whether something written under this lock may not survive a loss of power yet.
    pub(super) fn is_unsynced(&self) -> Result<bool, DriverError> {
        let mut mark = [0];
        let read = self.locks.file.read_at(&mut mark, self.at as u64);
        read.map_err(|error| failed("read", &self.locks.path, error))?;
        Ok(mark != [0])
    }

    /// Says so, for whoever takes the lock next, should we be killed.
    pub(super) fn set_unsynced(&self, unsynced: bool) -> Result<(), DriverError> {
        let written = self.locks.file.write_all_at(&[u8::from(unsynced)], self.at as u64);
        written.map_err(|error| failed("write", &self.locks.path, error))
    }

    /// Which of the locks it is.
    pub(super) fn at(&self) -> usize {
        self.at
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Can only fail if it is not locked.
        let _ = advisory::unlock(&self.locks.file, Extent::Byte(self.at));
    }
}

/// Sleeps on a condition that nobody notifies, since the standard library's ways have other users.
fn sleep_until(until: Instant) {
    let nothing = Mutex::new(());
    Condvar::new().wait_until(&mut nothing.lock(), until);
}
