//! Locks across processes.

#[cfg(unix)]
mod file;
mod lease;
mod ledger;
mod levels;
mod lock;
mod synchronized;
