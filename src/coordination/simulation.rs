//! A cluster in one thread: members that crash, pause past their lives, miss reports and join again, at a store that loses
//! calls, in an order that a seed decides; and somebody outside who reads the fencing tokens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::agent::Hands;
use super::coordinator::{Connect, Coordinator};
use super::lock::{AcquireCluster, ClusterGuard, ClusterLock};
use super::memory::{Fate, Memory, World};
use crate::core::mode::Mode;
use crate::owner::Owner;
use crate::pending::Pending;

const TTL: Duration = Duration::from_secs(10);
const MEMBERS: usize = 3;
const LOCKS: usize = 2;
const JOBS: usize = 3;
const STEPS: usize = 80;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What a job does at the moment.
enum Job {
    Idle,
    Waits(Box<Pending<AcquireCluster<'static>>>, usize),
    Holds(Box<ClusterGuard<'static>>, usize),
}

/// One member, in one of its lives.
struct Process {
    coordinator: Coordinator,
    hands: Hands,
    locks: Vec<ClusterLock>,
    jobs: Vec<(Owner, Job)>,
    crashed: bool,
}

/// Who reads the tokens: outside the cluster, told of everything the moment it happens.
#[derive(Default)]
struct Outside {
    /// The greatest token with which each lock was held in each mode.
    tokens: BTreeMap<(usize, Mode), u64>,
}

struct Simulation {
    store: Memory,
    world: World,
    processes: Vec<Mutex<Process>>,
    outside: Mutex<Outside>,
    luck: Mutex<Luck>,
    /// How deep calls of some lie within calls of others.
    depth: AtomicUsize,
    births: AtomicUsize,
}

impl Process {
    fn start(store: &Memory, name: &str) -> Option<Self> {
        let connect: Connect = Coordinator::connect("memory:").ttl(TTL);
        let (coordinator, hands) = connect.by_hand(Arc::new(store.clone()), name).ok()?;
        let lock = |at: usize| {
            let lock = coordinator.lock(&format!("lock-{at}")).expect("a name");
            if at == 0 { lock } else { lock.cached() }
        };
        let jobs = (0..JOBS).map(|job| (Owner::new(format!("{name}-{job}")), Job::Idle));
        Some(Self {
            locks: (0..LOCKS).map(lock).collect(),
            jobs: jobs.collect(),
            coordinator,
            hands,
            crashed: false,
        })
    }
}

impl Simulation {
    fn new(seed: u64) -> Arc<Self> {
        let (store, world) = Memory::simulated(seed);
        let start = |at: usize| {
            Mutex::new(Process::start(&store, &format!("member-{at}")).expect("nobody else"))
        };
        let simulation = Arc::new(Self {
            processes: (0..MEMBERS).map(start).collect(),
            outside: Mutex::default(),
            luck: Mutex::new(Luck(seed)),
            depth: AtomicUsize::new(0),
            births: AtomicUsize::new(MEMBERS),
            store,
            world,
        });
        let me = Arc::downgrade(&simulation);
        simulation.world.interpose(move |_, _| Self::interfere(&me));
        simulation.world.lose_reports(5);
        simulation
    }

    fn below(&self, bound: u64) -> u64 {
        self.luck.lock().below(bound)
    }

    fn one_in(&self, bound: u64) -> bool {
        self.luck.lock().one_in(bound)
    }

    /// Lets something else happen while a call is on its way, and decides whether it arrives.
    fn interfere(me: &Weak<Self>) -> Fate {
        let Some(simulation) = me.upgrade() else { return Fate::Arrives };
        if simulation.depth.load(Ordering::Relaxed) < 2 && simulation.one_in(4) {
            simulation.depth.fetch_add(1, Ordering::Relaxed);
            simulation.step();
            simulation.depth.fetch_sub(1, Ordering::Relaxed);
        }
        if simulation.one_in(60) { Fate::IsLost } else { Fate::Arrives }
    }

    /// One thing happens.
    fn step(&self) {
        match self.below(20) {
            0 => self.world.advance(self.below(4_000)),
            1 if self.one_in(4) => self.world.advance(TTL.as_millis() as u64),
            2 if self.one_in(4) => self.crash(),
            _ => self.let_work(),
        }
    }

    /// Lets a member do something, unless it is in the middle of something already.
    fn let_work(&self) {
        let at = self.below(MEMBERS as u64) as usize;
        let Some(mut process) = self.processes[at].try_lock() else { return };
        if process.crashed {
            drop(process);
            return self.restart(at);
        }
        match self.below(10) {
            0 => drop(process.coordinator.seat().beat(TTL)),
            1..5 => drop(process.hands.work()),
            _ => self.let_job_work(&mut process),
        }
    }

    fn let_job_work(&self, process: &mut Process) {
        let job = self.below(JOBS as u64) as usize;
        let Process { jobs, locks, .. } = process;
        let (owner, state) = &mut jobs[job];
        *state = match std::mem::replace(state, Job::Idle) {
            Job::Idle => {
                let at = self.below(LOCKS as u64) as usize;
                let mode = Mode::ALL[self.below(5) as usize];
                let priority = self.below(3) as i32;
                let asked = locks[at].acquire(owner, mode).priority(priority).into_owned();
                if self.one_in(4) {
                    match asked.now() {
                        Ok(guard) => self.held(guard, at),
                        Err(_) => Job::Idle,
                    }
                } else {
                    Job::Waits(Box::new(asked.enqueue()), at)
                }
            }
            Job::Waits(pending, at) if pending.is_decided() => match pending.wait() {
                Ok(guard) => self.held(guard, at),
                Err(_) => Job::Idle,
            },
            Job::Waits(_, _) if self.one_in(8) => Job::Idle,
            waits @ Job::Waits(..) => waits,
            Job::Holds(guard, at) => self.go_on(*guard, at),
        };
    }

    fn go_on(&self, mut guard: ClusterGuard<'static>, at: usize) -> Job {
        match self.below(6) {
            0 => Job::Holds(Box::new(guard), at),
            1 => {
                guard.downgrade();
                Job::Holds(Box::new(guard), at)
            }
            2 => match guard.upgrade_to(Mode::Exclusive).now() {
                Ok(()) => self.held(guard, at),
                Err(_) => Job::Holds(Box::new(guard), at),
            },
            3 => {
                drop(guard);
                Job::Idle
            }
            _ => {
                let _ = guard.release();
                Job::Idle
            }
        }
    }

    /// Somebody holds the lock now: nobody else may who conflicts, and the token has to say so.
    fn held(&self, guard: ClusterGuard<'static>, at: usize) -> Job {
        let Ok(token) = guard.token() else { return Job::Holds(Box::new(guard), at) };
        if guard.check().is_err() {
            return Job::Holds(Box::new(guard), at);
        }
        let mode = guard.mode();
        let mut outside = self.outside.lock();
        for (&(lock, other), &seen) in &outside.tokens {
            let ordered = lock != at || mode.admits(other) || token > seen;
            assert!(ordered, "lock-{at} {mode} with token {token} after {other} with {seen}");
        }
        let seen = outside.tokens.entry((at, mode)).or_default();
        *seen = token.max(*seen);
        drop(outside);
        Job::Holds(Box::new(guard), at)
    }

    /// Nobody who believes to hold a lock is beside somebody with whom it conflicts.
    fn check(&self) {
        let mut valid: Vec<(usize, Mode, String)> = Vec::new();
        for process in &self.processes {
            let process = process.lock();
            for (owner, job) in &process.jobs {
                let Job::Holds(guard, at) = job else { continue };
                if !process.crashed && guard.check().is_ok() {
                    valid.push((*at, guard.mode(), owner.name().to_owned()));
                }
            }
        }
        for (nth, (lock, mode, owner)) in valid.iter().enumerate() {
            for (other_lock, other_mode, other) in &valid[..nth] {
                let both = lock != other_lock || mode.admits(*other_mode);
                assert!(both, "lock-{lock} is held by {owner} {mode} and {other} {other_mode}");
            }
        }
    }

    /// A process is killed.
    fn crash(&self) {
        let at = self.below(MEMBERS as u64) as usize;
        if let Some(mut process) = self.processes[at].try_lock() {
            self.world.crash(process.coordinator.member());
            process.crashed = true;
        }
    }

    /// A killed process is started anew, once its name is free.
    fn restart(&self, at: usize) {
        let Some(mut process) = self.processes[at].try_lock() else { return };
        let birth = self.births.fetch_add(1, Ordering::Relaxed);
        if let Some(new) = Process::start(&self.store, &format!("member-{at}-{birth}")) {
            // Nobody runs the destructors of a killed process.
            std::mem::forget(std::mem::replace(&mut *process, new));
        }
    }

    /// Without any more faults, everybody who waits is served, and in the end nothing is left.
    fn come_to_rest(&self) {
        self.world.calm();
        for at in 0..MEMBERS {
            if self.processes[at].lock().crashed {
                self.restart(at);
            }
        }
        for _ in 0..400 {
            let mut waits = false;
            for process in &self.processes {
                let mut process = process.lock();
                process.coordinator.seat().beat(TTL);
                while process.hands.work() {}
                for (_, job) in &mut process.jobs {
                    *job = match std::mem::replace(job, Job::Idle) {
                        Job::Waits(pending, at) if !pending.is_decided() => {
                            waits = true;
                            Job::Waits(pending, at)
                        }
                        Job::Waits(pending, _) => {
                            drop(pending.wait());
                            Job::Idle
                        }
                        Job::Holds(..) | Job::Idle => Job::Idle,
                    };
                }
            }
            if !waits {
                return self.check_nothing_left();
            }
            self.world.advance(500);
        }
        for process in &self.processes {
            let process = process.lock();
            eprintln!("{} {:?}", process.coordinator.member(), process.coordinator.check());
            for lock in &process.locks {
                eprintln!("  {:?}", lock.resource());
                for by in lock.holders().into_iter().flatten() {
                    eprintln!("    {} {} {:?}", by.owner, by.mode, by.held_ms);
                }
                for by in lock.waiters().into_iter().flatten() {
                    eprintln!("    waits: {} {}", by.owner, by.mode);
                }
            }
            for (owner, job) in &process.jobs {
                if let Job::Waits(pending, at) = job {
                    eprintln!("  {} waits for lock-{at} at {:?}", owner.name(), pending.position());
                }
            }
        }
        panic!("somebody waits for ever");
    }

    fn check_nothing_left(&self) {
        for process in &self.processes {
            let process = process.lock();
            for lock in &process.locks {
                drop(lock.resource().uncache());
            }
            while process.hands.work() {}
        }
        self.world.advance(TTL.as_millis() as u64);
        let process = self.processes[0].lock();
        for lock in &process.locks {
            let mine = lock
                .holders()
                .into_iter()
                .flatten()
                .filter(|held| held.member == *process.coordinator.member());
            assert_eq!(mine.count(), 0, "{lock:?} is held by nobody, and in the record");
            let waiters = lock.waiters().unwrap_or_default();
            assert!(
                waiters.iter().all(|w| w.member != *process.coordinator.member()),
                "{waiters:?}"
            );
        }
    }
}

fn simulate(seed: u64) {
    let simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
        simulation.check();
    }
    simulation.come_to_rest();
}

#[test]
fn no_two_conflicting_holders_are_valid_and_no_token_is_out_of_order_whatever_fails() {
    let runs =
        std::env::var("TIERLOCK_SIMULATIONS").map_or(500, |runs| runs.parse().expect("a number"));
    let first: u64 =
        std::env::var("TIERLOCK_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    for seed in first..first + runs {
        let result = std::panic::catch_unwind(|| simulate(seed));
        assert!(result.is_ok(), "TIERLOCK_SEED={seed} TIERLOCK_SIMULATIONS=1");
    }
}
