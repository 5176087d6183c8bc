//! A record beside a naive model of it, and beside itself after it was written down and read.

mod damage;
mod histories;
mod naive;
mod random;

use super::*;

use self::naive::{Asker, Naive};

/// A member: a letter.
type Who = char;

/// What happens to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// `lifetime_ms` of 0 is for ever.
    Ask {
        who: Who,
        mode: Mode,
        priority: Priority,
        lifetime_ms: u64,
    },
    Withdraw {
        who: Who,
    },
    SetPriority {
        who: Who,
        priority: Priority,
    },
    /// Lowers what it holds, or releases it.
    Lower {
        who: Who,
        to: Option<Mode>,
    },
    Bury {
        who: Who,
    },
    /// Ends its hold, whatever it does.
    Dispossess {
        who: Who,
    },
    Abandon {
        who: Who,
    },
    Renumber {
        who: Who,
    },
    /// Has its hold end in so many milliseconds.
    SetEnd {
        who: Who,
        in_ms: u64,
    },
    /// Time passes until the first hold ends.
    Expire,
}

/// The record, the same read from what it wrote before the last step, and the model.
#[derive(Clone, Debug)]
struct Trial {
    record: Record,
    reread: Record,
    model: Naive,
}

impl Clone for Record {
    fn clone(&self) -> Self {
        let (holders, abandoned) = (self.holders.clone(), self.abandoned.clone());
        Self { holders, queue: self.queue.clone(), next_token: self.next_token, abandoned }
    }
}

fn id(who: Who) -> MemberId {
    MemberId::new(who.to_string(), "h", 1, 1)
}

fn who(member: &MemberId) -> Who {
    member.name().chars().next().expect("each member of a test has a name")
}

fn party(who: Who, lifetime_ms: u64) -> Party {
    let lifetime_ms = (lifetime_ms > 0).then_some(lifetime_ms);
    Party { member: id(who), owner: "o".into(), lifetime_ms }
}

impl Trial {
    fn new() -> Self {
        Self { record: Record::default(), reread: Record::default(), model: Naive::default() }
    }

    /// Does the same to all three, which have to agree.
    fn take(&mut self, step: Step) {
        let before = self.record.next_token;
        let now = self.model.at(step);
        let [one, two] =
            [&mut self.record, &mut self.reread].map(|record| apply(record, step, now));
        assert_eq!((one, two), (self.model.take(step), one), "after {step:?}");
        assert!(self.record.next_token >= before, "tokens went back");
        self.agree();
    }

    fn agree(&self) {
        for record in [&self.record, &self.reread] {
            assert_eq!(record.check(), Ok(()));
            self.model.assert_is(record);
        }
    }

    /// Writes the record down and goes on with what is read.
    fn reread(&mut self) {
        let bytes = self.record.encode().expect("it is small");
        self.reread = Record::decode(Some(&bytes)).expect("what was written can be read");
        assert_eq!(self.reread.encode().as_ref(), Ok(&bytes), "equal records, equal text");
        self.agree();
    }
}

/// Does something to a record; returns whether it was refused.
fn apply(record: &mut Record, step: Step, now: Moment) -> Result<(), Deadlock> {
    match step {
        Step::Ask { who, mode, priority, lifetime_ms } => {
            return record.ask(party(who, lifetime_ms), mode, priority, now);
        }
        Step::Withdraw { who } => record.withdraw(&id(who), now),
        Step::SetPriority { who, priority } => record.set_priority(&id(who), priority, now),
        Step::Lower { who, to } => record.lower(&id(who), to, now),
        Step::Bury { who } => record.bury(&id(who), now),
        Step::Dispossess { who } => record.dispossess(&id(who), now),
        Step::Abandon { who } => record.abandon(party(who, 0), now),
        Step::Renumber { who } => record.renumber(&id(who)),
        Step::SetEnd { who, in_ms } => {
            if let Some(token) = record.holder(&id(who)).map(|holder| holder.token) {
                record.set_end(&id(who), token, now.plus_ms(in_ms));
            }
        }
        Step::Expire => drop(record.expire(now)),
    }
    Ok(())
}

fn ask(who: Who, mode: Mode) -> Step {
    Step::Ask { who, mode, priority: 0, lifetime_ms: 0 }
}

/// A record after these steps.
fn after(steps: impl IntoIterator<Item = Step>) -> Trial {
    let mut trial = Trial::new();
    steps.into_iter().for_each(|step| trial.take(step));
    trial
}

#[test]
fn a_refused_conversion_leaves_the_earlier_one_in_line() {
    let mut trial = after([
        ask('a', Mode::Shared),
        ask('b', Mode::Shared),
        ask('c', Mode::IntentShared),
        ask('a', Mode::IntentExclusive),
    ]);
    let pending = trial.record.pending(&id('a'));
    assert_eq!(pending, Some((Mode::SharedIntentExclusive, 0)));
    trial.take(ask('c', Mode::IntentExclusive));
    // Each would wait for the other to give up what it holds.
    let refused = trial.record.ask(party('a', 0), Mode::Exclusive, 0, Moment(0));
    assert_eq!((refused, trial.record.pending(&id('a'))), (Err(Deadlock), pending));
}

#[test]
fn who_asks_anew_for_the_same_is_granted_it_for_as_long_as_it_said_last() {
    let lasting =
        |lifetime_ms| Step::Ask { who: 'b', mode: Mode::Exclusive, priority: 0, lifetime_ms };
    for (first, last) in [(0, 10), (10, 0), (10, 20), (20, 10)] {
        let mut trial = after([ask('a', Mode::Exclusive), lasting(first), ask('c', Mode::Shared)]);
        trial.take(lasting(last));
        trial.take(Step::Lower { who: 'a', to: None });
        let holder = trial.record.holder(&id('b')).expect("it kept its place");
        assert_eq!(holder.until, (last > 0).then_some(Moment(last)));
    }
    // The same of who holds it already, in a weaker mode.
    let mut trial = after([ask('a', Mode::Shared), ask('b', Mode::Shared), lasting(10)]);
    trial.take(lasting(20));
    trial.take(Step::Lower { who: 'a', to: None });
    assert_eq!(trial.record.holder(&id('b')).map(|holder| holder.until), Some(Some(Moment(20))));
}

#[test]
fn who_asks_anew_in_front_lets_nobody_past_who_would_have_waited_for_it() {
    let trial = after([
        ask('a', Mode::Shared),
        ask('b', Mode::IntentExclusive),
        Step::Ask { who: 'c', mode: Mode::Shared, priority: 5, lifetime_ms: 0 },
        ask('b', Mode::Exclusive),
    ]);
    assert_eq!(trial.record.holder(&id('c')), None);
}

#[test]
fn a_group_keeps_the_place_of_a_member_that_left_it() {
    let mut trial = after([
        ask('a', Mode::Exclusive),
        ask('b', Mode::Shared),
        ask('c', Mode::Exclusive),
        ask('d', Mode::Shared),
        Step::Withdraw { who: 'b' },
    ]);
    trial.reread();
    trial.take(Step::Lower { who: 'a', to: None });
    assert!(trial.reread.holder(&id('d')).is_some(), "it goes in the place of who left");
}

#[test]
fn the_next_exclusive_holder_is_told_whose_end_left_it_behind_and_nobody_else() {
    let mut trial = after([
        ask('a', Mode::Exclusive),
        ask('b', Mode::Shared),
        Step::Bury { who: 'a' },
        Step::Lower { who: 'b', to: None },
    ]);
    let left = trial.record.abandoned().cloned().expect("nobody was told yet");
    assert_eq!((who(&left.party.member), left.token), ('a', 1));
    trial.take(ask('c', Mode::Exclusive));
    let told = trial.record.holder(&id('c')).expect("it is free").previous.clone();
    assert_eq!((told, trial.record.abandoned()), (Some(left), None));
}

#[test]
fn a_record_that_no_engine_should_store_is_not_written() {
    let mut record = Record::default();
    let owner: Arc<str> = "o".repeat(20_000).into();
    let sizes = (0..100).map_while(|life| {
        let member = MemberId::new("m", "h", 1, life);
        let party = Party { member, owner: owner.clone(), lifetime_ms: None };
        record.ask(party, Mode::Exclusive, 0, Moment(0)).expect("nobody converts");
        record.encode().map(|bytes| bytes.len()).ok()
    });
    let largest = sizes.last().expect("some fit");
    assert!((RECORD_BYTES_MAX - 30_000..=RECORD_BYTES_MAX).contains(&largest), "{largest}");
}
