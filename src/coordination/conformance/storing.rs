//! Claims about reading, swapping and listing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::super::{Driver, Key, MemberId, Moment, Stored, Swap, Version};
use super::{Claim, Ground, PATIENCE, claims, pause, read, store, swap, within};
use crate::clock;
use crate::core::record::RECORD_BYTES_MAX;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    a_driver_says_what_it_is,
    the_clock_never_goes_back,
    the_clock_goes_on_in_milliseconds,
    the_clock_is_common_to_all_connections if CommonClock,
    nothing_is_stored_at_first,
    what_was_swapped_is_read_by_everybody,
    any_bytes_can_be_stored,
    a_swap_that_expects_another_version_changes_nothing,
    no_version_comes_again,
    each_key_has_its_own_content,
    of_those_who_swap_at_a_time_one_is_done,
    increments_at_a_time_are_all_counted,
    a_read_is_as_new_as_every_swap_done_before,
    keys_are_listed_by_prefix,
    what_was_stored_survives_all_who_use_it if Persistent,
];

fn a_driver_says_what_it_is(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    assert!(!a.name().is_empty(), "a driver without a name");
    assert_eq!((a.name(), a.capabilities()), (b.name(), b.capabilities()), "they differ");
    let unique: BTreeSet<_> = a.capabilities().iter().map(|c| format!("{c:?}")).collect();
    assert_eq!(unique.len(), a.capabilities().len(), "a capability is listed twice");
}

fn the_clock_never_goes_back(ground: &Ground) {
    let driver = ground.connect();
    // Each thread has seen what another read last.
    let latest = Mutex::new(driver.now());
    at_a_time(4, |_| {
        for _ in 0..1000 {
            let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            let now = driver.now();
            assert!(*latest <= now, "it was {latest:?} and is {now:?}");
            *latest = now;
        }
    });
}

fn the_clock_goes_on_in_milliseconds(ground: &Ground) {
    let driver = ground.connect();
    let (start, before) = (clock::now(), driver.now());
    let deadline = within(Duration::from_millis(200));
    while clock::now() < deadline {
        pause(Duration::from_millis(10));
    }
    let (after, most) = (driver.now(), start.elapsed().as_millis());
    let passed = u128::from(after.0.saturating_sub(before.0));
    // What hurries by a third, or is late as much, does not measure milliseconds.
    let plausible = passed * 3 >= 400 && passed * 2 <= most * 3 + 20;
    assert!(plausible, "{passed} ms passed in 200 to {most} ms");
}

fn the_clock_is_common_to_all_connections(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let read_in_turn = |_| [a.now(), b.now()];
    let moments: Vec<Moment> = (0..1000).flat_map(read_in_turn).collect();
    assert!(moments.is_sorted(), "two connections do not read one clock");
}

fn nothing_is_stored_at_first(ground: &Ground) {
    let driver = ground.connect();
    let nothing = Stored { version: Version::ABSENT, content: None };
    assert_eq!(read(&*driver, &ground.key("new")), nothing);
}

fn what_was_swapped_is_read_by_everybody(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let (key, seat) = (ground.key("key"), ground.member(&*a));
    let mut version = Version::ABSENT;
    for content in [&b"one"[..], b"two", b"three"] {
        version = store(&*a, &key, version, content, seat.id());
        let stored = Stored { version, content: Some(content.to_vec()) };
        assert_eq!([read(&*a, &key), read(&*b, &key)], [stored.clone(), stored]);
    }
}

fn any_bytes_can_be_stored(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    let all: Vec<u8> = (0..=255).collect();
    let large = all.repeat(RECORD_BYTES_MAX / all.len());
    for (name, content) in [("empty", &[][..]), ("all", &all), ("large", &large)] {
        let key = ground.key(name);
        store(&*a, &key, Version::ABSENT, content, seat.id());
        let is_same = read(&*b, &key).content.as_deref() == Some(content);
        assert!(is_same, "{name}, {} bytes, came back changed", content.len());
    }
}

fn a_swap_that_expects_another_version_changes_nothing(ground: &Ground) {
    let driver = ground.connect();
    let (key, seat) = (ground.key("key"), ground.member(&*driver));
    let (other, by) = (ground.key("other"), seat.id());
    let conflicts = |expected| {
        let before = read(&*driver, &key);
        let swap = swap(&*driver, &key, expected, b"wrong", by);
        assert_eq!(swap, Swap::Conflict, "{expected:?} was expected where {:?} is", before.version);
        assert_eq!(read(&*driver, &key), before);
    };
    conflicts(Version(1 << 40));
    let first = store(&*driver, &key, Version::ABSENT, b"first", by);
    conflicts(Version::ABSENT);
    let second = store(&*driver, &key, first, b"second", by);
    let of_another = store(&*driver, &other, Version::ABSENT, b"other", by);
    conflicts(first);
    conflicts(Version::ABSENT);
    conflicts(Version(second.0 + (1 << 40)));
    if of_another != second {
        conflicts(of_another);
    }
}

fn no_version_comes_again(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let key = ground.key("key");
    let mut last = Version::ABSENT;
    // Also not when others swap, nor when the same is stored.
    for round in 0..4 {
        let seat = ground.join(&*a, &format!("member-{round}"), super::TTL);
        for driver in [&a, &b, &a] {
            let version = store(&**driver, &key, last, b"same", seat.id());
            assert!(version > last, "{version:?} after {last:?}");
            last = version;
        }
    }
}

fn each_key_has_its_own_content(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    let keys = hostile_keys(&ground.suite.run);
    for key in &keys {
        let version = read(&*a, key).version;
        assert_eq!(version, Version::ABSENT, "{key} has the content of another key");
        store(&*a, key, version, key.as_str().as_bytes(), seat.id());
    }
    for key in &keys {
        let content = read(&*b, key).content;
        assert_eq!(content.as_deref(), Some(key.as_str().as_bytes()), "what {key} has");
    }
    let listed: BTreeSet<_> = a.keys("").expect("keys can be listed").into_iter().collect();
    let missing: Vec<_> = keys.iter().filter(|key| !listed.contains(*key)).collect();
    assert!(missing.is_empty(), "not listed: {missing:?}");
}

/// Keys that somebody could take for one another, or for something that is not a key.
fn hostile_keys(run: &str) -> Vec<Key> {
    let long = "x".repeat(1024 - run.len() - 1);
    let wide = "\u{6f22}".repeat((1024 - run.len() - 1) / 3);
    #[rustfmt::skip]
    let parts: &[&[&str]] = &[
        &[run], &[run, "a"], &[run, "a", "b"], &[run, "a", "b", "c"], &[run, "a/b"], &[run, "a%2Fb"], &[run, "a\\b"],
        &[run, "A"], &[run, "A", "B"], &[run, "\u{e9}"], &[run, "e\u{301}"], &[run, "\u{df}"], &[run, "ss"], &[run, "\u{130}"],
        &[run, "."], &[run, ".."], &[run, "..", ".."], &[run, "..", "a"], &[run, "...", "a"], &[run, "../a"], &["..", run], &[".", run],
        &[run, " "], &[run, "a "], &[run, " a"], &[run, "a."], &[run, "a\0"], &[run, "\0"], &[run, "a\n"], &[run, "\u{7f}"],
        &[run, ".hidden"], &[run, "a.tmp"], &[run, "a.lock"], &[run, "a~"], &[run, "-a"], &[run, "*"], &[run, "?"], &[run, "\""], &[run, "'"],
        &[run, "$HOME"], &[run, "`a`"], &[run, "#a"], &[run, "a:b"], &[run, "NUL"], &[run, "%"], &[run, "%00"], &[run, "%%"],
        &[run, "_"], &[run, "%5F"], &[run, "\u{200b}"], &[run, "\u{202e}a"], &[run, "\u{1f512}"], &[run, "\u{10ffff}"],
        &[run, &long], &[run, &long[1..]], &[run, &wide],
    ];
    let keys = parts.iter().map(|parts| Key::of(parts.iter().copied()).expect("each is a key"));
    keys.collect()
}

fn of_those_who_swap_at_a_time_one_is_done(ground: &Ground) {
    const ROUNDS: usize = 20;
    const THREADS: usize = 4;
    let drivers = ground.connect_twice();
    let seat = ground.member(&*drivers.0);
    let keys: Vec<_> = (0..ROUNDS).map(|round| ground.key(&format!("{round}"))).collect();
    let start = Barrier::new(THREADS);
    let done: Vec<_> = (0..ROUNDS).map(|_| AtomicU64::new(0)).collect();
    at_a_time(THREADS, |thread| {
        let driver = if thread % 2 == 0 { &*drivers.0 } else { &*drivers.1 };
        for (key, done) in keys.iter().zip(&done) {
            start.wait();
            let swap = driver.compare_and_swap(key, Version::ABSENT, &[thread as u8], seat.id());
            if matches!(swap, Ok(Swap::Done(_))) {
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let done: Vec<_> = done.into_iter().map(AtomicU64::into_inner).collect();
    assert_eq!(done, [1; ROUNDS], "how many were done in each round");
}

fn increments_at_a_time_are_all_counted(ground: &Ground) {
    const THREADS: usize = 4;
    const EACH: u64 = 50;
    let drivers = ground.connect_twice();
    let (key, seat) = (ground.key("counter"), ground.member(&*drivers.0));
    let counted = Mutex::new(Vec::new());
    at_a_time(THREADS, |thread| {
        let driver = if thread % 2 == 0 { &*drivers.0 } else { &*drivers.1 };
        for _ in 0..EACH {
            let reached = increment(driver, &key, seat.id());
            counted.lock().expect("nobody panics here").push(reached);
        }
    });
    let mut counted = counted.into_inner().expect("nobody panicked");
    counted.sort_unstable();
    let numbers: Vec<u64> = counted.iter().map(|(_, number)| *number).collect();
    let all: Vec<u64> = (1..=THREADS as u64 * EACH).collect();
    assert_eq!(numbers, all, "in the order of their versions");
    assert_eq!(number(&read(&*drivers.0, &key)), THREADS as u64 * EACH);
}

fn increment(driver: &dyn Driver, key: &Key, by: &MemberId) -> (Version, u64) {
    loop {
        let stored = read(driver, key);
        let next = number(&stored) + 1;
        // Others are to read the same.
        thread::yield_now();
        if let Swap::Done(version) = swap(driver, key, stored.version, &next.to_le_bytes(), by) {
            return (version, next);
        }
    }
}

fn number(stored: &Stored) -> u64 {
    let Some(content) = &stored.content else { return 0 };
    u64::from_le_bytes(content[..].try_into().expect("eight bytes were stored"))
}

fn a_read_is_as_new_as_every_swap_done_before(ground: &Ground) {
    const ROUNDS: u64 = 20;
    let drivers = ground.connect_twice();
    let (key, seat) = (ground.key("key"), ground.member(&*drivers.0));
    // How often each thread did its work beside the others, and the version that is known to be done.
    let rounds = [const { AtomicU64::new(0) }; 3];
    let done = AtomicU64::new(0);
    let stale = Mutex::new(None);
    let deadline = within(PATIENCE);
    let goes_on = || {
        let is_enough = rounds.iter().all(|rounds| rounds.load(Ordering::SeqCst) >= ROUNDS);
        !is_enough && clock::now() < deadline && stale.lock().is_ok_and(|stale| stale.is_none())
    };
    at_a_time(3, |thread| {
        let driver = if thread == 2 { &*drivers.1 } else { &*drivers.0 };
        let (mut last, mut known) = (Version::ABSENT, 0);
        while goes_on() {
            if thread == 0 {
                let (version, _) = increment(driver, &key, seat.id());
                done.store(version.0, Ordering::SeqCst);
                rounds[0].fetch_add(1, Ordering::SeqCst);
                continue;
            }
            let known_before = std::mem::replace(&mut known, done.load(Ordering::SeqCst));
            let least = last.max(Version(known));
            last = read(driver, &key).version;
            if last < least {
                *stale.lock().expect("nobody panics here") = Some((last, least));
            }
            rounds[thread].fetch_add(u64::from(known != known_before), Ordering::SeqCst);
        }
    });
    let stale = stale.into_inner().expect("nobody panicked");
    assert_eq!(stale, None, "what was read, although that or a later one was known");
}

/// Runs several threads; panics if one does, with what it says.
fn at_a_time(threads: usize, act: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        let act = &act;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || act(thread))).collect();
        for thread in running {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

fn keys_are_listed_by_prefix(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*a);
    let of = |parts: &[&str]| {
        let parts = [&*ground.suite.run, "listed"].into_iter().chain(parts.iter().copied());
        Key::of(parts).expect("short parts make a key")
    };
    let stored = [of(&["node"]), of(&["node", "1"]), of(&["node", "12"]), of(&["nöde", "%"])];
    read(&*a, &of(&["node", "never"]));
    for key in &stored {
        store(&*a, key, Version::ABSENT, b"", seat.id());
    }
    store(&*a, &of(&["x"]), Version::ABSENT, b"", seat.id());
    let root = format!("{}/listed/", ground.suite.run);
    let cases = [("n", &stored[..]), ("node", &stored[..3]), ("node/", &stored[1..3])];
    let more = [("node/12", &stored[2..3]), ("nö", &stored[3..]), ("nöde/%", &stored[3..])];
    for (prefix, expected) in cases.into_iter().chain(more).chain([("none", &[][..])]) {
        for driver in [&a, &b] {
            let mut keys = driver.keys(&format!("{root}{prefix}")).expect("keys can be listed");
            keys.sort_unstable();
            assert_eq!(keys, expected, "by prefix {prefix}");
        }
    }
}

fn what_was_stored_survives_all_who_use_it(ground: &Ground) {
    let key = ground.key("key");
    let driver = ground.connect();
    let seat = ground.join(&*driver, "first", super::TTL);
    let version = store(&*driver, &key, Version::ABSENT, b"kept", seat.id());
    drop((seat, driver));
    let driver = ground.connect();
    let stored = read(&*driver, &key);
    assert_eq!(stored, Stored { version, content: Some(b"kept".to_vec()) });
    let seat = ground.join(&*driver, "second", super::TTL);
    assert!(store(&*driver, &key, version, b"more", seat.id()) > version);
}
