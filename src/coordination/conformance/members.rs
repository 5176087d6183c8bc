//! Claims about who lives.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::super::{
    Capability, Driver, DriverError, DriverErrorKind, MemberId, Seat, Stored, Version,
};
use super::{Claim, Ground, PATIENCE, TTL, TTL_SHORT, alive, claims, eventually, pause, read};
use super::{store, within};
use crate::clock;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    who_joined_lives_under_its_name,
    a_name_that_lives_is_taken,
    of_those_who_join_at_a_time_one_is_seated,
    any_name_is_a_name_of_its_own,
    members_of_one_process_live_and_die_apart,
    who_left_is_dead_at_once_and_for_ever,
    who_joins_again_is_somebody_else,
    leaving_twice_is_leaving_once,
    who_drops_its_seat_dies,
    who_never_joined_does_not_live,
    a_beat_of_the_dead_is_lost,
    nothing_is_swapped_for_the_dead,
    a_beat_says_until_when_its_member_lives,
    who_does_not_beat_lives_as_long_as_its_process unless Leases,
    who_beats_in_time_lives if Leases,
    who_does_not_beat_dies if Leases,
];

fn kind<T>(result: Result<T, DriverError>) -> Option<DriverErrorKind> {
    result.err().map(|error| error.kind())
}

fn members(driver: &dyn Driver) -> BTreeSet<MemberId> {
    let members = driver.members().expect("the members can be read");
    let set: BTreeSet<_> = members.iter().cloned().collect();
    assert_eq!(set.len(), members.len(), "a member is listed twice");
    set
}

fn assert_lives(drivers: [&dyn Driver; 2], member: &MemberId) {
    for driver in drivers {
        assert!(alive(driver, member), "{member} should live");
        assert!(members(driver).contains(member), "{member} lives and is not listed");
    }
}

fn assert_dead(drivers: [&dyn Driver; 2], member: &MemberId) {
    for driver in drivers {
        assert!(!alive(driver, member), "{member} should be dead");
        assert!(!members(driver).contains(member), "{member} is dead and listed");
    }
}

fn who_joined_lives_under_its_name(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    assert_eq!(**seat.id().name(), *ground.name("member"));
    assert_eq!(seat.id().pid(), std::process::id(), "where it runs");
    assert_lives([&*a, &*b], seat.id());
}

fn a_name_that_lives_is_taken(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    for driver in [&a, &b] {
        let joined = driver.join(&ground.name("member"), TTL);
        assert_eq!(kind(joined), Some(DriverErrorKind::NameTaken));
    }
    assert_lives([&*a, &*b], seat.id());
    seat.beat().expect("who is not replaced can say that it lives");
}

fn of_those_who_join_at_a_time_one_is_seated(ground: &Ground) {
    const THREADS: usize = 4;
    let drivers = ground.connect_twice();
    for round in 0..10 {
        let (name, start) = (ground.name(&round.to_string()), Barrier::new(THREADS));
        let join = |thread| {
            let driver = if thread % 2 == 0 { &drivers.0 } else { &drivers.1 };
            start.wait();
            driver.join(&name, TTL)
        };
        let joined: Vec<_> = thread::scope(|scope| {
            let join = &join;
            let joins: Vec<_> =
                (0..THREADS).map(|thread| scope.spawn(move || join(thread))).collect();
            joins.into_iter().map(|join| join.join().expect("joining does not panic")).collect()
        });
        let seated = joined.iter().filter(|joined| joined.is_ok()).count();
        let refused: Vec<_> = joined.iter().filter_map(|joined| joined.as_ref().err()).collect();
        assert_eq!(seated, 1, "refused: {refused:?}");
        let taken = refused.iter().all(|error| error.kind() == DriverErrorKind::NameTaken);
        assert!(taken, "refused: {refused:?}");
    }
}

fn any_name_is_a_name_of_its_own(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    #[rustfmt::skip]
    let hostile = [
        "a", "A", "a/b", "a%2Fb", "a\\b", "/../x", "/../../x", ".", "..", "\u{e9}", "e\u{301}", "\u{df}", "ss", " ", "a ", "*", "$HOME",
        "'", "\"", "#", ":", "%", "_", "\u{1f512}", "\u{202e}", ".tmp", ".lock", "~",
    ];
    let names = hostile.map(|name| ground.name(name));
    let names = names.into_iter().chain(["..".to_owned(), ground.name(&"x".repeat(150))]);
    let seats: Vec<_> =
        names.map(|name| (a.join(&name, TTL).expect("any text is a name"), name)).collect();
    for (seat, name) in &seats {
        assert_eq!(**seat.id().name(), **name);
        assert_lives([&*a, &*b], seat.id());
    }
    assert_eq!(seats.iter().map(|(seat, _)| seat.id()).collect::<BTreeSet<_>>().len(), seats.len());
}

fn members_of_one_process_live_and_die_apart(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let [first, second, third] =
        [(&a, "1"), (&a, "2"), (&b, "3")].map(|(driver, name)| ground.join(&**driver, name, TTL));
    let key = ground.key("key");
    first.leave().expect("a member can leave");
    assert_dead([&*a, &*b], first.id());
    for seat in [&second, &third] {
        assert_lives([&*a, &*b], seat.id());
        seat.beat().expect("who did not leave can say that it lives");
    }
    let version = store(&*a, &key, Version::ABSENT, b"", second.id());
    // A connection serves whoever sits at the engine, wherever that joined.
    let version = store(&*a, &key, version, b"", third.id());
    store(&*b, &key, version, b"", second.id());
}

fn who_left_is_dead_at_once_and_for_ever(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    assert_lives([&*a, &*b], seat.id());
    seat.leave().expect("a member can leave");
    assert_dead([&*a, &*b], seat.id());
    let _again = ground.member(&*b);
    assert_dead([&*a, &*b], seat.id());
}

fn who_joins_again_is_somebody_else(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let mut lives = BTreeSet::new();
    for driver in [&a, &b, &a, &a] {
        let seat = ground.member(&**driver);
        assert!(lives.insert(seat.id().clone()), "{:?} lived before", seat.id());
        assert_lives([&*a, &*b], seat.id());
        seat.leave().expect("a member can leave");
    }
}

fn leaving_twice_is_leaving_once(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    seat.leave().expect("a member can leave");
    seat.leave().expect("and again");
    let again = ground.member(&*b);
    seat.leave().expect("and when its name is another's");
    assert_lives([&*a, &*b], again.id());
    drop(seat);
    assert_lives([&*a, &*b], again.id());
}

fn who_drops_its_seat_dies(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    let id = seat.id().clone();
    drop(seat);
    eventually("who dropped its seat is dead", || !alive(&*b, &id));
    assert_dead([&*a, &*b], &id);
    ground.member(&*b);
}

fn who_never_joined_does_not_live(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    let (key, id) = (ground.key("key"), seat.id());
    let other_life = MemberId::new(id.name().clone(), id.host().clone(), id.pid(), id.life() ^ 1);
    let other_name = MemberId::new(ground.name("other"), id.host().clone(), id.pid(), id.life());
    for never in [other_life, other_name] {
        assert_dead([&*a, &*b], &never);
        let swap = a.compare_and_swap(&key, Version::ABSENT, b"wrong", &never);
        assert_eq!(kind(swap), Some(DriverErrorKind::Lost), "a swap for {never:?}");
    }
    assert_lives([&*a, &*b], id);
}

fn a_beat_of_the_dead_is_lost(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    seat.beat().expect("who lives can say so");
    seat.leave().expect("a member can leave");
    assert_eq!(kind(seat.beat()), Some(DriverErrorKind::Lost));
    assert_dead([&*a, &*b], seat.id());
    let again = ground.member(&*b);
    assert_eq!(kind(seat.beat()), Some(DriverErrorKind::Lost), "its name is another's");
    assert_lives([&*a, &*b], again.id());
}

fn nothing_is_swapped_for_the_dead(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let (seat, key) = (ground.member(&*a), ground.key("key"));
    let version = store(&*a, &key, Version::ABSENT, b"alive", seat.id());
    seat.leave().expect("a member can leave");
    let again = ground.member(&*b);
    for driver in [&a, &b] {
        let swap = driver.compare_and_swap(&key, version, b"wrong", seat.id());
        assert_eq!(kind(swap), Some(DriverErrorKind::Lost));
        let unchanged = Stored { version, content: Some(b"alive".to_vec()) };
        assert_eq!(read(&**driver, &key), unchanged);
    }
    store(&*b, &key, version, b"alive", again.id());
}

fn a_beat_says_until_when_its_member_lives(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.join(&*a, "member", TTL_SHORT);
    let before = a.now();
    let until = seat.beat().expect("who lives can say so");
    if !a.capabilities().contains(&Capability::Leases) {
        assert_eq!(until, None, "it lives as long as its process");
        return;
    }
    let until = until.expect("it dies if it does not beat");
    let ttl_ms = TTL_SHORT.as_millis() as u64;
    assert!(until >= before.plus_ms(ttl_ms / 2), "{until:?} is no time at {before:?}");
    loop {
        let lives = [&a, &b].map(|driver| alive(&**driver, seat.id()));
        if a.now() >= until {
            break;
        }
        assert_eq!(lives, [true, true], "dead at {:?}, before {until:?}", a.now());
        pause(Duration::from_millis(10));
    }
}

fn who_does_not_beat_lives_as_long_as_its_process(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.join(&*a, "member", Duration::from_millis(50));
    let deadline = within(Duration::from_millis(300));
    while clock::now() < deadline {
        pause(Duration::from_millis(20));
    }
    assert_lives([&*a, &*b], seat.id());
}

fn who_beats_in_time_lives(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let deadline = within(PATIENCE);
    while clock::now() < deadline {
        let seat = ground.join(&*a, "member", TTL_SHORT);
        let enough = a.now().plus_ms(3 * TTL_SHORT.as_millis() as u64);
        if beats_until(&*a, &*seat, enough) {
            assert_lives([&*a, &*b], seat.id());
            return;
        }
    }
    panic!("this machine is too slow to beat within {TTL_SHORT:?}");
}

/// Beats until then; returns false if a beat could not be in time, since this thread was held up.
fn beats_until(driver: &dyn Driver, seat: &dyn Seat, then: super::super::Moment) -> bool {
    let mut until = driver.now().plus_ms(TTL_SHORT.as_millis() as u64 / 2);
    while driver.now() < then {
        pause(TTL_SHORT / 10);
        let beat = seat.beat();
        if driver.now() >= until {
            return false;
        }
        until = beat.expect("who beats in time lives").expect("it dies if it does not");
    }
    true
}

fn who_does_not_beat_dies(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let (seat, key) = (ground.join(&*a, "member", TTL_SHORT), ground.key("key"));
    seat.beat().expect("who lives can say so");
    eventually("who does not beat is dead", || !alive(&*b, seat.id()));
    assert_dead([&*a, &*b], seat.id());
    assert_eq!(kind(seat.beat()), Some(DriverErrorKind::Lost));
    let swap = a.compare_and_swap(&key, Version::ABSENT, b"wrong", seat.id());
    assert_eq!(kind(swap), Some(DriverErrorKind::Lost));
    let again = ground.join(&*b, "member", TTL);
    assert_dead([&*a, &*b], seat.id());
    assert_lives([&*a, &*b], again.id());
}
