//! One step after the other: each ends as the model says, and leaves everybody with what the model says.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{
    AcquireError, HoldError, LevelId, LevelRequest, LockManager, LockManagerBuilder, LockSet,
    Membership, MembershipError, Names, Owner, Plan, Session, SetGuard, SetRequest, UpgradeError,
    exclusive, shared,
};

use super::model::{Level, Model, Name, Refused, UNIVERSE, Wanted, Which};

const OWNERS: usize = 3;
const PLANS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Acquire { owner: usize, wanted: Vec<Wanted> },
    Plan(Vec<Wanted>),
    AcquirePlan { owner: usize, plan: usize },
    Change { owner: usize, level: usize, names: Which, change: Change },
    ReleaseAll { owner: usize },
    NewSession { owner: usize },
}

/// What is done with names of a level.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Release,
    Keep,
    Downgrade,
    Upgrade,
    Add,
    AddHeld,
    Remove,
}

const CHANGES: [Change; 7] = [
    Change::Release,
    Change::Keep,
    Change::Downgrade,
    Change::Upgrade,
    Change::Add,
    Change::AddHeld,
    Change::Remove,
];

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

/// The variant of an error and the lock that it names, as the model says it.
trait Named {
    fn named(&self) -> Refused;
}

impl Named for AcquireError {
    fn named(&self) -> Refused {
        match self {
            Self::AlreadyHeld { lock, .. } => format!("AlreadyHeld {lock}"),
            Self::NotFound { lock, .. } => format!("NotFound {lock}"),
            Self::WouldBlock { lock, .. } => format!("WouldBlock {lock}"),
            Self::OutOfOrder { held, .. } => format!("OutOfOrder {held}"),
            Self::RootNotHeld { root, .. } => format!("RootNotHeld {root}"),
            Self::UnknownLevel { level, .. } => format!("UnknownLevel {level}"),
            Self::NotEnough { set, .. } => format!("NotEnough {set}"),
            other => format!("unexpected: {other}"),
        }
    }
}

impl Named for HoldError {
    fn named(&self) -> Refused {
        match self {
            Self::NotHeld { lock, .. } => format!("NotHeld {lock}"),
            Self::RootNeeded { root, .. } => format!("RootNeeded {root}"),
            Self::UnknownLevel { level, .. } => format!("UnknownLevel {level}"),
            other => format!("unexpected: {other}"),
        }
    }
}

impl Named for UpgradeError {
    fn named(&self) -> Refused {
        match self {
            Self::Hold(error) => error.named(),
            Self::Acquire(error) => error.named(),
            other => format!("unexpected: {other}"),
        }
    }
}

impl Named for MembershipError {
    fn named(&self) -> Refused {
        match self {
            Self::AlreadyExists { lock, .. } => format!("AlreadyExists {lock}"),
            Self::NotModifiable { set, .. } => format!("NotModifiable {set}"),
            Self::HeldOtherwise { lock, .. } => format!("HeldOtherwise {lock}"),
            Self::RootStays { root, .. } => format!("RootStays {root}"),

            Self::Acquire(error) => error.named(),
            other => format!("unexpected: {other}"),
        }
    }
}

fn outcome<T, E: Named>(result: Result<T, E>) -> Result<(), Refused> {
    result.map(drop).map_err(|error| error.named())
}

fn level(name: &'static str, membership: Membership, names: &[Name]) -> Level {
    Level { name, membership, names: names.iter().copied().collect() }
}

/// A level of each kind.
fn hierarchy() -> Vec<Level> {
    vec![
        level("top", Membership::Listed, &["a", "root"]),
        level("listed", Membership::Listed, &["a", "b", "c"]),
        level("demand", Membership::OnDemand, &[]),
        level("fixed", Membership::Fixed, &["a", "b"]),
    ]
}

struct Manager {
    manager: LockManager,
    ids: Vec<LevelId>,
    sessions: Vec<Session>,
    plans: Vec<Plan>,
}

impl Manager {
    fn new(levels: &[Level], root: Option<Name>) -> Self {
        let ids: Vec<_> =
            levels.iter().enumerate().map(|(rank, level)| LevelId::new(rank, level.name)).collect();
        let describe =
            |builder: LockManagerBuilder, (level, id): (&Level, &LevelId)| match level.membership {
                Membership::Listed => builder.level(id, level.names.iter().copied()),
                Membership::Fixed => builder.fixed_level(id, level.names.iter().copied()),
                Membership::OnDemand => builder.on_demand_level(id),
            };
        let builder = levels.iter().zip(&ids).fold(LockManager::builder(), describe);
        let builder = root.into_iter().fold(builder, LockManagerBuilder::root);
        let manager = builder.build().expect("a sound description");
        let sessions = (0..OWNERS).map(|_| manager.session("job")).collect();
        Self { manager, ids, sessions, plans: Vec::new() }
    }

    fn id(&self, level: usize) -> LevelId {
        self.ids.get(level).cloned().unwrap_or_else(|| LevelId::new(level, "moon"))
    }

    fn request(&self, wanted: &Wanted) -> LevelRequest {
        use tierlock::Level as _;
        let level = self.id(wanted.level);
        let request = match wanted.mode {
            Exclusive => level.exclusive(&wanted.names),
            _ => level.shared(&wanted.names),
        };
        wanted.at_least.map_or(request.clone(), |count| request.at_least(count))
    }

    fn requests(&self, wanted: &[Wanted]) -> Vec<LevelRequest> {
        wanted.iter().map(|wanted| self.request(wanted)).collect()
    }

    fn change(
        &mut self,
        owner: usize,
        level: usize,
        names: &Which,
        change: Change,
    ) -> Result<(), Refused> {
        let (level, names) = (self.id(level), Names::from(names));
        let session = &mut self.sessions[owner];
        match change {
            Change::Release => outcome(session.release(level, names)),
            Change::Keep => outcome(session.keep(level, names)),
            Change::Downgrade => outcome(session.downgrade(level, names)),
            Change::Upgrade => outcome(session.upgrade(level, names).now()),
            Change::Add => outcome(session.add(level, names).now()),
            Change::AddHeld => outcome(session.add_held(level, names).now()),
            Change::Remove => outcome(session.remove(level, names).now()),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), Refused> {
        match step {
            Step::Acquire { owner, wanted } => {
                let wanted = self.requests(wanted);
                outcome(self.sessions[*owner].acquire(wanted).now())
            }
            Step::Plan(wanted) => {
                if self.plans.len() == PLANS {
                    self.plans.remove(0);
                }
                let plan = self.manager.plan(self.requests(wanted));
                outcome(plan.map(|plan| self.plans.push(plan)))
            }
            Step::AcquirePlan { owner, plan } => match self.plans.get(*plan) {
                Some(plan) => outcome(self.sessions[*owner].acquire(plan).now()),
                None => Ok(()),
            },
            Step::Change { owner, level, names, change } => {
                self.change(*owner, *level, names, *change)
            }
            Step::ReleaseAll { owner } => {
                self.sessions[*owner].release_all();
                Ok(())
            }
            Step::NewSession { owner } => {
                self.sessions[*owner] = self.manager.session("job");
                Ok(())
            }
        }
    }

    fn assert_as(&self, model: &Model) {
        for (rank, level) in self.ids.iter().enumerate() {
            assert_eq!(texts(&self.manager.names(level)), model.names(rank), "names of {level:?}");
            for (owner, session) in self.sessions.iter().enumerate() {
                let held = &model.held[owner][rank];
                assert_eq!(session.holds_all(level), held.all, "owner {owner} of all {level:?}");
                assert_eq!(texts(&session.owned(level)), model.owned(owner, rank));
                for name in UNIVERSE {
                    let expected = model.mode_of(owner, rank, name);
                    assert_eq!(session.holds(level, name), expected, "owner {owner}, {name}");
                }
            }
        }
    }
}

fn texts(names: &[std::sync::Arc<str>]) -> BTreeSet<Name> {
    let known = |name: &str| UNIVERSE.iter().copied().find(|known| *known == name);
    names.iter().map(|name| known(name).expect("a name of the universe")).collect()
}

fn expect(model: &mut Model, step: &Step) -> Result<(), Refused> {
    match step {
        Step::Acquire { owner, wanted } => model.acquire(*owner, wanted),
        Step::Plan(wanted) => {
            if model.plans.len() == PLANS {
                model.plans.remove(0);
            }
            model.plan(wanted)
        }
        Step::AcquirePlan { owner, plan } => match model.plans.get(*plan).cloned() {
            Some(wanted) => model.acquire(*owner, &wanted),
            None => Ok(()),
        },
        Step::Change { owner, level, names, change } => {
            expect_change(model, *owner, *level, names, *change)
        }
        Step::ReleaseAll { owner } | Step::NewSession { owner } => {
            model.release_all(*owner);
            Ok(())
        }
    }
}

fn expect_change(
    model: &mut Model,
    owner: usize,
    level: usize,
    names: &Which,
    change: Change,
) -> Result<(), Refused> {
    match change {
        Change::Release => model.release(owner, level, names),
        Change::Keep => model.keep(owner, level, names),
        Change::Downgrade => model.downgrade(owner, level, names),
        Change::Upgrade => model.upgrade(owner, level, names),
        Change::Add => model.add(owner, level, names, false),
        Change::AddHeld => model.add(owner, level, names, true),
        Change::Remove => model.remove(owner, level, names),
    }
}

/// A set, and what each owner holds of it.
struct Set {
    set: LockSet,
    owners: Vec<Owner>,
    guards: Vec<Option<SetGuard>>,
}

impl Set {
    fn new(level: &Level) -> Self {
        let set = LockSet::new(level.name, level.membership, level.names.iter().copied()).unwrap();
        let owners = (0..OWNERS).map(|_| Owner::new("job")).collect();
        Self { set, owners, guards: (0..OWNERS).map(|_| None).collect() }
    }

    fn acquire(&mut self, owner: usize, wanted: &Wanted) -> Result<(), Refused> {
        let request: SetRequest = match wanted.mode {
            Exclusive => exclusive(&wanted.names),
            _ => shared(&wanted.names),
        };
        let request = wanted.at_least.map_or(request.clone(), |count| request.at_least(count));
        let guard = self.set.acquire(&self.owners[owner], request).now();
        // A guard of nothing does not replace one of something.
        outcome(guard.map(|guard| {
            if !is_nothing(&guard) {
                self.guards[owner] = Some(guard);
            }
        }))
    }

    fn change(&mut self, owner: usize, names: &Which, change: Change) -> Result<(), Refused> {
        let names = Names::from(names);
        let guard = self.guards[owner].as_mut();
        let Some(guard) = guard else {
            let owner_of = &self.owners[owner];
            return match change {
                Change::Add => outcome(self.set.add(owner_of, names).now()),
                Change::AddHeld => {
                    let added = self.set.add_held(owner_of, names).now();
                    outcome(added.map(|guard| {
                        self.guards[owner] = Some(guard).filter(|guard| !is_nothing(guard));
                    }))
                }
                Change::Remove => outcome(self.set.remove(owner_of, names).now()),
                _ => Ok(()),
            };
        };
        let result = match change {
            Change::Release => outcome(guard.release(names)),
            Change::Keep => outcome(guard.keep(names)),
            Change::Downgrade => outcome(guard.downgrade(names)),
            Change::Upgrade => outcome(guard.upgrade(names).now()),
            Change::Add => outcome(guard.add(names).now()),
            Change::Remove => outcome(guard.remove(names).now()),
            Change::AddHeld => Ok(()),
        };
        self.guards[owner].take_if(|guard| is_nothing(guard));
        result
    }

    fn step(&mut self, step: &Step) -> Result<(), Refused> {
        match step {
            Step::Acquire { owner, wanted } => {
                wanted.first().map_or(Ok(()), |wanted| self.acquire(*owner, wanted))
            }
            Step::Change { owner, names, change, .. } => self.change(*owner, names, *change),
            Step::ReleaseAll { owner } => {
                self.guards[*owner] = None;
                Ok(())
            }
            Step::Plan(_) | Step::AcquirePlan { .. } | Step::NewSession { .. } => Ok(()),
        }
    }

    fn assert_as(&self, model: &Model) {
        assert_eq!(texts(&self.set.names()), model.names(0));
        for (owner, guard) in self.guards.iter().enumerate() {
            let all = guard.as_ref().and_then(SetGuard::holds_all);
            assert_eq!(all, model.held[owner][0].all, "owner {owner} of all");
            let owned = guard.as_ref().map_or_else(Vec::new, SetGuard::names);
            assert_eq!(texts(&owned), model.owned(owner, 0), "owner {owner}");
            for name in UNIVERSE {
                let mode = guard.as_ref().and_then(|guard| guard.holds(name));
                assert_eq!(mode, model.mode_of(owner, 0, name), "owner {owner}, {name}");
            }
        }
    }
}

fn is_nothing(guard: &SetGuard) -> bool {
    guard.holds_all().is_none() && guard.names().is_empty()
}

fn expect_of_set(model: &mut Model, step: &Step) -> Result<(), Refused> {
    match step {
        Step::Acquire { owner, wanted } => {
            wanted.first().map_or(Ok(()), |wanted| model.acquire_of_set(*owner, wanted))
        }
        Step::Change { owner, names, change, .. } => {
            let holds = model.held[*owner][0] != super::model::Held::default();
            match change {
                Change::Add | Change::Remove => expect_change(model, *owner, 0, names, *change),
                // A guard has no such call.
                Change::AddHeld if holds => Ok(()),
                Change::AddHeld => expect_change(model, *owner, 0, names, *change),
                _ if holds => expect_change(model, *owner, 0, names, *change),
                // Without a guard there is nobody to ask.
                _ => Ok(()),
            }
        }
        Step::ReleaseAll { owner } => {
            model.release_all(*owner);
            Ok(())
        }
        Step::Plan(_) | Step::AcquirePlan { .. } | Step::NewSession { .. } => Ok(()),
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn sessions_hold_what_the_model_says_and_are_refused_what_it_says(
        with_root in prop::bool::weighted(0.7),
        steps in prop::collection::vec(step(hierarchy().len()), 1..60),
    ) {
        let root = with_root.then_some("root");
        let mut model = Model::new(hierarchy(), root, OWNERS);
        let mut real = Manager::new(&hierarchy(), root);
        for step in &steps {
            let expected = expect(&mut model, step);
            prop_assert_eq!(real.step(step), expected, "{:?}", step);
            model.assert_sound();
            real.assert_as(&model);
        }
        // Once everybody has left, everything is to be had.
        real.sessions.iter_mut().for_each(Session::release_all);
        let everything: Vec<_> = (0..real.ids.len()).map(|level| {
            let names = Which::All;
            real.request(&Wanted { level, mode: Exclusive, names, at_least: None })
        }).collect();
        prop_assert!(real.manager.session("last").acquire(everything).now().is_ok());
    }

    #[test]
    fn guards_of_a_set_hold_what_the_model_says_and_are_refused_what_it_says(
        kind in 1_usize..4,
        steps in prop::collection::vec(step(1), 1..60),
    ) {
        let level = hierarchy().swap_remove(kind);
        let mut real = Set::new(&level);
        let mut model = Model::new(vec![level], None, OWNERS);
        for step in &steps {
            let known = |wanted: &Wanted| wanted.level == 0;
            if matches!(step, Step::Acquire { wanted, .. } if !wanted.iter().all(known)) {
                continue;
            }
            let expected = expect_of_set(&mut model, step);
            prop_assert_eq!(real.step(step), expected, "{:?}", step);
            model.assert_sound();
            real.assert_as(&model);
        }
        real.guards.clear();
        prop_assert!(real.set.acquire(&Owner::new("last"), exclusive(tierlock::ALL)).now().is_ok());
    }
}
