//! The driver `file:`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tierlock::coordination::file::File;
use tierlock::coordination::{
    Driver, DriverError, DriverErrorKind, Key, Reporter, Seat, Subject, Swap, Version, Watch,
};

mod directory;
mod disk;
mod liveness;
mod processes;
mod swaps;

#[cfg(feature = "conformance")]
#[test]
fn a_directory_is_a_driver() {
    use std::sync::Arc;
    use tierlock::coordination::conformance;

    let directory = Directory::new();
    let store = directory.store();
    conformance::driver(move || Arc::new(File::open(&store).expect("it opens")));
}

#[cfg(feature = "conformance")]
#[test]
fn members_over_a_directory_are_coordinated() {
    use std::sync::Arc;
    use tierlock::coordination::conformance::{Processes, coordinator};

    let directory = Directory::new();
    let store = directory.store();
    let again = Processes::started_by(|| {
        let test = std::any::type_name_of_val(&plays_a_part_in_another_process);
        let (_, test) = test.split_once("::").expect("a test is in a module");
        let mut again = Command::new(std::env::current_exe().expect("it was started from a file"));
        again.args(["--exact", test, "--nocapture"]);
        again
    });
    let report = coordinator(move || Arc::new(File::open(&store).expect("it opens")), again);
    let without_leases = ["who_hangs_is_lost_and_knows_before_anybody_has_what_it_held"];
    assert!(report.skipped.iter().map(|(claim, _)| *claim).eq(without_leases), "{report}");
}

#[cfg(feature = "conformance")]
#[test]
fn plays_a_part_in_another_process() {
    use std::sync::Arc;
    use tierlock::coordination::conformance;

    conformance::child(|url| Arc::new(File::connect(url).expect("it is a directory's")));
}

/// A directory of the test's own, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("file-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }

    /// Where the driver is to store: nothing is there yet.
    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn open(&self) -> File {
        File::open(self.store()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The names of all that lies in a directory of the store.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.store().join(folder)).expect("it is there");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("it can be read").file_name().into_string().expect("ASCII"))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ignored by this driver: its members live as long as their process.
const TTL: Duration = Duration::from_secs(10);

fn key(name: &str) -> Key {
    Key::of(["lock", name]).expect("it is a name")
}

fn join(driver: &File, name: &str) -> Box<dyn Seat> {
    driver.join(name, TTL).unwrap_or_else(|error| panic!("{error}"))
}

/// Stores the content in place of whatever is there.
fn store(driver: &File, key: &Key, content: &str, seat: &dyn Seat) -> Version {
    let version = driver.read(key).expect("it can be read").version;
    match driver.compare_and_swap(key, version, content.as_bytes(), seat.id()) {
        Ok(Swap::Done(version)) => version,
        other => panic!("{other:?}"),
    }
}

fn content(driver: &File, key: &Key) -> String {
    let stored = driver.read(key).expect("it can be read");
    String::from_utf8(stored.content.expect("it is there")).expect("text")
}

/// Watches a subject, and sends what is reported.
fn watch(driver: &File, subject: Subject) -> (Watch, Receiver<Subject>) {
    let (sender, receiver) = channel();
    let reporter = Reporter::new(move |subject| drop(sender.send(subject.clone())));
    (driver.watch(subject, reporter).expect("it can be watched"), receiver)
}

#[track_caller]
fn expect_error<T: std::fmt::Debug>(
    result: Result<T, DriverError>,
    kind: DriverErrorKind,
    says: &[&str],
) {
    let error = result.expect_err("it is an error");
    assert_eq!(error.kind(), kind, "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{error}\ndoes not say {text:?}");
    }
}

/// Runs a command of the shell.
fn shell(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).status().is_ok_and(|status| status.success())
}
