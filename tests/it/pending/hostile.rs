//! Misuse, panics, leaks, and a system that has nothing left: they harm nobody else.

use std::mem::forget;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use tierlock::Mode::{Exclusive, Shared};
use tierlock::ganeti::Level::{Cluster, Instance, Node};
use tierlock::{
    ALL, AcquireError, Guard, Level, LockSet, Membership, Owner, Pending, UpgradeError, ganeti,
    shared,
};

use super::wakers::Bomb;
use super::{Bell, Task, asked, held, is_alone, lock, outcome, poll_with};
use crate::support::{LONG, admits, in_time, is_queued, ms, panic_holding, slots, until};

mod taken_twice {
    use super::*;

    /// What is said by the panic, and whether its location is in this file.
    fn panic_of(act: impl FnOnce()) -> (String, bool) {
        let seen = Arc::new(Mutex::new(None));
        let note = Arc::clone(&seen);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let here = info.location().is_some_and(|location| location.file() == file!());
            let text = info.payload_as_str().unwrap_or_default().to_owned();
            *note.lock().unwrap() = Some((text, here));
        }));
        let panicked = catch_unwind(AssertUnwindSafe(act));
        panic::set_hook(before);
        assert!(panicked.is_err());
        seen.lock().unwrap().take().expect("the hook saw it")
    }

    #[test]
    fn an_outcome_is_taken_once_and_the_panic_says_where_it_was_taken_again() {
        // The hook is the process's.
        if !is_alone(an_outcome_is_taken_once_and_the_panic_says_where_it_was_taken_again, "", &[])
        {
            return;
        }
        let (lock, owner) = (lock(), Owner::new("twice"));
        let waker = Waker::noop();
        let mut context = Context::from_waker(waker);

        let mut awaited = Box::pin(lock.exclusive(&owner).into_future());
        assert!(awaited.as_mut().poll(&mut context).is_ready());
        let again = panic_of(|| drop(awaited.as_mut().poll(&mut context)));
        assert_eq!(again, ("polled after it gave its outcome".to_owned(), true));

        let taken = "the outcome of this request was taken already".to_owned();
        let had = || {
            let mut pending = lock.exclusive(&owner).enqueue();
            assert!(Pin::new(&mut pending).poll(&mut Context::from_waker(waker)).is_ready());
            pending
        };
        let mut pending = had();
        let again = panic_of(|| drop(Pin::new(&mut pending).poll(&mut context)));
        assert_eq!(again, (taken.clone(), true));
        let pending = had();
        assert_eq!(panic_of(|| drop(pending.wait())), (taken.clone(), true));
        let pending = had();
        assert_eq!(panic_of(|| drop(pending.cancel())), (taken, true));
        assert!(slots(&owner) == 0 && lock.mode().is_none());
    }

    #[test]
    fn after_it_was_taken_everything_else_that_is_asked_of_a_request_is_harmless() {
        let lock = lock();
        let mut pending = asked(&lock, "pending", Exclusive);
        let guard = Task::new(&mut pending).finish().unwrap();
        assert!(pending.is_decided() && pending.wait_timeout(ms(0)));
        pending.set_priority(-1);
        assert_eq!(pending.position(), None);
        assert!(pending.receiver().try_recv().is_err() && !format!("{pending:?}").is_empty());
        drop(pending);
        assert_eq!(lock.mode(), Some(Exclusive));
        drop(guard);
    }
}

/// Subscribers of `tracing`: they run on the thread of whoever asks, or gives up.
mod subscribers {
    use super::*;

    /// Panics when it hears of a span, or of an event.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Panics {
        AtSpans,
        AtEvents,
    }

    impl Subscriber for Panics {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("tierlock")
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            assert!(*self != Self::AtSpans, "as a subscriber");
            Id::from_u64(1)
        }

        fn event(&self, _: &Event<'_>) {
            assert!(*self != Self::AtEvents, "as a subscriber");
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[track_caller]
    fn panics(subscriber: Panics, act: impl FnOnce()) {
        let act = || tracing::subscriber::with_default(subscriber, act);
        assert!(catch_unwind(AssertUnwindSafe(act)).is_err());
    }

    #[test]
    fn one_that_panics_at_the_span_of_a_request_leaves_nobody_in_line() {
        let (lock, owner) = (lock(), Owner::new("owner"));
        let holder = held(&lock, "holder", Exclusive);
        panics(Panics::AtSpans, || drop(lock.exclusive(&owner).enqueue()));
        panics(Panics::AtSpans, || drop(lock.exclusive(&owner).wait()));
        assert!(slots(&owner) == 0 && !is_queued(&lock));
        drop(holder);
        assert!(admits(&lock, Exclusive));
    }

    #[test]
    fn one_that_panics_at_the_span_of_an_upgrade_leaves_the_guard_as_it_was() {
        let lock = lock();
        let (mut guard, other) = (held(&lock, "guard", Shared), held(&lock, "other", Shared));
        panics(Panics::AtSpans, || drop(guard.upgrade().enqueue()));
        assert!(guard.mode() == Shared && admits(&lock, Shared));
        drop((guard, other));
        assert!(admits(&lock, Exclusive));
    }

    #[test]
    fn one_that_panics_when_the_time_is_up_lets_those_behind_go() {
        let (lock, owner) = (lock(), Owner::new("hasty"));
        let _reader = held(&lock, "reader", Shared);
        thread::scope(|scope| {
            let behind = scope.spawn(|| {
                until(|| is_queued(&lock));
                let behind = asked(&lock, "behind", Shared);
                assert!(in_time(|| behind.wait_timeout(ms(1))), "it waits for ever");
            });
            let hasty = lock.exclusive(&owner).timeout(ms(20));
            panics(Panics::AtEvents, || drop(hasty.wait()));
            until(|| behind.is_finished());
            behind.join().unwrap();
        });
        assert!(slots(&owner) == 0 && !is_queued(&lock));
    }

    #[test]
    fn one_that_panics_at_a_waker_that_panicked_keeps_the_news_from_nobody_else() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let mut readers = [(); 2].map(|()| asked(&lock, "reader", Shared));
        let [first, second] = &mut readers;
        let bell = Arc::new(Bell::default());
        assert!(poll_with(first, &Arc::new(Bomb)).is_pending());
        assert!(poll_with(second, &bell).is_pending());
        // Whether that panic is the releaser's is not said.
        let release = || tracing::subscriber::with_default(Panics::AtEvents, || drop(holder));
        let _panicked = catch_unwind(AssertUnwindSafe(release));
        assert!(readers.iter().all(Pending::is_decided));
        assert_eq!(bell.rung(), 1);
    }
}

mod upgrades {
    use super::*;

    #[test]
    fn the_second_of_two_is_decided_at_once_it_would_deadlock() {
        let lock = lock();
        let [mut first, mut second] = [held(&lock, "first", Shared), held(&lock, "second", Shared)];
        let mut task = Task::new(first.upgrade().enqueue());
        assert!(task.poll().is_pending());
        for timeout in [None, Some(LONG)] {
            let again = second.upgrade();
            let again = match timeout {
                Some(timeout) => again.timeout(timeout).enqueue(),
                None => again.enqueue(),
            };
            assert!(again.is_decided() && again.position().is_none());
            assert!(again.receiver().try_recv().is_err_and(|error| error.is_disconnected()));
            let refused = outcome(again).unwrap_err();
            let UpgradeError::WouldDeadlock { blockers, .. } = refused else { panic!("{refused}") };
            assert_eq!(blockers[0].to_string(), "first (shared)");
        }
        assert!(task.woken() == 0 && second.mode() == Shared);
        drop(second);
        assert!(task.woken() == 1 && task.finish().is_ok());
        assert_eq!(first.mode(), Exclusive);
    }
}

mod panics {
    use super::*;

    /// Nobody did anything with what it was granted.
    #[test]
    fn a_request_dropped_by_a_panic_abandons_nothing_though_it_was_granted() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "hasty", Exclusive);
        drop(holder);
        panic_holding(pending);
        assert!(held(&lock, "next", Exclusive).abandoned().is_none());
        let mut guard = held(&lock, "reader", Shared);
        panic_holding(guard.upgrade().enqueue());
        drop(guard);
        assert!(held(&lock, "next", Exclusive).abandoned().is_none());
    }

    #[test]
    fn what_a_panic_left_is_told_to_who_takes_the_lock_not_to_who_was_granted_it_and_left() {
        let lock = lock();
        let holder = held(&lock, "hasty", Exclusive);
        let (left, taken) = (asked(&lock, "left", Exclusive), asked(&lock, "taken", Exclusive));
        panic_holding(holder);
        assert!(left.is_decided());
        drop(left);
        assert!(outcome(taken).unwrap().abandoned().is_some());
    }

    #[test]
    fn a_session_dropped_by_a_panic_while_it_asks_for_more_abandons_what_it_held() {
        let manager = ganeti::manager(["web1"], [""; 0], ["n1"], [""; 0]).build().unwrap();
        let mut holder = manager.session("holder");
        holder.acquire([Cluster.shared("BGL"), Node.shared(ALL)]).now().unwrap();
        let mut hasty = manager.session("hasty");
        hasty.acquire([Cluster.shared("BGL"), Instance.exclusive("web1")]).now().unwrap();
        panic_holding(hasty.acquire_owned(Node.exclusive("n1")).enqueue());
        drop(holder);
        let mut next = manager.session("next");
        let wanted = [Cluster.shared("BGL"), Instance.exclusive(ALL), Node.exclusive(ALL)];
        let grant = next.acquire(wanted).now().unwrap();
        let told: Vec<_> = grant.abandoned().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["instance/web1 was abandoned by hasty"]);
    }
}

/// Forgetting leaks, which is safe: nobody else comes to hold what is held by the forgotten.
mod forgotten {
    use super::*;

    #[test]
    fn a_request_stays_in_line_as_its_owner() {
        let (lock, owner) = (lock(), Owner::new("forgetful"));
        let holder = held(&lock, "holder", Exclusive);
        forget(lock.exclusive(&owner).enqueue());
        assert!(matches!(lock.shared(&owner).now(), Err(AcquireError::AlreadyHeld { .. })));
        drop(holder);
        assert!(lock.is_held_by(&owner, Exclusive) && !admits(&lock, Shared));
    }

    #[test]
    fn an_upgrade_keeps_its_lock_whatever_the_guard_does_then() {
        type Act = fn(Guard<'static>);
        let acts: [Act; 4] = [
            drop,
            |mut guard| guard.downgrade(),
            |guard| drop(guard.delete()),
            |mut guard| assert!(outcome(guard.upgrade()).is_err()),
        ];
        for act in acts {
            for is_granted in [false, true] {
                let lock = lock();
                let (mut guard, reader) =
                    (held(&lock, "forgetful", Shared), held(&lock, "reader", Shared));
                forget(guard.upgrade().enqueue());
                if is_granted {
                    drop(reader);
                    act(guard);
                } else {
                    act(guard);
                    assert_eq!(lock.mode(), Some(Shared));
                    drop(reader);
                }
                assert!(lock.mode() == Some(Exclusive) && !admits(&lock, Shared));
            }
        }
    }

    #[test]
    fn an_upgrade_keeps_its_names_whatever_becomes_of_the_rest() {
        for is_granted in [false, true] {
            let set = LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap();
            let hold = |request| set.acquire(&Owner::new("somebody"), request).now();
            let (mut guard, reader) =
                (hold(shared(["a", "b"])).unwrap(), hold(shared("b")).unwrap());
            forget(guard.upgrade(ALL).enqueue());
            if is_granted {
                drop((reader, guard));
            } else {
                drop((guard, reader));
            }
            assert!(hold(shared("a")).is_err() && hold(shared("b")).is_err());
        }
    }

    #[test]
    fn an_upgrade_of_a_session_keeps_its_names_when_the_session_ends() {
        for is_granted in [false, true] {
            let manager = ganeti::manager([""; 0], [""; 0], ["n1", "n2"], [""; 0]).build().unwrap();
            let hold = |names: &[&str]| {
                let mut session = manager.session("somebody");
                session.acquire([Cluster.shared("BGL"), Node.shared(names)]).now().map(|_| session)
            };
            let (mut session, reader) = (hold(&["n1", "n2"]).unwrap(), hold(&["n2"]).unwrap());
            forget(session.upgrade(Node, ALL).enqueue());
            if is_granted {
                drop((reader, session));
            } else {
                drop((session, reader));
            }
            assert!(hold(&["n1"]).is_err() && hold(&["n2"]).is_err());
        }
    }
}

#[cfg(unix)]
mod descriptors {
    use std::io::{Error, Read};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Few enough to use them up.
    const FEW: &str = "ulimit -n 40 || exit 1";

    /// A descriptor as what it is, beside the one that keeps it registered.
    fn stream(descriptor: &impl AsFd) -> Result<UnixStream, Error> {
        descriptor.as_fd().try_clone_to_owned().map(UnixStream::from)
    }

    #[test]
    fn if_there_are_none_left_that_is_an_error_and_the_request_waits_on() {
        const TOO_MANY_OPEN_FILES: i32 = 24;
        if !is_alone(if_there_are_none_left_that_is_an_error_and_the_request_waits_on, FEW, &[]) {
            return;
        }
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let mut pending = asked(&lock, "pending", Exclusive);
        let mut descriptors = Vec::new();
        let refused = loop {
            match pending.descriptor() {
                Ok(descriptor) => descriptors.push(descriptor),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.raw_os_error(), Some(TOO_MANY_OPEN_FILES));
        assert!(descriptors.len() > 1 && pending.position() == Some(0));
        // Room for the one that is read below.
        descriptors.pop();
        let mut task = Task::new(&mut pending);
        assert!(task.poll().is_pending());
        drop(holder);
        assert_eq!(task.woken(), 1);
        for descriptor in descriptors {
            assert_eq!(stream(&descriptor).unwrap().read(&mut [0]).unwrap(), 0);
        }
        assert!(task.finish().is_ok());
    }

    /// As in a loop that looks at something else each time.
    #[test]
    fn one_that_is_dropped_is_closed_though_the_request_waits_on() {
        if !is_alone(one_that_is_dropped_is_closed_though_the_request_waits_on, FEW, &[]) {
            return;
        }
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "pending", Exclusive);
        for turn in 0..1000 {
            let descriptor = pending.descriptor();
            assert!(descriptor.is_ok(), "{} in turn {turn}", descriptor.unwrap_err());
        }
    }
}
