//! Locks across processes.

#[cfg(unix)]
mod file;
mod ledger;
mod levels;
mod lock;
mod synchronized;
