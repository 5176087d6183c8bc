//! Row 3: many locks at once, looked up and sorted beforehand.

use std::hint::black_box;

use happylock::ThreadKey;
use happylock::collection::BoxedLockCollection;
use parking_lot::RwLock;
use tierlock::{Level as _, LevelId, LockManager, Mode};

use super::{HELD, Inputs};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::names;
use crate::table::{Case, Target};

const LOOP: &str = "loop over sorted parking_lot 0.13";

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let cases = [10, 100, 1_000].into_iter().flat_map(|count| {
        [Mode::Exclusive, Mode::Shared].map(|mode| {
            let title = format!("prepared plan of {count}, {mode}");
            Case::race(3, title, effort, contenders(count, mode)).target(LOOP, Target::Ratio(1.25))
        })
    });
    cases.collect()
}

fn contenders(count: usize, mode: Mode) -> Vec<Contender<'static>> {
    vec![tierlock(count, mode), parking_lot(count, mode), happylock(count, mode)]
}

fn tierlock(count: usize, mode: Mode) -> Contender<'static> {
    let (level, names) = (LevelId::new(0, "node"), names(count));
    let manager = LockManager::builder().level(&level, names.clone()).build().unwrap();
    let wanted = match mode {
        Mode::Exclusive => level.exclusive(&names),
        _ => level.shared(&names),
    };
    let plan = manager.plan([wanted]).unwrap();
    let mut session = manager.session("job");
    Contender::new("tierlock", move |closely| {
        session.acquire(black_box(&plan)).now().unwrap();
        if closely {
            assert!(names.iter().all(|name| session.holds(&level, name) == Some(mode)));
        }
        session.release_all();
    })
}

fn parking_lot(count: usize, mode: Mode) -> Contender<'static> {
    let locks: Vec<_> = (0..count).map(|_| Box::new(RwLock::new(HELD))).collect();
    Contender::new(LOOP, move |_| match mode {
        Mode::Exclusive => {
            let held: Vec<_> = black_box(&locks).iter().map(|lock| lock.write()).collect();
            assert_eq!((held.len(), *held[0]), (count, HELD));
        }
        _ => {
            let held: Vec<_> = black_box(&locks).iter().map(|lock| lock.read()).collect();
            assert_eq!((held.len(), *held[0]), (count, HELD));
        }
    })
}

fn happylock(count: usize, mode: Mode) -> Contender<'static> {
    let locks: Vec<_> = (0..count).map(|_| happylock::RwLock::new(HELD)).collect();
    let locks = BoxedLockCollection::new(locks);
    Contender::new("happylock", move |_| {
        let key = ThreadKey::get().expect("nothing else is locked by it");
        match mode {
            Mode::Exclusive => {
                let held = black_box(&locks).lock(key);
                assert_eq!((held.len(), *held[0]), (count, HELD));
            }
            _ => {
                let held = black_box(&locks).read(key);
                assert_eq!((held.len(), *held[0]), (count, HELD));
            }
        }
    })
}
