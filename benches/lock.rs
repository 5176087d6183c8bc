//! What taking and giving back costs while nobody else wants it, beside parking_lot's nameless lock.
//!
//! `cargo bench --bench lock`. Each row asserts that it held what it says.

use divan::{Bencher, black_box};
use tierlock::ganeti::{self, Level::*};
use tierlock::{ALL, Level as _, LockSet, Membership, Mode, Owner, SharedLock, exclusive};

fn main() {
    divan::main();
}

/// Measures one lock, handle in hand, with owner record and the check that the owner does not hold it already.
mod one {
    use super::*;

    #[divan::bench(args = [Mode::Exclusive, Mode::Shared])]
    fn tierlock(bencher: Bencher<'_, '_>, mode: Mode) {
        let (lock, owner) = (SharedLock::new("config"), Owner::new("job"));
        bencher.bench_local(|| {
            let guard = black_box(&lock).acquire(&owner, mode).now().unwrap();
            assert_eq!(guard.mode(), mode);
        });
    }

    #[divan::bench(args = [Mode::Exclusive, Mode::Shared])]
    fn parking_lot(bencher: Bencher<'_, '_>, mode: Mode) {
        let lock = parking_lot::RwLock::new(());
        bencher.bench_local(|| match mode {
            Mode::Exclusive => drop(black_box(&lock).write()),
            _ => drop(black_box(&lock).read()),
        });
    }
}

/// Measures a set: some names by name, and all of them.
mod set {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("node{i}")).collect()
    }

    #[divan::bench(args = [1, 10, 100])]
    fn by_name(bencher: Bencher<'_, '_>, count: usize) {
        let set = LockSet::new("node", Membership::Listed, names(1_000)).unwrap();
        let owner = Owner::new("job");
        let wanted = names(count);
        bencher.bench_local(|| {
            let guard = set.acquire(&owner, exclusive(&wanted)).now().unwrap();
            assert!(guard.holds("node0").is_some());
        });
    }

    #[divan::bench(args = [1_000, 100_000])]
    fn all(bencher: Bencher<'_, '_>, count: usize) {
        let set = LockSet::new("node", Membership::Listed, names(count)).unwrap();
        let owner = Owner::new("job");
        bencher.bench_local(|| {
            let guard = set.acquire(&owner, exclusive(ALL)).now().unwrap();
            assert_eq!(guard.holds_all(), Some(Mode::Exclusive));
        });
    }
}

/// Measures a session: a plan of three levels, prepared once.
#[divan::bench(args = [1, 10, 100])]
fn plan(bencher: Bencher<'_, '_>, count: usize) {
    let nodes: Vec<String> = (0..count).map(|i| format!("node{i}")).collect();
    let manager = ganeti::manager(["web1"], ["default"], nodes.clone(), [""; 0]).build().unwrap();
    let plan = manager
        .plan([Cluster.shared("BGL"), Instance.exclusive("web1"), Node.shared(nodes)])
        .unwrap();
    let mut session = manager.session("job");
    bencher.bench_local(|| {
        session.acquire(&plan).now().unwrap();
        assert!(session.holds(Instance, "web1").is_some());
        session.release_all();
    });
}
