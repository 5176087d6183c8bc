//! A member's place: its file, locked as long as it lives.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};

use super::super::driver::Seat;
use super::Store;
use super::advisory::{self, Extent};
use super::locks::Lock;
use crate::core::member::MemberId;
use crate::core::record::Moment;
use crate::error::{DriverError, DriverErrorKind};

/// How long to wait to remove one's own file.
const LEAVING_PATIENCE: Duration = Duration::from_millis(100);

/// A member of this process.
#[derive(Debug)]
pub(super) struct Life {
    id: MemberId,
    /// `None` once it left. What a swap reads while it swaps, so that nobody leaves meanwhile.
    pub(super) file: RwLock<Option<File>>,
}

impl Life {
    pub(super) fn new(id: MemberId, file: File) -> Self {
        Self { id, file: RwLock::new(Some(file)) }
    }

    /// Keeps the member from leaving.
    ///
    /// # Errors
    /// `Lost` if it left, or others cannot see it any more. `Unavailable` if that cannot be known.
    pub(super) fn stay(&self) -> Result<RwLockReadGuard<'_, Option<File>>, DriverError> {
        let stays = self.file.read();
        let Some(file) = stays.as_ref() else { return Err(self.lost("it left")) };
        let links = file.metadata().map(|metadata| metadata.nlink()).map_err(|error| {
            let what = format!("cannot look at the file of {}: {error}", self.id);
            DriverError::new(DriverErrorKind::Unavailable, what)
        })?;
        if links == 0 { Err(self.lost("somebody removed its file")) } else { Ok(stays) }
    }

    fn lost(&self, why: &str) -> DriverError {
        DriverError::new(DriverErrorKind::Lost, format!("{} lives no more: {why}", self.id))
    }
}

#[derive(Debug)]
pub(super) struct FileSeat {
    store: Arc<Store>,
    life: Arc<Life>,
}

impl FileSeat {
    pub(super) fn new(store: Arc<Store>, life: Arc<Life>) -> Self {
        Self { store, life }
    }
}

impl Seat for FileSeat {
    fn id(&self) -> &MemberId {
        &self.life.id
    }

    fn beat(&self) -> Result<Option<Moment>, DriverError> {
        self.store.check_process(DriverErrorKind::Lost)?;
        self.life.stay().map(|_| None)
    }

    fn leave(&self) -> Result<(), DriverError> {
        self.store.check_process(DriverErrorKind::Lost)?;
        // Waits for the swaps under way.
        let Some(file) = self.life.file.write().take() else { return Ok(()) };
        self.store.seats.lock().remove(&self.life.id);
        // Closing it would do, but for processes that were forked and have it open, too.
        if let Err(error) = advisory::unlock(&file, Extent::Whole) {
            let what = format!("cannot unlock the file of {}: {error}", self.life.id);
            return Err(DriverError::new(DriverErrorKind::Unavailable, what));
        }
        // It is dead. If its file cannot be removed, whoever joins next removes it.
        if let Ok(Some(_held)) = self.store.locks.hold_for(Lock::Members, LEAVING_PATIENCE) {
            let _ = self.store.files.members.bury(&self.life.id, &file);
        }
        Ok(())
    }
}

impl Drop for FileSeat {
    fn drop(&mut self) {
        // If it cannot be said, the file is closed all the same.
        let _ = self.leave();
    }
}
