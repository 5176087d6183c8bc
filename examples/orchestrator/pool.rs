//! Who runs next: jobs that have arrived and wait for nobody, the most urgent first, then the first to come.
//!
//! A job that waits for its time or for other jobs occupies no worker. Nobody polls: workers wait for jobs, and the
//! timekeeper waits for the next thing that happens at a certain time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tierlock::ganeti::{Attempt, Attempts};

use crate::clock::{self, Clock};
use crate::workload::{self, JobIndex, Workload};

/// Ganeti's jobs take seconds to minutes, those of the files milliseconds: its timeouts shrink likewise.
const TIMEOUT_SCALE: f64 = 1.0 / 1000.0;

pub(crate) struct Pool {
    state: Mutex<State>,
    /// Told when a worker has something to do, or to stop for.
    work: Condvar,
    /// Told when there is something new for the timekeeper.
    agenda: Condvar,
    /// Told to those who sleep when all is to stop.
    stop: Condvar,
}

struct State {
    jobs: Vec<Entry>,
    /// By priority, then by when they came (back).
    ready: BTreeMap<(i32, u64), JobIndex>,
    places_given: u64,
    /// What happens at a certain time, the next first.
    agenda: BinaryHeap<Reverse<(Instant, usize, Due)>>,
    unfinished: usize,
    stopping: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A job arrives, or has backed off long enough.
    Arrival(JobIndex),
    Priority(JobIndex, i32),
}

struct Entry {
    /// Jobs that must end first, and one more until it has arrived.
    waits_for: usize,
    dependents: Vec<JobIndex>,
    /// Where it is in the queue.
    place: Option<u64>,
    attempts: Attempts,
    attempts_made: u32,
    ready: Option<Instant>,
    finished: bool,
}

/// A job handed to a worker.
pub(crate) struct Assignment {
    pub(crate) job: JobIndex,
    pub(crate) attempt: Attempt,
    /// Counted from 1.
    pub(crate) number: u32,
    /// When it had arrived and all it waited for had ended.
    pub(crate) ready: Instant,
}

impl Pool {
    /// A pool in which nothing has arrived yet.
    pub(crate) fn new(workload: &Workload<'_>, clock: &Clock) -> Self {
        let timeout_scale = TIMEOUT_SCALE * clock.wait_scale();
        let jobs: Vec<Entry> = workload
            .jobs
            .iter()
            .zip(workload::dependents(&workload.jobs))
            .map(|(job, dependents)| Entry {
                waits_for: job.deps.len() + 1,
                dependents,
                place: None,
                attempts: Attempts::new(job.priority).scaled(timeout_scale),
                attempts_made: 0,
                ready: None,
                finished: false,
            })
            .collect();
        let arrivals = workload.jobs.iter().enumerate();
        let arrivals = arrivals.map(|(job, it)| (it.submitted, Due::Arrival(job)));
        let changes = workload.priority_changes.iter();
        let changes = changes.map(|change| (change.at, Due::Priority(change.job, change.priority)));
        // What falls on one instant happens in the order of the file.
        let agenda = arrivals.chain(changes).enumerate();
        let agenda = agenda.map(|(order, (at, due))| Reverse((clock.at(at), order, due))).collect();
        let unfinished = jobs.len();
        let state = State {
            jobs,
            ready: BTreeMap::new(),
            places_given: 0,
            agenda,
            unfinished,
            stopping: false,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            agenda: Condvar::new(),
            stop: Condvar::new(),
        }
    }

    /// Waits for a job to run; `None` when there will be no more. `jitter` gives a number from -1 to 1.
    pub(crate) fn take(&self, jitter: impl Fn(JobIndex, u32) -> f64) -> Option<Assignment> {
        let mut state = self.state.lock();
        loop {
            if state.unfinished == 0 || state.stopping {
                return None;
            }
            if let Some((_, job)) = state.ready.pop_first() {
                let entry = &mut state.jobs[job];
                entry.place = None;
                entry.attempts_made += 1;
                let number = entry.attempts_made;
                let attempt = entry.attempts.next(jitter(job, number));
                let ready = *entry.ready.get_or_insert_with(clock::now);
                return Some(Assignment { job, attempt, number, ready });
            }
            self.work.wait(&mut state);
        }
    }

    /// Takes back a job whose attempt failed: it waits behind its equals.
    pub(crate) fn put_back(&self, job: JobIndex) {
        self.state.lock().make_ready(job);
        self.work.notify_one();
    }

    /// Takes back a job that is not to be tried again before `until`.
    pub(crate) fn put_off(&self, job: JobIndex, until: Instant) {
        let mut state = self.state.lock();
        state.jobs[job].waits_for = 1;
        state.agenda.push(Reverse((until, 0, Due::Arrival(job))));
        self.agenda.notify_one();
    }

    /// Ends a job, and lets those go that wait for it.
    pub(crate) fn finish(&self, job: JobIndex) {
        let mut state = self.state.lock();
        state.jobs[job].finished = true;
        for dependent in std::mem::take(&mut state.jobs[job].dependents) {
            if state.wait_less(dependent) {
                self.work.notify_one();
            }
        }
        state.unfinished -= 1;
        if state.unfinished == 0 {
            self.work.notify_all();
            self.agenda.notify_one();
        }
    }

    /// The present priority of a job.
    pub(crate) fn priority(&self, job: JobIndex) -> i32 {
        self.state.lock().jobs[job].attempts.priority()
    }

    /// Lets things happen at their time, until all jobs have ended or all is to stop.
    pub(crate) fn keep_time(&self) {
        let mut state = self.state.lock();
        while state.unfinished > 0 && !state.stopping {
            match state.agenda.peek() {
                None => self.agenda.wait(&mut state),
                Some(&Reverse((at, ..))) if at > clock::now() => {
                    self.agenda.wait_until(&mut state, at);
                }
                Some(_) => {
                    let Some(Reverse((_, _, due))) = state.agenda.pop() else { continue };
                    if state.happen(due) {
                        self.work.notify_one();
                    }
                }
            }
        }
    }

    /// Hands out no more jobs and ends all sleep.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_all();
        self.agenda.notify_all();
        self.stop.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// Sleeps until `until`, or until all is to stop.
    pub(crate) fn sleep_until(&self, until: Instant) {
        let mut state = self.state.lock();
        while !state.stopping && !self.stop.wait_until(&mut state, until).timed_out() {}
    }
}

impl State {
    /// Lets something happen; tells whether there is one more job to run.
    fn happen(&mut self, due: Due) -> bool {
        match due {
            Due::Arrival(job) => self.wait_less(job),
            Due::Priority(job, priority) => {
                self.change_priority(job, priority);
                false
            }
        }
    }

    /// The job waits for one thing less; tells whether that was the last.
    fn wait_less(&mut self, job: JobIndex) -> bool {
        let entry = &mut self.jobs[job];
        entry.waits_for -= 1;
        let ready = entry.waits_for == 0;
        if ready {
            self.make_ready(job);
        }
        ready
    }

    fn make_ready(&mut self, job: JobIndex) {
        let place = self.places_given;
        self.places_given += 1;
        let entry = &mut self.jobs[job];
        entry.place = Some(place);
        entry.ready.get_or_insert_with(clock::now);
        self.ready.insert((entry.attempts.priority(), place), job);
    }

    /// A job in the queue is sorted anew, and keeps its place among equals.
    fn change_priority(&mut self, job: JobIndex, priority: i32) {
        let entry = &mut self.jobs[job];
        if entry.finished {
            return;
        }
        let before = entry.attempts.priority();
        entry.attempts.set_priority(priority);
        if let Some(place) = entry.place {
            self.ready.remove(&(before, place));
            self.ready.insert((priority, place), job);
        }
    }
}
