//! Locks that belong to nodes: the interface of Perseus, for those who know it.
//!
//! A *global lock* is owned by a node, never by a task. Tasks of a node order themselves by a local lock; the node holds the resource
//! with the greatest [value](LockValue) that one of them needs. What it was granted it keeps after its use, until another node asks
//! for it: so a resource that one node uses again and again costs no message.
//!
//! | Perseus | here |
//! |---|---|
//! | node | a member: [`Coordinator`], which joins |
//! | `GlobalLockCoordinator`, one object for each resource | [`GlobalLockCoordinator`], one for a node; what it decides is in the record of the resource, where every node finds it |
//! | `GlobalLockUser`, one for each node and resource | [`GlobalLockUser`], of which [`user`](GlobalLockCoordinator::user) makes one |
//! | `LockValue`, levels that are bytes | [`LockValue`], a type with an order; each value is a [`Mode`](crate::Mode), which says what fits what |
//! | `NOLOCK`, `maxValue()` | the first and the last of [`LockValue::ALL`] |
//! | `UNDEFINED` | `None` |
//! | `isCompatibleWith(a, b)`, `getCompatibleWith(a, b)` | [`admits`](LockValue::admits), [`beside`](LockValue::beside): what one node may hold while another holds that |
//! | `RWLockValue` | [`RwLockValue`] |
//! | granted, grantable | [`granted`](GlobalLockUser::granted), [`grantable`](GlobalLockUser::grantable) (`getGrantable()`) |
//! | requested, which is hidden | [`requested`](GlobalLockUser::requested) |
//! | `upgrade(level, true, timeout)` | [`upgrade`](GlobalLockUser::upgrade) |
//! | `upgrade(level, false, _)`, which returns null if it is granted at once | [`upgrade_async`](GlobalLockUser::upgrade_async), which returns [`Granted`](GlobalLockUpgrade::Granted) |
//! | `GlobalLockWaiter`: `waitLock()`, `signalHandled()` | [`GlobalLockWaiter`]: [`wait_lock`](GlobalLockWaiter::wait_lock) or `.await`, [`signal_handled`](GlobalLockWaiter::signal_handled) |
//! | to interrupt a thread that waits | to drop the waiter |
//! | `DeadLockException`, after the timeout | [`TimedOut`](GlobalLockError::TimedOut) after it, [`Deadlock`](GlobalLockError::Deadlock) before |
//! | `downgrade(level)` | [`downgrade`](GlobalLockUser::downgrade) |
//! | `uncache()` | [`uncache`](GlobalLockUser::uncache) |
//! | call-backs from the coordinator | [`called_back`](GlobalLockUser::called_back), [`subscribe`](GlobalLockUser::subscribe) |
//! | `nodeFailed(resource, node)` | [`node_failed`](GlobalLockCoordinator::node_failed); for a node that dies it happens by itself |
//! | `joinUsersRequest` | nothing: a node that joins holds nothing, and finds what others hold in the record |
//! | `freeze`, to move or replicate a coordinator | nothing: no node has one; the engine stores the records, and replicates them if it does |
//!
//! # What differs, and why
//!
//! - **Order.** "Enough" is `wanted <= grantable`, so values have to be ordered strictly, and a greater one has to include a smaller one.
//!   That is checked; a type of which it is not true is an [error](GlobalLockError::BadValues).
//! - **Time and deadlock** are two errors. That time is up says that somebody is slow. A deadlock is found out at once, without time:
//!   two nodes that keep what the other waits for. That is what [`RwLockValue::Upgrade`] is for. Between different resources nobody
//!   looks for one: whoever holds several takes them in an order, or by a [`LockManager`](crate::LockManager).
//! - **Whoever keeps goes first.** A node that asks for a value that [keeps](LockValue::keeps) goes before nodes that hold nothing, though
//!   it is called back: it stands in their way anyway. If it asks for one that does not keep, such as [`RwLockValue::Write`], it waits
//!   until it gave up what it is called back for, so that no node is kept out by tasks of another that follow one another.
//!   Whoever reads and then writes asks for `Upgrade`: with `Write`, two nodes that do so wait until one gives up, as in Perseus.
//!   If one of two asked for `Write`, the other's `Upgrade` is refused, though it might be granted after a while.
//! - **Call-backs cross nothing.** What is granted, asked for and called back for stands in one record, which changes as a whole:
//!   there are no messages that could overtake each other.
//! - **A slow task** keeps a resource for as long as it likes. Since when the node is called back is to be seen, at the node and by those
//!   who wait; [`node_failed`](GlobalLockCoordinator::node_failed) is the last resort.
//! - **A node declared failed that still runs** hears of it: by [`check`](GlobalLockUser::check) and all else it does with the
//!   resource, and by an [event](GlobalLockEvent::Lost). What it wrote meanwhile is fenced off by [tokens](GlobalLockUser::token).
//! - **Two nodes that alternate** cost messages each time. What a node was granted it keeps for a
//!   [while](super::Connect::min_hold), if it has a use for it.
//! - **Nobody overtakes**: a value that is granted to the node already is granted again at once; one that is only grantable waits behind
//!   others of the node that wait.

mod node;
mod user;
mod value;
mod waiter;

use std::fmt;
use std::sync::Arc;

use self::node::Node;
pub use self::user::{CallBack, GlobalLockEvent, GlobalLockUser};
use self::value::check_all;
pub use self::value::{LockValue, RwLockValue};
pub use self::waiter::{GlobalLockUpgrade, GlobalLockWaiter};
use super::coordinator::{Coordinator, key_of};
use super::driver::Key;
use super::resource::{OnAbandoned, Resource};
use crate::core::member::MemberId;
use crate::error::CoordinationError;
pub use crate::error::GlobalLockError;
use crate::hold::Lock;
use crate::name::LockName;

/// What keeps these resources apart from others of the engine.
const ROOM: &str = "global";

/// The global locks of a coordination, seen from one node. Clones are the same.
///
/// # Examples
/// ```
/// use tierlock::coordination::Coordinator;
/// use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
///
/// let node = Coordinator::connect("memory:").join("node-1")?;
/// let locks = GlobalLockCoordinator::new(&node);
/// let user = locks.user("config")?;
/// user.upgrade(RwLockValue::Write, None)?;
/// assert_eq!(user.holders()?[0].member, *node.member());
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone)]
pub struct GlobalLockCoordinator {
    node: Coordinator,
}

impl GlobalLockCoordinator {
    /// The global locks at the engine where this node takes part.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, global::GlobalLockCoordinator};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let locks = GlobalLockCoordinator::new(&node);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn new(node: &Coordinator) -> Self {
        Self { node: node.clone() }
    }

    /// This node's user of the resource: there is one as long as somebody has it.
    ///
    /// Nodes may use values of different types for one resource; what they can hold at a time is up to the values' modes.
    ///
    /// # Errors
    /// [`BadValues`](GlobalLockError::BadValues) if the values of this type are not as they should be,
    /// [`OtherValues`](GlobalLockError::OtherValues) if this node uses the resource with those of another,
    /// [`BadName`](CoordinationError::BadName) if no resource can have this name.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let locks = GlobalLockCoordinator::new(&node);
    /// let (one, same) = (locks.user("config")?, locks.user::<RwLockValue>("config")?);
    /// one.upgrade(RwLockValue::Read, None)?;
    /// assert_eq!(same.granted(), RwLockValue::Read);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn user<V: LockValue>(&self, resource: &str) -> Result<GlobalLockUser<V>, GlobalLockError> {
        check_all::<V>()?;
        let found = self.resource(key(resource)?, resource);
        found.cache();
        let user = found.user(|| Node::new(&found)).map(GlobalLockUser);
        user.ok_or_else(|| GlobalLockError::OtherValues {
            resource: resource.into(),
            values: std::any::type_name::<V>().into(),
        })
    }

    /// Forgets what a node holds of the resource and asks for, and serves those who wait for it: an administrative act, for a node that does
    /// not give back what it should. Tells whether there was anything.
    ///
    /// If the node lives, it hears of it soon, and may ask anew. Nodes that die are forgotten without this.
    ///
    /// # Errors
    /// [`BadName`](CoordinationError::BadName), or as of any request to the coordinator.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::{GlobalLockCoordinator, RwLockValue};
    /// let node = Coordinator::connect("memory:nodes").join("node-1")?;
    /// let slow = Coordinator::connect("memory:nodes").join("node-2")?;
    /// let theirs = GlobalLockCoordinator::new(&slow).user("config")?;
    /// theirs.upgrade(RwLockValue::Write, None)?;
    /// let token = theirs.token()?;
    ///
    /// let locks = GlobalLockCoordinator::new(&node);
    /// assert!(locks.node_failed("config", slow.member())?);
    /// let ours = locks.user("config")?;
    /// ours.upgrade(RwLockValue::Write, None)?;
    /// assert!(ours.token()? > token);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn node_failed(&self, resource: &str, node: &MemberId) -> Result<bool, GlobalLockError> {
        Ok(self.forget(key(resource)?, resource, node)?)
    }

    /// Forgets what a node holds of all resources and asks for, as [`node_failed`](Self::node_failed); tells of how many.
    ///
    /// # Errors
    /// As of any request to the coordinator; it may be forgotten by some of the resources then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// # use tierlock::coordination::global::GlobalLockCoordinator;
    /// let node = Coordinator::connect("memory:").join("node-1")?;
    /// let locks = GlobalLockCoordinator::new(&node);
    /// assert_eq!(locks.node_failed_everywhere(node.member())?, 0);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn node_failed_everywhere(&self, node: &MemberId) -> Result<usize, GlobalLockError> {
        let keys = self.node.seat().driver().keys(&format!("{ROOM}/"));
        let keys = keys.map_err(|error| self.node.engine_error("listing resources", error))?;
        let mut count = 0;
        for key in keys {
            let name = key.as_str()[ROOM.len() + 1..].to_owned();
            count += usize::from(self.forget(key, &name, node)?);
        }
        Ok(count)
    }

    fn forget(&self, key: Key, name: &str, node: &MemberId) -> Result<bool, CoordinationError> {
        let resource = self.resource(key, name);
        let now = resource.member().now();
        let known = resource.update(|record| {
            let known = record.holder(node).is_some() || record.pending(node).is_some();
            record.bury(node, now);
            Ok(known)
        })?;
        // It may have been this node.
        resource.settle(true)?;
        Ok(known)
    }

    fn resource(&self, key: Key, name: &str) -> Arc<Resource> {
        self.node.resource(key, |_| {
            let told: OnAbandoned = Box::new(|lock, by| lock.abandon(by));
            (Arc::new(Lock::new(LockName::alone(name.into()))), told)
        })
    }
}

fn key(resource: &str) -> Result<Key, CoordinationError> {
    key_of([ROOM, resource], "a resource", resource)
}

impl fmt::Debug for GlobalLockCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GlobalLockCoordinator").field(&self.node).finish()
    }
}
