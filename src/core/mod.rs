//! Decides who may hold a lock and who goes next.
//!
//! Pure: no thread, no clock, no I/O. What happened comes in as arguments, what follows is returned.

pub(crate) mod held;
#[cfg(feature = "coordination")]
pub(crate) mod ids;
#[cfg(feature = "coordination")]
pub(crate) mod member;
pub(crate) mod mode;
pub(crate) mod print;
pub(crate) mod queue;
#[cfg(feature = "coordination")]
pub(crate) mod record;
