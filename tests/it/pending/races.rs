//! What happens at the very moment in which a request is granted: on another thread, between the grant and the news of it.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{ALL, LockSet, Membership, Owner, Pending, SetGuard, SetRequest, exclusive, shared};

use super::{Task, asked, held, lock, outcome};
use crate::support::{admits, holds, ms, now, slots, until};

/// So many that whoever tells them of their grant is not soon through.
const MANY: usize = 200;

/// How often the moment has to be met.
const OFTEN: usize = 5;

fn names() -> Vec<String> {
    (0..MANY).map(|at| format!("n{at:03}")).collect()
}

fn set_of(names: &[String]) -> LockSet {
    let names = names.iter().cloned().chain(["z".to_owned()]);
    LockSet::new("set", Membership::Listed, names).unwrap()
}

#[test]
fn a_lock_granted_to_a_request_that_is_dropped_before_it_hears_of_that_is_given_back() {
    let mut met = 0;
    until(|| {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let owners: Vec<_> = (0..MANY).map(|_| Owner::new("reader")).collect();
        let mut readers: Vec<_> = owners.iter().map(|owner| lock.shared(owner).enqueue()).collect();
        thread::scope(|scope| {
            scope.spawn(|| drop(holder));
            until(|| lock.mode() == Some(Shared));
            // All of them hold it now, and are told one after the other.
            let last = readers.pop().expect("there are many");
            met += usize::from(!last.is_decided());
            drop(last);
        });
        assert_eq!(slots(&owners[MANY - 1]), 0);
        assert!(readers.iter().all(Pending::is_decided) && !admits(&lock, Exclusive));
        drop(readers);
        assert_eq!(lock.mode(), None);
        met >= OFTEN
    });
}

#[test]
fn an_upgrade_granted_to_a_request_that_is_dropped_before_it_hears_of_that_is_undone() {
    let (names, mut met) = (names(), 0);
    until(|| {
        let set = set_of(&names);
        let holder = set.acquire(&Owner::new("holder"), shared(names.clone())).now().unwrap();
        let hold = |name: &String| {
            set.acquire(&Owner::new("reader"), shared(name.as_str())).now().unwrap()
        };
        let mut guards: Vec<SetGuard> = names.iter().map(hold).collect();
        let mut upgrades: Vec<_> = guards
            .iter_mut()
            .zip(&names)
            .map(|(guard, name)| guard.upgrade(name.as_str()).enqueue())
            .collect();
        thread::scope(|scope| {
            scope.spawn(|| drop(holder));
            // Names come back in reverse, and so it is told.
            until(|| upgrades[MANY - 1].is_decided());
            met += usize::from(!upgrades[0].is_decided());
            drop(upgrades.remove(0));
        });
        assert!(upgrades.iter().all(Pending::is_decided));
        drop(upgrades);
        for (guard, name) in guards.iter().zip(&names) {
            assert_eq!(guard.holds(name), Some(Shared));
        }
        let all = || set.acquire(&Owner::new("observer"), shared(names.clone())).now();
        assert!(all().is_ok());
        drop(guards);
        assert!(set.acquire(&Owner::new("observer"), exclusive(names.clone())).now().is_ok());
        met >= OFTEN
    });
}

#[test]
fn a_request_dropped_on_its_way_to_the_next_lock_holds_neither() {
    let (names, mut met) = (names(), 0);
    until(|| {
        let set = set_of(&names);
        let [holder, last] = [exclusive(names.clone()), exclusive("z")]
            .map(|request| set.acquire(&Owner::new("holder"), request).now().unwrap());
        let owners: Vec<_> = names.iter().map(|_| Owner::new("asks for two")).collect();
        let ask = |(owner, name): (&Owner, &String)| {
            set.acquire(owner, exclusive([name.as_str(), "z"])).enqueue()
        };
        let mut requests: Vec<_> = owners.iter().zip(&names).map(ask).collect();
        thread::scope(|scope| {
            scope.spawn(|| drop(holder));
            until(|| holds(&owners[MANY - 1]) == 2);
            met += usize::from(holds(&owners[0]) == 1);
            drop(requests.remove(0));
        });
        assert_eq!(slots(&owners[0]), 0);
        assert!(set.acquire(&Owner::new("observer"), exclusive(names[0].as_str())).now().is_ok());
        drop((requests, last));
        assert!(owners.iter().all(|owner| slots(owner) == 0));
        assert!(set.acquire(&Owner::new("observer"), exclusive(names.clone())).now().is_ok());
        met >= OFTEN
    });
}

#[test]
fn a_cancellation_that_meets_the_grant_says_what_became_of_it() {
    let (mut withdrawn, mut granted) = (0, 0);
    until(|| {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let (first, next) = (asked(&lock, "first", Exclusive), asked(&lock, "next", Exclusive));
        let begun = AtomicBool::new(false);
        let cancelled = thread::scope(|scope| {
            scope.spawn(|| {
                begun.store(true, Ordering::SeqCst);
                drop(holder);
            });
            until(|| begun.load(Ordering::SeqCst));
            first.cancel()
        });
        match cancelled {
            None => withdrawn += 1,
            Some(guard) => {
                granted += 1;
                assert!(!next.is_decided() && guard.is_ok());
            }
        }
        assert!(outcome(next).is_ok());
        assert_eq!(lock.mode(), None);
        withdrawn >= OFTEN && granted >= OFTEN || withdrawn + granted > 2000
    });
}

#[test]
fn a_grant_that_meets_the_deadline_is_had_or_passed_on() {
    let (owner, mut rounds) = (Owner::new("hasty"), 0);
    until(|| {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let begun = now();
        let hasty = lock.exclusive(&owner).timeout(ms(1)).enqueue();
        let next = asked(&lock, "next", Shared);
        // Around the deadline, a little before or after it.
        let wait = ms(1) - Duration::from_micros(60) + Duration::from_micros(2 * rounds);
        until(|| begun.elapsed() >= wait);
        drop(holder);
        match hasty.wait() {
            Ok(guard) => assert!(guard.mode() == Exclusive && !next.is_decided()),
            Err(refused) => assert!(refused.is_timeout()),
        }
        assert_eq!(slots(&owner), 0);
        until(|| next.is_decided());
        assert!(outcome(next).is_ok());
        assert_eq!(lock.mode(), None);
        rounds += 1;
        rounds == 100
    });
}

#[test]
fn whatever_is_asked_of_a_request_by_others_meanwhile_it_is_granted_once() {
    for _ in 0..200 {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let (request, next) = (asked(&lock, "request", Exclusive), asked(&lock, "next", Exclusive));
        next.set_priority(1);
        thread::scope(|scope| {
            for priority in [-1, 0] {
                let request = &request;
                scope.spawn(move || {
                    while !request.wait_timeout(ms(0)) {
                        request.set_priority(priority);
                        assert_ne!(request.position(), Some(1));
                        let _receiver = request.receiver().clone();
                    }
                });
            }
            drop(holder);
        });
        assert!(!next.is_decided() && outcome(request).is_ok() && next.is_decided());
    }
}

/// A task hears of a grant by whichever waker it left last, however often it is polled meanwhile.
#[test]
fn a_task_that_is_polled_again_and_again_does_not_miss_the_grant() {
    for _ in 0..200 {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let mut request = asked(&lock, "request", Exclusive);
        thread::scope(|scope| {
            scope.spawn(|| drop(holder));
            for _ in 0..100 {
                let mut task = Task::new(&mut request);
                if task.poll().is_ready() {
                    return;
                }
            }
            let mut task = Task::new(&mut request);
            if task.poll().is_pending() {
                until(|| task.woken() == 1);
                assert!(task.poll().is_ready());
            }
        });
        assert!(admits(&lock, Exclusive));
    }
}

/// Who is inside each of the names, to see that nobody meets whom it must not.
#[derive(Default)]
struct Inside([AtomicI32; 4]);

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Inside {
    fn look(&self, guard: &SetGuard) {
        for (name, inside) in NAMES.iter().zip(&self.0) {
            match guard.holds(name) {
                Some(Exclusive) => {
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 0);
                    inside.fetch_add(1, Ordering::SeqCst);
                }
                Some(Shared) => {
                    assert!(inside.fetch_add(1, Ordering::SeqCst) >= 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
                _ => {}
            }
        }
    }
}

/// The same numbers each time, though not the same races.
struct Dice(u32);

impl Dice {
    fn below(&mut self, count: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % count
    }

    fn request(&mut self) -> SetRequest {
        let names = NAMES.into_iter().filter(|_| self.below(2) == 0).collect::<Vec<_>>();
        match self.below(7) {
            0 => exclusive(ALL),
            1 => shared(ALL),
            2 => exclusive(ALL).opportunistic(),
            3 | 4 => shared(names),
            _ => exclusive(names),
        }
    }
}

#[test]
fn requests_made_dropped_and_taken_at_random_meet_nobody_and_leave_nothing() {
    let set = LockSet::new("set", Membership::Listed, NAMES).unwrap();
    let inside = Inside::default();
    let owners = [(); 4].map(|()| Owner::new("at random"));
    thread::scope(|scope| {
        for (seed, owner) in (1..).zip(&owners) {
            let (set, inside) = (&set, &inside);
            scope.spawn(move || {
                let mut dice = Dice(seed);
                (0..400).for_each(|_| at_random(&mut dice, set, owner, inside));
            });
        }
    });
    assert!(owners.iter().all(|owner| slots(owner) == 0));
    assert!(set.acquire(&owners[0], exclusive(ALL)).now().is_ok());
    assert!(set.acquire(&owners[0], exclusive(NAMES)).now().is_ok());
}

/// One request, and what becomes of it.
fn at_random(dice: &mut Dice, set: &LockSet, owner: &Owner, inside: &Inside) {
    let request = set.acquire(owner, dice.request()).priority(dice.below(3) as i32);
    let mut pending = match dice.below(3) {
        0 => request.timeout(ms(1)).enqueue(),
        _ => request.enqueue(),
    };
    let looks_on = Duration::from_micros(u64::from(dice.below(300)));
    let outcome = match dice.below(5) {
        0 => None,
        1 => {
            let polled = Task::new(&mut pending).poll();
            pending.set_priority(dice.below(3) as i32);
            match polled {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            }
        }
        _ => {
            let _decided = pending.wait_timeout(looks_on);
            pending.cancel()
        }
    };
    let Some(Ok(mut guard)) = outcome else { return };
    inside.look(&guard);
    let upgrade = guard.upgrade(ALL).enqueue();
    let _decided = upgrade.wait_timeout(looks_on);
    if dice.below(2) == 0 {
        drop(upgrade.cancel());
    } else {
        drop(upgrade);
    }
    inside.look(&guard);
}
