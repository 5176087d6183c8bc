//! What a driver has to keep to, as claims that can be checked on a running engine.
//!
//! Each claim is a function named as what it claims. All of them use keys and names of their own, so that an engine may have
//! been used before, and be in use; what they store stays there.

mod members;
mod storing;
mod watching;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Capability, Driver, Key, MemberId, Seat, Stored, Swap, Version};
use crate::clock;

/// Checks that a driver keeps to everything that is claimed of drivers, as far as it says that it can. Takes some seconds.
///
/// `connect` connects anew to one engine each time it is called. What needs several processes is not checked.
///
/// # Panics
/// If the driver breaks a claim: with the names of all that it breaks.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tierlock::coordination::{conformance, memory::Memory};
///
/// let store = Memory::new();
/// conformance::driver(|| Arc::new(store.clone()));
/// ```
pub fn driver(connect: impl Fn() -> Arc<dyn Driver>) {
    let report = check_driver(connect, |_| true);
    assert!(report.broken.is_empty(), "{report}");
}

/// Checks those of the claims of [`driver`] that `chosen` chooses by their names, and says what came of it.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tierlock::coordination::{Capability, conformance, memory::Memory};
///
/// let store = Memory::new();
/// let report = conformance::check_driver(|| Arc::new(store.clone()), |claim| claim.contains("survives"));
/// assert_eq!(report.kept.len() + report.broken.len(), 0);
/// assert!(report.skipped.iter().all(|skipped| skipped.1 == Capability::Persistent), "{report}");
/// ```
pub fn check_driver(
    connect: impl Fn() -> Arc<dyn Driver>,
    chosen: impl Fn(&str) -> bool,
) -> Report {
    let engine = Engine { connect: &connect, run: unique() };
    let mut report = Report { driver: connect().name().to_owned(), ..Report::default() };
    let claims = storing::CLAIMS.iter().chain(watching::CLAIMS).chain(members::CLAIMS);
    for claim in claims.filter(|claim| chosen(claim.name)) {
        report.check(claim, &engine);
    }
    report
}

/// What came of a suite.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The engine, as its driver names it.
    pub driver: String,
    /// The claims that were found to hold.
    pub kept: Vec<&'static str>,
    /// Those that were not checked since the driver says that it cannot do that.
    pub skipped: Vec<(&'static str, Capability)>,
    /// Those that do not hold, each with what happened instead.
    pub broken: Vec<(&'static str, String)>,
}

impl Report {
    fn check(&mut self, claim: &Claim, engine: &Engine<'_>) {
        if let Some(needed) = claim.needs.filter(|needed| !engine.can(*needed)) {
            self.skipped.push((claim.name, needed));
            return;
        }
        let ground = Ground { engine, claim: claim.name };
        match catch_unwind(AssertUnwindSafe(|| (claim.check)(&ground))) {
            Ok(()) => self.kept.push(claim.name),
            Err(panic) => self.broken.push((claim.name, message(&*panic))),
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked without saying why".to_owned())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kept, skipped) = (self.kept.len(), self.skipped.len());
        let broken = self.broken.len();
        write!(f, "{}: {kept} claims kept, {skipped} skipped, {broken} broken", self.driver)?;
        for (claim, why) in &self.broken {
            write!(f, "\n  {}: {why}", claim.replace('_', " "))?;
        }
        Ok(())
    }
}

/// Something that is claimed of every driver, or of those that have a capability.
struct Claim {
    name: &'static str,
    needs: Option<Capability>,
    check: fn(&Ground<'_>),
}

/// The list of the claims that these functions check.
macro_rules! claims {
    ($($check:ident $(if $needs:ident)?),* $(,)?) => {
        &[$($crate::coordination::conformance::Claim {
            name: stringify!($check),
            needs: claims!(@ $($needs)?),
            check: $check,
        }),*]
    };
    (@ $needs:ident) => { Some($crate::coordination::Capability::$needs) };
    (@) => { None };
}
use claims;

/// The engine under test.
struct Engine<'e> {
    connect: &'e dyn Fn() -> Arc<dyn Driver>,
    /// What no other run has.
    run: String,
}

impl Engine<'_> {
    fn can(&self, capability: Capability) -> bool {
        (self.connect)().capabilities().contains(&capability)
    }
}

/// What one claim is checked on.
struct Ground<'e> {
    engine: &'e Engine<'e>,
    claim: &'static str,
}

/// Longer than any claim takes.
const TTL: Duration = Duration::from_secs(120);

/// Short enough to wait until it is over.
const TTL_SHORT: Duration = Duration::from_secs(1);

/// How long a claim waits for what has to happen; nothing waits so long that happens.
const PATIENCE: Duration = Duration::from_secs(20);

impl Ground<'_> {
    fn connect(&self) -> Arc<dyn Driver> {
        (self.engine.connect)()
    }

    /// Two connections to one engine.
    fn connect_twice(&self) -> (Arc<dyn Driver>, Arc<dyn Driver>) {
        (self.connect(), self.connect())
    }

    /// A key that nobody else uses.
    fn key(&self, name: &str) -> Key {
        Key::of([&*self.engine.run, self.claim, name]).expect("a short name makes a key")
    }

    /// A name that no other member has.
    fn name(&self, name: &str) -> String {
        format!("{}-{}-{name}", self.engine.run, self.claim)
    }

    /// Somebody to swap for.
    fn member(&self, driver: &dyn Driver) -> Box<dyn Seat> {
        self.join(driver, "member", TTL)
    }

    fn join(&self, driver: &dyn Driver, name: &str, ttl: Duration) -> Box<dyn Seat> {
        driver.join(&self.name(name), ttl).expect("a name that nobody has can be joined with")
    }
}

fn unique() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let (process, time) = (std::process::id(), clock::common_ms());
    format!("conformance-{process:x}-{time:x}-{}", RUNS.fetch_add(1, Ordering::Relaxed))
}

fn read(driver: &dyn Driver, key: &Key) -> Stored {
    driver.read(key).expect("what is stored can be read")
}

fn alive(driver: &dyn Driver, member: &MemberId) -> bool {
    driver.is_alive(member).expect("who lives can be read")
}

fn swap(driver: &dyn Driver, key: &Key, expected: Version, content: &[u8], by: &MemberId) -> Swap {
    driver.compare_and_swap(key, expected, content, by).expect("somebody alive can swap")
}

/// Swaps where nobody else does.
fn store(
    driver: &dyn Driver,
    key: &Key,
    expected: Version,
    content: &[u8],
    by: &MemberId,
) -> Version {
    match swap(driver, key, expected, content, by) {
        Swap::Done(version) => version,
        Swap::Conflict => panic!("a conflict at {key}, although nobody else swaps there"),
    }
}

/// What is stored already has changed: swaps again, whatever is there.
fn change(driver: &dyn Driver, key: &Key, by: &MemberId) -> Version {
    store(driver, key, read(driver, key).version, b"changed", by)
}

/// Waits until something is so, looking again and again.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = within(PATIENCE);
    while !is_so() {
        assert!(clock::now() < deadline, "{what}: not so for {PATIENCE:?}");
        pause(Duration::from_millis(5));
    }
}

fn within(time: Duration) -> Instant {
    clock::now() + time
}

/// Lets others go on for about that long.
fn pause(time: Duration) {
    thread::park_timeout(time);
}
