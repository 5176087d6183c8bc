//! Who would convert a hold of the local lock.
//!
//! Of two conversions that wait for each other one is refused. But whoever comes anew elsewhere, for whom `Elsewhere` converts
//! what it holds here, comes after any upgrade: as in one lock, where such a one converts nothing.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Resource;
use super::round::State;
use crate::core::mode::Mode;
use crate::core::queue::{Deadlock, Priority, Queue};
use crate::core::record::Recall;
use crate::hold::{Refused, Waiter};

#[derive(Default)]
pub(super) struct Rivals(Mutex<Standing>);

#[derive(Default)]
struct Standing {
    /// How many owners here upgrade, or are about to.
    upgrading: usize,
    /// Whether `Elsewhere` stands in line for one who came anew, if it does.
    newcomer: bool,
}

/// As long as this is kept, an owner here goes before whoever comes anew elsewhere.
#[derive(Debug)]
#[must_use = "newcomers elsewhere stand in line when it is dropped"]
pub(crate) struct Upgrading(Arc<Resource>);

/// A count, which no panic leaves half changed.
impl UnwindSafe for Upgrading {}
impl RefUnwindSafe for Upgrading {}

impl Drop for Upgrading {
    fn drop(&mut self) {
        self.0.rivals.0.lock().upgrading -= 1;
        self.0.ring();
    }
}

impl Resource {
    /// Has an owner here upgrade before whoever comes anew elsewhere. Does not go to the engine.
    pub(crate) fn hold_off(self: &Arc<Self>) -> Upgrading {
        let newcomer = {
            let mut standing = self.rivals.0.lock();
            standing.upgrading += 1;
            standing.newcomer
        };
        if newcomer {
            self.refuse_elsewhere();
        }
        Upgrading(Arc::clone(self))
    }

    /// Nothing comes of what `Elsewhere` stands in line for. It does so anew if that is still to be.
    fn refuse_elsewhere(&self) {
        let claim = self.lock.inspect(|_, queue| {
            let waiting = queue.map(Queue::waiting).unwrap_or_default();
            let mut waiters = waiting.into_iter().flat_map(|waiting| waiting.waiters);
            waiters.find(|waiter| waiter.owner() == self.bell.owner()).cloned()
        });
        if let Some(claim) = claim {
            claim.refuse(Refused::By(Box::new(self.broken())));
        }
    }

    /// Stands in line for whoever is in front elsewhere, unless that one comes after an upgrade here.
    ///
    /// # Errors
    /// A conversion of an owner here that waits.
    pub(super) fn claim_for(&self, state: &mut State, recall: Recall) -> Result<(), Deadlock> {
        // What lets others go comes before the mutex: under it, nobody is told.
        state.elsewhere.drop_other_claim(recall.mode);
        // Where it converts nothing, the queue has it go after upgrades by itself.
        let newcomer = recall.from.is_none() && state.elsewhere.mode().is_some();
        let mut standing = self.rivals.0.lock();
        if newcomer && standing.upgrading > 0 {
            return Ok(());
        }
        standing.newcomer = newcomer;
        state.elsewhere.claim(recall.mode, recall.priority, &self.waker())
    }

    /// Keeps everybody here from a lock that the member has no more.
    pub(super) fn claim_all(&self, state: &mut State) {
        self.rivals.0.lock().newcomer = false;
        let _ = state.elsewhere.claim(Mode::Exclusive, Priority::MIN, &self.waker());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::coordination::Coordinator;
    use crate::coordination::memory::Memory;
    use crate::owner::Owner;

    #[test]
    fn nobody_stands_in_line_for_a_newcomer_elsewhere_while_an_owner_is_about_to_upgrade() {
        let store = Memory::new();
        let [here, there] = ["here", "there"].map(|name| {
            let connect = Coordinator::over(Arc::new(store.clone())).min_hold(Duration::ZERO);
            connect.join(name).expect("nobody has the name").lock("config").expect("it is a name")
        });
        let owners = ["first", "second", "third"].map(Owner::new);
        let guard = here.shared(&owners[0]).wait().expect("it is free");
        let upgrading = here.resource().hold_off();
        let newcomer = there.exclusive(&owners[1]).enqueue();
        while here.waiters().expect("it can be read").is_empty() {
            std::thread::yield_now();
        }
        here.resource().settle(true).expect("it works");
        drop(here.shared(&owners[2]).now().expect("nobody stands in line here"));
        drop(upgrading);
        here.resource().settle(true).expect("it works");
        assert!(here.shared(&owners[2]).now().is_err(), "the newcomer stands in line");
        drop(guard);
        drop(newcomer.wait().expect("it is free"));
    }
}
