//! Locks across processes and machines.
#![allow(missing_docs, dead_code, unreachable_pub)]

pub mod driver;
#[cfg(unix)]
pub mod file;

pub use self::driver::*;
pub use crate::core::member::MemberId;
pub use crate::core::record::Moment;
