#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod acquire;
mod change;
mod clock;
pub mod condition;
mod core;
mod error;
pub mod ganeti;
mod hold;
mod level;
mod lock_set;
mod manager;
pub mod monitor;
mod name;
mod owner;
mod pending;
mod plan;
mod raw;
mod request;
mod session;
mod set;
mod set_hold;
mod shared_lock;
mod snapshot;
mod sync;
mod task;
mod waits;

pub use crate::acquire::Acquire;
pub use crate::change::{ChangeMembers, UpgradeNames};
pub use crate::core::mode::Mode;
pub use crate::core::queue::Priority;
pub use crate::error::{
    Abandoned, AcquireError, Blocker, BuildError, Error, HoldError, MembershipError, UpgradeError,
};
pub use crate::level::{Level, LevelId, LevelRequest};
pub use crate::lock_set::{AcquireSet, LockSet, SetGuard, Visit};
pub use crate::manager::{LockManager, LockManagerBuilder};
pub use crate::monitor::LockMonitor;
pub use crate::name::LockName;
pub use crate::owner::Owner;
pub use crate::pending::Ageing;
pub use crate::plan::{Plan, Wanted};
pub use crate::request::{ALL, All, Membership, Names, SetRequest, exclusive, shared};
pub use crate::session::{AcquireLevels, Grant, LevelSeat, Session};
pub use crate::shared_lock::{AcquireLock, DeleteLock, Guard, SharedLock, UpgradeLock};
