//! What came of a suite.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::super::Capability;

/// What came of a suite.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The engine, as its driver names it.
    pub driver: String,
    /// The claims that were found to hold.
    pub kept: Vec<&'static str>,
    /// Those that were not checked, each with why.
    pub skipped: Vec<(&'static str, Skipped)>,
    /// Those that do not hold, each with what happened instead.
    pub broken: Vec<(&'static str, String)>,
}

/// Why a claim was not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Skipped {
    /// It is claimed of drivers that have this capability, and this one does not.
    Without(Capability),
    /// It is claimed of drivers that do not have this capability, and this one does.
    With(Capability),
    /// It takes another process, and there is no way to start one: see [`Processes`](super::Processes).
    NoProgram,
}

impl Report {
    pub(super) fn note(&mut self, claim: &'static str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.kept.push(claim),
            Err(why) => self.broken.push((claim, why)),
        }
    }

    /// # Panics
    /// If a claim is broken.
    #[track_caller]
    pub(super) fn expect_kept(self) -> Self {
        assert!(self.broken.is_empty(), "{self}");
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kept, skipped) = (self.kept.len(), self.skipped.len());
        let broken = self.broken.len();
        write!(f, "{}: {kept} claims kept, {skipped} skipped, {broken} broken", self.driver)?;
        for (claim, why) in &self.broken {
            write!(f, "\n  {}: {why}", claim.replace('_', " "))?;
        }
        for (claim, why) in &self.skipped {
            write!(f, "\n  {}: skipped, {why}", claim.replace('_', " "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Without(capability) => write!(f, "since the driver is without {capability:?}"),
            Self::With(capability) => write!(f, "since the driver has {capability:?}"),
            Self::NoProgram => f.write_str("since there is no program to start another process of"),
        }
    }
}

/// What comes of a check in a thread of its own, which is left behind if it takes longer than `limit`.
pub(super) fn outcome_within(
    limit: Duration,
    check: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    let (says, hears) = bounded(1);
    let checks = move || {
        let outcome = catch_unwind(AssertUnwindSafe(check));
        let _ = says.send(outcome.map_err(|panic| message(&*panic)));
    };
    let thread = thread::Builder::new().name("conformance".into()).spawn(checks);
    thread.map_err(|error| format!("no thread to check it in: {error}"))?;
    let endless = |_| Err(format!("it did not come to an end within {limit:?}"));
    hears.recv_timeout(limit).unwrap_or_else(endless)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked without saying why".to_owned())
}
