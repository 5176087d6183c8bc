//! Times that no thread of the caller's waits for: deadlines and ageing of requests that are awaited, selected on or polled.
//!
//! One thread for all of them, started by the first that needs it, and gone when none was set for a while. So the library needs
//! no runtime, and whoever sets no time pays for none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

// Not the facade's: models have no clock, and set no timer.
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::clock;

/// How long the thread outlives its last timer: requests come in bursts, and starting a thread costs more than a waiting one.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Something to be done at a certain time.
pub(crate) trait Alarm: Send + Sync {
    /// Does what is due at `at`; returns when there is more to do.
    fn on_time(self: Arc<Self>, at: Instant) -> Option<Instant>;
}

/// An alarm that is set; dropping it unsets it.
#[derive(Debug)]
pub(crate) struct Timer(u64);

impl Timer {
    /// Calls the alarm at `at`, if it is still there then.
    ///
    /// # Errors
    /// If the thread that keeps time cannot be started.
    pub(crate) fn set(at: Instant, alarm: Weak<dyn Alarm>) -> io::Result<Self> {
        let mut state = TIMERS.state.lock();
        if !state.runs {
            thread::Builder::new().name("tierlock-timer".to_owned()).spawn(|| TIMERS.run())?;
            state.runs = true;
        }
        let (id, is_next) = state.set(at, alarm);
        drop(state);
        if is_next {
            TIMERS.changed.notify_one();
        }
        Ok(Self(id))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        TIMERS.state.lock().unset(self.0);
    }
}

static TIMERS: Timers = Timers {
    state: Mutex::new(State {
        due: BTreeSet::new(),
        alarms: BTreeMap::new(),
        ever_set: 0,
        runs: false,
    }),
    changed: Condvar::new(),
};

struct Timers {
    state: Mutex<State>,
    /// Told when there is a new first time.
    changed: Condvar,
}

struct State {
    /// When to call which alarm; one that is being called is not in here.
    due: BTreeSet<(Instant, u64)>,
    alarms: BTreeMap<u64, (Instant, Weak<dyn Alarm>)>,
    ever_set: u64,
    /// There is a thread.
    runs: bool,
}

impl Timers {
    /// The life of the thread.
    fn run(&self) {
        let mut state = self.state.lock();
        while let Some((at, id)) = self.next(&mut state) {
            let alarm = state.alarms.get(&id).and_then(|(_, alarm)| alarm.upgrade());
            let next = MutexGuard::unlocked(&mut state, || {
                // A subscriber of `tracing` may panic in there, and others still wait for their time.
                catch_unwind(AssertUnwindSafe(|| alarm?.on_time(at))).unwrap_or(None)
            });
            if let Some(next) = next {
                state.set_again(id, next);
            }
        }
    }

    /// Waits until something is due, and takes it out; `None` if nothing was set for a while.
    fn next(&self, state: &mut MutexGuard<'_, State>) -> Option<(Instant, u64)> {
        loop {
            match state.due.first() {
                Some(&(at, _)) if at <= clock::now() => return state.due.pop_first(),
                Some(&(at, _)) => drop(self.changed.wait_until(state, at)),
                None => {
                    let idle = self.changed.wait_for(state, IDLE_MAX).timed_out();
                    if idle && state.due.is_empty() {
                        state.runs = false;
                        return None;
                    }
                }
            }
        }
    }
}

impl State {
    /// Returns the number of the alarm, and whether it is the next one.
    fn set(&mut self, at: Instant, alarm: Weak<dyn Alarm>) -> (u64, bool) {
        self.ever_set += 1;
        let id = self.ever_set;
        self.alarms.insert(id, (at, alarm));
        self.due.insert((at, id));
        (id, self.due.first() == Some(&(at, id)))
    }

    /// Sets an alarm for its next time, unless it was unset while it was called.
    fn set_again(&mut self, id: u64, next: Instant) {
        if let Some((at, _)) = self.alarms.get_mut(&id) {
            *at = next;
            self.due.insert((next, id));
        }
    }

    fn unset(&mut self, id: u64) {
        if let Some((at, _)) = self.alarms.remove(&id) {
            self.due.remove(&(at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Sender, unbounded};

    const LONG: Duration = Duration::from_secs(60);

    /// Writes down when it was called, and wants to be called so many times more.
    struct Bell {
        calls: Sender<Instant>,
        more: Mutex<u32>,
        every: Duration,
    }

    impl Alarm for Bell {
        fn on_time(self: Arc<Self>, at: Instant) -> Option<Instant> {
            self.calls.send(at).unwrap();
            let mut more = self.more.lock();
            *more = more.checked_sub(1)?;
            Some(at + self.every)
        }
    }

    fn bell(calls: &Sender<Instant>, more: u32) -> Arc<dyn Alarm> {
        let every = Duration::from_millis(1);
        Arc::new(Bell { calls: calls.clone(), more: Mutex::new(more), every })
    }

    #[test]
    fn an_alarm_is_called_at_each_of_its_times_in_turn() {
        let (calls, called) = unbounded();
        let alarm = bell(&calls, 2);
        let start = clock::now();
        let _timer = Timer::set(start, Arc::downgrade(&alarm)).unwrap();
        for count in 0..3 {
            let at = start + Duration::from_millis(count);
            assert_eq!(called.recv_timeout(LONG), Ok(at));
            assert!(clock::now() >= at);
        }
    }

    #[test]
    fn the_nearer_of_two_times_comes_first() {
        let (calls, called) = unbounded();
        let alarms = [bell(&calls, 0), bell(&calls, 0)];
        let start = clock::now();
        let times = [20, 10].map(|ms| start + Duration::from_millis(ms));
        let _timers: Vec<_> = times
            .iter()
            .zip(&alarms)
            .map(|(at, alarm)| Timer::set(*at, Arc::downgrade(alarm)).unwrap())
            .collect();
        assert_eq!(called.recv_timeout(LONG), Ok(times[1]));
        assert_eq!(called.recv_timeout(LONG), Ok(times[0]));
    }

    #[test]
    fn an_alarm_unset_is_not_called_and_leaves_nothing_behind() {
        let (calls, called) = unbounded();
        let (alarm, last) = (bell(&calls, 0), bell(&calls, 0));
        let soon = clock::now() + Duration::from_millis(5);
        let timer = Timer::set(soon, Arc::downgrade(&alarm)).unwrap();
        let id = timer.0;
        drop(timer);
        assert!(!TIMERS.state.lock().alarms.contains_key(&id));
        let later = soon + Duration::from_millis(1);
        let _timer = Timer::set(later, Arc::downgrade(&last)).unwrap();
        assert_eq!(called.recv_timeout(LONG), Ok(later));
    }
}
