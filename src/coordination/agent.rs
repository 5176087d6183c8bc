//! The hands of a member: a thread that settles resources when there is news of them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;

use super::driver::Driver;
use super::registry::Registry;
use super::resource::{Leftover, Resource};
use crate::core::record::Moment;
use crate::listeners::alone;

/// Knows which resources to settle, now and later. Keeps none of them alive.
pub(crate) struct Agent {
    resources: Registry,
    /// What is still to be said of resources that are no more, and when.
    left: Mutex<Vec<(Moment, Leftover)>>,
    news: Sender<News>,
    due: Mutex<BTreeMap<(Moment, u64), Weak<Resource>>>,
    number: AtomicU64,
    min_hold_ms: u64,
}

/// What the hands have to do at once.
pub(crate) enum News {
    /// It may have something to do.
    Of(Weak<Resource>),
    /// Something is due sooner than they sleep.
    Sooner,
    /// Nobody uses it any more: what was granted of it is given back.
    Retired(Arc<Resource>),
}

impl Agent {
    /// An agent, and who is to do its work.
    pub(crate) fn new(min_hold: Duration, driver: Arc<dyn Driver>) -> (Arc<Self>, Hands) {
        let (news, work) = unbounded();
        let agent = Arc::new(Self {
            resources: Registry::default(),
            left: Mutex::default(),
            news,
            due: Mutex::default(),
            number: AtomicU64::new(0),
            min_hold_ms: min_hold.as_millis() as u64,
        });
        let hands = Hands { agent: Arc::downgrade(&agent), work, driver };
        (agent, hands)
    }

    pub(crate) fn resources(&self) -> &Registry {
        &self.resources
    }

    /// Has every resource settled soon.
    pub(crate) fn ring_all(&self) {
        self.resources.all().iter().for_each(|resource| resource.ring());
    }

    /// Says what is left of a resource, again and again until it is said.
    pub(crate) fn say(&self, leftover: Leftover) {
        if let Some(again) = self.try_to_say(leftover) {
            self.left.lock().push(again);
            // Whoever sleeps has to know that it is sooner now.
            let _ = self.news.send(News::Sooner);
        }
    }

    fn try_to_say(&self, mut leftover: Leftover) -> Option<(Moment, Leftover)> {
        let error = leftover.say(self).err()?;
        // The member's end gives back what it had.
        if error.is_lost() {
            return None;
        }
        tracing::warn!(resource = %leftover.name(), %error, "is given back later");
        Some((leftover.next(&error), leftover))
    }

    /// Says what is due of resources that are no more; returns when the next is.
    fn say_due(&self, now: Moment) -> Option<Moment> {
        let is_due = |(at, _): &mut (Moment, Leftover)| *at <= now;
        let due: Vec<_> = self.left.lock().extract_if(.., is_due).collect();
        let again: Vec<_> = due.into_iter().filter_map(|(_, left)| self.try_to_say(left)).collect();
        let mut left = self.left.lock();
        left.extend(again);
        left.iter().map(|(at, _)| *at).min()
    }

    /// Has it settled soon. Never blocks.
    pub(crate) fn ring(&self, resource: &Weak<Resource>) {
        let _ = self.news.send(News::Of(Weak::clone(resource)));
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
            let _ = self.news.send(News::Sooner);
        }
    }

    /// Has it dropped by the hands, since that goes to the engine.
    pub(crate) fn retire(&self, resource: Arc<Resource>) {
        let _ = self.news.send(News::Retired(resource));
    }

    pub(crate) fn min_hold_ms(&self) -> u64 {
        self.min_hold_ms
    }

    /// Settles what is due; returns when something is next.
    pub(crate) fn settle_due(&self, now: Moment) -> Option<Moment> {
        let left = self.say_due(now);
        let next = self.settle_resources_due(now);
        left.into_iter().chain(next).min()
    }

    fn settle_resources_due(&self, now: Moment) -> Option<Moment> {
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

/// Who does the work of an agent.
pub(crate) struct Hands {
    agent: Weak<Agent>,
    work: Receiver<News>,
    driver: Arc<dyn Driver>,
}

impl Hands {
    /// Has a thread do the work until the agent is gone.
    pub(crate) fn employ(self) -> io::Result<()> {
        let works = move || while self.work_and_wait() {};
        thread::Builder::new().name("tierlock-agent".into()).spawn(works).map(drop)
    }

    fn work_and_wait(&self) -> bool {
        let Some(agent) = self.agent.upgrade() else { return false };
        let mut next = None;
        alone(|| next = agent.settle_due(self.driver.now()));
        drop(agent);
        let news = match next {
            None => self.work.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => {
                let pause = at.0.saturating_sub(self.driver.now().0);
                self.work.recv_timeout(Duration::from_millis(pause))
            }
        };
        match news {
            // A subscriber of traces is the caller's code, too.
            Ok(news) => alone(|| news.handle()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Does what there is to do now; tells whether there was any news.
    #[cfg(test)]
    pub(crate) fn work(&self) -> bool {
        if let Some(agent) = self.agent.upgrade() {
            agent.settle_due(self.driver.now());
        }
        self.work.try_recv().map(News::handle).is_ok()
    }
}

impl News {
    fn handle(self) {
        match self {
            Self::Of(resource) => {
                if let Some(resource) = resource.upgrade() {
                    resource.answer();
                }
            }
            Self::Sooner => {}
            Self::Retired(resource) => drop(resource),
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("due", &self.due.lock().len()).finish_non_exhaustive()
    }
}
