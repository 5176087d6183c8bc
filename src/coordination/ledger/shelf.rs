//! Where a registry is kept: one record for all of it, and its counter once more.
//!
//! Every change is one swap of the record. Whatever counts further raises the second copy of the counter first, so whenever
//! the process dies between the two, the copy is ahead: ids may be skipped if the record is lost then, and none is given
//! twice. The record alone is created first: a counter without a record tells that the record was lost, not that it is to come.

use std::sync::Arc;

use parking_lot::Mutex;

use super::counter::Counter;
use super::registry::{Refusal, Registry};
use crate::clock;
use crate::coordination::coordinator::Coordinator;
use crate::coordination::driver::{BadKey, Key};
use crate::core::ids::Ids;
use crate::core::member::MemberId;
use crate::core::print::Printable;
use crate::core::record::{TooLarge, Unreadable};
use crate::error::{CoordinationError, LedgerError};

/// What this process knows of its session in a registry, whatever becomes of what is stored.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Since when, if it has one.
    pub(super) since_s: Option<u64>,
    ids: Ids,
    /// The next id that was never given, when it last looked.
    next: u64,
}

impl Own {
    /// The session is over: it holds nothing, and still knows how far the registry was counted.
    pub(super) fn end(&mut self) {
        (self.since_s, self.ids) = (None, Ids::default());
    }
}

/// What to do if there is no registry that can be read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Otherwise {
    /// Make it of its counter if it is absent.
    Recount,
    /// The same, and begin to count here if the counter is lost, too.
    Begin(u64),
    /// The same, also in place of a record that cannot be understood.
    Replace(u64),
}

pub(super) struct Shelf {
    pub(super) coordinator: Coordinator,
    pub(super) name: Arc<str>,
    registry: Key,
    counter: Key,
}

/// Whether the session has to be in the registry, with all that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attendance {
    /// If it has begun.
    Due,
    /// It is about to end.
    Waived,
}

/// A registry as it was read, or made of what was left of it.
struct Found {
    registry: Registry,
    /// How far the second copy of the counter was raised for certain.
    covered: u64,
    /// It is not what is stored.
    restored: bool,
}

enum Attempt<R> {
    Done {
        registry: Registry,
        result: R,
    },
    /// What was lost is stored again, and nothing else was done yet.
    Restored,
    /// The second copy of the counter has to be raised first.
    Count {
        next: u64,
        members: Vec<MemberId>,
    },
}

/// How to change the registry.
pub(super) struct Change<'c, R> {
    pub(super) otherwise: Otherwise,
    pub(super) attendance: Attendance,
    pub(super) step: &'c mut dyn FnMut(&mut Registry) -> Result<R, LedgerError>,
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
        self.coordinator.seat().known(&self.registry)
    }

    pub(super) fn me(&self) -> &MemberId {
        self.coordinator.member()
    }

    /// Changes the registry by one swap, and keeps in mind what this session holds by then.
    pub(super) fn change<R>(
        &self,
        own: &mut Own,
        mut change: Change<'_, R>,
    ) -> Result<R, LedgerError> {
        let mut covered = 0;
        loop {
            match self.attempt(own, covered, &mut change)? {
                Attempt::Restored => {}
                Attempt::Count { next, members } => covered = self.raise(own, next, &members)?,
                Attempt::Done { registry, result } => {
                    own.next = own.next.max(registry.next());
                    own.ids = registry.ids_of(self.me()).cloned().unwrap_or_default();
                    return Ok(result);
                }
            }
        }
    }

    fn attempt<R>(
        &self,
        own: &Own,
        covered: u64,
        change: &mut Change<'_, R>,
    ) -> Result<Attempt<R>, LedgerError> {
        self.coordinator.seat().update(&self.registry, |content| {
            let outcome = self.transition(own, covered, content, change);
            Ok(outcome.map_or_else(|e| (None, Err(e)), |(content, attempt)| (content, Ok(attempt))))
        })?
    }

    /// What to store, and what that is a part of. What was lost is stored by a swap of its own: whatever counts on then
    /// begins where the lost one ended, however often it is attempted.
    fn transition<R>(
        &self,
        own: &Own,
        covered: u64,
        content: Option<&[u8]>,
        change: &mut Change<'_, R>,
    ) -> Result<(Option<Vec<u8>>, Attempt<R>), LedgerError> {
        let mut found = self.find(own, change.otherwise, content)?;
        if change.attendance == Attendance::Due {
            self.attend(own, &mut found)?;
        }
        let Found { mut registry, covered: known, restored } = found;
        let result = if restored { None } else { Some((change.step)(&mut registry)?) };
        if registry.next() > covered.max(known) {
            let (next, members) = (registry.next(), registry.members());
            return Ok((None, Attempt::Count { next, members }));
        }
        let content = registry.encode().map_err(|error| self.too_large(error))?;
        let done = |result| Attempt::Done { registry, result };
        Ok((Some(content), result.map_or(Attempt::Restored, done)))
    }

    /// The registry as it is now, for those who change nothing.
    pub(super) fn look(&self, own: &Own) -> Result<Registry, LedgerError> {
        let stored = self.coordinator.seat().read(&self.registry)?;
        let mut found = self.find(own, Otherwise::Recount, stored.content.as_deref())?;
        self.attend(own, &mut found)?;
        Ok(found.registry)
    }

    fn find(
        &self,
        own: &Own,
        otherwise: Otherwise,
        content: Option<&[u8]>,
    ) -> Result<Found, LedgerError> {
        match (content.map(Registry::decode), otherwise) {
            (Some(Ok(registry)), _) => {
                let covered = registry.next();
                Ok(Found { registry, covered, restored: false })
            }
            (Some(Err(Unreadable::Damaged(_))), Otherwise::Replace(_)) | (None, _) => {
                self.make(own, otherwise)
            }
            (Some(Err(unreadable)), _) => Err(self.unreadable(&self.registry, unreadable)),
        }
    }

    /// Makes a registry of what is left of it: its counter, who lives, and what this session knows of its own.
    fn make(&self, own: &Own, otherwise: Otherwise) -> Result<Found, LedgerError> {
        let registry = match (self.counted()?, otherwise) {
            (Ok(counter), _) => {
                let next = counter.next.max(own.next);
                let members = self.alive(counter.members)?;
                tracing::warn!(registry = %self.name, next, "registry lost, made anew of its counter");
                Registry::rebuilt(next, members, clock::wall_s())
            }
            (Err(_), Otherwise::Begin(next) | Otherwise::Replace(next)) => {
                Registry::new(next.max(own.next))
            }
            (Err(counter), Otherwise::Recount) => return Err(self.gone(&counter)),
        };
        // A registry comes before its counter: nothing is counted further by making it.
        Ok(Found { covered: registry.next(), registry, restored: true })
    }

    /// Those of the others who live.
    pub(super) fn alive(&self, members: Vec<MemberId>) -> Result<Vec<MemberId>, LedgerError> {
        let others = members.into_iter().filter(|member| member != self.me());
        let judged = others.map(|member| Ok((self.is_alive(&member)?, member)));
        let judged: Vec<_> = judged.collect::<Result<_, LedgerError>>()?;
        Ok(judged.into_iter().filter(|(alive, _)| *alive).map(|(_, member)| member).collect())
    }

    pub(super) fn is_alive(&self, member: &MemberId) -> Result<bool, LedgerError> {
        let alive = self.coordinator.seat().driver().is_alive(member);
        let failed =
            |error| self.coordinator.engine_error(&format!("asking whether {member} lives"), error);
        Ok(alive.map_err(failed)?)
    }
}

impl Shelf {
    /// Has this session, if it has begun, be in the registry with all that it holds, whatever is stored.
    fn attend(&self, own: &Own, found: &mut Found) -> Result<(), LedgerError> {
        let Some(since_s) = own.since_s else { return Ok(()) };
        let registry = &mut found.registry;
        registry.count_to(own.next);
        if registry.ids_of(self.me()).is_none() {
            // It is not there if others ended it because it is dead.
            self.coordinator.seat().check_with_engine()?;
            // Whatever it was replaced by may have been counted less far.
            registry.count_to(self.counted()?.map_or(0, |counter| counter.next));
            let attended = registry.attend(self.me(), since_s, &own.ids);
            attended.map_err(|refusal| self.refused(refusal))?;
            found.restored = true;
        }
        Ok(())
    }

    /// The second copy of the counter, or why there is none.
    fn counted(&self) -> Result<Result<Counter, String>, LedgerError> {
        let stored = self.coordinator.seat().read(&self.counter)?;
        self.read_counter(stored.content.as_deref())
    }

    fn read_counter(&self, content: Option<&[u8]>) -> Result<Result<Counter, String>, LedgerError> {
        match content.map(Counter::decode) {
            None => Ok(Err("absent".to_owned())),
            Some(Ok(counter)) => Ok(Ok(counter)),
            Some(Err(Unreadable::Damaged(flaw))) => Ok(Err(format!("damaged: {flaw}"))),
            Some(Err(newer)) => Err(self.unreadable(&self.counter, newer)),
        }
    }

    /// Raises the second copy of the counter, makes it if there is none, and returns how far it counts.
    pub(super) fn raise(
        &self,
        own: &Own,
        next: u64,
        members: &[MemberId],
    ) -> Result<u64, LedgerError> {
        self.coordinator.seat().update(&self.counter, |content| {
            let raised = self.read_counter(content).map(|counter| {
                let counter = counter.unwrap_or_else(|_| Counter::new(0, members.to_vec()));
                counter.raised(next.max(own.next), self.me())
            });
            Ok(raised.map_or_else(|e| (None, Err(e)), |c| (Some(c.encode()), Ok(c.next))))
        })?
    }

    /// Has the second copy of the counter forget members whose sessions are over.
    pub(super) fn forget(&self, gone: &[MemberId]) -> Result<(), LedgerError> {
        self.coordinator.seat().update(&self.counter, |content| {
            let counter = content.and_then(|bytes| Counter::decode(bytes).ok());
            Ok((counter.map(|counter| counter.without(gone).encode()), ()))
        })?;
        Ok(())
    }

    /// Says what is wrong with what is stored.
    pub(super) fn audit(&self, own: &Own) -> Result<(), LedgerError> {
        let stored = self.coordinator.seat().read(&self.registry)?;
        // Read after the registry, it is not behind: it is raised before.
        let counter = self.counted()?;
        let registry = match (stored.content, &counter) {
            (Some(bytes), _) => {
                Registry::decode(&bytes).map_err(|e| self.unreadable(&self.registry, e))?
            }
            (None, Err(counter)) => return Err(self.gone(counter)),
            (None, Ok(_)) => {
                return Err(self.damaged(&self.registry, "it is absent, and its counter is not"));
            }
        };
        let next = match counter {
            Ok(counter) => counter.next,
            Err(flaw) => return Err(self.damaged(&self.counter, &flaw)),
        };
        if next < registry.next() {
            let behind =
                format!("it says {next}, and the registry was counted to {}", registry.next());
            return Err(self.damaged(&self.counter, &behind));
        }
        let stored = registry.session(self.me()).map(|session| session.bars(&own.ids));
        let missing = own.ids.difference(&stored.unwrap_or_default());
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.damaged(
            &self.registry,
            &format!("this session holds {missing}, and it does not say so"),
        ))
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

    fn gone(&self, counter: &str) -> LedgerError {
        let (registry, at) = (Arc::clone(&self.name), self.at());
        LedgerError::Gone { registry, at, counter: counter.into() }
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
