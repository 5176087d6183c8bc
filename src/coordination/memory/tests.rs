use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::coordination::conformance;

const TTL: Duration = Duration::from_millis(100);

fn key() -> Key {
    Key::of(["lock", "a"]).expect("that is a key")
}

fn kind<T>(result: Result<T, DriverError>) -> Option<DriverErrorKind> {
    result.err().map(|error| error.kind())
}

/// Counts what is reported.
fn counter() -> (Arc<AtomicU64>, Reporter) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let reporter = Reporter::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    (count, reporter)
}

#[test]
fn a_store_in_memory_is_a_driver() {
    let store = Memory::new();
    conformance::driver(move || Arc::new(store.clone()));
}

#[test]
fn members_over_a_store_in_memory_are_coordinated() {
    let store = Memory::new();
    let connect = move || Arc::new(store.clone()) as _;
    conformance::coordinator(connect, conformance::Processes::none());
}

#[test]
fn a_named_store_lasts_as_long_as_somebody_uses_it() {
    let name = "a store that only this test names";
    let store = Memory::named(name);
    let seat = store.join("a", TTL).expect("nobody has the name");
    store.compare_and_swap(&key(), Version::ABSENT, b"kept", seat.id()).expect("it lives");
    drop(store);
    assert_eq!(
        Memory::named(name).read(&key()).expect("it works").content.as_deref(),
        Some(&b"kept"[..])
    );
    assert_eq!(Memory::named("another").read(&key()).expect("it works").content, None);
    assert_eq!(Memory::new().read(&key()).expect("it works").content, None);
    drop(seat);
    assert_eq!(Memory::named(name).read(&key()).expect("it works").content, None);
}

#[test]
fn a_watch_that_ends_when_its_report_is_dropped_ends() {
    let (store, _) = Memory::simulated(0);
    let (other, reporter) = counter();
    let watch = store.watch(Subject::Record(key()), reporter).expect("it works");
    // Dropping what watches drops another watch.
    let owned = std::sync::Mutex::new(Some(watch));
    let reporter = Reporter::new(move |_| assert!(owned.lock().is_ok()));
    drop(store.watch(Subject::Record(key()), reporter).expect("it works"));
    let seat = store.join("a", TTL).expect("nobody has the name");
    store.compare_and_swap(&key(), Version::ABSENT, b"", seat.id()).expect("it lives");
    assert_eq!(other.load(Ordering::Relaxed), 0);
    assert!(store.0.state.lock().watches.is_empty(), "a watch was left behind");
}

#[test]
fn time_passes_when_the_world_says_so_and_those_who_are_late_die() {
    let (store, world) = Memory::simulated(0);
    let (seat, late) = (store.join("a", TTL).unwrap(), store.join("b", TTL).unwrap());
    let (deaths, reporter) = counter();
    let _watch = store.watch(Subject::Member(late.id().clone()), reporter).unwrap();
    assert_eq!(store.now(), Moment(0));
    world.advance(60);
    assert_eq!(seat.beat().unwrap(), Some(Moment(160)));
    world.advance(40);
    assert_eq!(deaths.load(Ordering::Relaxed), 1, "the world reports a death as it happens");
    assert_eq!(store.members().unwrap(), [seat.id().clone()]);
    assert_eq!(kind(late.beat()), Some(DriverErrorKind::Lost));
    let swap = store.compare_and_swap(&key(), Version::ABSENT, b"", late.id());
    assert_eq!(kind(swap), Some(DriverErrorKind::Lost));
}

#[test]
fn a_beat_that_is_late_counts_from_before_it_was_sent() {
    let (store, world) = Memory::simulated(0);
    let seat = store.join("a", TTL).unwrap();
    let slow = world.clone();
    world.interpose(move |call, leg| {
        if matches!(call, Call::Beat(_)) {
            slow.advance(if leg == Leg::There { 30 } else { 20 });
        }
        Fate::Arrives
    });
    assert_eq!(seat.beat().unwrap(), Some(Moment(100)), "sent at 0");
    world.calm();
    world.advance(79);
    assert!(store.is_alive(seat.id()).unwrap(), "it arrived at 30");
    world.advance(1);
    assert!(!store.is_alive(seat.id()).unwrap());
}

#[test]
fn a_beat_that_arrives_after_the_death_is_lost() {
    let (store, world) = Memory::simulated(0);
    let seat = store.join("a", TTL).unwrap();
    let slow = world.clone();
    world.interpose(move |_, leg| {
        slow.advance(if leg == Leg::There { 100 } else { 0 });
        Fate::Arrives
    });
    assert_eq!(kind(seat.beat()), Some(DriverErrorKind::Lost));
    world.calm();
}

#[test]
fn what_is_lost_on_the_way_there_is_not_done_and_on_the_way_back_it_is() {
    let (store, world) = Memory::simulated(0);
    let seat = store.join("a", TTL).unwrap();
    for (lost, content) in [(Leg::There, None), (Leg::Back, Some(b"done".to_vec()))] {
        world.interpose(move |_, leg| if leg == lost { Fate::IsLost } else { Fate::Arrives });
        let swap = store.compare_and_swap(&key(), Version::ABSENT, b"done", seat.id());
        assert_eq!(kind(swap), Some(DriverErrorKind::Unavailable));
        assert_eq!(kind(store.read(&key())), Some(DriverErrorKind::Unavailable));
        assert_eq!(
            kind(store.watch(Subject::Record(key()), counter().1)),
            Some(DriverErrorKind::Unavailable)
        );
        world.calm();
        assert_eq!(store.read(&key()).unwrap().content, content);
        assert!(store.0.state.lock().watches.is_empty(), "a watch was left behind");
    }
}

#[test]
fn others_can_be_first_while_a_call_is_on_its_way() {
    let (store, world) = Memory::simulated(0);
    let (slow, quick) = (store.join("slow", TTL).unwrap(), store.join("quick", TTL).unwrap());
    let (others, id) = (store.clone(), quick.id().clone());
    world.interpose(move |call, leg| {
        if leg == Leg::There && call.by().is_some_and(|by| &**by.name() == "slow") {
            let swap = others.compare_and_swap(&key(), Version::ABSENT, b"quick", &id);
            assert!(matches!(swap, Ok(Swap::Done(_))));
        }
        Fate::Arrives
    });
    let swap = store.compare_and_swap(&key(), Version::ABSENT, b"slow", slow.id());
    assert_eq!(swap, Ok(Swap::Conflict));
    // What is interposed holds the store: nobody would ever drop either.
    world.calm();
}

#[test]
fn who_crashed_says_nothing_any_more_and_dies_when_its_time_is_over() {
    let (store, world) = Memory::simulated(0);
    let seat = store.join("a", TTL).unwrap();
    let id = seat.id().clone();
    world.crash(&id);
    assert_eq!(kind(seat.beat()), Some(DriverErrorKind::Unavailable));
    let swap = store.compare_and_swap(&key(), Version::ABSENT, b"", &id);
    assert_eq!(kind(swap), Some(DriverErrorKind::Unavailable));
    drop(seat);
    assert!(store.is_alive(&id).unwrap(), "nobody heard that it is gone");
    assert_eq!(kind(store.join("a", TTL)), Some(DriverErrorKind::NameTaken));
    world.advance(100);
    assert!(!store.is_alive(&id).unwrap());
    store.join("a", TTL).expect("the name is free").beat().expect("that is another");
}

/// Which of a hundred changes are reported.
fn reported(seed: u64, one_in: u64) -> Vec<u64> {
    let (store, world) = Memory::simulated(seed);
    let seat = store.join("a", TTL).unwrap();
    let (count, reporter) = counter();
    let _watch = store.watch(Subject::Record(key()), reporter).unwrap();
    world.lose_reports(one_in);
    let changes = (0..100).map(|_| {
        let version = store.read(&key()).unwrap().version;
        store.compare_and_swap(&key(), version, b"", seat.id()).unwrap();
        count.load(Ordering::Relaxed)
    });
    changes.collect()
}

#[test]
fn the_seed_alone_decides_which_reports_are_lost() {
    assert_eq!(reported(1, 3), reported(1, 3));
    assert_ne!(reported(1, 3), reported(2, 3));
    assert_eq!((reported(1, 0).last(), reported(1, 1).last()), (Some(&100), Some(&0)));
    let some = *reported(1, 3).last().expect("a hundred");
    assert!((50..85).contains(&some), "{some} of a hundred");
}

#[test]
fn two_simulations_of_one_seed_do_the_same() {
    let run = || {
        let (store, world) = Memory::simulated(7);
        let log = Arc::new(Mutex::new(Vec::new()));
        let logged = Arc::clone(&log);
        world.interpose(move |call, leg| {
            logged.lock().push(format!("{call:?} {leg:?}"));
            Fate::Arrives
        });
        let names = ["b", "a", "c"];
        let seats = names.map(|name| store.join(name, TTL).unwrap());
        for seat in &seats {
            let version = store.read(&key()).unwrap().version;
            store.compare_and_swap(&key(), version, b"", seat.id()).unwrap();
            world.advance(40);
            let _ = seat.beat();
        }
        let seen = format!("{:?} {:?}", store.members(), store.keys(""));
        log.lock().push(seen);
        drop(seats);
        world.calm();
        std::mem::take(&mut *log.lock())
    };
    assert_eq!(run(), run());
}
