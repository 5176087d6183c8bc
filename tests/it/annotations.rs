//! `#[ssynchronized]`: when a lock is held, as whom, and what becomes of a failure to acquire it.

mod functions;
mod levels;
mod names;
mod tasks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tierlock::{AcquireError, Error, Mode, Owner, SharedLock, ssynchronized};

use crate::support::{LONG, Waiter, admits, ms, now, waits};

/// What an annotated function says that failed to acquire its lock.
#[track_caller]
pub(crate) fn refusal<T>(result: Result<T, Error>) -> AcquireError {
    match result {
        Err(Error::Acquire(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("acquired"),
    }
}

/// Something that is guarded, and looks at its lock while it is.
struct Store {
    lock: SharedLock,
}

impl Store {
    fn new() -> Self {
        Self { lock: SharedLock::new("store") }
    }

    #[ssynchronized(self.lock)]
    fn seen(&self) -> Result<Option<Mode>, Error> {
        Ok(self.lock.mode())
    }

    #[ssynchronized(self.lock)]
    fn leave(&self, how: &str) -> Result<usize, Error> {
        assert_eq!(self.lock.mode(), Some(Mode::Exclusive));
        if how == "return" {
            return Ok(1);
        }
        if how == "error" {
            Err(tierlock::BuildError::MissingRank { rank: 7 })?;
        }
        assert_ne!(how, "panic", "half way");
        Ok(2)
    }
}

#[test]
fn the_lock_is_held_for_the_body_and_no_longer() {
    let store = Store::new();
    assert_eq!(store.seen().unwrap(), Some(Mode::Exclusive));
    assert_eq!(store.lock.mode(), None);
}

#[test]
fn it_is_released_on_return_on_error_and_at_the_end() {
    let store = Store::new();
    assert_eq!(store.leave("return").unwrap(), 1);
    assert_eq!(store.lock.mode(), None);
    assert!(matches!(store.leave("error"), Err(Error::Build(_))));
    assert_eq!(store.lock.mode(), None);
    assert_eq!(store.leave("end").unwrap(), 2);
    assert_eq!(store.lock.mode(), None);
}

#[test]
fn it_is_released_on_panic_and_the_next_holder_hears_of_it() {
    let store = Store::new();
    assert!(catch_unwind(AssertUnwindSafe(|| store.leave("panic"))).is_err());
    assert_eq!(store.lock.mode(), None);
    let next = Owner::new("next");
    let guard = store.lock.exclusive(&next).now().unwrap();
    assert_eq!(*guard.abandoned().unwrap().owner, *Owner::current().name());
}

#[test]
fn temporaries_of_the_last_expression_go_before_the_lock() {
    /// Remembers whether the lock was held when it went.
    struct Late<'a>(&'a SharedLock, &'a std::cell::Cell<Option<Mode>>);

    impl Late<'_> {
        fn value(&self) -> usize {
            17
        }
    }

    impl Drop for Late<'_> {
        fn drop(&mut self) {
            self.1.set(self.0.mode());
        }
    }

    #[ssynchronized(lock)]
    fn look(lock: &SharedLock, seen: &std::cell::Cell<Option<Mode>>) -> Result<usize, Error> {
        Ok(Late(lock, seen).value())
    }

    let seen = std::cell::Cell::new(None);
    look(&SharedLock::new("config"), &seen).unwrap();
    assert_eq!(seen.get(), Some(Mode::Exclusive));
}

macro_rules! holds_in {
    ($($name:ident: ($($option:tt)*) => $mode:ident),* $(,)?) => {
        $(
            #[ssynchronized(lock, $($option)*)]
            fn $name(lock: &SharedLock) -> Result<Option<Mode>, Error> {
                Ok(lock.mode())
            }
        )*

        #[test]
        fn every_mode_can_be_asked_for_and_is_what_is_held() {
            $(
                let lock = SharedLock::new("config");
                assert_eq!($name(&lock).unwrap(), Some(Mode::$mode), stringify!($name));
            )*
        }
    };
}

holds_in! {
    shared: (shared) => Shared,
    exclusive: (exclusive) => Exclusive,
    intent_shared: (intent_shared) => IntentShared,
    intent_exclusive: (intent_exclusive) => IntentExclusive,
    shared_intent_exclusive: (shared_intent_exclusive) => SharedIntentExclusive,
}

#[test]
fn a_mode_can_be_chosen_when_it_comes_to_it() {
    #[ssynchronized(lock, mode = mode)]
    fn held(lock: &SharedLock, mode: Mode) -> Result<Option<Mode>, Error> {
        Ok(lock.mode())
    }

    let lock = SharedLock::new("config");
    for mode in Mode::ALL {
        assert_eq!(held(&lock, mode).unwrap(), Some(mode));
    }
}

#[test]
fn shared_holders_are_in_their_bodies_at_once_and_an_exclusive_one_waits_for_them() {
    static LOCK: LazyLock<SharedLock> = LazyLock::new(|| SharedLock::new("static"));

    #[ssynchronized(LOCK, shared)]
    fn meet(barrier: &std::sync::Barrier) -> Result<(), Error> {
        barrier.wait();
        barrier.wait();
        Ok(())
    }

    #[ssynchronized(LOCK)]
    fn alone() -> Result<(), Error> {
        Ok(())
    }

    let barrier = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        scope.spawn(|| meet(&barrier).unwrap());
        scope.spawn(|| meet(&barrier).unwrap());
        barrier.wait();
        let writer = Waiter::begin("writer", |owner| owner.sync_scope(alone));
        assert!(!writer.is_through());
        barrier.wait();
        writer.join().unwrap();
    });
    assert_eq!(LOCK.mode(), None);
}

#[test]
fn an_expression_may_be_a_call_a_pointer_or_an_element() {
    struct Locks(Vec<SharedLock>);

    impl Locks {
        fn of(&self, at: usize) -> SharedLock {
            self.0[at].clone()
        }
    }

    #[ssynchronized(locks.of(at))]
    fn by_call(locks: &Locks, at: usize) -> Result<Option<Mode>, Error> {
        Ok(locks.0[at].mode())
    }

    #[ssynchronized(locks.0[at], shared)]
    fn by_index(locks: &Locks, at: usize) -> Result<Option<Mode>, Error> {
        Ok(locks.0[at].mode())
    }

    #[ssynchronized(lock)]
    fn by_pointer(lock: Arc<SharedLock>) -> Result<Option<Mode>, Error> {
        Ok(lock.mode())
    }

    let locks = Locks(vec![SharedLock::new("a"), SharedLock::new("b")]);
    assert_eq!(by_call(&locks, 1).unwrap(), Some(Mode::Exclusive));
    assert_eq!(by_index(&locks, 0).unwrap(), Some(Mode::Shared));
    assert_eq!(by_pointer(Arc::new(locks.of(0))).unwrap(), Some(Mode::Exclusive));
}

#[ssynchronized(lock, timeout = "2ms", priority = -5)]
fn within_two_milliseconds(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, timeout = limit)]
fn within(lock: &SharedLock, limit: Duration) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, deadline = limit)]
fn until(lock: &SharedLock, limit: Instant) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock, now)]
fn tried(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[test]
fn time_limits_are_kept_and_their_errors_name_who_was_in_the_way() {
    let (lock, holder) = (SharedLock::new("config"), Owner::new("holder"));
    let guard = lock.exclusive(&holder).now().unwrap();
    let refusals = [
        refusal(within_two_milliseconds(&lock)),
        refusal(within(&lock, ms(2))),
        refusal(until(&lock, now() + ms(2))),
    ];
    for error in refusals {
        let AcquireError::TimedOut { blockers, .. } = error else { panic!("{error}") };
        assert_eq!(&*blockers[0].owner, "holder");
    }
    assert!(matches!(refusal(tried(&lock)), AcquireError::WouldBlock { .. }));
    drop(guard);
    assert!(within(&lock, LONG).is_ok() && until(&lock, now() + LONG).is_ok());
    assert!(tried(&lock).is_ok() && within_two_milliseconds(&lock).is_ok());
}

#[test]
fn the_more_urgent_goes_first() {
    #[ssynchronized(lock, priority = priority)]
    fn note(
        lock: &SharedLock,
        priority: i32,
        order: &std::sync::Mutex<Vec<i32>>,
    ) -> Result<(), Error> {
        order.lock().unwrap().push(priority);
        Ok(())
    }

    let (lock, holder) = (SharedLock::new("config"), Owner::new("holder"));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let guard = lock.exclusive(&holder).now().unwrap();
    let waiters = [3, -5, 0].map(|priority| {
        let (lock, order) = (lock.clone(), Arc::clone(&order));
        Waiter::begin("waiter", move |owner| owner.sync_scope(|| note(&lock, priority, &order)))
    });
    drop(guard);
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    assert_eq!(*order.lock().unwrap(), [-5, 0, 3]);
}

#[test]
fn an_owner_can_be_named() {
    #[ssynchronized(lock, owner = owner)]
    fn holds(lock: &SharedLock, owner: &Owner) -> Result<Option<Mode>, Error> {
        Ok(owner.holds(lock))
    }

    let (lock, job) = (SharedLock::new("config"), Owner::new("job-17"));
    assert_eq!(holds(&lock, &job).unwrap(), Some(Mode::Exclusive));
    let guard = lock.shared(&job).now().unwrap();
    assert!(matches!(refusal(holds(&lock, &job)), AcquireError::AlreadyHeld { .. }));
    drop(guard);
}

#[test]
fn a_recursive_call_is_told_so_and_does_not_hang() {
    #[ssynchronized(lock)]
    fn again(lock: &SharedLock, depth: u32) -> Result<(), Error> {
        if depth == 0 { Ok(()) } else { again(lock, depth - 1) }
    }

    let lock = SharedLock::new("config");
    again(&lock, 0).unwrap();
    let error = refusal(again(&lock, 1));
    assert!(matches!(error, AcquireError::AlreadyHeld { held: Some(Mode::Exclusive), .. }));
    assert_eq!(lock.mode(), None);
}

#[test]
fn a_deleted_lock_is_an_error() {
    let (lock, owner) = (SharedLock::new("config"), Owner::new("job"));
    let guard = lock.exclusive(&owner).now().unwrap();
    let own = lock.clone();
    let waiter = Waiter::begin("waiter", move |_| within(&own, LONG));
    guard.delete().unwrap();
    assert!(matches!(refusal(waiter.join()), AcquireError::Deleted { .. }));
}

mod on_error {
    use super::*;

    #[ssynchronized(lock, now, on_error = panic)]
    fn or_panic(lock: &SharedLock) {}

    #[ssynchronized(lock, now, on_error = |_| None)]
    fn or_nothing(lock: &SharedLock) -> Option<u32> {
        Some(17)
    }

    #[ssynchronized(lock, now, on_error = Refused::because)]
    fn or_own_error(lock: &SharedLock) -> Result<(), Refused> {
        Ok(())
    }

    #[ssynchronized(lock, now)]
    fn or_boxed(lock: &SharedLock) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }

    #[ssynchronized(lock, now, on_error = |error| missed.push(error.to_string()))]
    fn or_note(lock: &SharedLock, missed: &mut Vec<String>) {
        missed.push("none".to_owned());
    }

    #[derive(Debug)]
    struct Refused(String);

    impl Refused {
        fn because(error: Error) -> Result<(), Self> {
            Err(Self(error.to_string()))
        }
    }

    #[test]
    fn a_failure_becomes_what_was_chosen() {
        let (lock, holder) = (SharedLock::new("config"), Owner::new("holder"));
        let guard = lock.exclusive(&holder).now().unwrap();
        let text = "could not have config exclusive at once";
        let panicked = catch_unwind(AssertUnwindSafe(|| or_panic(&lock))).unwrap_err();
        assert!(panicked.downcast_ref::<String>().unwrap().contains(text));
        assert_eq!(or_nothing(&lock), None);
        assert!(or_own_error(&lock).unwrap_err().0.contains(text));
        assert!(or_boxed(&lock).unwrap_err().to_string().contains(text));
        let mut missed = Vec::new();
        or_note(&lock, &mut missed);
        assert!(missed[0].contains(text) && missed.len() == 1);
        drop(guard);
        or_panic(&lock);
        assert_eq!(or_nothing(&lock), Some(17));
        assert!(or_own_error(&lock).is_ok() && or_boxed(&lock).is_ok());
    }
}

#[test]
fn two_annotations_nest_in_the_order_written() {
    #[ssynchronized(a, now)]
    #[ssynchronized(b, now)]
    fn a_then_b(a: &SharedLock, b: &SharedLock) -> Result<(Option<Mode>, Option<Mode>), Error> {
        Ok((a.mode(), b.mode()))
    }

    #[tierlock::ssynchronized(b, now)]
    #[cfg_attr(all(), ssynchronized(a, shared, now))]
    fn b_then_a(a: &SharedLock, b: &SharedLock) -> Result<(Option<Mode>, Option<Mode>), Error> {
        Ok((a.mode(), b.mode()))
    }

    let (a, b, holder) = (SharedLock::new("a"), SharedLock::new("b"), Owner::new("holder"));
    assert_eq!(a_then_b(&a, &b).unwrap(), (Some(Mode::Exclusive), Some(Mode::Exclusive)));
    assert_eq!(b_then_a(&a, &b).unwrap(), (Some(Mode::Shared), Some(Mode::Exclusive)));
    let _guards = (a.exclusive(&holder).now().unwrap(), b.exclusive(&holder).now().unwrap());
    let asked = |error| match error {
        AcquireError::WouldBlock { lock, .. } => lock.to_string(),
        other => panic!("{other}"),
    };
    assert_eq!(asked(refusal(a_then_b(&a, &b))), "a");
    assert_eq!(asked(refusal(b_then_a(&a, &b))), "b");
}

#[test]
fn the_first_lock_is_given_back_if_the_second_is_refused() {
    #[ssynchronized(a)]
    #[ssynchronized(b, now)]
    fn both(a: &SharedLock, b: &SharedLock) -> Result<(), Error> {
        Ok(())
    }

    let (a, b, holder) = (SharedLock::new("a"), SharedLock::new("b"), Owner::new("holder"));
    let _guard = b.shared(&holder).now().unwrap();
    assert!(both(&a, &b).is_err());
    assert_eq!(a.mode(), None);
}

#[test]
fn those_behind_a_call_that_timed_out_go_on() {
    let (lock, holder) = (SharedLock::new("config"), Owner::new("holder"));
    let guard = lock.shared(&holder).now().unwrap();
    let own = lock.clone();
    let writer = Waiter::begin("writer", move |_| within(&own, ms(50)));
    let reader = waits(&lock, "reader", Mode::Shared, |request| request);
    assert!(refusal(writer.join()).is_timeout());
    assert!(reader.join().is_ok());
    assert!(admits(&lock, Mode::Shared));
    drop(guard);
}
