//! Prints how many bytes things take, one a line, each number before what it is of.
//!
//! `bench-memory N`: with N locks for what is resident.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::{env, fs};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tierlock::{AcquireLock, LockSet, Membership, Owner, Pending, SharedLock};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Enough that what grows by doubling is near its average.
const COUNT: usize = 10_000;

fn main() {
    let count: usize = env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    resident(count);
    println!("{} idle lock, beside its name", idle());
    println!("{} idle lock in a set, with its map entry, beside its name", in_set());
    println!("{} pending request", pending());
    let handle = size_of::<Pending<AcquireLock<'_>>>();
    println!("{handle} handle of a pending request, with whoever waits");
    println!("{} owner who holds a lock", owner());
}

/// Bytes asked for and not given back.
fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Bytes for each of `COUNT` things made.
fn each<T>(make: impl FnOnce() -> T) -> usize {
    let before = live();
    let made = make();
    let bytes = (live() - before) / COUNT;
    drop(black_box(made));
    bytes
}

fn names(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|i| format!("node{i:07}.example").into()).collect()
}

/// The list of handles, a word each, is left out.
fn idle() -> usize {
    let names = names(COUNT);
    let list = size_of::<SharedLock>();
    each(|| names.into_iter().map(SharedLock::new).collect::<Vec<_>>().into_boxed_slice()) - list
}

fn in_set() -> usize {
    let names = names(COUNT);
    let names = names.iter().map(Arc::clone);
    each(|| LockSet::new("node", Membership::Listed, names).unwrap())
}

fn pending() -> usize {
    let lock = SharedLock::new("config");
    let owners: Vec<_> = (0..COUNT).map(|_| Owner::new("job")).collect();
    // Before it is counted, so that each has what comes with the first lock.
    owners.iter().for_each(|owner| drop(lock.exclusive(owner).now().unwrap()));
    let holder = Owner::new("job");
    let _held = lock.exclusive(&holder).now().unwrap();
    let mut pending = Vec::with_capacity(COUNT);
    each(|| pending.extend(owners.iter().map(|owner| lock.exclusive(owner).enqueue())))
}

fn owner() -> usize {
    let locks: Vec<_> = names(COUNT).into_iter().map(SharedLock::new).collect();
    let mut owners = Vec::with_capacity(COUNT);
    each(|| {
        owners.extend(locks.iter().map(|lock| {
            let owner = Owner::new("job");
            drop(lock.exclusive(&owner).now().unwrap());
            owner
        }));
    })
}

/// Names, map and locks, as resident as the system says they are.
fn resident(count: usize) {
    let before = pages();
    let set = LockSet::new("node", Membership::Listed, names(count)).unwrap();
    let bytes = (pages() - before) * 4096;
    println!("{bytes} a set of {count} in all, resident");
    drop(black_box(set));
}

fn pages() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux tells");
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("as it does")
}
