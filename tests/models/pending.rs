//! Requests that are awaited, pending, cancelled and dropped while somebody grants them.

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::thread;
use tierlock::{AcquireError, AcquireLock, Acquiring, Mode, Owner, exclusive};

use crate::support::{Guarded, GuardedSet, TIMED, explore, explore_bounded};

impl Guarded {
    /// As `visit`, by a task.
    fn visit_as_task(&self, name: &'static str, mode: Mode) {
        let owner = Owner::new(name);
        let _guard = block_on(self.lock.acquire(&owner, mode).into_future()).unwrap();
        self.touch(mode);
    }

    /// Polls once, with nobody to be woken, and drops the future.
    fn ask_and_drop(&self, name: &'static str) {
        let owner = Owner::new(name);
        if let Poll::Ready(guard) = poll_once(self.lock.exclusive(&owner).into_future()) {
            let _guard = guard.unwrap();
            self.write();
        }
    }
}

fn poll_once<'a>(
    future: Acquiring<AcquireLock<'a>>,
) -> Poll<Result<tierlock::Guard<'a>, AcquireError>> {
    let future = pin!(future);
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_task_that_registers_its_waker_hears_of_the_grant() {
    explore(|| {
        let guarded = Guarded::new();
        let task = guarded.spawn(|g| g.visit_as_task("b", Mode::Exclusive));
        guarded.visit("a", Mode::Exclusive);
        task.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn two_tasks_and_a_thread_all_end() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let writer = guarded.spawn(|g| g.visit_as_task("b", Mode::Exclusive));
        let reader = guarded.spawn(|g| g.visit_as_task("c", Mode::Shared));
        guarded.visit("a", Mode::Exclusive);
        writer.join().unwrap();
        reader.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn of_two_tasks_that_polled_one_request_the_later_hears_of_the_grant() {
    explore(|| {
        let guarded = Guarded::new();
        let task = guarded.spawn(|g| {
            let owner = Owner::new("b");
            let mut pending = g.lock.exclusive(&owner).enqueue();
            let mut nobody = Context::from_waker(Waker::noop());
            let guard = match pin!(&mut pending).poll(&mut nobody) {
                Poll::Ready(guard) => guard,
                Poll::Pending => block_on(pending),
            };
            let _guard = guard.unwrap();
            g.write();
        });
        guarded.visit("a", Mode::Exclusive);
        task.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_future_dropped_while_it_is_granted_leaves_the_lock_free() {
    explore(|| {
        let guarded = Guarded::new();
        let task = guarded.spawn(|g| g.ask_and_drop("b"));
        guarded.visit("a", Mode::Exclusive);
        task.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn whoever_stands_behind_a_dropped_request_is_served() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let dropped = guarded.spawn(|g| g.ask_and_drop("b"));
        let behind = guarded.spawn(|g| g.visit_as_task("c", Mode::Exclusive));
        guarded.visit("a", Mode::Exclusive);
        dropped.join().unwrap();
        behind.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_reader_behind_a_dropped_writer_joins_the_reader_that_stays() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let holder = Owner::new("a");
        // Held to the end: the reader behind the writer must not need its release.
        let guard = guarded.lock.shared(&holder).wait().unwrap();
        let writer = guarded.spawn(|g| g.ask_and_drop("b"));
        let reader = guarded.spawn(|g| g.visit_as_task("c", Mode::Shared));
        writer.join().unwrap();
        reader.join().unwrap();
        drop(guard);
        guarded.assert_at_rest();
    });
}

#[test]
fn a_cancellation_is_in_time_or_returns_the_lock() {
    explore(|| {
        let guarded = Guarded::new();
        let asking = guarded.spawn(|g| {
            let owner = Owner::new("b");
            if let Some(granted) = g.lock.exclusive(&owner).enqueue().cancel() {
                let _guard = granted.unwrap();
                g.write();
            }
        });
        guarded.visit("a", Mode::Exclusive);
        asking.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_pending_request_that_expires_meets_its_grant_and_loses_nothing() {
    explore(|| {
        let guarded = Guarded::new();
        let task = guarded.spawn(|g| {
            let owner = Owner::new("b");
            match block_on(g.lock.exclusive(&owner).timeout(TIMED).into_future()) {
                Ok(_guard) => g.write(),
                Err(error) => assert!(error.is_timeout(), "{error}"),
            }
        });
        guarded.visit("a", Mode::Exclusive);
        task.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_priority_changed_while_the_lock_is_granted_strands_nobody() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let owner = Owner::new("b");
        let pending = Arc::new(guarded.lock.exclusive(&owner).into_owned().enqueue());
        let to_change = Arc::clone(&pending);
        let changing = thread::spawn(move || to_change.set_priority(-1));
        let other = guarded.spawn(|g| g.visit("c", Mode::Exclusive));
        changing.join().unwrap();
        let pending = Arc::into_inner(pending).expect("the other has ended");
        let guard = pending.wait().unwrap();
        guarded.write();
        drop(guard);
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_writer_made_less_urgent_lets_the_reader_behind_it_go() {
    explore(|| {
        let guarded = Guarded::new();
        let [holder, writer] = ["a", "b"].map(Owner::new);
        let held = guarded.lock.shared(&holder).wait().unwrap();
        let pending = guarded.lock.exclusive(&writer).enqueue();
        let reader = guarded.spawn(|g| g.visit("c", Mode::Shared));
        pending.set_priority(1);
        // Both stay to the end: the reader must not need them to leave.
        reader.join().unwrap();
        drop((pending, held));
        guarded.assert_at_rest();
    });
}

#[test]
fn a_thread_and_a_channel_hear_of_one_grant() {
    explore(|| {
        let guarded = Guarded::new();
        let asking = guarded.spawn(|g| {
            let owner = Owner::new("b");
            let pending = g.lock.exclusive(&owner).enqueue();
            let receiver = pending.receiver().clone();
            let _guard = pending.wait().unwrap();
            g.write();
            let told = receiver.try_recv();
            assert_eq!(told, Err(crossbeam_channel::TryRecvError::Disconnected));
        });
        guarded.visit("a", Mode::Exclusive);
        asking.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn an_upgrade_dropped_while_it_is_granted_leaves_the_lock_held_as_it_was() {
    explore(|| {
        let guarded = Guarded::new();
        let reader = guarded.spawn(|g| g.visit("b", Mode::Shared));
        let owner = Owner::new("a");
        let mut guard = guarded.lock.shared(&owner).wait().unwrap();
        drop(guard.upgrade().enqueue());
        assert_eq!(guard.mode(), Mode::Shared);
        guarded.read();
        reader.join().unwrap();
        assert_eq!(guarded.lock.mode(), Some(Mode::Shared));
        drop(guard);
        guarded.assert_at_rest();
    });
}

#[test]
fn a_chain_dropped_half_way_gives_back_what_it_has() {
    explore_bounded(|| {
        let guarded = GuardedSet::new();
        let other = guarded.clone();
        let other = thread::spawn(move || {
            let owner = Owner::new("b");
            let request = other.set.acquire(&owner, exclusive(["n0", "n1"]));
            if let Some(guard) = request.enqueue().cancel() {
                let _guard = guard.unwrap();
                other.cells.iter().for_each(|cell| cell.with_mut(|_| ()));
            }
        });
        let owner = Owner::new("a");
        {
            let _guard = guarded.set.acquire(&owner, exclusive("n1")).wait().unwrap();
            guarded.cells[1].with_mut(|_| ());
        }
        {
            let _guard = guarded.set.acquire(&owner, exclusive("n0")).wait().unwrap();
            guarded.cells[0].with_mut(|_| ());
        }
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn two_tasks_over_two_locks_both_end() {
    explore_bounded(|| {
        let guarded = GuardedSet::new();
        let visit = |guarded: &GuardedSet, name: &'static str| {
            let owner = Owner::new(name);
            let request = guarded.set.acquire(&owner, exclusive(["n0", "n1"]));
            let _guard = block_on(request.into_future()).unwrap();
            guarded.cells.iter().for_each(|cell| cell.with_mut(|_| ()));
        };
        let other = guarded.clone();
        let other = thread::spawn(move || visit(&other, "b"));
        visit(&guarded, "a");
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_task_hears_that_its_lock_was_deleted() {
    explore(|| {
        let guarded = Guarded::new();
        let task = guarded.spawn(|g| {
            let owner = Owner::new("b");
            match block_on(g.lock.exclusive(&owner).into_future()) {
                Ok(_guard) => g.write(),
                Err(error) => assert!(matches!(error, AcquireError::Deleted { .. })),
            }
        });
        guarded.lock.delete(&Owner::new("a")).wait().unwrap();
        guarded.write();
        task.join().unwrap();
    });
}
