//! Locks across processes.

mod levels;
mod lock;
mod synchronized;
