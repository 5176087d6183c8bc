//! Three sessions do anything in any order, without waiting. No two may hold what conflicts, a refused call may change nothing
//! of what is held, and when all have left everything is free.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tierlock::{ALL, Level as _, LevelId, LockManager, Mode, Names, Session};

#[derive(Arbitrary, Debug)]
struct Step {
    who: u8,
    level: u8,
    names: u8,
    action: Action,
}

#[derive(Arbitrary, Debug)]
enum Action {
    Shared,
    Exclusive,
    Opportunistic { at_least: u8 },
    Keep,
    Release,
    Downgrade,
    Upgrade,
    Add,
    AddHeld,
    Remove,
    ReleaseAll,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Some of the names, or all of the level.
fn names(bits: u8) -> Names {
    if bits & 0x80 != 0 {
        return ALL.into();
    }
    NAMES
        .iter()
        .enumerate()
        .filter(|(at, _)| bits & (1 << at) != 0)
        .map(|(_, name)| *name)
        .collect()
}

fn levels() -> [LevelId; 3] {
    [LevelId::new(0, "cluster"), LevelId::new(1, "node"), LevelId::new(2, "path")]
}

type Holds = Vec<(Vec<Arc<str>>, Option<Mode>, Vec<Option<Mode>>)>;

fn holds(session: &Session) -> Holds {
    let of = |level: &LevelId| {
        let each = NAMES.iter().map(|name| session.holds(level, name)).collect();
        (session.owned(level), session.holds_all(level), each)
    };
    levels().iter().map(of).collect()
}

/// Does one step; returns whether it was done.
fn step(session: &mut Session, step: &Step) -> bool {
    let level = &levels()[usize::from(step.level) % 3];
    let names = names(step.names);
    match step.action {
        Action::Shared => session.acquire(level.shared(names)).now().is_ok(),
        Action::Exclusive => session.acquire(level.exclusive(names)).now().is_ok(),
        Action::Opportunistic { at_least } => {
            let request = level.exclusive(names).at_least(usize::from(at_least % 4));
            session.acquire(request).now().is_ok()
        }
        Action::Keep => session.keep(level, names).is_ok(),
        Action::Release => session.release(level, names).is_ok(),
        Action::Downgrade => session.downgrade(level, names).is_ok(),
        Action::Upgrade => session.upgrade(level, names).now().is_ok(),
        Action::Add => session.add(level, names).now().is_ok(),
        Action::AddHeld => session.add_held(level, names).now().is_ok(),
        Action::Remove => session.remove(level, names).now().is_ok(),
        Action::ReleaseAll => {
            session.release_all();
            true
        }
    }
}

fn assert_no_conflict(sessions: &[Session]) {
    for (at, one) in sessions.iter().enumerate() {
        for other in &sessions[at + 1..] {
            for level in &levels() {
                for name in NAMES {
                    if let (Some(a), Some(b)) = (one.holds(level, name), other.holds(level, name)) {
                        assert!(a.admits(b), "{}/{name} held {a} and {b}", level.name());
                    }
                }
            }
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let [cluster, node, path] = levels();
    let manager = LockManager::builder()
        .fixed_level(&cluster, ["a"])
        .root("a")
        .level(&node, ["a", "b", "c"])
        .on_demand_level(&path)
        .build()
        .unwrap();
    let mut sessions: Vec<_> = ["x", "y", "z"].map(|name| manager.session(name)).into();
    for wanted in &steps {
        let session = &mut sessions[usize::from(wanted.who) % 3];
        let before = holds(session);
        if !step(session, wanted) {
            assert_eq!(holds(session), before, "{wanted:?} was refused");
        }
        assert_no_conflict(&sessions);
    }
    drop(sessions);
    let mut last = manager.session("last");
    let everything = [cluster.exclusive(ALL), node.exclusive(ALL), path.exclusive(ALL)];
    assert!(last.acquire(everything).now().is_ok());
});
