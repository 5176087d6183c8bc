//! What the driver makes of a disk that is full, read-only or was torn.

use std::any::type_name_of_val;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tierlock::coordination::file::File;
use tierlock::coordination::{Driver, DriverErrorKind, Version};

use super::{Directory, content, expect_error, join, key, shell, store};

/// Tells whether this process sees a file system of its own, where `commands` of the shell prepared the directory `$DIR`. If not,
/// starts one that does, if we may, runs `test` alone in it and sees it pass.
#[track_caller]
fn is_prepared(test: impl Fn(), commands: &str) -> Option<PathBuf> {
    const PREPARED: &str = "TIERLOCK_TEST_PREPARED";
    if let Some(directory) = env::var_os(PREPARED) {
        return Some(directory.into());
    }
    if !shell("unshare -m true 2>/dev/null") {
        eprintln!("skipped: we may not mount anything");
        return None;
    }
    let directory = Directory::new();
    let (_, name) = type_name_of_val(&test).split_once("::").expect("a test is in a module");
    let output = Command::new("unshare")
        .args(["-m", "sh", "-ec", &format!("{commands}\nexec \"$0\" \"$@\"")])
        .arg(env::current_exe().expect("it was started from a file"))
        .args(["--exact", name, "--nocapture"])
        .env(PREPARED, &directory.0)
        .env("DIR", &directory.0)
        .output()
        .expect("there is a shell");
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success() && out.contains("1 passed"), "{name} alone:\n{out}{err}");
    None
}

#[test]
fn a_full_disk_is_an_error_and_what_was_stored_stays() {
    let commands = "mount -t tmpfs -o size=256k,mode=700 none \"$DIR\"";
    let test = a_full_disk_is_an_error_and_what_was_stored_stays;
    let Some(directory) = is_prepared(test, commands) else { return };
    let driver = File::open(directory.join("store")).unwrap();
    let seat = join(&driver, "m");
    let version = store(&driver, &key("a"), "held", &*seat);
    let filler = "x".repeat(100_000);
    let full = (0..10)
        .map(|n| {
            let key = key(&format!("big{n}"));
            driver.compare_and_swap(&key, Version::ABSENT, filler.as_bytes(), seat.id())
        })
        .find_map(Result::err)
        .expect("it is full");
    expect_error::<()>(Err(full), DriverErrorKind::Unavailable, &["write", "records", "No space"]);
    fs::write(directory.join("rest"), vec![0; 300_000]).expect_err("it is full");

    let swapped = driver.compare_and_swap(&key("a"), version, filler.as_bytes(), seat.id());
    expect_error(swapped, DriverErrorKind::Unavailable, &["lock+a", "No space"]);
    let joined = driver.join("late", super::TTL);
    expect_error(joined, DriverErrorKind::Unavailable, &["late", "No space"]);
    assert_eq!(content(&driver, &key("a")), "held");
    assert!(seat.beat().is_ok() && driver.is_alive(seat.id()).unwrap());
    expect_error(File::open(directory.join("other")), DriverErrorKind::Unavailable, &["No space"]);

    fs::remove_file(directory.join("rest")).unwrap();
    assert_eq!(driver.read(&key("a")).unwrap().version, version);
    store(&driver, &key("a"), "released", &*seat);
    drop(seat);
    assert!(driver.members().unwrap().is_empty());
}

#[test]
fn a_directory_that_becomes_read_only_is_an_error_and_what_was_held_stays() {
    let commands = "mount -t tmpfs -o mode=700 none \"$DIR\"";
    let test = a_directory_that_becomes_read_only_is_an_error_and_what_was_held_stays;
    let Some(directory) = is_prepared(test, commands) else { return };
    let path = directory.join("store");
    let driver = File::open(&path).unwrap();
    let seat = join(&driver, "m");
    let version = store(&driver, &key("a"), "held", &*seat);
    // A file that is open for writing keeps a whole file system writable, but not a view of it.
    immutable(&path, "+i");
    let swapped = driver.compare_and_swap(&key("a"), version, b"x", seat.id());
    expect_error(swapped, DriverErrorKind::Unavailable, &["records"]);
    let joined = driver.join("late", super::TTL);
    expect_error(joined, DriverErrorKind::Unavailable, &["members"]);
    assert_eq!(content(&driver, &key("a")), "held");
    assert!(seat.beat().is_ok() && driver.is_alive(seat.id()).unwrap());
    immutable(&path, "-i");
    store(&driver, &key("a"), "released", &*seat);

    let view = directory.join("view");
    fs::create_dir(&view).unwrap();
    let (from, to) = (path.display(), view.display());
    assert!(shell(&format!("mount --bind '{from}' '{to}' && mount -o remount,bind,ro '{to}'")));
    expect_error(File::open(&view), DriverErrorKind::Unavailable, &["LOCK", "Read-only"]);
}

fn immutable(path: &std::path::Path, how: &str) {
    let path = path.display();
    assert!(shell(&format!("chattr {how} '{path}/records' '{path}/members'")));
}

#[test]
fn a_process_without_descriptors_left_is_told_so_and_loses_nothing() {
    let test = a_process_without_descriptors_left_is_told_so_and_loses_nothing;
    let Some(directory) = is_prepared(test, "ulimit -n 64") else { return };
    let driver = File::open(directory.join("store")).unwrap();
    let seat = join(&driver, "m");
    let version = store(&driver, &key("a"), "held", &*seat);
    let mut hoard = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let many = ["Too many open files"];
    expect_error(driver.read(&key("a")), DriverErrorKind::Unavailable, &many);
    let swapped = driver.compare_and_swap(&key("a"), version, b"x", seat.id());
    expect_error(swapped, DriverErrorKind::Unavailable, &many);
    expect_error(driver.is_alive(seat.id()), DriverErrorKind::Unavailable, &many);
    expect_error(driver.join("late", super::TTL), DriverErrorKind::Unavailable, &many);
    expect_error(File::open(directory.join("other")), DriverErrorKind::Unavailable, &many);
    assert!(seat.beat().is_ok());
    drop(hoard);
    assert_eq!(driver.read(&key("a")).unwrap().version, version);
    store(&driver, &key("a"), "released", &*seat);
}

#[test]
fn a_record_that_was_torn_is_an_error_that_names_it_and_is_not_written_over() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    let path = directory.store().join("records/lock+a");
    store(&driver, &key("a"), "content", &*seat);
    let whole = fs::read(&path).unwrap();
    let torn = [Vec::new(), whole[..whole.len() / 2].to_vec(), vec![0; whole.len()]];
    for torn in torn {
        fs::write(&path, &torn).unwrap();
        let says = ["records/lock+a", "lock/a"];
        expect_error(driver.read(&key("a")), DriverErrorKind::Refused, &says);
        for version in [0, 1] {
            let swapped = driver.compare_and_swap(&key("a"), Version(version), b"x", seat.id());
            expect_error(swapped, DriverErrorKind::Refused, &says);
        }
        assert_eq!(fs::read(&path).unwrap(), torn);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(content(&driver, &key("a")), "content");
}

#[test]
fn what_a_loss_of_power_left_of_a_member_is_nobody() {
    let directory = Directory::new();
    drop(directory.open());
    fs::write(directory.store().join("members/m"), "").unwrap();
    let driver = directory.open();
    assert!(directory.names("members").is_empty());
    fs::write(directory.store().join("members/m"), "\0\0").unwrap();
    assert!(driver.members().unwrap().is_empty());
    let seat = join(&driver, "m");
    assert_eq!(driver.members().unwrap(), [seat.id().clone()]);
}
