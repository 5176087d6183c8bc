//! Locks across processes and machines.
#![allow(missing_docs, dead_code, unreachable_pub)]

mod agent;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod connect;
mod coordinator;
pub mod driver;
mod elsewhere;
#[cfg(unix)]
pub mod file;
pub mod ledger;
pub(crate) mod level;
mod lock;
mod member;
pub mod memory;
mod resource;
#[cfg(test)]
mod simulation;
pub mod synchronized;
mod value;

pub use self::coordinator::{Connect, Coordinator};
pub use self::driver::*;
pub use self::lock::{AcquireCluster, ClusterGuard, ClusterLock, HeldBy};
pub use self::member::Lost;
pub use self::value::Value;
pub use crate::core::member::MemberId;
pub use crate::core::record::Moment;
pub use crate::error::{CoordinationError, DriverError, DriverErrorKind};
