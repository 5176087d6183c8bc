//! The locks of one level, held across processes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::coordinator::{Coordinator, key_of};
use super::driver::Key;
use super::resource::{Expected, Foresight, OnAbandoned, Resource, Upgrading};
use crate::beyond::{AskedBeyond, Beyond, Promise, Promised};
use crate::core::mode::Mode;
use crate::error::{AcquireError, CoordinationError, Outside};
use crate::hold::Lock;
use crate::owner::{LockId, Owner};
use crate::set::Set;
use crate::shared_lock::SharedLock;

/// A level's locks as resources of a coordination.
pub(crate) struct ClusterLevel {
    coordinator: Coordinator,
    set: Weak<Set>,
    resources: Mutex<Resources>,
}

#[derive(Default)]
struct Resources {
    of: HashMap<LockId, Arc<Resource>>,
    /// How many there were when those out of use were dropped last.
    swept: usize,
}

/// The set knows it, and it the set, by name alone: no panic of anybody's is seen half way.
impl std::panic::RefUnwindSafe for ClusterLevel {}

impl ClusterLevel {
    /// Puts the locks of a set, of which none is in use yet, under the coordinator.
    ///
    /// # Errors
    /// A name under which nothing can be stored, or a level that this member has already.
    pub(crate) fn extend(
        set: &Arc<Set>,
        coordinator: &Coordinator,
    ) -> Result<(), CoordinationError> {
        for lock in set.locks() {
            key(set, &lock)?;
        }
        // Nobody else finds it unused meanwhile.
        let _extending = coordinator.resources().extend();
        coordinator.check_unused(&key(set, set.top())?)?;
        let level = Self {
            coordinator: coordinator.clone(),
            set: Arc::downgrade(set),
            resources: Mutex::default(),
        };
        set.extend(Arc::new(level));
        Ok(())
    }

    fn resource(&self, lock: &Arc<Lock>) -> Option<Arc<Resource>> {
        self.resources.lock().of.get(&LockId::of(lock)).cloned()
    }

    /// The resource of a lock that the set has.
    fn known(&self, lock: &Arc<Lock>) -> Result<Arc<Resource>, Outside> {
        self.resource(lock).ok_or_else(|| {
            Box::new(CoordinationError::BadName {
                what: "a lock held across processes",
                name: lock.name().to_string().into(),
                reason: "its name is empty or longer than what can be stored".into(),
            })
        })
    }

    /// Takes out resources whose locks nobody here has any use for, each time there are twice as many as after the last time.
    fn sweep(resources: &mut Resources) -> Vec<Arc<Resource>> {
        const SWEPT_MIN: usize = 256;
        if resources.of.len() < 2 * resources.swept.max(SWEPT_MIN) {
            return Vec::new();
        }
        let idle = |_: &LockId, resource: &mut Arc<Resource>| resource.is_alone();
        let gone = resources.of.extract_if(idle).map(|(_, resource)| resource).collect();
        resources.swept = resources.of.len();
        gone
    }
}

impl Promised for Expected {}

impl Promised for Upgrading {}

impl Beyond for ClusterLevel {
    fn adopt(&self, lock: &Arc<Lock>) -> Vec<Arc<Lock>> {
        let Some(set) = self.set.upgrade() else { return Vec::new() };
        let Ok(key) = key(&set, lock) else {
            // Whoever asks for it is told why.
            return Vec::new();
        };
        let of = Weak::clone(&self.set);
        let told: OnAbandoned = Box::new(move |lock, by| match of.upgrade() {
            Some(set) => set.abandon([lock], by),
            None => lock.abandon(by),
        });
        let resource = self.coordinator.adopt(key, Arc::clone(lock), told);
        resource.cache();
        let gone = {
            let mut resources = self.resources.lock();
            resources.of.insert(LockId::of(lock), resource);
            Self::sweep(&mut resources)
        };
        // What they were granted is given back at the engine, which is not for whoever happens to come by.
        let locks = gone.iter().map(|resource| Arc::clone(resource.lock())).collect();
        self.coordinator.retire(gone);
        locks
    }

    fn forget(&self, lock: &Arc<Lock>) {
        let resource = self.resources.lock().of.remove(&LockId::of(lock));
        self.coordinator.retire(resource);
    }

    fn check(&self) -> Result<(), Outside> {
        self.coordinator.check().map_err(Box::new)
    }

    fn check_name(&self, name: &str) -> Result<(), Outside> {
        let Some(set) = self.set.upgrade() else { return Ok(()) };
        member_key(&set, name).map(drop).map_err(Box::new)
    }

    fn check_lock(&self, lock: &Arc<Lock>) -> Result<(), Outside> {
        let resource = self.known(lock)?;
        resource.member().check_process().map_err(Box::new)?;
        resource.hold_mark().map(drop).map_err(Box::new)
    }

    fn ask(&self, lock: &Arc<Lock>, asked: &AskedBeyond<'_>) -> Result<Promise, Outside> {
        let foresight = Foresight {
            mode: asked.mode,
            from: asked.from,
            priority: asked.priority,
            owner: Arc::clone(asked.owner.name_arc()),
            waits: false,
        };
        match self.known(lock)?.foresee(foresight) {
            Ok(expected) => Ok(Box::new(expected)),
            Err(error) => Err(Box::new(error)),
        }
    }

    fn hold_off(&self, lock: &Arc<Lock>) -> Option<Promise> {
        let resource = self.known(lock).ok()?;
        Some(Box::new(resource.hold_off()))
    }

    fn bring(&self, lock: &Arc<Lock>, mode: Mode) -> Result<(), Outside> {
        self.known(lock)?;
        let courier = Owner::new("whoever holds all of its level");
        match SharedLock::of(Arc::clone(lock)).acquire(&courier, mode).wait() {
            Ok(guard) => {
                drop(guard);
                Ok(())
            }
            Err(AcquireError::Coordination { reason, .. }) => Err(reason),
            Err(_) => self.check(),
        }
    }

    fn token(&self, lock: &Arc<Lock>) -> Result<u64, Outside> {
        self.known(lock)?.next_token().map_err(Box::new)
    }
}

/// Where the record of a lock of this level lies. The set-lock has a place of its own, whatever names there are.
fn key(set: &Set, lock: &Arc<Lock>) -> Result<Key, CoordinationError> {
    let (level, name) = (set.name(), lock.name().name());
    if Arc::ptr_eq(lock, set.top()) {
        key_of(["level", level], "a level", level)
    } else {
        member_key(set, name)
    }
}

fn member_key(set: &Set, name: &str) -> Result<Key, CoordinationError> {
    key_of(["level", set.name(), name], "a lock", name)
}

impl fmt::Debug for ClusterLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterLevel").field(&self.coordinator).finish()
    }
}
