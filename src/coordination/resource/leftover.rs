//! What is left to say to the record of a resource that nobody here uses any more.

use std::sync::Arc;

use super::entry::Entry;
use super::round::pause_ms;
use crate::coordination::agent::Agent;
use crate::core::member::MemberId;
use crate::core::record::{Abandonment, Moment, Party, Record};
use crate::error::CoordinationError;

/// That the member gives back what it was granted, and who ended in the middle of it.
#[derive(Debug)]
pub(crate) struct Leftover {
    entry: Entry,
    ended: Option<Ended>,
    failures: u32,
}

/// An owner that ended without releasing what it held exclusively, of whom nobody was told yet.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// Before this member's grant.
    Before(Abandonment),
    /// One of this member's.
    Here(Party),
}

impl Ended {
    /// Has the next holder hear of it.
    pub(super) fn tell(&self, record: &mut Record, me: &MemberId, now: Moment) {
        match self {
            Self::Before(abandonment) => record.pass_on(me, abandonment.clone()),
            Self::Here(party) => record.abandon(party.clone(), now),
        }
    }
}

impl Leftover {
    pub(super) fn new(entry: Entry, ended: Option<Ended>) -> Self {
        Self { entry, ended, failures: 0 }
    }

    /// Says it. If the member uses the resource anew, that is for the new resource to do, which is told so.
    ///
    /// # Errors
    /// What the engine said; to be tried again, unless the member is lost.
    pub(crate) fn say(&self, agent: &Agent) -> Result<(), CoordinationError> {
        let Entry { member, key, .. } = &self.entry;
        let (me, now) = (member.id(), member.now());
        self.entry.update(|record| {
            // Asked anew with each attempt: whoever came since has it in the record only by another version of it.
            if let Some(successor) = agent.resources().get(key) {
                successor.take_over();
                return Ok(());
            }
            if let Some(ended) = &self.ended {
                ended.tell(record, me, now);
            }
            record.withdraw(me, now);
            record.lower(me, None, now);
            Ok(())
        })
    }

    /// When to say it again that failed so.
    pub(crate) fn next(&mut self, error: &CoordinationError) -> Moment {
        let pause_ms = pause_ms(self.failures, error.is_transient());
        self.failures = self.failures.saturating_add(1);
        self.entry.member.now().plus_ms(pause_ms)
    }

    /// What it is about, for people.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.entry.name
    }
}
