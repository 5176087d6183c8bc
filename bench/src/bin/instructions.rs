//! Operations whose instructions are counted, as `cargo xtask instructions` does under callgrind.
//!
//! `bench-instructions` prints their names, one a line; `bench-instructions NAME` runs one, on one thread, and prints how often.
//! What is counted is what happens in [`measured`].

#![forbid(unsafe_code)]

#[path = "../names.rs"]
mod names;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use tierlock::coordination::Coordinator;
use tierlock::{
    ALL, Level as _, LevelId, LockManager, LockSet, Membership, Mode, Owner, SharedLock, exclusive,
    shared,
};

use crate::names::{Dice, Ring, names};

/// An operation, which takes and gives back.
type Operation = Box<dyn FnMut()>;

/// What is counted: its name, how often it is done, and how it is prepared.
struct Counted(&'static str, u32, fn() -> Operation);

/// The rows of `docs/performance.md` up to the sixth, and the first case of the thirteenth.
const COUNTED: [Counted; 19] = [
    Counted("one/exclusive", 1_000, || one(Mode::Exclusive)),
    Counted("one/shared", 1_000, || one(Mode::Shared)),
    Counted("name/1000/exclusive", 1_000, || name(1_000, Mode::Exclusive)),
    Counted("name/1000/shared", 1_000, || name(1_000, Mode::Shared)),
    Counted("name/100000/exclusive", 1_000, || name(100_000, Mode::Exclusive)),
    Counted("name/100000/shared", 1_000, || name(100_000, Mode::Shared)),
    Counted("plan/10", 100, || plan(10)),
    Counted("plan/100", 100, || plan(100)),
    Counted("plan/1000", 20, || plan(1_000)),
    Counted("unsorted/10", 320, || unsorted(10)),
    Counted("unsorted/100", 32, || unsorted(100)),
    Counted("unsorted/1000", 32, || unsorted(1_000)),
    Counted("all/1000/exclusive", 1_000, || all(1_000, Mode::Exclusive)),
    Counted("all/1000/shared", 1_000, || all(1_000, Mode::Shared)),
    Counted("all/100000/exclusive", 1_000, || all(100_000, Mode::Exclusive)),
    Counted("session/leaf/plan", 1_000, leaf_by_plan),
    Counted("session/leaf/names", 1_000, leaf_by_names),
    Counted("session/root", 1_000, root),
    Counted("across/kept", 1_000, kept),
];

fn main() -> ExitCode {
    let Some(wanted) = env::args().nth(1) else {
        COUNTED.iter().for_each(|Counted(name, ..)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some(Counted(_, times, prepare)) = COUNTED.iter().find(|counted| counted.0 == wanted)
    else {
        eprintln!("error: nothing is called {wanted:?}");
        return ExitCode::FAILURE;
    };
    let mut operation = prepare();
    // What is done the first time only is not what one pays.
    (0..*times).for_each(|_| operation());
    measured(&mut *operation, *times);
    println!("{times}");
    ExitCode::SUCCESS
}

#[inline(never)]
fn measured(operation: &mut dyn FnMut(), times: u32) {
    for _ in 0..times {
        operation();
    }
}

fn one(mode: Mode) -> Operation {
    let (lock, owner) = (SharedLock::new("config"), Owner::new("job"));
    Box::new(move || {
        let guard = black_box(&lock).acquire(&owner, mode).now().unwrap();
        assert_eq!(guard.mode(), mode);
    })
}

/// A directory that goes with this.
struct Store(PathBuf);

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As [`one`], of a lock that this process shares with others, and keeps.
fn kept() -> Operation {
    let program = env::current_exe().expect("it has a path");
    let name = format!("across-counted-{}", std::process::id());
    let store = Store(program.with_file_name(name));
    let url = format!("file://{}", store.0.display());
    let member = Coordinator::connect(&url).join("bench").expect("nobody is called so");
    let (lock, owner) = (member.lock("config").unwrap().cached(), Owner::new("job"));
    Box::new(move || {
        let (Store(_), guard) = (&store, black_box(&lock).exclusive(&owner).now().unwrap());
        assert_eq!(guard.mode(), Mode::Exclusive);
    })
}

fn name(count: usize, mode: Mode) -> Operation {
    let all = names(count);
    let set = LockSet::new("node", Membership::Listed, all.clone()).unwrap();
    let mut dice = Dice::new();
    let asked = (0..1_000).map(|_| String::from(&*all[dice.below(count)]));
    let (owner, mut asked) = (Owner::new("job"), Ring::new(asked.collect()));
    Box::new(move || {
        let name = asked.next().as_str();
        let request = if mode == Mode::Exclusive { exclusive(name) } else { shared(name) };
        black_box(&set.acquire(&owner, request).now().unwrap());
    })
}

fn plan(count: usize) -> Operation {
    let (level, names) = (LevelId::new(0, "node"), names(count));
    let manager = LockManager::builder().level(&level, names.clone()).build().unwrap();
    let plan = manager.plan([level.exclusive(names)]).unwrap();
    let mut session = manager.session("job");
    Box::new(move || {
        session.acquire(black_box(&plan)).now().unwrap();
        session.release_all();
    })
}

fn unsorted(count: usize) -> Operation {
    let all = names(10_000);
    let set = LockSet::new("node", Membership::Listed, all.clone()).unwrap();
    let texts: Vec<String> = all.iter().map(|name| String::from(&**name)).collect();
    let mut dice = Dice::new();
    let asked: Vec<Vec<String>> = (0..32).map(|_| dice.some(&texts, count)).collect();
    let (owner, mut asked) = (Owner::new("job"), Ring::new(asked));
    Box::new(move || {
        let request = exclusive(black_box(asked.next()));
        black_box(&set.acquire(&owner, request).now().unwrap());
    })
}

fn all(count: usize, mode: Mode) -> Operation {
    let set = LockSet::new("node", Membership::Listed, names(count)).unwrap();
    let owner = Owner::new("job");
    Box::new(move || {
        let request = if mode == Mode::Exclusive { exclusive(ALL) } else { shared(ALL) };
        let guard = set.acquire(&owner, request).now().unwrap();
        assert_eq!(guard.holds_all(), Some(mode));
    })
}

/// A root, and below it a thousand leaves.
fn tree() -> (LockManager, LevelId, LevelId) {
    let (root, node) = (LevelId::new(0, "cluster"), LevelId::new(1, "node"));
    let builder = LockManager::builder().fixed_level(&root, ["ALL"]).root("ALL");
    (builder.level(&node, names(1_000)).build().unwrap(), root, node)
}

fn leaf_by_plan() -> Operation {
    let (manager, root, node) = tree();
    let leaf = names(1_000).swap_remove(500);
    let plan = manager.plan([root.shared("ALL"), node.exclusive(leaf)]).unwrap();
    let mut session = manager.session("job");
    Box::new(move || {
        session.acquire(black_box(&plan)).now().unwrap();
        session.release_all();
    })
}

fn leaf_by_names() -> Operation {
    let (manager, root, node) = tree();
    let leaf = names(1_000).swap_remove(500);
    let mut session = manager.session("job");
    Box::new(move || {
        let wanted = [root.shared("ALL"), node.exclusive(black_box(&*leaf))];
        session.acquire(wanted).now().unwrap();
        session.release_all();
    })
}

fn root() -> Operation {
    let (manager, root, _) = tree();
    let plan = manager.plan([root.shared("ALL")]).unwrap();
    let mut session = manager.session("job");
    Box::new(move || {
        session.acquire(black_box(&plan)).now().unwrap();
        session.release_all();
    })
}
