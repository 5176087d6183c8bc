//! The two parties of a request or a hold: the lock, and the owner that takes it.

use std::sync::Arc;

use super::SharedLock;
use crate::owner::Owner;

/// Lock and owner, nearly always borrowed: then they are two words, and dropping them is nothing.
#[derive(Clone, Debug)]
pub(super) enum Party<'a> {
    Borrowed(&'a SharedLock, &'a Owner),
    Owned(Box<Owned>),
}

#[derive(Clone, Debug)]
pub(super) struct Owned {
    lock: SharedLock,
    owner: Owner,
    /// The owner that ended without releasing the lock, if this one is to be told.
    abandoned: Option<Arc<str>>,
}

impl Party<'_> {
    #[inline(always)]
    pub(super) fn lock(&self) -> &SharedLock {
        match self {
            Self::Borrowed(lock, _) => lock,
            Self::Owned(owned) => &owned.lock,
        }
    }

    #[inline(always)]
    pub(super) fn owner(&self) -> &Owner {
        match self {
            Self::Borrowed(_, owner) => owner,
            Self::Owned(owned) => &owned.owner,
        }
    }

    pub(super) fn abandoned(&self) -> Option<&Arc<str>> {
        match self {
            Self::Borrowed(..) => None,
            Self::Owned(owned) => owned.abandoned.as_ref(),
        }
    }

    /// As an exclusive holder: told who ended without releasing the lock before, if somebody did.
    #[inline(always)]
    pub(super) fn told(self) -> Self {
        if !self.lock().0.is_abandoned() {
            return self;
        }
        // By parts, so that a party nobody was told of is never in memory.
        Self::Owned(Owned::told(self.lock(), self.owner()))
    }

    pub(super) fn into_owned(self) -> Party<'static> {
        Party::Owned(match self {
            Self::Borrowed(lock, owner) => Owned::new(lock, owner),
            Self::Owned(owned) => owned,
        })
    }
}

impl Owned {
    fn new(lock: &SharedLock, owner: &Owner) -> Box<Self> {
        Box::new(Self { lock: lock.clone(), owner: owner.clone(), abandoned: None })
    }

    #[cold]
    fn told(lock: &SharedLock, owner: &Owner) -> Box<Self> {
        let mut told = Self::new(lock, owner);
        told.abandoned = lock.0.take_abandoned();
        told
    }
}
