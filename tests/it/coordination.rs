//! Coordination across processes.

#[cfg(unix)]
mod file;
