//! A lock counted in stripes: its gate, and what goes on behind it.
//!
//! The gate is opened and closed under the queue's mutex, but by an exclusive holder who leaves it to nobody: that one opens it
//! himself. Everything but coming by the open gate, and leaving, is done under that mutex, with the gate closed.

use super::{Decided, Lock, Slow, Tried};
use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::core::queue::{Pick, Priority};
use crate::striped::{Counted, Stripe, Stripes};
use crate::sync::atomic::Ordering;
use crate::sync::fence_after_mark;

impl<W: Counted> Lock<W> {
    /// As [`try_take`](Self::try_take), of a lock that may be counted in stripes.
    #[inline]
    pub(crate) fn try_take_at(
        &self,
        mode: Mode,
        priority: Priority,
        at: Stripe,
        decided: &mut Vec<Decided<W>>,
    ) -> Tried {
        match &self.stripes {
            None => self.try_take(mode, priority),
            Some(stripes) => self.try_by_gate(stripes, (mode, priority), at, decided),
        }
    }

    /// Apart, so that the loop over many locks that are not striped is short.
    #[inline(never)]
    fn try_by_gate(
        &self,
        stripes: &Stripes,
        (mode, priority): (Mode, Priority),
        at: Stripe,
        decided: &mut Vec<Decided<W>>,
    ) -> Tried {
        if self.pass_gate(stripes, mode, at) {
            return Tried::Taken;
        }
        self.try_behind_gate(stripes, (mode, priority), at, decided)
    }

    /// Counts a newcomer in its stripe, if the gate is open for it, and still is then.
    #[inline]
    fn pass_gate(&self, stripes: &Stripes, mode: Mode, at: Stripe) -> bool {
        if !self.flags().is_open_for(mode) {
            return false;
        }
        let before = stripes.add(at, mode);
        fence_after_mark();
        // By this look it also sees what exclusive holders before it did.
        if self.flags().is_open_for(mode) && before.stripe_has_room() {
            return true;
        }
        stripes.subtract(at, mode);
        false
    }

    #[cold]
    fn try_behind_gate(
        &self,
        stripes: &Stripes,
        (mode, priority): (Mode, Priority),
        at: Stripe,
        decided: &mut Vec<Decided<W>>,
    ) -> Tried {
        let mut slow = self.slow.lock();
        if slow.queue().is_some_and(|queue| !queue.is_empty()) {
            // Somebody may wait for nothing but a count that was taken back.
            self.settle(&mut slow, decided);
        }
        if self.is_deleted() {
            return Tried::Deleted;
        }
        let held = self.close(stripes);
        let first = slow.queue().is_none_or(|queue| queue.yields_to(priority));
        let taken = first && held.admits(mode, 1);
        if taken {
            self.shift(None, mode, at);
            stripes.set_usual(mode);
        }
        self.open();
        if taken { Tried::Taken } else { Tried::Blocked }
    }

    /// As [`leave`](Self::leave), of a lock that may be counted in stripes.
    #[inline]
    #[must_use]
    pub(crate) fn leave_at(&self, mode: Mode, at: Stripe) -> bool {
        match &self.stripes {
            None => self.leave(mode),
            Some(stripes) => self.leave_by_gate(stripes, mode, at),
        }
    }

    #[inline(never)]
    fn leave_by_gate(&self, stripes: &Stripes, mode: Mode, at: Stripe) -> bool {
        if !Stripes::count(mode) {
            return !self.leave_alone(stripes, mode);
        }
        stripes.subtract(at, mode);
        fence_after_mark();
        self.flags().is(Held::QUEUED)
    }

    /// Leaves a lock that nobody else waits for, and opens the gate behind; tells whether that was all there was to do.
    fn leave_alone(&self, stripes: &Stripes, mode: Mode) -> bool {
        let only = Held::FREE.with(Mode::Exclusive, 1);
        if mode == Mode::Exclusive && self.exchange(only, stripes.usual()).is_ok() {
            return true;
        }
        self.word.fetch_sub(Held::unit(mode), Ordering::AcqRel);
        false
    }

    /// Closes the gate and says who holds the lock. Some of them may leave meanwhile, or be about to take their count back; nobody
    /// comes. To be called under the mutex.
    pub(super) fn close(&self, stripes: &Stripes) -> Held {
        // Looked at once: an exclusive holder who opens the gate when it leaves still holds the lock for us, or is gone.
        let word = self.flags();
        if word.closed() != word {
            self.word.fetch_and(!Held::OPEN.bits(), Ordering::AcqRel);
            fence_after_mark();
        }
        word.closed().and(stripes.sum())
    }

    /// Opens the gate, if there is one, for whoever goes with those who hold the lock. To be called under the mutex.
    pub(super) fn open(&self) {
        let Some(stripes) = &self.stripes else { return };
        if let Some(gate) = self.close(stripes).gate(stripes.usual()) {
            self.word.fetch_or(gate.bits(), Ordering::AcqRel);
        }
    }

    /// Counts an owner, in place of a mode that it had. To be called under the mutex, with the gate closed.
    pub(super) fn shift(&self, from: Option<Mode>, to: Mode, at: Stripe) {
        let Some(stripes) = &self.stripes else { unreachable!("only there the gate is closed") };
        // Looked at once: who holds it alone may leave between two looks.
        let word = self.flags();
        debug_assert_eq!(word.closed(), word, "the gate is open");
        match from.filter(|mode| Stripes::count(*mode)) {
            Some(from) if Stripes::count(to) => return stripes.change(at, from, to),
            _ if Stripes::count(to) => drop(stripes.add(at, to)),
            _ => drop(self.word.fetch_add(Held::unit(to), Ordering::AcqRel)),
        }
        match from {
            Some(from) if Stripes::count(from) => stripes.subtract(at, from),
            Some(from) => drop(self.word.fetch_sub(Held::unit(from), Ordering::AcqRel)),
            None => {}
        }
    }

    /// As `try_convert`, of a lock counted in stripes.
    pub(super) fn try_convert_behind_gate(
        &self,
        stripes: &Stripes,
        from: Mode,
        to: Mode,
        at: Stripe,
    ) -> bool {
        let _slow = self.slow.lock();
        let admits = self.close(stripes).without(from).admits(to, 1);
        if admits {
            self.shift(Some(from), to, at);
            stripes.set_usual(to);
        }
        self.open();
        admits
    }

    /// As `downgrade`, of a lock counted in stripes.
    pub(super) fn downgrade_behind_gate(
        &self,
        stripes: &Stripes,
        (from, to): (Mode, Mode),
        at: Stripe,
        decided: &mut Vec<Decided<W>>,
    ) {
        let mut slow = self.slow.lock();
        self.close(stripes);
        self.shift(Some(from), to, at);
        stripes.set_usual(to);
        self.let_along(&mut slow, (from, to), decided);
    }

    /// Carries out what a queue proposed.
    pub(super) fn grant_behind_gate(
        &self,
        slow: &mut Slow<W>,
        pick: Pick,
        decided: &mut Vec<Decided<W>>,
    ) {
        let Some(queue) = slow.queue_mut() else { return };
        let (from, to) = pick.change;
        let taken = queue.take(pick);
        taken.iter().for_each(|(_, waiter)| self.shift(from, to, waiter.stripe()));
        decided.extend(super::granted(taken));
    }
}
