#![allow(unused)]

use tierlock::{Error, LockSet, SharedLock, ssynchronized};

#[ssynchronized]
fn nothing_is_named() -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, 17)]
fn an_option_is_no_word(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, shard)]
fn an_option_is_misspelt(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, shared = 1)]
fn a_mode_has_a_value(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, shared, exclusive)]
fn two_modes(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, priority)]
fn a_priority_has_no_value(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, priority = 1, priority = 2)]
fn a_priority_is_said_twice(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, blocking = false)]
fn manilas_word(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, now, timeout = "2s")]
fn a_try_has_a_timeout(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, timeout = "2s", deadline = deadline)]
fn two_limits(lock: &SharedLock, deadline: std::time::Instant) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("web1")]
fn a_name_without_a_place() -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, in = locks)]
fn a_place_without_a_name(lock: &SharedLock, locks: &LockSet) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, now = true)]
fn a_try_has_a_value(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, timeout = "2s", timeout = "3s")]
fn a_limit_is_said_twice(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock shared)]
fn a_comma_is_missing(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

fn main() {}
