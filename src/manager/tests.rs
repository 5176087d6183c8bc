//! Levels held across processes by members that work when they are told to, and guards at a level.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::LockManager;
use crate::acquire::Acquire;
use crate::coordination::Coordinator;
use crate::coordination::memory::{Call, Fate, Leg, Memory};
use crate::core::mode::Mode;
use crate::level::{Level as _, LevelId};
use crate::owner::Owner;

fn volume() -> LevelId {
    LevelId::new(0, "volume")
}

/// A member's manager, and what does one thing that it has to do.
fn member(store: &Memory, name: &str) -> (LockManager, impl Fn() -> bool + Send + use<>) {
    let connect = Coordinator::connect("memory:").min_hold(Duration::from_millis(2));
    let (coordinator, hands) = connect.by_hand(Arc::new(store.clone()), name).unwrap();
    let builder = LockManager::builder().level(volume(), ["v1", "v2", "v3"]);
    let manager = builder.cluster_wide(volume(), &coordinator).build().unwrap();
    (manager, move || hands.work())
}

#[test]
fn what_an_attempt_for_several_names_was_granted_is_not_recalled_before_it_has_the_last() {
    let (store, world) = Memory::simulated(1);
    let ((here, one), (there, other)) = (member(&store, "a"), member(&store, "b"));
    let asked = there.session("other").acquire_owned(volume().exclusive("v1")).enqueue();
    let (hands, has_asked) = (Mutex::new((one, other)), AtomicBool::new(false));
    // When the last name is asked for, another member asks for the first, and both do all they have to do.
    world.interpose(move |call, leg| {
        let last = matches!(call, Call::Swap { key, .. } if key.as_str().ends_with("/v3"));
        if last && leg == Leg::There && !has_asked.swap(true, Ordering::Relaxed) {
            let hands = hands.lock();
            for _ in 0..10 {
                while (hands.1)() {}
                while (hands.0)() {}
            }
        }
        Fate::Arrives
    });
    let mut job = here.session("job");
    let attempt = job.acquire(volume().exclusive(["v1", "v2", "v3"])).now();
    world.calm();
    attempt.unwrap();
    assert!(!asked.is_decided());
    job.verify().unwrap();
}

#[test]
fn a_guard_at_a_level_tells_who_panicked_before_and_of_nobody_who_did_not() {
    let manager = LockManager::builder().level(volume(), ["v1"]).build().unwrap();
    let hold = |by: &str| {
        let asked = manager.at(volume()).acquire(&Owner::new(by), "v1".into(), Mode::Exclusive);
        Acquire::new(asked).now().unwrap()
    };
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = hold("hasty");
        panic!("in the middle of it");
    }));
    assert!(panicked.is_err());
    assert_eq!(&*hold("next").abandoned()[0].owner, "hasty");
    assert!(hold("last").abandoned().is_empty());
}
