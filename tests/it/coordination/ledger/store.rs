//! A driver whose records can be damaged and deleted, and whose members can be killed at any swap.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tierlock::coordination::ledger::Ledger;
use tierlock::coordination::{
    Capability, Coordinator, Driver, DriverError, DriverErrorKind, Key, MemberId, Moment, Reporter,
    Seat, Stored, Subject, Swap, Version, Watch,
};

/// What happens to one swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The member dies, and nothing is stored.
    DieBefore,
    /// It is stored, and the member dies.
    DieAfter,
    /// Nothing is stored.
    FailBefore,
    /// It is stored, but the member is told that it may not be.
    FailAfter,
}

impl Fault {
    pub(super) const ALL: [Self; 4] =
        [Self::DieBefore, Self::DieAfter, Self::FailBefore, Self::FailAfter];
}

#[derive(Debug, Default)]
pub(super) struct Store {
    kept: Mutex<Kept>,
    lives: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    records: HashMap<Key, (Version, Vec<u8>)>,
    versions: u64,
    living: Vec<MemberId>,
    /// What happens to the next swaps.
    faults: VecDeque<Option<Fault>>,
    swaps: usize,
}

impl Store {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn join(self: &Arc<Self>, name: &str) -> Coordinator {
        Coordinator::over(Arc::new(Handle(Arc::clone(self))))
            .join(name)
            .expect("nobody has the name")
    }

    /// A session in the registry `jobs`.
    pub(super) fn session(self: &Arc<Self>, name: &str) -> Ledger {
        let ledger = self.ledger(name, "jobs");
        ledger.startup(0).unwrap();
        ledger
    }

    pub(super) fn ledger(self: &Arc<Self>, name: &str, registry: &str) -> Ledger {
        Ledger::open(&self.join(name), registry).unwrap()
    }

    /// As `kill -9` would.
    pub(super) fn kill(&self, name: &str) {
        self.kept.lock().unwrap().living.retain(|member| &**member.name() != name);
    }

    pub(super) fn content(&self, key: &str) -> Option<Vec<u8>> {
        self.kept.lock().unwrap().records.get(&key_of(key)).map(|(_, content)| content.clone())
    }

    pub(super) fn version(&self, key: &str) -> Option<Version> {
        self.kept.lock().unwrap().records.get(&key_of(key)).map(|(version, _)| *version)
    }

    pub(super) fn delete(&self, key: &str) {
        self.kept.lock().unwrap().records.remove(&key_of(key));
    }

    pub(super) fn overwrite(&self, key: &str, content: impl Into<Vec<u8>>) {
        self.kept.lock().unwrap().put(&key_of(key), content.into());
    }

    /// The swap after the next `later` ones fails like this.
    pub(super) fn fail(&self, later: usize, fault: Fault) {
        let mut kept = self.kept.lock().unwrap();
        kept.faults = std::iter::repeat_n(None, later).chain([Some(fault)]).collect();
    }

    /// No swap fails any more; tells whether one did not come to it.
    pub(super) fn heal(&self) -> bool {
        !std::mem::take(&mut self.kept.lock().unwrap().faults).is_empty()
    }

    pub(super) fn swaps(&self) -> usize {
        self.kept.lock().unwrap().swaps
    }
}

impl Kept {
    fn put(&mut self, key: &Key, content: Vec<u8>) -> Version {
        self.versions += 1;
        let version = Version(self.versions);
        self.records.insert(key.clone(), (version, content));
        version
    }

    fn swap(&mut self, key: &Key, expected: Version, content: &[u8]) -> Swap {
        let version = self.records.get(key).map_or(Version::ABSENT, |(version, _)| *version);
        if version != expected {
            return Swap::Conflict;
        }
        self.swaps += 1;
        Swap::Done(self.put(key, content.to_vec()))
    }
}

pub(super) const REGISTRY: &str = "ledger/jobs/registry";
pub(super) const COUNTER: &str = "ledger/jobs/counter";

fn key_of(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn error<T>(kind: DriverErrorKind) -> Result<T, DriverError> {
    Err(DriverError::new(kind, "as the test wants it"))
}

#[derive(Debug)]
struct Handle(Arc<Store>);

impl Driver for Handle {
    fn name(&self) -> &str {
        "store:"
    }

    fn capabilities(&self) -> &[Capability] {
        &[]
    }

    fn now(&self) -> Moment {
        Moment(0)
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn read(&self, key: &Key) -> Result<Stored, DriverError> {
        let kept = self.0.kept.lock().unwrap();
        Ok(match kept.records.get(key) {
            None => Stored { version: Version::ABSENT, content: None },
            Some((version, content)) => {
                Stored { version: *version, content: Some(content.clone()) }
            }
        })
    }

    fn compare_and_swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError> {
        let mut kept = self.0.kept.lock().unwrap();
        let fault = kept.faults.pop_front().flatten();
        if fault == Some(Fault::DieBefore) {
            kept.living.retain(|member| member != by);
        }
        if !kept.living.contains(by) {
            return error(DriverErrorKind::Lost);
        }
        if fault == Some(Fault::FailBefore) {
            return error(DriverErrorKind::Unavailable);
        }
        let swap = kept.swap(key, expected, content);
        match fault {
            Some(Fault::DieAfter) => {
                kept.living.retain(|member| member != by);
                error(DriverErrorKind::Lost)
            }
            Some(Fault::FailAfter) => error(DriverErrorKind::Unavailable),
            _ => Ok(swap),
        }
    }

    fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError> {
        let kept = self.0.kept.lock().unwrap();
        Ok(kept.records.keys().filter(|key| key.as_str().starts_with(prefix)).cloned().collect())
    }

    fn watch(&self, _: Subject, _: Reporter) -> Result<Watch, DriverError> {
        Ok(Watch::new(|| ()))
    }

    fn join(&self, name: &str, _: Duration) -> Result<Box<dyn Seat>, DriverError> {
        let mut kept = self.0.kept.lock().unwrap();
        if kept.living.iter().any(|member| &**member.name() == name) {
            return error(DriverErrorKind::NameTaken);
        }
        let life = self.0.lives.fetch_add(1, Ordering::Relaxed);
        let id = MemberId::new(name, "host", std::process::id(), life);
        kept.living.push(id.clone());
        Ok(Box::new(Place { id, store: Arc::clone(&self.0) }))
    }

    fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError> {
        Ok(self.0.kept.lock().unwrap().living.contains(member))
    }

    fn members(&self) -> Result<Vec<MemberId>, DriverError> {
        Ok(self.0.kept.lock().unwrap().living.clone())
    }
}

#[derive(Debug)]
struct Place {
    id: MemberId,
    store: Arc<Store>,
}

impl Seat for Place {
    fn id(&self) -> &MemberId {
        &self.id
    }

    fn beat(&self) -> Result<Option<Moment>, DriverError> {
        match self.store.kept.lock().unwrap().living.contains(&self.id) {
            true => Ok(None),
            false => error(DriverErrorKind::Lost),
        }
    }

    fn leave(&self) -> Result<(), DriverError> {
        self.store.kept.lock().unwrap().living.retain(|member| *member != self.id);
        Ok(())
    }
}
