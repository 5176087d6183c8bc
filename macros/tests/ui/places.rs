#![allow(unused)]

use tierlock::{Error, Owner, Session, SharedLock, ganeti::Level, ssynchronized};

#[ssynchronized(lock)]
fn no_lock(lock: &str) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("web1", in = lock)]
fn no_place(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("web1", in = job.at(Level::Instance), owner = owner)]
fn a_session_with_another_owner(job: &mut Session, owner: &Owner) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, owner = "job-17")]
fn no_owner(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

fn main() {}
