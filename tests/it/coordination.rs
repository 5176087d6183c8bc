//! Locks across processes.

mod lock;
mod synchronized;
