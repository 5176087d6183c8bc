//! Conditions by themselves: the file of the library, with a mutex and a channel that loom watches.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use crate::condition::{Mutex, PipeCondition, SingleNotifyCondition, Wake};
use crate::support::{explore, explore_bounded};

#[test]
fn whoever_waits_for_what_is_set_under_the_mutex_hears_of_it() {
    explore(|| {
        let shared = Arc::new((Mutex::new(false), PipeCondition::new()));
        let own = Arc::clone(&shared);
        let waiting = thread::spawn(move || {
            let mut is_set = own.0.lock();
            while !*is_set {
                own.1.wait(&mut is_set, "b").unwrap();
            }
        });
        {
            let mut is_set = shared.0.lock();
            *is_set = true;
            shared.1.notify_all(&is_set).unwrap();
        }
        waiting.join().unwrap();
        assert_eq!(shared.1.waiting(), 0);
    });
}

#[test]
fn a_notification_reaches_all_who_wait_and_counts_them() {
    explore_bounded(|| {
        let shared = Arc::new((Mutex::new(false), SingleNotifyCondition::new()));
        let wait = |own: &(Mutex<bool>, SingleNotifyCondition)| {
            let mut is_set = own.0.lock();
            let waits = !*is_set;
            if waits {
                own.1.wait(&mut is_set).unwrap();
            }
            usize::from(waits)
        };
        let waiting = [(); 2].map(|()| {
            let own = Arc::clone(&shared);
            thread::spawn(move || wait(&own))
        });
        let woken = {
            let mut is_set = shared.0.lock();
            *is_set = true;
            shared.1.notify_all(&is_set).unwrap()
        };
        let waited: usize = waiting.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(woken, waited);
    });
}

/// The deadline has passed when the wait begins, and meets the notification at any moment.
#[test]
fn whoever_times_out_is_not_counted_by_the_notification_and_whoever_is_counted_does_not() {
    explore(|| {
        let shared = Arc::new((Mutex::new(()), PipeCondition::new()));
        let own = Arc::clone(&shared);
        let waiting = thread::spawn(move || {
            let mut guard = own.0.lock();
            own.1.wait_for(&mut guard, "b", Duration::ZERO).unwrap()
        });
        let woken = shared.1.notify_all(&shared.0.lock()).unwrap();
        let wake = waiting.join().unwrap();
        assert_eq!(woken == 1, wake == Wake::Notified);
        assert_eq!(shared.1.waiting(), 0);
    });
}
