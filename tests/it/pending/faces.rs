//! By whom a request is waited for: a thread, a task, a select or a descriptor; each hears of the outcome, and not before.

use std::convert::Infallible;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError, bounded, select};
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use tokio::runtime::Builder;

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{
    AcquireError, AcquireLock, Descriptor, Guard, LockSet, Membership, Owner, Pending, SharedLock,
    exclusive,
};

use super::{Task, asked, held, join, lock, outcome};
use crate::support::{
    LONG, Waited, Waiter, admits, is_queued, ms, now, on_a_slow_machine, panic_holding, slots,
    until,
};

/// Watches descriptors.
struct Watch {
    poll: mio::Poll,
    events: Events,
}

impl Watch {
    fn new() -> Self {
        Self { poll: mio::Poll::new().unwrap(), events: Events::with_capacity(64) }
    }

    fn add(&self, descriptor: &impl AsRawFd, token: usize) {
        let registry = self.poll.registry();
        let descriptor = descriptor.as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), Token(token), Interest::READABLE).unwrap();
    }

    /// Who is ready now.
    fn ready(&mut self) -> Vec<usize> {
        self.wait(ms(0))
    }

    /// Who is ready as soon as somebody is.
    fn wait(&mut self, timeout: Duration) -> Vec<usize> {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        let ready = self.events.iter().inspect(|event| {
            assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
        });
        ready.map(|event| event.token().0).collect()
    }
}

/// A request that is waited for in every way at once.
struct Watched<'a> {
    task: Task<&'a mut Pending<AcquireLock<'static>>>,
    receivers: [Receiver<Infallible>; 2],
    watch: Watch,
    descriptors: [Descriptor; 2],
}

impl<'a> Watched<'a> {
    /// `None` if it is decided already.
    fn new(pending: &'a mut Pending<AcquireLock<'static>>) -> Option<Self> {
        let receivers = [pending.receiver().clone(), pending.receiver().clone()];
        let descriptors = [pending.descriptor().unwrap(), pending.descriptor().unwrap()];
        let watch = Watch::new();
        for (token, descriptor) in descriptors.iter().enumerate() {
            watch.add(descriptor, token);
        }
        let mut task = Task::new(pending);
        task.poll().is_pending().then_some(Self { task, receivers, watch, descriptors })
    }

    /// Sees that nobody heard anything yet.
    fn is_quiet(&mut self) -> bool {
        let empty = |receiver: &Receiver<_>| receiver.try_recv() == Err(TryRecvError::Empty);
        self.task.woken() == 0
            && self.task.poll().is_pending()
            && self.receivers.iter().all(empty)
            && self.watch.ready().is_empty()
    }

    /// Sees that everybody hears it, and takes the outcome.
    #[track_caller]
    fn hear(mut self) -> Waited {
        for receiver in &self.receivers {
            assert!(receiver.recv_timeout(LONG).unwrap_err().is_disconnected());
        }
        let mut ready = self.watch.wait(LONG);
        until(|| {
            ready.extend(self.watch.ready());
            ready.len() == self.descriptors.len()
        });
        until(|| self.task.woken() == 1);
        match self.task.poll() {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("it waits still"),
        }
    }
}

/// Another thread that waits for the same request, by a handle that it shares.
fn waits_too(lock: &SharedLock, name: &str) -> Waiter<Waited> {
    let lock = lock.clone();
    Waiter::begin(name, move |owner| lock.exclusive(owner).wait().map(Guard::into_owned))
}

#[test]
fn everybody_hears_of_the_grant_once_and_not_before() {
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let (mut first, mut second) =
        (asked(&lock, "first", Exclusive), asked(&lock, "second", Exclusive));
    let [mut first, mut second] =
        [&mut first, &mut second].map(|pending| Watched::new(pending).expect("it is held"));
    assert!(first.is_quiet() && second.is_quiet());
    drop(holder);
    let guard = first.hear().unwrap();
    assert!(second.is_quiet());
    drop(guard);
    assert!(second.hear().is_ok());
}

#[test]
fn everybody_hears_of_the_deletion() {
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let mut pending = asked(&lock, "pending", Shared);
    let thread = waits_too(&lock, "thread");
    let mut watched = Watched::new(&mut pending).expect("it is held");
    assert!(watched.is_quiet());
    holder.delete().unwrap();
    let refused = [watched.hear(), thread.join()];
    assert!(refused.iter().all(|refused| matches!(refused, Err(AcquireError::Deleted { .. }))));
}

#[test]
fn everybody_hears_that_the_time_is_up() {
    let lock = lock();
    let _holder = held(&lock, "holder", Exclusive);
    assert!(on_a_slow_machine(|timeout| {
        let [owner, other] = ["hasty", "thread"].map(Owner::new);
        let [mut hasty, blocking] = [&owner, &other]
            .map(|owner| lock.exclusive(owner).timeout(timeout).into_owned().enqueue());
        let thread = thread::spawn(move || blocking.wait());
        let Some(watched) = Watched::new(&mut hasty) else { return false };
        let refused = [watched.hear(), join(thread)];
        assert!(
            refused.iter().all(|refused| refused.as_ref().is_err_and(AcquireError::is_timeout))
        );
        assert!(slots(&owner) + slots(&other) == 0 && !is_queued(&lock));
        true
    }));
}

#[test]
fn everybody_hears_of_what_is_decided_already() {
    let lock = lock();
    let mut pending = asked(&lock, "first", Exclusive);
    assert!(pending.is_decided() && pending.wait_timeout(ms(0)));
    let descriptor = pending.descriptor().unwrap();
    let mut watch = Watch::new();
    watch.add(&descriptor, 7);
    assert_eq!(watch.wait(LONG), [7]);
    assert_eq!(pending.receiver().try_recv(), Err(TryRecvError::Disconnected));
    let mut task = Task::new(&mut pending);
    assert!(task.poll().is_ready() && task.woken() == 0);
}

/// Though it comes to three locks, and waits at each.
#[test]
fn a_request_for_several_locks_is_heard_of_once_when_all_are_held() {
    let set = LockSet::new("set", Membership::Listed, ["a", "b", "c"]).unwrap();
    let holders = ["a", "b", "c"]
        .map(|name| set.acquire(&Owner::new("holder"), exclusive(name)).now().unwrap());
    let owner = Owner::new("asks for all");
    let mut pending = set.acquire(&owner, exclusive(["a", "b", "c"])).enqueue();
    let receiver = pending.receiver().clone();
    let descriptor = pending.descriptor().unwrap();
    let mut watch = Watch::new();
    watch.add(&descriptor, 0);
    let mut task = Task::new(&mut pending);
    assert!(task.poll().is_pending());
    for holder in holders {
        assert!(task.woken() == 0 && task.poll().is_pending());
        assert!(watch.ready().is_empty() && receiver.try_recv() == Err(TryRecvError::Empty));
        drop(holder);
    }
    assert_eq!((task.woken(), watch.wait(LONG)), (1, vec![0]));
    assert!(receiver.try_recv() == Err(TryRecvError::Disconnected) && task.finish().is_ok());
}

#[test]
fn whoever_waits_is_told_what_the_holder_before_left_by_a_panic() {
    let lock = lock();
    let holder = held(&lock, "hasty", Exclusive);
    let pending = asked(&lock, "next", Exclusive);
    panic_holding(holder);
    let abandoned = pending.wait().unwrap().abandoned().expect("it is told");
    assert_eq!(&*abandoned.owner, "hasty");
}

/// A thread blocked in `wait`, a task, a thread in a select, a thread in a poll: one queue.
#[test]
fn waiters_of_all_kinds_are_granted_by_priority_and_then_by_arrival() {
    const ORDER: [(&str, i32); 8] = [
        ("thread", 1),
        ("task", 0),
        ("select", 0),
        ("descriptor", 1),
        ("task", -1),
        ("descriptor", 0),
        ("thread", 0),
        ("select", -1),
    ];
    let (lock, served) = (lock(), Arc::new(Mutex::new(Vec::new())));
    let holder = held(&lock, "holder", Exclusive);
    let threads: Vec<_> = ORDER
        .into_iter()
        .enumerate()
        .map(|(at, (face, priority))| {
            let request = asked(&lock, face, Exclusive);
            request.set_priority(priority);
            let served = Arc::clone(&served);
            thread::spawn(move || {
                let guard = wait_by(face, request).unwrap();
                served.lock().unwrap().push(at);
                drop(guard);
            })
        })
        .collect();
    drop(holder);
    threads.into_iter().for_each(join);
    let mut expected: Vec<_> = (0..ORDER.len()).collect();
    expected.sort_by_key(|at| ORDER[*at].1);
    assert_eq!(*served.lock().unwrap(), expected);
}

fn wait_by(face: &str, request: Pending<AcquireLock<'static>>) -> Waited {
    match face {
        "task" => pollster::block_on(request),
        "select" => {
            let (_shutdown, shut_down) = bounded::<()>(0);
            select! {
                recv(request.receiver()) -> _ => {}
                recv(shut_down) -> _ => panic!("nobody shuts down"),
            }
            assert!(request.is_decided());
            request.wait()
        }
        "descriptor" => {
            let descriptor = request.descriptor().unwrap();
            let mut watch = Watch::new();
            watch.add(&descriptor, 0);
            assert_eq!(watch.wait(LONG), [0]);
            assert!(request.is_decided());
            request.wait()
        }
        _ => request.wait(),
    }
}

mod selects {
    use super::*;

    #[test]
    fn a_shutdown_withdraws_the_request_of_a_thread_that_selects() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "selects", Exclusive);
        let (shutdown, shut_down) = bounded::<()>(0);
        let thread = thread::spawn(move || {
            select! {
                recv(pending.receiver()) -> _ => panic!("the lock is held"),
                recv(shut_down) -> _ => drop(pending),
            }
        });
        shutdown.send(()).unwrap();
        join(thread);
        assert!(!is_queued(&lock));
        drop(holder);
        assert!(admits(&lock, Exclusive));
    }

    #[test]
    fn of_several_requests_the_one_granted_is_selected() {
        let locks = [lock(), lock(), lock()];
        let mut holders = locks.each_ref().map(|lock| Some(held(lock, "holder", Exclusive)));
        let mut requests = locks.each_ref().map(|lock| Some(asked(lock, "selects", Exclusive)));
        for at in [2, 0, 1] {
            let holder = holders[at].take();
            let release = thread::spawn(move || drop(holder));
            let mut select = crossbeam_channel::Select::new();
            for request in requests.iter().flatten() {
                select.recv(request.receiver());
            }
            let ready = select.ready_timeout(LONG).expect("one of them is granted");
            assert_eq!(ready, requests[..at].iter().flatten().count());
            assert!(outcome(requests[at].take().unwrap()).is_ok());
            join(release);
        }
    }
}

mod descriptors {
    use super::*;

    #[test]
    fn a_loop_over_several_requests_is_woken_for_each_as_it_is_granted() {
        let locks: Vec<_> = (0..5).map(|_| lock()).collect();
        let mut holders: Vec<_> =
            locks.iter().map(|lock| Some(held(lock, "holder", Exclusive))).collect();
        let mut requests: Vec<_> =
            locks.iter().map(|lock| Some(asked(lock, "looping", Exclusive))).collect();
        let mut watch = Watch::new();
        let descriptors: Vec<_> =
            requests.iter().flatten().map(|request| request.descriptor().unwrap()).collect();
        for (token, descriptor) in descriptors.iter().enumerate() {
            watch.add(descriptor, token);
        }
        assert_eq!(watch.ready(), [0; 0]);
        for at in [3, 0, 4, 1, 2] {
            let holder = holders[at].take();
            let release = thread::spawn(move || drop(holder));
            assert_eq!(watch.wait(LONG), [at]);
            let guard = requests[at].take().unwrap().wait().unwrap();
            assert_eq!((guard.mode(), watch.ready().len()), (Exclusive, 0));
            join(release);
        }
        assert!(locks.iter().all(|lock| lock.mode().is_none()));
    }

    /// Sees that a task waits until another thread lets go of the lock.
    async fn hears(ready: impl Future<Output = std::io::Result<()>>, holder: Guard<'static>) {
        let mut ready = Box::pin(ready);
        assert!(Task::new(&mut ready).poll().is_pending());
        let release = thread::spawn(move || drop(holder));
        assert!(ready.await.is_ok());
        join(release);
    }

    #[test]
    fn a_descriptor_is_waited_for_by_tokio() {
        let (lock, runtime) = (lock(), Builder::new_current_thread().enable_all().build().unwrap());
        for by_stream in [false, true] {
            let holder = held(&lock, "holder", Exclusive);
            let pending = asked(&lock, "task", Exclusive);
            let descriptor = pending.descriptor().unwrap();
            runtime.block_on(async {
                if by_stream {
                    let stream = stream(&descriptor);
                    let stream = tokio::net::UnixStream::from_std(stream).unwrap();
                    hears(stream.readable(), holder).await;
                } else {
                    #[allow(deprecated, reason = "its successor is unsafe")]
                    let descriptor = tokio::io::unix::AsyncFd::new(descriptor).unwrap();
                    hears(async { descriptor.readable().await.map(drop) }, holder).await;
                }
            });
            assert!(outcome(pending).is_ok());
        }
    }

    #[test]
    fn a_descriptor_is_waited_for_by_smol() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "task", Exclusive);
        let descriptor = smol::Async::new(pending.descriptor().unwrap()).unwrap();
        smol::block_on(hears(descriptor.readable(), holder));
        assert!(outcome(pending).is_ok());
    }

    fn stream(descriptor: &Descriptor) -> UnixStream {
        descriptor.as_fd().try_clone_to_owned().unwrap().into()
    }

    #[test]
    fn there_is_nothing_to_read_but_the_end_and_not_before_the_decision() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "reads", Exclusive);
        let descriptor = pending.descriptor().unwrap();
        let mut stream = stream(&descriptor);
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(holder);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        drop(pending);
    }

    #[test]
    fn a_descriptor_dropped_before_the_decision_harms_nobody() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "pending", Exclusive);
        let [dropped, kept] = [pending.descriptor().unwrap(), pending.descriptor().unwrap()];
        drop(dropped);
        assert!(!pending.is_decided());
        let mut watch = Watch::new();
        watch.add(&kept, 1);
        assert_eq!(watch.ready(), [0; 0]);
        drop(holder);
        assert_eq!(watch.wait(LONG), [1]);
        assert!(outcome(pending).is_ok());
    }

    #[test]
    fn a_descriptor_outlives_its_request_and_tells_that_it_was_withdrawn() {
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "pending", Exclusive);
        let (descriptor, receiver) = (pending.descriptor().unwrap(), pending.receiver().clone());
        let mut watch = Watch::new();
        watch.add(&descriptor, 1);
        drop(pending);
        assert_eq!(watch.wait(LONG), [1]);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    }
}

#[test]
fn a_thread_that_waits_for_so_long_only_leaves_the_request_in_line() {
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let pending = asked(&lock, "patient", Exclusive);
    assert!(!pending.wait_timeout(ms(0)) && !pending.wait_timeout(ms(2)));
    assert_eq!(pending.position(), Some(0));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| pending.wait_timeout(Duration::MAX));
        drop(holder);
        until(|| waiting.is_finished());
        assert!(waiting.join().unwrap());
    });
    assert!(pending.wait().is_ok());
}

#[test]
fn every_thread_that_waits_for_one_request_hears_of_it() {
    for _ in 0..5 {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "pending", Exclusive);
        thread::scope(|scope| {
            let waiting = [(); 3].map(|()| scope.spawn(|| pending.wait_timeout(LONG)));
            // Most likely they sleep by then; if not, they hear of it all the same.
            let begun = now();
            until(|| begun.elapsed() > ms(3));
            drop(holder);
            waiting.into_iter().for_each(|thread| assert!(thread.join().unwrap()));
            // When its time is up a thread looks, too.
            assert!(begun.elapsed() < LONG);
        });
    }
}
