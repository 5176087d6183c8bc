//! Row 4: many locks at once by their names, in no order, out of 10,000; other names each time.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use happylock::ThreadKey;
use happylock::collection::RefLockCollection;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use tierlock::{LockSet, Membership, Mode, Owner, ToName, exclusive};

use super::{HELD, Inputs};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::{Dice, Ring, names};
use crate::table::{Case, Target};

const BTREE: &str = "sort, BTreeMap<_, RwLock>";
const ALL: usize = 10_000;
/// So many different sets of names are asked for.
const ASKED: usize = 32;

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let cases = [10, 100, 1_000].map(|count| {
        Case::race(4, format!("{count} names out of 10,000, unsorted"), effort, contenders(count))
            .target(BTREE, Target::Ratio(0.5))
    });
    cases.into()
}

fn contenders(count: usize) -> Vec<Contender<'static>> {
    let all = names(ALL);
    let mut dice = Dice::new();
    let asked: Vec<Vec<Arc<str>>> = (0..ASKED).map(|_| dice.some(&all, count)).collect();
    let texts = |names: &Vec<Arc<str>>| names.iter().map(|name| String::from(&**name)).collect();
    let texts: Vec<Vec<String>> = asked.iter().map(texts).collect();
    vec![
        tierlock("tierlock", &all, texts.clone()),
        tierlock("tierlock, names as Arc<str>", &all, asked),
        btree_map(&all, texts.clone()),
        fx_hash_map(&all, texts.clone()),
        happylock(&all, texts),
    ]
}

fn tierlock<N>(name: &str, all: &[Arc<str>], asked: Vec<Vec<N>>) -> Contender<'static>
where
    N: ToName + AsRef<str> + 'static,
{
    let set = LockSet::new("node", Membership::Listed, all.to_vec()).unwrap();
    let (owner, mut asked) = (Owner::new("job"), Ring::new(asked));
    Contender::new(name, move |closely| {
        let names = black_box(asked.next());
        let guard = set.acquire(&owner, exclusive(names)).now().unwrap();
        if closely {
            let held = |name: &N| guard.holds(name.as_ref()) == Some(Mode::Exclusive);
            assert!(names.iter().all(held));
        }
        black_box(&guard);
    })
}

/// The names in the order in which everybody locks them.
fn sorted(names: &[String]) -> Vec<&str> {
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

fn btree_map(all: &[Arc<str>], asked: Vec<Vec<String>>) -> Contender<'static> {
    let locks = all.iter().map(|name| (String::from(&**name), RwLock::new(HELD)));
    let map: BTreeMap<String, RwLock<u64>> = locks.collect();
    let mut asked = Ring::new(asked);
    Contender::new(BTREE, move |_| {
        let names = black_box(asked.next());
        let held: Vec<_> = sorted(names).into_iter().map(|name| map[name].write()).collect();
        assert_eq!((held.len(), *held[0]), (names.len(), HELD));
    })
}

fn fx_hash_map(all: &[Arc<str>], asked: Vec<Vec<String>>) -> Contender<'static> {
    let locks = all.iter().map(|name| (String::from(&**name), RwLock::new(HELD)));
    let map: FxHashMap<String, RwLock<u64>> = locks.collect();
    let mut asked = Ring::new(asked);
    Contender::new("sort, FxHashMap<_, RwLock>", move |_| {
        let names = black_box(asked.next());
        let held: Vec<_> = sorted(names).into_iter().map(|name| map[name].write()).collect();
        assert_eq!((held.len(), *held[0]), (names.len(), HELD));
    })
}

/// Sorts by address, so that it needs no order of names.
fn happylock(all: &[Arc<str>], asked: Vec<Vec<String>>) -> Contender<'static> {
    let locks = all.iter().map(|name| (String::from(&**name), happylock::RwLock::new(HELD)));
    let map: FxHashMap<String, happylock::RwLock<u64>> = locks.collect();
    let mut asked = Ring::new(asked);
    Contender::new("happylock, FxHashMap", move |_| {
        let names = black_box(asked.next());
        let locks: Vec<_> = names.iter().map(|name| &map[name]).collect();
        let locks = RefLockCollection::try_new(&locks).expect("no name twice");
        let held = locks.lock(ThreadKey::get().expect("nothing else is locked by it"));
        assert_eq!((held.len(), *held[0]), (names.len(), HELD));
    })
}
