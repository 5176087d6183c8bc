//! Says what changed: one thread and one inotify descriptor, on the two directories, whatever is watched.
//!
//! Where there is no inotify the thread looks again and again.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

use super::super::driver::{Reporter, Subject, Version, Watch};
use super::names::file_name;
use super::{Files, Listening};
use crate::error::{DriverError, DriverErrorKind};

/// How often the thread looks where it cannot listen, and so how soon it notices.
const LOOK_INTERVAL_MS: u16 = 10;

/// What is watched: who is to be told of which file.
#[derive(Debug, Default)]
struct Watched {
    next: u64,
    by_file: HashMap<Place, Vec<Ear>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Record(String),
    Member(String),
}

#[derive(Clone, Debug)]
struct Ear {
    number: u64,
    subject: Subject,
    reporter: Reporter,
}

impl Ear {
    fn report(&self) {
        self.reporter.report(&self.subject);
    }

    /// Reports what is stored now, so that whoever stored it knows.
    fn report_record(&self, files: &Files) {
        match files.state(&self.subject) {
            Some(version) => self.reporter.report_version(&self.subject, Version(version)),
            None => self.report(),
        }
    }
}

/// The thread, as its driver has it; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    watched: Arc<Mutex<Watched>>,
    stop: PipeWriter,
    interval: Duration,
    pid: u32,
}

impl Watcher {
    /// Starts it.
    ///
    /// # Errors
    /// `Unavailable` if the system has no thread or pipe for it.
    pub(super) fn start(files: &Arc<Files>, listening: Listening) -> Result<Self, DriverError> {
        let failed = |error: io::Error| {
            let what = format!("cannot watch {}: {error}", files.members.folder().path().display());
            DriverError::new(DriverErrorKind::Unavailable, what)
        };
        let watched = Arc::<Mutex<Watched>>::default();
        let (stopped, stop) = io::pipe().map_err(failed)?;
        let ears = match listening {
            Listening::Kernel => inotify::Ears::open(files),
            Listening::Polling => None,
        };
        let listening = if ears.is_some() { Listening::Kernel } else { Listening::Polling };
        let thread = Thread { files: Arc::clone(files), watched: Arc::clone(&watched), stopped };
        let run = move || match ears {
            Some(ears) => thread.listen(&ears),
            None => thread.look(),
        };
        thread::Builder::new().name("tierlock-file".into()).spawn(run).map_err(failed)?;
        Ok(Self { watched, stop, interval: listening.interval(), pid: std::process::id() })
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    pub(super) fn watch(&self, subject: Subject, reporter: Reporter) -> Watch {
        let place = match &subject {
            Subject::Record(key) => Place::Record(file_name(key.as_str())),
            Subject::Member(member) => Place::Member(file_name(member.name())),
        };
        let number = {
            let mut watched = self.watched.lock();
            watched.next += 1;
            let number = watched.next;
            let ear = Ear { number, subject, reporter };
            watched.by_file.entry(place.clone()).or_default().push(ear);
            number
        };
        let (watched, pid) = (Arc::clone(&self.watched), self.pid);
        Watch::new(move || {
            // In a process that was forked the mutex may be held by a thread that it does not have.
            if std::process::id() == pid {
                watched.lock().forget(&place, number);
            }
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The pipe of a forked process is its parent's.
        if std::process::id() == self.pid {
            // The thread is gone if this fails.
            let _ = self.stop.write(&[0]);
        }
    }
}

impl Watched {
    fn forget(&mut self, place: &Place, number: u64) {
        if let Some(ears) = self.by_file.get_mut(place) {
            ears.retain(|ear| ear.number != number);
            if ears.is_empty() {
                self.by_file.remove(place);
            }
        }
    }

    fn at(&self, place: &Place) -> Vec<Ear> {
        self.by_file.get(place).cloned().unwrap_or_default()
    }

    fn all(&self) -> Vec<Ear> {
        self.by_file.values().flatten().cloned().collect()
    }
}

/// The thread's own. It does not keep the driver, which keeps it.
struct Thread {
    files: Arc<Files>,
    watched: Arc<Mutex<Watched>>,
    stopped: PipeReader,
}

impl Thread {
    /// Waits for the other descriptor, until the time is over; false if it is to end.
    fn wait(&self, other: Option<&dyn AsFd>, timeout: PollTimeout) -> bool {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![readable(self.stopped.as_fd())];
        fds.extend(other.map(|other| readable(other.as_fd())));
        // An error here is a signal: look again.
        let _ = poll(&mut fds, timeout);
        !fds[0].any().unwrap_or(true)
    }

    /// Looks whether something changed since it looked last, as long as the driver is there.
    fn look(self) {
        let mut seen = HashMap::new();
        while self.wait(None, LOOK_INTERVAL_MS.into()) {
            let ears = self.watched.lock().all();
            let now: HashMap<_, _> =
                ears.iter().map(|ear| (ear.number, self.files.state(&ear.subject))).collect();
            // Of what is new here nobody knows whether it changed since it is watched.
            for ear in ears.iter().filter(|ear| seen.get(&ear.number) != now.get(&ear.number)) {
                ear.report();
            }
            seen = now;
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod inotify {
    use std::collections::HashMap;
    use std::fs::File;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::{Duration, Instant};

    use nix::poll::PollTimeout;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

    use super::super::Files;
    use super::{Ear, Place, Subject, Thread};
    use crate::clock;

    /// The kernel reports that a file is closed just before it frees its locks, so that is asked for again until it did.
    const DYING_INTERVAL_MS: u16 = 1;
    const DYING_MAX: Duration = Duration::from_secs(1);

    /// A descriptor that hears of changes in the two directories.
    #[derive(Debug)]
    pub(super) struct Ears {
        inotify: Inotify,
        records: WatchDescriptor,
    }

    impl Ears {
        /// `None` if the system does not give it: it has few, and some sandboxes have none.
        pub(super) fn open(files: &Files) -> Option<Self> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
            let watch = |folder: &File, flags| {
                // By its descriptor, since there may be another directory at the path by now.
                let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
                inotify.add_watch(path.as_str(), flags | AddWatchFlags::IN_ONLYDIR).ok()
            };
            let replaced = AddWatchFlags::IN_MOVED_TO;
            let died = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE;
            let records = watch(files.records.folder().fd(), replaced)?;
            watch(files.members.folder().fd(), replaced | died)?;
            Some(Self { inotify, records })
        }
    }

    impl AsFd for Ears {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.inotify.as_fd()
        }
    }

    /// Those whose member's file was closed or replaced, each with until when to look whether they died.
    type Dying = HashMap<u64, (Ear, Instant)>;

    impl Thread {
        /// Hears of changes, as long as the driver is there.
        pub(super) fn listen(self, ears: &Ears) {
            let mut dying = Dying::new();
            let timeout = |dying: &Dying| match dying.is_empty() {
                true => PollTimeout::NONE,
                false => DYING_INTERVAL_MS.into(),
            };
            while self.wait(Some(ears), timeout(&dying)) {
                // There is nothing to read if it only was time to look.
                for event in ears.inotify.read_events().unwrap_or_default() {
                    self.hear(&event, ears, &mut dying);
                }
                self.report_dead(&mut dying);
            }
        }

        fn hear(&self, event: &InotifyEvent, ears: &Ears, dying: &mut Dying) {
            // Without a name it is about all: some events were lost, or the directory is gone.
            let name = event.name.as_ref().and_then(|name| name.to_str()).map(str::to_owned);
            let heard = {
                let watched = self.watched.lock();
                match name {
                    None => watched.all(),
                    Some(name) if event.wd == ears.records => watched.at(&Place::Record(name)),
                    Some(name) => watched.at(&Place::Member(name)),
                }
            };
            for ear in heard {
                match ear.subject {
                    Subject::Record(_) => ear.report_record(&self.files),
                    Subject::Member(_) => {
                        dying.insert(ear.number, (ear, clock::now() + DYING_MAX));
                    }
                }
            }
        }

        /// Reports those that are dead, and those that take too long about it: whoever hears it looks for themselves.
        fn report_dead(&self, dying: &mut Dying) {
            let done = |(ear, until): &(Ear, Instant)| {
                let Subject::Member(member) = &ear.subject else { return true };
                matches!(self.files.members.is_alive(member), Ok(false)) || clock::now() >= *until
            };
            for (_, (ear, _)) in dying.extract_if(|_, ear| done(ear)) {
                ear.report();
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod inotify {
    use super::super::Files;
    use super::Thread;

    /// There is none here.
    #[derive(Debug)]
    pub(super) enum Ears {}

    impl Ears {
        pub(super) fn open(_: &Files) -> Option<Self> {
            None
        }
    }

    impl Thread {
        pub(super) fn listen(self, ears: &Ears) {
            match *ears {}
        }
    }
}
