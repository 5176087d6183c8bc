//! Row 5: every lock of a set in one step, whatever its size.

use std::hint::black_box;

use parking_lot::RwLock;
use tierlock::{ALL, LockSet, Membership, Mode, Owner, exclusive, shared};

use super::{HELD, Inputs};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::names;
use crate::table::{Case, Target};

const WITHIN: Target = Target::AtMost(150.0);
/// Flat, but for what a busy machine adds.
const FLAT: Target = Target::Ratio(1.2);

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let (few, many) = (1_000, effort.pick(1_000_000, 50_000));
    let (small, large) = (set_of(few), set_of(many));
    let cases = [Mode::Exclusive, Mode::Shared].map(|mode| {
        let (first, second) = (format!("tierlock, {many} names"), format!("tierlock, {few} names"));
        let contenders = vec![
            tierlock(&first, &large, mode),
            tierlock(&second, &small, mode),
            one_lock(mode),
            each_lock(few, mode),
        ];
        Case::race(5, format!("all, {mode}"), effort, contenders)
            .target(&first, WITHIN)
            .target(&second, WITHIN)
            .target(&second, FLAT)
    });
    cases.into()
}

fn set_of(count: usize) -> LockSet {
    LockSet::new("node", Membership::Listed, names(count)).unwrap()
}

fn tierlock<'a>(name: &str, set: &'a LockSet, mode: Mode) -> Contender<'a> {
    let owner = Owner::new("job");
    Contender::new(name, move |_| {
        let request = if mode == Mode::Exclusive { exclusive(ALL) } else { shared(ALL) };
        let guard = black_box(set).acquire(&owner, request).now().unwrap();
        assert_eq!(guard.holds_all(), Some(mode));
    })
}

/// What one would do without names.
fn one_lock(mode: Mode) -> Contender<'static> {
    let lock = RwLock::new(HELD);
    Contender::new("one parking_lot 0.13 for everything", move |_| match mode {
        Mode::Exclusive => assert_eq!(*black_box(&lock).write(), HELD),
        _ => assert_eq!(*black_box(&lock).read(), HELD),
    })
}

/// What one would do without a lock for all.
fn each_lock(count: usize, mode: Mode) -> Contender<'static> {
    let locks: Vec<_> = (0..count).map(|_| RwLock::new(HELD)).collect();
    Contender::new(format!("{count} parking_lot 0.13, one by one"), move |_| match mode {
        Mode::Exclusive => {
            let held: Vec<_> = black_box(&locks).iter().map(|lock| lock.write()).collect();
            assert_eq!(held.len(), count);
        }
        _ => {
            let held: Vec<_> = black_box(&locks).iter().map(|lock| lock.read()).collect();
            assert_eq!(held.len(), count);
        }
    })
}
