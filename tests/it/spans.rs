//! What tracing sees of a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tierlock::{Error, LockSet, Owner, SharedLock, exclusive, ssynchronized};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down each span: its name and fields.
#[derive(Clone, Default)]
struct Notes {
    spans: Arc<Mutex<Vec<String>>>,
    ids: Arc<AtomicU64>,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tierlock")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(span.metadata().name().to_owned());
        span.record(&mut line);
        self.spans.lock().unwrap().push(line.0);
        Id::from_u64(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn spans_of(act: impl FnOnce()) -> Vec<String> {
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), act);
    let spans = notes.spans.lock().unwrap();
    spans.clone()
}

#[test]
fn a_request_that_need_not_wait_makes_no_span() {
    let (lock, owner) = (SharedLock::new("config"), Owner::new("job"));
    let spans = spans_of(|| drop(lock.exclusive(&owner).wait().unwrap()));
    assert_eq!(spans, [""; 0]);
}

#[test]
fn a_request_that_waits_makes_one_span_that_says_who_waits_for_what() {
    let (lock, holder, owner) = (SharedLock::new("config"), Owner::new("a"), Owner::new("b"));
    let _guard = lock.shared(&holder).now().unwrap();
    let spans = spans_of(|| {
        let request = lock.exclusive(&owner).priority(-5);
        assert!(request.timeout(Duration::from_millis(2)).wait().unwrap_err().is_timeout());
    });
    assert_eq!(spans, [r#"wait owner="b" lock=config mode=exclusive priority=-5"#]);
}

#[test]
fn an_annotated_function_is_traced_by_the_name_of_its_lock_and_not_by_the_template() {
    #[ssynchronized("share-{id}", in = locks, shared, timeout = "2ms")]
    fn grow(locks: &LockSet, id: u32) -> Result<(), Error> {
        Ok(())
    }

    let (locks, holder, owner) = (LockSet::on_demand("shares"), Owner::new("a"), Owner::new("b"));
    let _guard = locks.acquire(&holder, exclusive("share-7")).now().unwrap();
    let spans = spans_of(|| assert!(owner.sync_scope(|| grow(&locks, 7)).is_err()));
    assert_eq!(spans, [r#"wait owner="b" lock=shares/share-7 mode=shared priority=0"#]);
}
