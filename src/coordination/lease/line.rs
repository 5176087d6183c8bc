//! Asking for locks, and waiting for the first of several.

use std::collections::HashSet;
use std::convert::Infallible;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select};

use super::node::Named;
use crate::coordination::lock::{AcquireCluster, ClusterGuard};
use crate::coordination::resource::Resource;
use crate::core::record::Abandonment;
use crate::error::{AcquireError, CoordinationError, LeaseError};
use crate::owner::Owner;
use crate::pending::Pending;
use crate::shared_lock::{AcquireLock, Guard};

/// On what terms a lock is asked for.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) owner: Arc<str>,
    /// `None` for as long as the member lives.
    pub(super) lifetime_ms: Option<u64>,
}

/// A lock that was granted. If nothing is made of it, nobody ever knew: it is given back, and who is next hears what this one
/// would have.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) named: Arc<Named>,
    notice: Option<Notice>,
    /// Given back after the notice and before the gate.
    guard: ClusterGuard<'static>,
    _gate: Guard<'static>,
}

/// Who left the lock behind. Dropped, it is for the next holder to be told.
#[derive(Debug)]
struct Notice {
    told: Arc<str>,
    previous: Abandonment,
    resource: Arc<Resource>,
    is_taken: bool,
}

impl Drop for Notice {
    fn drop(&mut self) {
        if !self.is_taken {
            self.resource.lock().abandon(&self.told);
        }
    }
}

impl Claim {
    /// Tries once.
    pub(super) fn now(named: &Arc<Named>, terms: &Terms) -> Result<Option<Self>, LeaseError> {
        named.free_if_over();
        let owner = Owner::new(Arc::clone(&terms.owner));
        let Ok(gate) = named.gate.exclusive(&owner).into_owned().now() else { return Ok(None) };
        named.resource().set_lifetime(terms.lifetime_ms);
        match named.lock.exclusive(&owner).into_owned().now() {
            Ok(guard) => Ok(Some(Self::new(named, guard, gate))),
            Err(AcquireError::WouldBlock { .. }) => Ok(None),
            Err(error) => Err(refused(named, error)),
        }
    }

    fn new(named: &Arc<Named>, guard: ClusterGuard<'static>, gate: Guard<'static>) -> Self {
        let resource = named.resource();
        let notice = guard.abandoned().and_then(|abandoned| {
            let told = abandoned.owner;
            let previous = resource.previous(&told)?;
            Some(Notice { told, previous, resource: Arc::clone(resource), is_taken: false })
        });
        Self { named: Arc::clone(named), notice, guard, _gate: gate }
    }

    /// Who left the lock behind.
    pub(super) fn previous(&self) -> Option<&Abandonment> {
        self.notice.as_ref().map(|notice| &notice.previous)
    }

    /// Who left the lock behind, for whoever makes something of it.
    pub(super) fn take_notice(&mut self) -> Option<Abandonment> {
        let mut notice = self.notice.take()?;
        notice.is_taken = true;
        Some(notice.previous.clone())
    }

    pub(super) fn token(&self) -> Result<u64, LeaseError> {
        self.guard.token().map_err(|error| self.named.lost(error))
    }

    /// Gives the lock back, and says whether it was still held.
    pub(super) fn release(self) -> Result<bool, CoordinationError> {
        self.guard.release()
    }
}

fn refused(named: &Named, error: AcquireError) -> LeaseError {
    match error {
        // Granted, and over before this thread came to look.
        AcquireError::Coordination { reason, .. }
            if matches!(*reason, CoordinationError::Broken { .. }) =>
        {
            named.lost(*reason)
        }
        error => error.into(),
    }
}

/// In line for one lock: first at the gate, then with the other members.
struct Attempt {
    named: Arc<Named>,
    owner: Owner,
    lifetime_ms: Option<u64>,
    stage: Stage,
}

enum Stage {
    AtGate(Pending<AcquireLock<'static>>),
    Inside(Pending<AcquireCluster<'static>>, Guard<'static>),
    Over,
}

impl Attempt {
    fn new(named: &Arc<Named>, terms: &Terms) -> Self {
        let owner = Owner::new(Arc::clone(&terms.owner));
        let stage = Stage::AtGate(named.gate.exclusive(&owner).into_owned().enqueue());
        Self { named: Arc::clone(named), owner, lifetime_ms: terms.lifetime_ms, stage }
    }

    /// Disconnects when it can go on.
    fn receiver(&self) -> &Receiver<Infallible> {
        match &self.stage {
            Stage::AtGate(pending) => pending.receiver(),
            Stage::Inside(pending, _) => pending.receiver(),
            Stage::Over => unreachable!("whatever is over left the line"),
        }
    }

    /// Goes on as far as it can.
    fn advance(&mut self) -> Result<Option<Claim>, LeaseError> {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::AtGate(pending) => {
                let gate = pending.wait()?;
                self.named.resource().set_lifetime(self.lifetime_ms);
                let request = self.named.lock.exclusive(&self.owner).into_owned();
                self.stage = Stage::Inside(request.enqueue(), gate);
                Ok(None)
            }
            Stage::Inside(pending, gate) => {
                let guard = pending.wait().map_err(|error| refused(&self.named, error))?;
                Ok(Some(Claim::new(&self.named, guard, gate)))
            }
            Stage::Over => Ok(None),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Stage::Inside(pending, gate) = mem::replace(&mut self.stage, Stage::Over) {
            drop(pending);
            // Nobody passes the gate before the coordinator has back what was granted, or was told that it is not wanted. If
            // it cannot be told, those elsewhere hold the lock here until it was.
            let _ = self.named.resource().settle(true);
            drop(gate);
        }
    }
}

/// In line for several locks at a time, of which one is wanted.
pub(super) struct Line {
    attempts: Vec<Attempt>,
    terms: Terms,
}

/// What came of waiting.
pub(super) enum Event {
    Had(Box<Claim>),
    /// There is a message for whoever waits.
    News,
    TimeIsUp,
}

impl Line {
    pub(super) fn new(terms: &Terms) -> Self {
        Self { attempts: Vec::new(), terms: terms.clone() }
    }

    /// Stands in line for these locks and no others.
    pub(super) fn stand_for(&mut self, locks: &[Arc<Named>]) {
        let wanted: HashSet<_> = locks.iter().map(Arc::as_ptr).collect();
        self.attempts.retain(|attempt| wanted.contains(&Arc::as_ptr(&attempt.named)));
        let stood: HashSet<_> =
            self.attempts.iter().map(|attempt| Arc::as_ptr(&attempt.named)).collect();
        let new = locks.iter().filter(|lock| !stood.contains(&Arc::as_ptr(lock)));
        self.attempts.extend(new.map(|lock| Attempt::new(lock, &self.terms)));
    }

    /// Waits for the first of them. Whoever is in line for one longer than others has it before them.
    pub(super) fn next(
        &mut self,
        news: &Receiver<()>,
        until: Option<Instant>,
    ) -> Result<Event, LeaseError> {
        loop {
            let Some(ready) = self.wait(news, until) else { return Ok(Event::TimeIsUp) };
            let Some(attempt) = self.attempts.get_mut(ready) else {
                let _ = news.try_recv();
                return Ok(Event::News);
            };
            if let Some(claim) = attempt.advance()? {
                self.attempts.swap_remove(ready);
                return Ok(Event::Had(Box::new(claim)));
            }
        }
    }

    /// Which of the attempts can go on; one more than there are stands for the news.
    fn wait(&self, news: &Receiver<()>, until: Option<Instant>) -> Option<usize> {
        let mut select = Select::new();
        for attempt in &self.attempts {
            select.recv(attempt.receiver());
        }
        select.recv(news);
        match until {
            None => Some(select.ready()),
            Some(until) => select.ready_deadline(until).ok(),
        }
    }
}
