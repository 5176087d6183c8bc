//! Which locks are waited for most, learned from the spans that the library emits while somebody waits.
//!
//! A request for several locks counts for the first that it has to wait for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

/// Counts waits by lock. A layer of `tracing`, cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contention(Arc<Mutex<HashMap<String, (u64, Duration)>>>);

/// How often, and how long altogether, a lock was waited for.
#[derive(Debug)]
pub(crate) struct Contended {
    pub(crate) lock: String,
    pub(crate) waits: u64,
    pub(crate) waited: Duration,
}

impl Contention {
    /// The `count` locks waited for most often.
    pub(crate) fn top(&self, count: usize) -> Vec<Contended> {
        let locks = self.0.lock();
        let contended = locks.iter();
        let contended = contended.map(|(lock, &(waits, waited))| Contended {
            lock: lock.clone(),
            waits,
            waited,
        });
        let mut top: Vec<Contended> = contended.collect();
        top.sort_by(|a, b| b.waits.cmp(&a.waits).then_with(|| a.lock.cmp(&b.lock)));
        top.truncate(count);
        top
    }
}

/// A wait under way.
struct Wait {
    lock: String,
    since: Instant,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Contention {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_span() && metadata.target().starts_with("tierlock") && metadata.name() == "wait"
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut name = LockName::default();
        attributes.record(&mut name);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Wait { lock: name.0, since: clock::now() });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(Wait { lock, since }) = span.extensions_mut().remove() else { return };
        let mut locks = self.0.lock();
        let (waits, waited) = locks.entry(lock).or_default();
        *waits += 1;
        *waited += since.elapsed();
    }
}

/// Picks the field `lock` of a span.
#[derive(Default)]
struct LockName(String);

impl Visit for LockName {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "lock" {
            self.0 = format!("{value:?}");
        }
    }
}
