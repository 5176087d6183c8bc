//! What a coordinator asks of an engine that stores its records.
//!
//! An engine decides nothing about locks: it stores bytes under keys, swaps them if nobody else did, says when they changed,
//! and knows which members live. So whoever has those four can write a driver, and all drivers obey the same rules.
//! The `conformance` feature has the tests that one has to pass, and those of what stands on it, in `coordination::conformance`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::member::MemberId;
use crate::core::record::Moment;
use crate::error::DriverError;
#[cfg(doc)]
use crate::error::DriverErrorKind;

/// An engine that stores records and knows who lives.
///
/// Methods are called from any thread, and from several at a time. They may block for a round trip to the engine, not for
/// another member. All of them are about one store: two drivers connected to one URL see the same records and members.
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// Where it stores, as people know it: the URL it was connected to.
    fn name(&self) -> &str;

    /// What it can do. What it cannot, nobody asks of it: a coordinator that needs it is refused when it connects.
    fn capabilities(&self) -> &[Capability];

    /// The engine's clock: monotonic, also while this machine is suspended, and the same for all members if the driver has
    /// [`Capability::CommonClock`].
    fn now(&self) -> Moment;

    /// How long to trust in [`watch`](Self::watch) before looking again: reports may get lost.
    fn poll_interval(&self) -> Duration;

    /// Reads what is stored under the key, at least as new as anything this process read or wrote before.
    ///
    /// # Errors
    /// [`Unavailable`](DriverErrorKind::Unavailable) if the engine cannot be read.
    fn read(&self, key: &Key) -> Result<Stored, DriverError>;

    /// Stores `content` under the key if its version is still the one expected, on behalf of a member.
    ///
    /// Once it returned [`Done`](Swap::Done), every later read of anybody sees it, whatever process is killed at whatever
    /// instruction. After [`Unavailable`](DriverErrorKind::Unavailable) it may have been stored or not: the caller reads again.
    ///
    /// # Errors
    /// [`Lost`](DriverErrorKind::Lost) if the engine knows that the member lives no more; nothing is stored then.
    /// [`Unavailable`](DriverErrorKind::Unavailable) if the engine could not be written.
    fn compare_and_swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError>;

    /// The keys that begin with `prefix` under which something is stored, in any order.
    ///
    /// # Errors
    /// [`Unavailable`](DriverErrorKind::Unavailable) if the engine cannot be read.
    fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError>;

    /// Reports changes of the subject from before this call returns until the watch is dropped: a record that was stored anew,
    /// a member that died. May report what did not change, report several changes as one, and miss some now and then. Where it
    /// knows the version that was stored, it [says so](Reporter::report_version).
    ///
    /// # Errors
    /// [`Unavailable`](DriverErrorKind::Unavailable) if it cannot.
    fn watch(&self, subject: Subject, reporter: Reporter) -> Result<Watch, DriverError>;

    /// Takes part as a member of this name, which dies `ttl` after its last beat, if the engine has
    /// [`Capability::Leases`], or with its process.
    ///
    /// # Errors
    /// [`NameTaken`](DriverErrorKind::NameTaken) if a member of this name lives. [`Unavailable`](DriverErrorKind::Unavailable)
    /// if the engine cannot be written.
    fn join(&self, name: &str, ttl: Duration) -> Result<Box<dyn Seat>, DriverError>;

    /// Tells whether the member lives: once `false`, it never does again, and no swap on its behalf succeeds later.
    ///
    /// # Errors
    /// [`Unavailable`](DriverErrorKind::Unavailable) if the engine cannot be read.
    fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError>;

    /// The members that live.
    ///
    /// # Errors
    /// [`Unavailable`](DriverErrorKind::Unavailable) if the engine cannot be read.
    fn members(&self) -> Result<Vec<MemberId>, DriverError>;
}

/// A member's place at the engine; dropping it leaves.
pub trait Seat: fmt::Debug + Send + Sync {
    /// Who sits there.
    fn id(&self) -> &MemberId;

    /// Says that the member lives, and returns until when that holds on the driver's own clock: counted from before
    /// it was said. `None` if it holds as long as the process lives.
    ///
    /// # Errors
    /// [`Lost`](DriverErrorKind::Lost) if the member lives no more, or never did in this process, which was forked.
    /// [`Unavailable`](DriverErrorKind::Unavailable) if it could not be said; the last answer holds until its end.
    fn beat(&self) -> Result<Option<Moment>, DriverError>;

    /// Leaves: the member is dead when this returns.
    ///
    /// # Errors
    /// [`Unavailable`](DriverErrorKind::Unavailable) if it could not be said; the member dies by itself then.
    fn leave(&self) -> Result<(), DriverError>;
}

/// Something that not every engine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Members may be in several processes.
    Processes,
    /// Members may be on several hosts.
    Hosts,
    /// A member that hangs dies when its time-to-live is over. Without, it lives as long as its process.
    Leases,
    /// All members read one clock: a hold can have a lifetime of its own.
    CommonClock,
    /// Records survive that every member ends at a time.
    Persistent,
    /// What was stored survives that the machine loses power.
    PowerLoss,
}

/// The name of something stored: parts joined by `/`, whatever the parts contain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// A key's length in bytes, at most.
    pub const BYTES_MAX: usize = 1024;

    /// Joins parts to a key, so that no other parts make the same one: `/` and `%` within a part, and control characters,
    /// are percent-encoded.
    ///
    /// # Errors
    /// [`BadKey`] if there is no part, one is empty, or it all becomes longer than [`BYTES_MAX`](Self::BYTES_MAX).
    ///
    /// # Examples
    /// ```
    /// use tierlock::coordination::Key;
    ///
    /// assert_eq!(Key::of(["lock", "node", "n1"]).unwrap().as_str(), "lock/node/n1");
    /// assert_eq!(Key::of(["lock", "../etc"]).unwrap().as_str(), "lock/..%2Fetc");
    /// assert!(Key::of(["lock", ""]).is_err());
    /// ```
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p str>) -> Result<Self, BadKey> {
        let mut key = String::new();
        for (at, part) in parts.into_iter().enumerate() {
            if part.is_empty() {
                return Err(BadKey { reason: "a part of it is empty" });
            }
            if at > 0 {
                key.push('/');
            }
            encode(part, &mut key);
        }
        Self::parse(&key)
    }

    /// Reads a key as [`as_str`](Self::as_str) showed it.
    ///
    /// # Errors
    /// [`BadKey`] as [`of`](Self::of).
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        if text.is_empty() {
            return Err(BadKey { reason: "it is empty" });
        }
        if text.len() > Self::BYTES_MAX {
            return Err(BadKey { reason: "it is longer than 1024 bytes" });
        }
        if text.split('/').any(str::is_empty) || text.chars().any(char::is_control) {
            return Err(BadKey { reason: "a part of it is empty or contains control characters" });
        }
        Ok(Self(text.into()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn encode(part: &str, key: &mut String) {
    for c in part.chars() {
        if matches!(c, '/' | '%') || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                key.push_str(&format!("%{byte:02X}"));
            }
        } else {
            key.push(c);
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

/// Why something is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name to store something under: {reason}")]
pub struct BadKey {
    reason: &'static str,
}

/// Which of the contents of a key: greater than all before it, never the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// Nothing was ever stored.
    pub const ABSENT: Self = Self(0);
}

/// The size in bytes of what is stored under one key, at most: of the records of locks a sixteenth.
pub(crate) const CONTENT_BYTES_MAX: usize = 16 << 20;

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which of its contents; [`ABSENT`](Version::ABSENT) if and only if there is none.
    pub version: Version,
    /// The content.
    pub content: Option<Vec<u8>>,
}

/// What became of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// Stored, as this version.
    Done(Version),
    /// Not stored: somebody else stored something meanwhile.
    Conflict,
}

/// What can be watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// What is stored under a key.
    Record(Key),
    /// Whether a member lives.
    Member(MemberId),
}

/// Where a driver reports what changed. Reporting never blocks.
#[derive(Clone)]
pub struct Reporter(Arc<Hears>);

/// Hears of what changed, and as which version it was stored if that is known.
type Hears = dyn Fn(&Subject, Option<Version>) + Send + Sync;

impl Reporter {
    /// Reports to `hears`, which must not block, nor call the driver.
    pub fn new(hears: impl Fn(&Subject) + Send + Sync + 'static) -> Self {
        Self::of_versions(move |subject, _| hears(subject))
    }

    /// As [`new`](Self::new), for one who makes something of the version, where it is known.
    pub(crate) fn of_versions(
        hears: impl Fn(&Subject, Option<Version>) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(hears))
    }

    /// Says that the subject changed, or may have.
    pub fn report(&self, subject: &Subject) {
        (self.0)(subject, None);
    }

    /// Says that a record changed, and as which version it was stored, or a later one by now. Whoever stored or saw that one need
    /// not look again: a driver that knows the version spares members a read for each of their own swaps.
    pub fn report_version(&self, subject: &Subject, version: Version) {
        (self.0)(subject, Some(version));
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}

/// A subject is watched as long as this is kept.
pub struct Watch(Option<Box<dyn FnOnce() + Send>>);

impl Watch {
    /// A watch that `end` ends.
    pub fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
