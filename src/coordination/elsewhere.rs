//! Everybody else, as one more owner of a lock of this process.
//!
//! What other members hold of a resource, or may come to hold, is held here by an owner that stands for all of them. So the rules
//! of one lock, its queue among them, decide between the owners of this process and those elsewhere: what a coordinator
//! granted is what `Elsewhere` leaves to them, and to give it back is to take it as `Elsewhere`, in line like anybody.

use std::sync::Arc;
use std::task::Waker;

use super::stake::Stake;
use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::core::queue::{Deadlock, Priority, Queue};
use crate::error::Outside;
use crate::hold::{Lock, Refused, Waiter};
use crate::owner::Owner;
use crate::task::{Reason, Refusal};

/// What everybody else holds of a lock of this process.
#[derive(Debug)]
pub(super) struct Elsewhere(Stake);

/// The owners of this process, at one lock.
#[derive(Debug)]
pub(super) struct Here {
    /// What covers all they hold.
    pub(super) held: Option<Mode>,
    /// All they hold.
    word: Held,
    /// Who of them goes first of those who wait.
    pub(super) head: Option<Head>,
}

/// The first in line.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) mode: Mode,
    pub(super) priority: Priority,
    pub(super) owner: Arc<str>,
    /// Whether only those elsewhere stand in its way.
    pub(super) fits: bool,
    /// The mode in which it holds the lock already, if it does.
    pub(super) from: Option<Mode>,
}

impl Here {
    /// Tells whether only those elsewhere stand in the way of an owner of this process, who holds the lock `from` already.
    pub(super) fn fits(&self, mode: Mode, from: Option<Mode>) -> bool {
        let own = from.filter(|from| self.word.count(*from) > 0);
        own.map_or(self.word, |own| self.word.without(own)).admits(mode, 1)
    }
}

impl Elsewhere {
    /// Takes a lock that nobody uses yet, so that it can be had only by way of a coordinator.
    pub(super) fn new(lock: &Arc<Lock>, name: Arc<str>) -> Self {
        let mut elsewhere = Self(Stake::new(lock, name));
        let taken = elsewhere.raise(Some(Mode::Exclusive));
        debug_assert!(taken, "{} was in use", lock.name());
        elsewhere
    }

    /// The owner that stands for them.
    pub(super) fn owner(&self) -> &Owner {
        self.0.owner()
    }

    /// What it leaves to the owners of this process.
    pub(super) fn leaves(&self) -> Option<Mode> {
        Mode::beside(self.mode())
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.0.mode()
    }

    /// Looks at what the owners of this process have and want.
    pub(super) fn look(&self) -> Here {
        self.0.lock().inspect(|held, queue| {
            let waiting = queue.map(Queue::waiting).unwrap_or_default();
            let mut waiters = waiting.iter().flat_map(|waiting| &waiting.waiters);
            let waits = waiters.any(|waiter| waiter.owner() == self.owner());
            // What it claimed and was granted counts already, though it was not collected yet.
            let own = self.0.claimed().filter(|_| !waits).or(self.mode());
            let held = own.filter(|own| held.count(*own) > 0).map_or(held, |own| held.without(own));
            let head = waiting.into_iter().find_map(|waiting| {
                let waiter =
                    waiting.waiters.iter().find(|waiter| waiter.owner() != self.owner())?;
                let others = waiting.from.map_or(held, |from| held.without(from));
                Some(Head {
                    mode: waiting.mode,
                    priority: waiting.priority,
                    owner: Arc::clone(waiter.owner().name_arc()),
                    fits: others.admits(waiting.mode, 1),
                    from: waiting.from,
                })
            });
            let modes = Mode::ALL.into_iter().filter(|mode| held.count(*mode) > 0);
            Here { held: modes.reduce(Mode::join), word: held, head }
        })
    }

    /// Holds more, if the owners of this process leave it at once.
    pub(super) fn raise(&mut self, to: Option<Mode>) -> bool {
        match to {
            None => self.mode().is_none(),
            Some(to) => self.0.raise(to),
        }
    }

    /// Holds less, which may let owners of this process go.
    pub(super) fn lower(&mut self, to: Option<Mode>) {
        self.0.lower(to);
    }

    /// Stands in line to hold `mode` beside what it holds, on behalf of a member elsewhere; `waker` hears when it has it.
    ///
    /// # Errors
    /// [`Deadlock`] with a conversion of an owner of this process, as if those elsewhere were one: it goes first, unless it is to be
    /// [refused](Self::refuse_opposed).
    pub(super) fn claim(
        &mut self,
        mode: Mode,
        priority: Priority,
        waker: &Waker,
    ) -> Result<(), Deadlock> {
        self.0.claim(mode, priority, waker).or_else(|refusal| deadlock(&refusal))
    }

    /// Stands in line no more, unless it is for this.
    pub(super) fn drop_other_claim(&mut self, mode: Mode) {
        self.0.drop_other_claim(mode);
    }

    /// Takes what a claim came to, if it is decided.
    pub(super) fn collect(&mut self) {
        // The lock was deleted, which ends everything: a claim that deadlocks is refused when it is made.
        let _ = self.0.collect();
    }

    /// Stands in line no more, and holds what it held.
    pub(super) fn drop_claim(&mut self) {
        self.0.drop_claim();
    }

    /// Refuses all owners of this process that wait.
    pub(super) fn refuse(&self, why: &Outside) {
        self.refuse_those(&Refused::By(why.clone()), |_, _| true);
    }

    /// Refuses owners of this process that wait to convert between these modes.
    pub(super) fn refuse_conversion(&self, from: Mode, to: Mode) {
        self.refuse_those(&Refused::Deadlock, |own, wanted| (own, wanted) == (Some(from), to));
    }

    /// Refuses conversions of owners of this process that would wait for one elsewhere, between these modes, which waits for them.
    pub(super) fn refuse_opposed(&self, from: Mode, to: Mode) {
        self.refuse_those(&Refused::Deadlock, |own, wanted| {
            own.is_some_and(|own| !to.admits(own) && !wanted.admits(from))
        });
    }

    fn refuse_those(&self, why: &Refused, concerned: impl Fn(Option<Mode>, Mode) -> bool) {
        let waiters: Vec<Arc<dyn Waiter>> = self.0.lock().inspect(|_, queue| {
            let waiting = queue.map(Queue::waiting).unwrap_or_default();
            let waiting = waiting.into_iter().filter(|w| concerned(w.from, w.mode));
            let all = waiting.flat_map(|waiting| waiting.waiters);
            all.filter(|waiter| waiter.owner() != self.owner()).cloned().collect()
        });
        waiters.into_iter().for_each(|waiter| waiter.refuse(why.clone()));
    }
}

fn deadlock(refusal: &Refusal) -> Result<(), Deadlock> {
    match refusal.reason {
        Reason::Deadlock(..) => Err(Deadlock),
        // The lock was deleted, which ends everything.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::LockName;
    use crate::shared_lock::SharedLock;

    fn lock() -> (SharedLock, Elsewhere) {
        let lock = Arc::new(Lock::new(LockName::alone("config".into())));
        let elsewhere = Elsewhere::new(&lock, "elsewhere".into());
        (SharedLock::of(lock), elsewhere)
    }

    #[test]
    fn what_was_claimed_and_granted_is_not_the_owners_here_before_it_is_collected() {
        let ((lock, mut elsewhere), owner) = (lock(), Owner::new("owner"));
        elsewhere.lower(None);
        let guard = lock.exclusive(&owner).now().unwrap();
        elsewhere.claim(Mode::Exclusive, 0, Waker::noop()).unwrap();
        assert_eq!(elsewhere.look().held, Some(Mode::Exclusive), "it waits for the owner");
        drop(guard);
        assert_eq!(elsewhere.mode(), None, "nobody collected it");
        assert_eq!(elsewhere.look().held, None);
        assert!(elsewhere.raise(Mode::beside(None)), "and it is not asked for once more");
        assert_eq!(elsewhere.mode(), Some(Mode::Exclusive));
    }

    #[test]
    fn of_the_upgrades_that_wait_only_the_one_that_deadlocks_is_refused() {
        let (lock, mut elsewhere) = lock();
        let [first, second, third] = ["first", "second", "third"].map(Owner::new);
        elsewhere.lower(Some(Mode::IntentShared));
        let mut opposed = lock.acquire(&first, Mode::IntentShared).now().unwrap();
        let mut patient = lock.acquire(&second, Mode::IntentExclusive).now().unwrap();
        let in_the_way = lock.acquire(&third, Mode::IntentExclusive).now().unwrap();
        let opposed = opposed.upgrade().enqueue();
        let patient = patient.upgrade_to(Mode::Shared).enqueue();
        let claimed = elsewhere.claim(Mode::Exclusive, 0, Waker::noop());
        assert_eq!(claimed, Err(Deadlock));
        elsewhere.refuse_opposed(Mode::IntentShared, Mode::Exclusive);
        assert!(opposed.is_decided());
        assert!(!patient.is_decided(), "only an owner here stands in its way");
        assert!(opposed.wait().unwrap_err().to_string().contains("deadlock"));
        drop(in_the_way);
        patient.wait().unwrap();
    }

    #[test]
    fn of_the_upgrades_that_wait_only_those_that_were_asked_for_are_refused() {
        let (lock, mut elsewhere) = lock();
        let [first, second] = ["first", "second"].map(Owner::new);
        elsewhere.lower(Some(Mode::IntentExclusive));
        let mut one = lock.acquire(&first, Mode::IntentShared).now().unwrap();
        let mut two = lock.acquire(&second, Mode::IntentShared).now().unwrap();
        let (one, two) = (one.upgrade_to(Mode::Shared).enqueue(), two.upgrade().enqueue());
        elsewhere.refuse_conversion(Mode::IntentShared, Mode::Shared);
        assert_eq!((one.is_decided(), two.is_decided()), (true, false));
    }
}
