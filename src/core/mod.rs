//! Decides who may hold a lock and who goes next.
//!
//! Pure: no thread, no clock, no I/O. What happened comes in as arguments, what follows is returned.

pub(crate) mod held;
pub(crate) mod mode;
pub(crate) mod queue;
