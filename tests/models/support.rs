//! What the models share: how far they are explored, and locks with cells that only holders touch.

use std::sync::Arc;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread;
use tierlock::{LockSet, Membership, Mode, Owner, SharedLock, exclusive};

pub(crate) const TIMED: Duration = Duration::from_secs(1);

/// Two threads are explored exhaustively.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(None, model);
}

/// Three threads up to three preemptions, which every seeded bug needed at most.
pub(crate) fn explore_bounded(model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(Some(3), model);
}

pub(crate) fn explore_up_to(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(model);
}

/// A lock, and a cell that only its holders touch.
#[derive(Clone)]
pub(crate) struct Guarded {
    pub(crate) lock: SharedLock,
    cell: Arc<UnsafeCell<u32>>,
}

impl Guarded {
    pub(crate) fn new() -> Self {
        Self { lock: SharedLock::new("config"), cell: Arc::new(UnsafeCell::new(0)) }
    }

    pub(crate) fn write(&self) {
        self.cell.with_mut(|_| ());
    }

    pub(crate) fn read(&self) {
        self.cell.with(|_| ());
    }

    /// Takes the lock, touches the cell as the mode permits, and gives it back.
    pub(crate) fn visit(&self, name: &'static str, mode: Mode) {
        let owner = Owner::new(name);
        let _guard = self.lock.acquire(&owner, mode).wait().unwrap();
        self.touch(mode);
    }

    /// As `visit`, unless the time is up first.
    pub(crate) fn visit_in_time(&self, name: &'static str, mode: Mode) {
        let owner = Owner::new(name);
        match self.lock.acquire(&owner, mode).timeout(TIMED).wait() {
            Ok(_guard) => self.touch(mode),
            Err(error) => assert!(error.is_timeout(), "{error}"),
        }
    }

    pub(crate) fn touch(&self, mode: Mode) {
        if mode == Mode::Exclusive { self.write() } else { self.read() }
    }

    pub(crate) fn spawn(&self, act: impl FnOnce(&Self) + 'static) -> thread::JoinHandle<()> {
        let this = self.clone();
        thread::spawn(move || act(&this))
    }

    /// Nobody holds it, nobody waits: a stranger gets it at once.
    pub(crate) fn assert_at_rest(&self) {
        assert_eq!(self.lock.mode(), None);
        drop(self.lock.exclusive(&Owner::new("stranger")).now().unwrap());
    }
}

/// Two names, and a cell for each.
#[derive(Clone)]
pub(crate) struct GuardedSet {
    pub(crate) set: LockSet,
    pub(crate) cells: Arc<[UnsafeCell<u32>; 2]>,
}

impl GuardedSet {
    pub(crate) fn new() -> Self {
        let set = LockSet::new("nodes", Membership::Listed, ["n0", "n1"]).unwrap();
        Self { set, cells: Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)]) }
    }

    pub(crate) fn visit_both(&self, name: &'static str) {
        let owner = Owner::new(name);
        let _guard = self.set.acquire(&owner, exclusive(["n0", "n1"])).wait().unwrap();
        self.cells.iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    pub(crate) fn assert_at_rest(&self) {
        let owner = Owner::new("stranger");
        drop(self.set.acquire(&owner, exclusive(["n0", "n1"])).now().unwrap());
        drop(self.set.acquire(&owner, exclusive(tierlock::ALL)).now().unwrap());
    }
}
