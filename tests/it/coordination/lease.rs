//! Leases: what Ariba's documentation says of its locks, sentence by sentence, and where it was silent.

mod groups;

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use tierlock::coordination::lease::{Cleanup, LIFETIME, Lease, LeaseError, Leases};
use tierlock::coordination::memory::{Call, Fate, Leg, Memory, World};
use tierlock::coordination::{
    Capability, CoordinationError, Coordinator, Driver, DriverError, Key, MemberId, Moment,
    Reporter, Seat, Stored, Subject, Swap, Version, Watch,
};

use crate::support::now;

const SOON: Duration = Duration::from_secs(10);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Members of a store of their own, and their leases.
fn members<const N: usize>() -> [(Coordinator, Leases); N] {
    members_of(&Memory::new())
}

fn members_of<const N: usize>(store: &Memory) -> [(Coordinator, Leases); N] {
    std::array::from_fn(|at| member_of(store, &format!("worker-{at}")))
}

/// A member that does not die of the clock of a simulation.
fn member_of(store: &Memory, name: &str) -> (Coordinator, Leases) {
    let connect = Coordinator::over(Arc::new(store.clone())).ttl(Duration::from_secs(3600));
    let coordinator = connect.join(name).unwrap();
    let leases = Leases::new(&coordinator).unwrap();
    (coordinator, leases)
}

/// Members of a store whose clock stands still.
fn simulated<const N: usize>() -> (World, [(Coordinator, Leases); N]) {
    let (store, world) = Memory::simulated(1);
    (world, members_of(&store))
}

fn had(leases: &Leases, name: &str) -> Lease {
    leases.acquire_lock(name).unwrap().expect("it is free")
}

fn had_soon(leases: &Leases, name: &str) -> Lease {
    leases.acquire_lock_within(name, SOON).unwrap().expect("it comes free")
}

/// Whom the member is told to clean up after.
fn cleanups(leases: &Leases) -> Receiver<Cleanup> {
    let (tell, told) = mpsc::channel();
    leases.on_cleanup(move |_, cleanup| tell.send(cleanup.clone()).unwrap());
    told
}

#[test]
fn the_first_to_acquire_a_lock_has_it_locked() {
    let [(a, here)] = members();
    let lock = had(&here, "report");
    assert!(lock.is_valid());
    assert_eq!(lock.name(), "report");
    assert!(here.node_has_lock("report", a.member()).unwrap());
}

#[test]
fn of_one_name_there_is_one_valid_lock_in_the_cluster() {
    let [(a, here), (_b, there)] = members();
    let lock = had(&here, "report");
    assert!(there.acquire_lock("report").unwrap().is_none());
    assert!(here.acquire_lock("report").unwrap().is_none());
    assert!(Leases::new(&a).unwrap().acquire_lock("report").unwrap().is_none());
    assert!(there.acquire_lock("other").unwrap().is_some());
    assert!(lock.is_valid());
}

#[test]
fn acquiring_with_a_timeout_is_none_when_the_time_is_up() {
    let [(_a, here), (_b, there)] = members();
    let lock = had(&here, "report");
    assert!(there.acquire_lock_within("report", ms(5)).unwrap().is_none());
    assert!(here.acquire_lock_within("report", ms(5)).unwrap().is_none());
    assert!(there.acquire_lock_within("report", Duration::ZERO).unwrap().is_none());
    lock.release().unwrap();
    drop(had(&there, "report"));
}

#[test]
fn whoever_waits_has_the_lock_when_it_is_released() {
    let [(_a, here), (_b, there)] = members();
    for waiting in [&here, &there] {
        let lock = had(&here, "report");
        thread::scope(|scope| {
            let next = scope.spawn(|| had_soon(waiting, "report").cleanup().cloned());
            lock.release().unwrap();
            assert_eq!(next.join().unwrap(), None);
        });
    }
}

#[test]
fn a_lock_lasts_two_minutes_unless_it_is_said() {
    let (world, [(_a, here), (_b, there)]) = simulated();
    let lock = had(&here, "report");
    assert_eq!(lock.expires_in().unwrap(), LIFETIME);
    world.advance(119_999);
    assert!(lock.is_valid());
    assert!(there.acquire_lock("report").unwrap().is_none());
    world.advance(1);
    assert!(!lock.is_valid());
    assert!(there.acquire_lock("report").unwrap().is_some());
}

#[test]
fn the_lifetime_is_set_by_the_step_that_acquires() {
    let (store, world) = Memory::simulated(1);
    let [(_a, here), (_b, there)] = members_of(&store);
    // From the first moment that others can see a hold, it ends when it shall.
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (looks, looking) = (Arc::clone(&seen), store.clone());
    world.interpose(move |call, leg| {
        if let (Call::Swap { key, .. }, Leg::Back) = (call, leg) {
            let content = looking.read(key).unwrap().content.unwrap();
            let record: serde_json::Value = serde_json::from_slice(&content).unwrap();
            let until = record["holders"].as_array().unwrap().iter().map(|h| h["until"].as_u64());
            looks.lock().unwrap().extend(until);
        }
        Fate::Arrives
    });
    let lock = had(&here.lasting(ms(50)), "report");
    world.calm();
    assert_eq!(*seen.lock().unwrap(), [Some(50)]);
    world.advance(50);
    assert!(there.acquire_lock("report").unwrap().is_some());
    drop(lock);
}

#[test]
fn a_lifetime_of_parts_of_a_millisecond_is_one() {
    let (_world, [(_a, here)]) = simulated();
    let lock = had(&here.lasting(Duration::from_nanos(1)), "report");
    assert_eq!(lock.expires_in().unwrap(), ms(1));
    drop(lock);
    let lock = had(&here.lasting(Duration::ZERO), "report");
    assert_eq!(lock.expires_in().unwrap(), ms(1));
    lock.set_expiration(Duration::from_micros(1_001)).unwrap();
    assert_eq!(lock.expires_in().unwrap(), ms(2));
}

#[test]
fn the_expiration_counts_from_now_and_may_be_later_or_sooner() {
    let (world, [(_a, here), (_b, there)]) = simulated();
    let lock = had(&here.lasting(ms(1_000)), "report");
    world.advance(900);
    lock.set_expiration(ms(5_000)).unwrap();
    assert_eq!(lock.expires_in().unwrap(), ms(5_000));
    world.advance(4_999);
    assert!(lock.is_valid());
    assert!(there.acquire_lock("report").unwrap().is_none());
    lock.set_expiration(ms(10)).unwrap();
    world.advance(9);
    assert!(there.acquire_lock("report").unwrap().is_none());
    world.advance(1);
    assert!(there.acquire_lock("report").unwrap().is_some());
    assert!(!lock.is_valid());
}

#[test]
fn a_lock_that_shall_expire_now_has_expired() {
    let (_world, [(_a, here)]) = simulated();
    let lock = had(&here, "report");
    lock.set_expiration(Duration::ZERO).unwrap();
    assert!(!lock.is_valid());
    assert_eq!(had(&here, "report").cleanup().unwrap().lock.as_ref(), "report");
}

#[test]
fn each_operation_on_a_lock_that_is_over_is_an_error_that_says_why() {
    let (world, [(_a, here), (b, there)]) = simulated();
    let (expired, released, lost) =
        (had(&here.lasting(ms(10)), "one"), had(&here, "two"), had(&there, "three"));
    world.advance(10);
    released.release().unwrap();
    b.leave().unwrap();
    here.create_group("group", 9).unwrap();
    let why = |lock: &Lease| match lock.name() {
        "one" => LeaseError::Expired { lock: "one".into() },
        "two" => LeaseError::Released { lock: "two".into() },
        _ => LeaseError::Lost { lock: "three".into(), reason: Box::new(b.check().unwrap_err()) },
    };
    for lock in [expired, released, lost] {
        let why = why(&lock);
        assert!(why.to_string().contains(lock.name()), "{why}");
        assert!(!lock.is_valid());
        assert_eq!(lock.check(), Err(why.clone()));
        assert_eq!(lock.token(), Err(why.clone()));
        assert_eq!(lock.expires_in(), Err(why.clone()));
        assert_eq!(lock.set_expiration(SOON), Err(why.clone()));
        assert_eq!(lock.set_group("group"), Err(why.clone()));
        assert_eq!(lock.group(), Err(why.clone()));
        assert_eq!(lock.release(), Err(why.clone()));
        assert_eq!(lock.release(), Err(why), "the second time, too");
    }
}

#[test]
fn what_is_over_cannot_touch_the_hold_of_whoever_is_next() {
    let (world, [(_a, here), (_b, there)]) = simulated();
    for next_is in [&here, &there] {
        let first = had(&here, "report");
        first.release().unwrap();
        let second = had(next_is, "report");
        assert!(first.release().is_err());
        assert!(first.set_expiration(Duration::ZERO).is_err());
        drop(first);
        assert!(second.is_valid());
        second.set_expiration(ms(10)).unwrap();
        world.advance(10);
        let third = had(next_is, "report");
        assert!(second.release().is_err());
        drop(second);
        assert!(third.is_valid());
        assert_eq!(third.expires_in().unwrap(), LIFETIME);
    }
}

#[test]
fn an_expired_lock_is_free_although_its_object_lies_around() {
    let (world, [(_a, here), (_b, there)]) = simulated();
    for next_is in [&here, &there] {
        let first = had(&here.lasting(ms(10)), "report");
        world.advance(10);
        let second = had(next_is, "report");
        assert!(second.is_valid() && !first.is_valid());
        second.release().unwrap();
    }
}

#[test]
fn whoever_waits_has_an_expired_lock_within_milliseconds() {
    let [(_a, here), (_b, there)] = members();
    for next_is in [&here, &there] {
        let late = |_| {
            let first = had(&here, "report");
            let asked = now();
            first.set_expiration(ms(20)).unwrap();
            let second = had_soon(next_is, "report");
            let late = asked.elapsed().checked_sub(ms(19)).expect("not before it expires");
            assert!(!first.is_valid());
            second.release().unwrap();
            late
        };
        // Something else may keep the machine busy now and then.
        let best = (0..10).map(late).min().unwrap();
        assert!(best < ms(30), "{best:?}");
    }
}

#[test]
fn the_next_to_acquire_is_told_once_whose_an_expired_lock_was() {
    let (world, [(a, here), (_b, there)]) = simulated();
    let (told_here, told_there) = (cleanups(&here), cleanups(&there));
    world.advance(5);
    let first = had(&here.owned_by("job-17").lasting(ms(10)), "report");
    let token = first.token().unwrap();
    world.advance(30);
    assert!(told_there.try_recv().is_err(), "not before somebody acquires it");
    let second = had(&there, "report");
    let cleanup = second.cleanup().unwrap();
    assert_eq!(
        (&*cleanup.lock, &cleanup.member, &*cleanup.owner),
        ("report", a.member(), "job-17")
    );
    assert_eq!((cleanup.token, cleanup.since), (token, Moment(5)));
    assert!(cleanup.until >= Moment(15) && cleanup.until <= Moment(35), "{:?}", cleanup.until);
    assert_eq!(told_there.try_recv().as_ref(), Ok(cleanup));
    assert!(told_here.try_recv().is_err(), "on the node of the successor");
    second.release().unwrap();
    assert_eq!(had(&here, "report").cleanup(), None);
    assert!(told_here.try_recv().is_err() && told_there.try_recv().is_err(), "once");
    drop(first);
}

#[test]
fn the_notice_is_called_before_the_lock_is_had_and_may_use_leases() {
    let (world, [(_a, here)]) = simulated();
    let _first = had(&here.lasting(ms(10)), "report");
    world.advance(10);
    let (tell, tried) = mpsc::channel();
    here.lasting(ms(7)).owned_by("cleaner").on_cleanup(move |leases, cleanup| {
        tell.send(leases.acquire_lock(&cleanup.lock).unwrap().is_some()).unwrap();
        tell.send(leases.acquire_lock("notes").unwrap().unwrap().expires_in() == Ok(ms(7)))
            .unwrap();
    });
    let _second = had(&here, "report");
    assert_eq!(tried.try_iter().collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_notice_that_panics_keeps_nobody_from_the_lock_or_from_hearing() {
    let (world, [(_a, here)]) = simulated();
    here.on_cleanup(|_, cleanup| panic!("{cleanup}"));
    let told = cleanups(&here);
    let _first = had(&here.lasting(ms(10)), "report");
    world.advance(10);
    let second = had(&here, "report");
    assert_eq!(told.try_recv().as_ref().ok(), second.cleanup());
    second.release().unwrap();
    assert_eq!(had(&here, "report").cleanup(), None);
}

#[test]
fn whoever_panics_when_a_lease_is_lost_keeps_nobody_from_the_lock_or_from_hearing() {
    let [(_a, here), (_b, there)] = members();
    for next_is in [&there, &here] {
        let lock = had_soon(&here, "report");
        let (tell, told) = mpsc::channel();
        lock.on_lost(|why| panic!("{why}"));
        lock.on_lost(move |why| tell.send(why.clone()).unwrap());
        lock.set_expiration(ms(1)).unwrap();
        assert_eq!(told.recv_timeout(SOON), Ok(LeaseError::Expired { lock: "report".into() }));
        lock.on_lost(|why| panic!("{why}"));
        thread::scope(|scope| {
            let next = scope.spawn(|| had_soon(next_is, "report").release());
            next.join().unwrap().unwrap();
        });
    }
}

#[test]
fn a_released_or_dropped_lock_owes_no_clean_up() {
    let [(_a, here), (_b, there)] = members();
    had(&here, "report").release().unwrap();
    assert_eq!(had(&there, "report").cleanup(), None);
    assert_eq!(had(&here, "report").cleanup(), None);
}

#[test]
fn a_holder_that_panics_has_left_its_lock_behind() {
    let [(_a, here), (_b, there)] = members();
    let panicked = thread::scope(|scope| {
        let hasty = scope.spawn(|| {
            let _lock = had(&here.owned_by("hasty"), "report");
            std::panic::resume_unwind(Box::new("half way"));
        });
        hasty.join()
    });
    assert!(panicked.is_err());
    assert_eq!(&*had_soon(&there, "report").cleanup().unwrap().owner, "hasty");
}

#[test]
fn what_nobody_was_told_is_told_to_the_next() {
    let (world, [(_a, here), (_b, there)]) = simulated();
    let _first = had(&here.owned_by("job-17").lasting(ms(10)), "report");
    here.create_group("group", 1).unwrap();
    _first.set_group("group").unwrap();
    world.advance(10);
    // It takes the lock, and gives it back as if it had not.
    assert!(there.delete_group("group").is_err());
    assert_eq!(&*had(&there, "report").cleanup().unwrap().owner, "job-17");
}

#[test]
fn when_a_member_dies_its_locks_end_and_are_told_of() {
    let (store, world) = Memory::simulated(1);
    let (_a, here) = member_of(&store, "worker-0");
    let mortal = Coordinator::over(Arc::new(store.clone())).ttl(ms(9_000)).join("mortal").unwrap();
    let there = Leases::new(&mortal).unwrap();
    let lock = had(&there.lasting(Duration::from_secs(600)), "report");
    world.crash(mortal.member());
    world.advance(8_999);
    assert!(here.acquire_lock("report").unwrap().is_none());
    assert!(lock.is_valid());
    world.advance(1);
    assert!(!lock.is_valid(), "it knows no later than others");
    assert!(!here.node_has_lock("report", mortal.member()).unwrap());
    let next = had(&here, "report");
    assert_eq!(&next.cleanup().unwrap().member, mortal.member());
    assert!(matches!(lock.release(), Err(LeaseError::Lost { .. })));
}

#[test]
fn whoever_waits_has_the_lock_of_a_member_that_leaves() {
    let [(a, here), (_b, there)] = members();
    let lock = had(&here, "report");
    let at = Barrier::new(2);
    thread::scope(|scope| {
        let next = scope.spawn(|| {
            at.wait();
            had_soon(&there, "report").cleanup().cloned()
        });
        at.wait();
        a.leave().unwrap();
        assert_eq!(&next.join().unwrap().unwrap().member, a.member());
    });
    assert!(matches!(lock.check(), Err(LeaseError::Lost { .. })));
    assert!(here.acquire_lock("report").is_err());
    assert!(here.acquire_lock_within("report", SOON).is_err());
}

#[test]
fn whoever_waits_in_a_member_that_leaves_hears_so() {
    let [(a, here), (_b, there)] = members();
    let (lock, group) = (had(&there, "report"), had(&here, "laser"));
    here.create_group("printers", 1).unwrap();
    group.set_group("printers").unwrap();
    thread::scope(|scope| {
        let waits = [
            scope.spawn(|| here.acquire_lock_within("report", SOON * 6).map(drop)),
            scope.spawn(|| here.acquire_lock_within("report", SOON * 6).map(drop)),
            scope.spawn(|| here.acquire_from_group_within("printers", SOON * 6).map(drop)),
        ];
        let asked = now();
        a.leave().unwrap();
        assert!(waits.into_iter().all(|wait| wait.join().unwrap().is_err()));
        assert!(asked.elapsed() < SOON);
    });
    assert!(lock.is_valid());
}

#[test]
fn the_loser_of_a_lock_is_told_so_too() {
    let [(a, here), (b, there)] = members();
    let (tell, told) = mpsc::channel();
    let listen = |lock: &Lease| {
        let tell = tell.clone();
        lock.on_lost(move |why| tell.send(why.clone()).unwrap());
    };
    let (expires, is_lost) = (had(&here, "one"), had(&there, "two"));
    listen(&expires);
    expires.set_expiration(ms(10)).unwrap();
    assert_eq!(told.recv_timeout(SOON).unwrap(), LeaseError::Expired { lock: "one".into() });
    listen(&is_lost);
    b.leave().unwrap();
    assert!(matches!(told.recv_timeout(SOON).unwrap(), LeaseError::Lost { .. }));
    listen(&expires);
    assert!(told.try_recv().is_ok(), "at once, if it is over");
    let released = had(&here, "three");
    listen(&released);
    released.release().unwrap();
    listen(&released);
    assert!(told.try_recv().is_err());
    assert!(a.check().is_ok());
}

#[test]
fn tokens_grow_from_lease_to_lease() {
    let (world, [(_a, here), (_b, there)]) = simulated();
    let mut last = 0;
    for round in 0..30 {
        let leases = if round % 3 == 0 { &here } else { &there };
        let lock = had(&leases.lasting(ms(10)), "report");
        let token = lock.token().unwrap();
        assert!(token > last, "{token} after {last}");
        last = token;
        match round % 4 {
            0 => world.advance(10),
            1 => lock.set_expiration(Duration::ZERO).unwrap(),
            _ => lock.release().unwrap(),
        }
    }
}

#[test]
fn each_lease_has_its_own_lifetime_and_owner_also_within_a_process() {
    let (world, [(a, here)]) = simulated();
    let first = had(&here.lasting(ms(1_000)), "report");
    let second = here.owned_by("second").lasting(ms(5_000));
    thread::scope(|scope| {
        let next = scope.spawn(|| had_soon(&second, "report"));
        world.advance(500);
        first.release().unwrap();
        let next = next.join().unwrap();
        assert_eq!(next.expires_in().unwrap(), ms(5_000));
        next.set_expiration(Duration::ZERO).unwrap();
    });
    let cleanup = had(&here, "report").cleanup().cloned().unwrap();
    assert_eq!((&*cleanup.owner, &cleanup.member), ("second", a.member()));
}

#[test]
fn who_gave_up_waiting_leaves_nothing_to_who_waits_after_it() {
    let (_world, [(_a, here), (_b, there)]) = simulated();
    let impatient = here.owned_by("impatient").lasting(ms(1));
    for _ in 0..50 {
        let lock = had(&there, "report");
        assert!(impatient.acquire_lock_within("report", ms(2)).unwrap().is_none());
        thread::scope(|scope| {
            let next = scope.spawn(|| had_soon(&here, "report").expires_in().unwrap());
            lock.release().unwrap();
            assert_eq!(next.join().unwrap(), LIFETIME);
        });
    }
}

#[test]
fn of_two_threads_that_release_a_lock_one_has_released_it() {
    let [(_a, here)] = members();
    for _ in 0..50 {
        let (lock, at) = (had(&here, "report"), Barrier::new(2));
        let release = || {
            at.wait();
            lock.release()
        };
        let results = thread::scope(|scope| {
            [scope.spawn(release), scope.spawn(release)].map(|t| t.join().unwrap())
        });
        let again = Err(LeaseError::Released { lock: "report".into() });
        assert!(results.contains(&Ok(())) && results.contains(&again), "{results:?}");
    }
}

#[test]
fn leases_of_many_threads_and_members_never_overlap_though_some_expire() {
    let members: [_; 3] = members();
    let guarded = std::sync::Mutex::new(0);
    thread::scope(|scope| {
        for (at, leases) in members.iter().map(|(_, leases)| leases).cycle().take(6).enumerate() {
            let guarded = &guarded;
            scope.spawn(move || {
                for round in 0..60 {
                    let leaves_behind = (at + round) % 5 == 0;
                    let lock = leases.acquire_lock_within("report", SOON * 6).unwrap();
                    let lock = lock.expect("it comes free");
                    // The token is what makes it safe.
                    let token = lock.token().unwrap();
                    let mut greatest = guarded.try_lock().expect("nobody else has it");
                    assert!(token > *greatest, "{token} after {greatest}");
                    *greatest = token;
                    drop(greatest);
                    if leaves_behind {
                        lock.set_expiration(ms(2)).unwrap();
                        std::mem::forget(lock);
                    } else {
                        lock.release().unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn node_has_lock_says_who_holds_it_at_this_moment() {
    let (world, [(a, here), (b, there)]) = simulated();
    assert!(!here.node_has_lock("report", a.member()).unwrap());
    let lock = had(&here, "report");
    for leases in [&here, &there] {
        assert!(leases.node_has_lock("report", a.member()).unwrap());
        assert!(!leases.node_has_lock("report", b.member()).unwrap());
    }
    lock.set_expiration(ms(10)).unwrap();
    world.advance(10);
    assert!(!there.node_has_lock("report", a.member()).unwrap());
    let lock = had(&there, "report");
    assert!(here.node_has_lock("report", b.member()).unwrap());
    lock.release().unwrap();
    assert!(!here.node_has_lock("report", b.member()).unwrap());
}

#[test]
fn a_lock_that_could_not_be_given_back_is_given_back_later() {
    let (store, world) = Memory::simulated(1);
    let [(_a, here), (_b, there)] = members_of(&store);
    let lock = had(&here, "report");
    world.interpose(
        |call, _| {
            if matches!(call, Call::Swap { .. }) { Fate::IsLost } else { Fate::Arrives }
        },
    );
    assert!(matches!(lock.set_expiration(SOON), Err(LeaseError::Coordination(_))));
    assert!(lock.is_valid());
    assert!(matches!(lock.release(), Err(LeaseError::Coordination(_))));
    assert!(matches!(lock.release(), Err(LeaseError::Released { .. })));
    assert!(there.acquire_lock("report").is_err());
    world.calm();
    drop(had_soon(&there, "report"));
    drop(had_soon(&here, "report"));
}

#[test]
fn an_engine_without_a_common_clock_is_refused() {
    let (store, (alive, _gone)) = (Memory::new(), mpsc::channel());
    let capabilities = vec![Capability::Leases, Capability::Processes];
    let without = Watched { store, capabilities, _alive: alive };
    let coordinator = Coordinator::over(Arc::new(without)).join("worker-0").unwrap();
    let refused = Leases::new(&coordinator).unwrap_err();
    let LeaseError::Coordination(CoordinationError::Incapable { capability, .. }) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(&**capability, "CommonClock");
}

#[test]
fn what_no_lock_can_be_called_is_refused() {
    let [(a, here)] = members();
    let long = "x".repeat(2_000);
    for name in ["", &long] {
        let refusals = [
            here.acquire_lock(name).map(drop),
            here.acquire_lock_within(name, SOON).map(drop),
            here.node_has_lock(name, a.member()).map(drop),
            here.create_group(name, 1),
            here.create_pool(name, 1),
        ];
        for refusal in refusals {
            let bad =
                matches!(refusal, Err(LeaseError::Coordination(CoordinationError::BadName { .. })));
            assert!(bad, "{refusal:?}");
        }
    }
}

#[test]
fn when_all_members_are_gone_all_is_forgotten() {
    let (alive, gone) = mpsc::channel();
    let store = Watched {
        store: Memory::new(),
        capabilities: vec![Capability::CommonClock],
        _alive: alive,
    };
    let coordinator = Coordinator::over(Arc::new(store)).join("worker-0").unwrap();
    let leases = Leases::new(&coordinator).unwrap();
    leases.on_cleanup(|leases, _| drop(leases.clone()));
    leases.create_pool("pool", 2).unwrap();
    let (lock, expired) = (had(&leases, "report"), had(&leases, "poolLock1"));
    expired.set_expiration(ms(1)).unwrap();
    assert!(leases.acquire_lock_within("report", ms(5)).unwrap().is_none());
    assert!(had_soon(&leases, "poolLock1").is_valid());
    drop((coordinator, leases));
    assert!(gone.try_recv() == Err(mpsc::TryRecvError::Empty), "a lease keeps its member");
    drop((lock, expired));
    assert_eq!(gone.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
}

/// A store that can do what it is said to, and of which one hears when nobody uses it any more.
#[derive(Debug)]
struct Watched {
    store: Memory,
    capabilities: Vec<Capability>,
    _alive: mpsc::Sender<()>,
}

impl Driver for Watched {
    fn name(&self) -> &str {
        self.store.name()
    }
    fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }
    fn now(&self) -> Moment {
        self.store.now()
    }
    fn poll_interval(&self) -> Duration {
        self.store.poll_interval()
    }
    fn read(&self, key: &Key) -> Result<Stored, DriverError> {
        self.store.read(key)
    }
    fn compare_and_swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError> {
        self.store.compare_and_swap(key, expected, content, by)
    }
    fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError> {
        self.store.keys(prefix)
    }
    fn watch(&self, subject: Subject, reporter: Reporter) -> Result<Watch, DriverError> {
        self.store.watch(subject, reporter)
    }
    fn join(&self, name: &str, ttl: Duration) -> Result<Box<dyn Seat>, DriverError> {
        self.store.join(name, ttl)
    }
    fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError> {
        self.store.is_alive(member)
    }
    fn members(&self) -> Result<Vec<MemberId>, DriverError> {
        self.store.members()
    }
}
