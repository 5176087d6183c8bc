//! What a member keeps of leases: the locks it uses by them, and whom it tells that somebody left one behind.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Leases;
use super::held::{Cleanup, Held};
use super::line::Terms;
use crate::coordination::coordinator::{Coordinator, key_of};
use crate::coordination::lock::ClusterLock;
use crate::coordination::resource::{OnAbandoned, Resource};
use crate::error::{CoordinationError, LeaseError};
use crate::hold::Lock;
use crate::listeners::alone;
use crate::name::LockName;
use crate::shared_lock::SharedLock;

type OnCleanup = Arc<dyn Fn(&Leases, &Cleanup) + Send + Sync>;

/// What all who use leases by way of one member share.
#[derive(Default)]
pub(super) struct Node {
    /// Those in use here, each once.
    locks: Mutex<HashMap<Arc<str>, Weak<Named>>>,
    /// Whom to tell, and on what terms they use leases.
    cleaners: Mutex<Vec<(Terms, OnCleanup)>>,
    /// How often a lock of a group was looked for.
    looks: AtomicUsize,
}

/// A lock as this member uses it.
///
/// Each lease has a grant of its own, with a lifetime, a token and a predecessor. So whoever asks here passes the gate first,
/// one at a time, and comes out only when the coordinator has the lock back.
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) gate: SharedLock,
    pub(super) lock: ClusterLock,
    pub(super) coordinator: Coordinator,
    pub(super) node: Arc<Node>,
    /// Who passed the gate and holds the lock.
    current: Mutex<Weak<Held>>,
}

impl Node {
    pub(super) fn of(coordinator: &Coordinator) -> Arc<Self> {
        coordinator.face(|| {
            let node = Arc::new(Self::default());
            let weak = Arc::downgrade(&node);
            coordinator.on_end(move |reason| {
                if let Some(node) = weak.upgrade() {
                    node.on_member_lost(reason);
                }
            });
            node
        })
    }

    /// The lock of this name.
    pub(super) fn named(
        self: &Arc<Self>,
        coordinator: &Coordinator,
        name: &str,
    ) -> Result<Arc<Named>, LeaseError> {
        let key = key_of(["lease", "lock", name], "a lock", name)?;
        let mut locks = self.locks.lock();
        if let Some(named) = locks.get(name).and_then(Weak::upgrade) {
            return Ok(named);
        }
        let name: Arc<str> = name.into();
        let resource = coordinator.resource(key, |_| {
            let lock = Arc::new(Lock::new(LockName::alone(Arc::clone(&name))));
            let told: OnAbandoned = Box::new(|lock, by| lock.abandon(by));
            (lock, told)
        });
        let (node, broken) = (Arc::downgrade(self), Arc::clone(&name));
        // Whoever uses a lock anew may find its resource still there, which calls as it was told at first: so by name.
        resource.on_broken(Box::new(move || {
            if let Some(named) = node.upgrade().and_then(|node| node.find(&broken)) {
                named.end_if_over();
            }
        }));
        let named = Arc::new(Named {
            gate: SharedLock::new(Arc::clone(&name)),
            lock: ClusterLock::new(resource),
            coordinator: coordinator.clone(),
            node: Arc::clone(self),
            current: Mutex::default(),
            name: Arc::clone(&name),
        });
        if locks.len() >= 64 && locks.len() == locks.capacity() {
            locks.retain(|_, named| named.strong_count() > 0);
        }
        locks.insert(name, Arc::downgrade(&named));
        Ok(named)
    }

    fn find(&self, name: &str) -> Option<Arc<Named>> {
        self.locks.lock().get(name).and_then(Weak::upgrade)
    }

    fn on_member_lost(&self, reason: &CoordinationError) {
        let locks: Vec<_> = self.locks.lock().values().filter_map(Weak::upgrade).collect();
        for named in locks {
            let why = named.lost(reason.clone());
            named.current().inspect(|held| held.lose(&why));
            // Whoever waits here waits for nothing.
            named.resource().ring();
        }
    }

    pub(super) fn on_cleanup(&self, terms: Terms, call: OnCleanup) {
        self.cleaners.lock().push((terms, call));
    }

    /// Where to begin to look, so that not everybody begins at the same lock.
    pub(super) fn next_look(&self) -> usize {
        self.looks.fetch_add(1, Ordering::Relaxed)
    }
}

impl Named {
    pub(super) fn resource(&self) -> &Arc<Resource> {
        self.lock.resource()
    }

    fn current(&self) -> Option<Arc<Held>> {
        self.current.lock().upgrade()
    }

    pub(super) fn set_current(&self, held: &Arc<Held>) {
        *self.current.lock() = Arc::downgrade(held);
    }

    /// Frees the lock of a holder of this process whose time is over, though its object lies around.
    pub(super) fn end_if_over(&self) {
        if let Some(held) = self.current()
            && let Err(why) = held.check()
        {
            held.lose(&why);
        }
    }

    /// As [`end_if_over`](Self::end_if_over), and waits if another thread is at it. Not for that other thread to call.
    pub(super) fn free_if_over(&self) {
        self.end_if_over();
        self.current().inspect(|held| held.wait_until_freed());
    }

    /// Tells whoever wants to know what is to be cleaned up.
    pub(super) fn tell(&self, cleanup: &Cleanup) {
        let cleaners = self.node.cleaners.lock().clone();
        for (terms, call) in cleaners {
            let (coordinator, node) = (self.coordinator.clone(), Arc::clone(&self.node));
            let leases = Leases { coordinator, node, terms };
            alone(|| call(&leases, cleanup));
        }
    }

    /// What the loss of a hold means to who had it.
    pub(super) fn lost(&self, reason: CoordinationError) -> LeaseError {
        let lock = Arc::clone(&self.name);
        match reason {
            CoordinationError::Broken { .. } => LeaseError::Expired { lock },
            reason => LeaseError::Lost { lock, reason: Box::new(reason) },
        }
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("name", &self.name).finish_non_exhaustive()
    }
}
