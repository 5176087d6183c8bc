//! Manila's coordination on Tooz: what they promise, and what went wrong there.

mod calls;
mod coordinators;
mod locks;
#[cfg(unix)]
mod processes;
mod traps;

use std::thread::{self, JoinHandle};

use tierlock::coordination::synchronized::{Coordinator, Lock, SynchronizedError};
use tierlock::coordination::{self, ClusterLock};
use tierlock::{AcquireError, Mode};

use crate::support::until;

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
fn waiting(lock: Lock, mode: Mode) -> JoinHandle<Lock> {
    let seen = lock.cluster_lock().clone();
    let thread = thread::spawn(move || {
        assert!(lock.acquire(true, mode).unwrap());
        lock
    });
    until(|| is_queued(&seen) || thread.is_finished());
    assert!(!thread.is_finished(), "{} was free", seen.name());
    thread
}

/// Tells whether somebody waits in this process.
fn is_queued(lock: &ClusterLock) -> bool {
    format!("{lock:?}").contains("queued")
}

/// The lock of a thread that waited for it.
#[track_caller]
fn granted(waiting: JoinHandle<Lock>) -> Lock {
    until(|| waiting.is_finished());
    waiting.join().expect("the waiting thread does not panic")
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

#[track_caller]
fn not_started<T>(result: Result<T, SynchronizedError>) {
    match result {
        Err(SynchronizedError::NotStarted { .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("made"),
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
