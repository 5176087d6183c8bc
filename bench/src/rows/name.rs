//! Row 2: one lock by its name among many, another name each time.

use std::hint::black_box;
use std::sync::Arc;

use dashmap::DashMap;
use lockable::{LockableHashMap, SyncLimit};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tierlock::{LockSet, Membership, Mode, Owner, exclusive, shared};

use super::{HELD, Inputs};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::{Dice, Ring, names};
use crate::table::{Case, Target};

const FX: &str = "Mutex<FxHashMap<_, Arc<RwLock>>>";
const LOCKABLE: &str = "lockable, exclusive";

/// So many different names are asked for.
const ASKED: usize = 8192;

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let cases = [1_000, 100_000].into_iter().flat_map(|count| {
        [Mode::Exclusive, Mode::Shared].map(|mode| {
            let title = format!("by name among {count}, {mode}");
            Case::race(2, title, effort, contenders(count, mode))
                .target(FX, Target::Ratio(1.3))
                .target(LOCKABLE, Target::Ratio(0.3))
        })
    });
    cases.collect()
}

fn contenders(count: usize, mode: Mode) -> Vec<Contender<'static>> {
    let all = names(count);
    let mut dice = Dice::new();
    let asked: Vec<Arc<str>> = (0..ASKED).map(|_| Arc::clone(&all[dice.below(count)])).collect();
    vec![
        tierlock_by_str(&all, &asked, mode),
        tierlock_by_arc(&all, &asked, mode),
        fx_hash_map(&all, &asked, mode),
        dash_map(&all, &asked, mode),
        lockable(&all, &asked),
    ]
}

/// A ring of names that are nobody else's.
fn ring(asked: &[Arc<str>]) -> Ring<String> {
    Ring::new(asked.iter().map(|name| String::from(&**name)).collect())
}

fn tierlock_by_str(all: &[Arc<str>], asked: &[Arc<str>], mode: Mode) -> Contender<'static> {
    let set = LockSet::new("node", Membership::Listed, all.to_vec()).unwrap();
    let (owner, mut asked) = (Owner::new("job"), ring(asked));
    Contender::new("tierlock", move |closely| {
        let name = black_box(asked.next().as_str());
        let request = if mode == Mode::Exclusive { exclusive(name) } else { shared(name) };
        let guard = set.acquire(&owner, request).now().unwrap();
        if closely {
            assert_eq!(guard.holds(name), Some(mode));
        }
        black_box(&guard);
    })
}

fn tierlock_by_arc(all: &[Arc<str>], asked: &[Arc<str>], mode: Mode) -> Contender<'static> {
    let set = LockSet::new("node", Membership::Listed, all.to_vec()).unwrap();
    let (owner, mut asked) = (Owner::new("job"), Ring::new(asked.to_vec()));
    Contender::new("tierlock, name as Arc<str>", move |closely| {
        let name = black_box(asked.next());
        let wanted = Arc::clone(name);
        let request = if mode == Mode::Exclusive { exclusive(wanted) } else { shared(wanted) };
        let guard = set.acquire(&owner, request).now().unwrap();
        if closely {
            assert_eq!(guard.holds(name), Some(mode));
        }
        black_box(&guard);
    })
}

/// Reads what the lock guards, while holding it.
fn touch(lock: &RwLock<u64>, mode: Mode) {
    match mode {
        Mode::Exclusive => assert_eq!(*lock.write(), HELD),
        _ => assert_eq!(*lock.read(), HELD),
    }
}

fn fx_hash_map(all: &[Arc<str>], asked: &[Arc<str>], mode: Mode) -> Contender<'static> {
    let locks = all.iter().map(|name| (String::from(&**name), Arc::new(RwLock::new(HELD))));
    let map: Mutex<FxHashMap<String, Arc<RwLock<u64>>>> = Mutex::new(locks.collect());
    let mut asked = ring(asked);
    Contender::new(FX, move |_| {
        let lock = Arc::clone(&map.lock()[black_box(asked.next())]);
        touch(&lock, mode);
    })
}

fn dash_map(all: &[Arc<str>], asked: &[Arc<str>], mode: Mode) -> Contender<'static> {
    let locks = all.iter().map(|name| (String::from(&**name), Arc::new(RwLock::new(HELD))));
    let map: DashMap<String, Arc<RwLock<u64>>> = locks.collect();
    let mut asked = ring(asked);
    Contender::new("DashMap<_, Arc<RwLock>>", move |_| {
        let lock = Arc::clone(&map.get(black_box(asked.next())).unwrap());
        touch(&lock, mode);
    })
}

/// Its entries stay, since they have values. It has no shared mode.
fn lockable(all: &[Arc<str>], asked: &[Arc<str>]) -> Contender<'static> {
    let map = LockableHashMap::<String, u64>::new();
    for name in all {
        let mut entry = map.blocking_lock(String::from(&**name), SyncLimit::no_limit()).unwrap();
        entry.insert(HELD);
    }
    let mut asked = ring(asked);
    Contender::new(LOCKABLE, move |_| {
        let entry =
            map.blocking_lock(black_box(asked.next()).clone(), SyncLimit::no_limit()).unwrap();
        assert_eq!(entry.value(), Some(&HELD));
    })
}
