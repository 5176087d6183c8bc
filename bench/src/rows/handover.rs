//! Row 8: from one who holds a lock to one who waits for it, and how often the latter is woken.

use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tierlock::{LockSet, Membership, Owner, SharedLock, exclusive};
use tokio::runtime;

use super::Inputs;
use crate::clock::{nanoseconds, now};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::names;
use crate::table::{Case, Line, Target, Unit};

const CONDVAR: &str = "parking_lot 0.13 condvar, threads";

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let effort = effort.longer(5);
    let set = vec![
        Line::new("tierlock, a set", set_of_tierlock() as f64, Unit::Count)
            .target(Target::Exactly(1.0)),
        Line::new("tokio, one after the other", one_by_one_of_tokio() as f64, Unit::Count),
    ];
    vec![
        Case::race(8, "hand-over between threads, one core", effort, threads(Cores::One))
            .target(CONDVAR, Target::Ratio(1.1)),
        Case::race(8, "hand-over between threads, any core", effort, threads(Cores::Any)),
        Case::race(8, "hand-over between tasks of one thread", effort, tasks())
            .target(CONDVAR, Target::Ratio(1.1)),
        Case::new(8, "wake-ups of who waits for 100 held by others", set),
    ]
}

/// Where threads run: on one core each hand-over is a switch between threads and nothing else, which can be compared; on
/// several it is anything from a cache line that moves to a core that has to be woken.
#[derive(Clone, Copy)]
enum Cores {
    One,
    Any,
}

impl Cores {
    /// Has this thread run there.
    fn enter(self) {
        let Self::One = self else { return };
        let allowed = sched_getaffinity(None).expect("this thread may run somewhere");
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).expect("as said");
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one).expect("it may run there");
    }
}

/// Counts how often the lock went from one to the other, and says when that was often enough.
#[derive(Default)]
struct Transfers {
    holder: AtomicUsize,
    count: AtomicU64,
    begun: OnceLock<Instant>,
    ended: OnceLock<Instant>,
    goal: u64,
}

impl Transfers {
    fn new(goal: u64) -> Self {
        Self { holder: AtomicUsize::new(usize::MAX), goal, ..Self::default() }
    }

    /// To be called by the holder.
    fn held_by(&self, who: usize) {
        if self.holder.swap(who, Ordering::Relaxed) == who {
            // The other one was late. Now it can come and wait, and from there on they alternate.
            return thread::yield_now();
        }
        // The first holder takes it from nobody, and the second from one who may not have waited.
        match self.count.fetch_add(1, Ordering::Relaxed) {
            1 => drop(self.begun.set(now())),
            count if count == self.goal => drop(self.ended.set(now())),
            _ => {}
        }
    }

    fn is_over(&self) -> bool {
        self.count.load(Ordering::Relaxed) > self.goal
    }

    fn took(&self) -> Duration {
        self.ended.get().unwrap().duration_since(*self.begun.get().unwrap())
    }
}

/// Runs until the goal is reached, as often as fits into the batch by what one took the last time.
fn counted(name: &str, mut run: impl FnMut(&Arc<Transfers>) + 'static) -> Contender<'static> {
    let mut goal = 100;
    Contender::custom(name, move |batch| {
        let transfers = Arc::new(Transfers::new(goal));
        run(&transfers);
        let each = nanoseconds(transfers.took()) / (goal - 1) as f64;
        goal = (nanoseconds(batch) / each).clamp(20.0, 1e6) as u64;
        each
    })
}

/// Two threads that each take it as soon as they have given it back.
fn two_threads(
    name: &str,
    cores: Cores,
    take: impl Fn(usize, &Transfers) + Sync + 'static,
) -> Contender<'static> {
    counted(name, move |transfers| {
        let play = |who| {
            cores.enter();
            while !transfers.is_over() {
                take(who, transfers);
            }
        };
        thread::scope(|scope| {
            let play = &play;
            (0..2).for_each(|who| drop(scope.spawn(move || play(who))));
        });
    })
}

fn threads(cores: Cores) -> Vec<Contender<'static>> {
    let (lock, owners) = (SharedLock::new("config"), [Owner::new("ping"), Owner::new("pong")]);
    let fair = Mutex::new(());
    let tokio = tokio::sync::RwLock::new(());
    vec![
        two_threads("tierlock", cores, move |who, transfers| {
            let _guard = lock.exclusive(&owners[who]).wait().unwrap();
            transfers.held_by(who);
        }),
        in_line_before(cores),
        condvar(cores),
        two_threads("parking_lot 0.13 mutex, fair unlock", cores, move |who, transfers| {
            let guard = fair.lock();
            transfers.held_by(who);
            MutexGuard::unlock_fair(guard);
        }),
        two_threads("tokio, blocking", cores, move |who, transfers| {
            let _guard = tokio.blocking_write();
            transfers.held_by(who);
        }),
    ]
}

/// Each stands in line again, as another owner, before it gives the lock back. So the one woken finds the other waiting, though it
/// may run before that one could have asked: on one core that is the rule.
fn in_line_before(cores: Cores) -> Contender<'static> {
    let lock = SharedLock::new("config");
    counted("tierlock, in line before it gives back", move |transfers| {
        let play = |who| {
            cores.enter();
            let owners = [Owner::new("job"), Owner::new("job")];
            let mut guard = lock.exclusive(&owners[1]).wait().unwrap();
            for owner in owners.iter().cycle() {
                transfers.held_by(who);
                let next = lock.exclusive(owner).enqueue();
                if transfers.is_over() {
                    break;
                }
                drop(guard);
                guard = next.wait().unwrap();
            }
        };
        thread::scope(|scope| {
            let play = &play;
            (0..2).for_each(|who| drop(scope.spawn(move || play(who))));
        });
    })
}

/// Half of a round trip.
fn condvar(cores: Cores) -> Contender<'static> {
    let (turn, turned) = (Mutex::new(0), Condvar::new());
    two_threads(CONDVAR, cores, move |who, transfers| {
        let mut turn = turn.lock();
        while *turn != who {
            turned.wait(&mut turn);
        }
        transfers.held_by(who);
        *turn = 1 - who;
        drop(turn);
        turned.notify_one();
    })
}

/// Two tasks on one thread. Each yields once while it holds the lock, so that the other comes to wait for it.
fn two_tasks<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    play: impl Fn(usize, Arc<Transfers>) -> F + 'static,
) -> Contender<'static> {
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    counted(name, move |transfers| {
        let tasks = [0, 1].map(|who| runtime.spawn(play(who, Arc::clone(transfers))));
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
    })
}

fn tasks() -> Vec<Contender<'static>> {
    let (lock, owners) = (SharedLock::new("config"), [Owner::new("ping"), Owner::new("pong")]);
    let tokio = Arc::new(tokio::sync::RwLock::new(()));
    vec![
        two_tasks("tierlock", move |who, transfers| {
            let (lock, owner) = (lock.clone(), owners[who].clone());
            async move {
                let guard = lock.exclusive(&owner).await.unwrap();
                tokio::task::yield_now().await;
                drop(guard);
                while !transfers.is_over() {
                    let _guard = lock.exclusive(&owner).await.unwrap();
                    transfers.held_by(who);
                }
            }
        }),
        condvar(Cores::One),
        two_tasks("tokio", move |who, transfers| {
            let lock = Arc::clone(&tokio);
            async move {
                let guard = lock.write().await;
                tokio::task::yield_now().await;
                drop(guard);
                while !transfers.is_over() {
                    let _guard = lock.write().await;
                    transfers.held_by(who);
                }
            }
        }),
    ]
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls `waiting` each time it was woken while locks are given back one by one; returns how often that was.
fn wake_ups<F: Future>(mut waiting: Pin<&mut F>, held: impl IntoIterator) -> usize {
    let counted = Arc::new(Counted::default());
    let waker = Waker::from(Arc::clone(&counted));
    let (mut context, mut seen) = (Context::from_waker(&waker), 0);
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    let mut outcome = Poll::Pending;
    for guard in held {
        assert!(outcome.is_pending(), "granted while somebody held one of them");
        drop(guard);
        while counted.0.load(Ordering::Relaxed) > seen {
            seen += 1;
            outcome = waiting.as_mut().poll(&mut context);
        }
    }
    assert!(outcome.is_ready(), "not granted though nobody holds any");
    seen
}

fn set_of_tierlock() -> usize {
    let names = names(100);
    let set = LockSet::new("node", Membership::Listed, names.clone()).unwrap();
    let holders: Vec<_> = names.iter().map(|name| Owner::new(Arc::clone(name))).collect();
    let hold =
        |(name, owner): (_, &Owner)| set.acquire(owner, exclusive(Arc::clone(name))).now().unwrap();
    let held: Vec<_> = names.iter().zip(&holders).map(hold).collect();
    let waiting = set.acquire(&Owner::new("job"), exclusive(&names)).into_future();
    black_box(wake_ups(pin!(waiting), held))
}

fn one_by_one_of_tokio() -> usize {
    let locks: Vec<_> = (0..100).map(|_| Arc::new(tokio::sync::RwLock::new(()))).collect();
    let held: Vec<_> =
        locks.iter().map(|lock| Arc::clone(lock).try_write_owned().unwrap()).collect();
    let waiting = async {
        let mut had = Vec::new();
        for lock in &locks {
            had.push(lock.write().await);
        }
    };
    black_box(wake_ups(pin!(waiting), held))
}
