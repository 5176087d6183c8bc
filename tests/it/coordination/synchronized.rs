//! Manila's coordination on Tooz: what they promise, and what went wrong there.

mod calls;
mod coordinators;
mod locks;
mod traps;

use tierlock::coordination;
use tierlock::coordination::synchronized::{Coordinator, Lock, SynchronizedError};
use tierlock::{AcquireError, Mode};

use crate::support::{Waiter, until};

const EXCLUSIVE: Mode = Mode::Exclusive;
const SHARED: Mode = Mode::Shared;

/// An agent of a store in memory, not started.
fn stopped(store: &str) -> Coordinator {
    Coordinator::new(coordination::Coordinator::connect(&format!("memory:{store}")))
}

fn agent(store: &str) -> Coordinator {
    let agent = stopped(store);
    agent.start().unwrap();
    agent
}

/// Two locks of one name, of two agents.
fn two_agents(store: &str) -> (Lock, Lock) {
    let lock = || agent(store).get_lock("lock").unwrap();
    (lock(), lock())
}

/// Two locks of one name, of one agent.
fn two_locks(store: &str) -> (Lock, Lock) {
    let agent = agent(store);
    (agent.get_lock("lock").unwrap(), agent.get_lock("lock").unwrap())
}

/// A thread that waits for a lock; comes back when it is in line.
#[track_caller]
fn waiting(lock: Lock, mode: Mode) -> Waiter<Lock> {
    let name = lock.name().to_owned();
    let waiter = Waiter::begin(&name, move |_| {
        assert!(lock.acquire(true, mode).unwrap());
        lock
    });
    assert!(!waiter.is_through(), "{name} was free");
    waiter
}

/// Comes back when somebody is in line at the engine.
#[track_caller]
fn until_in_line(lock: &Lock) {
    until(|| !lock.cluster_lock().waiters().unwrap().is_empty());
}

#[track_caller]
fn acquire_failed<T>(result: Result<T, SynchronizedError>) -> AcquireError {
    match result {
        Err(SynchronizedError::LockAcquireFailed(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("acquired"),
    }
}

/// Why a lock was not made.
#[track_caller]
fn creation_failed<T>(result: Result<T, SynchronizedError>) -> String {
    match result {
        Err(SynchronizedError::LockCreationFailed { reason, .. }) => reason.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("made"),
    }
}
