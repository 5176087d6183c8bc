//! Stripes that are full, and gates that open again.

use super::{Enqueued, Held, Lock, Mode, Stripe, Trial, Tried, Who};

use Mode::{Exclusive, IntentExclusive, IntentShared, Shared};

const AT: Stripe = Stripe::of(0);
const MAX: u64 = Held::SHARERS_MAX;

/// A lock counted in stripes, with so many holders.
fn striped(holders: &[(Mode, u64)]) -> Lock<Who> {
    let lock = Trial::new().striped;
    let mut slow = lock.slow.lock();
    lock.close(lock.stripes.as_ref().expect("it has some"));
    for (mode, count) in holders {
        (0..*count).for_each(|_| lock.shift(None, *mode, AT));
    }
    lock.settle(&mut slow, &mut Vec::new());
    drop(slow);
    lock
}

#[test]
fn stripes_that_are_full_let_nobody_past() {
    for mode in [IntentShared, IntentExclusive, Shared] {
        let (lock, mut decided) = (striped(&[(mode, MAX)]), Vec::new());
        let elsewhere = Stripe::of(1);
        assert_eq!(lock.try_take_at(mode, 0, elsewhere, &mut decided), Tried::Blocked);
        let enqueued = lock.enqueue(mode, 0, 'a', &mut decided);
        assert!(matches!(enqueued, Enqueued::Pending(_)), "{enqueued:?}");
        lock.release(mode, AT, &mut decided);
        assert_eq!(decided.into_iter().map(|d| d.waiter).collect::<String>(), "a");
    }
}

#[test]
fn a_gate_that_many_have_passed_is_open_again_when_they_are_few() {
    let (lock, mut decided) = (striped(&[(Shared, 200_000)]), Vec::new());
    assert!(!lock.flags().is_open_for(Shared));
    assert_eq!(lock.try_take_at(Shared, 0, AT, &mut decided), Tried::Taken);
    (0..200_000).for_each(|_| lock.release(Shared, AT, &mut decided));
    assert_eq!(lock.try_take_at(Shared, 0, AT, &mut decided), Tried::Taken);
    assert!(lock.flags().is_open_for(Shared));
    assert_eq!(lock.held(), Held::FREE.with(Shared, 2));
}

#[test]
#[cfg(feature = "coordination")]
fn an_observer_hears_of_who_waits_and_of_nobody_else() {
    let (striped, word) = (Trial::new().striped, Trial::new().lock);
    for lock in [striped, word] {
        let mut decided = Vec::new();
        lock.observe('o');
        for mode in Mode::ALL {
            for shared in [IntentShared, mode] {
                // Beside somebody else behind a gate that is closed, too.
                assert_eq!(lock.try_take_at(mode, 0, AT, &mut decided), Tried::Taken);
                let taken = lock.try_take_at(shared, 0, AT, &mut decided) == Tried::Taken;
                if taken {
                    lock.release(shared, AT, &mut decided);
                }
                lock.release(mode, AT, &mut decided);
            }
        }
        assert!(decided.is_empty(), "{decided:?}");

        assert_eq!(lock.try_take_at(Exclusive, 0, AT, &mut decided), Tried::Taken);
        lock.enqueue(Shared, 0, 'a', &mut decided);
        lock.release(Exclusive, AT, &mut decided);
        let told: String = decided.into_iter().map(|d| d.waiter).collect();
        assert_eq!(told, "oao");
    }
}
