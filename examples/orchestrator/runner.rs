//! What runs the workers: threads, which block while they wait for locks, or tasks, which let others run meanwhile.
//!
//! A job is written once, as a future, and meets the library here alone: on a thread of its own it does not suspend, on tokio
//! it does.

use std::fmt;
use std::num::NonZero;
use std::thread::{Scope, ScopedJoinHandle, available_parallelism};

use smol::LocalExecutor;
use tierlock::{Acquire, Target};
use tokio::runtime;

/// What the workers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// Threads, each for itself.
    Threads,
    /// Tasks, on as many threads as there are processors, each with a runtime of tokio's.
    Tokio,
}

impl Runner {
    /// Makes a request and waits for its outcome.
    pub(crate) async fn outcome<T: Target>(
        self,
        request: Acquire<T>,
    ) -> Result<T::Granted, T::Error> {
        match self {
            Self::Threads => request.wait(),
            Self::Tokio => request.await,
        }
    }

    /// Runs `work` so many times over, beside one another, on as many threads as that takes; each returns what its workers did.
    pub(crate) fn spawn<'s, F>(
        self,
        scope: &'s Scope<'s, '_>,
        workers: usize,
        work: impl Fn() -> F + Copy + Send + 's,
    ) -> Vec<ScopedJoinHandle<'s, Vec<F::Output>>>
    where
        F: Future<Output: Send + 's>,
    {
        let on_thread = move || vec![pollster::block_on(work())];
        let as_tasks = |share| move || run_tasks((0..share).map(|_| work()));
        match self {
            Self::Threads => (0..workers).map(|_| scope.spawn(on_thread)).collect(),
            Self::Tokio => shares(workers).map(|share| scope.spawn(as_tasks(share))).collect(),
        }
    }
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads => "threads",
            Self::Tokio => "tokio",
        })
    }
}

/// Divides so many tasks among as many threads as there are processors, none of them without a task.
fn shares(tasks: usize) -> impl Iterator<Item = usize> {
    let threads = available_parallelism().map_or(1, NonZero::get).min(tasks);
    (0..threads).map(move |thread| (tasks + thread) / threads)
}

/// Runs these futures as tasks on this thread, and returns what they give.
fn run_tasks<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let runtime = runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("the system is not asked for anything");
    // Tokio spawns only what owns all that it uses, and these borrow; so they are tasks of one future that tokio runs.
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = futures.into_iter().map(|future| executor.spawn(future)).collect();
    runtime.block_on(executor.run(async {
        let mut outputs = Vec::new();
        for task in tasks {
            outputs.push(task.await);
        }
        outputs
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use smol::future::{poll_once, yield_now};
    use tierlock::{Owner, SharedLock};

    use super::*;

    #[test]
    fn every_task_has_a_thread_and_every_thread_a_task() {
        for tasks in 1..100 {
            let shares: Vec<usize> = shares(tasks).collect();
            assert_eq!(shares.iter().sum::<usize>(), tasks);
            assert!(shares.iter().all(|&share| share > 0), "{shares:?}");
        }
    }

    #[test]
    fn tasks_of_one_thread_hand_a_lock_to_one_another() {
        let lock = SharedLock::new("config");
        let take_turns = async |task: usize| {
            let owner = Owner::new(format!("task-{task}"));
            for _ in 0..10 {
                let guard = Runner::Tokio.outcome(lock.exclusive(&owner)).await;
                let _guard = guard.expect("nobody deletes it");
                yield_now().await;
            }
            task
        };
        assert_eq!(run_tasks((0..5).map(take_turns)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn where_a_task_suspends_a_thread_blocks() {
        let (lock, holder, owner) = (SharedLock::new("config"), Owner::new("a"), Owner::new("b"));
        let _guard = lock.exclusive(&holder).now().expect("it is free");
        let polled_once =
            |runner: Runner, request| pollster::block_on(poll_once(runner.outcome(request)));
        assert!(polled_once(Runner::Tokio, lock.exclusive(&owner)).is_none());
        let request = lock.exclusive(&owner).timeout(Duration::from_millis(2));
        assert!(matches!(polled_once(Runner::Threads, request), Some(Err(_))));
    }
}
