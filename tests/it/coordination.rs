//! Coordination across processes.

#[cfg(unix)]
mod file;
mod ledger;
