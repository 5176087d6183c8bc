//! Nodes that write to one ledger: each keeps the right to write in its cache, until another node asks for it.
//!
//! `cargo run --example global` runs three nodes in this process. With a URL, `cargo run --example global -- file:///DIR NAME`, it
//! is one node, called `NAME`, of those that share that engine: run it in several terminals.

use std::env;
use std::error::Error;
use std::thread;

use tierlock::coordination::Coordinator;
use tierlock::coordination::global::{
    GlobalLockCoordinator, GlobalLockError, GlobalLockEvent, GlobalLockUser, RwLockValue,
};

const ENTRIES: u32 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => share("memory:ledger", &["north", "south", "west"]),
        [url, name] => share(url, &[name]),
        _ => Err("usage: global [URL NAME]".into()),
    }
}

fn share(url: &str, names: &[&str]) -> Result<(), Box<dyn Error>> {
    let nodes: Result<Vec<_>, _> =
        names.iter().map(|name| Coordinator::connect(url).join(name)).collect();
    let nodes = nodes?;
    thread::scope(|scope| {
        let work = |node| scope.spawn(move || write(node));
        let threads: Vec<_> = nodes.iter().map(work).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it panics nowhere"))
    })?;
    Ok(())
}

/// Writes, entry by entry: the node holds the ledger no longer than one takes, and keeps it as long as it may.
fn write(node: &Coordinator) -> Result<(), GlobalLockError> {
    let ledger = GlobalLockCoordinator::new(node).user("ledger")?;
    announce(&ledger, node.member().name());
    let mut asked = 0;
    for _ in 0..ENTRIES {
        if let Some(waiter) = ledger.upgrade_async(RwLockValue::Write)?.waiter() {
            asked += 1;
            waiter.wait_lock(None)?;
        }
        ledger.check()?;
        ledger.downgrade(RwLockValue::NoLock)?;
    }
    println!("{}: {ENTRIES} entries, and waited {asked} times", node.member().name());
    Ok(())
}

/// Says when another node asks for the ledger first.
fn announce(ledger: &GlobalLockUser<RwLockValue>, name: &str) {
    let (name, told) = (name.to_owned(), std::sync::Once::new());
    ledger.subscribe(move |_, event| {
        if let GlobalLockEvent::CalledBack(call_back) = event {
            told.call_once(|| println!("{name}: called back to {:?}", call_back.to));
        }
    });
}
