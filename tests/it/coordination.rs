//! Locks across processes.

mod counting;
#[cfg(unix)]
mod file;
mod global;
mod lease;
mod ledger;
mod levels;
mod lock;
mod synchronized;
