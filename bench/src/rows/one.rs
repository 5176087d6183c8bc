//! Row 1: one lock, taken and given back, handle in hand; with owner record and the check that the owner does not hold it.

use std::hint::black_box;

use tierlock::{Mode, Owner, SharedLock};

use super::{HELD, Inputs};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::table::{Case, Target};

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    vec![
        Case::race(1, "one lock, exclusive", effort, exclusive())
            .target("parking_lot 0.13", Target::Ratio(1.25)),
        Case::race(1, "one lock, shared", effort, shared())
            .target("parking_lot 0.13", Target::Ratio(1.15)),
    ]
}

fn tierlock(mode: Mode) -> Contender<'static> {
    let (lock, owner) = (SharedLock::new("config"), Owner::new("job"));
    Contender::new("tierlock", move |closely| {
        let guard = black_box(&lock).acquire(&owner, mode).now().unwrap();
        assert_eq!(guard.mode(), mode);
        if closely {
            assert!(lock.is_held_by(&owner, mode));
        }
    })
}

fn exclusive() -> Vec<Contender<'static>> {
    let new = parking_lot::RwLock::new(HELD);
    let old = parking_lot_12::RwLock::new(HELD);
    let std = std::sync::RwLock::new(HELD);
    let tokio = tokio::sync::RwLock::new(HELD);
    let smol = async_lock::RwLock::new(HELD);
    vec![
        tierlock(Mode::Exclusive),
        Contender::new("parking_lot 0.13", move |_| assert_eq!(*black_box(&new).write(), HELD)),
        Contender::new("parking_lot 0.12", move |_| assert_eq!(*black_box(&old).write(), HELD)),
        Contender::new("std", move |_| assert_eq!(*black_box(&std).write().unwrap(), HELD)),
        Contender::new("tokio", move |_| assert_eq!(*black_box(&tokio).try_write().unwrap(), HELD)),
        Contender::new("async-lock", move |_| {
            assert_eq!(*black_box(&smol).try_write().unwrap(), HELD);
        }),
    ]
}

fn shared() -> Vec<Contender<'static>> {
    let new = parking_lot::RwLock::new(HELD);
    let old = parking_lot_12::RwLock::new(HELD);
    let std = std::sync::RwLock::new(HELD);
    let tokio = tokio::sync::RwLock::new(HELD);
    let smol = async_lock::RwLock::new(HELD);
    vec![
        tierlock(Mode::Shared),
        Contender::new("parking_lot 0.13", move |_| assert_eq!(*black_box(&new).read(), HELD)),
        Contender::new("parking_lot 0.12", move |_| assert_eq!(*black_box(&old).read(), HELD)),
        Contender::new("std", move |_| assert_eq!(*black_box(&std).read().unwrap(), HELD)),
        Contender::new("tokio", move |_| assert_eq!(*black_box(&tokio).try_read().unwrap(), HELD)),
        Contender::new("async-lock", move |_| {
            assert_eq!(*black_box(&smol).try_read().unwrap(), HELD);
        }),
    ]
}
