//! Swaps by many processes, some of which end in the middle.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

use tierlock::coordination::file::File;
use tierlock::coordination::{Driver, DriverErrorKind, Swap, Version};

use super::processes::Process;
use super::{Directory, content, expect_error, join, key, store};
use crate::support::{ms, now};

#[test]
fn of_two_who_expect_the_same_version_one_swaps() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    let swap = |version, content: &str| {
        driver.compare_and_swap(&key("a"), version, content.as_bytes(), seat.id()).unwrap()
    };
    assert_eq!(driver.read(&key("a")).unwrap().version, Version::ABSENT);
    let Swap::Done(first) = swap(Version::ABSENT, "x") else { panic!("it is absent") };
    assert_eq!(swap(Version::ABSENT, "y"), Swap::Conflict);
    let Swap::Done(second) = swap(first, "") else { panic!("it is the first") };
    assert!(second > first);
    assert_eq!(swap(first, "z"), Swap::Conflict);
    assert_eq!(content(&driver, &key("a")), "");
}

#[test]
fn what_threads_add_is_all_there_whether_they_share_a_driver_or_not() {
    const THREADS: u64 = 4;
    const TIMES: u64 = 100;
    let directory = Directory::new();
    let shared = directory.open();
    let begin = Barrier::new(THREADS as usize);
    let add = |driver: &File, name: &str| {
        let seat = join(driver, name);
        begin.wait();
        let mut added = 0;
        while added < TIMES {
            let stored = driver.read(&key("n")).unwrap();
            let number = stored
                .content
                .map_or(0, |bytes| String::from_utf8(bytes).unwrap().parse::<u64>().unwrap());
            let next = (number + 1).to_string();
            let swapped =
                driver.compare_and_swap(&key("n"), stored.version, next.as_bytes(), seat.id());
            added += u64::from(swapped.unwrap() != Swap::Conflict);
        }
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (add, shared, directory) = (&add, &shared, &directory);
            scope.spawn(move || {
                let name = format!("m{number}");
                if number % 2 == 0 { add(shared, &name) } else { add(&directory.open(), &name) }
            });
        }
    });
    assert_eq!(content(&shared, &key("n")), (THREADS * TIMES).to_string());
}

#[test]
fn nothing_is_lost_by_processes_that_are_killed_at_any_instruction() {
    const PROCESSES: usize = 8;
    let directory = Directory::new();
    let driver = directory.open();
    let mut started = 0;
    let mut start = || {
        started += 1;
        Process::start("adds", &directory.store(), &format!("m{started}"))
    };
    let mut running: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    let mut said = Vec::new();
    let mut killed = 0;
    let end = now() + ms(4000);
    while now() < end {
        // The one that has run for longest, at a moment that depends on how quickly another one started.
        let mut victim = running.remove(0);
        let next = start();
        assert_eq!(next.hear(), "joined");
        victim.kill();
        killed += 1;
        said.extend(victim.hear_all());
        running.push(next);
    }
    for mut process in running {
        process.kill();
        killed += 1;
        said.extend(process.hear_all());
    }
    let done: Vec<_> = said.iter().filter(|said| *said != "joined").collect();
    let counted: u64 = content(&driver, &key("number")).parse().expect("digits");
    let done_count = done.len() as u64;
    assert!(done_count > 100, "{done_count}");
    assert!(
        done_count <= counted && counted <= done_count + killed,
        "{done_count} done, {counted}"
    );
    assert_eq!(done.iter().collect::<HashSet<_>>().len(), done.len(), "a version came twice");
    // Each version stands for one number: none was given again after it had been seen.
    let versions: HashSet<_> = done.iter().map(|said| said.split(' ').next()).collect();
    assert_eq!(versions.len(), done.len(), "a version came twice");
    assert_eq!(driver.read(&key("number")).unwrap().version, Version(counted));
    eprintln!("{done_count} done, {counted} counted, {killed} killed");

    drop(directory.open());
    assert!(directory.names("members").is_empty(), "{:?}", directory.names("members"));
    assert_eq!(directory.names("records"), ["lock+number"]);
    assert_eq!(directory.names(""), ["FORMAT", "LOCK", "members", "records"]);
}

/// Stops a process that swaps until it is in the middle of it; returns what those are told who wait for it.
fn stop_in_the_middle(process: &Process, driver: &File) -> tierlock::coordination::DriverError {
    let seat = join(driver, "waits");
    loop {
        process.send_signal("STOP");
        let version = driver.read(&key("number")).unwrap().version;
        match driver.compare_and_swap(&key("number"), version, b"0", seat.id()) {
            Err(error) => return error,
            Ok(_) => process.send_signal("CONT"),
        }
    }
}

#[test]
fn a_process_that_is_stopped_in_the_middle_of_a_swap_is_named_and_can_go_on() {
    let directory = Directory::new();
    let driver = File::options().patience(ms(200)).open(directory.store()).unwrap();
    let process = Process::start("spins", &directory.store(), "spins");
    process.hear();
    let error = stop_in_the_middle(&process, &driver);
    expect_error::<()>(
        Err(error),
        DriverErrorKind::Unavailable,
        &["LOCK", &format!("pid {}", process.pid()), "stopped"],
    );
    // Others are not in its way, nor is it in the way of those who read or join.
    let before = driver.read(&key("number")).unwrap().version;
    let seat = join(&driver, "m");
    let open: Vec<_> = (0..40).map(|n| key(&format!("k{n}"))).collect();
    let stored = open
        .iter()
        .filter(|key| driver.compare_and_swap(key, Version::ABSENT, b"x", seat.id()).is_ok());
    assert!(stored.count() > 20);

    process.send_signal("CONT");
    crate::support::until(|| driver.read(&key("number")).unwrap().version > before);
}

#[test]
fn a_process_that_is_killed_in_the_middle_of_a_swap_is_in_nobodys_way() {
    let directory = Directory::new();
    let driver = File::options().patience(ms(200)).open(directory.store()).unwrap();
    let mut process = Process::start("spins", &directory.store(), "spins");
    process.hear();
    stop_in_the_middle(&process, &driver);
    let before = driver.read(&key("number")).unwrap();
    process.kill();
    let seat = join(&driver, "m");
    assert_eq!(driver.read(&key("number")).unwrap(), before);
    store(&driver, &key("number"), "5", &*seat);
    assert_eq!(content(&driver, &key("number")), "5");
    drop(directory.open());
    assert_eq!(directory.names("records"), ["lock+number"]);
}

#[test]
fn a_draft_that_somebody_left_is_removed_by_who_opens_and_written_over_by_who_swaps() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    let records = directory.store().join("records");
    let plant = || {
        for number in 0..20 {
            std::fs::write(records.join(format!(".draft-{number}")), "x".repeat(9999)).unwrap();
        }
    };
    plant();
    store(&driver, &key("a"), "y", &*seat);
    assert_eq!(content(&driver, &key("a")), "y");
    drop(directory.open());
    let left = directory.names("records");
    // Numbers that no lock has are nobody's.
    assert!(
        left.iter().all(|name| ["lock+a", ".draft-18", ".draft-19"].contains(&name.as_str())),
        "{left:?}"
    );
}
