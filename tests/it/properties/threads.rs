//! Many threads at once, at random: all come to an end, nobody holds what conflicts, and nothing is held in the end.
//!
//! What is held is written into a table of its own: after it was granted, and before it is given back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{
    ALL, AcquireError, Ageing, Guard, Level as _, LevelId, LevelRequest, LockManager, Mode, Names,
    Owner, Session, SharedLock, UpgradeError,
};

use super::model::Held;
use crate::support::{admits, in_time, ms, slots};

const THREADS: usize = 6;

/// Random numbers that come again with their seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.roll() % count as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn some<T: Clone>(&mut self, from: &[T]) -> Vec<T> {
        from.iter().filter(|_| self.one_in(2)).cloned().collect()
    }
}

/// How a request is made: waiting for ever, or for a while, or not at all.
#[derive(Clone, Copy)]
enum Patience {
    Endless,
    Until(Duration),
    None,
}

/// The terms of a request.
#[derive(Clone, Copy)]
struct Terms {
    priority: i32,
    patience: Patience,
    ageing: Ageing,
}

impl Dice {
    fn terms(&mut self) -> Terms {
        let patience = match self.below(6) {
            0..3 => Patience::Endless,
            3 => Patience::None,
            _ => Patience::Until(Duration::from_micros(self.below(6000) as u64)),
        };
        let floor = self.below(10) as i32 - 20;
        let ageing = Ageing::every(ms(1 + self.below(3) as u64)).floor(floor);
        Terms { priority: self.below(7) as i32 - 3, patience, ageing }
    }
}

/// Makes a request of whatever kind on random terms.
macro_rules! make {
    ($dice:expr, $request:expr) => {{
        let Terms { priority, patience, ageing } = $dice.terms();
        let request = $request.priority(priority).ageing(ageing);
        match patience {
            Patience::Endless => request.wait(),
            Patience::Until(timeout) => request.timeout(timeout).wait(),
            Patience::None => request.now(),
        }
    }};
}

/// Who holds what of each level, by another hand than the locks'.
#[derive(Default)]
struct Table(Mutex<BTreeMap<(usize, usize), Held>>);

impl Table {
    /// Writes what a thread holds of a level; nothing held by others may conflict with it.
    fn write(&self, thread: usize, level: usize, held: Held) {
        let mut table = self.0.lock().unwrap();
        for (_, other) in table.iter().filter(|((t, l), _)| *t != thread && *l == level) {
            assert!(held.admits(other), "level {level}: {held:?} beside {other:?}");
        }
        table.insert((thread, level), held);
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().values().all(|held| *held == Held::default())
    }
}

/// A level of random members, with names that histories speak of.
struct Level {
    id: LevelId,
    names: Vec<&'static str>,
    listed: bool,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn hierarchy(dice: &mut Dice) -> (LockManager, Vec<Level>) {
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
        levels.push(Level { id, names, listed: kind == 1 });
    }
    if dice.one_in(2) {
        builder = builder.root("a");
    }
    (builder.build().unwrap(), levels)
}

/// One thread's session, and the table that it keeps.
struct Worker<'a> {
    thread: usize,
    dice: &'a mut Dice,
    levels: &'a [Level],
    table: &'a Table,
    session: Session,
}

impl Worker<'_> {
    /// What the session says that it holds.
    fn held(&self, level: usize) -> Held {
        let id = &self.levels[level].id;
        let all = self.session.holds_all(id);
        let owned = self.session.owned(id).into_iter();
        let mode = |name: &str| self.session.holds(id, name);
        let names = owned.filter_map(|name| Some((leaked(&name), mode(&name)?)));
        Held { all, names: names.filter(|(_, mode)| Some(*mode) != all).collect() }
    }

    fn write(&self, level: usize) {
        self.table.write(self.thread, level, self.held(level));
    }

    /// Writes what is left, before it is all that is left.
    fn write_first(&self, level: usize, left: impl Fn(Mode, &str) -> Option<Mode>) {
        let held = self.held(level);
        let owned = self.session.owned(&self.levels[level].id).into_iter();
        let names = owned.filter_map(|name| {
            let mode = self.session.holds(&self.levels[level].id, &name)?;
            Some((leaked(&name), left(mode, &name)?))
        });
        let names: BTreeMap<_, _> = names.collect();
        // Never more than is held: all is not held any more, even if every name is.
        let left = Held { all: None, names };
        if left != held {
            self.table.write(self.thread, level, left);
        }
    }

    fn request(&mut self, level: usize) -> LevelRequest {
        let Level { id, names, .. } = &self.levels[level];
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
            wanted[0] = self.levels[0].id.shared("a");
        }
        let _ = make!(self.dice, self.session.acquire(wanted));
        ranks.iter().for_each(|rank| self.write(*rank));
    }

    fn acquire_in_order(&mut self) {
        let deeper = 1..self.levels.len();
        let ranks: Vec<_> = deeper.filter(|_| self.dice.below(3) > 0).collect();
        if self.dice.one_in(2) {
            self.acquire(&[&[0], &ranks[..]].concat());
        } else {
            self.acquire(&[0]);
            ranks.chunks(2).for_each(|ranks| self.acquire(ranks));
        }
    }

    /// Does something with what is held of a level, or with its members.
    fn change(&mut self) {
        let level = self.dice.below(self.levels.len());
        let Level { id, names, listed } = &self.levels[level];
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
            4 => {
                let _ = make!(self.dice, self.session.upgrade(id, some));
            }
            5 => {
                let _ = make!(self.dice, self.session.upgrade(id, ALL));
            }
            6 if *listed => {
                let some = self.dice.some(names);
                self.write_first(level, |mode, name| (!some.contains(&name)).then_some(mode));
                let _ = make!(self.dice, self.session.remove(id, some));
            }
            7 if *listed => {
                let some = self.dice.some(names);
                let _ = make!(self.dice, self.session.add_held(id, some));
            }
            _ => {
                let some = self.dice.some(names);
                let _ = make!(self.dice, self.session.add(id, some));
            }
        }
        self.write(level);
    }

    fn leave(&mut self) {
        (0..self.levels.len()).for_each(|level| {
            self.table.write(self.thread, level, Held::default());
        });
        self.session.release_all();
    }
}

fn contains(names: &[Arc<str>], name: &str) -> bool {
    names.iter().any(|known| &**known == name)
}

fn leaked(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).expect("a name of the histories")
}

/// Lets each of some threads work as an owner of its own. A thread that does not end is left behind, so that the test can say so.
fn run(seed: u64, work: impl Fn(&mut Dice, usize, &Owner) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let begin = |thread: usize| {
        let owner = Owner::new(format!("thread-{thread}"));
        let (own, work) = (owner.clone(), Arc::clone(&work));
        let mut dice = Dice(seed << 8 | thread as u64);
        (owner, thread::spawn(move || work(&mut dice, thread, &own)))
    };
    for (owner, thread) in (0..THREADS).map(begin).collect::<Vec<_>>() {
        assert!(in_time(|| thread.is_finished()), "seed {seed}: {owner:?} does not end");
        assert!(thread.join().is_ok(), "seed {seed}: {owner:?} panicked");
        assert_eq!(slots(&owner), 0, "seed {seed}");
    }
}

#[test]
fn random_sessions_on_random_hierarchies_all_end_and_never_conflict() {
    for seed in 0..64 {
        let (manager, levels) = hierarchy(&mut Dice(seed));
        let everything: Vec<_> = levels.iter().map(|level| level.id.exclusive(ALL)).collect();
        let table = Arc::new(Table::default());
        let (own, written) = (manager.clone(), Arc::clone(&table));
        run(seed, move |dice, thread, owner| {
            let session = own.session_of(owner.clone());
            let mut worker = Worker { thread, dice, levels: &levels, table: &written, session };
            for _ in 0..60 {
                worker.acquire_in_order();
                (0..worker.dice.below(6)).for_each(|_| worker.change());
                worker.leave();
            }
        });
        assert!(table.is_empty());
        assert!(manager.session("last").acquire(everything).now().is_ok(), "seed {seed}");
    }
}

#[test]
fn random_owners_on_a_few_locks_all_end_and_never_conflict() {
    for seed in 0..24 {
        let locks = [0, 1, 2].map(|at| SharedLock::new(format!("lock-{at}")));
        let (own, table) = (locks.clone(), LockTable::default());
        run(seed, move |dice, _, owner| {
            (0..150).for_each(|_| visit(dice, owner, &own, &table));
        });
        assert!(locks.iter().all(|lock| admits(lock, Exclusive)), "seed {seed}");
    }
}

/// The modes in which each lock is held, by another hand.
#[derive(Default)]
struct LockTable(Mutex<BTreeMap<(String, u64), Mode>>);

impl LockTable {
    fn write(&self, guard: &Guard<'_>, owner: u64, mode: Option<Mode>) {
        let mut table = self.0.lock().unwrap();
        let lock = guard.lock().name().to_string();
        table.remove(&(lock.clone(), owner));
        let Some(mode) = mode else { return };
        for ((other, _), held) in table.iter().filter(|((other, _), _)| *other == lock) {
            assert!(held.admits(mode), "{other}: {mode} beside {held}");
        }
        table.insert((lock, owner), mode);
    }
}

/// Takes some of the locks in order, changes modes at random, and gives them back.
fn visit(dice: &mut Dice, owner: &Owner, locks: &[SharedLock], table: &LockTable) {
    let number = dice.roll();
    let mut guards: Vec<Guard<'_>> = Vec::new();
    for lock in dice.some(&locks.iter().collect::<Vec<_>>()) {
        let mode = dice.pick(&Mode::ALL);
        match make!(dice, lock.acquire(owner, mode)) {
            Ok(guard) => guards.push(guard),
            Err(AcquireError::TimedOut { .. } | AcquireError::WouldBlock { .. }) => continue,
            Err(other) => panic!("{other}"),
        }
        let guard = guards.last_mut().expect("pushed");
        table.write(guard, number, Some(mode));
        change(dice, guard, number, table);
    }
    while !guards.is_empty() {
        let guard = guards.swap_remove(dice.below(guards.len()));
        table.write(&guard, number, None);
        drop(guard);
    }
    assert_eq!(slots(owner), 0);
}

fn change(dice: &mut Dice, guard: &mut Guard<'_>, number: u64, table: &LockTable) {
    let mode = dice.pick(&Mode::ALL);
    if guard.mode().covers(mode) && dice.one_in(2) {
        table.write(guard, number, Some(mode));
        guard.downgrade_to(mode).unwrap();
    } else if dice.one_in(2) {
        // Waiting for a stronger mode of the last lock held deadlocks only with others at that lock, and that is noticed.
        match make!(dice, guard.upgrade_to(mode)) {
            Ok(())
            | Err(
                UpgradeError::WouldDeadlock { .. }
                | UpgradeError::Acquire(
                    AcquireError::TimedOut { .. } | AcquireError::WouldBlock { .. },
                ),
            ) => {}
            Err(other) => panic!("{other}"),
        }
        table.write(guard, number, Some(guard.mode()));
    }
}
