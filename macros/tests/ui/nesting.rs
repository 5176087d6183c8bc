#![allow(unused)]

use tierlock::{Error, LockManager, Session, SharedLock, ganeti, ganeti::Level, ssynchronized};
use tierlock::ssynchronized as held;

#[ssynchronized("n1", in = job.at(Level::Node))]
#[ssynchronized("web1", in = job.at(Level::Instance))]
fn out_of_order(job: &mut Session) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("n1", in = manager.at(ganeti::Level::Node))]
#[ssynchronized("n2", in = manager.at(ganeti::Level::Node))]
fn a_level_twice(manager: &LockManager) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock)]
#[held(other)]
fn under_another_name(lock: &SharedLock, other: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock)]
#[ssynchronized]
fn the_second_is_empty(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

fn main() {}
