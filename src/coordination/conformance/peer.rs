//! Members that take part in a claim, and what one sees of their lock.

use std::sync::Arc;
use std::time::Duration;

use super::super::{AcquireCluster, ClusterGuard, ClusterLock, Coordinator, Driver, MemberId};
use super::{Ground, PATIENCE, TTL, eventually};
use crate::acquire::Acquire;
use crate::core::mode::Mode;
use crate::error::{AcquireError, CoordinationError};
use crate::owner::Owner;
use crate::pending::Pending;
use crate::target::Target;

/// A request of a peer that is under way.
pub(super) type Asked = Pending<AcquireCluster<'static>>;

/// One member, at the lock that the claim is about.
pub(super) struct Peer {
    pub(super) coordinator: Coordinator,
    pub(super) lock: ClusterLock,
    pub(super) owner: Owner,
}

impl Ground {
    /// Members that each have a connection of their own.
    pub(super) fn peers<const N: usize>(&self) -> [Peer; N] {
        std::array::from_fn(|at| self.peer(&format!("member-{at}")))
    }

    pub(super) fn peer(&self, name: &str) -> Peer {
        self.peer_over(self.connect(), name, TTL)
    }

    pub(super) fn peer_over(&self, driver: Arc<dyn Driver>, name: &str, ttl: Duration) -> Peer {
        let connect = Coordinator::over(driver).ttl(ttl);
        let coordinator = connect.join(&self.name(name)).unwrap_or_else(|error| panic!("{error}"));
        Peer::new(coordinator, &self.name("lock"), name)
    }
}

impl Peer {
    pub(super) fn new(coordinator: Coordinator, lock: &str, owner: &str) -> Self {
        let lock = coordinator.lock(lock).expect("a short name is a lock's");
        Self { coordinator, lock, owner: Owner::new(owner) }
    }

    /// Another owner of this member.
    pub(super) fn beside(&self, owner: &str) -> Self {
        let (coordinator, lock) = (self.coordinator.clone(), self.lock.clone());
        Self { coordinator, lock, owner: Owner::new(owner) }
    }

    /// The same member at another lock.
    pub(super) fn at(&self, lock: &str) -> Self {
        Self::new(self.coordinator.clone(), lock, self.owner.name())
    }

    /// Keeps what it was granted.
    pub(super) fn cached(self) -> Self {
        Self { lock: self.lock.cached(), ..self }
    }

    pub(super) fn id(&self) -> &MemberId {
        self.coordinator.member()
    }

    pub(super) fn acquire(&self, mode: Mode) -> Acquire<AcquireCluster<'static>> {
        self.lock.acquire(&self.owner, mode).into_owned()
    }

    /// Has it at once, or not at all.
    pub(super) fn attempt(&self, mode: Mode) -> Option<ClusterGuard<'static>> {
        match self.acquire(mode).now() {
            Ok(guard) => Some(guard),
            Err(AcquireError::WouldBlock { .. }) => None,
            Err(error) => panic!("an attempt failed: {error}"),
        }
    }

    /// Has it, in the way of nobody.
    pub(super) fn take(&self, mode: Mode) -> ClusterGuard<'static> {
        let taken = self.acquire(mode).timeout(PATIENCE).wait();
        taken.unwrap_or_else(|error| panic!("nobody stands in its way: {error}"))
    }

    /// Asks, and comes back when it stands in line.
    pub(super) fn queue(&self, mode: Mode) -> Asked {
        self.queue_by(self.acquire(mode))
    }

    pub(super) fn queue_urgently(&self, mode: Mode, priority: i32) -> Asked {
        self.queue_by(self.acquire(mode).priority(priority))
    }

    pub(super) fn queue_by(&self, asked: Acquire<AcquireCluster<'static>>) -> Asked {
        let pending = asked.enqueue();
        self.wait_in_line();
        pending
    }

    /// Comes back when this member stands in line.
    pub(super) fn wait_in_line(&self) {
        let what = format!("{} stands in line", self.id());
        eventually(&what, || line(&self.lock).contains(self.id()));
    }

    pub(super) fn leave(&self) {
        self.coordinator.leave().expect("a member can leave");
    }
}

/// What somebody waits for, once it is granted.
pub(super) fn granted<T: Target<Error: std::fmt::Display>>(
    pending: Pending<T>,
    who: &str,
) -> T::Granted {
    assert!(pending.wait_timeout(PATIENCE), "{who} should go, and waits for {PATIENCE:?} already");
    pending.wait().unwrap_or_else(|error| panic!("{who} should go: {error}"))
}

/// Tells that somebody has to wait on.
pub(super) fn assert_waits<T: Target>(pending: &Pending<T>, who: &str) {
    assert!(!pending.is_decided(), "{who} should wait, and does no more");
}

/// Who stands in line, first to last.
pub(super) fn line(lock: &ClusterLock) -> Vec<MemberId> {
    let waiters = lock.waiters().unwrap_or_else(|error| unreadable(&error));
    waiters.into_iter().map(|waiter| waiter.member).collect()
}

/// Who holds it, as they were granted it.
pub(super) fn holding(lock: &ClusterLock) -> Vec<(MemberId, Mode)> {
    let holders = lock.holders().unwrap_or_else(|error| unreadable(&error));
    holders.into_iter().map(|holder| (holder.member, holder.mode)).collect()
}

fn unreadable(error: &CoordinationError) -> ! {
    panic!("who holds a lock and who waits for it can be read: {error}")
}

/// Tells that these hold the lock, and nobody else.
#[track_caller]
pub(super) fn assert_held(lock: &ClusterLock, by: &[(&Peer, Mode)]) {
    let by: Vec<_> = by.iter().map(|(peer, mode)| (peer.id().clone(), *mode)).collect();
    assert_eq!(holding(lock), by, "who holds the lock");
}

/// Tells that these stand in line, in this order.
#[track_caller]
pub(super) fn assert_line(lock: &ClusterLock, of: &[&Peer]) {
    let of: Vec<_> = of.iter().map(|peer| peer.id().clone()).collect();
    assert_eq!(line(lock), of, "who stands in line");
}

/// Waits until nobody stands in line any more.
pub(super) fn wait_for_nobody_in_line(lock: &ClusterLock) {
    eventually("nobody stands in line", || line(lock).is_empty());
}

/// Each mode beside each.
pub(super) fn pairs() -> impl Iterator<Item = (Mode, Mode)> {
    Mode::ALL.into_iter().flat_map(|one| Mode::ALL.into_iter().map(move |other| (one, other)))
}
