//! Who asks where nobody says: threads, tasks, and those who end.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use tierlock::{AcquireError, Error, LockSet, Mode, Owner, SharedLock, ssynchronized};

use super::refusal;

#[ssynchronized(lock)]
async fn held_while<T>(lock: &SharedLock, work: impl Future<Output = T>) -> Result<T, Error> {
    Ok(work.await)
}

#[ssynchronized(lock, now)]
fn tried(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap()
}

/// Counts who is inside, and remembers the most.
#[derive(Default)]
struct Crowd {
    inside: AtomicUsize,
    most: AtomicUsize,
    visits: AtomicUsize,
}

impl Crowd {
    async fn visit(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.visits.fetch_add(1, Ordering::SeqCst);
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn threads_are_owners_called_as_they_are() {
    let name = || Owner::current().name().to_owned();
    let named = thread::Builder::new().name("backup".into()).spawn(name).unwrap();
    assert_eq!(named.join().unwrap(), "backup");
    assert!(thread::spawn(name).join().unwrap().starts_with("ThreadId"));
    assert_eq!(Owner::current(), Owner::current());
    assert_ne!(Owner::current(), thread::spawn(Owner::current).join().unwrap());
}

#[test]
fn a_scope_sets_the_owner_and_ends_also_by_a_panic() {
    let (own, job, step) = (Owner::current(), Owner::new("job"), Owner::new("step"));
    job.sync_scope(|| {
        assert_eq!(Owner::current(), job);
        assert_eq!(step.sync_scope(Owner::current), step);
        assert_eq!(Owner::current(), job);
        let panicked = std::panic::catch_unwind(|| step.sync_scope(|| panic!("half way")));
        assert!(panicked.is_err());
        assert_eq!(Owner::current(), job);
    });
    assert_eq!(Owner::current(), own);
}

#[test]
fn a_scoped_task_keeps_its_owner_wherever_it_is_polled() {
    let job = Owner::new("job-17");
    let mut task = Box::pin(job.scope(async {
        let first = Owner::current();
        let mut polled = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        (first, Owner::current())
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(task.as_mut().poll(&mut context).is_pending());
    assert_ne!(Owner::current(), job);
    let poll = move || task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(owners) = thread::spawn(poll).join().unwrap() else { panic!("not ready") };
    assert_eq!(owners, (job.clone(), job));
}

#[test]
fn tasks_on_one_thread_are_owners_of_their_own_and_wait_for_each_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (lock, crowd) = (SharedLock::new("config"), Arc::new(Crowd::default()));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (lock, crowd) = (lock.clone(), Arc::clone(&crowd));
                tokio::spawn(async move { held_while(&lock, crowd.visit()).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
    assert_eq!(crowd.most.load(Ordering::SeqCst), 1);
    assert_eq!(crowd.visits.load(Ordering::SeqCst), 20);
}

#[test]
fn tasks_on_many_threads_exclude_one_another_by_name() {
    #[ssynchronized("tenant-{tenant}", in = locks, timeout = "60s")]
    async fn serve(locks: &LockSet, tenant: usize, crowd: &Crowd) -> Result<(), Error> {
        crowd.visit().await;
        Ok(())
    }

    let locks = LockSet::on_demand("tenants");
    let crowds: Arc<Vec<Crowd>> = Arc::new((0..4).map(|_| Crowd::default()).collect());
    runtime().block_on(async {
        let tasks: Vec<_> = (0..200)
            .map(|at| {
                let (locks, crowds) = (locks.clone(), Arc::clone(&crowds));
                tokio::spawn(async move { serve(&locks, at % 4, &crowds[at % 4]).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
    for crowd in &*crowds {
        assert_eq!(crowd.most.load(Ordering::SeqCst), 1);
        assert_eq!(crowd.visits.load(Ordering::SeqCst), 50);
    }
    assert!(locks.names().is_empty());
}

#[test]
fn a_task_that_asks_for_what_it_holds_is_told_so_and_does_not_hang() {
    let lock = SharedLock::new("config");
    let inner = async || refusal(held_while(&lock, async {}).await);
    let error = pollster::block_on(held_while(&lock, inner())).unwrap();
    assert!(matches!(error, AcquireError::AlreadyHeld { .. }), "{error}");
    let inner = async || refusal(tried(&lock));
    let error = pollster::block_on(held_while(&lock, inner())).unwrap();
    assert!(matches!(error, AcquireError::AlreadyHeld { .. }), "{error}");
    assert_eq!(lock.mode(), None);
}

#[test]
fn a_task_with_an_owner_asks_as_that_one() {
    let (lock, job) = (SharedLock::new("config"), Owner::new("job-17"));
    let held = pollster::block_on(job.scope(held_while(&lock, async { job.holds(&lock) })));
    assert_eq!(held.unwrap(), Some(Mode::Exclusive));
}

#[test]
fn a_task_without_one_is_called_as_its_function() {
    let lock = SharedLock::new("config");
    let name = held_while(&lock, async { Owner::current().name().to_owned() });
    assert_eq!(pollster::block_on(name).unwrap(), "held_while");
}

#[test]
fn dropping_the_future_releases_what_it_held_and_withdraws_what_it_asked() {
    let lock = SharedLock::new("config");
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut holds = pin!(held_while(&lock, std::future::pending::<()>()));
        assert!(holds.as_mut().poll(&mut context).is_pending());
        assert_eq!(lock.mode(), Some(Mode::Exclusive));
        {
            let mut waits = pin!(held_while(&lock, std::future::pending::<()>()));
            assert!(waits.as_mut().poll(&mut context).is_pending());
            assert!(crate::support::is_queued(&lock));
        }
        assert!(!crate::support::is_queued(&lock));
        assert_eq!(lock.mode(), Some(Mode::Exclusive));
    }
    assert_eq!(lock.mode(), None);
}

#[test]
fn what_goes_with_a_dropped_future_is_still_its_owners() {
    struct Late<'a>(&'a SharedLock, &'a Cell<bool>);

    impl Drop for Late<'_> {
        fn drop(&mut self) {
            let told = matches!(refusal(tried(self.0)), AcquireError::AlreadyHeld { .. });
            self.1.set(told);
        }
    }

    let (lock, told) = (SharedLock::new("config"), Cell::new(false));
    {
        let late = Late(&lock, &told);
        let stays = async move {
            let _late = late;
            std::future::pending::<()>().await;
        };
        let mut holds = pin!(held_while(&lock, stays));
        assert!(holds.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert!(told.get());
    assert_eq!(lock.mode(), None);
}

#[test]
fn a_future_that_was_never_polled_asked_for_nothing() {
    let lock = SharedLock::new("config");
    drop(held_while(&lock, async {}));
    assert_eq!(lock.mode(), None);
}

#[test]
fn annotated_futures_can_be_sent_and_spawned() {
    fn sent<T: Send>(value: T) -> T {
        value
    }

    let lock = SharedLock::new("config");
    drop(sent(held_while(&lock, async {})));
    drop(sent(Owner::new("job").scope(async {})));
}

#[test]
fn a_thread_that_ends_may_still_call_annotated_functions() {
    struct Last(SharedLock, Arc<AtomicUsize>);

    impl Drop for Last {
        fn drop(&mut self) {
            tried(&self.0).unwrap();
            Owner::new("last").sync_scope(|| tried(&self.0)).unwrap();
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    thread_local! {
        static EARLY: Cell<Option<Last>> = const { Cell::new(None) };
        static LATE: Cell<Option<Last>> = const { Cell::new(None) };
    }

    let (lock, ended) = (SharedLock::new("config"), Arc::new(AtomicUsize::new(0)));
    let (own, count) = (lock.clone(), Arc::clone(&ended));
    let ends = move || {
        EARLY.set(Some(Last(own.clone(), Arc::clone(&count))));
        // Makes the thread's owner, which goes before one of them and after the other.
        tried(&own).unwrap();
        LATE.set(Some(Last(own, count)));
    };
    thread::spawn(ends).join().unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 2);
    assert_eq!(lock.mode(), None);
}
