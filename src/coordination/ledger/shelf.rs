//! Where a registry is kept: one record for all of it, and its counter once more.
//!
//! A change is three steps, each of one swap. What is stored is *restored*, if it is not what it has to be. The second copy of
//! the counter is *raised*, if ids are to be given that nobody had: so it is ahead whenever a process dies before the last
//! *step*, which changes the record; ids may be skipped then, and none is given twice. A registry that is made is
//! stored before its counter: a counter without a record tells that the record was lost, not that it is to come.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::counter::Counter;
use super::own::Own;
use super::registry::{Refusal, Registry};
use crate::clock;
use crate::coordination::coordinator::Coordinator;
use crate::coordination::driver::{BadKey, Key};
use crate::coordination::member::Member;
use crate::core::member::MemberId;
use crate::core::print::Printable;
use crate::core::record::{TooLarge, Unreadable};
use crate::error::{CoordinationError, LedgerError};

/// What to do if nothing tells how far the registry was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uncounted {
    /// Nothing.
    Fail,
    /// Begin to count here, unless anything tells that there was a registry.
    Begin(u64),
    /// Begin to count here. Also a record that cannot be understood is given up.
    Repair(u64),
}

pub(super) struct Shelf {
    pub(super) coordinator: Coordinator,
    pub(super) name: Arc<str>,
    registry: Key,
    counter: Key,
}

/// What one swap, or none, came to.
enum Attempt<R> {
    /// What was lost is stored again, and nothing else was done yet.
    Restored(Registry),
    /// The second copy of the counter has to be raised first, by these ids.
    Counts { ids: Range<u64>, members: Vec<MemberId> },
    /// The step is taken, and these members have no session any more.
    Done { result: R, registry: Registry, ended: Vec<MemberId> },
}

impl Shelf {
    pub(super) fn new(coordinator: &Coordinator, name: &str) -> Result<Self, BadKey> {
        Ok(Self {
            coordinator: coordinator.clone(),
            name: name.into(),
            registry: Key::of(["ledger", name, "registry"])?,
            counter: Key::of(["ledger", name, "counter"])?,
        })
    }

    /// What this process knows of its session: the same through every [`Ledger`](super::Ledger) of the member.
    pub(super) fn own(&self) -> Arc<Mutex<Own>> {
        self.seat().known(&self.registry)
    }

    pub(super) fn me(&self) -> &MemberId {
        self.coordinator.member()
    }

    fn seat(&self) -> &Arc<Member> {
        self.coordinator.seat()
    }

    /// Changes the registry as the step does, by one swap, after it was restored and its counter was raised as far as need be.
    pub(super) fn change<R>(
        &self,
        own: &mut Own,
        uncounted: Uncounted,
        mut step: impl FnMut(&mut Registry) -> Result<R, LedgerError>,
    ) -> Result<R, LedgerError> {
        let mut reserved = 0..0;
        loop {
            match self.attempt(own, uncounted, &reserved, &mut step)? {
                Attempt::Restored(registry) => {
                    own.learn(self.me(), &registry);
                    let next = registry.next();
                    self.raise(own, next..next, &registry.members())?;
                }
                Attempt::Counts { ids, members } => reserved = self.raise(own, ids, &members)?,
                Attempt::Done { result, registry, ended } => {
                    own.learn(self.me(), &registry);
                    self.forget(&ended);
                    return Ok(result);
                }
            }
        }
    }

    fn attempt<R>(
        &self,
        own: &mut Own,
        uncounted: Uncounted,
        reserved: &Range<u64>,
        step: &mut dyn FnMut(&mut Registry) -> Result<R, LedgerError>,
    ) -> Result<Attempt<R>, LedgerError> {
        self.seat().update(&self.registry, |content| {
            let outcome = self.transition(own, uncounted, reserved, content, step);
            Ok(outcome.map_or_else(|e| (None, Err(e)), |(content, attempt)| (content, Ok(attempt))))
        })?
    }

    /// What to store, and what that comes to. What was lost is stored by a swap of its own, so that whatever counts on then
    /// begins where the lost one ended, however often it is attempted.
    fn transition<R>(
        &self,
        own: &mut Own,
        uncounted: Uncounted,
        reserved: &Range<u64>,
        content: Option<&[u8]>,
        step: &mut dyn FnMut(&mut Registry) -> Result<R, LedgerError>,
    ) -> Result<(Option<Vec<u8>>, Attempt<R>), LedgerError> {
        let (mut registry, is_stored) = self.restore(own, uncounted, content)?;
        if !is_stored {
            return Ok((Some(self.ready(own, &registry)?), Attempt::Restored(registry)));
        }
        own.learn(self.me(), &registry);
        registry.count_to(reserved.start);
        let (base, before) = (registry.next(), registry.members());
        let result = step(&mut registry)?;
        let (next, members) = (registry.next(), registry.members());
        if next > base.max(reserved.end) {
            return Ok((None, Attempt::Counts { ids: base..next, members }));
        }
        let ended = before.into_iter().filter(|member| !members.contains(member)).collect();
        let content = self.ready(own, &registry)?;
        Ok((Some(content), Attempt::Done { result, registry, ended }))
    }

    /// The registry, ready to be stored.
    fn ready(&self, own: &mut Own, registry: &Registry) -> Result<Vec<u8>, LedgerError> {
        let content = registry.encode().map_err(|error| self.too_large(error))?;
        own.expect(self.me(), registry);
        Ok(content)
    }

    /// The registry as it is now, for those who change nothing.
    pub(super) fn look(&self, own: &Own) -> Result<Registry, LedgerError> {
        let stored = self.seat().read(&self.registry)?;
        let (registry, _) = self.restore(own, Uncounted::Fail, stored.content.as_deref())?;
        Ok(registry)
    }

    /// The registry, with this session and all that it holds if it has begun, and without it if it has not; and whether that is
    /// what is stored.
    fn restore(
        &self,
        own: &Own,
        uncounted: Uncounted,
        content: Option<&[u8]>,
    ) -> Result<(Registry, bool), LedgerError> {
        let (mut registry, found) = match content.map(Registry::decode) {
            Some(Ok(registry)) => match own.contradiction(self.me(), &registry) {
                None => (registry, true),
                Some(why) => (self.replace(own, uncounted, &registry, &why)?, false),
            },
            Some(Err(Unreadable::Damaged(why))) if matches!(uncounted, Uncounted::Repair(_)) => {
                (self.make(own, uncounted, 0, Vec::new(), &format!("damaged: {why}"))?, false)
            }
            Some(Err(unreadable)) => return Err(self.unreadable(&self.registry, unreadable)),
            None => (self.make(own, uncounted, 0, Vec::new(), "absent")?, false),
        };
        let changed = self.attend(own, &mut registry)?;
        Ok((registry, found && !changed))
    }

    /// Makes a registry in place of one that this process knows not to be the last one: whatever that says of others may be over.
    fn replace(
        &self,
        own: &Own,
        uncounted: Uncounted,
        stale: &Registry,
        why: &str,
    ) -> Result<Registry, LedgerError> {
        // It says nothing of this session if others ended it, because it is dead.
        self.seat().check_with_engine()?;
        stale.allows(self.me(), own.ids()).map_err(|refusal| self.refused(refusal))?;
        let why = format!("not what this process left: {why}");
        self.make(own, uncounted, stale.next(), stale.members(), &why)
    }

    /// Makes a registry of what is left of it: its counter, who lives, and what this process knows.
    fn make(
        &self,
        own: &Own,
        uncounted: Uncounted,
        next: u64,
        mut members: Vec<MemberId>,
        why: &str,
    ) -> Result<Registry, LedgerError> {
        let counted = match (self.counted()?, uncounted) {
            (Ok(counter), _) => {
                members.retain(|member| !counter.members.contains(member));
                members.extend(counter.members);
                counter.next
            }
            (Err(Flaw::Absent), Uncounted::Begin(minimum)) if !own.has_seen_it() => minimum,
            (Err(_), Uncounted::Repair(minimum)) => minimum,
            (Err(flaw), _) => return Err(self.gone(why, &flaw)),
        };
        let next = counted.max(next).max(own.next());
        if own.has_seen_it() || !members.is_empty() {
            tracing::warn!(registry = %Printable(&self.name), next, why = %Printable(why), "registry made anew");
        }
        Ok(Registry::rebuilt(next, self.alive(members)?, clock::wall_s()))
    }

    /// Has this session be in the registry with all that it holds if it has begun, and not be there if it has not; tells whether
    /// that is a change.
    fn attend(&self, own: &Own, registry: &mut Registry) -> Result<bool, LedgerError> {
        let Some(since_s) = own.since_s else { return Ok(registry.end(self.me()).is_some()) };
        if registry.ids_of(self.me()).is_some() {
            return Ok(false);
        }
        // It is not there if others ended it because it is dead.
        self.seat().check_with_engine()?;
        let attended = registry.attend(self.me(), since_s, own.ids());
        attended.map(|()| true).map_err(|refusal| self.refused(refusal))
    }

    /// Those of the others who live.
    pub(super) fn alive(&self, members: Vec<MemberId>) -> Result<Vec<MemberId>, LedgerError> {
        let others = members.into_iter().filter(|member| member != self.me());
        let judged = others.map(|member| Ok((self.is_alive(&member)?, member)));
        let judged: Vec<_> = judged.collect::<Result<_, LedgerError>>()?;
        Ok(judged.into_iter().filter(|(alive, _)| *alive).map(|(_, member)| member).collect())
    }

    pub(super) fn is_alive(&self, member: &MemberId) -> Result<bool, LedgerError> {
        let alive = self.seat().driver().is_alive(member);
        let failed =
            |error| self.coordinator.engine_error(&format!("asking whether {member} lives"), error);
        Ok(alive.map_err(failed)?)
    }
}

/// What is wrong with the second copy of the counter.
enum Flaw {
    Absent,
    Damaged(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Damaged(why) => write!(f, "damaged: {why}"),
        }
    }
}

impl Shelf {
    /// The second copy of the counter, or why there is none.
    fn counted(&self) -> Result<Result<Counter, Flaw>, LedgerError> {
        let stored = self.seat().read(&self.counter)?;
        self.read_counter(stored.content.as_deref())
    }

    fn read_counter(&self, content: Option<&[u8]>) -> Result<Result<Counter, Flaw>, LedgerError> {
        match content.map(Counter::decode) {
            None => Ok(Err(Flaw::Absent)),
            Some(Ok(counter)) => Ok(Ok(counter)),
            Some(Err(Unreadable::Damaged(why))) => Ok(Err(Flaw::Damaged(why))),
            Some(Err(newer)) => Err(self.unreadable(&self.counter, newer)),
        }
    }

    /// Raises the second copy of the counter by these ids, makes it if there is none, and lists this session there if it has
    /// begun. Returns the ids, which nobody else is given now; none, where it counts to, if it counts further than their first:
    /// others are about to have them, or have them and the record was put back from before.
    pub(super) fn raise(
        &self,
        own: &Own,
        ids: Range<u64>,
        members: &[MemberId],
    ) -> Result<Range<u64>, LedgerError> {
        let me = own.since_s.map(|_| self.me());
        self.seat().update(&self.counter, |content| {
            let raised = self.read_counter(content).map(|counter| {
                let counter = counter.unwrap_or_else(|_| Counter::new(0, members.to_vec()));
                let counted = counter.next;
                let reserved = if counted > ids.start { counted..counted } else { ids.clone() };
                (counter.raised(reserved.end, me), reserved)
            });
            Ok(raised.map_or_else(|e| (None, Err(e)), |(c, ids)| (Some(c.encode()), Ok(ids))))
        })?
    }

    /// Has the second copy of the counter forget members whose sessions are over. If it does not come to that, they are waited for
    /// when the record is lost, unless they are dead: no reason to fail what was done.
    pub(super) fn forget(&self, gone: &[MemberId]) {
        if gone.is_empty() {
            return;
        }
        let forgot = self.seat().update(&self.counter, |content| {
            let counter = content.and_then(|bytes| Counter::decode(bytes).ok());
            Ok((counter.map(|counter| counter.without(gone).encode()), ()))
        });
        if let Err(error) = forgot {
            tracing::warn!(%error, "cannot have the counter forget who is gone");
        }
    }

    /// Says what is wrong with what is stored.
    pub(super) fn audit(&self, own: &Own) -> Result<(), LedgerError> {
        let stored = self.seat().read(&self.registry)?;
        // Read after the registry, it is not behind: it is raised before.
        let counter = self.counted()?;
        let registry = match (stored.content, &counter) {
            (Some(bytes), _) => {
                Registry::decode(&bytes).map_err(|e| self.unreadable(&self.registry, e))?
            }
            (None, Err(flaw)) => return Err(self.gone("absent", flaw)),
            (None, Ok(_)) => {
                return Err(self.damaged(&self.registry, "it is absent, and its counter is not"));
            }
        };
        let next = counter.map_err(|flaw| self.damaged(&self.counter, &flaw.to_string()))?.next;
        if next < registry.next() {
            let behind =
                format!("it says {next}, and the registry was counted to {}", registry.next());
            return Err(self.damaged(&self.counter, &behind));
        }
        let Some(why) = own.contradiction(self.me(), &registry) else { return Ok(()) };
        self.seat().check_with_engine()?;
        Err(self.damaged(&self.registry, &why))
    }

    pub(super) fn refused(&self, refusal: Refusal) -> LedgerError {
        let (registry, at) = (Arc::clone(&self.name), self.at());
        match refusal {
            Refusal::OutOfIds(wanted) => LedgerError::OutOfIds { wanted, registry, at },
            Refusal::Taken { ids, by } => LedgerError::Taken { ids, by, registry, at },
        }
    }

    pub(super) fn not_started(&self) -> LedgerError {
        let (registry, at) = (Arc::clone(&self.name), self.at());
        LedgerError::NotStarted { member: self.me().clone(), registry, at }
    }

    fn gone(&self, record: &str, counter: &Flaw) -> LedgerError {
        let (registry, at) = (Arc::clone(&self.name), self.at());
        let lost = format!("{} is {record}, {} is {counter}", self.registry, self.counter).into();
        LedgerError::Gone { registry, at, lost }
    }

    fn damaged(&self, key: &Key, reason: &str) -> LedgerError {
        let (resource, at) = (key.as_str().into(), self.at());
        // It may quote what strangers wrote.
        let reason = Printable(reason).to_string().into();
        CoordinationError::Damaged { resource, at, reason }.into()
    }

    fn unreadable(&self, key: &Key, unreadable: Unreadable) -> LedgerError {
        match unreadable {
            Unreadable::Damaged(reason) => self.damaged(key, &reason),
            Unreadable::Format(format) => {
                let (resource, at) = (key.as_str().into(), self.at());
                CoordinationError::UnknownFormat { resource, at, format }.into()
            }
        }
    }

    fn too_large(&self, TooLarge { bytes }: TooLarge) -> LedgerError {
        let (resource, at) = (self.registry.as_str().into(), self.at());
        CoordinationError::TooLarge { resource, at, bytes }.into()
    }

    fn at(&self) -> Arc<str> {
        Arc::clone(self.coordinator.seat().at())
    }
}
