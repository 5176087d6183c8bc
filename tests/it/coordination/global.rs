//! Global locks, as the documentation of Perseus has them, sentence by sentence; and what is known to go wrong with them.

mod call_backs;
mod failures;
mod upgrades;
mod values;

use std::thread;
use std::time::Duration;

use tierlock::coordination::Coordinator;
use tierlock::coordination::global::{
    GlobalLockCoordinator, GlobalLockError, GlobalLockUser, LockValue, RwLockValue,
};

use crate::support::now;
use RwLockValue::{NoLock, Read, Upgrade, Write};

type User = GlobalLockUser<RwLockValue>;

const SOON: Option<Duration> = Some(Duration::from_secs(10));
/// Long enough to stand in line, and over soon.
const BRIEFLY: Option<Duration> = Some(Duration::from_millis(5));

/// Nodes at a store of their own.
fn nodes<const N: usize>(store: &str) -> [Coordinator; N] {
    let url = format!("memory:global-{store}");
    std::array::from_fn(|at| Coordinator::connect(&url).join(&format!("node-{at}")).unwrap())
}

/// Their users of one resource. Somebody has to keep the nodes.
fn users<V: LockValue, const N: usize>(nodes: &[Coordinator; N]) -> [GlobalLockUser<V>; N] {
    nodes.each_ref().map(|node| user(node))
}

fn user<V: LockValue>(node: &Coordinator) -> GlobalLockUser<V> {
    GlobalLockCoordinator::new(node).user("config").unwrap()
}

/// What a thread of its own brings about.
#[track_caller]
fn soon(what: impl Fn() -> bool) {
    let start = now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not happen");
        thread::yield_now();
    }
}

fn is_timed_out<T>(result: &Result<T, GlobalLockError>) -> bool {
    matches!(result, Err(GlobalLockError::TimedOut { .. }))
}

fn is_deadlock<T>(result: &Result<T, GlobalLockError>) -> bool {
    matches!(result, Err(GlobalLockError::Deadlock { .. }))
}
