//! The same request on whatever runtime, and on none.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

use tierlock::Mode::{Exclusive, Shared};
use tierlock::ganeti::Level::{Cluster, Instance, Node};
use tierlock::{
    ALL, Error, Level, LockManager, LockSet, Membership, Owner, Session, SharedLock, exclusive,
    ganeti,
};

use super::{Task, asked, held, join, lock};
use crate::support::{LONG, admits, is_queued, ms, slots, until};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

const TASKS: usize = 8;
const ROUNDS: usize = 50;

fn many_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs it all on a thread of its own, whose end shows that nobody waits for ever.
fn tokio(runtime: Runtime, works: Vec<Work>) -> Vec<JoinHandle<()>> {
    let run = move || {
        runtime.block_on(async {
            let tasks: Vec<_> = works.into_iter().map(tokio::spawn).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    };
    vec![thread::spawn(run)]
}

fn smol(works: Vec<Work>) -> Vec<JoinHandle<()>> {
    let run = || {
        smol::block_on(async {
            let tasks: Vec<_> = works.into_iter().map(smol::spawn).collect();
            for task in tasks {
                task.await;
            }
        });
    };
    vec![thread::spawn(run)]
}

/// Each on a thread of its own.
fn bare(works: Vec<Work>) -> Vec<JoinHandle<()>> {
    works.into_iter().map(|work| thread::spawn(|| pollster::block_on(work))).collect()
}

/// Lets others run, on whatever runtime.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Who is inside, to see that the lock keeps its promise.
#[derive(Default)]
struct Inside {
    writers: AtomicUsize,
    readers: AtomicUsize,
    entries: AtomicUsize,
}

impl Inside {
    async fn write(&self) {
        assert_eq!(self.writers.fetch_add(1, Ordering::SeqCst), 0);
        assert_eq!(self.readers.load(Ordering::SeqCst), 0);
        yield_now().await;
        self.writers.fetch_sub(1, Ordering::SeqCst);
        self.entries.fetch_add(1, Ordering::SeqCst);
    }

    async fn read(&self) {
        self.readers.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.writers.load(Ordering::SeqCst), 0);
        yield_now().await;
        self.readers.fetch_sub(1, Ordering::SeqCst);
        self.entries.fetch_add(1, Ordering::SeqCst);
    }
}

fn works(lock: &SharedLock, inside: &Arc<Inside>) -> Vec<Work> {
    let work = |at| {
        let (lock, inside) = (lock.clone(), Arc::clone(inside));
        let owner = Owner::new(format!("task-{at}"));
        Box::pin(async move {
            for round in 0..ROUNDS {
                if (at + round) % 3 == 0 {
                    let _guard = lock.shared(&owner).priority((at % 2) as i32).await.unwrap();
                    inside.read().await;
                } else {
                    let _guard = lock.exclusive(&owner).enqueue().await.unwrap();
                    inside.write().await;
                }
            }
        }) as Work
    };
    (0..TASKS).map(work).collect()
}

fn contend(run: impl FnOnce(&dyn Fn() -> Vec<Work>) -> Vec<JoinHandle<()>>) {
    let (lock, inside) = (lock(), Arc::new(Inside::default()));
    let crowds = AtomicUsize::new(0);
    let threads = run(&|| {
        crowds.fetch_add(1, Ordering::SeqCst);
        works(&lock, &inside)
    });
    threads.into_iter().for_each(join);
    let expected = crowds.into_inner() * TASKS * ROUNDS;
    assert_eq!(inside.entries.load(Ordering::SeqCst), expected);
    assert!(lock.mode().is_none() && !is_queued(&lock));
}

#[test]
fn the_tasks_of_many_threads_of_tokio_keep_one_another_out() {
    contend(|works| tokio(many_threads(), works()));
}

#[test]
fn the_tasks_of_one_thread_of_tokio_keep_one_another_out() {
    contend(|works| tokio(one_thread(), works()));
}

#[test]
fn the_tasks_of_smol_keep_one_another_out() {
    contend(|works| smol(works()));
}

#[test]
fn futures_without_a_runtime_keep_one_another_out() {
    contend(|works| bare(works()));
}

#[test]
fn the_tasks_of_all_runtimes_keep_one_another_out() {
    contend(|works| {
        let mut threads = tokio(many_threads(), works());
        threads.extend(tokio(one_thread(), works()));
        threads.extend(smol(works()));
        threads.extend(bare(works()));
        threads
    });
}

mod timeouts {
    use super::*;

    #[test]
    fn a_timeout_of_the_runtime_around_a_request_withdraws_it() {
        let (lock, owner) = (lock(), Owner::new("task"));
        for runtime in [many_threads(), one_thread()] {
            let holder = held(&lock, "holder", Shared);
            let mut behind = None;
            runtime.block_on(async {
                let mut hasty = Box::pin(tokio::time::timeout(ms(5), lock.exclusive(&owner)));
                assert!(Task::new(&mut hasty).poll().is_pending());
                let next = behind.insert(asked(&lock, "behind", Shared));
                assert!(!next.is_decided());
                assert!(hasty.await.is_err());
            });
            assert!(behind.is_some_and(|next| next.is_decided()) && slots(&owner) == 0);
            drop(holder);
            assert!(lock.mode().is_none() && !is_queued(&lock));
        }
    }

    #[test]
    fn a_timeout_of_the_runtime_that_is_not_needed_keeps_the_lock() {
        let (lock, owner) = (lock(), Owner::new("task"));
        let holder = held(&lock, "holder", Exclusive);
        let guard = one_thread().block_on(async {
            let request = tokio::time::timeout(LONG, lock.exclusive(&owner));
            let (guard, ()) = tokio::join!(request, async { drop(holder) });
            guard.expect("in time").unwrap()
        });
        assert_eq!(lock.mode(), Some(Exclusive));
        drop(guard);
        assert_eq!(lock.mode(), None);
    }

    #[test]
    fn of_two_requests_that_are_raced_the_loser_leaves_nothing() {
        let set = LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap();
        let [first, second] = ["first", "second"].map(Owner::new);
        let [a, _b] = ["a", "b"]
            .map(|name| set.acquire(&Owner::new("holder"), exclusive(name)).now().unwrap());
        one_thread().block_on(async {
            let releases = async {
                yield_now().await;
                drop(a);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                won = set.acquire(&first, exclusive("a")) => assert_eq!(won.unwrap().names().len(), 1),
                _ = set.acquire(&second, exclusive(["a", "b"])) => panic!("b is held"),
                () = releases => unreachable!("it never ends"),
            }
        });
        assert_eq!((slots(&first), slots(&second)), (0, 0));
        assert!(set.acquire(&first, exclusive("a")).now().is_ok());
    }
}

mod sessions {
    use super::*;

    fn manager() -> LockManager {
        ganeti::manager(["web1", "web2"], [""; 0], ["n1", "n2"], [""; 0]).build().unwrap()
    }

    fn is_free(manager: &LockManager) -> bool {
        let mut observer = manager.session("observer");
        let all = [Instance.exclusive(ALL), Node.exclusive(ALL)];
        let all = [Cluster.exclusive("BGL")].into_iter().chain(all).collect::<Vec<_>>();
        observer.acquire(all).now().is_ok()
    }

    /// One job among others, with its session lent to it.
    async fn job(session: &mut Session, inside: &AtomicUsize) -> Result<(), Error> {
        session.acquire(Cluster.shared("BGL")).await?;
        session.acquire([Instance.exclusive("web1"), Node.shared(ALL)]).await?;
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
        yield_now().await;
        nodes(session).await?;
        inside.fetch_sub(1, Ordering::SeqCst);
        session.release(Instance, ALL)?;
        session.add(Instance, session_name(session)).await?;
        Ok(())
    }

    async fn nodes(session: &mut Session) -> Result<(), Error> {
        session.downgrade(Node, ALL)?;
        session.upgrade(Node, ALL).await?;
        session.release(Node, ALL)?;
        Ok(())
    }

    fn session_name(session: &Session) -> String {
        session.owner().name().to_owned()
    }

    #[test]
    fn a_session_lent_to_asynchronous_functions_goes_with_its_task_and_back_in_another_thread() {
        let (manager, inside) = (manager(), Arc::new(AtomicUsize::new(0)));
        let (done, sessions) = std::sync::mpsc::channel();
        let dropping = thread::spawn(move || sessions.iter().for_each(drop::<Session>));
        let works = (0..TASKS).map(|at| {
            let (mut session, inside) = (manager.session(format!("job-{at}")), Arc::clone(&inside));
            let done = done.clone();
            Box::pin(async move {
                job(&mut session, &inside).await.unwrap();
                done.send(session).unwrap();
            }) as Work
        });
        tokio(many_threads(), works.collect()).into_iter().for_each(join);
        drop(done);
        join(dropping);
        assert!(is_free(&manager));
        assert_eq!(manager.names(Instance).len(), 2 + TASKS);
    }

    #[test]
    fn a_task_that_is_aborted_leaves_nothing_whether_it_waits_or_holds() {
        let manager = manager();
        let mut holder = manager.session("holder");
        holder.acquire([Cluster.shared("BGL"), Node.exclusive("n2")]).now().unwrap();
        let runtime = many_threads();
        runtime.block_on(async {
            let (holds, mut held) = mpsc::channel(1);
            let mut session = manager.session("holds and waits");
            let task = tokio::spawn(async move {
                session.acquire([Cluster.shared("BGL"), Instance.exclusive(ALL)]).await.unwrap();
                holds.send(()).await.unwrap();
                session.acquire(Node.exclusive(["n1", "n2"])).await.unwrap();
            });
            held.recv().await.unwrap();
            let observer = manager.session("observer");
            let wanted = [Cluster.shared("BGL"), Instance.shared("web1"), Node.shared("n1")];
            let next = observer.acquire_owned(wanted).enqueue();
            assert!(!next.is_decided());
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            assert!(next.is_decided() && next.await.is_ok());
        });
        drop(holder);
        assert!(is_free(&manager));
    }

    #[test]
    fn requests_that_own_their_sessions_are_kept_beside_one_another() {
        let manager = manager();
        let wanted = || [Cluster.shared("BGL"), Instance.exclusive("web1")];
        let mut running = tokio::task::JoinSet::new();
        let runtime = many_threads();
        let _entered = runtime.enter();
        for at in 0..TASKS {
            let request = manager.session(format!("job-{at}")).acquire_owned(wanted()).enqueue();
            running.spawn(async move {
                let (session, _grant) = request.await.unwrap();
                session.holds(Instance, "web1")
            });
        }
        let modes = runtime.block_on(running.join_all());
        assert_eq!(modes, [Some(Exclusive); TASKS]);
        assert!(is_free(&manager));
    }
}

#[test]
fn a_task_that_waits_hears_of_a_release_on_a_thread_without_a_runtime() {
    let (lock, released) = (lock(), Arc::new(AtomicBool::new(false)));
    let runtime = one_thread();
    let holder = held(&lock, "holder", Exclusive);
    let (ready, waits) = oneshot::channel();
    let releasing = thread::spawn({
        let (lock, released) = (lock.clone(), Arc::clone(&released));
        move || {
            waits.blocking_recv().unwrap();
            until(|| is_queued(&lock));
            released.store(true, Ordering::SeqCst);
            drop(holder);
        }
    });
    runtime.block_on(async {
        ready.send(()).unwrap();
        let owner = Owner::new("task");
        let _guard = tokio::time::timeout(LONG, lock.exclusive(&owner)).await.unwrap().unwrap();
        assert!(released.load(Ordering::SeqCst));
    });
    join(releasing);
    assert!(admits(&lock, Exclusive));
}
