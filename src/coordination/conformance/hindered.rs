//! A connection on which something gets lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::{
    Capability, Driver, DriverError, DriverErrorKind, Key, MemberId, Moment, Reporter, Seat,
    Stored, Subject, Swap, Version, Watch,
};

/// Over another driver, what it does, but for what is lost.
#[derive(Clone, Debug)]
pub(super) struct Hindered {
    driver: Arc<dyn Driver>,
    lost: Lost,
}

/// What is lost.
#[derive(Clone, Debug)]
enum Lost {
    /// Every report of a watch.
    Reports,
    /// What a member says of itself, from some moment on, as if its process hung.
    Beats(Arc<AtomicBool>),
}

impl Hindered {
    /// One that hears no report.
    pub(super) fn deaf(driver: Arc<dyn Driver>) -> Arc<Self> {
        Arc::new(Self { driver, lost: Lost::Reports })
    }

    /// One whose members hang as soon as the switch says so.
    pub(super) fn hanging(driver: Arc<dyn Driver>) -> (Arc<Self>, Arc<AtomicBool>) {
        let hangs = Arc::new(AtomicBool::new(false));
        (Arc::new(Self { driver, lost: Lost::Beats(Arc::clone(&hangs)) }), hangs)
    }
}

impl Driver for Hindered {
    fn name(&self) -> &str {
        self.driver.name()
    }

    fn capabilities(&self) -> &[Capability] {
        self.driver.capabilities()
    }

    fn now(&self) -> Moment {
        self.driver.now()
    }

    fn poll_interval(&self) -> Duration {
        self.driver.poll_interval()
    }

    fn read(&self, key: &Key) -> Result<Stored, DriverError> {
        self.driver.read(key)
    }

    fn compare_and_swap(
        &self,
        key: &Key,
        expected: Version,
        content: &[u8],
        by: &MemberId,
    ) -> Result<Swap, DriverError> {
        self.driver.compare_and_swap(key, expected, content, by)
    }

    fn keys(&self, prefix: &str) -> Result<Vec<Key>, DriverError> {
        self.driver.keys(prefix)
    }

    fn watch(&self, subject: Subject, reporter: Reporter) -> Result<Watch, DriverError> {
        let reporter = match self.lost {
            Lost::Reports => Reporter::new(|_| ()),
            Lost::Beats(_) => reporter,
        };
        self.driver.watch(subject, reporter)
    }

    fn join(&self, name: &str, ttl: Duration) -> Result<Box<dyn Seat>, DriverError> {
        let seat = self.driver.join(name, ttl)?;
        Ok(match &self.lost {
            Lost::Reports => seat,
            Lost::Beats(hangs) => Box::new(HangingSeat { seat, hangs: Arc::clone(hangs) }),
        })
    }

    fn is_alive(&self, member: &MemberId) -> Result<bool, DriverError> {
        self.driver.is_alive(member)
    }

    fn members(&self) -> Result<Vec<MemberId>, DriverError> {
        self.driver.members()
    }
}

#[derive(Debug)]
struct HangingSeat {
    seat: Box<dyn Seat>,
    hangs: Arc<AtomicBool>,
}

impl HangingSeat {
    fn check(&self) -> Result<(), DriverError> {
        if !self.hangs.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(DriverError::new(DriverErrorKind::Unavailable, "this member hangs"))
    }
}

impl Seat for HangingSeat {
    fn id(&self) -> &MemberId {
        self.seat.id()
    }

    fn beat(&self) -> Result<Option<Moment>, DriverError> {
        self.check()?;
        self.seat.beat()
    }

    fn leave(&self) -> Result<(), DriverError> {
        self.check()?;
        self.seat.leave()
    }
}
