//! Every short history, and on two smaller grounds every history, against the naive model.
//!
//! Histories that differ only in who is called what count as one. Those that lead to the same state go on in the same way, since
//! the lock is compared with the model down to what its queue hides; so each step is taken once in each state.

use std::collections::{BTreeMap, HashMap};

use super::naive::{Naive, ranked};
use super::{Mode, Priority, Step, Trial, Who};

const THREE: &[Who] = &['a', 'b', 'c'];
const FOUR: &[Who] = &['a', 'b', 'c', 'd'];
const SHARED_AND_EXCLUSIVE: &[Mode] = &[Mode::Shared, Mode::Exclusive];

/// What the owners do to one lock: every step there is, in these modes and priorities.
struct Ground {
    owners: &'static [Who],
    modes: &'static [Mode],
    priorities: &'static [Priority],
}

/// The states that an exploration reached, nearest first, starting with a free lock.
struct Explored {
    /// Which states the steps from each state lead to.
    next: Vec<Vec<usize>>,
    states: usize,
    /// Steps of the shortest way to the state that is farthest away.
    farthest: usize,
}

#[test]
fn every_history_of_up_to_seven_steps_with_four_requests_agrees_with_the_naive_model() {
    let ground = Ground { owners: FOUR, modes: SHARED_AND_EXCLUSIVE, priorities: &[0, 1] };
    let explored = ground.explore(7);
    assert_eq!((explored.histories(7), explored.states), (34_086_736, 858));
}

#[test]
fn every_history_of_up_to_seven_steps_in_five_modes_agrees_with_the_naive_model() {
    let ground = Ground { owners: FOUR, modes: &Mode::ALL, priorities: &[0] };
    let explored = ground.explore(7);
    assert_eq!((explored.histories(7), explored.states), (431_604_392, 8_796));
}

#[test]
fn every_history_of_any_length_in_three_priorities_agrees_with_the_naive_model() {
    let ground = Ground { owners: FOUR, modes: SHARED_AND_EXCLUSIVE, priorities: &[0, 1, 2] };
    let explored = ground.explore(usize::MAX);
    assert_eq!((explored.states, explored.farthest), (4_270, 12));
}

#[test]
fn every_history_of_any_length_of_three_owners_in_five_modes_agrees_with_the_naive_model() {
    let ground = Ground { owners: THREE, modes: &Mode::ALL, priorities: &[0, 1] };
    let explored = ground.explore(usize::MAX);
    assert_eq!((explored.states, explored.farthest), (3_248, 10));
}

/// How things stand, whoever is who: who holds, and was told by the queue; what is pending, and in which order it came.
type State = (bool, Vec<(Mode, bool)>, Vec<(Option<Mode>, Mode, Priority, u64, u64)>);

fn state(model: &Naive) -> State {
    let holders = model.holders().iter();
    let mut holders: Vec<_> =
        holders.map(|(who, mode)| (*mode, model.told().contains(who))).collect();
    holders.sort_unstable();
    let pending = ranked(model.pending()).into_iter();
    let pending = pending.map(|p| (p.from, p.mode, p.priority, p.place, p.arrival)).collect();
    (model.is_deleted(), holders, pending)
}

impl Ground {
    /// Takes each step once in each state that is less than `steps_max` steps away, and compares what comes of it.
    fn explore(&self, steps_max: usize) -> Explored {
        let mut reached = vec![(0, Trial::new())];
        let mut numbers = HashMap::from([(state(&reached[0].1.model), 0)]);
        let mut next = Vec::new();
        while let Some((steps, trial)) = reached.get(next.len()).cloned() {
            if steps == steps_max {
                break;
            }
            let follow = |step| {
                let mut trial = trial.clone();
                trial.take(step);
                let number = *numbers.entry(state(&trial.model)).or_insert(reached.len());
                if number == reached.len() {
                    trial.model.assert_nobody_waits_in_a_circle();
                    reached.push((steps + 1, trial));
                }
                number
            };
            next.push(self.steps(&trial.model).into_iter().map(follow).collect::<Vec<_>>());
        }
        let compared: usize = next.iter().map(Vec::len).sum();
        let farthest = reached.last().map_or(0, |(steps, _)| *steps);
        println!("{} states, {compared} steps compared, {farthest} steps deep", reached.len());
        Explored { next, states: reached.len(), farthest }
    }

    /// Every step that makes sense, with one owner to stand for all that are in the same position.
    fn steps(&self, model: &Naive) -> Vec<Step> {
        let idle = |who: &&Who| model.mode_of(**who).is_none() && !model.waits(**who);
        let newcomer = self.owners.iter().find(idle);
        let first_in = |mode: &Mode| {
            let holders = model.holders().iter().filter(|holder| holder.1 == *mode);
            holders.map(|holder| holder.0).find(|who| !model.waits(*who))
        };
        let asked = newcomer.into_iter().flat_map(|who| self.of_a_newcomer(*who));
        let held = self.modes.iter().filter_map(first_in).flat_map(|who| self.of_a_holder(who));
        let pending = model.pending().iter().flat_map(|request| self.of_a_waiter(request.waiter));
        asked.chain(held).chain(pending).filter(|step| model.permits(*step)).collect()
    }

    fn of_a_newcomer(&self, who: Who) -> Vec<Step> {
        let mut steps = Vec::new();
        for &mode in self.modes {
            for &priority in self.priorities {
                steps.push(Step::Request { who, mode, priority });
                steps.push(Step::Try { who, mode, priority });
            }
        }
        steps
    }

    fn of_a_holder(&self, who: Who) -> Vec<Step> {
        let mut steps = vec![Step::Release { who }, Step::Delete { who }];
        for &to in self.modes {
            steps.extend([Step::TryUpgrade { who, to }, Step::Downgrade { who, to }]);
            steps.extend(self.priorities.iter().map(|&priority| Step::Upgrade {
                who,
                to,
                priority,
            }));
        }
        steps
    }

    fn of_a_waiter(&self, who: Who) -> Vec<Step> {
        let changes = self.priorities.iter().map(|&priority| Step::SetPriority { who, priority });
        changes.chain([Step::Cancel { who }]).collect()
    }
}

impl Explored {
    /// The histories of one to `steps_max` steps.
    fn histories(&self, steps_max: usize) -> u64 {
        let (mut total, mut ends) = (0, BTreeMap::from([(0, 1)]));
        for _ in 0..steps_max {
            let mut longer = BTreeMap::new();
            for (state, histories) in ends {
                for next in &self.next[state] {
                    *longer.entry(*next).or_insert(0) += histories;
                }
            }
            total += longer.values().sum::<u64>();
            ends = longer;
        }
        println!("{total} histories");
        total
    }
}
