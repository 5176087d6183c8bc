//! The second copy of a registry's counter: enough to go on from if the registry itself is lost.

use serde::{Deserialize, Serialize};

use super::registry::other_format;
use crate::core::member::MemberId;
use crate::core::record::Unreadable;

/// How far a registry was counted, or is about to be, and whose sessions it may have.
///
/// It is raised before the registry is, so it is never behind; and it lists whoever holds ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counter {
    format: u32,
    pub(super) next: u64,
    pub(super) members: Vec<MemberId>,
}

const FORMAT: u32 = 1;

impl Counter {
    pub(super) fn new(next: u64, members: Vec<MemberId>) -> Self {
        Self { format: FORMAT, next, members }
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// What it is instead.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        match serde_json::from_slice::<Self>(bytes) {
            Ok(counter) if counter.format != FORMAT => Err(Unreadable::Format(counter.format)),
            Ok(counter) => match counter.twice() {
                Some(member) => Err(Unreadable::Damaged(format!("{member} is listed twice"))),
                None => Ok(counter),
            },
            Err(error) => Err(other_format(bytes, FORMAT)
                .unwrap_or_else(|| Unreadable::Damaged(error.to_string()))),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has no maps")
    }

    /// A member that is listed twice: no registry has two sessions of one.
    fn twice(&self) -> Option<&MemberId> {
        let members = self.members.iter().enumerate();
        members.filter(|(at, member)| self.members[..*at].contains(member)).map(|(_, m)| m).next()
    }

    /// The same, counted to `next` at least, with the member.
    #[must_use]
    pub(super) fn raised(mut self, next: u64, member: Option<&MemberId>) -> Self {
        self.next = self.next.max(next);
        self.members.extend(member.filter(|member| !self.members.contains(member)).cloned());
        self
    }

    /// The same without these members.
    #[must_use]
    pub(super) fn without(mut self, gone: &[MemberId]) -> Self {
        self.members.retain(|member| !gone.contains(member));
        self
    }
}
