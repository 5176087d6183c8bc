#![allow(unused)]

use tierlock::{Error, SharedLock, ssynchronized};

#[ssynchronized(lock, timeout = "2")]
fn without_a_unit(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, timeout = "2 fortnights")]
fn of_an_unknown_unit(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, timeout = "1.5s")]
fn not_whole(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, timeout = "soon")]
fn without_a_number(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, timeout = "99999999999999999999s")]
fn too_long(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, timeout = 2)]
fn no_duration(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

fn main() {}
