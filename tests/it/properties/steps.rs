//! Steps that owners take one after the other with a manager or a set, and what the model expects of each.

use std::collections::BTreeSet;

use tierlock::Mode::Exclusive;
use tierlock::{
    ALL, AcquireError, HoldError, Level as _, LevelId, LevelRequest, LockManager,
    LockManagerBuilder, LockSet, Membership, MembershipError, Names, Owner, Plan, Session,
    SetGuard, SetRequest, UpgradeError, exclusive, shared,
};

use super::model::{Held, Level, Model, Name, Refused, UNIVERSE, Wanted, Which};

pub(crate) const OWNERS: usize = 3;
pub(crate) const PLANS: usize = 2;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Acquire { owner: usize, wanted: Vec<Wanted> },
    Plan(Vec<Wanted>),
    AcquirePlan { owner: usize, plan: usize },
    Change { owner: usize, level: usize, names: Which, change: Change },
    ReleaseAll { owner: usize },
    NewSession { owner: usize },
}

/// What is done with names of a level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    Release,
    Keep,
    Downgrade,
    Upgrade,
    Add,
    AddHeld,
    Remove,
}

pub(crate) const CHANGES: [Change; 7] = [
    Change::Release,
    Change::Keep,
    Change::Downgrade,
    Change::Upgrade,
    Change::Add,
    Change::AddHeld,
    Change::Remove,
];

/// Takes the steps with a manager and its model; they agree after each, and once everybody has left, everything is to be had.
pub(crate) fn compare_sessions(with_root: bool, steps: &[Step]) {
    let root = with_root.then_some("root");
    let mut model = Model::new(hierarchy(), root, OWNERS);
    let mut real = Manager::new(&hierarchy(), root);
    for step in steps {
        let expected = expect(&mut model, step);
        assert_eq!(
            real.step(step),
            expected,
            "left what came of {step:?}, right what the model says"
        );
        model.assert_sound();
        real.assert_as(&model);
    }
    real.sessions.iter_mut().for_each(Session::release_all);
    let everything: Vec<_> = real.ids.iter().map(|level| level.exclusive(ALL)).collect();
    assert!(real.manager.session("last").acquire(everything).now().is_ok());
}

/// As [`compare_sessions`], with guards of a set of the kind that one of the levels is.
pub(crate) fn compare_guards(kind: usize, steps: &[Step]) {
    let level = hierarchy().swap_remove(kind);
    let mut real = Set::new(&level);
    let mut model = Model::new(vec![level], None, OWNERS);
    let known = |wanted: &Wanted| wanted.level == 0;
    let unknown =
        |step: &&Step| matches!(step, Step::Acquire { wanted, .. } if !wanted.iter().all(known));
    for step in steps.iter().filter(|step| !unknown(step)) {
        let expected = expect_of_set(&mut model, step);
        assert_eq!(
            real.step(step),
            expected,
            "left what came of {step:?}, right what the model says"
        );
        model.assert_sound();
        real.assert_as(&model);
    }
    real.guards.clear();
    assert!(real.set.acquire(&Owner::new("last"), exclusive(ALL)).now().is_ok());
}

/// The kinds of sets: those of the levels but the top.
pub(crate) const KINDS: std::ops::Range<usize> = 1..4;
/// How many levels there are.
pub(crate) const LEVELS: usize = 4;

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
            let holds = model.held[*owner][0] != Held::default();
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
