//! Who lives, and how soon others learn that somebody does not.

use std::sync::mpsc::RecvTimeoutError;
use std::thread;

use tierlock::coordination::file::File;
use tierlock::coordination::{Driver, DriverErrorKind, Subject};

use super::processes::Process;
use super::{Directory, TTL, expect_error, join, key, store, watch};
use crate::support::{LONG, ms, now, on_a_slow_machine, until};

#[test]
fn a_member_that_is_killed_is_reported_dead_within_milliseconds() {
    let directory = Directory::new();
    let driver = directory.open();
    let mut delays = Vec::new();
    for _ in 0..15 {
        let mut process = Process::start("member", &directory.store(), "m");
        process.hear();
        let member = driver.members().unwrap().pop().expect("it joined");
        assert!(driver.is_alive(&member).unwrap());
        let (_watch, reports) = watch(&driver, Subject::Member(member.clone()));
        let killed = now();
        process.begin_to_kill();
        let report = reports.recv_timeout(LONG).expect("it is reported");
        delays.push(now() - killed);
        assert_eq!(report, Subject::Member(member.clone()));
        assert!(!driver.is_alive(&member).unwrap(), "reported before it can be seen");
    }
    delays.sort();
    let median = delays[delays.len() / 2];
    eprintln!("killed -> reported: median {median:?}, all {delays:?}");
    assert!(median < ms(250), "{delays:?}");
}

#[test]
fn a_member_that_is_killed_is_noticed_by_who_looks_where_there_is_nothing_to_listen_to() {
    let directory = Directory::new();
    let driver = File::options().polling().open(directory.store()).unwrap();
    let mut process = Process::start("member", &directory.store(), "m");
    process.hear();
    let member = driver.members().unwrap().pop().expect("it joined");
    let (_watch, reports) = watch(&driver, Subject::Member(member.clone()));
    process.kill();
    until(|| {
        reports.recv_timeout(LONG).expect("it is reported");
        !driver.is_alive(&member).unwrap()
    });
    assert!(driver.poll_interval() < ms(500));
}

#[test]
fn a_member_that_leaves_is_dead_at_once_and_reported() {
    let directory = Directory::new();
    let (driver, other) = (directory.open(), directory.open());
    let seat = join(&driver, "m");
    let member = seat.id().clone();
    assert!(other.is_alive(&member).unwrap());
    let (_watch, reports) = watch(&other, Subject::Member(member.clone()));
    seat.leave().unwrap();
    assert!(!other.is_alive(&member).unwrap());
    assert_eq!(reports.recv_timeout(LONG).unwrap(), Subject::Member(member.clone()));
    expect_error(seat.beat(), DriverErrorKind::Lost, &["m", "left"]);
    let swapped =
        driver.compare_and_swap(&key("a"), tierlock::coordination::Version(0), b"x", &member);
    expect_error(swapped, DriverErrorKind::Lost, &["m"]);
    assert!(directory.names("members").is_empty());
}

#[test]
fn a_dropped_seat_leaves() {
    let directory = Directory::new();
    let driver = directory.open();
    let member = join(&driver, "m").id().clone();
    assert!(!driver.is_alive(&member).unwrap());
    assert!(directory.names("members").is_empty());
}

#[test]
fn a_name_is_taken_as_long_as_its_member_lives() {
    let directory = Directory::new();
    let driver = directory.open();
    let mut process = Process::start("member", &directory.store(), "m");
    process.hear();
    let first = driver.members().unwrap().pop().expect("it joined");
    let pid = format!("pid {}", process.pid());
    expect_error(driver.join("m", TTL), DriverErrorKind::NameTaken, &[first.host(), &pid]);
    let other = Process::start("member", &directory.store(), "m");
    assert!(other.hear().starts_with("NameTaken"));
    assert!(driver.is_alive(&first).unwrap());

    process.kill();
    let seat = join(&driver, "m");
    assert_ne!(seat.id().life(), first.life());
    assert!(driver.is_alive(seat.id()).unwrap());
    assert!(!driver.is_alive(&first).unwrap());
    let swapped =
        driver.compare_and_swap(&key("a"), tierlock::coordination::Version(0), b"x", &first);
    expect_error(swapped, DriverErrorKind::Lost, &["m"]);
}

#[test]
fn a_second_join_in_the_same_process_is_refused_whichever_driver_is_asked() {
    let directory = Directory::new();
    let (driver, other) = (directory.open(), directory.open());
    let seat = join(&driver, "m");
    for driver in [&driver, &other] {
        let pid = format!("pid {}", std::process::id());
        expect_error(driver.join("m", TTL), DriverErrorKind::NameTaken, &[&pid]);
    }
    assert!(seat.beat().is_ok());
    assert!(other.is_alive(seat.id()).unwrap());
}

#[test]
fn of_many_that_join_at_a_time_under_one_name_one_does() {
    let directory = Directory::new();
    for _ in 0..20 {
        let joined: Vec<_> = thread::scope(|scope| {
            let join = || directory.open().join("m", TTL);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(join)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let seats: Vec<_> = joined.into_iter().filter_map(Result::ok).collect();
        assert_eq!(seats.len(), 1);
        assert_eq!(directory.open().members().unwrap(), [seats[0].id().clone()]);
    }
}

#[test]
fn what_the_dead_leave_is_removed_by_who_comes_next() {
    let directory = Directory::new();
    let driver = directory.open();
    let mut killed = Process::start("member", &directory.store(), "killed");
    killed.hear();
    let seat = join(&driver, "lives");
    killed.kill();
    assert_eq!(directory.names("members"), ["killed", "lives"]);
    drop(directory.open());
    assert_eq!(directory.names("members"), ["lives"]);
    assert!(driver.is_alive(seat.id()).unwrap());
}

#[test]
fn a_stopped_member_lives() {
    let directory = Directory::new();
    let driver = directory.open();
    let process = Process::start("member", &directory.store(), "m");
    process.hear();
    process.send_signal("STOP");
    let member = driver.members().unwrap().pop().expect("it joined");
    assert!(driver.is_alive(&member).unwrap());
    expect_error(driver.join("m", TTL), DriverErrorKind::NameTaken, &["m"]);
}

#[test]
fn a_member_whose_file_was_removed_learns_it_and_stores_nothing() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    let version = store(&driver, &key("a"), "x", &*seat);
    std::fs::remove_file(directory.store().join("members/m")).unwrap();
    assert!(!driver.is_alive(seat.id()).unwrap());
    expect_error(seat.beat(), DriverErrorKind::Lost, &["removed"]);
    let swapped = driver.compare_and_swap(&key("a"), version, b"y", seat.id());
    expect_error(swapped, DriverErrorKind::Lost, &["removed"]);
    assert_eq!(super::content(&driver, &key("a")), "x");
}

#[test]
fn a_record_that_another_process_stores_is_reported_when_it_can_be_read() {
    let directory = Directory::new();
    for driver in [directory.open(), File::options().polling().open(directory.store()).unwrap()] {
        let other = directory.open();
        let seat = join(&other, "m");
        let (_watch, reports) = watch(&driver, Subject::Record(key("a")));
        for _ in 0..20 {
            let version = store(&other, &key("a"), "x", &*seat);
            until(|| {
                let report = reports.recv_timeout(LONG).expect("it is reported");
                assert_eq!(report, Subject::Record(key("a")));
                driver.read(&key("a")).unwrap().version == version
            });
        }
    }
}

#[test]
fn what_is_not_watched_any_more_is_not_reported() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    let (kept, other) =
        (watch(&driver, Subject::Record(key("a"))), watch(&driver, Subject::Record(key("a"))));
    drop(other.0);
    store(&driver, &key("b"), "x", &*seat);
    store(&driver, &key("a"), "x", &*seat);
    kept.1.recv_timeout(LONG).expect("it is reported");
    assert_eq!(other.1.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    assert!(kept.1.try_recv().is_err(), "the other record was reported, too");
}

#[test]
fn a_driver_that_is_dropped_ends_its_thread() {
    let directory = Directory::new();
    let driver = directory.open();
    let (watch, reports) = watch(&driver, Subject::Record(key("a")));
    drop((driver, watch));
    // The thread had the reporter, if the watch did not take it along.
    assert_eq!(reports.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    assert!(on_a_slow_machine(|patience| {
        let limit = now() + patience;
        loop {
            let threads = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let links = threads.filter_map(|fd| std::fs::read_link(fd.path()).ok());
            let store = directory.store();
            if !links.into_iter().any(|link| link.starts_with(&store)) {
                return true;
            }
            if now() > limit {
                return false;
            }
            thread::yield_now();
        }
    }));
}
