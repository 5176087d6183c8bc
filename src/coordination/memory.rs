//! The driver of `memory:`: a store in this process, for its threads and for tests.
//!
//! Knows nothing of the faults that a simulation makes but where they come in: on the way to the store and back.

mod simulated;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use self::simulated::Faults;
pub use self::simulated::{Call, Fate, Leg, World};
use super::{
    Capability, Driver, DriverError, DriverErrorKind, Key, MemberId, Moment, Reporter, Seat,
    Stored, Subject, Swap, Version, Watch,
};
use crate::clock;
use crate::sync::Mutex;

/// A store in this process. Clones are the same store, which lasts as long as one of them, or a seat at it.
///
/// A member dies when its seat is dropped or its time-to-live is over. Of the latter, watches hear when somebody next asks
/// the store for anything.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::coordination::{Driver, Key, Swap, Version, memory::Memory};
///
/// let store = Memory::new();
/// let member = store.join("worker-1", Duration::from_secs(10)).unwrap();
/// let key = Key::of(["lock", "config"]).unwrap();
/// let swap = store.compare_and_swap(&key, Version::ABSENT, b"free", member.id()).unwrap();
/// assert!(matches!(swap, Swap::Done(_)));
/// assert_eq!(store.read(&key).unwrap().content.as_deref(), Some(&b"free"[..]));
/// ```
#[derive(Clone)]
pub struct Memory(Arc<Store>);

struct Store {
    url: String,
    simulated: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Key, Record>,
    seated: BTreeMap<Arc<str>, Seated>,
    watches: Watches,
    /// Numbers given away: to versions, lives and watches alike.
    numbers: u64,
    /// What is still to be reported, by whoever holds the state.
    due: Vec<(Reporter, Subject, Option<Version>)>,
    faults: Option<Faults>,
}

struct Record {
    version: Version,
    content: Vec<u8>,
}

struct Seated {
    id: MemberId,
    /// When it dies unless it says meanwhile that it lives.
    until: Moment,
}

/// Who wants to hear of what; of one subject, in the order in which they came.
type Watches = HashMap<Subject, BTreeMap<u64, Reporter>>;

/// How long to trust in watches: as long as a death by the clock may go unnoticed where nobody asks for anything.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The stores that have a name, for as long as somebody uses them.
static NAMED: LazyLock<Mutex<BTreeMap<String, Weak<Store>>>> =
    LazyLock::new(|| Mutex::new(BTreeMap::new()));

impl Memory {
    /// An empty store that nobody else uses.
    #[must_use]
    pub fn new() -> Self {
        Self::at("memory:".to_owned(), State::default())
    }

    /// The store of this name in this process; an empty one if nobody uses it.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tierlock::coordination::{Driver, memory::Memory};
    ///
    /// let (one, same) = (Memory::named("tests"), Memory::named("tests"));
    /// let seat = one.join("worker-1", Duration::from_secs(10)).unwrap();
    /// assert_eq!(same.members().unwrap(), [seat.id().clone()]);
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut named = NAMED.lock();
        if let Some(store) = named.get(name).and_then(Weak::upgrade) {
            return Self(store);
        }
        named.retain(|_, store| store.strong_count() > 0);
        let memory = Self::at(format!("memory:{name}"), State::default());
        named.insert(name.to_owned(), Arc::downgrade(&memory.0));
        memory
    }

    fn at(url: String, state: State) -> Self {
        let simulated = state.faults.is_some();
        Self(Arc::new(Store { url, simulated, state: Mutex::new(state) }))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:?})", self.0.url)
    }
}

impl Driver for Memory {
    fn name(&self) -> &str {
        &self.0.url
    }

    fn capabilities(&self) -> &[Capability] {
        &[Capability::Leases, Capability::CommonClock]
    }

    fn now(&self) -> Moment {
        self.0.state.lock().now()
    }

    fn poll_interval(&self) -> Duration {
        POLL_INTERVAL
    }

    fn read(&self, key: &Key) -> Result<Stored, DriverError> {
        self.0.call(Call::Read(key), |state, _| Ok(state.stored(key)))
    }

    fn compare_and_swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError> {
        self.0.call(Call::Swap { key, by }, |state, _| {
            state.seat(by)?;
            Ok(state.swap(key, expected, content))
        })
    }

    fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError> {
        self.0.call(Call::Keys(prefix), |state, _| {
            let keys = state.records.keys();
            Ok(keys.filter(|key| key.as_str().starts_with(prefix)).cloned().collect())
        })
    }

    fn watch(&self, subject: Subject, reporter: Reporter) -> Result<Watch, DriverError> {
        let store = Arc::downgrade(&self.0);
        self.0.call(Call::Watch(&subject), |state, _| {
            let (number, subject) = (state.number(), subject.clone());
            state.watches.entry(subject.clone()).or_default().insert(number, reporter);
            Ok(Watch::new(move || end_watch(&store, &subject, number)))
        })
    }

    fn join(&self, name: &str, ttl: Duration) -> Result<Box<dyn Seat>, DriverError> {
        if name.is_empty() {
            let what = format!("{}: a member has to have a name", self.0.url);
            return Err(DriverError::new(DriverErrorKind::Refused, what));
        }
        let ttl_ms = ttl.as_millis().try_into().unwrap_or(u64::MAX);
        let id = self.0.call(Call::Join(name), |state, now| {
            if let Some(seated) = state.seated.get(name) {
                let what = format!("{}: {} lives", self.0.url, seated.id);
                return Err(DriverError::new(DriverErrorKind::NameTaken, what));
            }
            Ok(state.seat_down(name, now.plus_ms(ttl_ms)))
        })?;
        let (store, process) = (Arc::clone(&self.0), std::process::id());
        Ok(Box::new(MemorySeat { store, id, ttl_ms, process }))
    }

    fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError> {
        self.0.call(Call::IsAlive(member), |state, _| Ok(state.seat(member).is_ok()))
    }

    fn members(&self) -> Result<Vec<MemberId>, DriverError> {
        self.0.call(Call::Members, |state, _| {
            Ok(state.seated.values().map(|seated| seated.id.clone()).collect())
        })
    }
}

fn end_watch(store: &Weak<Store>, subject: &Subject, number: u64) {
    let Some(store) = store.upgrade() else { return };
    let mut state = store.state.lock();
    let Some(reporters) = state.watches.get_mut(subject) else { return };
    let ended = reporters.remove(&number);
    if reporters.is_empty() {
        state.watches.remove(subject);
    }
    drop(state);
    // What it captured may ask the store for something when it goes.
    drop(ended);
}

struct MemorySeat {
    store: Arc<Store>,
    id: MemberId,
    ttl_ms: u64,
    /// The process that sat down; not the one of `id`, which a simulation makes up.
    process: u32,
}

impl Seat for MemorySeat {
    fn id(&self) -> &MemberId {
        &self.id
    }

    fn beat(&self) -> Result<Option<Moment>, DriverError> {
        if self.process != std::process::id() {
            let what = format!("{} is the process from which this one was forked", self.id);
            return Err(DriverError::new(DriverErrorKind::Lost, what));
        }
        let said = self.store.state.lock().now();
        self.store.call(Call::Beat(&self.id), |state, now| {
            state.seat(&self.id)?.until = now.plus_ms(self.ttl_ms);
            Ok(())
        })?;
        Ok(Some(said.plus_ms(self.ttl_ms)))
    }

    fn leave(&self) -> Result<(), DriverError> {
        self.store.call(Call::Leave(&self.id), |state, _| {
            if state.seat(&self.id).is_ok() {
                state.bury(self.id.name().clone());
            }
            Ok(())
        })
    }
}

impl Drop for MemorySeat {
    fn drop(&mut self) {
        // Who cannot say that it leaves dies by itself.
        let _ = self.leave();
    }
}

impl fmt::Debug for MemorySeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemorySeat({})", self.id)
    }
}

impl Store {
    /// Has the store do something, unless that gets lost on the way, and report what changed.
    fn call<R>(
        &self,
        call: Call<'_>,
        act: impl FnOnce(&mut State, Moment) -> Result<R, DriverError>,
    ) -> Result<R, DriverError> {
        self.travel(call, Leg::There)?;
        let answer = self.with_state(|state| {
            let now = state.now();
            act(state, now)
        });
        self.travel(call, Leg::Back)?;
        answer
    }

    /// Does something to the state of this moment. Whoever is to hear of it is told when nothing is locked any more.
    fn with_state<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        state.bury_those_due();
        let answer = act(&mut state);
        let due = std::mem::take(&mut state.due);
        drop(state);
        for (reporter, subject, version) in due {
            match version {
                Some(version) => reporter.report_version(&subject, version),
                None => reporter.report(&subject),
            }
        }
        answer
    }
}

impl State {
    fn now(&self) -> Moment {
        self.faults.as_ref().map_or_else(|| Moment(clock::common_ms()), Faults::now)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn stored(&self, key: &Key) -> Stored {
        match self.records.get(key) {
            None => Stored { version: Version::ABSENT, content: None },
            Some(record) => {
                Stored { version: record.version, content: Some(record.content.clone()) }
            }
        }
    }

    fn swap(&mut self, key: &Key, expected: Version, content: &[u8]) -> Swap {
        let current = self.records.get(key).map_or(Version::ABSENT, |record| record.version);
        if current != expected {
            return Swap::Conflict;
        }
        let version = Version(self.number());
        self.records.insert(key.clone(), Record { version, content: content.to_vec() });
        self.changed(&Subject::Record(key.clone()), Some(version));
        Swap::Done(version)
    }

    fn seat_down(&mut self, name: &str, until: Moment) -> MemberId {
        let life = self.number();
        let (host, pid) = match self.faults {
            None => (HOST.clone(), std::process::id()),
            Some(_) => simulated::place(life),
        };
        let id = MemberId::new(name, host, pid, life);
        self.seated.insert(name.into(), Seated { id: id.clone(), until });
        id
    }

    /// The seat of a member, if it lives.
    fn seat(&mut self, member: &MemberId) -> Result<&mut Seated, DriverError> {
        let seated = self.seated.get_mut(member.name()).filter(|seated| seated.id == *member);
        seated.ok_or_else(|| {
            DriverError::new(DriverErrorKind::Lost, format!("{member} lives no more"))
        })
    }

    fn bury_those_due(&mut self) {
        let now = self.now();
        let due = self.seated.iter().filter(|(_, seated)| seated.until <= now);
        for name in due.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.bury(name);
        }
    }

    fn bury(&mut self, name: Arc<str>) {
        if let Some(Seated { id, .. }) = self.seated.remove(&name) {
            self.changed(&Subject::Member(id), None);
        }
    }

    fn changed(&mut self, subject: &Subject, version: Option<Version>) {
        for reporter in self.watches.get(subject).into_iter().flat_map(BTreeMap::values) {
            if !self.faults.as_mut().is_some_and(Faults::loses_report) {
                self.due.push((reporter.clone(), subject.clone(), version));
            }
        }
    }
}

static HOST: LazyLock<Arc<str>> = LazyLock::new(|| {
    #[cfg(unix)]
    let name = nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into());
    #[cfg(not(unix))]
    let name = None;
    name.unwrap_or_else(|| "localhost".into())
});

#[cfg(test)]
mod tests;
