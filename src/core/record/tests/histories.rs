//! Every history on some small grounds, against the naive model.
//!
//! Histories that differ only in who is called what, or when it happened, count as one. Each step is taken once in each state, by
//! the record that came there, and by what is read from what that wrote.

use std::collections::HashSet;

use super::naive::Pending;
use super::{Mode, Naive, Priority, Recall, Record, Step, Trial, Who, id};

const MEMBERS: [Who; 3] = ['a', 'b', 'c'];
const SHARED_AND_EXCLUSIVE: &[Mode] = &[Mode::Shared, Mode::Exclusive];

/// What happens to one record: every step there is, in these modes, priorities and lifetimes.
struct Ground {
    modes: &'static [Mode],
    priorities: &'static [Priority],
    lifetimes_ms: &'static [u64],
}

#[test]
fn every_history_of_any_length_with_lifetimes_agrees_with_the_naive_model() {
    let modes = SHARED_AND_EXCLUSIVE;
    let ground = Ground { modes, priorities: &[0, 1], lifetimes_ms: &[0, 10] };
    assert_eq!(ground.explore(), 2_158);
}

#[test]
fn every_history_of_any_length_in_five_modes_agrees_with_the_naive_model() {
    let ground = Ground { modes: &Mode::ALL, priorities: &[0, 1], lifetimes_ms: &[0] };
    assert_eq!(ground.explore(), 3_360);
}

type State = (
    Vec<(usize, Mode, Option<u64>)>,
    Vec<(usize, u64, Option<Mode>, Mode, Priority, usize, usize)>,
    bool,
);

/// All that decides what follows, whoever is who.
fn state(model: &Naive) -> State {
    const ORDERS: [[usize; 3]; 6] =
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut times: Vec<_> = model.pending.iter().flat_map(|p| [p.place, p.arrival]).collect();
    times.sort_unstable();
    times.dedup();
    let rank = |time| times.partition_point(|t| *t < time);
    let called = |order: [usize; 3]| {
        let name = |who: Who| order[MEMBERS.iter().position(|m| *m == who).expect("a member")];
        let holders = model.holders.iter();
        let mut holders: Vec<_> = holders
            .map(|h| (name(h.who), h.mode, h.until.map(|until| until - model.now)))
            .collect();
        holders.sort_unstable();
        let pending = model.pending.iter().map(|p| {
            let asker = (name(p.waiter.who), p.waiter.lifetime_ms);
            (asker.0, asker.1, p.from, p.mode, p.priority, rank(p.place), rank(p.arrival))
        });
        (holders, pending.collect(), model.is_abandoned())
    };
    ORDERS.into_iter().map(called).min().expect("there are six")
}

impl Ground {
    /// Takes each step once in each state; returns how many states there are.
    fn explore(&self) -> usize {
        let mut reached = vec![(0, Trial::new())];
        let mut known = HashSet::from([state(&reached[0].1.model)]);
        let (mut at, mut compared) = (0, 0);
        while let Some((steps, trial)) = reached.get(at).cloned() {
            at += 1;
            for step in self.steps(&trial.model) {
                let mut trial = trial.clone();
                trial.take(step);
                compared += 1;
                if known.insert(state(&trial.model)) {
                    trial.reread();
                    assert_answers(&trial);
                    assert_those_recalled_stand_in_the_way(&trial.record);
                    reached.push((steps + 1, trial));
                }
            }
        }
        let farthest = reached.last().map_or(0, |(steps, _)| *steps);
        println!("{} states, {compared} steps compared, {farthest} steps deep", reached.len());
        reached.len()
    }

    /// Every step that changes something.
    fn steps(&self, model: &Naive) -> Vec<Step> {
        // Of those who have nothing to do with it, one stands for all.
        let idle = |who: &Who| model.mode_of(*who).is_none() && model.waits(*who).is_none();
        let newcomer = MEMBERS.into_iter().find(idle);
        let party = MEMBERS.into_iter().filter(|who| !idle(who));
        let mut steps = vec![Step::Expire];
        for who in party.chain(newcomer) {
            self.asks(who, &mut steps);
            if model.waits(who).is_some() {
                steps.push(Step::Withdraw { who });
                let priorities = self.priorities.iter();
                steps.extend(priorities.map(|&priority| Step::SetPriority { who, priority }));
            }
            if let Some(held) = model.mode_of(who) {
                self.of_a_holder(who, held, &mut steps);
            }
            steps.push(Step::Bury { who });
        }
        steps
    }

    fn asks(&self, who: Who, steps: &mut Vec<Step>) {
        for &mode in self.modes {
            for &priority in self.priorities {
                for &lifetime_ms in self.lifetimes_ms {
                    steps.push(Step::Ask { who, mode, priority, lifetime_ms });
                }
            }
        }
    }

    fn of_a_holder(&self, who: Who, held: Mode, steps: &mut Vec<Step>) {
        let less = self.modes.iter().filter(|mode| held.covers(**mode));
        steps.extend(less.map(|mode| Step::Lower { who, to: Some(*mode) }));
        steps.extend([
            Step::Lower { who, to: None },
            Step::Abandon { who },
            Step::Renumber { who },
        ]);
        if self.lifetimes_ms.len() > 1 {
            steps.push(Step::SetEnd { who, in_ms: 20 });
        }
    }
}

/// What the record says of each member, and of all.
fn assert_answers(trial: &Trial) {
    let (record, model) = (&trial.record, &trial.model);
    for who in MEMBERS {
        let member = id(who);
        assert_eq!(record.holder(&member).map(|holder| holder.mode), model.mode_of(who));
        let waits = model.waits(who).map(|pending| (pending.mode, pending.priority));
        assert_eq!(record.pending(&member), waits);
        assert_eq!(record.recall(&member), recall(model, who), "of {who}");
        for other in MEMBERS {
            let is_party = model.mode_of(other).is_some() || model.waits(other).is_some();
            let listed = record.others(&member).any(|listed| *listed == id(other));
            assert_eq!(listed, other != who && is_party, "{other} of the others of {who}");
        }
    }
    let waiting =
        record.waiting().map(|(party, mode, priority)| (party.member.clone(), mode, priority));
    let pending = model.pending.iter().map(|p| (id(p.waiter.who), p.mode, p.priority));
    assert!(waiting.eq(pending));
}

/// What the first who may go next wants of who stands in its way: any conversion may, or else the front.
fn recall(model: &Naive, who: Who) -> Option<Recall> {
    let held = model.mode_of(who)?;
    let front = model.pending.first()?;
    let next = |p: &&Pending| match front.from {
        Some(_) => p.from.is_some(),
        None => p.arrival == front.arrival,
    };
    let mut others = model.pending.iter().filter(next).filter(|p| p.waiter.who != who);
    let blocked = others.find(|p| !p.mode.admits(held))?;
    Some(Recall { mode: blocked.mode, priority: blocked.priority, from: blocked.from })
}

/// Somebody is recalled if and only if somebody waits, and once all who are recalled gave way, somebody went.
fn assert_those_recalled_stand_in_the_way(record: &Record) {
    let recalled = |record: &Record| {
        let recall = |who: Who| record.recall(&id(who)).map(|recall| (who, recall));
        MEMBERS.into_iter().filter_map(recall).collect::<Vec<_>>()
    };
    let waiters = record.waiting().count();
    assert_eq!(recalled(record).is_empty(), waiters == 0, "{record:#?}");
    for give_way in [keep_what_is_admitted, release] {
        let mut future = record.clone();
        let mut steps = 0;
        while let Some(&(who, recall)) = recalled(&future).first() {
            let held = future.holder(&id(who)).expect("who is recalled holds").mode;
            assert!(!held.admits(recall.mode), "{who} stands in nobody's way");
            future.lower(&id(who), give_way(held, recall), super::Moment(0));
            steps += 1;
            assert!(steps < 50, "who gave way is recalled for ever: {record:#?}");
        }
        assert_eq!(future.waiting().count(), 0, "somebody waits for nobody: {record:#?}");
    }
}

fn keep_what_is_admitted(held: Mode, recall: Recall) -> Option<Mode> {
    let kept = |mode: &Mode| held.covers(*mode) && mode.admits(recall.mode);
    Mode::ALL.into_iter().rev().find(kept)
}

fn release(_: Mode, _: Recall) -> Option<Mode> {
    None
}
