//! Locks across processes.

mod counting;
mod global;
mod lock;
