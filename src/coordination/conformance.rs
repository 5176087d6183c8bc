//! What a driver has to keep to, and what users rely on whatever the driver, as claims that can be checked on a running engine.
//!
//! [`driver`] checks the contract of a [`Driver`]: it stores, swaps, reports, and knows who lives. [`coordinator`] checks what
//! stands on that: locks of members that exclude each other, wait in line, are upgraded, lost and told of, in one process and, if there is
//! a way to start [`Processes`], in several, some of which are killed. Whoever writes a driver runs both, in this order:
//!
//! ```
//! use std::sync::Arc;
//! use tierlock::coordination::conformance::{self, Processes};
//! use tierlock::coordination::memory::Memory; // in place of a driver of one's own
//!
//! # fn main() {
//! let store = Memory::new();
//! let connect = move || Arc::new(store.clone()) as _;
//! conformance::driver(connect.clone());
//! let report = conformance::coordinator(connect, Processes::none());
//! println!("{report}"); // what was skipped, and why
//! # }
//! ```
//!
//! A claim is a function named as what it claims, and holds, is broken, or is skipped: because the driver does not say that it can do
//! that, or since there is no other process to be had. All of them use keys and names of their own, so that an engine may have been
//! used before, and be in use; what they store stays there. They wait for what has to happen and sleep for nothing; what does not
//! happen within 20 seconds breaks a claim, with a word about what was awaited, and so does a claim that does not come to an end.
//!
//! # The claims
#![doc = include_str!("conformance/claims.md")]

mod changing;
mod exclusion;
mod fencing;
mod hindered;
mod loss;
mod members;
mod order;
mod peer;
mod processes;
mod program;
mod report;
mod storing;
mod waiting;
mod watching;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use self::program::{Processes, child};
pub use self::report::{Report, Skipped};
use super::{Capability, Driver, Key, MemberId, Seat, Stored, Swap, Version};
use crate::clock;

/// Checks that a driver keeps to everything that is claimed of drivers, as far as it says that it can. Takes some seconds.
///
/// `connect` connects anew to one engine each time it is called.
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
/// conformance::driver(move || Arc::new(store.clone()));
/// ```
pub fn driver(connect: impl Fn() -> Arc<dyn Driver> + Send + Sync + 'static) -> Report {
    check_driver(connect, |_| true).expect_kept()
}

/// Checks those of the claims of [`driver`] that `chosen` chooses by their names, and says what came of it.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tierlock::coordination::{Capability, conformance, memory::Memory};
///
/// let store = Memory::new();
/// let report = conformance::check_driver(move || Arc::new(store.clone()), |claim| claim.contains("survives"));
/// let why = conformance::Skipped::Without(Capability::Persistent);
/// assert_eq!(report.skipped, [("what_was_stored_survives_all_who_use_it", why)]);
/// ```
pub fn check_driver(
    connect: impl Fn() -> Arc<dyn Driver> + Send + Sync + 'static,
    chosen: impl Fn(&str) -> bool,
) -> Report {
    Suite::new(connect, Processes::none()).check(DRIVER, chosen)
}

/// Checks what users of a [`Coordinator`](super::Coordinator) rely on, over a driver that keeps to its contract: see [`driver`]. Takes
/// some seconds, and more where members die by a time-to-live.
///
/// `connect` connects anew to one engine each time it is called. `processes` says how another process is started that takes part: see
/// [`Processes`].
///
/// # Panics
/// If a claim is broken: with the names of all that are.
///
/// # Examples
/// See the [module](self), and [`Processes`].
pub fn coordinator(
    connect: impl Fn() -> Arc<dyn Driver> + Send + Sync + 'static,
    processes: Processes,
) -> Report {
    check_coordinator(connect, processes, |_| true).expect_kept()
}

/// Checks those of the claims of [`coordinator`] that `chosen` chooses by their names, and says what came of it.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tierlock::coordination::conformance::{self, Processes};
/// use tierlock::coordination::memory::Memory;
///
/// let store = Memory::new();
/// let connect = move || Arc::new(store.clone()) as _;
/// let report = conformance::check_coordinator(connect, Processes::none(), |claim| claim.contains("kill"));
/// assert!(report.kept.is_empty() && !report.skipped.is_empty(), "{report}");
/// ```
pub fn check_coordinator(
    connect: impl Fn() -> Arc<dyn Driver> + Send + Sync + 'static,
    processes: Processes,
    chosen: impl Fn(&str) -> bool,
) -> Report {
    Suite::new(connect, processes).check(COORDINATOR, chosen)
}

/// Claims of one kind, under what they are about.
type Theme = (&'static str, &'static [Claim]);

/// What is claimed of drivers.
const DRIVER: &[Theme] = &[
    ("reading, swapping and listing", storing::CLAIMS),
    ("watches", watching::CLAIMS),
    ("who lives", members::CLAIMS),
];

/// What is claimed of members that share locks, whatever the driver.
const COORDINATOR: &[Theme] = &[
    ("who may hold at a time", exclusion::CLAIMS),
    ("who goes next", order::CLAIMS),
    ("waiting, and giving it up", waiting::CLAIMS),
    ("changing the mode", changing::CLAIMS),
    ("fencing tokens", fencing::CLAIMS),
    ("members that are lost", loss::CLAIMS),
    ("several processes", processes::CLAIMS),
];

/// Something that is claimed of every engine, or of those of which it can be asked.
struct Claim {
    name: &'static str,
    /// Of which engines.
    of: Of,
    check: fn(&Ground),
}

/// Of which engines something is claimed.
#[derive(Clone, Copy)]
enum Of {
    All,
    /// Those that have this capability.
    With(Capability),
    /// Those that do not.
    Without(Capability),
}

/// The list of the claims that these functions check.
macro_rules! claims {
    ($($check:ident $(if $needs:ident)? $(unless $lacks:ident)?),* $(,)?) => {
        &[$($crate::coordination::conformance::Claim {
            name: stringify!($check),
            of: claims!(@ $(if $needs)? $(unless $lacks)?),
            check: $check,
        }),*]
    };
    (@ if $needs:ident) => {
        $crate::coordination::conformance::Of::With($crate::coordination::Capability::$needs)
    };
    (@ unless $lacks:ident) => {
        $crate::coordination::conformance::Of::Without($crate::coordination::Capability::$lacks)
    };
    (@) => { $crate::coordination::conformance::Of::All };
}
use claims;

/// An engine under test, and how to get at it.
struct Suite {
    connect: Box<dyn Fn() -> Arc<dyn Driver> + Send + Sync>,
    processes: Processes,
    /// What no other run has.
    run: String,
    /// How long one claim may take.
    limit: Duration,
}

impl Suite {
    fn new(
        connect: impl Fn() -> Arc<dyn Driver> + Send + Sync + 'static,
        processes: Processes,
    ) -> Arc<Self> {
        let connect = Box::new(connect);
        Arc::new(Self { connect, processes, run: unique(), limit: LIMIT })
    }

    fn check(self: &Arc<Self>, themes: &[Theme], chosen: impl Fn(&str) -> bool) -> Report {
        let (driver, capabilities) = self.introduce();
        let mut report = Report { driver, ..Report::default() };
        let claims = themes.iter().flat_map(|(_, claims)| *claims);
        for claim in claims.filter(|claim| chosen(claim.name)) {
            match self.skips(claim, &capabilities) {
                Some(why) => report.skipped.push((claim.name, why)),
                None => report.note(claim.name, self.try_out(claim)),
            }
        }
        report
    }

    /// Name and capabilities of the driver, of which none is kept.
    fn introduce(&self) -> (String, Vec<Capability>) {
        let driver = (self.connect)();
        (driver.name().to_owned(), driver.capabilities().to_vec())
    }

    /// Why this engine cannot be asked whether the claim holds, if so.
    fn skips(&self, claim: &Claim, capabilities: &[Capability]) -> Option<Skipped> {
        match claim.of {
            Of::With(needed) if !capabilities.contains(&needed) => Some(Skipped::Without(needed)),
            Of::With(Capability::Processes) if self.processes.is_none() => Some(Skipped::NoProgram),
            Of::Without(had) if capabilities.contains(&had) => Some(Skipped::With(had)),
            _ => None,
        }
    }

    /// Checks a claim, in a thread of its own: one that does not come to an end is left behind.
    fn try_out(self: &Arc<Self>, claim: &Claim) -> Result<(), String> {
        let ground = Ground { suite: Arc::clone(self), claim: claim.name };
        let check = claim.check;
        report::outcome_within(self.limit, move || check(&ground))
    }
}

/// What one claim is checked on.
struct Ground {
    suite: Arc<Suite>,
    claim: &'static str,
}

/// Longer than any claim takes.
const TTL: Duration = Duration::from_secs(120);

/// Short enough to wait until it is over.
const TTL_SHORT: Duration = Duration::from_secs(1);

/// How long a claim waits for what has to happen; nothing waits so long that happens.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a claim may take: several times what it waits for one thing.
const LIMIT: Duration = Duration::from_secs(120);

impl Ground {
    fn connect(&self) -> Arc<dyn Driver> {
        (self.suite.connect)()
    }

    /// Two connections to one engine.
    fn connect_twice(&self) -> (Arc<dyn Driver>, Arc<dyn Driver>) {
        (self.connect(), self.connect())
    }

    /// A key that nobody else uses.
    fn key(&self, name: &str) -> Key {
        Key::of([&*self.suite.run, self.claim, name]).expect("a short name makes a key")
    }

    /// A name that nobody else has.
    fn name(&self, name: &str) -> String {
        format!("{}-{}-{name}", self.suite.run, self.claim)
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

#[cfg(test)]
mod tests;
