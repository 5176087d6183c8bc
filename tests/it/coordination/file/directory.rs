//! What directory the driver takes, and what it makes of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tierlock::coordination::file::{Durability, File};
use tierlock::coordination::{Capability, Driver, DriverErrorKind, Key};

use super::{Directory, content, expect_error, join, key, shell, store};

#[test]
fn what_is_made_can_be_read_by_nobody_else() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    store(&driver, &key("a"), "x", &*seat);
    let mode = |name: &str| {
        let metadata = fs::symlink_metadata(directory.store().join(name)).expect(name);
        metadata.permissions().mode() & 0o7777
    };
    for folder in ["", "records", "members"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    for file in ["FORMAT", "LOCK", "records/lock+a", "members/m"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    for mode in [0o770, 0o702, 0o777, 0o1777] {
        let directory = Directory::new();
        fs::create_dir(directory.store()).unwrap();
        fs::set_permissions(directory.store(), fs::Permissions::from_mode(mode)).unwrap();
        let opened = File::open(directory.store());
        let remedy = format!("chmod go-w {}", directory.store().display());
        expect_error(
            opened,
            DriverErrorKind::Refused,
            &["others can write", &format!("{mode:o}"), &remedy],
        );
        assert_eq!(fs::read_dir(directory.store()).unwrap().count(), 0);
    }
}

#[test]
fn a_directory_in_one_that_is_not_there_is_not_made_and_the_error_says_what_to_do() {
    let directory = Directory::new();
    let parent = directory.store().join("missing");
    let remedy = format!("(mkdir -p {})", parent.display());
    let opened = File::open(parent.join("locks"));
    expect_error(opened, DriverErrorKind::Unavailable, &["is not there", &remedy]);
    assert!(!directory.store().exists());
    fs::create_dir_all(&parent).unwrap();
    File::open(parent.join("locks")).unwrap();
}

#[test]
fn a_directory_inside_that_others_can_write_to_is_refused() {
    let directory = Directory::new();
    drop(directory.open());
    let inside = directory.store().join("records");
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o722)).unwrap();
    expect_error(File::open(directory.store()), DriverErrorKind::Refused, &["records", "722"]);
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let directory = Directory::new();
    fs::create_dir(directory.store()).unwrap();
    if !shell(&format!("chown 12345 '{}'", directory.store().display())) {
        eprintln!("skipped: only root gives a directory away");
        return;
    }
    expect_error(File::open(directory.store()), DriverErrorKind::Refused, &["12345"]);
}

#[test]
fn a_link_to_a_directory_is_not_followed() {
    let directory = Directory::new();
    fs::create_dir(directory.0.join("real")).unwrap();
    symlink("real", directory.store()).unwrap();
    let slash = format!("{}/", directory.store().display());
    expect_error(File::open(directory.store()), DriverErrorKind::Refused, &["link"]);
    expect_error(File::open(slash), DriverErrorKind::Refused, &["link"]);
    assert_eq!(fs::read_dir(directory.0.join("real")).unwrap().count(), 0);
}

#[test]
fn links_inside_are_not_followed() {
    for name in ["records", "members", "LOCK", "FORMAT"] {
        let directory = Directory::new();
        drop(directory.open());
        let inside = directory.store().join(name);
        let moved = directory.0.join("moved");
        fs::rename(&inside, &moved).unwrap();
        symlink(&moved, &inside).unwrap();
        let error = File::open(directory.store()).expect_err(name);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_link_in_place_of_a_record_is_not_followed() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    store(&driver, &key("a"), "x", &*seat);
    let inside = directory.store().join("records/lock+a");
    let moved = directory.0.join("moved");
    fs::rename(&inside, &moved).unwrap();
    symlink(&moved, &inside).unwrap();
    expect_error(driver.read(&key("a")), DriverErrorKind::Unavailable, &["lock+a"]);
}

#[test]
fn a_pipe_in_place_of_a_record_is_no_reason_to_hang() {
    let directory = Directory::new();
    let driver = directory.open();
    let path = directory.store().join("records/lock+a");
    assert!(shell(&format!("mkfifo '{}'", path.display())));
    expect_error(driver.read(&key("a")), DriverErrorKind::Refused, &["lock+a"]);
}

#[test]
fn keys_that_look_like_paths_stay_inside() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "../../m");
    let keys = ["..", ".", "../../etc/passwd", "/etc/passwd", "a/../b", ".draft-1", "\u{1}\n"];
    for name in keys {
        store(&driver, &key(name), name, &*seat);
    }
    for name in keys {
        assert_eq!(content(&driver, &key(name)), name);
    }
    assert_eq!(directory.names("records").len(), keys.len());
    assert_eq!(directory.names("members").len(), 1);
    assert_eq!(directory.names(""), ["FORMAT", "LOCK", "members", "records"]);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
}

#[test]
fn keys_of_any_length_and_case_have_records_of_their_own_and_are_listed() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, &"m".repeat(1000));
    let long = |last: &str| format!("{}{last}", "x".repeat(Key::BYTES_MAX - 6));
    let names = ["a".into(), "A".into(), "ä".repeat(500), "Ä".repeat(500), long("a"), long("A")];
    let mut keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    for key in &keys {
        store(&driver, key, key.as_str(), &*seat);
    }
    for key in &keys {
        assert_eq!(content(&driver, key), key.as_str());
    }
    let mut listed = driver.keys("lock/").unwrap();
    listed.sort();
    keys.sort();
    assert_eq!(listed, keys);
    assert_eq!(driver.keys("lock/A").unwrap(), [key("A")]);
    assert_eq!(driver.members().unwrap(), [seat.id().clone()]);
}

#[test]
fn a_record_under_the_name_of_another_is_an_error() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    store(&driver, &key("a"), "x", &*seat);
    let records = directory.store().join("records");
    fs::rename(records.join("lock+a"), records.join("lock+b")).unwrap();
    expect_error(driver.read(&key("b")), DriverErrorKind::Refused, &["lock/a", "lock/b"]);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let directory = Directory::new();
    fs::create_dir(directory.store()).unwrap();
    fs::write(directory.store().join("thesis.tex"), "x").unwrap();
    expect_error(File::open(directory.store()), DriverErrorKind::Refused, &["thesis.tex"]);
    assert_eq!(directory.names(""), ["thesis.tex"]);
}

#[test]
fn a_directory_of_another_format_is_refused() {
    for format in ["tierlock file 2\nsync none\n", "", "tierlock file 1\n", "\u{1b}[31m"] {
        let directory = Directory::new();
        drop(directory.open());
        fs::write(directory.store().join("FORMAT"), format).unwrap();
        let error = File::open(directory.store()).expect_err(format);
        assert_eq!(error.kind(), DriverErrorKind::Refused, "{error}");
        let text = error.to_string();
        assert!(text.contains("FORMAT") && !text.contains(char::is_control), "{text}");
    }
}

#[test]
fn a_directory_is_as_durable_as_it_was_made() {
    let directory = Directory::new();
    let url = |query| format!("file://{}{query}", directory.store().display());
    let driver = File::connect(&url("?sync=full")).unwrap();
    assert!(driver.capabilities().contains(&Capability::PowerLoss));
    assert_eq!(driver.name(), url("?sync=full"));
    expect_error(File::connect(&url("")), DriverErrorKind::Refused, &["sync full", "sync none"]);
    let seat = join(&driver, "m");
    let again = File::options().durability(Durability::PowerLoss).open(directory.store()).unwrap();
    store(&driver, &key("a"), "x", &*seat);
    assert_eq!(content(&again, &key("a")), "x");
}

#[test]
fn a_bad_url_is_refused_with_the_url_and_the_reason() {
    for (url, why) in [
        ("file:relative", "absolute"),
        ("file:///tmp/x?network=allow", "\"network\""),
        ("file://elsewhere/tmp/x", "\"elsewhere\""),
        ("file:///tmp/../x", "`..`"),
    ] {
        expect_error(File::connect(url), DriverErrorKind::Refused, &[why]);
    }
    expect_error(File::open("relative"), DriverErrorKind::Refused, &["relative", "absolute"]);
}

#[test]
fn a_directory_in_nothing_is_not_made() {
    let directory = Directory::new();
    let path = directory.0.join("missing/store");
    expect_error(File::open(&path), DriverErrorKind::Unavailable, &["missing/store"]);
    assert!(!path.parent().unwrap().exists());
}

#[test]
fn a_lock_file_that_was_removed_in_use_is_an_error_and_nothing_is_stored() {
    let directory = Directory::new();
    let driver = directory.open();
    let seat = join(&driver, "m");
    let version = store(&driver, &key("a"), "x", &*seat);
    fs::remove_file(directory.store().join("LOCK")).unwrap();
    let swapped = driver.compare_and_swap(&key("a"), version, b"y", seat.id());
    expect_error(swapped, DriverErrorKind::Refused, &["LOCK", "removed"]);
    assert_eq!(content(&driver, &key("a")), "x");
}
