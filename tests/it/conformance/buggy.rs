//! Drivers that have a bug each.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tierlock::coordination::memory::Memory;
use tierlock::coordination::{
    Capability, Driver, DriverError, DriverErrorKind, Key, MemberId, Moment, Reporter, Seat,
    Stored, Subject, Swap, Version, Watch,
};

use super::meddling::{self, Meddled};

/// What is wrong with a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    NameOfEachConnection,
    ClockJumpsBack,
    ClockInSeconds,
    ClockOfEachConnection,
    EmptyAtFirst,
    EmptyIsNothing,
    ReadsWhatItReadFirst,
    SwapsWhateverIsThere,
    VersionsComeAgain,
    KeysInLowerCase,
    KeysOfTheSameFolder,
    ForgetsWhenUnused,
    FirstReportIsMissing,
    ReportsOnce,
    WatchesDoNotEnd,
    PollsWithoutPause,
    TakesAnotherName,
    NamesInLowerCase,
    OneDiesAllDie,
    LeavesLater,
    LivesAreAlike,
    LeavesByName,
    EverybodyLives,
    NobodyIsListed,
    BeatsOfTheDeadCount,
    SwapsForEverybody,
    TrustsTooLong,
    DiesInSpiteOfItsProcess,
    BeatsAreIgnored,
    NeverDies,
    StoresNothing,
    PollsInAnHour,
    LeavesTogether,
    // Such as these meddle with what is stored: each stands for a mistake of whoever decides.
    LosesReleases,
    LosesLateReleases,
    LosesWithdrawals,
    SeesNoWaiters,
    LastComeFirst,
    ForgetsPriorities,
    ForgetsConversions,
    TokensComeAgain,
    ForgetsAbandonments,
    AbandonsEverything,
}

/// An engine to which drivers with a bug connect.
#[derive(Clone)]
pub(super) struct Engine {
    bug: Bug,
    store: Store,
    shared: Arc<Shared>,
}

#[derive(Clone)]
enum Store {
    Memory(Memory),
    /// One of this name, which is gone whenever nobody uses it.
    Forgetful(String),
    /// To be had from other processes.
    #[cfg(unix)]
    Directory(PathBuf),
}

/// What connections to one engine have in common.
#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    reads: AtomicU64,
    somebody_left: AtomicU64,
    releases: AtomicU64,
    seats: Mutex<BTreeMap<String, Arc<dyn Seat>>>,
}

impl Engine {
    pub(super) fn new(bug: Bug) -> Self {
        let store = match bug {
            Bug::ForgetsWhenUnused => {
                static NEXT: AtomicU64 = AtomicU64::new(0);
                Store::Forgetful(format!("forgetful-{}", NEXT.fetch_add(1, Relaxed)))
            }
            _ => Store::Memory(Memory::new()),
        };
        Self { bug, store, shared: Arc::default() }
    }

    #[cfg(unix)]
    pub(super) fn in_directory(bug: Bug, path: PathBuf) -> Self {
        Self { bug, store: Store::Directory(path), shared: Arc::default() }
    }

    pub(super) fn connect(&self) -> Arc<dyn Driver> {
        let inner = self.store.connect();
        let number = self.shared.connections.fetch_add(1, Relaxed);
        let name = match self.bug {
            Bug::NameOfEachConnection => format!("buggy:{number}"),
            _ => inner.name().to_owned(),
        };
        let (bug, shared) = (self.bug, Arc::clone(&self.shared));
        let (swaps, first_reads, member) = (AtomicU64::new(0), Mutex::default(), Arc::default());
        Arc::new(Buggy { bug, inner, name, number, shared, swaps, first_reads, member })
    }
}

impl Store {
    fn connect(&self) -> Arc<dyn Driver> {
        match self {
            Self::Memory(memory) => Arc::new(memory.clone()),
            Self::Forgetful(name) => Arc::new(Memory::named(name)),
            #[cfg(unix)]
            Self::Directory(path) => {
                Arc::new(tierlock::coordination::file::File::open(path).expect("it opens"))
            }
        }
    }
}

struct Buggy {
    bug: Bug,
    inner: Arc<dyn Driver>,
    name: String,
    number: u64,
    shared: Arc<Shared>,
    swaps: AtomicU64,
    first_reads: Mutex<BTreeMap<Key, Stored>>,
    /// Who joined by it last.
    member: Arc<Mutex<Option<MemberId>>>,
}

impl fmt::Debug for Buggy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buggy({:?})", self.bug)
    }
}

impl Buggy {
    fn key(&self, key: &Key) -> Key {
        if self.bug != Bug::KeysInLowerCase {
            return key.clone();
        }
        Key::parse(&key.as_str().to_lowercase()).unwrap_or_else(|_| key.clone())
    }

    /// Two numbers do for all the versions there are.
    fn version(&self, version: Version) -> Version {
        match self.bug {
            Bug::VersionsComeAgain if version != Version::ABSENT => Version(1 + version.0 % 2),
            _ => version,
        }
    }

    /// What comes to be stored in place of what shall be.
    fn meddle(&self, before: Option<&[u8]>, content: &[u8]) -> Meddled {
        match self.bug {
            Bug::StoresNothing => Meddled::Lost,
            _ => meddling::meddle(self.bug, &self.shared.releases, before, content),
        }
    }

    fn of_this_name(&self, member: &MemberId) -> Option<MemberId> {
        let members = self.inner.members().expect("memory is always there");
        members.into_iter().find(|living| living.name() == member.name())
    }

    /// On whose behalf the store is asked to swap.
    fn by(&self, by: &MemberId) -> Option<MemberId> {
        match self.bug {
            Bug::LivesAreAlike => self.of_this_name(by),
            Bug::SwapsForEverybody => self.inner.members().expect("it is there").pop(),
            _ => Some(by.clone()),
        }
    }
}

impl Driver for Buggy {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &[Capability] {
        match self.bug {
            Bug::ForgetsWhenUnused => &[Capability::Persistent],
            Bug::DiesInSpiteOfItsProcess => &[],
            _ => self.inner.capabilities(),
        }
    }

    fn now(&self) -> Moment {
        let Moment(now) = self.inner.now();
        Moment(match self.bug {
            Bug::ClockJumpsBack => now - 500 * (self.shared.reads.fetch_add(1, Relaxed) % 2),
            Bug::ClockInSeconds => now / 1000,
            Bug::ClockOfEachConnection => now + 10_000 * (self.number % 2),
            _ => now,
        })
    }

    fn poll_interval(&self) -> Duration {
        match self.bug {
            Bug::PollsWithoutPause => Duration::ZERO,
            Bug::PollsInAnHour => Duration::from_secs(3600),
            _ => self.inner.poll_interval(),
        }
    }

    fn read(&self, key: &Key) -> Result<Stored, DriverError> {
        let mut stored = self.inner.read(&self.key(key))?;
        stored.version = self.version(stored.version);
        match self.bug {
            Bug::EmptyAtFirst if stored.content.is_none() => stored.content = Some(Vec::new()),
            Bug::EmptyIsNothing => stored.content = stored.content.filter(|c| !c.is_empty()),
            // Who swaps has to get on.
            Bug::ReadsWhatItReadFirst if self.swaps.load(Relaxed) == 0 => {
                return Ok(self.first_reads.lock().entry(key.clone()).or_insert(stored).clone());
            }
            Bug::SeesNoWaiters => {
                let me = self.member.lock().clone();
                stored.content = stored.content.map(|c| meddling::without_others(c, me.as_ref()));
            }
            _ => {}
        }
        Ok(stored)
    }

    fn compare_and_swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError> {
        self.swaps.fetch_add(1, Relaxed);
        if self.bug == Bug::SwapsWhateverIsThere {
            // Others swap meanwhile.
            thread::park_timeout(Duration::from_millis(1));
        }
        let key = self.key(key);
        let by = self.by(by).unwrap_or_else(|| by.clone());
        loop {
            let stored = self.inner.read(&key)?;
            let current = stored.version;
            let is_expected = self.version(current) == expected;
            if !is_expected && self.bug != Bug::SwapsWhateverIsThere {
                return Ok(Swap::Conflict);
            }
            let content = match self.meddle(stored.content.as_deref(), content) {
                Meddled::Stored(content) => content,
                Meddled::Lost => return Ok(Swap::Done(Version(current.0 + 1))),
            };
            match self.inner.compare_and_swap(&key, current, &content, &by)? {
                Swap::Done(version) => return Ok(Swap::Done(self.version(version))),
                Swap::Conflict => {}
            }
        }
    }

    fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError> {
        let folder = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        self.inner.keys(if self.bug == Bug::KeysOfTheSameFolder { folder } else { prefix })
    }

    fn watch(&self, subject: Subject, reporter: Reporter) -> Result<Watch, DriverError> {
        let (bug, reports) = (self.bug, AtomicU64::new(0));
        let reporter = Reporter::new(move |subject| {
            let before = reports.fetch_add(1, Relaxed);
            let is_missing = match bug {
                Bug::FirstReportIsMissing => before == 0,
                Bug::ReportsOnce => before > 0,
                _ => false,
            };
            if !is_missing {
                reporter.report(subject);
            }
        });
        let watch = self.inner.watch(subject, reporter)?;
        if self.bug == Bug::WatchesDoNotEnd {
            std::mem::forget(watch);
            return Ok(Watch::new(|| ()));
        }
        Ok(watch)
    }

    fn join(&self, name: &str, ttl: Duration) -> Result<Box<dyn Seat>, DriverError> {
        let lower = name.to_lowercase();
        let name = if self.bug == Bug::NamesInLowerCase { &lower } else { name };
        let ttl = if self.bug == Bug::NeverDies { ttl * 1000 } else { ttl };
        let mut joined = self.inner.join(name, ttl);
        let mut other = name.to_owned();
        while self.bug == Bug::TakesAnotherName && joined.is_err() {
            other.push('\'');
            joined = self.inner.join(&other, ttl);
        }
        let inner: Arc<dyn Seat> = joined?.into();
        let (shared, inner_id) = (Arc::clone(&self.shared), inner.id());
        let id = match self.bug {
            Bug::LivesAreAlike => MemberId::new(name, inner_id.host().clone(), inner_id.pid(), 0),
            _ => inner_id.clone(),
        };
        *self.member.lock() = Some(inner_id.clone());
        if matches!(self.bug, Bug::LeavesByName | Bug::LeavesLater | Bug::LeavesTogether) {
            shared.seats.lock().insert(name.to_owned(), Arc::clone(&inner));
        }
        Ok(Box::new(BuggySeat {
            bug: self.bug,
            id,
            inner,
            ttl,
            driver: Arc::clone(&self.inner),
            shared,
        }))
    }

    fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError> {
        match self.bug {
            Bug::EverybodyLives => Ok(true),
            Bug::LivesAreAlike => Ok(self.of_this_name(member).is_some()),
            Bug::OneDiesAllDie if self.shared.somebody_left.load(Relaxed) > 0 => Ok(false),
            _ => self.inner.is_alive(member),
        }
    }

    fn members(&self) -> Result<Vec<MemberId>, DriverError> {
        let members = self.inner.members()?;
        let alike = |id: MemberId| MemberId::new(id.name().clone(), id.host().clone(), id.pid(), 0);
        match self.bug {
            Bug::NobodyIsListed => Ok(Vec::new()),
            Bug::LivesAreAlike => Ok(members.into_iter().map(alike).collect()),
            _ => Ok(members),
        }
    }
}

struct BuggySeat {
    bug: Bug,
    id: MemberId,
    inner: Arc<dyn Seat>,
    ttl: Duration,
    driver: Arc<dyn Driver>,
    shared: Arc<Shared>,
}

impl fmt::Debug for BuggySeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuggySeat({:?})", self.id)
    }
}

impl Seat for BuggySeat {
    fn id(&self) -> &MemberId {
        &self.id
    }

    fn beat(&self) -> Result<Option<Moment>, DriverError> {
        let (said, ttl_ms) = (self.driver.now(), self.ttl.as_millis() as u64);
        if self.bug == Bug::BeatsAreIgnored {
            return Ok(Some(said.plus_ms(ttl_ms)));
        }
        match (self.bug, self.inner.beat()) {
            (Bug::BeatsOfTheDeadCount, Err(error)) if error.kind() == DriverErrorKind::Lost => {
                Ok(Some(said.plus_ms(ttl_ms)))
            }
            (Bug::TrustsTooLong, beat) => Ok(beat?.map(|until| until.plus_ms(1000))),
            (_, beat) => beat,
        }
    }

    fn leave(&self) -> Result<(), DriverError> {
        self.shared.somebody_left.fetch_add(1, Relaxed);
        if self.bug == Bug::LeavesLater {
            return Ok(());
        }
        if self.bug == Bug::LeavesTogether {
            let seats: Vec<_> = self.shared.seats.lock().values().cloned().collect();
            return seats.iter().try_for_each(|seat| seat.leave());
        }
        let of_this_name = self.shared.seats.lock().get(&**self.id.name()).cloned();
        of_this_name.as_ref().unwrap_or(&self.inner).leave()
    }
}
