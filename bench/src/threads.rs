//! Threads that do something at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::{nanoseconds, now, own_time};

/// Operations in a nanosecond, and how much of the time they were at it together.
pub(crate) struct Pace {
    pub(crate) rate: f64,
    pub(crate) share: f64,
}

/// All threads at once; what they do adds up.
pub(crate) fn together<O: FnMut(bool)>(
    threads: usize,
    batch: Duration,
    make: &(impl Fn(usize) -> O + Sync),
) -> Pace {
    let meeting = Meeting { threads, batch, ..Meeting::default() };
    let attend = |index| meeting.attend(make(index), index == 0);
    let visits: Vec<Visit> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|index| {
                let attend = &attend;
                scope.spawn(move || attend(index))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    Pace { rate: visits.iter().map(Visit::rate).sum(), share: share(&visits) }
}

/// Where threads wait for each other to begin, and are told to stop.
#[derive(Default)]
struct Meeting {
    threads: usize,
    batch: Duration,
    arrived: AtomicUsize,
    over: AtomicBool,
}

/// What one of them did.
struct Visit {
    begun: Instant,
    ended: Instant,
    ran: Duration,
    done: u32,
}

impl Meeting {
    /// The leader says when to stop.
    fn attend(&self, mut operation: impl FnMut(bool), leads: bool) -> Visit {
        // So many between two looks at the clock that it does not count.
        const CHUNK: u32 = 64;
        operation(true);
        self.arrived.fetch_add(1, Ordering::Relaxed);
        while self.arrived.load(Ordering::Relaxed) < self.threads {
            // To sleep until all are there would have them wake one after the other.
            thread::yield_now();
        }
        let (begun, own, mut done) = (now(), own_time(), 0);
        while !self.over.load(Ordering::Relaxed) {
            (0..CHUNK).for_each(|_| operation(false));
            done += CHUNK;
            if leads && begun.elapsed() >= self.batch {
                self.over.store(true, Ordering::Relaxed);
            }
        }
        Visit { begun, ended: now(), ran: own_time() - own, done }
    }
}

impl Visit {
    fn rate(&self) -> f64 {
        f64::from(self.done) / nanoseconds(self.ended - self.begun)
    }
}

/// How much of the time, from when the first came until the last went, all of them ran.
fn share(visits: &[Visit]) -> f64 {
    let begun = (visits.iter().map(|visit| visit.begun).min()).expect("somebody came");
    let ended = (visits.iter().map(|visit| visit.ended).max()).expect("somebody came");
    let ran = (visits.iter().map(|visit| visit.ran).min()).expect("somebody came");
    nanoseconds(ran) / nanoseconds(ended - begun)
}
