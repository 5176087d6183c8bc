//! Locks across processes.

#[cfg(unix)]
mod file;
mod levels;
mod lock;
