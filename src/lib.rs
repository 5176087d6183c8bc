#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// What the macros write begins with `::tierlock`, here too.
extern crate self as tierlock;

mod acquire;
pub mod annotation;
#[cfg_attr(not(feature = "coordination"), allow(dead_code, reason = "nothing lies beyond"))]
mod beyond;
mod bundle;
mod chain;
mod change;
mod clock;
pub mod condition;
#[cfg(feature = "coordination")]
pub mod coordination;
mod core;
mod current;
#[cfg(unix)]
mod descriptor;
mod error;
pub mod ganeti;
mod hold;
mod lent;
mod level;
mod listeners;
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
mod striped;
mod sync;
mod target;
mod task;
pub mod template;
mod timer;
mod waits;

/// Steps as bytes, for fuzzers, whose build sets the flag.
#[cfg(fuzzing)]
#[doc(hidden)]
pub use crate::raw::tests::bytes::replay as replay_lock;

pub use crate::acquire::{Acquire, Acquiring};
pub use crate::chain::Ageing;
pub use crate::change::{ChangeMembers, UpgradeNames};
pub use crate::core::mode::Mode;
pub use crate::core::queue::Priority;
pub use crate::current::Scoped;
#[cfg(unix)]
pub use crate::descriptor::Descriptor;
pub use crate::error::{
    Abandoned, AcquireError, Blocker, BuildError, Error, HoldError, MembershipError, UpgradeError,
};
pub use crate::level::{Level, LevelId, LevelRequest, Levels};
pub use crate::lock_set::{AcquireSet, LockSet, SetGuard, Visit};
pub use crate::manager::{LockManager, LockManagerBuilder};
pub use crate::monitor::LockMonitor;
pub use crate::name::{LockName, Name};
pub use crate::owner::Owner;
pub use crate::pending::Pending;
pub use crate::plan::{Plan, Wanted};
pub use crate::request::{ALL, All, Membership, Names, SetRequest, ToName, exclusive, shared};
pub use crate::session::{
    AcquireLevel, AcquireLevels, AcquireOwned, Grant, LevelGuard, LevelSeat, ManagerLevel, Session,
    SessionLevel, SessionRefused,
};
pub use crate::shared_lock::{AcquireLock, DeleteLock, Guard, SharedLock, UpgradeLock};
pub use crate::target::Target;
pub use tierlock_macros::{Level, ssynchronized};

/// What fuzzing needs to reach.
#[cfg(all(fuzzing, feature = "coordination"))]
#[doc(hidden)]
pub mod fuzzed {
    /// Plays with what may be a record.
    pub fn record(input: &[u8]) {
        crate::core::record::fuzzed::record(input);
    }

    /// Reads what may be a URL.
    #[cfg(unix)]
    pub fn url(text: &str) {
        crate::coordination::fuzzed::url(text);
    }
}
