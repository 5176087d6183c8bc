//! Groups and pools.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tierlock::coordination::lease::{Lease, LeaseError, Leases};
use tierlock::coordination::memory::{Call, Fate, Leg, Memory};
use tierlock::coordination::{CoordinationError, Driver, Key, Version};

use super::{SOON, had, members, members_of, ms, simulated};

use crate::support::now;

fn had_from(leases: &Leases, group: &str) -> Lease {
    leases.acquire_from_group(group).unwrap().expect("one is free")
}

#[test]
fn a_group_is_created_once() {
    let [(_a, here), (_b, there)] = members();
    here.create_group("printers", 2).unwrap();
    let again = Err(LeaseError::GroupExists { group: "printers".into() });
    assert_eq!(there.create_group("printers", 3), again);
    assert_eq!(there.create_pool("printers", 3), again);
}

#[test]
fn a_held_lock_is_put_into_a_group_that_has_a_place() {
    let [(_a, here), (_b, there)] = members();
    here.create_group("printers", 1).unwrap();
    let (laser, ink) = (had(&here, "laser"), had(&there, "ink"));
    assert_eq!(laser.group().unwrap(), None);
    let missing = LeaseError::NoGroup { group: "plotters".into() };
    assert_eq!(laser.set_group("plotters"), Err(missing));
    laser.set_group("printers").unwrap();
    laser.set_group("printers").unwrap();
    assert_eq!(laser.group().unwrap().as_deref(), Some("printers"));
    let (lock, group) = ("ink".into(), "printers".into());
    let full = LeaseError::GroupFull { lock, group, capacity: 1 };
    assert_eq!(ink.set_group("printers"), Err(full));
    assert_eq!(ink.group().unwrap(), None);
}

#[test]
fn a_lock_is_in_one_group_at_most() {
    let [(_a, here)] = members();
    here.create_group("printers", 2).unwrap();
    here.create_group("plotters", 2).unwrap();
    let laser = had(&here, "laser");
    laser.set_group("printers").unwrap();
    let other = LeaseError::InGroup { lock: "laser".into(), group: "printers".into() };
    assert_eq!(laser.set_group("plotters"), Err(other));
    laser.release().unwrap();
    let laser = had(&here, "laser");
    assert_eq!(laser.group().unwrap().as_deref(), Some("printers"), "also when it was released");
}

#[test]
fn any_free_lock_of_a_group_is_acquired_until_none_is() {
    let [(_a, here), (_b, there)] = members();
    here.create_pool("licence", 3).unwrap();
    let held =
        [had_from(&here, "licence"), had_from(&there, "licence"), had_from(&there, "licence")];
    let mut names = held.each_ref().map(|lock| lock.name().to_owned());
    names.sort();
    assert_eq!(names, ["licenceLock0", "licenceLock1", "licenceLock2"]);
    for leases in [&here, &there] {
        assert!(leases.acquire_from_group("licence").unwrap().is_none());
        assert!(leases.acquire_from_group_within("licence", ms(5)).unwrap().is_none());
    }
    held[1].release().unwrap();
    assert_eq!(had_from(&here, "licence").name(), held[1].name());
}

#[test]
fn acquiring_from_no_group_or_an_empty_one_is_an_error() {
    let [(_a, here)] = members();
    here.create_group("printers", 2).unwrap();
    let wait = |group| here.acquire_from_group_within(group, SOON).map(drop);
    let missing = Err(LeaseError::NoGroup { group: "plotters".into() });
    assert_eq!(here.acquire_from_group("plotters").map(drop), missing);
    assert_eq!(wait("plotters"), missing);
    let empty = Err(LeaseError::NoLocks { group: "printers".into() });
    assert_eq!(here.acquire_from_group("printers").map(drop), empty);
    assert_eq!(wait("printers"), empty);
}

#[test]
fn whoever_waits_has_the_first_lock_of_the_group_that_comes_free_and_no_other() {
    let [(_a, here), (_b, there)] = members();
    here.create_pool("licence", 3).unwrap();
    for waiting in [&here, &there] {
        let mut held = [(); 3].map(|()| had_from(&here, "licence"));
        held.sort_by_key(|lock| lock.name().to_owned());
        thread::scope(|scope| {
            let next = scope.spawn(|| waiting.acquire_from_group_within("licence", SOON));
            held[1].release().unwrap();
            let next = next.join().unwrap().unwrap().expect("one comes free");
            assert_eq!(next.name(), "licenceLock1");
            assert_eq!(next.cleanup(), None);
        });
        // Nobody stands in line for the others any more.
        held.iter().filter(|lock| lock.is_valid()).for_each(|lock| lock.release().unwrap());
        drop([(); 3].map(|()| had_from(&there, "licence")));
    }
}

#[test]
fn what_a_wait_for_a_group_has_too_much_of_goes_to_others() {
    let [(_a, here), (_b, there)] = members();
    here.create_pool("licence", 4).unwrap();
    for _ in 0..20 {
        let held = [(); 4].map(|()| had_from(&here, "licence"));
        thread::scope(|scope| {
            let wait = || there.acquire_from_group_within("licence", SOON).unwrap().is_some();
            let waiters = [(); 6].map(|()| scope.spawn(wait));
            held.into_iter().for_each(drop);
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
    }
}

#[test]
fn an_expired_lock_of_a_group_is_acquired_and_owes_a_clean_up() {
    let (world, [(_a, here), (_b, there)]) = simulated();
    here.create_pool("licence", 1).unwrap();
    for next_is in [&here, &there] {
        let lock = had_from(&here.lasting(ms(10)).owned_by("hasty"), "licence");
        world.advance(10);
        let next = had_from(next_is, "licence");
        assert_eq!(&*next.cleanup().unwrap().owner, "hasty");
        assert!(!lock.is_valid());
    }
}

#[test]
fn whoever_waits_for_a_group_has_what_expires_in_it() {
    let [(_a, here), (_b, there)] = members();
    here.create_pool("licence", 2).unwrap();
    let long = had_from(&here, "licence");
    let mut short = had_from(&here, "licence");
    for next_is in [&here, &there] {
        short.set_expiration(ms(20)).unwrap();
        let next =
            next_is.acquire_from_group_within("licence", SOON).unwrap().expect("one expires");
        assert_eq!(next.name(), short.name());
        assert!(next.cleanup().is_some() && !short.is_valid());
        short = next;
    }
    assert!(long.is_valid());
}

/// How late somebody who waits for a group has a lock that is put into it.
fn late_for_what_is_put_into_a_group(lost_one_in: u64) -> Duration {
    let (store, world) = Memory::simulated(1);
    let [(_a, here), (b, there)] = members_of(&store);
    here.create_group("printers", 2).unwrap();
    let (laser, ink) = (had(&here, "laser"), had(&here, "ink"));
    laser.set_group("printers").unwrap();
    ink.check().unwrap();
    let key = Key::of(["lease", "lock", "laser"]).unwrap();
    let waits = || {
        let content = store.read(&key).unwrap().content.unwrap();
        String::from_utf8(content).unwrap().contains(&**b.member().name())
    };
    thread::scope(|scope| {
        let next = scope.spawn(|| there.acquire_from_group_within("printers", SOON));
        while !waits() {
            thread::yield_now();
        }
        world.lose_reports(lost_one_in);
        let since = now();
        ink.set_group("printers").unwrap();
        ink.release().unwrap();
        assert_eq!(next.join().unwrap().unwrap().unwrap().name(), "ink");
        since.elapsed()
    })
}

#[test]
fn whoever_waits_for_a_group_has_what_is_put_into_it_meanwhile() {
    // Sooner than anybody looks by itself, if nothing keeps the machine busy.
    let best = (0..10).map(|_| late_for_what_is_put_into_a_group(0)).min().unwrap();
    assert!(best < ms(50), "{best:?}");
    // Also if nobody reports that the group changed.
    assert!(late_for_what_is_put_into_a_group(1) < SOON);
}

#[test]
fn a_group_that_is_deleted_meanwhile_gives_no_lock() {
    let (store, world) = Memory::simulated(1);
    let [(_a, here), (_b, there)] = members_of(&store);
    here.create_pool("licence", 1).unwrap();
    let deletes = Mutex::new(Some(there));
    world.interpose(move |call, leg| {
        // Whoever acquires has read which locks there are, and goes for one.
        let reads = matches!(call, Call::Read(key) if key.as_str() == "lease/groups");
        let taken = if reads && leg == Leg::Back { deletes.lock().unwrap().take() } else { None };
        if let Some(there) = taken {
            there.delete_group("licence").unwrap();
        }
        Fate::Arrives
    });
    let gone = Err(LeaseError::NoGroup { group: "licence".into() });
    assert_eq!(here.acquire_from_group("licence").map(drop), gone);
    assert_eq!(had(&here, "licenceLock0").cleanup(), None);
}

#[test]
fn waiting_for_a_group_asks_the_engine_only_now_and_then() {
    let (store, world) = Memory::simulated(1);
    let [(_a, here), (_b, there)] = members_of(&store);
    here.create_pool("licence", 2).unwrap();
    let _held = [had_from(&here, "licence"), had_from(&here, "licence")];
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    world.interpose(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Fate::Arrives
    });
    assert!(there.acquire_from_group_within("licence", ms(300)).unwrap().is_none());
    // Two legs each: to stand in line and leave, twice; and three looks at what nobody reported, here and there.
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls < 300, "{calls}");
}

#[test]
fn a_group_is_deleted_only_if_all_its_locks_are_free_and_clean() {
    let (world, [(a, here), (_b, there)]) = simulated();
    let missing = Err(LeaseError::NoGroup { group: "licence".into() });
    assert_eq!(here.delete_group("licence"), missing);
    here.create_pool("licence", 3).unwrap();
    let lock = had_from(&here.owned_by("job-17"), "licence");
    let (group, name): (Arc<str>, Arc<str>) = ("licence".into(), lock.name().into());
    for leases in [&here, &there] {
        let locked = LeaseError::GroupLocked { group: group.clone(), lock: name.clone() };
        assert_eq!(leases.delete_group("licence"), Err(locked));
    }
    lock.set_expiration(ms(10)).unwrap();
    world.advance(10);
    for leases in [&there, &here] {
        let unclean = LeaseError::GroupNotClean {
            group: group.clone(),
            lock: name.clone(),
            owner: "job-17".into(),
            by: a.member().clone(),
        };
        assert_eq!(leases.delete_group("licence"), Err(unclean));
    }
    let lock = had(&there, &name);
    assert!(lock.cleanup().is_some());
    lock.release().unwrap();
    there.delete_group("licence").unwrap();
    assert_eq!(here.acquire_from_group("licence").map(drop), missing);
    let lock = had(&here, &name);
    assert_eq!(lock.group().unwrap(), None);
    here.create_group("others", 1).unwrap();
    lock.set_group("others").unwrap();
}

#[test]
fn whoever_deletes_a_group_holds_its_locks_until_it_is_deleted_however_long_that_takes() {
    let (store, world) = Memory::simulated(1);
    let [(_a, here), (_b, there)] = members_of(&store);
    here.create_pool("licence", 2).unwrap();
    let (clock, taken) = (world.clone(), Arc::new(Mutex::new(None)));
    let (tries, seen) = (Mutex::new(Some(there)), Arc::clone(&taken));
    world.interpose(move |call, leg| {
        // All are taken, and the group is about to go.
        let goes = matches!(call, Call::Swap { key, .. } if key.as_str() == "lease/groups");
        let there = if goes && leg == Leg::There { tries.lock().unwrap().take() } else { None };
        if let Some(there) = there {
            clock.advance(200_000);
            *seen.lock().unwrap() = Some(there.acquire_lock("licenceLock0").unwrap().is_some());
        }
        Fate::Arrives
    });
    here.lasting(ms(1)).delete_group("licence").unwrap();
    assert_eq!(*taken.lock().unwrap(), Some(false), "nobody has a lock of it meanwhile");
    assert_eq!(had(&here, "licenceLock0").cleanup(), None);
}

#[test]
fn a_group_into_which_a_lock_is_put_meanwhile_is_not_deleted() {
    let (store, world) = Memory::simulated(1);
    let [(_a, here), (_b, there)] = members_of(&store);
    here.create_group("printers", 2).unwrap();
    had(&here, "laser").set_group("printers").unwrap();
    let ink = Mutex::new(Some(had(&there, "ink")));
    world.interpose(move |call, _| {
        // It has read which locks there are, and takes the first. What this does comes here, too.
        let taken = if let Call::Swap { .. } = call { ink.lock().unwrap().take() } else { None };
        if let Some(ink) = taken {
            ink.set_group("printers").unwrap();
            std::mem::forget(ink);
        }
        Fate::Arrives
    });
    let locked = LeaseError::GroupLocked { group: "printers".into(), lock: "ink".into() };
    assert_eq!(here.delete_group("printers"), Err(locked));
    assert_eq!(had(&here, "laser").group().unwrap().as_deref(), Some("printers"));
}

#[test]
fn a_lock_acquired_from_a_group_is_in_it_for_as_long_as_it_is_held() {
    let [(_a, here), (_b, there)] = members();
    here.create_pool("licence", 2).unwrap();
    let enough = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while enough.load(Ordering::Relaxed) < 40 {
                if there.delete_group("licence").is_ok() {
                    enough.fetch_add(1, Ordering::Relaxed);
                    there.create_pool("licence", 2).unwrap();
                }
            }
        });
        while enough.load(Ordering::Relaxed) < 40 {
            match here.acquire_from_group("licence") {
                Ok(Some(lock)) => assert_eq!(lock.group().unwrap().as_deref(), Some("licence")),
                Ok(None) | Err(LeaseError::NoGroup { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn a_pool_is_ready_on_return_with_locks_called_by_number() {
    let [(_a, here), (_b, there)] = members();
    here.create_pool("licence", 12).unwrap();
    let held: Vec<_> = (0..12).map(|i| had(&there, &format!("licenceLock{i}"))).collect();
    assert!(held.iter().all(|lock| lock.group().unwrap().as_deref() == Some("licence")));
    let one_more = had(&here, "licenceLock12");
    assert_eq!(one_more.group().unwrap(), None);
    let full = one_more.set_group("licence");
    assert!(matches!(full, Err(LeaseError::GroupFull { capacity: 12, .. })), "{full:?}");
}

#[test]
fn a_pool_of_which_a_lock_is_in_another_group_is_not_created() {
    let [(_a, here)] = members();
    here.create_group("printers", 1).unwrap();
    had(&here, "licenceLock1").set_group("printers").unwrap();
    let taken = LeaseError::InGroup { lock: "licenceLock1".into(), group: "printers".into() };
    assert_eq!(here.create_pool("licence", 2), Err(taken));
    let missing = LeaseError::NoGroup { group: "licence".into() };
    assert_eq!(here.acquire_from_group("licence").map(drop), Err(missing));
    assert_eq!(had(&here, "licenceLock0").group().unwrap(), None);
    here.create_pool("licence", 1).unwrap();
}

#[test]
fn groups_that_cannot_be_written_down_are_refused() {
    let [(_a, here)] = members();
    for locks in [60_000, usize::MAX] {
        let refused = here.create_pool("a-pool-with-quite-a-long-name", locks);
        let too_large =
            matches!(refused, Err(LeaseError::Coordination(CoordinationError::TooLarge { .. })));
        assert!(too_large, "{refused:?}");
    }
    here.create_pool("a-pool-with-quite-a-long-name", 2).unwrap();
}

#[test]
fn groups_that_cannot_be_understood_are_an_error_and_stay_as_they_are() {
    let store = Memory::new();
    let [(a, here)] = members_of(&store);
    let key = Key::parse("lease/groups").unwrap();
    let lock = had(&here, "laser");
    let contents = [
        "",
        "nonsense",
        r#"{"format":1}"#,
        r#"{"format":1,"groups":{"a":{"capacity":1,"locks":["x"],"more":1}}}"#,
        r#"{"format":1,"groups":{"a":{"capacity":0,"locks":["x"]}}}"#,
        r#"{"format":1,"groups":{"a":{"capacity":1,"locks":["x"]},"b":{"capacity":1,"locks":["x"]}}}"#,
        r#"{"format":2,"groups":{}}"#,
        r#"{"format":2,"groups":{},"more":1}"#,
        r#"{"format":2,"groups":[{"name":"a"}]}"#,
    ];
    for content in contents {
        let version = store.read(&key).map_or(Version::ABSENT, |stored| stored.version);
        store.compare_and_swap(&key, version, content.as_bytes(), a.member()).unwrap();
        let refusals = [
            here.create_group("printers", 1),
            here.create_pool("printers", 1),
            here.delete_group("a"),
            here.acquire_from_group("a").map(drop),
            here.acquire_from_group_within("a", SOON).map(drop),
            lock.set_group("a"),
            lock.group().map(drop),
        ];
        for refusal in refusals {
            let Err(LeaseError::Coordination(error)) = refusal else {
                panic!("{content}: {refusal:?}")
            };
            let later = matches!(error, CoordinationError::UnknownFormat { format: 2, .. });
            let damaged = matches!(error, CoordinationError::Damaged { .. });
            assert!(if content.contains(r#""format":2"#) { later } else { damaged }, "{error}");
        }
        assert_eq!(store.read(&key).unwrap().content.as_deref(), Some(content.as_bytes()));
    }
    assert!(lock.is_valid());
}
