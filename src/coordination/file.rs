//! `file:///dir`: the coordination of the processes of one host, in a directory.
//!
//! ```text
//! FORMAT     what the directory is, and how durable; an unknown one is refused
//! LOCK       a byte for each lock, held for microseconds around a write; never removed
//! records/   a file for each record, under its own name where that is legal: lock/node/n1 -> lock+node+n1
//! members/   a file for each member, locked by it as long as it lives
//! ```
//!
//! **Who may.** Directories are made with mode 0700, files with 0600. A directory that belongs to another user, or that others can
//! write to, is refused, and symbolic links in it are not followed. A network file system is refused: locks there may be one
//! machine's alone. So are file systems that a process provides (FUSE).
//!
//! **Durability.** A swap is one atomic rename. What was stored survives the death of any process, and of all of them, at any
//! instruction. A loss of power takes the members with it; what was stored within the last half minute or so may then be missing,
//! fencing tokens with it, or torn: an error that names the record (remove its file by hand: nobody holds it any more). With
//! `?sync=full` a swap returns when it is on the disk, nobody reads what is not, and all of it survives. The directory keeps the
//! choice: whoever opens it with another is refused. No choice makes up for a program that removes old files: not in `/tmp`.
//!
//! **Liveness.** A member lives as long as some process has its file open and locked: until it leaves, or its process ends. The kernel
//! frees the lock, and tells those who watch, within about a millisecond, also after `kill -9`. A process that is stopped lives. So
//! does one whose child was forked, without running another program, and lives on: its files are the child's, too. The child itself is
//! no member, and whatever it asks of the driver is refused; it connects anew. If a process is stopped in the middle of a swap,
//! swaps of some records, one in sixteen, are `Unavailable` until it goes on or dies, with `?sync=full` reads of them, too; the
//! error says which process it is.

mod advisory;
mod folder;
mod locks;
mod members;
mod names;
mod page;
mod records;
mod seat;
mod system;
mod url;
mod watcher;
mod who;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::folder::{Folder, refused};
use self::locks::{Lock, Locks};
use self::members::Members;
use self::records::Records;
use self::seat::{FileSeat, Life};
use self::url::Url;
#[cfg(fuzzing)]
pub(crate) use self::url::fuzzed;
use self::watcher::Watcher;
use super::driver::{
    CONTENT_BYTES_MAX, Capability, Driver, Key, Reporter, Seat, Stored, Subject, Swap, Version,
    Watch,
};
use crate::clock;
use crate::core::member::MemberId;
use crate::core::record::Moment;
use crate::error::{DriverError, DriverErrorKind};

const FORMAT: &str = "FORMAT";
const FORMAT_DRAFT: &str = ".format";
const FORMAT_BYTES_MAX: u64 = 4096;
const FORMAT_LINE: &str = "tierlock file 1\n";
const LOCK: &str = "LOCK";
const RECORDS: &str = "records";
const MEMBERS: &str = "members";

/// Longer than anybody who is not stopped takes to swap, on a disk that works.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stored records survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// That any process ends, or all; `?sync=none`.
    #[default]
    ProcessDeath,
    /// That the machine loses power, too, at the cost of two writes to the disk for each swap; `?sync=full`.
    PowerLoss,
}

impl Durability {
    fn line(self) -> &'static str {
        match self {
            Self::ProcessDeath => "sync none\n",
            Self::PowerLoss => "sync full\n",
        }
    }
}

/// How to learn what others changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Listening {
    #[default]
    Kernel,
    Polling,
}

impl Listening {
    /// How long to trust in what is reported.
    fn interval(self) -> Duration {
        match self {
            // The kernel misses nothing that happens on this machine, or says that it did.
            Self::Kernel => Duration::from_secs(1),
            Self::Polling => Duration::from_millis(100),
        }
    }
}

/// How to open a directory.
///
/// # Examples
/// ```no_run
/// use tierlock::coordination::file::{Durability, File};
///
/// let driver = File::options().durability(Durability::PowerLoss).open("/var/lib/app/locks")?;
/// # Ok::<(), tierlock::coordination::DriverError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct FileOptions {
    durability: Durability,
    listening: Listening,
    patience: Duration,
}

impl FileOptions {
    /// Says what stored records are to survive; the death of processes, if it is not called.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Says how long to wait for a process that is stopped in the middle of a swap, before it is an error; five seconds, if it
    /// is not called.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Looks for changes every 10 ms rather than being told of them, as where the system has no inotify or gives none.
    pub fn polling(mut self) -> Self {
        self.listening = Listening::Polling;
        self
    }

    /// Opens a directory, which is made if it is not there; what it stands in has to be.
    ///
    /// # Errors
    /// [`Refused`](DriverErrorKind::Refused) if the path is not absolute, or means a link, something else's directory, one
    /// that belongs to another user or that others can write to, one on a network file system, or one of another format or
    /// durability. [`Unavailable`](DriverErrorKind::Unavailable) if it cannot be opened or written.
    pub fn open(self, path: impl AsRef<Path>) -> Result<File, DriverError> {
        let root = Folder::open(path.as_ref())?;
        let failed = |error| root.failed("ask for the file system of", "", error);
        if let Some(system) = system::foreign(root.fd()).map_err(failed)? {
            let path = root.path().display();
            let what = "where locks may be one machine's alone, and changes are not reported";
            return Err(refused(format!("{path} is on {system}, {what}")));
        }
        let (locks, files) = self.set_up(&root)?;
        let store = Store {
            name: Url::write(root.path(), self.durability),
            durability: self.durability,
            listening: self.listening,
            pid: std::process::id(),
            host: host()?,
            locks,
            files: Arc::new(files),
            seats: Mutex::default(),
            watcher: Mutex::default(),
        };
        store.sweep()?;
        Ok(File { store: Arc::new(store) })
    }

    fn set_up(&self, root: &Folder) -> Result<(Locks, Files), DriverError> {
        let own = [FORMAT, FORMAT_DRAFT, LOCK, RECORDS, MEMBERS];
        let is_ours = root.stat(FORMAT)?.is_some();
        if !is_ours
            && let Some(name) = root.names()?.iter().find(|name| !own.contains(&name.as_str()))
        {
            let path = root.path().display();
            let remedy = "name a directory of its own, which is made if it is not there";
            return Err(refused(format!("{path} is used for something else, {name:?}: {remedy}")));
        }
        let locks = Locks::open(root, LOCK, self.patience)?;
        let held = locks.hold(Lock::Setup)?;
        let format = root.read(FORMAT, FORMAT_BYTES_MAX)?;
        if let Some(format) = &format {
            self.check_format(root, format)?;
        }
        let (records, members) = (root.below(RECORDS)?, root.below(MEMBERS)?);
        if format.is_none() {
            locks.reserve()?;
            let text = format!("{FORMAT_LINE}{}", self.durability.line());
            root.replace(FORMAT_DRAFT, FORMAT, text.as_bytes(), std::fs::File::sync_all)?;
            root.sync()?;
        }
        drop(held);
        let records = Records::new(records, self.durability);
        Ok((locks, Files { records, members: Members::new(members) }))
    }

    fn check_format(&self, root: &Folder, format: &[u8]) -> Result<(), DriverError> {
        let path = root.path().join(FORMAT);
        let format = String::from_utf8_lossy(format);
        let Some(durability) = format.strip_prefix(FORMAT_LINE) else {
            let path = path.display();
            return Err(refused(format!(
                "{path} says {format:?}, which is unknown to this version"
            )));
        };
        if durability != self.durability.line() {
            let (theirs, ours) = (durability.trim_end(), self.durability.line().trim_end());
            return Err(refused(format!("{} says {theirs:?}, we are to {ours:?}", path.display())));
        }
        Ok(())
    }
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            listening: Listening::default(),
            patience: PATIENCE,
        }
    }
}

fn host() -> Result<Arc<str>, DriverError> {
    match nix::unistd::gethostname() {
        Ok(host) => Ok(host.to_string_lossy().into()),
        Err(error) => {
            let what = format!("cannot ask for the name of the host: {error}");
            Err(DriverError::new(DriverErrorKind::Unavailable, what))
        }
    }
}

/// The driver `file:`, connected to a directory. See the [module](self) for what is promised.
///
/// # Examples
/// ```no_run
/// use tierlock::coordination::file::File;
///
/// let driver = File::connect("file:///var/lib/app/locks?sync=full")?;
/// # Ok::<(), tierlock::coordination::DriverError>(())
/// ```
#[derive(Debug)]
pub struct File {
    store: Arc<Store>,
}

impl File {
    /// Opens the directory that a URL means: `file:///dir`, with `?sync=full` if records are to survive a loss of power.
    ///
    /// # Errors
    /// [`Refused`](DriverErrorKind::Refused) if it is no such URL: its host is another one, its path is not absolute, it has an
    /// option that is unknown. Otherwise as [`FileOptions::open`].
    pub fn connect(url: &str) -> Result<Self, DriverError> {
        let parsed =
            Url::parse(url).map_err(|reason| refused(format!("bad URL {url}: {reason}")))?;
        Self::options().durability(parsed.durability).open(parsed.path)
    }

    /// Opens a directory with the options that are usual.
    ///
    /// # Errors
    /// As [`FileOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DriverError> {
        Self::options().open(path)
    }

    /// Options to open a directory with.
    pub fn options() -> FileOptions {
        FileOptions::default()
    }
}

/// What lies in the directory and is read without a lock.
#[derive(Debug)]
struct Files {
    records: Records,
    members: Members,
}

impl Files {
    /// Something that differs when the subject changed; `None` if it cannot be read.
    fn state(&self, subject: &Subject) -> Option<u64> {
        match subject {
            Subject::Record(key) => {
                let stored = self.records.read(key, &names::file_name(key.as_str()));
                stored.ok().map(|stored| stored.version.0)
            }
            Subject::Member(member) => self.members.is_alive(member).ok().map(u64::from),
        }
    }
}

#[derive(Debug)]
struct Store {
    name: String,
    durability: Durability,
    listening: Listening,
    /// The process that opened it: a forked one shares its locks, so they keep nobody out.
    pid: u32,
    host: Arc<str>,
    locks: Locks,
    files: Arc<Files>,
    seats: Mutex<HashMap<MemberId, Arc<Life>>>,
    /// Started by the first who watches.
    watcher: Mutex<Option<Watcher>>,
}

impl Store {
    /// Removes what the dead left behind, unless somebody else is at it.
    fn sweep(&self) -> Result<(), DriverError> {
        if let Some(_held) = self.locks.hold_for(Lock::Members, Duration::ZERO)? {
            self.files.members.sweep()?;
        }
        self.files.records.sweep(&self.locks)
    }

    /// # Errors
    /// If the process was forked from the one that opened it.
    fn check_process(&self, kind: DriverErrorKind) -> Result<(), DriverError> {
        let pid = std::process::id();
        if pid == self.pid {
            return Ok(());
        }
        let what = "forked processes connect anew";
        let what = format!("{} was opened by pid {}, not {pid}: {what}", self.name, self.pid);
        Err(DriverError::new(kind, what))
    }

    fn swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError> {
        let name = names::file_name(key.as_str());
        let held = self.locks.hold(Lock::Records(names::hash(name.as_bytes())))?;
        let life = self.seats.lock().get(by).cloned();
        // Nobody hears that it is dead before what is stored here can be seen.
        let _stays = life.as_ref().map(|life| life.stay()).transpose()?;
        if life.is_none() && !self.files.members.is_alive(by)? {
            return Err(DriverError::new(DriverErrorKind::Lost, format!("{by} lives no more")));
        }
        if self.files.records.read(key, &name)?.version != expected {
            return Ok(Swap::Conflict);
        }
        let Some(version) = expected.0.checked_add(1).map(Version) else {
            return Err(refused(format!("{key} has no version left")));
        };
        self.files.records.write(key, &name, version, content, &held)?;
        Ok(Swap::Done(version))
    }
}

impl Driver for File {
    fn name(&self) -> &str {
        &self.store.name
    }

    fn capabilities(&self) -> &[Capability] {
        use Capability::{CommonClock, Persistent, PowerLoss, Processes};
        match self.store.durability {
            Durability::ProcessDeath => &[Processes, CommonClock, Persistent],
            Durability::PowerLoss => &[Processes, CommonClock, Persistent, PowerLoss],
        }
    }

    fn now(&self) -> Moment {
        Moment(clock::common_ms())
    }

    fn poll_interval(&self) -> Duration {
        let watcher = self.store.watcher.lock();
        watcher.as_ref().map_or(self.store.listening.interval(), Watcher::interval)
    }

    fn read(&self, key: &Key) -> Result<Stored, DriverError> {
        self.store.check_process(DriverErrorKind::Refused)?;
        let name = names::file_name(key.as_str());
        let records = &self.store.files.records;
        match self.store.durability {
            Durability::ProcessDeath => records.read(key, &name),
            Durability::PowerLoss => {
                let held = self.store.locks.hold(Lock::Records(names::hash(name.as_bytes())))?;
                records.settle(&held)?;
                records.read(key, &name)
            }
        }
    }

    fn compare_and_swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError> {
        self.store.check_process(DriverErrorKind::Lost)?;
        if content.len() > CONTENT_BYTES_MAX {
            let what = format!("{} bytes are too many for {key}", content.len());
            return Err(refused(what));
        }
        self.store.swap(key, expected, content, by)
    }

    fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError> {
        self.store.check_process(DriverErrorKind::Refused)?;
        self.store.files.records.keys(prefix)
    }

    fn watch(&self, subject: Subject, reporter: Reporter) -> Result<Watch, DriverError> {
        self.store.check_process(DriverErrorKind::Refused)?;
        let mut watcher = self.store.watcher.lock();
        let watcher = match &mut *watcher {
            Some(watcher) => watcher,
            none => none.insert(Watcher::start(&self.store.files, self.store.listening)?),
        };
        Ok(watcher.watch(subject, reporter))
    }

    fn join(&self, name: &str, _ttl: Duration) -> Result<Box<dyn Seat>, DriverError> {
        let store = &self.store;
        store.check_process(DriverErrorKind::Refused)?;
        if name.is_empty() {
            return Err(refused("a member without a name".to_owned()));
        }
        let _held = store.locks.hold(Lock::Members)?;
        let (id, file) = store.files.members.join(name, store.pid, &store.host)?;
        let life = Arc::new(Life::new(id.clone(), file));
        store.seats.lock().insert(id, Arc::clone(&life));
        // The remains of others are no reason not to join.
        let _ = store.files.members.sweep();
        Ok(Box::new(FileSeat::new(Arc::clone(store), life)))
    }

    fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError> {
        self.store.check_process(DriverErrorKind::Refused)?;
        self.store.files.members.is_alive(member)
    }

    fn members(&self) -> Result<Vec<MemberId>, DriverError> {
        self.store.check_process(DriverErrorKind::Refused)?;
        self.store.files.members.alive()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    struct Ground(std::path::PathBuf);

    impl Ground {
        fn new(test: &str) -> Self {
            let name = format!("tierlock-{test}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn kind<T: std::fmt::Debug>(result: Result<T, DriverError>) -> DriverErrorKind {
        result.expect_err("another process asks").kind()
    }

    #[test]
    fn a_forked_process_is_refused_and_does_its_parent_no_harm() {
        let ground = Ground::new("forked");
        let parent = File::open(&ground.0).unwrap();
        // What a forked process has: the same, but for its process id.
        let mut child = File::open(&ground.0).unwrap();
        let (id, file) = child.store.files.members.join("m", child.store.pid, "host").unwrap();
        let life = Arc::new(Life::new(id.clone(), file));
        let store = Arc::get_mut(&mut child.store).unwrap();
        store.seats.get_mut().insert(id.clone(), Arc::clone(&life));
        store.pid += 1;
        let seat = FileSeat::new(Arc::clone(&child.store), Arc::clone(&life));

        let key = Key::of(["a"]).unwrap();
        let reporter = Reporter::new(|_| ());
        let watched = child.watch(Subject::Record(key.clone()), reporter);
        for kind in [
            kind(child.read(&key)),
            kind(child.keys("")),
            kind(child.is_alive(&id)),
            kind(child.members()),
            kind(child.join("other", PATIENCE)),
            kind(watched),
        ] {
            assert_eq!(kind, DriverErrorKind::Refused);
        }
        let swapped = child.compare_and_swap(&key, Version::ABSENT, b"x", &id);
        for kind in [kind(swapped), kind(seat.beat()), kind(seat.leave())] {
            assert_eq!(kind, DriverErrorKind::Lost);
        }
        drop((seat, child));
        assert!(parent.is_alive(&id).unwrap(), "the child's end is not its parent's");
    }

    #[test]
    fn a_child_that_has_its_parents_files_keeps_it_alive_unless_it_leaves() {
        for leaves in [false, true] {
            let ground = Ground::new("child");
            let observer = File::open(&ground.0).unwrap();
            let driver = File::open(&ground.0).unwrap();
            let seat = driver.join("m", PATIENCE).unwrap();
            let id = seat.id().clone();
            let life = Arc::clone(&driver.store.seats.lock()[&id]);
            let shared = life.file.read().as_ref().unwrap().try_clone().unwrap();
            let mut child =
                Command::new("sleep").arg("60").stdin(Stdio::from(shared)).spawn().unwrap();
            if leaves {
                // So that its file cannot be removed, either.
                let _held = observer.store.locks.hold(Lock::Members).unwrap();
                drop(seat);
                assert!(ground.0.join("members/m").exists());
            } else {
                // As the kernel closes it for a process that was killed.
                drop(life.file.write().take());
            }
            assert_eq!(observer.is_alive(&id).unwrap(), !leaves);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!observer.is_alive(&id).unwrap());
        }
    }

    #[test]
    fn nobody_joins_or_is_swept_away_while_another_joins() {
        let ground = Ground::new("joins");
        let driver = File::open(&ground.0).unwrap();
        let draft = ground.0.join("members/.member");
        let held = driver.store.locks.hold(Lock::Members).unwrap();
        let joins = std::fs::File::create_new(&draft).unwrap();
        assert!(advisory::try_lock(&joins, advisory::Extent::Whole).unwrap());
        let hasty = File::options().patience(Duration::from_millis(20)).open(&ground.0).unwrap();
        assert_eq!(kind(hasty.join("m", PATIENCE)), DriverErrorKind::Unavailable);
        assert!(draft.exists());
        assert_eq!(hasty.members().unwrap(), [], "who joins has not joined");
        drop((held, joins));
        hasty.join("m", PATIENCE).unwrap();
        assert!(!draft.exists());
    }

    #[test]
    fn who_is_killed_before_it_synced_is_made_up_for_by_the_next_who_reads() {
        let ground = Ground::new("synced");
        let durable = || File::options().durability(Durability::PowerLoss).open(&ground.0).unwrap();
        let (driver, other) = (durable(), durable());
        let seat = driver.join("m", PATIENCE).unwrap();
        let key = Key::of(["a"]).unwrap();
        let lock = Lock::Records(names::hash(b"a"));
        let is_unsynced = || driver.store.locks.hold(lock).unwrap().is_unsynced().unwrap();
        driver.compare_and_swap(&key, Version::ABSENT, b"x", seat.id()).unwrap();
        assert!(!is_unsynced());
        driver.store.locks.hold(lock).unwrap().set_unsynced(true).unwrap();
        assert_eq!(other.read(&key).unwrap().content.unwrap(), b"x");
        assert!(!is_unsynced());
    }
}
