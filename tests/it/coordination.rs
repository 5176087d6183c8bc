//! Locks across processes.

mod lock;
