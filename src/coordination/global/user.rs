//! What a node's tasks do with a resource.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::node::Node;
use super::{GlobalLockUpgrade, GlobalLockWaiter, LockValue};
use crate::clock;
use crate::coordination::lock::{ClusterLock, HeldBy};
use crate::error::{Abandoned, CoordinationError, GlobalLockError};

/// A node's use of a resource: what is granted to it, and what it asks for. Made by
/// [`GlobalLockCoordinator::user`](super::GlobalLockCoordinator::user), once for each resource; clones are the same.
///
/// It belongs to the node, not to a task. Tasks of the node order themselves among one another, by whatever local lock, and have
/// [`granted`](Self::granted) be at least what any of them needs: [`upgrade`](Self::upgrade) before the first that needs more,
/// [`downgrade`](Self::downgrade) after the last. What a downgrade gives up the node keeps in its cache until another node asks
/// for it, so that the next upgrade costs no message.
///
/// When the last clone and the last waiter are dropped, the node gives everything back.
///
/// # Examples
/// ```
/// use tierlock::coordination::Coordinator;
/// use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
///
/// let node = Coordinator::connect("memory:").join("node-1")?;
/// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
/// user.upgrade(RwLockValue::Write, None)?;
/// user.downgrade(RwLockValue::NoLock)?;
/// assert_eq!((user.granted(), user.grantable()), (RwLockValue::NoLock, RwLockValue::Write));
/// # Ok::<(), tierlock::Error>(())
/// ```
pub struct GlobalLockUser<V: LockValue>(pub(super) Arc<Node<V>>);

/// What the coordinator wants of a node, because another node asks for the resource.
///
/// # Examples
/// ```
/// # use tierlock::coordination::Coordinator;
/// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
/// let node = Coordinator::connect("memory:").join("node-1")?;
/// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
/// assert!(user.called_back().is_none());
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallBack<V> {
    /// What the node is to hold no more than.
    pub to: V,
    /// When it was called back first.
    pub since: Instant,
}

/// What happens to a node's use of a resource, for those who [subscribe](GlobalLockUser::subscribe).
///
/// # Examples
/// ```
/// use tierlock::coordination::global::{GlobalLockEvent, RwLockValue};
///
/// fn shown(event: &GlobalLockEvent<RwLockValue>) -> String {
///     match event {
///         GlobalLockEvent::CalledBack(call_back) => format!("called back to {:?}", call_back.to),
///         other => format!("{other:?}"),
///     }
/// }
/// assert_eq!(shown(&GlobalLockEvent::Lost), "Lost");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GlobalLockEvent<V> {
    /// Another node wants what this one holds: what is grantable is lowered already, and the coordinator hears of it when what is
    /// granted is.
    CalledBack(CallBack<V>),
    /// Nobody wants it any more.
    CallBackOver,
    /// What was granted is lost: the node is none any more, or it was declared failed.
    Lost,
}

impl<V: LockValue> GlobalLockUser<V> {
    /// The name of the resource.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// assert_eq!(user.resource(), "config");
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn resource(&self) -> &str {
        self.0.resource().lock().name().name()
    }

    /// Has at least `value` granted to the node; blocks this thread until it is, for at most `timeout` if there is one.
    ///
    /// At once and without a message if `value` is [grantable](Self::grantable). It stands in line with
    /// [`upgrade_async`](Self::upgrade_async), and counts as handled when it returns.
    ///
    /// A task whose node has `value` granted already, and that asks for it again while the node is called back, waits until its
    /// node gave it up; unless the value [keeps](LockValue::keeps). So whoever needs more than it has asks for what keeps.
    ///
    /// # Errors
    /// [`TimedOut`](GlobalLockError::TimedOut) if the time is up first, [`Deadlock`](GlobalLockError::Deadlock) at once if the value
    /// keeps and another node waits likewise, [`BadValues`](GlobalLockError::BadValues) if this is no value of the type,
    /// [`Coordination`](GlobalLockError::Coordination) if the node is lost or the coordinator cannot be reached. What was
    /// granted before still is, and nobody stands in line any more.
    ///
    /// # Cancel safety
    /// It ends before its outcome by its time alone; what is to be interrupted otherwise goes by
    /// [`upgrade_async`](Self::upgrade_async).
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// user.upgrade(RwLockValue::Read, Some(Duration::from_secs(30)))?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn upgrade(&self, value: V, timeout: Option<Duration>) -> Result<(), GlobalLockError> {
        let start = clock::now();
        match self.upgrade_async(value)? {
            GlobalLockUpgrade::Granted => Ok(()),
            GlobalLockUpgrade::Waits(waiter) => waiter.wait_from(start, timeout),
        }
    }

    /// Asks for `value` without waiting for it: it is granted at once, or there is a waiter for it.
    ///
    /// Waiters of a node go in the order in which they came, each when the one before it was
    /// [handled](GlobalLockWaiter::signal_handled); those whose value [keeps](LockValue::keeps) before those whose value does not.
    /// The request goes to the coordinator in this thread, which does not wait for other nodes.
    ///
    /// # Errors
    /// As [`upgrade`](Self::upgrade), if it is refused at once.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// if let Some(waiter) = user.upgrade_async(RwLockValue::Write)?.waiter() {
    ///     waiter.wait_lock(None)?;
    ///     waiter.signal_handled();
    /// }
    /// assert_eq!(user.granted(), RwLockValue::Write);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn upgrade_async(&self, value: V) -> Result<GlobalLockUpgrade<V>, GlobalLockError> {
        let place = self.0.ask(value)?;
        Ok(place.map_or(GlobalLockUpgrade::Granted, |place| {
            GlobalLockUpgrade::Waits(GlobalLockWaiter::new(&self.0, value, place))
        }))
    }

    /// Has no more than `value` granted to the node. What it gives up stays in the node's cache; if the node is called back for it,
    /// the coordinator hears before this returns.
    ///
    /// # Errors
    /// [`NotLower`](GlobalLockError::NotLower) if less is granted, and nothing changed then. Else it is lowered whatever is returned:
    /// [`Coordination`](GlobalLockError::Coordination) says that what was granted was lost before, or that the coordinator could
    /// not be reached, and hears later.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// user.upgrade(RwLockValue::Write, None)?;
    /// user.downgrade(RwLockValue::Read)?;
    /// assert_eq!(user.granted(), RwLockValue::Read);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn downgrade(&self, value: V) -> Result<(), GlobalLockError> {
        self.0.downgrade(value)
    }

    /// Gives back what the node keeps beyond what is granted, so that the next upgrade beyond that asks the coordinator.
    ///
    /// # Errors
    /// [`Coordination`](GlobalLockError::Coordination) if the node is lost, or the coordinator cannot be reached, and hears later.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// user.upgrade(RwLockValue::Write, None)?;
    /// user.downgrade(RwLockValue::NoLock)?;
    /// user.uncache()?;
    /// assert_eq!(user.grantable(), RwLockValue::NoLock);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn uncache(&self) -> Result<(), GlobalLockError> {
        Ok(self.0.resource().uncache()?)
    }

    /// What those who asked were told that the node has.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// assert_eq!(user.granted(), RwLockValue::NoLock);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn granted(&self) -> V {
        self.0.granted()
    }

    /// What would be granted now without a message: a hint, since an upgrade may find it changed. Less than what is granted while the
    /// node is called back, or lost.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// user.upgrade(RwLockValue::Read, None)?;
    /// assert_eq!(user.grantable(), RwLockValue::Read);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn grantable(&self) -> V {
        self.0.grantable()
    }

    /// What the node asks the coordinator for, if it waits for something.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// assert_eq!(user.requested(), None);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn requested(&self) -> Option<V> {
        self.0.requested()
    }

    /// What the node is called back for, and since when, if another node waits for it. How long that takes is up to the node's
    /// tasks: nobody takes from a node that lives what is granted to it, but for
    /// [`node_failed`](super::GlobalLockCoordinator::node_failed).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// assert!(user.called_back().is_none());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn called_back(&self) -> Option<CallBack<V>> {
        self.0.called_back()
    }

    /// Calls `subscriber` with this user and everything that happens from now on, for as long as somebody has the user: in the thread
    /// that found out. It must not block, and a panic of it ends there.
    ///
    /// To downgrade in it, or whatever else does not wait, is fine, by the user that it is given: one that it kept would never be
    /// dropped, nor what the node holds be given back.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, GlobalLockEvent, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// user.subscribe(|user, event| {
    ///     if let GlobalLockEvent::CalledBack(call_back) = event {
    ///         let to = call_back.to.min(user.granted());
    ///         user.downgrade(to).unwrap_or_else(|error| eprintln!("{error}"));
    ///     }
    /// });
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn subscribe(
        &self,
        subscriber: impl Fn(&Self, &GlobalLockEvent<V>) + Send + Sync + 'static,
    ) {
        self.0.subscribe(Arc::new(subscriber));
    }

    /// Fails if what was granted is lost. What does not fail was true a moment ago: whoever writes to something outside sends the
    /// [`token`](Self::token) along. To use the resource again, [downgrade](Self::downgrade) to the least value first.
    ///
    /// # Errors
    /// [`Coordination`](GlobalLockError::Coordination), of [`Lost`](CoordinationError::Lost) if the node is none any more, of
    /// [`Broken`](CoordinationError::Broken) if it was declared failed.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// user.check()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn check(&self) -> Result<(), GlobalLockError> {
        self.0.check()
    }

    /// The fencing token of what is granted: greater than those of all nodes that held the resource before and could not have held it
    /// beside this one. Whatever the lock protects outside can keep the greatest that it saw, and refuse a node that does not know yet
    /// that it lost.
    ///
    /// # Errors
    /// As [`check`](Self::check), [`NotGranted`](GlobalLockError::NotGranted) if nothing is granted; rarely, as of any request to the
    /// coordinator.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// user.upgrade(RwLockValue::Write, None)?;
    /// assert!(user.token()? > 0);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn token(&self) -> Result<u64, GlobalLockError> {
        self.0.token()
    }

    /// Who held the resource exclusively before this node, and died or was declared failed. Told once, while this node has it
    /// exclusively. If nobody asks for it as long as that is so, the next exclusive holder is told.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// user.upgrade(RwLockValue::Write, None)?;
    /// assert!(user.abandoned().is_none());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn abandoned(&self) -> Option<Abandoned> {
        let owner = self.0.take_abandoned()?;
        Some(Abandoned { lock: self.0.resource().lock().name().clone(), owner })
    }

    /// The nodes that hold the resource, as the coordinator has it: what they keep in their caches counts.
    ///
    /// # Errors
    /// As of any request to the coordinator.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// assert!(user.holders()?.is_empty());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn holders(&self) -> Result<Vec<HeldBy>, CoordinationError> {
        ClusterLock::new(Arc::clone(self.0.resource())).holders()
    }

    /// The nodes that wait for the resource, as the coordinator has it, in the order in which they go.
    ///
    /// # Errors
    /// As of any request to the coordinator.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let user = GlobalLockCoordinator::new(&node).user::<RwLockValue>("config")?;
    /// assert!(user.waiters()?.is_empty());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn waiters(&self) -> Result<Vec<HeldBy>, CoordinationError> {
        ClusterLock::new(Arc::clone(self.0.resource())).waiters()
    }
}

impl<V: LockValue> Clone for GlobalLockUser<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: LockValue> fmt::Debug for GlobalLockUser<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalLockUser")
            .field("resource", &self.resource())
            .field("granted", &self.granted())
            .field("grantable", &self.grantable())
            .field("requested", &self.requested())
            .field("called_back", &self.called_back())
            .finish()
    }
}
