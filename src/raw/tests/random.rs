//! Long random histories against the naive model.

use proptest::prelude::*;
use proptest::sample::select;

use super::naive::Naive;
use super::{Mode, Outcome, Step, Trial, Who};

/// Histories of twelve owners, in all modes and five priorities.
fn histories() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..600)
}

fn step() -> impl Strategy<Value = Step> {
    let who = || proptest::char::range('a', 'l');
    let mode = || select(&Mode::ALL);
    let priority = || -2..=2;
    prop_oneof![
        20 => (who(), mode(), priority()).prop_map(|(who, mode, priority)| Step::Request { who, mode, priority }),
        5 => (who(), mode(), priority()).prop_map(|(who, mode, priority)| Step::Try { who, mode, priority }),
        20 => who().prop_map(|who| Step::Release { who }),
        5 => who().prop_map(|who| Step::Cancel { who }),
        5 => (who(), mode()).prop_map(|(who, to)| Step::Downgrade { who, to }),
        10 => (who(), mode(), priority()).prop_map(|(who, to, priority)| Step::Upgrade { who, to, priority }),
        5 => (who(), mode()).prop_map(|(who, to)| Step::TryUpgrade { who, to }),
        5 => (who(), priority()).prop_map(|(who, priority)| Step::SetPriority { who, priority }),
        // Nothing comes after it.
        1 => who().prop_map(|who| Step::Delete { who }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_long_history_agrees_with_the_naive_model(history in histories()) {
        after(&history);
    }

    #[test]
    fn only_granted_requests_are_told(history in histories()) {
        let mut trial = Trial::new();
        for step in history.into_iter().filter(|step| !matches!(step, Step::Delete { .. })) {
            if !trial.model.permits(step) {
                continue;
            }
            let mut waited = waiters(&trial.model);
            let told = trial.take(step).told;
            let wait = waiters(&trial.model);
            for (who, outcome) in told {
                prop_assert_eq!(outcome, Outcome::Granted);
                prop_assert!(waited.contains(&who) && !wait.contains(&who));
                prop_assert!(trial.model.mode_of(who).is_some());
                waited.retain(|waiter| *waiter != who);
            }
            waited.retain(|waiter| *waiter != step.who());
            prop_assert!(waited.iter().all(|who| wait.contains(who)), "who is not told waits on");
        }
    }

    #[test]
    fn every_waiter_is_granted_once_the_holders_leave(history in histories()) {
        let mut trial = after(&history);
        let mut waited = waiters(&trial.model);
        let mut granted = Vec::new();
        while let Some(who) = trial.model.somebody_who_can_leave() {
            granted.extend(trial.release(who).granted().chars());
        }
        waited.sort_unstable();
        granted.sort_unstable();
        prop_assert_eq!(granted, waited);
        prop_assert_eq!(trial.model.holders(), &[]);
    }
}

/// A lock after a history, but for the steps that made no sense.
fn after(history: &[Step]) -> Trial {
    let mut trial = Trial::new();
    for step in history {
        if trial.model.permits(*step) {
            trial.take(*step);
        }
    }
    trial
}

fn waiters(model: &Naive) -> Vec<Who> {
    model.pending().iter().map(|request| request.waiter).collect()
}
