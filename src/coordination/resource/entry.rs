//! The record of a resource, and how this member gets at it.

use std::sync::Arc;

use crate::coordination::driver::{Key, Version};
use crate::coordination::member::Member;
use crate::core::record::{Record, Unreadable};
use crate::error::CoordinationError;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) member: Arc<Member>,
    pub(super) key: Key,
    /// What people call the resource.
    pub(super) name: Arc<str>,
}

impl Entry {
    /// Changes the record, once whatever ended by itself has ended.
    pub(super) fn update<R>(
        &self,
        change: impl FnMut(&mut Record) -> Result<R, CoordinationError>,
    ) -> Result<R, CoordinationError> {
        self.update_to(change).map(|(result, _)| result)
    }

    /// As [`update`](Self::update); says as which version the record is stored then.
    pub(super) fn update_to<R>(
        &self,
        mut change: impl FnMut(&mut Record) -> Result<R, CoordinationError>,
    ) -> Result<(R, Version), CoordinationError> {
        let member = &self.member;
        member.update_to(&self.key, |bytes| {
            let mut record = Record::decode(bytes).map_err(|error| self.unreadable(error))?;
            record.expire(member.now());
            let result = change(&mut record)?;
            let content = record.encode().map_err(|too_large| CoordinationError::TooLarge {
                resource: Arc::clone(&self.name),
                at: Arc::clone(member.at()),
                bytes: too_large.bytes,
            })?;
            let untouched = bytes.is_none() && record.is_untouched();
            Ok(((!untouched).then_some(content), result))
        })
    }

    /// The record as it is.
    pub(super) fn read(&self) -> Result<Record, CoordinationError> {
        let stored = self.member.read(&self.key)?;
        Record::decode(stored.content.as_deref()).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: Unreadable) -> CoordinationError {
        let (resource, at) = (Arc::clone(&self.name), Arc::clone(self.member.at()));
        match error {
            Unreadable::Format(format) => CoordinationError::UnknownFormat { resource, at, format },
            Unreadable::Damaged(reason) => {
                CoordinationError::Damaged { resource, at, reason: reason.into() }
            }
        }
    }
}
