//! What rings for the agent, and what is not worth it: a member's own words that come back to it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Wake;
use std::time::Instant;

use super::Resource;
use crate::clock;
use crate::coordination::driver::Version;
use crate::core::queue::Ticket;
use crate::hold::{Decisions, Refused, Waiter};
use crate::listeners::Listeners;
use crate::owner::Owner;
use crate::raw::Outcome;

/// Rings for the agent when something happens to the lock.
#[derive(Debug)]
pub(super) struct Bell {
    resource: Weak<Resource>,
    owner: Owner,
    since: Instant,
}

impl Bell {
    /// A bell on behalf of this owner.
    pub(super) fn new(resource: Weak<Resource>, owner: Owner) -> Self {
        Self { resource, owner, since: clock::now() }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if let Some(resource) = self.resource.upgrade() {
            resource.ring();
        }
    }
}

impl Waiter for Bell {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn on_decided(
        self: Arc<Self>,
        _: Ticket,
        _: Outcome,
        _: &mut Decisions,
    ) -> Option<Box<Listeners>> {
        if let Some(resource) = self.resource.upgrade()
            && !resource.is_in_turn()
        {
            resource.ring();
        }
        None
    }

    fn refuse(&self, _: Refused) {}
}

/// Which reports of a record say something new.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// The version that a round found or stored last, and acts on; 0 if it found none.
    seen: AtomicU64,
    /// The latest that was reported.
    reported: AtomicU64,
    /// Whether a round is at the record: what is reported meanwhile may be what it stores.
    is_busy: AtomicBool,
}

impl Echo {
    /// Hears of a version; tells whether somebody has to look at it.
    pub(super) fn is_news(&self, version: Version) -> bool {
        self.reported.fetch_max(version.0, Ordering::SeqCst);
        // Whoever is busy finds what is reported from here on.
        !self.is_busy.load(Ordering::SeqCst) && self.seen.load(Ordering::SeqCst) != version.0
    }

    /// Goes to the record by `look`; tells besides whether something newer was reported meanwhile.
    ///
    /// # Errors
    /// As of `look`. Whoever tries again finds what was reported.
    pub(super) fn while_looking<R, E>(
        &self,
        look: impl FnOnce() -> Result<(R, Version), E>,
    ) -> Result<(R, bool), E> {
        self.is_busy.store(true, Ordering::SeqCst);
        let looked = look();
        let seen = looked.as_ref().map_or(0, |(_, version)| version.0);
        self.seen.store(seen, Ordering::SeqCst);
        self.is_busy.store(false, Ordering::SeqCst);
        looked.map(|(result, _)| (result, self.reported.load(Ordering::SeqCst) > seen))
    }
}
