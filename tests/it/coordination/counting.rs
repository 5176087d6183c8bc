//! An engine that counts what is asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tierlock::coordination::memory::Memory;
use tierlock::coordination::{
    Capability, Driver, DriverError, Key, MemberId, Moment, Reporter, Seat, Stored, Subject, Swap,
    Version, Watch,
};

/// Counts what is asked about records whose keys begin with `about`. Whoever uses it looks by itself only if a watch says so.
#[derive(Clone, Debug)]
pub(super) struct Counting {
    memory: Memory,
    about: &'static str,
    messages: Arc<AtomicUsize>,
}

impl Counting {
    pub(super) fn about(about: &'static str) -> Self {
        Self { memory: Memory::new(), about, messages: Arc::default() }
    }

    /// How many messages it took.
    pub(super) fn messages_of<R>(&self, act: impl FnOnce() -> R) -> (usize, R) {
        let before = self.messages.load(Ordering::SeqCst);
        let result = act();
        (self.messages.load(Ordering::SeqCst) - before, result)
    }

    fn count(&self, key: &Key) {
        if key.as_str().starts_with(self.about) {
            self.messages.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Driver for Counting {
    fn name(&self) -> &str {
        self.memory.name()
    }

    fn capabilities(&self) -> &[Capability] {
        self.memory.capabilities()
    }

    fn now(&self) -> Moment {
        self.memory.now()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn read(&self, key: &Key) -> Result<Stored, DriverError> {
        self.count(key);
        self.memory.read(key)
    }

    fn compare_and_swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError> {
        self.count(key);
        self.memory.compare_and_swap(key, expected, content, by)
    }

    fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError> {
        self.memory.keys(prefix)
    }

    fn watch(&self, subject: Subject, reporter: Reporter) -> Result<Watch, DriverError> {
        if let Subject::Record(key) = &subject {
            self.count(key);
        }
        self.memory.watch(subject, reporter)
    }

    fn join(&self, name: &str, ttl: Duration) -> Result<Box<dyn Seat>, DriverError> {
        self.memory.join(name, ttl)
    }

    fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError> {
        self.memory.is_alive(member)
    }

    fn members(&self) -> Result<Vec<MemberId>, DriverError> {
        self.memory.members()
    }
}
