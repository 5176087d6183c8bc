//! One step after the other: each ends as the model says, and leaves everybody with what the model says.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use tierlock::Mode::{Exclusive, Shared};

use super::model::{Name, UNIVERSE, Wanted, Which};
use super::steps::{CHANGES, KINDS, LEVELS, OWNERS, PLANS, Step, compare_guards, compare_sessions};

/// Mostly such as are there to begin with.
fn some_names() -> impl Strategy<Value = Which> {
    let these = |names: Vec<Name>| Which::These(names.into_iter().collect());
    prop_oneof![
        2 => Just(Which::All),
        6 => subsequence(&UNIVERSE[..3], 1..=3).prop_map(these),
        2 => subsequence(&UNIVERSE[..], 0..=3).prop_map(these),
    ]
}

fn wanted(levels: impl Strategy<Value = usize>) -> impl Strategy<Value = Wanted> {
    let at_least = prop_oneof![4 => Just(None), 1 => (0_usize..3).prop_map(Some)];
    let mode = select(&[Shared, Exclusive][..]);
    (levels, mode, some_names(), at_least).prop_map(|(level, mode, names, at_least)| Wanted {
        level,
        mode,
        names,
        at_least,
    })
}

/// Of the levels there are, and now and then one that there is not.
fn levels(count: usize) -> impl Strategy<Value = usize> + Clone {
    prop_oneof![20 => 0..count, 1 => Just(count)]
}

/// Requests in order, mostly.
fn several(count: usize) -> impl Strategy<Value = Vec<Wanted>> {
    let unsorted = prop::collection::vec(wanted(levels(count)), 0..=3);
    (unsorted, any::<[bool; 4]>()).prop_map(|(mut wanted, dice)| {
        if dice != [true; 4] {
            wanted.sort_by_key(|wanted| wanted.level);
            wanted.dedup_by_key(|wanted| wanted.level);
        }
        wanted
    })
}

/// The root by itself, without which little is granted.
fn root() -> impl Strategy<Value = Vec<Wanted>> {
    let modes = prop_oneof![5 => Just(Shared), 1 => Just(Exclusive)];
    modes.prop_map(|mode| {
        let names = Which::These(["root"].into());
        vec![Wanted { level: 0, mode, names, at_least: None }]
    })
}

fn step(count: usize) -> impl Strategy<Value = Step> {
    let owner = 0..OWNERS;
    let change = (owner.clone(), levels(count), some_names(), select(&CHANGES[..]))
        .prop_map(|(owner, level, names, change)| Step::Change { owner, level, names, change });
    prop_oneof![
        3 => (owner.clone(), root()).prop_map(|(owner, wanted)| Step::Acquire { owner, wanted }),
        5 => (owner.clone(), several(count))
            .prop_map(|(owner, wanted)| Step::Acquire { owner, wanted }),
        8 => change,
        1 => several(count).prop_map(Step::Plan),
        2 => (owner.clone(), 0..PLANS).prop_map(|(owner, plan)| Step::AcquirePlan { owner, plan }),
        1 => owner.clone().prop_map(|owner| Step::ReleaseAll { owner }),
        1 => owner.prop_map(|owner| Step::NewSession { owner }),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn sessions_hold_what_the_model_says_and_are_refused_what_it_says(
        with_root in prop::bool::weighted(0.7),
        steps in prop::collection::vec(step(LEVELS), 1..60),
    ) {
        compare_sessions(with_root, &steps);
    }

    #[test]
    fn guards_of_a_set_hold_what_the_model_says_and_are_refused_what_it_says(
        kind in KINDS,
        steps in prop::collection::vec(step(1), 1..60),
    ) {
        compare_guards(kind, &steps);
    }
}
