//! A lock as it is held, and as it is waited for.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::core::mode::Mode;
use crate::core::queue::Ticket;
use crate::listeners::Listeners;
use crate::owner::{LockId, Owner, Slot};
use crate::raw::{self, Outcome};
use crate::striped::{Counted, Stripe};

/// Somebody in the queue of a lock.
pub(crate) trait Waiter: fmt::Debug + Send + Sync {
    fn owner(&self) -> &Owner;

    /// When it began to wait.
    fn since(&self) -> Instant;

    /// Hears that the lock was decided, and goes on to the next; what follows from that is added to `decisions`. Returns whom
    /// to tell that it is all decided now.
    fn on_decided(
        self: Arc<Self>,
        ticket: Ticket,
        outcome: Outcome,
        decisions: &mut Decisions,
    ) -> Option<Box<Listeners>>;

    /// Ends the wait, because of something outside; too late, it changes nothing. To be called with no mutex held.
    #[cfg(feature = "coordination")]
    fn refuse(&self, why: Refused);
}

/// Why somebody who waits is refused by what lies outside the process.
#[cfg(feature = "coordination")]
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// It and another holder would each wait for the other to give way.
    Deadlock,
    By(crate::error::Outside),
}

impl Counted for Arc<dyn Waiter> {
    fn stripe(&self) -> Stripe {
        self.owner().stripe()
    }
}

/// A lock that anybody can wait for.
pub(crate) type Lock = raw::Lock<Arc<dyn Waiter>>;

/// What a transition of a lock decided about waiters; to be given to [`dispatch`].
pub(crate) type Decisions = Vec<raw::Decided<Arc<dyn Waiter>>>;

/// Tells waiters what was decided about them, until nothing more follows from it. To be called with no mutex held.
///
/// Listeners come last: what they do then, which may be anything, finds every waiter where it belongs.
#[inline]
pub(crate) fn dispatch(decisions: Decisions) {
    if !decisions.is_empty() {
        deliver(decisions);
    }
}

#[cold]
fn deliver(decisions: Decisions) {
    let mut todo = VecDeque::from(decisions);
    let (mut more, mut listening) = (Vec::new(), Vec::new());
    while let Some(decided) = todo.pop_front() {
        listening.extend(decided.waiter.on_decided(decided.ticket, decided.outcome, &mut more));
        todo.extend(more.drain(..));
    }
    listening.into_iter().for_each(|listeners: Box<Listeners>| listeners.tell());
}

/// Gives back a lock by itself that stands in no slot.
#[inline(always)]
pub(crate) fn release(lock: &Lock, mode: Mode) {
    if lock.leave(mode) {
        hand_over(lock);
    }
}

#[cold]
fn hand_over(lock: &Lock) {
    let mut decisions = Vec::new();
    lock.settle_queue(&mut decisions);
    dispatch(decisions);
}

/// A lock held.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) lock: Arc<Lock>,
    pub(crate) mode: Mode,
    pub(crate) slot: Slot,
}

impl Hold {
    /// Gives the lock back.
    pub(crate) fn release(self, owner: &Owner, decisions: &mut Decisions) {
        owner.clear(self.slot);
        self.lock.release(self.mode, owner.stripe(), decisions);
    }

    /// Goes on in a weaker mode.
    pub(crate) fn downgrade(&mut self, owner: &Owner, to: Mode, decisions: &mut Decisions) {
        if self.mode != to {
            owner.record_hold(self.slot, LockId::of(&self.lock), to);
            self.lock.downgrade(self.mode, to, owner.stripe(), decisions);
            self.mode = to;
        }
    }

    /// Goes on in a stronger mode if that needs no waiting.
    pub(crate) fn try_convert(&mut self, owner: &Owner, to: Mode) -> bool {
        let done = self.mode == to || self.lock.try_convert(self.mode, to, owner.stripe());
        if done {
            self.converted(owner, to);
        }
        done
    }

    pub(crate) fn converted(&mut self, owner: &Owner, to: Mode) {
        self.mode = to;
        owner.record_hold(self.slot, LockId::of(&self.lock), to);
    }

    /// Ends the hold by deleting the lock.
    pub(crate) fn delete(self, owner: &Owner, decisions: &mut Decisions) {
        owner.clear(self.slot);
        self.lock.delete(decisions);
    }
}
