//! Locks across processes and machines.
#![allow(missing_docs, dead_code, unreachable_pub)]

pub(crate) mod agent;
pub(crate) mod connect;
mod coordinator;
pub mod driver;
mod elsewhere;
pub mod global;
mod lock;
pub(crate) mod member;
pub mod memory;
pub(crate) mod resource;
mod stake;

pub use self::coordinator::{Connect, Coordinator};
pub use self::driver::*;
pub use self::lock::{AcquireCluster, ClusterGuard, ClusterLock, HeldBy};
pub use self::member::Lost;
pub use crate::core::member::MemberId;
pub use crate::core::record::Moment;
pub use crate::error::{CoordinationError, DriverError, DriverErrorKind};
