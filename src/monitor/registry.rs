//! What a monitor watches, referred to weakly.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Weak};

use super::Provider;
use crate::hold::Lock;
use crate::lock_set::LockSet;
use crate::set::Set;
use crate::shared_lock::SharedLock;

/// What can be registered: a [`SharedLock`], a [`LockSet`], a [`LockManager`](crate::LockManager), an `Arc` of a [`Provider`].
/// Not to be implemented elsewhere.
pub trait Watched {
    /// What there is to be watched.
    fn sources(&self) -> Vec<Source>;
}

impl Watched for SharedLock {
    fn sources(&self) -> Vec<Source> {
        vec![Source(Kind::Lock(Arc::downgrade(self.raw())))]
    }
}

impl Watched for LockSet {
    fn sources(&self) -> Vec<Source> {
        vec![Source::set(self.inner())]
    }
}

impl<P: Provider + 'static> Watched for Arc<P> {
    fn sources(&self) -> Vec<Source> {
        let provider: Weak<P> = Self::downgrade(self);
        vec![Source(Kind::Provider(provider))]
    }
}

impl Watched for Arc<dyn Provider> {
    fn sources(&self) -> Vec<Source> {
        vec![Source(Kind::Provider(Self::downgrade(self)))]
    }
}

/// Something to be watched.
#[derive(Clone)]
pub struct Source(Kind);

#[derive(Clone)]
enum Kind {
    Lock(Weak<Lock>),
    Set(Weak<Set>),
    Provider(Weak<dyn Provider>),
}

/// A source while it is looked at.
pub(super) enum Live {
    Lock(Arc<Lock>),
    Set(Arc<Set>),
    Provider(Arc<dyn Provider>),
}

impl Source {
    pub(crate) fn set(set: &Arc<Set>) -> Self {
        Self(Kind::Set(Arc::downgrade(set)))
    }

    fn upgrade(&self) -> Option<Live> {
        match &self.0 {
            Kind::Lock(lock) => lock.upgrade().map(Live::Lock),
            Kind::Set(set) => set.upgrade().map(Live::Set),
            Kind::Provider(provider) => provider.upgrade().map(Live::Provider),
        }
    }

    /// Asks without a reference that might turn out to be the last: dropping that runs a provider's code.
    fn is_live(&self) -> bool {
        let references = match &self.0 {
            Kind::Lock(lock) => lock.strong_count(),
            Kind::Set(set) => set.strong_count(),
            Kind::Provider(provider) => provider.strong_count(),
        };
        references > 0
    }

    fn address(&self) -> usize {
        match &self.0 {
            Kind::Lock(lock) => lock.as_ptr().addr(),
            Kind::Set(set) => set.as_ptr().addr(),
            Kind::Provider(provider) => provider.as_ptr().addr(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("is_live", &self.is_live()).finish_non_exhaustive()
    }
}

/// What is registered, in that order.
#[derive(Default)]
pub(super) struct Registry {
    sources: Vec<Source>,
    /// Of the sources. An address is not used again while there is a weak reference to it.
    addresses: HashSet<usize>,
    /// Sources left when those that are gone were swept out last.
    swept: usize,
}

impl Registry {
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Adds a source, if it is not there.
    pub(super) fn add(&mut self, source: Source) {
        const SWEPT_MIN: usize = 64;
        if self.sources.len() >= 2 * self.swept.max(SWEPT_MIN) {
            self.sweep();
        }
        if self.addresses.insert(source.address()) {
            self.sources.push(source);
        }
    }

    /// What is still there, in the order of registration.
    pub(super) fn live(&mut self) -> Vec<Live> {
        let live: Vec<_> = self.sources.iter().filter_map(Source::upgrade).collect();
        if live.len() < self.sources.len() {
            self.sweep();
        }
        live
    }

    /// Forgets what is gone.
    fn sweep(&mut self) {
        let Self { sources, addresses, swept } = self;
        sources.retain(|source| {
            let stays = source.is_live();
            if !stays {
                addresses.remove(&source.address());
            }
            stays
        });
        *swept = sources.len();
    }
}
