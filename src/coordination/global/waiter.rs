//! An upgrade under way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::LockValue;
use super::node::{Node, PlaceId, shown};
use crate::clock;
use crate::coordination::lock::ClusterLock;
use crate::error::GlobalLockError;

/// What came of asking for a value without waiting for it: see [`GlobalLockUser::upgrade_async`](super::GlobalLockUser::upgrade_async).
///
/// # Examples
/// ```
/// use tierlock::coordination::Coordinator;
/// use tierlock::coordination::global::{GlobalLockCoordinator, GlobalLockUpgrade, RwLockValue};
///
/// let node = Coordinator::connect("memory:").join("node-1")?;
/// let user = GlobalLockCoordinator::new(&node).user("config")?;
/// match user.upgrade_async(RwLockValue::Read)? {
///     GlobalLockUpgrade::Granted => {}
///     GlobalLockUpgrade::Waits(waiter) => waiter.wait_lock(None)?,
/// }
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it withdraws a request that waits"]
pub enum GlobalLockUpgrade<V: LockValue> {
    /// The value is granted to the node.
    Granted,
    /// The request stands in line.
    Waits(GlobalLockWaiter<V>),
}

impl<V: LockValue> GlobalLockUpgrade<V> {
    /// Whoever waits, if the value was not granted at once.
    ///
    /// # Examples
    /// See [`GlobalLockWaiter`].
    #[must_use = "dropping it withdraws the request"]
    pub fn waiter(self) -> Option<GlobalLockWaiter<V>> {
        match self {
            Self::Granted => None,
            Self::Waits(waiter) => Some(waiter),
        }
    }
}

/// An upgrade that stands in line. Made by [`GlobalLockUser::upgrade_async`](super::GlobalLockUser::upgrade_async).
///
/// A thread waits by [`wait_lock`](Self::wait_lock), a task by `.await` on `&mut` of it; nothing is granted to the node before one
/// of them said so. Those behind it wait until it is [handled](Self::signal_handled).
///
/// # Cancel safety
/// Dropping it withdraws the request, and gives back what came of it if nobody waited for that yet; else it is to say that it is handled.
/// Dropping the future of `&mut` of it leaves it in line.
///
/// # Examples
/// ```
/// use tierlock::coordination::Coordinator;
/// use tierlock::coordination::global::{GlobalLockCoordinator, GlobalLockError, GlobalLockUser, RwLockValue};
///
/// async fn write(user: &GlobalLockUser<RwLockValue>) -> Result<(), GlobalLockError> {
///     if let Some(mut waiter) = user.upgrade_async(RwLockValue::Write)?.waiter() {
///         (&mut waiter).await?;
///         // Whatever is to be done before others of this node are served.
///         waiter.signal_handled();
///     }
///     Ok(())
/// }
/// let node = Coordinator::connect("memory:").join("node-1")?;
/// let user = GlobalLockCoordinator::new(&node).user("config")?;
/// pollster::block_on(write(&user))?;
/// # Ok::<(), tierlock::Error>(())
/// ```
#[must_use = "dropping it withdraws the request"]
pub struct GlobalLockWaiter<V: LockValue> {
    node: Arc<Node<V>>,
    value: V,
    place: PlaceId,
}

impl<V: LockValue> GlobalLockWaiter<V> {
    pub(super) fn new(node: &Arc<Node<V>>, value: V, place: PlaceId) -> Self {
        Self { node: Arc::clone(node), value, place }
    }

    /// The value waited for.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// # let node = Coordinator::connect("memory:").join("node-1")?;
    /// # let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// let waiter = user.upgrade_async(RwLockValue::Read)?.waiter().expect("nothing is cached yet");
    /// assert_eq!(waiter.value(), RwLockValue::Read);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn value(&self) -> V {
        self.value
    }

    /// Tells whether it is granted or refused, so that waiting for it does not block.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// # let node = Coordinator::connect("memory:").join("node-1")?;
    /// # let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// let waiter = user.upgrade_async(RwLockValue::Read)?.waiter().expect("nothing is cached yet");
    /// while !waiter.is_decided() {
    ///     // Something else to do meanwhile.
    /// }
    /// waiter.wait_lock(None)?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.node.is_decided(self.place)
    }

    /// Blocks this thread until the value is granted, for at most `timeout` if there is one.
    ///
    /// # Errors
    /// [`TimedOut`](GlobalLockError::TimedOut) if the time is up first; the waiter stays in line then, until it is dropped. Others as
    /// of [`upgrade`](super::GlobalLockUser::upgrade); those are its outcome.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// # let node = Coordinator::connect("memory:").join("node-1")?;
    /// # let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// let waiter = user.upgrade_async(RwLockValue::Read)?.waiter().expect("nothing is cached yet");
    /// waiter.wait_lock(Some(Duration::from_secs(30)))?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn wait_lock(&self, timeout: Option<Duration>) -> Result<(), GlobalLockError> {
        self.wait_from(clock::now(), timeout)
    }

    pub(super) fn wait_from(
        &self,
        start: Instant,
        timeout: Option<Duration>,
    ) -> Result<(), GlobalLockError> {
        // A duration beyond the clock's range is for ever.
        let until = timeout.and_then(|timeout| start.checked_add(timeout));
        self.node.wait(self.place, until).unwrap_or_else(|| Err(self.timed_out(start)))
    }

    fn timed_out(&self, start: Instant) -> GlobalLockError {
        let resource = self.node.resource();
        let holders = ClusterLock::new(Arc::clone(resource)).holders().unwrap_or_default();
        let nodes = holders.into_iter().map(|held| held.member);
        GlobalLockError::TimedOut {
            resource: self.node.name(),
            wanted: shown(self.value),
            waited: clock::now().saturating_duration_since(start),
            blockers: nodes.filter(|node| node != resource.member().id()).collect(),
        }
    }

    /// Says that what was to be done with the value first is done, so that the next in line may go. The value stays granted to the
    /// node, until it [downgrades](super::GlobalLockUser::downgrade).
    ///
    /// A value that nobody waited for yet was not granted to anybody, and is given back.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// # let node = Coordinator::connect("memory:").join("node-1")?;
    /// # let user = GlobalLockCoordinator::new(&node).user("config")?;
    /// let waiter = user.upgrade_async(RwLockValue::Read)?.waiter().expect("nothing is cached yet");
    /// waiter.wait_lock(None)?;
    /// waiter.signal_handled();
    /// assert_eq!(user.granted(), RwLockValue::Read);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn signal_handled(self) {
        drop(self);
    }
}

/// Resolves when the value is granted or refused. A task that is to wait for some time only lets its runtime mind that.
impl<V: LockValue> Future for GlobalLockWaiter<V> {
    type Output = Result<(), GlobalLockError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.node.poll(self.place, context.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl<V: LockValue> Unpin for GlobalLockWaiter<V> {}

impl<V: LockValue> Drop for GlobalLockWaiter<V> {
    fn drop(&mut self) {
        self.node.leave(self.place);
    }
}

impl<V: LockValue> fmt::Debug for GlobalLockWaiter<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalLockWaiter")
            .field("resource", &self.node.name())
            .field("value", &self.value)
            .field("decided", &self.is_decided())
            .finish()
    }
}
