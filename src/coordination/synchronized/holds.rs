//! What the locks of one agent hold, by name: so that a lock which is broken lets go of what it had, whoever broke it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::coordination::resource::Resource;
use crate::coordination::{ClusterGuard, ClusterLock};
use crate::core::mode::Mode;
use crate::error::{Abandoned, CoordinationError};
use crate::owner::Owner;

/// Holds by the name of what they hold. No guard is dropped or asked anything while it is locked: who is told of what comes of
/// that may come by here.
#[derive(Default)]
pub(super) struct Holds(Mutex<HashMap<Arc<str>, Vec<Hold>>>);

/// A lock that is held.
pub(super) struct Hold {
    /// As which the lock asks, and no other.
    pub(super) lock: Owner,
    /// Who acquired it.
    pub(super) by: Owner,
    guard: ClusterGuard<'static>,
    held: Arc<Held>,
}

/// What there is to know of a hold, for whoever looks while it may be given back.
pub(super) struct Held {
    resource: Arc<Resource>,
    /// Tells whether it is lost.
    mark: u64,
    token: OnceLock<u64>,
    pub(super) abandoned: Option<Abandoned>,
}

impl Held {
    /// Fails if the hold is lost; of one that was given back it says nothing.
    pub(super) fn check(&self) -> Result<(), CoordinationError> {
        self.resource.check(self.mark)
    }

    pub(super) fn token(&self) -> Result<u64, CoordinationError> {
        self.check()?;
        if let Some(token) = self.token.get() {
            return Ok(*token);
        }
        let token = self.resource.next_token()?;
        // It may be of a grant that came after this one was lost.
        self.check()?;
        Ok(*self.token.get_or_init(|| token))
    }
}

impl Hold {
    /// What was just granted.
    ///
    /// # Errors
    /// It is lost already.
    pub(super) fn new(
        lock: Owner,
        by: Owner,
        resource: &Arc<Resource>,
        guard: ClusterGuard<'static>,
    ) -> Result<Self, CoordinationError> {
        let (resource, mark) = (Arc::clone(resource), resource.hold_mark()?);
        // Nothing was lost before the mark.
        guard.check()?;
        let held = Held { resource, mark, token: OnceLock::new(), abandoned: guard.abandoned() };
        Ok(Self { lock, by, guard, held: Arc::new(held) })
    }

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
        let (name, held) = (Arc::clone(hold.name()), Arc::clone(&hold.held));
        self.0.lock().entry(Arc::clone(&name)).or_default().push(hold);
        // Whoever breaks it later finds it.
        let checked = held.check();
        if checked.is_err() {
            drop(self.extract(&name, |hold| Arc::ptr_eq(&hold.held, &held)));
        }
        checked
    }

    /// Takes the hold of a lock.
    pub(super) fn take(&self, name: &str, lock: &Owner) -> Option<ClusterGuard<'static>> {
        self.extract(name, |hold| hold.lock == *lock).pop().map(|hold| hold.guard)
    }

    fn take_broken(&self, name: &str) -> Vec<Hold> {
        let held: Vec<_> = {
            let holds = self.0.lock();
            holds.get(name).into_iter().flatten().map(|hold| Arc::clone(&hold.held)).collect()
        };
        let broken: Vec<_> = held.into_iter().filter(|held| held.check().is_err()).collect();
        self.extract(name, |hold| broken.iter().any(|held| Arc::ptr_eq(held, &hold.held)))
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

    /// What a lock holds.
    pub(super) fn held(&self, name: &str, lock: &Owner) -> Option<Arc<Held>> {
        let holds = self.0.lock();
        let hold = holds.get(name)?.iter().find(|hold| hold.lock == *lock)?;
        Some(Arc::clone(&hold.held))
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
