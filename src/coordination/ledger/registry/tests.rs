//! Every short history of a registry, and many long ones, beside a model that keeps each id by itself.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Attend(usize),
    Make(usize, u64),
    /// From the first number up to the second.
    Lock(usize, (u64, u64)),
    Release(usize, (u64, u64)),
    End(usize),
    /// The record is lost; this member makes it anew of the counter and of what it holds itself.
    Lose(usize),
}

const MEMBERS: usize = 3;

/// What is true: each member's session, and what it was told that it holds.
#[derive(Clone, Default)]
struct Model {
    sessions: [Option<BTreeSet<u64>>; MEMBERS],
    /// Those that are yet to say what they hold, and below which number it is.
    silent: [Option<u64>; MEMBERS],
    ever: BTreeSet<u64>,
    next: u64,
}

#[derive(Clone)]
struct World {
    registry: Registry,
    model: Model,
}

impl World {
    fn new() -> Self {
        Self { registry: Registry::new(0), model: Model::default() }
    }

    fn step(&mut self, step: Step) {
        let counted = self.registry.next();
        match step {
            Step::Attend(who) => self.attend(who),
            Step::Make(who, count) => self.make(who, count),
            Step::Lock(who, (from, to)) => self.lock(who, from, to),
            Step::Release(who, (from, to)) => self.release(who, from, to),
            Step::End(who) => {
                assert_eq!(
                    self.registry.end(&member(who)).is_some(),
                    self.model.sessions[who].is_some()
                );
                self.model.sessions[who] = None;
                self.model.silent[who] = None;
            }
            Step::Lose(who) => self.lose(who),
        }
        assert!(self.registry.next() >= counted, "the counter went back");
        self.agrees();
    }

    /// As every session does before it does anything.
    fn attend(&mut self, who: usize) {
        let session = self.model.sessions[who].get_or_insert_default();
        self.registry.attend(&member(who), 0, &session.iter().copied().collect()).unwrap();
        self.model.silent[who] = None;
    }

    fn make(&mut self, who: usize, count: u64) {
        self.attend(who);
        let made = self.registry.make(&member(who), count).unwrap();
        assert_eq!(made, self.model.next..self.model.next + count);
        self.model.next = made.end;
        self.model.give(who, made);
    }

    fn lock(&mut self, who: usize, from: u64, to: u64) {
        self.attend(who);
        let free: Vec<u64> = (from..to).filter(|id| self.model.free_for(who, *id)).collect();
        let got = self.registry.lock(&member(who), &Ids::from(from..to)).unwrap();
        assert_eq!(got, Ids::from(free.clone()));
        let all = free.len() as u64 == to - from;
        assert!(all || !self.registry.in_the_way(&member(who), &Ids::from(from..to)).is_empty());
        self.model.next = self.model.next.max(free.last().map_or(0, |last| last + 1));
        self.model.give(who, free);
    }

    fn release(&mut self, who: usize, from: u64, to: u64) {
        self.attend(who);
        let held = self.model.sessions[who].as_mut().unwrap();
        let released: Vec<u64> = held.range(from..to).copied().collect();
        held.retain(|id| !released.contains(id));
        let got = self.registry.release(&member(who), &Ids::from(from..to));
        assert_eq!(got, Ids::from(released));
    }

    fn lose(&mut self, who: usize) {
        let others = (0..MEMBERS).filter(|other| *other != who);
        let others: Vec<usize> = others.filter(|o| self.model.sessions[*o].is_some()).collect();
        let members = others.iter().map(|other| member(*other));
        self.registry = Registry::rebuilt(self.model.next, members, 0);
        others.iter().for_each(|other| self.model.silent[*other] = Some(self.model.next));
        self.attend(who);
    }

    fn agrees(&self) {
        assert_eq!(self.registry.flaw(), None);
        assert_eq!(self.registry.next(), self.model.next);
        let written = self.registry.encode().unwrap();
        assert_eq!(Registry::decode(&written).as_ref(), Ok(&self.registry));
        for who in 0..MEMBERS {
            let known =
                self.model.sessions[who].as_ref().filter(|_| self.model.silent[who].is_none());
            let known = known.map(|ids| ids.iter().copied().collect());
            assert_eq!(self.registry.ids_of(&member(who)), known.as_ref());
        }
        for id in 0..self.model.next + 2 {
            let holder = self.registry.holder(id).map(|session| session.member().clone());
            assert_eq!(holder.is_none(), self.model.free_for(MEMBERS, id), "{id}: {holder:?}");
        }
    }
}

impl Model {
    /// Whether nobody else has the id, for all that is known.
    fn free_for(&self, who: usize, id: u64) -> bool {
        if self
            .sessions
            .get(who)
            .is_some_and(|own| own.as_ref().is_some_and(|own| own.contains(&id)))
        {
            return true;
        }
        (0..MEMBERS).filter(|other| *other != who).all(|other| match self.silent[other] {
            Some(end) => id >= end,
            None => self.sessions[other].as_ref().is_none_or(|held| !held.contains(&id)),
        })
    }

    fn give(&mut self, who: usize, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let others = self.sessions.iter().enumerate().filter(|(other, _)| *other != who);
            let twice = others.flat_map(|(_, held)| held).any(|held| held.contains(&id));
            assert!(!twice, "{id} is held by two");
            self.ever.insert(id);
            self.sessions[who].as_mut().unwrap().insert(id);
        }
        assert!(self.ever.last().is_none_or(|last| *last < self.next), "the counter is not above");
    }
}

fn member(who: usize) -> MemberId {
    MemberId::new(format!("m{who}"), "host", 12, who as u64)
}

const HISTORY: usize = 5;

#[test]
fn every_short_history_gives_what_single_ids_would() {
    use Step::{Attend, End, Lock, Lose, Make, Release};
    let steps =
        [Make(0, 2), Make(1, 1), Attend(1), Lock(0, (0, 2)), Lock(1, (1, 4)), Release(0, (1, 3))];
    let steps = [&steps[..], &[Release(1, (0, 2)), End(0), End(1), Lose(0), Lose(1)]].concat();
    let mut histories = 0;
    enumerate(&World::new(), &steps, HISTORY, &mut histories);
    assert_eq!(histories, (1..=HISTORY as u32).map(|length| 11_u64.pow(length)).sum::<u64>());
}

fn enumerate(world: &World, steps: &[Step], length: usize, histories: &mut u64) {
    if length == 0 {
        return;
    }
    for step in steps {
        let mut world = world.clone();
        world.step(*step);
        *histories += 1;
        enumerate(&world, steps, length - 1, histories);
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS;
    let some = (0..40u64, 0..12u64).prop_map(|(from, count)| (from, from + count));
    prop_oneof![
        1 => who.clone().prop_map(Step::Attend),
        4 => (who.clone(), 0..9u64).prop_map(|(who, count)| Step::Make(who, count)),
        4 => (who.clone(), some.clone()).prop_map(|(who, ids)| Step::Lock(who, ids)),
        4 => (who.clone(), some).prop_map(|(who, ids)| Step::Release(who, ids)),
        1 => who.clone().prop_map(Step::End),
        1 => who.prop_map(Step::Lose),
    ]
}

proptest! {
    #[test]
    fn any_long_history_gives_what_single_ids_would(
        steps in proptest::collection::vec(any_step(), 0..60),
    ) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Registry::decode(&bytes);
    }

    #[test]
    fn a_record_cut_short_or_with_one_byte_changed_is_never_one_with_fewer_ids_held(
        at in 0..1000usize, byte in any::<u8>(),
    ) {
        let mut registry = Registry::new(0);
        registry.attend(&member(0), 0, &Ids::from(0..50)).unwrap();
        registry.attend(&member(1), 0, &Ids::from(70..71)).unwrap();
        let whole = registry.encode().unwrap();
        let at = at % whole.len();
        prop_assert!(Registry::decode(&whole[..at]).is_err());
        let mut changed = whole.clone();
        changed[at] = byte;
        if let Ok(changed) = Registry::decode(&changed) {
            prop_assert_eq!(changed.sessions().len(), 2);
        }
    }
}

#[test]
fn a_member_is_another_if_only_the_host_is() {
    let (a, b) = (MemberId::new("m", "h1", 12, 7), MemberId::new("m", "h12", 12, 7));
    let mut registry = Registry::new(0);
    registry.attend(&a, 0, &Ids::default()).unwrap();
    registry.attend(&b, 0, &Ids::default()).unwrap();
    assert_eq!(registry.make(&a, 1), Ok(0..1));
    assert!(registry.lock(&b, &Ids::from(0)).unwrap().is_empty());
}

#[test]
fn what_is_held_twice_or_counted_too_low_is_no_registry_and_says_what_is_wrong() {
    let session = |who, ids| LedgerSession::new(member(who), 0, ids);
    let registry = |next, sessions| Registry { format: FORMAT, next, sessions };
    let flaw = |r: Registry| r.flaw().expect("it has one");
    let twice = registry(9, vec![session(0, Ids::from(0..9)), session(1, Ids::from([3, 7]))]);
    assert_eq!(flaw(twice), "id 3 is held by m0 (host, pid 12) and by m1 (host, pid 12)");
    let low = registry(8, vec![session(0, Ids::from(0..9))]);
    assert_eq!(flaw(low), "the counter, 8, is not above all that m0 (host, pid 12) holds");
    let last = registry(u64::MAX, vec![session(0, Ids::from(u64::MAX))]);
    assert!(flaw(last).contains("is not above all that m0"));
    let two = registry(9, vec![session(0, Ids::from(1)), session(0, Ids::from(2))]);
    assert_eq!(flaw(two), "m0 (host, pid 12) has two sessions");
}

#[test]
fn who_holds_what_another_has_by_now_is_told_what_and_by_whom() {
    let mut registry = Registry::new(0);
    registry.attend(&member(0), 0, &Ids::from(0..4)).unwrap();
    let refused = registry.attend(&member(1), 0, &Ids::from([3, 5]));
    assert_eq!(refused, Err(Refusal::Taken { ids: Ids::from(3), by: member(0) }));
    assert_eq!(registry.session(&member(1)), None);
}

#[test]
fn the_numbers_end_without_a_wrap() {
    let mut registry = Registry::new(u64::MAX - 2);
    registry.attend(&member(0), 0, &Ids::default()).unwrap();
    assert_eq!(registry.make(&member(0), 3), Err(Refusal::OutOfIds(3)));
    assert_eq!(registry.lock(&member(0), &Ids::from(u64::MAX)), Err(Refusal::OutOfIds(1)));
    assert_eq!(registry.make(&member(0), 2), Ok(u64::MAX - 2..u64::MAX));
    assert_eq!(registry.make(&member(0), 1), Err(Refusal::OutOfIds(1)));
    assert_eq!(registry.flaw(), None);
}

#[test]
fn another_format_is_known_as_such_whatever_else_it_has() {
    let newer = br#"{"format":2,"next":1,"sessions":{},"shards":9}"#;
    assert_eq!(Registry::decode(newer), Err(Unreadable::Format(2)));
    let date = LedgerSession::new(member(0), u64::MAX, Ids::default());
    assert_eq!(date.to_string(), "m0 (host, pid 12) since 9999-12-31T23:59:59Z");
}

#[test]
fn half_a_million_ranges_have_room_and_a_million_do_not() {
    let mut registry = Registry::new(10_000_000_000);
    let scattered = |count: u64| (0..count).map(|at| 9_000_000_000 + 2 * at).collect::<Ids>();
    registry.attend(&member(0), 0, &scattered(500_000)).unwrap();
    let bytes = registry.encode().unwrap();
    assert_eq!(bytes.len() * 4 / BYTES_MAX, 2, "{} bytes", bytes.len());
    assert_eq!(Registry::decode(&bytes), Ok(registry.clone()));
    registry.lock(&member(0), &scattered(1_000_000)).unwrap();
    assert!(registry.encode().is_err());
}
