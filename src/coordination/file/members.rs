//! The members' own files: each locked as a whole from before it has its name until its member's death.
//!
//! What a file says never changes, and what was unlocked is never locked again. So a member that was once dead stays so, although
//! its name comes back: in another file.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use super::advisory::{self, Extent};
use super::folder::{Folder, refused};
use super::names::file_name;
use crate::core::member::MemberId;
use crate::error::{DriverError, DriverErrorKind};

/// Where a file lies until it is complete and locked.
const DRAFT: &str = ".member";

/// What a member says of itself has no more bytes: a name, a host, two numbers.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Members {
    folder: Folder,
}

impl Members {
    pub(super) fn new(folder: Folder) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Gives this name to a new member, whose life is the returned file: dead when its last descriptor is closed.
    /// The caller holds the lock of the members.
    ///
    /// # Errors
    /// `NameTaken` if a member of this name lives. `Unavailable` if the file cannot be written.
    pub(super) fn join(
        &self,
        name: &str,
        pid: u32,
        host: &str,
    ) -> Result<(MemberId, File), DriverError> {
        let own = file_name(name);
        if let Some((other, true)) = self.look(&own)? {
            let what = format!("a member of the name {name:?} lives: {other}");
            return Err(DriverError::new(DriverErrorKind::NameTaken, what));
        }
        let id = MemberId::new(name, host, pid, self.fresh_life()?);
        // Somebody who was killed may have left one, and a child of theirs may have it locked.
        let mut file = self.folder.create_anew(DRAFT)?;
        let failed = |error| self.folder.failed("write", &own, error);
        let text = serde_json::to_vec(&id).expect("a member can be written down");
        file.write_all(&text).map_err(failed)?;
        let locked = advisory::try_lock(&file, Extent::Whole);
        if !locked.map_err(|error| self.folder.failed("lock", &own, error))? {
            let path = self.folder.path().join(DRAFT);
            return Err(refused(format!("somebody else locked {}", path.display())));
        }
        self.folder.rename(DRAFT, &own)?;
        Ok((id, file))
    }

    fn fresh_life(&self) -> Result<u64, DriverError> {
        let mut life = [0; 8];
        let read = File::open("/dev/urandom").and_then(|mut chance| chance.read_exact(&mut life));
        read.map_err(|error| super::folder::failed("read", "/dev/urandom".as_ref(), error))?;
        Ok(u64::from_ne_bytes(life))
    }

    /// Whether this member lives.
    pub(super) fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError> {
        Ok(self.look(&file_name(member.name()))?.is_some_and(|(id, lives)| lives && id == *member))
    }

    /// All that live.
    pub(super) fn alive(&self) -> Result<Vec<MemberId>, DriverError> {
        let mut alive = Vec::new();
        for name in self.folder.names()? {
            if !name.starts_with('.')
                && let Some((id, true)) = self.look(&name)?
            {
                alive.push(id);
            }
        }
        Ok(alive)
    }

    /// Who has this file, and whether they live; `None` if there is none, or it is the rest of somebody dead.
    fn look(&self, name: &str) -> Result<Option<(MemberId, bool)>, DriverError> {
        let Some(file) = self.folder.look_up(name)? else { return Ok(None) };
        let lives = self.is_locked(&file, name)?;
        let text = self.folder.read_open(&file, name, FILE_BYTES_MAX)?;
        match serde_json::from_slice::<MemberId>(&text) {
            Ok(id) if file_name(id.name()) == name => Ok(Some((id, lives))),
            // A loss of power tears files; whoever they were of is dead.
            _ if !lives => Ok(None),
            _ => {
                let path = self.folder.path().join(name);
                Err(refused(format!("{} does not say whose it is", path.display())))
            }
        }
    }

    fn is_locked(&self, file: &File, name: &str) -> Result<bool, DriverError> {
        advisory::is_locked(file)
            .map_err(|error| self.folder.failed("ask for the lock of", name, error))
    }

    /// Removes the file of a member that just died, unless it is another's by now. The caller holds the lock of the members.
    pub(super) fn bury(&self, member: &MemberId, file: &File) -> Result<(), DriverError> {
        let name = file_name(member.name());
        let own = file.metadata().map_err(|error| self.folder.failed("look at", &name, error))?;
        let there = self.folder.stat(&name)?;
        if there.is_some_and(|there| there.st_ino == own.ino()) {
            self.folder.remove(&name)?;
        }
        Ok(())
    }

    /// Removes the files of all who died. The caller holds the lock of the members.
    pub(super) fn sweep(&self) -> Result<(), DriverError> {
        for name in self.folder.names()? {
            let Some(file) = self.folder.look_up(&name)? else { continue };
            if !self.is_locked(&file, &name)? {
                self.folder.remove(&name)?;
            }
        }
        Ok(())
    }
}
