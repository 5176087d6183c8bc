//! One lock: the word, the queue beside it, and the hand-off between them.
//!
//! A free or compatible lock is taken by one compare-exchange and given back by one subtraction. Once somebody waits, `QUEUED`
//! keeps newcomers out of the word, and every transition ends in [`settle`](Lock::settle) under the queue's mutex. Wakes nobody:
//! whom a transition lets go, or fails, is returned, to be told after the mutex is free.

mod gate;

use std::panic::RefUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::core::queue::{Deadlock, Pick, Priority, Queue, Ticket};
use crate::name::LockName;
use crate::striped::{Counted, Stripe, Stripes};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, fence_after_mark};
use crate::waits::Tally;

/// A named lock. `W` is what waits in its queue.
#[derive(Debug)]
pub(crate) struct Lock<W> {
    word: AtomicU64,
    /// There if everybody shares the lock: then owners who share it are counted there, and not in the word.
    stripes: Option<Box<Stripes>>,
    slow: Mutex<Slow<W>>,
    /// Where the waits for it are counted: with those for its set, or by itself from the first on.
    tally: OnceLock<Arc<Tally>>,
    name: LockName,
}

#[derive(Debug)]
struct Slow<W> {
    /// There only while it has something to say, so that a lock at rest is small.
    busy: Option<Box<Busy<W>>>,
    /// Requests that queued before this queue came to be: no ticket is given twice.
    arrivals: u64,
}

#[derive(Debug)]
struct Busy<W> {
    queue: Queue<W>,
    /// The owner that ended without releasing, while the word says `ABANDONED`.
    abandoned_by: Option<Arc<str>>,
    /// Told of every transition while somebody waits, and when nobody waits any more.
    observer: Option<W>,
}

/// No caller's code runs in the middle of a transition, so no panic of theirs is seen half way.
impl<W> RefUnwindSafe for Lock<W> {}

/// What a transition decided about a waiter.
#[derive(Debug)]
pub(crate) struct Decided<W> {
    pub(crate) ticket: Ticket,
    pub(crate) waiter: W,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Granted,
    Deleted,
    /// For an observer: something changed about who holds and who waits.
    Changed,
}

/// What became of an attempt that does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Taken,
    Blocked,
    Deleted,
}

/// What became of a request that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enqueued {
    Granted,
    Pending(Ticket),
    Deleted,
}

/// What became of a withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    Withdrawn,
    /// Too late: the lock is the waiter's.
    Granted,
    /// Too late: the lock is gone.
    Deleted,
}

impl<W: Counted> Lock<W> {
    pub(crate) fn new(name: LockName) -> Self {
        Self {
            word: AtomicU64::new(Held::FREE.bits()),
            stripes: None,
            slow: Mutex::new(Slow { busy: None, arrivals: 0 }),
            tally: OnceLock::new(),
            name,
        }
    }

    /// Counts those who share the lock apart from its word. Most often it is wanted in `usual`, or not at all.
    pub(crate) fn striped(self, usual: Mode) -> Self {
        let stripes = Stripes::new(usual);
        let word = AtomicU64::new(stripes.usual().bits());
        Self { word, stripes: Some(stripes), ..self }
    }

    /// Counts the waits for the lock together with others.
    pub(crate) fn counted_in(self, tally: &Arc<Tally>) -> Self {
        Self { tally: OnceLock::from(Arc::clone(tally)), ..self }
    }

    /// Where the waits for the lock are counted, if there were any.
    pub(crate) fn tally(&self) -> Option<&Arc<Tally>> {
        self.tally.get()
    }

    pub(crate) fn count_wait(&self, waited: Duration) {
        self.tally.get_or_init(|| Arc::new(Tally::new())).record(waited);
    }

    pub(crate) fn name(&self) -> &LockName {
        &self.name
    }

    /// Who holds it at this moment; those counted in stripes, one stripe after the other.
    pub(crate) fn held(&self) -> Held {
        let mut word = self.flags();
        let Some(stripes) = &self.stripes else { return word };
        loop {
            let held = word.closed().and(stripes.sum());
            // While the word stands still, those who come are compatible with each other.
            let now = self.flags();
            if now == word {
                return held;
            }
            word = now;
        }
    }

    /// What the word says, which is all there is where nobody is counted in stripes.
    #[inline]
    fn flags(&self) -> Held {
        Held::from_bits(self.word.load(Ordering::Acquire))
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.flags().is(Held::DELETED)
    }

    /// Takes the lock, which is not counted in stripes, if that needs no waiting and overtakes nobody.
    #[inline]
    pub(crate) fn try_take(&self, mode: Mode, priority: Priority) -> Tried {
        debug_assert!(self.stripes.is_none(), "{} is counted in stripes", self.name);
        let mut held = Held::from_bits(self.word.load(Ordering::Relaxed));
        while held.admits_newcomer(mode) {
            match self.exchange(held, held.with(mode, 1)) {
                Ok(()) => return Tried::Taken,
                Err(now) => held = now,
            }
        }
        self.refuse(held, mode, priority)
    }

    /// What becomes of a newcomer that the word does not admit.
    #[cold]
    fn refuse(&self, held: Held, mode: Mode, priority: Priority) -> Tried {
        if held.is(Held::DELETED) {
            Tried::Deleted
        } else if held.is(Held::QUEUED) && held.admits(mode, 1) {
            self.try_pass(mode, priority)
        } else {
            Tried::Blocked
        }
    }

    /// Goes past a queue that is less urgent, if what is held admits it.
    fn try_pass(&self, mode: Mode, priority: Priority) -> Tried {
        let slow = self.slow.lock();
        if slow.queue().is_some_and(|queue| !queue.yields_to(priority)) {
            return Tried::Blocked;
        }
        loop {
            let held = self.held();
            if held.is(Held::DELETED) {
                return Tried::Deleted;
            }
            if !held.admits(mode, 1) {
                return Tried::Blocked;
            }
            if self.exchange(held, held.with(mode, 1)).is_ok() {
                return Tried::Taken;
            }
        }
    }

    /// Asks for the lock, waiting in the queue if it must.
    pub(crate) fn enqueue(
        &self,
        mode: Mode,
        priority: Priority,
        waiter: W,
        decided: &mut Vec<Decided<W>>,
    ) -> Enqueued {
        let push = |queue: &mut Queue<W>| Ok(queue.push(mode, priority, waiter));
        match self.join_queue(push, decided) {
            Ok(enqueued) => enqueued,
            Err(Deadlock) => unreachable!("only conversions wait for one another"),
        }
    }

    /// Asks for a stronger mode of a lock held in `from`, waiting before everybody else if it must.
    ///
    /// # Errors
    /// [`Deadlock`] if it and another pending conversion would wait for each other.
    pub(crate) fn enqueue_conversion(
        &self,
        from: Mode,
        to: Mode,
        priority: Priority,
        waiter: W,
        decided: &mut Vec<Decided<W>>,
    ) -> Result<Enqueued, Deadlock> {
        self.join_queue(|queue| queue.push_conversion(from, to, priority, waiter), decided)
    }

    fn join_queue(
        &self,
        push: impl FnOnce(&mut Queue<W>) -> Result<Ticket, Deadlock>,
        decided: &mut Vec<Decided<W>>,
    ) -> Result<Enqueued, Deadlock> {
        let mut slow = self.slow.lock();
        if self.is_deleted() {
            return Ok(Enqueued::Deleted);
        }
        // From here on the fast path is closed, and whoever leaves by it comes to the mutex afterwards.
        self.word.fetch_or(Held::QUEUED.bits(), Ordering::AcqRel);
        if self.stripes.is_some() {
            // It must not be open when the queue is empty again, before somebody has looked who holds the lock then.
            self.word.fetch_and(!Held::OPEN.bits(), Ordering::AcqRel);
            fence_after_mark();
        }
        let result = push(&mut slow.busy().queue);
        let first = decided.len();
        self.settle(&mut slow, decided);
        let ticket = result?;
        let own = decided[first..].iter().position(|d| d.ticket == ticket);
        Ok(match own {
            Some(at) => {
                decided.remove(first + at);
                Enqueued::Granted
            }
            None => Enqueued::Pending(ticket),
        })
    }

    /// Gives back one hold in `mode`.
    #[inline]
    pub(crate) fn release(&self, mode: Mode, at: Stripe, decided: &mut Vec<Decided<W>>) {
        if self.leave_at(mode, at) {
            self.settle_queue(decided);
        }
    }

    /// Gives back one hold in `mode` of a lock not counted in stripes; tells whether somebody waits, and [`settle_queue`](Self::settle_queue) is due.
    #[inline]
    #[must_use]
    pub(crate) fn leave(&self, mode: Mode) -> bool {
        let before = Held::from_bits(self.word.fetch_sub(Held::unit(mode), Ordering::AcqRel));
        debug_assert!(self.stripes.is_none(), "{} is counted in stripes", self.name);
        debug_assert!(before.count(mode) > 0, "{} was not held {mode}", self.name);
        before.is(Held::QUEUED)
    }

    pub(crate) fn settle_queue(&self, decided: &mut Vec<Decided<W>>) {
        self.settle(&mut self.slow.lock(), decided);
    }

    /// Takes a stronger mode at once, if the other holders admit it.
    pub(crate) fn try_convert(&self, from: Mode, to: Mode, at: Stripe) -> bool {
        if let Some(stripes) = &self.stripes {
            return self.try_convert_behind_gate(stripes, from, to, at);
        }
        let mut held = self.held();
        loop {
            let others = held.without(from);
            if !others.admits(to, 1) {
                return false;
            }
            match self.exchange(held, others.with(to, 1)) {
                Ok(()) => return true,
                Err(now) => held = now,
            }
        }
    }

    /// Keeps the lock in a weaker mode.
    ///
    /// From exclusive to shared, the shared group of the front priority goes along, even past exclusive requests that came
    /// before it: they could not run beside this holder anyway.
    pub(crate) fn downgrade(
        &self,
        from: Mode,
        to: Mode,
        at: Stripe,
        decided: &mut Vec<Decided<W>>,
    ) {
        debug_assert!(from.covers(to), "{from} does not cover {to}");
        if let Some(stripes) = &self.stripes {
            return self.downgrade_behind_gate(stripes, (from, to), at, decided);
        }
        let change = Held::unit(to).wrapping_sub(Held::unit(from));
        let before = self.word.fetch_add(change, Ordering::AcqRel);
        if !Held::from_bits(before).is(Held::QUEUED) {
            return;
        }
        self.let_along(&mut self.slow.lock(), (from, to), decided);
    }

    /// Grants what goes along with a downgrade.
    fn let_along(
        &self,
        slow: &mut Slow<W>,
        downgraded: (Mode, Mode),
        decided: &mut Vec<Decided<W>>,
    ) {
        if downgraded == (Mode::Exclusive, Mode::Shared) {
            self.grant(slow, decided, Queue::next_shared);
        }
        self.settle(slow, decided);
    }

    /// Withdraws a request.
    pub(crate) fn cancel(&self, ticket: Ticket, decided: &mut Vec<Decided<W>>) -> Cancelled {
        let mut slow = self.slow.lock();
        let waiter = slow.queue_mut().and_then(|queue| queue.cancel(ticket));
        if waiter.is_some() {
            self.settle(&mut slow, decided);
            Cancelled::Withdrawn
        } else if self.is_deleted() {
            Cancelled::Deleted
        } else {
            Cancelled::Granted
        }
    }

    /// Changes the priority of a request, or returns false if it is decided already.
    pub(crate) fn set_priority(
        &self,
        ticket: Ticket,
        priority: Priority,
        decided: &mut Vec<Decided<W>>,
    ) -> bool {
        let mut slow = self.slow.lock();
        let waits = slow.queue_mut().is_some_and(|queue| queue.set_priority(ticket, priority));
        if waits {
            self.settle(&mut slow, decided);
        }
        waits
    }

    /// Deletes the lock, which the caller holds exclusively; that ends the hold.
    pub(crate) fn delete(&self, decided: &mut Vec<Decided<W>>) {
        let mut slow = self.slow.lock();
        self.word.store(Held::DELETED.bits(), Ordering::Release);
        if let Some(mut busy) = slow.busy.take() {
            decided.extend(busy.queue.drain().into_iter().map(|(ticket, waiter)| Decided {
                ticket,
                waiter,
                outcome: Outcome::Deleted,
            }));
            decided.extend(busy.observed());
        }
    }

    /// Records that `owner` ended while it held the lock exclusively; the caller still releases it.
    pub(crate) fn abandon(&self, owner: &Arc<str>) {
        let mut slow = self.slow.lock();
        slow.busy().abandoned_by = Some(Arc::clone(owner));
        self.word.fetch_or(Held::ABANDONED.bits(), Ordering::AcqRel);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.flags().is(Held::ABANDONED)
    }

    /// Who ended without releasing the lock, while nobody was told of it.
    pub(crate) fn abandoned_by(&self) -> Option<Arc<str>> {
        self.slow.lock().busy.as_ref()?.abandoned_by.clone()
    }

    /// Who ended without releasing the lock; told once, to the first exclusive holder that asks.
    #[inline]
    pub(crate) fn take_abandoned(&self) -> Option<Arc<str>> {
        if self.is_abandoned() { self.tell_abandoned() } else { None }
    }

    #[cold]
    fn tell_abandoned(&self) -> Option<Arc<str>> {
        let mut slow = self.slow.lock();
        self.word.fetch_and(!Held::ABANDONED.bits(), Ordering::AcqRel);
        let by = slow.busy.as_mut().and_then(|busy| busy.abandoned_by.take());
        slow.tidy();
        by
    }

    /// Has `observer` told of every transition while somebody waits, and when nobody does any more, as of a decision.
    #[cfg(feature = "coordination")]
    pub(crate) fn observe(&self, observer: W) {
        self.slow.lock().busy().observer = Some(observer);
    }

    /// Looks at what waits, while nothing can change.
    pub(crate) fn inspect<R>(&self, look: impl FnOnce(Held, Option<&Queue<W>>) -> R) -> R {
        let slow = self.slow.lock();
        look(self.held(), slow.queue())
    }

    /// Grants from the front of the queue until the front has to wait.
    fn settle(&self, slow: &mut Slow<W>, decided: &mut Vec<Decided<W>>) {
        while self.grant(slow, decided, Queue::next) {}
        if self.flags().is(Held::QUEUED) {
            decided.extend(slow.busy.as_ref().and_then(|busy| busy.observed()));
        }
        let empty = slow.queue().is_none_or(Queue::is_empty);
        if empty && !self.is_deleted() {
            self.word.fetch_and(!Held::QUEUED.bits(), Ordering::AcqRel);
            slow.tidy();
            self.open();
        }
    }

    /// Grants what `next` proposes, if anything. Holders may leave meanwhile, so the proposal is tried against the word.
    fn grant(
        &self,
        slow: &mut Slow<W>,
        decided: &mut Vec<Decided<W>>,
        next: impl Fn(&Queue<W>, Held) -> Option<Pick>,
    ) -> bool {
        let Some(queue) = slow.queue_mut() else { return false };
        let mut held = self.held();
        loop {
            let Some(pick) = next(queue, held) else { return false };
            if self.stripes.is_some() {
                self.grant_behind_gate(slow, pick, decided);
                return true;
            }
            match self.exchange(held, pick.after) {
                Ok(()) => {
                    decided.extend(granted(queue.take(pick)));
                    return true;
                }
                Err(now) => held = now,
            }
        }
    }

    #[inline]
    fn exchange(&self, from: Held, to: Held) -> Result<(), Held> {
        self.word
            .compare_exchange(from.bits(), to.bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Held::from_bits)
    }
}

fn granted<W>(taken: Vec<(Ticket, W)>) -> impl Iterator<Item = Decided<W>> {
    let outcome = Outcome::Granted;
    taken.into_iter().map(move |(ticket, waiter)| Decided { ticket, waiter, outcome })
}

impl<W> Slow<W> {
    fn queue(&self) -> Option<&Queue<W>> {
        self.busy.as_ref().map(|busy| &busy.queue)
    }

    fn queue_mut(&mut self) -> Option<&mut Queue<W>> {
        self.busy.as_mut().map(|busy| &mut busy.queue)
    }

    fn busy(&mut self) -> &mut Busy<W> {
        self.busy.get_or_insert_with(|| {
            Box::new(Busy { queue: Queue::new(self.arrivals), abandoned_by: None, observer: None })
        })
    }

    fn tidy(&mut self) {
        let idle = |busy: &mut Box<Busy<W>>| {
            busy.queue.is_empty() && busy.abandoned_by.is_none() && busy.observer.is_none()
        };
        if let Some(busy) = self.busy.take_if(idle) {
            self.arrivals = busy.queue.arrivals();
        }
    }
}

impl<W: Clone> Busy<W> {
    fn observed(&self) -> Option<Decided<W>> {
        let waiter = self.observer.clone()?;
        Some(Decided { ticket: Ticket::NOBODY, waiter, outcome: Outcome::Changed })
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
