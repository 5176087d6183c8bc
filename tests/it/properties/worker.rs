//! One of many who do at random with a manager whatever there is to be done with one. However they wait.
//!
//! What is held is written into a table of its own: after it was granted, and before it is given back.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use tierlock::Mode::{self, Exclusive, Shared};
use tierlock::{
    ALL, Abandoned, Acquire, Level as _, LevelId, LevelRequest, LockManager, Names, Owner, Session,
    Target,
};

use super::model::Held;

/// Random numbers that come again with their seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.roll() % count as u64) as usize
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn some<T: Clone>(&mut self, from: &[T]) -> Vec<T> {
        from.iter().filter(|_| self.one_in(2)).cloned().collect()
    }
}

/// How a worker waits.
pub(crate) trait Waits {
    /// Makes a request on random terms and waits for its outcome; `None` if it was withdrawn.
    fn outcome<T: Target>(
        &self,
        dice: &mut Dice,
        request: Acquire<T>,
    ) -> Option<Result<T::Granted, T::Error>>;
}

/// Who holds what of each level, by another hand than the locks'; and whose panics somebody has to be told of.
#[derive(Default)]
struct Table {
    held: Mutex<BTreeMap<(usize, usize), Held>>,
    abandoned: Mutex<BTreeSet<String>>,
}

impl Table {
    /// Writes what a thread holds of a level; nothing held by others may conflict with it.
    fn write(&self, thread: usize, level: usize, held: Held) {
        let mut table = self.held.lock().unwrap();
        for (_, other) in table.iter().filter(|((t, l), _)| *t != thread && *l == level) {
            assert!(held.admits(other), "level {level}: {held:?} beside {other:?}");
        }
        table.insert((thread, level), held);
    }

    /// Somebody is told who abandoned what.
    fn told(&self, abandoned: &[Abandoned]) {
        for told in abandoned {
            self.abandoned.lock().unwrap().remove(&told.lock.to_string());
        }
    }
}

/// A level of random members, with names that histories speak of.
struct Level {
    id: LevelId,
    names: Vec<&'static str>,
    listed: bool,
    /// Names that nobody wants are not there.
    vanish: bool,
}

impl Level {
    fn lock(&self, name: &str) -> String {
        format!("{}/{name}", self.id.name())
    }
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A manager of random shape, and what its workers hold of it.
pub(crate) struct Ground {
    manager: LockManager,
    levels: Vec<Level>,
    table: Table,
}

impl Ground {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let mut builder = LockManager::builder();
        let mut levels = Vec::new();
        for rank in 0..2 + dice.below(3) {
            let id = LevelId::new(rank, format!("level-{rank}"));
            let names = NAMES[..1 + dice.below(5)].to_vec();
            let kind = if rank == 0 { 0 } else { dice.below(3) };
            builder = match kind {
                0 => builder.fixed_level(&id, names.clone()),
                1 => builder.level(&id, names.clone()),
                _ => builder.on_demand_level(&id),
            };
            levels.push(Level { id, names, listed: kind == 1, vanish: kind == 2 });
        }
        if dice.one_in(2) {
            builder = builder.root("a");
        }
        Self { manager: builder.build().unwrap(), levels, table: Table::default() }
    }

    pub(crate) fn worker<'a, W>(
        &'a self,
        thread: usize,
        owner: &Owner,
        dice: &'a mut Dice,
        waits: &'a W,
    ) -> Worker<'a, W> {
        let session = self.manager.session_of(owner.clone());
        Worker { thread, dice, ground: self, session, waits }
    }

    /// Who holds and who waits.
    pub(crate) fn snapshot(&self) -> String {
        self.manager.monitor().snapshot().to_string()
    }

    /// Nothing is held any more, and whoever comes next is told of all that was abandoned.
    pub(crate) fn assert_at_rest(&self) {
        let table = self.table.held.lock().unwrap();
        assert!(table.values().all(|held| *held == Held::default()));
        let mut last = self.manager.session("last");
        let everything: Vec<_> = self.levels.iter().map(|level| level.id.exclusive(ALL)).collect();
        let acquired = last.acquire(everything).now();
        let acquired = acquired.unwrap_or_else(|error| panic!("{error}\n{}", self.snapshot()));
        self.table.told(acquired.abandoned());
        let untold = self.table.abandoned.lock().unwrap();
        let names = |level: &Level| {
            self.manager
                .names(&level.id)
                .into_iter()
                .map(|name| level.lock(&name))
                .collect::<Vec<_>>()
        };
        // What was removed meanwhile is nobody's any more.
        let untold: Vec<_> =
            self.levels.iter().flat_map(names).filter(|name| untold.contains(name)).collect();
        assert!(untold.is_empty(), "nobody was told that {untold:?} were abandoned");
    }
}

/// One thread's session, and the table that it keeps.
pub(crate) struct Worker<'a, W> {
    thread: usize,
    pub(crate) dice: &'a mut Dice,
    ground: &'a Ground,
    session: Session,
    waits: &'a W,
}

impl<W: Waits> Worker<'_, W> {
    /// Takes locks, changes what it holds a few times, and gives them back.
    pub(crate) fn visit(&mut self, changes_max: usize) {
        self.acquire_in_order();
        for _ in 0..self.dice.below(changes_max + 1) {
            if self.dice.one_in(6) { self.ask_out_of_order() } else { self.change() }
        }
        self.leave();
    }

    /// Takes locks, and ends in a panic that leaves it to the session to give them back.
    pub(crate) fn visit_and_panic(mut self) {
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            self.acquire_in_order();
            (0..self.ground.levels.len()).for_each(|level| self.write_abandoned(level));
            // Without a word to the hook.
            resume_unwind(Box::new(Expected));
        }));
        let payload = panicked.expect_err("it always panics");
        if !payload.is::<Expected>() {
            resume_unwind(payload);
        }
    }

    /// What the session says that it holds.
    fn held(&self, level: usize) -> Held {
        let id = &self.ground.levels[level].id;
        let all = self.session.holds_all(id);
        let owned = self.session.owned(id).into_iter();
        let mode = |name: &str| self.session.holds(id, name);
        let names = owned.filter_map(|name| Some((leaked(&name), mode(&name)?)));
        Held { all, names: names.filter(|(_, mode)| Some(*mode) != all).collect() }
    }

    fn write(&self, level: usize) {
        self.ground.table.write(self.thread, level, self.held(level));
    }

    /// Writes what is left, before it is all that is left.
    fn write_first(&self, level: usize, left: impl Fn(Mode, &str) -> Option<Mode>) {
        let held = self.held(level);
        let Level { id, vanish, .. } = &self.ground.levels[level];
        let owned = self.session.owned(id).into_iter();
        // Of all that come on demand, those stay that are there when the call is made.
        let owned = owned.filter(|_| !(*vanish && held.all.is_some()));
        let names = owned.filter_map(|name| {
            let mode = self.session.holds(id, &name)?;
            Some((leaked(&name), left(mode, &name)?))
        });
        let names: BTreeMap<_, _> = names.collect();
        // Never more than is held: all is not held any more, even if every name is.
        let left = Held { all: None, names };
        if left != held {
            self.ground.table.write(self.thread, level, left);
        }
    }

    /// Writes that nothing is held soon, and what is held exclusively until then.
    fn write_abandoned(&self, level: usize) {
        let held = self.held(level);
        let exclusive = held.names.iter().filter(|(_, mode)| **mode == Exclusive);
        let locks = exclusive.map(|(name, _)| self.ground.levels[level].lock(name));
        self.ground.table.abandoned.lock().unwrap().extend(locks);
        self.ground.table.write(self.thread, level, Held::default());
    }

    fn request(&mut self, level: usize) -> LevelRequest {
        let Level { id, names, .. } = &self.ground.levels[level];
        let names: Names =
            if self.dice.one_in(4) { ALL.into() } else { self.dice.some(names).into() };
        let request = if self.dice.one_in(2) { id.shared(names) } else { id.exclusive(names) };
        match self.dice.below(8) {
            0 => request.opportunistic(),
            1 => request.at_least(1),
            _ => request,
        }
    }

    fn acquire(&mut self, ranks: &[usize]) {
        let mut wanted: Vec<_> = ranks.iter().map(|rank| self.request(*rank)).collect();
        if ranks.first() == Some(&0) {
            // The root, where there is one.
            wanted[0] = self.ground.levels[0].id.shared("a");
        }
        let outcome = self.waits.outcome(self.dice, self.session.acquire(wanted));
        if let Some(Ok(acquired)) = outcome {
            self.ground.table.told(acquired.abandoned());
        }
        ranks.iter().for_each(|rank| self.write(*rank));
    }

    fn acquire_in_order(&mut self) {
        let deeper = 1..self.ground.levels.len();
        let ranks: Vec<_> = deeper.filter(|_| self.dice.below(3) > 0).collect();
        if self.dice.one_in(2) {
            self.acquire(&[&[0], &ranks[..]].concat());
        } else {
            self.acquire(&[0]);
            ranks.chunks(2).for_each(|ranks| self.acquire(ranks));
        }
    }

    /// Asks for a level although something of it or below it is held, which has to be refused whoever holds what.
    fn ask_out_of_order(&mut self) {
        let holds_something = |level: &usize| self.held(*level) != Held::default();
        let Some(deepest) = (0..self.ground.levels.len()).rev().find(holds_something) else {
            return;
        };
        let level = self.dice.below(deepest + 1);
        let request = self.request(level);
        let outcome = self.waits.outcome(self.dice, self.session.acquire(request));
        assert!(!matches!(outcome, Some(Ok(_))), "level {level} was granted above {deepest}");
        (0..self.ground.levels.len()).for_each(|level| self.write(level));
    }

    /// Does something with what is held of a level, or with its members.
    fn change(&mut self) {
        let level = self.dice.below(self.ground.levels.len());
        let Level { id, names, listed, .. } = &self.ground.levels[level];
        let owned = self.session.owned(id);
        let some = self.dice.some(&owned);
        match self.dice.below(8) {
            // The root stays as long as there is something deeper.
            0..3 if level == 0 => {}
            0 => {
                self.write_first(level, |mode, name| (!contains(&some, name)).then_some(mode));
                let _ = self.session.release(id, some);
            }
            1 => {
                self.write_first(level, |mode, name| contains(&some, name).then_some(mode));
                let _ = self.session.keep(id, some);
            }
            2 => {
                self.write_first(level, |mode, name| {
                    Some(if contains(&some, name) { Shared } else { mode })
                });
                let _ = self.session.downgrade(id, some);
            }
            3 => {
                self.write_first(level, |_, _| Some(Shared));
                let _ = self.session.downgrade(id, ALL);
            }
            4 => drop(self.waits.outcome(self.dice, self.session.upgrade(id, some))),
            5 => drop(self.waits.outcome(self.dice, self.session.upgrade(id, ALL))),
            6 if *listed => {
                let some = self.dice.some(names);
                self.write_first(level, |mode, name| (!some.contains(&name)).then_some(mode));
                let removed = |name: &str| self.ground.levels[level].lock(name);
                let request = self.session.remove(id, some.clone());
                if let Some(Ok(())) = self.waits.outcome(self.dice, request) {
                    // One of the same name that is added later is another.
                    let mut untold = self.ground.table.abandoned.lock().unwrap();
                    untold.retain(|lock| some.iter().all(|name| *lock != removed(name)));
                }
            }
            7 if *listed => {
                let some = self.dice.some(names);
                drop(self.waits.outcome(self.dice, self.session.add_held(id, some)));
            }
            _ => {
                let some = self.dice.some(names);
                drop(self.waits.outcome(self.dice, self.session.add(id, some)));
            }
        }
        self.write(level);
    }

    fn leave(&mut self) {
        (0..self.ground.levels.len()).for_each(|level| {
            self.ground.table.write(self.thread, level, Held::default());
        });
        self.session.release_all();
    }
}

/// What workers panic with.
struct Expected;

fn contains(names: &[Arc<str>], name: &str) -> bool {
    names.iter().any(|known| &**known == name)
}

fn leaked(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).expect("a name of the histories")
}
