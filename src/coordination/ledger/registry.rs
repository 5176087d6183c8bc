//! A registry as it is stored: which session holds which ids, and how far it was counted; and what each step makes of it.
//!
//! Decides, and does nothing else: who lives, what time it is and what the store said comes in as arguments.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::coordination::driver::CONTENT_BYTES_MAX;
use crate::core::ids::Ids;
use crate::core::member::MemberId;
use crate::core::record::{TooLarge, Unreadable};

/// What is stored for one registry, in bytes, at most: half a million ranges of ten-digit ids take three quarters of it.
pub(super) const BYTES_MAX: usize = CONTENT_BYTES_MAX;

/// The last moment that is shown as a date.
const YEAR_9999_ENDS_S: u64 = 253_402_300_799;

/// A member in its part as one who holds ids of a registry.
///
/// # Examples
/// ```
/// # use tierlock::coordination::Coordinator;
/// use tierlock::coordination::ledger::Ledger;
///
/// # let coordinator = Coordinator::connect("memory:").join("worker-1")?;
/// let jobs = Ledger::open(&coordinator, "jobs")?;
/// jobs.startup(0)?;
/// let id = jobs.make_new_ids(1)?.start;
/// let session = jobs.session_of(id)?.expect("this one holds it");
/// assert_eq!(session.member(), coordinator.member());
/// println!("job {id} is with {session}"); // worker-1 (host-a, pid 4711) since 2026-11-24T15:48:45Z
/// # Ok::<(), tierlock::coordination::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSession {
    member: MemberId,
    since_s: u64,
    holds: Holds,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Holds {
    Ids(Ids),
    /// The record was lost, and the session has not said since what it holds: any ids below this one, for all that is known.
    UnknownBelow(u64),
}

impl LedgerSession {
    pub(super) fn new(member: MemberId, since_s: u64, ids: Ids) -> Self {
        Self { member, since_s, holds: Holds::Ids(ids) }
    }

    pub(super) fn unknown(member: MemberId, since_s: u64, below: u64) -> Self {
        Self { member, since_s, holds: Holds::UnknownBelow(below) }
    }

    /// Whose session it is: name, host and process.
    #[must_use]
    pub fn member(&self) -> &MemberId {
        &self.member
    }

    /// When it started up, in seconds since 1970 by the clock of its host: for people to read, nothing is decided by it.
    #[must_use]
    pub fn since_unix_s(&self) -> u64 {
        self.since_s
    }

    /// What it holds; `None` if the record was lost, and it has not said since what it holds: nobody gets an older id as
    /// long as it lives.
    #[must_use]
    pub fn ids(&self) -> Option<&Ids> {
        match &self.holds {
            Holds::Ids(ids) => Some(ids),
            Holds::UnknownBelow(_) => None,
        }
    }

    /// Those of the ids that nobody else may have because of this session.
    pub(super) fn bars(&self, ids: &Ids) -> Ids {
        match &self.holds {
            Holds::Ids(held) => ids.intersection(held),
            Holds::UnknownBelow(end) => ids.intersection(&Ids::from(0..*end)),
        }
    }

    /// The least number above all that it may hold.
    fn end(&self) -> Option<u64> {
        match &self.holds {
            Holds::Ids(ids) => ids.last().map_or(Some(0), |last| last.checked_add(1)),
            Holds::UnknownBelow(end) => Some(*end),
        }
    }
}

impl fmt::Display for LedgerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What strangers wrote may be no date.
        let since = UNIX_EPOCH + Duration::from_secs(self.since_s.min(YEAR_9999_ENDS_S));
        write!(f, "{} since {}", self.member, humantime::format_rfc3339_seconds(since))
    }
}

/// The state of a registry.
///
/// Invariants:
/// 1. A member has one session.
/// 2. No id is held by two sessions.
/// 3. Every id that was ever held is less than `next`, which only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Registry {
    format: u32,
    next: u64,
    sessions: Vec<LedgerSession>,
}

const FORMAT: u32 = 1;

/// Why a step was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// So many ids are not left.
    OutOfIds(u64),
    /// Ids that the session held are another's by now.
    Taken { ids: Ids, by: MemberId },
}

impl Registry {
    /// One that nobody holds anything of, counted up to `next`.
    pub(super) fn new(next: u64) -> Self {
        Self { format: FORMAT, next, sessions: Vec::new() }
    }

    /// One of which is left how far it was counted, and whose sessions it had.
    pub(super) fn rebuilt(
        next: u64,
        members: impl IntoIterator<Item = MemberId>,
        now_s: u64,
    ) -> Self {
        let unknown = |member| LedgerSession::unknown(member, now_s, next);
        Self { sessions: members.into_iter().map(unknown).collect(), ..Self::new(next) }
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// What it is instead. Nothing is guessed: what looked like no ids would be free for all.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let damaged = |flaw: &dyn fmt::Display| Unreadable::Damaged(flaw.to_string());
        if bytes.len() > BYTES_MAX {
            return Err(damaged(&format_args!("{} bytes are too many", bytes.len())));
        }
        let registry: Self = match serde_json::from_slice(bytes) {
            Ok(registry) => registry,
            Err(error) => {
                return Err(other_format(bytes, FORMAT).unwrap_or_else(|| damaged(&error)));
            }
        };
        if registry.format != FORMAT {
            return Err(Unreadable::Format(registry.format));
        }
        match registry.flaw() {
            Some(flaw) => Err(damaged(&flaw)),
            None => Ok(registry),
        }
    }

    /// Writes it down.
    ///
    /// # Errors
    /// [`TooLarge`] if no engine should be made to store it.
    pub(super) fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        debug_assert_eq!(self.flaw(), None);
        let bytes = serde_json::to_vec(self).expect("it has no maps");
        if bytes.len() > BYTES_MAX { Err(TooLarge { bytes: bytes.len() }) } else { Ok(bytes) }
    }

    /// The next id that was never given.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn sessions(&self) -> &[LedgerSession] {
        &self.sessions
    }

    pub(super) fn members(&self) -> Vec<MemberId> {
        self.sessions.iter().map(|session| session.member.clone()).collect()
    }

    pub(super) fn session(&self, member: &MemberId) -> Option<&LedgerSession> {
        self.sessions.iter().find(|session| session.member == *member)
    }

    /// What the member holds for certain.
    pub(super) fn ids_of(&self, member: &MemberId) -> Option<&Ids> {
        self.session(member).and_then(LedgerSession::ids)
    }

    /// The session for which nobody else gets the id.
    pub(super) fn holder(&self, id: u64) -> Option<&LedgerSession> {
        let sure = self.sessions.iter().find(|s| s.ids().is_some_and(|ids| ids.contains(id)));
        let id = Ids::from(id);
        sure.or_else(|| self.sessions.iter().find(|session| !session.bars(&id).is_empty()))
    }

    /// The others that keep the member from having all of these ids.
    pub(super) fn in_the_way(&self, member: &MemberId, ids: &Ids) -> Vec<MemberId> {
        let others = self.sessions.iter().filter(|session| session.member != *member);
        others
            .filter(|other| !other.bars(ids).is_empty())
            .map(|other| other.member.clone())
            .collect()
    }

    /// Gives no id below `next` from now on.
    pub(super) fn count_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Begins the member's session, which already holds these ids if the record was lost since; changes nothing if
    /// what it holds is known.
    ///
    /// # Errors
    /// [`Taken`](Refusal::Taken) if somebody else has one of the ids.
    pub(super) fn attend(
        &mut self,
        member: &MemberId,
        since_s: u64,
        ids: &Ids,
    ) -> Result<(), Refusal> {
        if self.ids_of(member).is_some() {
            return Ok(());
        }
        self.allows(member, ids)?;
        self.end(member);
        let session = LedgerSession::new(member.clone(), since_s, ids.clone());
        self.count_to(session.end().unwrap_or(u64::MAX));
        self.sessions.push(session);
        Ok(())
    }

    /// Fails if another session is known to hold one of the ids.
    ///
    /// # Errors
    /// [`Taken`](Refusal::Taken).
    pub(super) fn allows(&self, member: &MemberId, ids: &Ids) -> Result<(), Refusal> {
        for other in self.sessions.iter().filter(|other| other.member != *member) {
            let taken = other.ids().map(|held| ids.intersection(held)).unwrap_or_default();
            if !taken.is_empty() {
                return Err(Refusal::Taken { ids: taken, by: other.member.clone() });
            }
        }
        Ok(())
    }

    /// Gives the member `count` ids in a row that nobody ever had.
    ///
    /// # Errors
    /// [`OutOfIds`](Refusal::OutOfIds).
    pub(super) fn make(&mut self, member: &MemberId, count: u64) -> Result<Range<u64>, Refusal> {
        let end = self.next.checked_add(count).ok_or(Refusal::OutOfIds(count))?;
        let made = self.next..end;
        self.give(member, &Ids::from(made.clone()));
        Ok(made)
    }

    /// Gives the member those of the ids that no other session has, and says which: its own, too.
    ///
    /// # Errors
    /// [`OutOfIds`](Refusal::OutOfIds) if the last number there is is one of them: the count has to stay above.
    pub(super) fn lock(&mut self, member: &MemberId, ids: &Ids) -> Result<Ids, Refusal> {
        if ids.contains(u64::MAX) {
            return Err(Refusal::OutOfIds(1));
        }
        let own = self.ids_of(member).map(|held| ids.intersection(held)).unwrap_or_default();
        let others = self.sessions.iter().filter(|session| session.member != *member);
        let free =
            others.fold(ids.difference(&own), |left, other| left.difference(&other.bars(&left)));
        self.give(member, &free);
        Ok(own.union(&free))
    }

    /// Takes the ids from the member, and says which of them it had.
    pub(super) fn release(&mut self, member: &MemberId, ids: &Ids) -> Ids {
        let Some(held) = self.held_mut(member) else { return Ids::default() };
        let released = held.intersection(ids);
        *held = held.difference(ids);
        released
    }

    /// Ends the member's session and returns it: what it held is free.
    pub(super) fn end(&mut self, member: &MemberId) -> Option<LedgerSession> {
        let at = self.sessions.iter().position(|session| session.member == *member)?;
        Some(self.sessions.remove(at))
    }

    fn give(&mut self, member: &MemberId, ids: &Ids) {
        if let Some(held) = self.held_mut(member) {
            *held = held.union(ids);
            self.count_to(ids.last().map_or(0, |last| last + 1));
        }
    }

    fn held_mut(&mut self, member: &MemberId) -> Option<&mut Ids> {
        let session = self.sessions.iter_mut().find(|session| session.member == *member)?;
        match &mut session.holds {
            Holds::Ids(ids) => Some(ids),
            Holds::UnknownBelow(_) => None,
        }
    }

    /// Says which of the invariants does not hold.
    pub(super) fn flaw(&self) -> Option<String> {
        for (at, session) in self.sessions.iter().enumerate() {
            let member = &session.member;
            if self.sessions[..at].iter().any(|earlier| earlier.member == *member) {
                return Some(format!("{member} has two sessions"));
            }
            if session.end().is_none_or(|end| end > self.next) {
                let next = self.next;
                return Some(format!("the counter, {next}, is not above all that {member} holds"));
            }
        }
        self.held_twice().map(|(id, a, b)| format!("id {id} is held by {a} and by {b}"))
    }

    /// An id that two sessions hold.
    fn held_twice(&self) -> Option<(u64, &MemberId, &MemberId)> {
        let sessions = self.sessions.iter().enumerate();
        let known = sessions.filter_map(|(at, session)| Some((at, session.ids()?)));
        let mut held: Vec<_> =
            known.flat_map(|(at, ids)| ids.ranges().map(move |range| (range, at))).collect();
        held.sort_unstable_by_key(|(range, _)| *range.start());
        let clash = held.windows(2).find(|pair| pair[1].0.start() <= pair[0].0.end())?;
        let member = |at: usize| &self.sessions[at].member;
        Some((*clash[1].0.start(), member(clash[0].1), member(clash[1].1)))
    }
}

/// Tells whether it is of another format than this one.
pub(super) fn other_format(bytes: &[u8], known: u32) -> Option<Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_slice(bytes).ok()?;
    (head.format != known).then_some(Unreadable::Format(head.format))
}

#[cfg(test)]
mod tests;
