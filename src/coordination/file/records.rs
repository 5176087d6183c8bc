//! The files of records: read without a lock, replaced under one.

use std::io;

use super::super::driver::{CONTENT_BYTES_MAX, Key, Stored, Version};
use super::Durability;
use super::folder::{Folder, refused};
use super::locks::{Held, Locks};
use super::names::{file_name, text_of};
use super::page::{FRAME_BYTES_MAX, Page};
use crate::error::DriverError;

/// What a file has at most: the largest record, under the longest key.
const FILE_BYTES_MAX: u64 = (CONTENT_BYTES_MAX + Key::BYTES_MAX + FRAME_BYTES_MAX) as u64;

/// Begins the name of what is being written under a lock; its number ends it.
const DRAFT: &str = ".draft-";

#[derive(Debug)]
pub(super) struct Records {
    folder: Folder,
    durability: Durability,
}

impl Records {
    pub(super) fn new(folder: Folder, durability: Durability) -> Self {
        Self { folder, durability }
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What lies in the key's file, which has this name.
    ///
    /// # Errors
    /// `Refused` if that is no record, or another's. Never taken for absent: it would let in whoever comes.
    pub(super) fn read(&self, key: &Key, name: &str) -> Result<Stored, DriverError> {
        let Some(bytes) = self.folder.read(name, FILE_BYTES_MAX)? else {
            return Ok(Stored { version: Version::ABSENT, content: None });
        };
        let page = self.page(name, &bytes)?;
        if page.key != key.as_str() {
            let path = self.folder.path().join(name);
            let what = format!("{} is of the record {:?}, not of {key}", path.display(), page.key);
            return Err(refused(what));
        }
        Ok(Stored { version: Version(page.version), content: Some(page.content.to_vec()) })
    }

    fn page<'b>(&self, name: &str, bytes: &'b [u8]) -> Result<Page<'b>, DriverError> {
        Page::read(bytes).map_err(|flaw| {
            let path = self.folder.path().join(name);
            let of = text_of(name).ok().flatten().map(|key| format!(" {key}"));
            let of = of.unwrap_or_default();
            refused(format!("{} is no record{of}: {flaw}", path.display()))
        })
    }

    /// Has what is read under this lock survive a loss of power: who wrote it may have been killed before it did so.
    pub(super) fn settle(&self, held: &Held<'_>) -> Result<(), DriverError> {
        if self.durability == Durability::PowerLoss && held.is_unsynced()? {
            self.folder.sync()?;
            held.set_unsynced(false)?;
        }
        Ok(())
    }

    /// Stores content in the key's file, which has this name. The caller holds its lock.
    pub(super) fn write(
        &self,
        key: &Key,
        name: &str,
        version: Version,
        content: &[u8],
        held: &Held<'_>,
    ) -> Result<(), DriverError> {
        let page = Page { version: version.0, key: key.as_str(), content }.write();
        let draft = draft(held.at());
        match self.durability {
            Durability::ProcessDeath => self.folder.replace(&draft, name, &page, |_| Ok(())),
            Durability::PowerLoss => {
                let sync = |file: &std::fs::File| -> io::Result<()> { file.sync_all() };
                held.set_unsynced(true)?;
                self.folder.replace(&draft, name, &page, sync)?;
                self.settle(held)
            }
        }
    }

    /// The keys that begin with `prefix`.
    pub(super) fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError> {
        let mut keys = Vec::new();
        for name in self.folder.names()? {
            if !name.starts_with('.')
                && let Some(key) = self.key(&name)?
                && key.as_str().starts_with(prefix)
            {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// The key whose file this is; `None` if it was removed meanwhile.
    fn key(&self, name: &str) -> Result<Option<Key>, DriverError> {
        let foreign = || {
            let path = self.folder.path().join(name);
            refused(format!("{} is nothing that we wrote", path.display()))
        };
        let text = match text_of(name).map_err(|_| foreign())? {
            Some(text) => text,
            None => match self.folder.read(name, FILE_BYTES_MAX)? {
                Some(bytes) => self.page(name, &bytes)?.key.to_owned(),
                None => return Ok(None),
            },
        };
        if file_name(&text) != name {
            return Err(foreign());
        }
        Key::parse(&text).map(Some).map_err(|_| foreign())
    }

    /// Removes what those left who were killed while they wrote.
    pub(super) fn sweep(&self, locks: &Locks) -> Result<(), DriverError> {
        for name in self.folder.names()? {
            let Some(at) = name.strip_prefix(DRAFT).and_then(|at| at.parse().ok()) else {
                continue;
            };
            // If it is locked, somebody writes it just now.
            if let Some(_held) = locks.hold_at(at, std::time::Duration::ZERO)? {
                self.folder.remove(&name)?;
            }
        }
        Ok(())
    }
}

fn draft(at: usize) -> String {
    format!("{DRAFT}{at}")
}
