//! The hands of a member: a thread that settles resources when there is news of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;

use super::driver::Driver;
use super::resource::Resource;
use crate::core::record::Moment;

/// Knows which resources to settle, now and later. Keeps none of them alive.
pub(crate) struct Agent {
    news: Sender<Weak<Resource>>,
    due: Mutex<BTreeMap<(Moment, u64), Weak<Resource>>>,
    number: AtomicU64,
    min_hold_ms: u64,
}

impl Agent {
    /// An agent, and what its hands have to work at.
    pub(crate) fn new(min_hold: Duration) -> (Arc<Self>, Receiver<Weak<Resource>>) {
        let (news, work) = unbounded();
        let agent = Self {
            news,
            due: Mutex::default(),
            number: AtomicU64::new(0),
            min_hold_ms: min_hold.as_millis() as u64,
        };
        (Arc::new(agent), work)
    }

    /// Has it settled soon. Never blocks.
    pub(crate) fn ring(&self, resource: &Weak<Resource>) {
        let _ = self.news.send(Weak::clone(resource));
    }

    /// Has it settled at that moment, or before.
    pub(crate) fn ring_at(&self, at: Moment, resource: &Resource, me: &Weak<Resource>) {
        let mut due = self.due.lock();
        let mut alarm = resource.alarm.lock();
        match *alarm {
            Some((earlier, _)) if earlier <= at => return,
            Some(later) => drop(due.remove(&later)),
            None => {}
        }
        let entry = (at, self.number.fetch_add(1, Ordering::Relaxed));
        *alarm = Some(entry);
        due.insert(entry, Weak::clone(me));
        if due.first_key_value().is_some_and(|(first, _)| *first == entry) {
            // Whoever sleeps has to know that it is sooner now.
            let _ = self.news.send(Weak::new());
        }
    }

    pub(crate) fn min_hold_ms(&self) -> u64 {
        self.min_hold_ms
    }

    /// Settles what is due; returns when something is next.
    pub(crate) fn settle_due(&self, now: Moment) -> Option<Moment> {
        loop {
            let resource = {
                let mut due = self.due.lock();
                let ((at, _), _) = due.first_key_value()?;
                if *at > now {
                    return Some(*at);
                }
                let resource = due.pop_first()?.1.upgrade();
                if let Some(resource) = &resource {
                    *resource.alarm.lock() = None;
                }
                resource
            };
            if let Some(resource) = resource {
                let _ = resource.settle(false);
            }
        }
    }
}

/// Settles a resource that is there still. Why it could not be, its waiters were told.
fn settle(resource: &Weak<Resource>) {
    if let Some(resource) = resource.upgrade() {
        let _ = resource.settle(false);
    }
}

/// Works until the agent is gone.
pub(crate) fn employ(
    agent: &Arc<Agent>,
    work: Receiver<Weak<Resource>>,
    driver: Arc<dyn Driver>,
) -> std::io::Result<()> {
    let agent = Arc::downgrade(agent);
    let hands = move || while work_once(&agent, &work, &*driver) {};
    thread::Builder::new().name("tierlock-agent".into()).spawn(hands).map(drop)
}

fn work_once(agent: &Weak<Agent>, work: &Receiver<Weak<Resource>>, driver: &dyn Driver) -> bool {
    let Some(next) = agent.upgrade().map(|agent| agent.settle_due(driver.now())) else {
        return false;
    };
    let news = match next {
        None => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(at) => {
            let pause = Duration::from_millis(at.0.saturating_sub(driver.now().0));
            work.recv_timeout(pause)
        }
    };
    match news {
        Ok(resource) => settle(&resource),
        Err(RecvTimeoutError::Timeout) => {}
        Err(RecvTimeoutError::Disconnected) => return false,
    }
    true
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("due", &self.due.lock().len()).finish_non_exhaustive()
    }
}
