//! Who holds one resource of a cluster and who waits for it, as it lies in a coordinator's store.
//!
//! The same queue decides as in a process. What differs: the parties are members, of which some die; time comes in as an
//! argument; every grant takes numbers that never come again; and it can be written down. Knows nothing of where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::held::Held;
use super::member::MemberId;
use super::mode::Mode;
use super::queue::written::{Flaw, Written};
use super::queue::{Deadlock, Priority, Queue, Ticket};

/// Milliseconds on the engine's clock, which all members read alike.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Moment(pub u64);

impl Moment {
    /// So many milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// A party to a record: a member, on behalf of one of its owners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Party {
    pub(crate) member: MemberId,
    /// The owner whose request it was, for people to read.
    pub(crate) owner: Arc<str>,
    /// How long a grant lasts; for ever, or as long as the member lives, if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lifetime_ms: Option<u64>,
}

/// A party that holds the resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holder {
    pub(crate) party: Party,
    pub(crate) mode: Mode,
    /// The first of the [`TOKENS_PER_GRANT`] fencing tokens of its grant.
    pub(crate) token: u64,
    pub(crate) since: Moment,
    /// When the hold ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Moment>,
    /// Who ended before it without releasing the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Abandonment>,
}

/// An exclusive hold that ended without a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Abandonment {
    pub(crate) party: Party,
    pub(crate) token: u64,
    /// Since when it was held.
    pub(crate) since: Moment,
    pub(crate) at: Moment,
}

/// What another member wants of this one: to hold no more than what admits `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recall {
    pub(crate) mode: Mode,
    pub(crate) priority: Priority,
    /// The mode in which the other member holds the resource already, if it does.
    pub(crate) from: Option<Mode>,
}

/// Fencing tokens that a grant takes: one for each owner to whom the member lends it, before it has to ask for more.
pub(crate) const TOKENS_PER_GRANT: u64 = 1 << 20;

/// A record's size in bytes, at most; what the narrowest engine stores in one value.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 20;

/// Half the numbers there are, so that a number read and believed can still be counted on from.
const TOKEN_MAX: u64 = u64::MAX / 2;

/// The state of one resource.
///
/// Invariants:
/// 1. The modes of the holders admit one another; a member holds once.
/// 2. A member waits at most once; it waits to convert if and only if it holds.
/// 3. After a transition nobody waits who could go.
/// 4. Tokens only grow, in the order of the grants.
#[derive(Debug)]
pub(crate) struct Record {
    holders: Vec<Holder>,
    queue: Queue<Party>,
    next_token: u64,
    abandoned: Option<Abandonment>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRecord {
    format: u32,
    next_token: u64,
    holders: Vec<Holder>,
    queue: Written<Party>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    abandoned: Option<Abandonment>,
}

const FORMAT: u32 = 1;

/// Why what was read is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Written by a later version of this crate.
    Format(u32),
    /// Not as a record ever looks.
    Damaged(String),
}

/// More parties than one record has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) bytes: usize,
}

impl Default for Record {
    fn default() -> Self {
        Self { holders: Vec::new(), queue: Queue::new(0), next_token: 1, abandoned: None }
    }
}

impl Record {
    /// Reads a record; of nothing, a resource that nobody ever asked for.
    ///
    /// # Errors
    /// What it is instead. Nothing is guessed: whoever would, could let in two.
    pub(crate) fn decode(bytes: Option<&[u8]>) -> Result<Self, Unreadable> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Unreadable::Damaged(format!("{} bytes are too many", bytes.len())));
        }
        let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let written: WrittenRecord = match serde_json::from_slice(bytes) {
            Ok(written) => written,
            Err(error) => return Err(other_format(bytes, FORMAT).unwrap_or_else(|| damaged(error))),
        };
        if written.format != FORMAT {
            return Err(Unreadable::Format(written.format));
        }
        Self::restore(written).map_err(|flaw| Unreadable::Damaged(flaw.to_owned()))
    }

    fn restore(written: WrittenRecord) -> Result<Self, Flaw> {
        if !(1..=TOKEN_MAX).contains(&written.next_token) {
            return Err("a next token that nobody comes to");
        }
        let queue = Queue::read(written.queue)?;
        let record = Self {
            holders: written.holders,
            queue,
            next_token: written.next_token,
            abandoned: written.abandoned,
        };
        record.check()?;
        Ok(record)
    }

    /// Writes the record down. The text of equal records is equal.
    ///
    /// # Errors
    /// [`TooLarge`] if no engine should be made to store it.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        let written = WrittenRecord {
            format: FORMAT,
            next_token: self.next_token,
            holders: self.holders.clone(),
            queue: self.queue.write(),
            abandoned: self.abandoned.clone(),
        };
        let bytes = serde_json::to_vec(&written).expect("its maps have keys of text");
        if bytes.len() > RECORD_BYTES_MAX {
            Err(TooLarge { bytes: bytes.len() })
        } else {
            Ok(bytes)
        }
    }

    /// Tells whether nobody ever asked for the resource, so that there is nothing to store.
    pub(crate) fn is_untouched(&self) -> bool {
        self.next_token == 1 && self.queue.arrivals() == 0
    }

    /// What the member holds.
    pub(crate) fn holder(&self, member: &MemberId) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.party.member == *member)
    }

    pub(crate) fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// The mode for which the member waits, and how urgently.
    pub(crate) fn pending(&self, member: &MemberId) -> Option<(Mode, Priority)> {
        let waiting = self.queue.waiting().into_iter();
        waiting
            .filter(|waiting| waiting.waiters.iter().any(|party| party.member == *member))
            .map(|waiting| (waiting.mode, waiting.priority))
            .next()
    }

    /// Everybody who waits, in the order in which they go, with mode and priority.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&Party, Mode, Priority)> {
        self.queue.waiting().into_iter().flat_map(|waiting| {
            let (mode, priority) = (waiting.mode, waiting.priority);
            waiting.waiters.into_iter().map(move |party| (party, mode, priority))
        })
    }

    /// Every other member that holds or waits: whose death would let this one go.
    pub(crate) fn others<'r>(
        &'r self,
        member: &'r MemberId,
    ) -> impl Iterator<Item = &'r MemberId> + 'r {
        let holding = self.holders.iter().map(|holder| &holder.party.member);
        let waiting = self.waiting().map(|(party, ..)| &party.member);
        holding.chain(waiting).filter(move |other| *other != member)
    }

    /// The next moment at which a hold ends by itself.
    pub(crate) fn first_end(&self) -> Option<Moment> {
        self.holders.iter().filter_map(|holder| holder.until).min()
    }

    /// Who ended without releasing the resource, if nobody was told yet.
    #[cfg(test)]
    pub(crate) fn abandoned(&self) -> Option<&Abandonment> {
        self.abandoned.as_ref()
    }

    /// What the front of the queue wants of this member, if the member stands in its way.
    pub(crate) fn recall(&self, member: &MemberId) -> Option<Recall> {
        let held = self.holder(member)?.mode;
        let waiting = self.queue.waiting();
        // Any conversion may go, whatever stands before it; while one waits, nobody else.
        let conversions = waiting.iter().take_while(|waiting| waiting.from.is_some()).count();
        let may_go = waiting.iter().take(conversions.max(1));
        let others = may_go.filter(|w| w.waiters.iter().all(|party| party.member != *member));
        let mut blocked = others.filter(|waiting| !waiting.mode.admits(held));
        blocked.next().map(|w| Recall { mode: w.mode, priority: w.priority, from: w.from })
    }

    /// Asks for the resource on behalf of the party, in `mode` beside what it holds; granted at once if nobody is overtaken.
    /// In place of an earlier request that still waits; one for the same mode takes over its place, with this party: what the
    /// member wants now, and for how long, is what it says last.
    ///
    /// # Errors
    /// [`Deadlock`] if the member holds the resource and it and another holder would each wait for the other to give way;
    /// an earlier request still waits then.
    pub(crate) fn ask(
        &mut self,
        party: Party,
        mode: Mode,
        priority: Priority,
        now: Moment,
    ) -> Result<(), Deadlock> {
        let held = self.holder(&party.member).map(|holder| holder.mode);
        let wanted = held.map_or(mode, |held| held.join(mode));
        if held == Some(wanted) {
            self.withdraw(&party.member, now);
            return Ok(());
        }
        let earlier = self.ticket(&party.member);
        if let Some(ticket) = earlier
            && self.pending(&party.member).is_some_and(|(pending, _)| pending == wanted)
        {
            let member = party.member.clone();
            self.queue.replace(ticket, party);
            self.set_priority(&member, priority, now);
            return Ok(());
        }
        if held.is_some_and(|held| self.queue.deadlocks_without(earlier, held, wanted)) {
            return Err(Deadlock);
        }
        if let Some(earlier) = earlier {
            self.queue.cancel(earlier);
        }
        match held {
            None => drop(self.queue.push(wanted, priority, party)),
            Some(held) => drop(self.queue.push_conversion(held, wanted, priority, party)?),
        }
        self.settle(now);
        Ok(())
    }

    /// Withdraws what the member waits for, if anything.
    pub(crate) fn withdraw(&mut self, member: &MemberId, now: Moment) {
        if let Some(ticket) = self.ticket(member) {
            self.queue.cancel(ticket);
            self.settle(now);
        }
    }

    /// Changes how urgently the member waits.
    pub(crate) fn set_priority(&mut self, member: &MemberId, priority: Priority, now: Moment) {
        if let Some(ticket) = self.ticket(member) {
            self.queue.set_priority(ticket, priority);
            self.settle(now);
        }
    }

    /// Keeps of the member's hold what `mode` permits, or nothing. A conversion that waits is withdrawn, unless all is kept.
    ///
    /// # Panics
    /// If what is held does not cover `mode`.
    pub(crate) fn lower(&mut self, member: &MemberId, mode: Option<Mode>, now: Moment) {
        let Some(at) = self.holders.iter().position(|h| h.party.member == *member) else { return };
        let held = self.holders[at].mode;
        if mode == Some(held) {
            return;
        }
        if let Some(ticket) = self.ticket(member) {
            self.queue.cancel(ticket);
        }
        match mode {
            None => drop(self.holders.remove(at)),
            Some(mode) => {
                // Written down, what two cannot hold would keep everybody from it.
                assert!(held.covers(mode), "{held} does not cover {mode}");
                self.holders[at].mode = mode;
            }
        }
        if (held, mode) == (Mode::Exclusive, Some(Mode::Shared)) {
            // The shared group of the front priority goes along, as everywhere.
            self.grant(now, Queue::next_shared);
        }
        self.settle(now);
    }

    /// Has the member's hold of this token end at `until`, sooner or later than it would have; false if it is held no more.
    pub(crate) fn set_end(&mut self, member: &MemberId, token: u64, until: Moment) -> bool {
        let own = |holder: &&mut Holder| holder.party.member == *member && holder.token == token;
        let holder = self.holders.iter_mut().find(own);
        holder.map(|holder| holder.until = Some(until)).is_some()
    }

    /// Gives the member new tokens, when those of its grant are used up.
    pub(crate) fn renumber(&mut self, member: &MemberId) {
        let token = self.next_token;
        if let Some(holder) = self.holders.iter_mut().find(|h| h.party.member == *member) {
            holder.token = token;
            self.next_token += TOKENS_PER_GRANT;
        }
    }

    /// Marks the resource as left behind by a party that still releases it: its owner panicked.
    pub(crate) fn abandon(&mut self, party: Party, now: Moment) {
        if let Some(&Holder { token, since, .. }) = self.holder(&party.member) {
            self.abandoned = Some(Abandonment { party, token, since, at: now });
        }
    }

    /// Has the next exclusive holder told what the member, which holds the resource, was told and made nothing of.
    pub(crate) fn pass_on(&mut self, member: &MemberId, abandonment: Abandonment) {
        if self.holder(member).is_some() {
            self.abandoned = Some(abandonment);
        }
    }

    /// Ends all that a dead member holds and waits for.
    pub(crate) fn bury(&mut self, member: &MemberId, now: Moment) {
        if let Some(ticket) = self.ticket(member) {
            self.queue.cancel(ticket);
        }
        self.end(now, |holder| holder.party.member == *member);
        self.settle(now);
    }

    /// Ends what a member holds, against its will.
    pub(crate) fn dispossess(&mut self, member: &MemberId, now: Moment) {
        self.end(now, |holder| holder.party.member == *member);
        self.settle(now);
    }

    /// Ends the holds whose time is up; tells whether there were any.
    pub(crate) fn expire(&mut self, now: Moment) -> bool {
        let before = self.holders.len();
        self.end(now, |holder| holder.until.is_some_and(|until| until <= now));
        let expired = self.holders.len() < before;
        if expired {
            self.settle(now);
        }
        expired
    }

    /// Ends these holds without a release.
    fn end(&mut self, now: Moment, ends: impl Fn(&Holder) -> bool) {
        let (ended, kept): (Vec<_>, Vec<_>) = self.holders.drain(..).partition(ends);
        self.holders = kept;
        for Holder { party, mode, token, since, .. } in ended {
            if let Some(ticket) = self.ticket(&party.member) {
                // It waited to convert what it has no more.
                self.queue.cancel(ticket);
            }
            if mode == Mode::Exclusive {
                self.abandoned = Some(Abandonment { party, token, since, at: now });
            }
        }
    }

    /// Grants from the front of the queue until the front has to wait.
    fn settle(&mut self, now: Moment) {
        while self.grant(now, Queue::next) {}
        debug_assert_eq!(self.check(), Ok(()));
    }

    fn grant(
        &mut self,
        now: Moment,
        next: impl Fn(&Queue<Party>, Held) -> Option<super::queue::Pick>,
    ) -> bool {
        let Some(pick) = next(&self.queue, self.held()) else { return false };
        let mode = pick.mode(&self.queue);
        for (_, party) in self.queue.take(pick) {
            self.hold(party, mode, now);
        }
        true
    }

    fn hold(&mut self, party: Party, mode: Mode, now: Moment) {
        let token = self.next_token;
        self.next_token += TOKENS_PER_GRANT;
        self.holders.retain(|holder| holder.party.member != party.member);
        let until = party.lifetime_ms.map(|ms| now.plus_ms(ms));
        let previous = if mode == Mode::Exclusive { self.abandoned.take() } else { None };
        self.holders.push(Holder { party, mode, token, since: now, until, previous });
    }

    fn held(&self) -> Held {
        self.holders.iter().fold(Held::FREE, |held, holder| held.with(holder.mode, 1))
    }

    fn ticket(&self, member: &MemberId) -> Option<Ticket> {
        self.queue.find(|party| party.member == *member)
    }

    /// Says which of the invariants of a state at rest does not hold.
    fn check(&self) -> Result<(), Flaw> {
        let holding = self.check_holders()?;
        let mut seen = BTreeSet::new();
        for waiting in self.queue.waiting() {
            for party in &waiting.waiters {
                let holds = holding.get(&party.member).copied();
                if !seen.insert(&party.member) || holds != waiting.from {
                    return Err("a member that waits twice, or to convert what it does not hold");
                }
            }
        }
        match self.queue.next(self.held()) {
            Some(_) => Err("somebody waits who could go"),
            None => Ok(()),
        }
    }

    /// Returns who holds in which mode.
    fn check_holders(&self) -> Result<BTreeMap<&MemberId, Mode>, Flaw> {
        let (mut holding, mut held) = (BTreeMap::new(), Held::FREE);
        for Holder { party, mode, .. } in &self.holders {
            if holding.insert(&party.member, *mode).is_some() || !held.admits(*mode, 1) {
                return Err("holders that cannot hold at a time");
            }
            held = held.with(*mode, 1);
        }
        self.check_tokens().map(|()| holding)
    }

    fn check_tokens(&self) -> Result<(), Flaw> {
        // A grant's tokens are its own, and nobody has one that is still to be given.
        let mut free = self.next_token;
        let mut tokens: Vec<u64> = self.holders.iter().map(|holder| holder.token).collect();
        tokens.sort_unstable();
        for token in tokens.into_iter().rev() {
            match free.checked_sub(TOKENS_PER_GRANT) {
                Some(last) if (1..=last).contains(&token) => free = token,
                _ => return Err("tokens that were never given, or twice"),
            }
        }
        let previous = self.holders.iter().filter_map(|holder| holder.previous.as_ref());
        let mut told = self.abandoned.iter().chain(previous);
        if told.any(|abandonment| !(1..self.next_token).contains(&abandonment.token)) {
            return Err("an end of what was never granted");
        }
        Ok(())
    }
}

/// Tells whether it is of another format than the one known, whatever else it has.
pub(crate) fn other_format(bytes: &[u8], known: u32) -> Option<Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_slice(bytes).ok()?;
    (head.format != known).then_some(Unreadable::Format(head.format))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
#[cfg(test)]
mod tests;
