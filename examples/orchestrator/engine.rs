//! The engine: a pool of jobs, the workers that run them, and all that they share.

use std::fmt;
use std::time::Duration;

use indicatif::ProgressBar;
use parking_lot::RwLock;
use tierlock::ganeti::PRIORITY_MIN;
use tierlock::{Ageing, LockManager};

use crate::board::{Board, Share};
use crate::clock::{self, Clock};
use crate::cluster::Cluster;
use crate::job::{Attempt, Patience};
use crate::names::{Name, NameTable};
use crate::opcodes::Opcodes;
use crate::pool::{Assignment, Pool};
use crate::record::Recorder;
use crate::runner::Runner;
use crate::setback::Setback;
use crate::summary::Tally;
use crate::workload::{JobIndex, Workload};

/// How long a patient job takes to become one step more urgent, counted from when it could begin: from the least urgent to the
/// most in 80 ms, which is what few jobs should wait.
const AGEING_INTERVAL: Duration = Duration::from_millis(2);

/// How long a patient attempt lasts before it gives everything back and begins anew, as urgent as it has become: ten times
/// what most jobs hold their locks, since what it has keeps others waiting meanwhile, an exclusive BGL above all.
const PATIENCE: Duration = Duration::from_millis(40);

/// How long a job that found too few locks free lets others work before it looks again: about as long as a job lasts.
const BACK_OFF: Duration = Duration::from_millis(5);

/// How often a process looks what the others do: well below a second, in which the jobs of one that died are to go on.
const BOARD_PAUSE: Duration = Duration::from_millis(100);

/// How to wait for locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// One budget for each attempt. When it is used up all is given back, and the job queues again.
    Ganeti,
    /// Who waits becomes more urgent, and begins anew only after a long time. Requests for all of a level let others pass at
    /// first.
    Patient,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ganeti => "ganeti",
            Self::Patient => "patient",
        })
    }
}

/// What the workers share.
pub(crate) struct Engine<'e> {
    pub(crate) manager: LockManager,
    pub(crate) opcodes: &'e Opcodes,
    pub(crate) workload: &'e Workload<'e>,
    pub(crate) names: &'e NameTable,
    /// The name of the lock that comes before all others.
    pub(crate) root: Name,
    pub(crate) cluster: RwLock<Cluster>,
    pub(crate) pool: &'e Pool,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) runner: Runner,
    pub(crate) strategy: Strategy,
    pub(crate) seed: u64,
    /// Where several processes share the cluster.
    pub(crate) board: Option<Board>,
}

impl Engine<'_> {
    /// Runs all jobs, or as many as can be begun before the pool is told to stop.
    pub(crate) fn run(&self, workers: usize, progress: &ProgressBar) -> Tally {
        std::thread::scope(|scope| {
            let threads = self.runner.spawn(scope, workers, || self.work(progress));
            if let Some(board) = &self.board {
                scope.spawn(|| self.watch_board(board));
            }
            self.pool.keep_time();
            let mut total = Tally::default();
            for thread in threads {
                match thread.join() {
                    Ok(tallies) => tallies.into_iter().for_each(|tally| total.add(tally)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            total
        })
    }

    /// The life of a worker.
    async fn work(&self, progress: &ProgressBar) -> Tally {
        let _stop_all = StopOnPanic(self.pool);
        let mut tally = Tally::default();
        let jitter = |job, number| jitter(self.seed, job, number);
        while let Some(job) = self.pool.take().await {
            if !self.is_ours(job) {
                continue;
            }
            let assignment = self.pool.begin(job, jitter);
            let began = clock::now();
            let patience = self.patience(&assignment);
            let result = Attempt::new(self, &assignment, patience, &mut tally).run().await;
            self.settle(&assignment, &result, &mut tally, progress);
            tally.busy += began.elapsed();
        }
        tally
    }

    /// Tells whether a job is this process's to do.
    fn is_ours(&self, job: JobIndex) -> bool {
        let share = self.board.as_ref().map_or(Ok(Share::Ours), |board| board.share(job));
        share.is_ok_and(|share| share == Share::Ours)
    }

    /// Looks at the board from time to time, as long as there is something to do.
    fn watch_board(&self, board: &Board) {
        while self.pool.pause(BOARD_PAUSE) {
            if board.look(self.pool).is_err() {
                // Whoever is lost hears of it; whatever else it was may be over next time.
                continue;
            }
        }
    }

    fn patience(&self, assignment: &Assignment) -> Patience {
        match (self.strategy, assignment.attempt.timeout) {
            (Strategy::Ganeti, Some(timeout)) => Patience::Until(clock::now() + timeout),
            // Ganeti's last attempt blocks. It is the most urgent there is, so it does not age.
            (Strategy::Ganeti, None) => Patience::Ageing(self.ageing()),
            (Strategy::Patient, _) => {
                let deadline = clock::now() + self.clock.scaled_wait(PATIENCE);
                Patience::AgeingUntil(self.ageing(), deadline)
            }
        }
    }

    fn ageing(&self) -> Ageing {
        Ageing::every(self.ageing_interval()).floor(PRIORITY_MIN)
    }

    /// By how many steps a job becomes more urgent that waits so long.
    pub(crate) fn steps_aged(&self, waited: Duration) -> i32 {
        let steps = waited.as_micros() / self.ageing_interval().as_micros().max(1);
        i32::try_from(steps).unwrap_or(i32::MAX)
    }

    fn ageing_interval(&self) -> Duration {
        self.clock.scaled_wait(AGEING_INTERVAL)
    }

    fn settle(
        &self,
        assignment: &Assignment,
        result: &Result<(), Setback>,
        tally: &mut Tally,
        progress: &ProgressBar,
    ) {
        let job = assignment.job;
        tally.attempted(assignment.number, result);
        match result {
            Err(Setback::TimedOut) => self.pool.put_back(job),
            Err(Setback::TooFew) => {
                self.pool.put_off(job, clock::now() + self.clock.scaled_wait(BACK_OFF));
            }
            Ok(()) | Err(Setback::Failed(_)) => {
                self.pool.finish(job);
                // Where that cannot be said, others do the job again when this process is gone.
                let _ = self.board.as_ref().map(|board| board.finish(job));
                progress.inc(1);
            }
        }
    }
}

/// Lets nobody wait for a worker that is no more.
struct StopOnPanic<'p>(&'p Pool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// A number from -1 to 1 that depends on nothing but these, so that a run can be repeated (splitmix64).
fn jitter(seed: u64, job: usize, attempt: u32) -> f64 {
    let mut bits = seed ^ ((job as u64) << 32) ^ u64::from(attempt);
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use crate::checker::{Checker, Verdict};
    use crate::input::Source;
    use crate::{cluster, opcodes, workload};

    use super::*;

    /// Plays the shipped jobs, which all arrive at once and take no time; returns how many ended, too.
    fn play(runner: Runner, strategy: Strategy) -> (u64, Verdict) {
        let mut names = NameTable::default();
        let root = names.intern(tierlock::ganeti::BGL);
        let opcodes = Source::new("o.json", include_str!("../data/opcodes.json"));
        let opcodes = opcodes::read(&opcodes).expect("well formed");
        let cluster = Source::new("c.json", include_str!("../data/cluster-small.json"));
        let (cluster, catalogue) = cluster::read(&cluster, &mut names).expect("well formed");
        let jobs = Source::new("j.json", include_str!("../data/jobs-small.json"));
        let workload = workload::read(&jobs, &opcodes, &catalogue, &mut names);
        let workload = workload.expect("well formed");
        let clock = Clock::start(0.0);
        let engine = Engine {
            manager: crate::manager_of(&cluster, &names, None).expect("no name is there twice"),
            opcodes: &opcodes,
            workload: &workload,
            names: &names,
            root,
            cluster: RwLock::new(cluster),
            pool: &Pool::new(&workload, &clock),
            recorder: Recorder::new(Checker::default(), None, clock),
            clock,
            runner,
            strategy,
            seed: 1,
            board: None,
        };
        let progress = ProgressBar::hidden();
        engine.run(25, &progress);
        (progress.position(), engine.recorder.finish().0)
    }

    #[test]
    fn every_job_ends_and_no_rule_is_broken_whatever_the_workers_are() {
        for runner in [Runner::Threads, Runner::Tokio] {
            for strategy in [Strategy::Ganeti, Strategy::Patient] {
                let (ended, verdict) = play(runner, strategy);
                assert_eq!((ended, verdict.left), (2000, 0), "{runner}, {strategy}");
                assert!(verdict.is_clean(), "{runner}, {strategy}: {verdict}");
            }
        }
    }

    #[test]
    fn jitter_spreads_over_its_range_and_repeats() {
        let all: Vec<f64> = (0..1000).map(|job| jitter(7, job, 1)).collect();
        assert!(all.iter().all(|jitter| (-1.0..=1.0).contains(jitter)));
        assert!(all.iter().any(|&jitter| jitter < -0.9) && all.iter().any(|&jitter| jitter > 0.9));
        assert_eq!(all[5].to_bits(), jitter(7, 5, 1).to_bits());
        assert_ne!(all[5].to_bits(), jitter(8, 5, 1).to_bits());
    }
}
