//! Long random histories of many members against the naive model.

use proptest::prelude::*;
use proptest::sample::select;

use super::{Asker, Mode, Step, Trial, id};

fn histories() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..300)
}

fn step() -> impl Strategy<Value = Step> {
    let who = || proptest::char::range('a', 'l');
    let mode = || select(&Mode::ALL);
    let priority = || -2..=2;
    let lifetime = select(&[0, 0, 5, 10, 20]);
    prop_oneof![
        30 => (who(), mode(), priority(), lifetime)
            .prop_map(|(who, mode, priority, lifetime_ms)| Step::Ask { who, mode, priority, lifetime_ms }),
        5 => who().prop_map(|who| Step::Withdraw { who }),
        5 => (who(), priority()).prop_map(|(who, priority)| Step::SetPriority { who, priority }),
        20 => (who(), proptest::option::of(mode())).prop_map(|(who, to)| Step::Lower { who, to }),
        5 => who().prop_map(|who| Step::Bury { who }),
        3 => who().prop_map(|who| Step::Dispossess { who }),
        2 => who().prop_map(|who| Step::Abandon { who }),
        2 => who().prop_map(|who| Step::Renumber { who }),
        3 => (who(), 1..30u64).prop_map(|(who, in_ms)| Step::SetEnd { who, in_ms }),
        5 => Just(Step::Expire),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_long_history_agrees_with_the_naive_model_and_survives_being_written(history in histories()) {
        let mut trial = Trial::new();
        for step in history {
            if makes_sense(&trial, step) {
                trial.take(step);
                trial.reread();
            }
        }
    }

    #[test]
    fn everybody_is_granted_once_those_before_it_left_with_ever_greater_tokens(history in histories()) {
        let mut trial = Trial::new();
        history.into_iter().for_each(|step| if makes_sense(&trial, step) { trial.take(step) });
        let mut waiting: Vec<_> = trial.model.pending.iter().map(|p| p.waiter).collect();
        while let Some(leaver) = trial.model.holders.first().map(|holder| holder.who) {
            let before = trial.record.next_token;
            trial.take(Step::Lower { who: leaver, to: None });
            for Asker { who, .. } in waiting.extract_if(.., |asker| trial.model.waits(asker.who).is_none()) {
                // Or it gave up its hold, for which it wanted more.
                let token = trial.record.holder(&id(who)).map(|holder| holder.token);
                prop_assert!(who == leaver || token.is_some_and(|token| token >= before));
            }
        }
        prop_assert_eq!(waiting, vec![]);
    }
}

/// A holder lowers to what it holds.
fn makes_sense(trial: &Trial, step: Step) -> bool {
    let Step::Lower { who, to: Some(to) } = step else { return true };
    trial.model.mode_of(who).is_none_or(|held| held.covers(to))
}
