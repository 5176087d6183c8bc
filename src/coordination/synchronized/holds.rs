//! What the locks of one agent hold, by name: so that a lock which is broken lets go of what it had, whoever broke it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::coordination::{ClusterGuard, ClusterLock};
use crate::core::mode::Mode;
use crate::error::CoordinationError;
use crate::owner::Owner;

/// Holds by the name of what they hold. No guard is dropped while it is locked.
#[derive(Default)]
pub(super) struct Holds(Mutex<HashMap<Arc<str>, Vec<Hold>>>);

/// A lock that is held.
pub(super) struct Hold {
    /// As which the lock asks, and no other.
    pub(super) lock: Owner,
    /// Who acquired it.
    pub(super) by: Owner,
    pub(super) guard: ClusterGuard<'static>,
}

impl Hold {
    fn name(&self) -> &Arc<str> {
        self.guard.name().name_arc()
    }
}

impl Holds {
    /// Has those that hold this lock let go of it when it is broken.
    pub(super) fn watch(self: &Arc<Self>, lock: &ClusterLock) {
        let (holds, name) = (Arc::downgrade(self), Arc::clone(lock.name().name_arc()));
        lock.resource().on_broken(Box::new(move || {
            let broken = holds.upgrade().map(|holds| holds.take_broken(&name));
            drop(broken);
        }));
    }

    /// Keeps a hold.
    ///
    /// # Errors
    /// It was broken meanwhile, or is lost.
    pub(super) fn keep(&self, hold: Hold) -> Result<(), CoordinationError> {
        let mut holds = self.0.lock();
        // Looked at in here, so that whoever breaks it later finds it.
        let checked = hold.guard.check();
        if checked.is_ok() {
            holds.entry(Arc::clone(hold.name())).or_default().push(hold);
        } else {
            drop(holds);
            drop(hold);
        }
        checked
    }

    /// Takes the hold of a lock.
    pub(super) fn take(&self, name: &str, lock: &Owner) -> Option<ClusterGuard<'static>> {
        self.extract(name, |hold| hold.lock == *lock).pop().map(|hold| hold.guard)
    }

    fn take_broken(&self, name: &str) -> Vec<Hold> {
        self.extract(name, |hold| hold.guard.check().is_err())
    }

    fn extract(&self, name: &str, which: impl Fn(&Hold) -> bool) -> Vec<Hold> {
        let mut holds = self.0.lock();
        let Some(of_name) = holds.get_mut(name) else { return Vec::new() };
        let extracted = of_name.extract_if(.., |hold| which(hold)).collect();
        if of_name.is_empty() {
            holds.remove(name);
        }
        extracted
    }

    /// Lets go of everything.
    pub(super) fn clear(&self) {
        let holds = std::mem::take(&mut *self.0.lock());
        drop(holds);
    }

    /// Looks at what a lock holds.
    pub(super) fn look<R>(
        &self,
        name: &str,
        lock: &Owner,
        look: impl FnOnce(&ClusterGuard<'static>) -> R,
    ) -> Option<R> {
        let holds = self.0.lock();
        let hold = holds.get(name)?.iter().find(|hold| hold.lock == *lock)?;
        Some(look(&hold.guard))
    }

    /// Tells whether any lock of this name is held.
    pub(super) fn any(&self, name: &str) -> bool {
        self.0.lock().contains_key(name)
    }

    /// The mode in which somebody holds this name, by whatever lock.
    pub(super) fn held_by(&self, name: &str, by: &Owner) -> Option<Mode> {
        let holds = self.0.lock();
        let mut of_owner = holds.get(name)?.iter().filter(|hold| hold.by == *by);
        of_owner.next().map(|hold| hold.guard.mode())
    }
}
