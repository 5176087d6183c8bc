//! Who runs next: jobs that have arrived and wait for nobody, the most urgent first, then the first to come.
//!
//! A job that waits for its time or for other jobs occupies no worker. Nobody polls: workers, be they threads or tasks, wait
//! for jobs or sleep while they work, and the timekeeper waits for the next thing that happens at a certain time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tierlock::ganeti::{Attempt, Attempts};
use tokio::sync::{Semaphore, oneshot};

use crate::clock::{self, Clock};
use crate::workload::{self, JobIndex, Workload};

/// Ganeti's jobs take seconds to minutes, those of the files milliseconds: its timeouts shrink likewise.
const TIMEOUT_SCALE: f64 = 1.0 / 1000.0;

pub(crate) struct Pool {
    state: Mutex<State>,
    /// A permit for each job in the queue that no worker was promised; closed when no more jobs are handed out.
    ready: Semaphore,
    /// Told when there is something new for the timekeeper.
    agenda: Condvar,
}

struct State {
    jobs: Vec<Entry>,
    /// By priority, then by when they came (back).
    ready: BTreeMap<(i32, u64), JobIndex>,
    places_given: u64,
    /// What happens at a certain time, the next first.
    agenda: BinaryHeap<Reverse<(Instant, usize, Due)>>,
    sleepers: HashMap<SleepId, Sleeper>,
    sleeps_begun: SleepId,
    unfinished: usize,
    stopping: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A job arrives, or has backed off long enough.
    Arrival(JobIndex),
    Priority(JobIndex, i32),
    /// A worker has slept long enough.
    Waking(SleepId),
}

type SleepId = u64;

/// Wakes who sleeps; so does dropping it.
type Sleeper = oneshot::Sender<()>;

/// What workers have to be told, when the state is not locked any more.
enum News {
    JobReady,
    SleepOver(Sleeper),
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
            sleepers: HashMap::new(),
            sleeps_begun: 0,
            unfinished,
            stopping: false,
        };
        let ready = Semaphore::new(0);
        if unfinished == 0 {
            ready.close();
        }
        Self { state: Mutex::new(state), ready, agenda: Condvar::new() }
    }

    /// Waits for a job to run; `None` when there will be no more.
    pub(crate) async fn take(&self) -> Option<JobIndex> {
        self.ready.acquire().await.ok()?.forget();
        let mut state = self.state.lock();
        if state.stopping {
            return None;
        }
        let (_, job) = state.ready.pop_first().expect("there are no more permits than jobs");
        state.jobs[job].place = None;
        drop(state);
        Some(job)
    }

    /// Begins an attempt at a job that is ready. `jitter` gives a number from -1 to 1.
    pub(crate) fn begin(&self, job: JobIndex, jitter: impl Fn(JobIndex, u32) -> f64) -> Assignment {
        let mut state = self.state.lock();
        let entry = &mut state.jobs[job];
        entry.attempts_made += 1;
        let number = entry.attempts_made;
        let attempt = entry.attempts.next(jitter(job, number));
        let ready = *entry.ready.get_or_insert_with(clock::now);
        Assignment { job, attempt, number, ready }
    }

    /// Counts jobs as ended that another process did.
    pub(crate) fn finish_elsewhere(&self, jobs: &[JobIndex]) {
        let mut state = self.state.lock();
        for &job in jobs {
            let entry = &mut state.jobs[job];
            if !std::mem::replace(&mut entry.finished, true) {
                state.unfinished -= 1;
            }
        }
        let is_last = state.unfinished == 0;
        drop(state);
        if is_last {
            self.ready.close();
            self.agenda.notify_all();
        }
    }

    /// Takes back a job whose attempt failed: it waits behind its equals.
    pub(crate) fn put_back(&self, job: JobIndex) {
        self.state.lock().make_ready(job);
        self.ready.add_permits(1);
    }

    /// Takes back a job that is not to be tried again before `until`.
    pub(crate) fn put_off(&self, job: JobIndex, until: Instant) {
        let mut state = self.state.lock();
        state.jobs[job].waits_for = 1;
        state.agenda.push(Reverse((until, 0, Due::Arrival(job))));
        self.agenda.notify_all();
    }

    /// Ends a job, and lets those go that wait for it.
    pub(crate) fn finish(&self, job: JobIndex) {
        let mut state = self.state.lock();
        state.jobs[job].finished = true;
        let dependents = std::mem::take(&mut state.jobs[job].dependents);
        let ready = dependents.into_iter().filter(|&dependent| state.wait_less(dependent)).count();
        state.unfinished -= 1;
        let is_last = state.unfinished == 0;
        drop(state);
        self.ready.add_permits(ready);
        if is_last {
            self.ready.close();
            self.agenda.notify_all();
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
                    let news = state.happen(due);
                    MutexGuard::unlocked(&mut state, || match news {
                        Some(News::JobReady) => self.ready.add_permits(1),
                        Some(News::SleepOver(sleeper)) => drop(sleeper),
                        None => {}
                    });
                }
            }
        }
    }

    /// Hands out no more jobs and ends all sleep.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        let sleepers = std::mem::take(&mut state.sleepers);
        drop(state);
        drop(sleepers);
        self.ready.close();
        self.agenda.notify_all();
    }

    /// Lets so much time pass; tells whether there is anything left to do then.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let (until, mut state) = (clock::now() + pause, self.state.lock());
        while state.unfinished > 0 && !state.stopping {
            if self.agenda.wait_until(&mut state, until).timed_out() {
                return true;
            }
        }
        false
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// Sleeps until `until`, or until all is to stop.
    pub(crate) async fn sleep_until(&self, until: Instant) {
        if let Some(awake) = self.begin_sleep(until) {
            // Nothing is sent: the end of the channel says that the sleep is over.
            let _ = awake.await;
        }
    }

    /// `None` if there is no time to sleep.
    fn begin_sleep(&self, until: Instant) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state.lock();
        if state.stopping || until <= clock::now() {
            return None;
        }
        let (sleeper, awake) = oneshot::channel();
        state.sleep(until, sleeper);
        drop(state);
        self.agenda.notify_all();
        Some(awake)
    }
}

impl State {
    /// Lets something happen, which may be news for a worker.
    fn happen(&mut self, due: Due) -> Option<News> {
        match due {
            Due::Arrival(job) => self.wait_less(job).then_some(News::JobReady),
            Due::Priority(job, priority) => {
                self.change_priority(job, priority);
                None
            }
            Due::Waking(id) => self.sleepers.remove(&id).map(News::SleepOver),
        }
    }

    /// Has `sleeper` woken at `until`.
    fn sleep(&mut self, until: Instant, sleeper: Sleeper) {
        let id = self.sleeps_begun;
        self.sleeps_begun += 1;
        self.sleepers.insert(id, sleeper);
        self.agenda.push(Reverse((until, 0, Due::Waking(id))));
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use pollster::block_on;
    use smol::future::poll_once;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn empty_pool() -> Pool {
        let workload = Workload { jobs: Vec::new(), priority_changes: Vec::new() };
        Pool::new(&workload, &Clock::start(1.0))
    }

    #[test]
    fn a_pool_without_jobs_keeps_nobody_waiting() {
        let pool = empty_pool();
        pool.keep_time();
        assert!(block_on(pool.take()).is_none());
    }

    #[test]
    fn a_stop_ends_sleep_and_lets_nobody_begin_to() {
        let pool = empty_pool();
        let until = clock::now() + LONG;
        let mut sleep = pin!(pool.sleep_until(until));
        assert!(block_on(poll_once(&mut sleep)).is_none());
        pool.stop();
        assert!(block_on(poll_once(&mut sleep)).is_some());
        assert!(block_on(poll_once(pool.sleep_until(until))).is_some());
    }

    #[test]
    fn what_is_past_is_not_slept_for() {
        let pool = empty_pool();
        assert!(block_on(poll_once(pool.sleep_until(clock::now()))).is_some());
    }

    #[test]
    fn sleep_ends_at_its_time_and_not_before() {
        let pool = empty_pool();
        // One job that never ends keeps the timekeeper at work.
        pool.state.lock().unfinished = 1;
        let times = [20, 10].map(|ms| clock::now() + Duration::from_millis(ms));
        std::thread::scope(|scope| {
            let workers = times.map(|until| {
                let pool = &pool;
                scope.spawn(move || {
                    block_on(pool.sleep_until(until));
                    clock::now()
                })
            });
            scope.spawn(|| pool.keep_time());
            let woken = workers.map(|worker| worker.join().expect("no panic"));
            pool.stop();
            assert!(woken.iter().zip(&times).all(|(woken, until)| woken >= until));
        });
    }
}
