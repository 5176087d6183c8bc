//! A claim about drivers that no driver could break would say nothing: for each there is one here that does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tierlock::coordination::conformance::check_driver;
use tierlock::coordination::memory::Memory;
use tierlock::coordination::{
    Capability, Driver, DriverError, DriverErrorKind, Key, MemberId, Moment, Reporter, Seat,
    Stored, Subject, Swap, Version, Watch,
};

/// What is wrong with a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
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
}

/// Every bug, and the claims that it breaks; perhaps others as well.
#[rustfmt::skip]
const BUGS: &[(Bug, &[&str])] = &[
    (Bug::NameOfEachConnection, &["a_driver_says_what_it_is"]),
    (Bug::ClockJumpsBack, &["the_clock_never_goes_back"]),
    (Bug::ClockInSeconds, &["the_clock_goes_on_in_milliseconds"]),
    (Bug::ClockOfEachConnection, &["the_clock_is_common_to_all_connections"]),
    (Bug::EmptyAtFirst, &["nothing_is_stored_at_first"]),
    (Bug::EmptyIsNothing, &["any_bytes_can_be_stored"]),
    (Bug::ReadsWhatItReadFirst, &["what_was_swapped_is_read_by_everybody", "a_read_is_as_new_as_every_swap_done_before", "who_missed_every_report_sees_all_by_polling"]),
    (Bug::SwapsWhateverIsThere, &["a_swap_that_expects_another_version_changes_nothing", "of_those_who_swap_at_a_time_one_is_done", "increments_at_a_time_are_all_counted"]),
    (Bug::VersionsComeAgain, &["no_version_comes_again"]),
    (Bug::KeysInLowerCase, &["each_key_has_its_own_content"]),
    (Bug::KeysOfTheSameFolder, &["keys_are_listed_by_prefix"]),
    (Bug::ForgetsWhenUnused, &["what_was_stored_survives_all_who_use_it"]),
    (Bug::FirstReportIsMissing, &["a_watch_begins_before_it_is_returned", "a_watch_reports_that_a_member_died"]),
    (Bug::ReportsOnce, &["a_watch_reports_one_change_after_another"]),
    (Bug::WatchesDoNotEnd, &["a_watch_that_was_dropped_reports_no_more"]),
    (Bug::PollsWithoutPause, &["who_missed_every_report_sees_all_by_polling"]),
    (Bug::TakesAnotherName, &["a_name_that_lives_is_taken", "of_those_who_join_at_a_time_one_is_seated"]),
    (Bug::NamesInLowerCase, &["any_name_is_a_name_of_its_own"]),
    (Bug::OneDiesAllDie, &["members_of_one_process_live_and_die_apart"]),
    (Bug::LeavesLater, &["who_left_is_dead_at_once_and_for_ever", "who_drops_its_seat_dies"]),
    (Bug::LivesAreAlike, &["who_joins_again_is_somebody_else", "who_left_is_dead_at_once_and_for_ever"]),
    (Bug::LeavesByName, &["leaving_twice_is_leaving_once"]),
    (Bug::EverybodyLives, &["who_never_joined_does_not_live"]),
    (Bug::NobodyIsListed, &["who_joined_lives_under_its_name"]),
    (Bug::BeatsOfTheDeadCount, &["a_beat_of_the_dead_is_lost"]),
    (Bug::SwapsForEverybody, &["nothing_is_swapped_for_the_dead", "who_never_joined_does_not_live"]),
    (Bug::TrustsTooLong, &["a_beat_says_until_when_its_member_lives"]),
    (Bug::DiesInSpiteOfItsProcess, &["who_does_not_beat_lives_as_long_as_its_process"]),
    (Bug::BeatsAreIgnored, &["who_beats_in_time_lives"]),
    (Bug::NeverDies, &["who_does_not_beat_dies"]),
];

#[test]
fn each_claim_is_broken_by_a_driver_that_has_a_bug() {
    thread::scope(|scope| {
        for (bug, claims) in BUGS {
            scope.spawn(move || {
                let engine = Engine::new(*bug);
                let report = check_driver(|| engine.connect(), |claim| claims.contains(&claim));
                let broken: BTreeSet<_> = report.broken.iter().map(|(claim, _)| *claim).collect();
                assert_eq!(broken, claims.iter().copied().collect(), "{bug:?}: {report}");
            });
        }
    });
}

#[test]
fn every_claim_has_a_bug_that_breaks_it() {
    let none = Engine::new(Bug::None);
    let listed = Mutex::new(BTreeSet::new());
    check_driver(
        || none.connect(),
        |claim| {
            listed.lock().insert(claim.to_owned());
            false
        },
    );
    let broken = BUGS.iter().flat_map(|(_, claims)| claims.iter().map(|claim| (*claim).to_owned()));
    assert_eq!(broken.collect::<BTreeSet<_>>(), listed.into_inner());
}

#[test]
#[should_panic(expected = "1 broken\n  no version comes again: ")]
fn a_suite_that_finds_a_bug_says_which_claim_does_not_hold() {
    let engine = Engine::new(Bug::VersionsComeAgain);
    let report = check_driver(|| engine.connect(), |claim| claim == "no_version_comes_again");
    panic!("{report}");
}

/// An engine to which drivers with a bug connect.
#[derive(Clone)]
struct Engine {
    bug: Bug,
    /// None if it is gone whenever nobody uses it.
    store: Option<Memory>,
    shared: Arc<Shared>,
}

/// What connections to one engine have in common.
#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    reads: AtomicU64,
    somebody_left: AtomicU64,
    seats: Mutex<BTreeMap<String, Arc<dyn Seat>>>,
}

impl Engine {
    fn new(bug: Bug) -> Self {
        let store = (bug != Bug::ForgetsWhenUnused).then(Memory::new);
        Self { bug, store, shared: Arc::default() }
    }

    fn connect(&self) -> Arc<dyn Driver> {
        let inner = self.store.clone().unwrap_or_else(|| Memory::named("forgetful"));
        let number = self.shared.connections.fetch_add(1, Relaxed);
        let name = match self.bug {
            Bug::NameOfEachConnection => format!("buggy:{number}"),
            _ => "buggy:".to_owned(),
        };
        let (bug, shared) = (self.bug, Arc::clone(&self.shared));
        let (swaps, first_reads) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Buggy { bug, inner, name, number, shared, swaps, first_reads })
    }
}

struct Buggy {
    bug: Bug,
    inner: Memory,
    name: String,
    number: u64,
    shared: Arc<Shared>,
    swaps: AtomicU64,
    first_reads: Mutex<BTreeMap<Key, Stored>>,
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
        if self.bug == Bug::PollsWithoutPause { Duration::ZERO } else { self.inner.poll_interval() }
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
        let key = self.key(key);
        let by = self.by(by).unwrap_or_else(|| by.clone());
        loop {
            let current = self.inner.read(&key)?.version;
            let is_expected = self.version(current) == expected;
            if !is_expected && self.bug != Bug::SwapsWhateverIsThere {
                return Ok(Swap::Conflict);
            }
            match self.inner.compare_and_swap(&key, current, content, &by)? {
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
        if matches!(self.bug, Bug::LeavesByName | Bug::LeavesLater) {
            shared.seats.lock().insert(name.to_owned(), Arc::clone(&inner));
        }
        Ok(Box::new(BuggySeat {
            bug: self.bug,
            id,
            inner,
            ttl,
            driver: self.inner.clone(),
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
    driver: Memory,
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
        let of_this_name = self.shared.seats.lock().get(&**self.id.name()).cloned();
        of_this_name.as_ref().unwrap_or(&self.inner).leave()
    }
}
