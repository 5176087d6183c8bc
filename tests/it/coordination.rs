//! Locks across processes.

mod lease;
mod lock;
