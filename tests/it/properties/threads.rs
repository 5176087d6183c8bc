//! Many threads at once, at random: all come to an end, nobody holds what conflicts, and nothing is held in the end.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tierlock::Mode::Exclusive;
use tierlock::{Acquire, Ageing, Owner, SharedLock, Target};

use super::visitor::{LockTable, visit};
use super::worker::{Dice, Ground, Waits};
use crate::support::{admits, in_time, ms, slots};

const THREADS: usize = 6;

/// A thread that waits for ever, or for a while, or not at all, and ages meanwhile.
struct Thread;

impl Waits for Thread {
    fn outcome<T: Target>(
        &self,
        dice: &mut Dice,
        request: Acquire<T>,
    ) -> Option<Result<T::Granted, T::Error>> {
        let floor = dice.below(10) as i32 - 20;
        let ageing = Ageing::every(ms(1 + dice.below(3) as u64)).floor(floor);
        let request = request.priority(dice.below(7) as i32 - 3).ageing(ageing);
        Some(match dice.below(6) {
            0..3 => request.wait(),
            3 => request.now(),
            _ => request.timeout(Duration::from_micros(dice.below(6000) as u64)).wait(),
        })
    }
}

/// Lets each of some threads work as an owner of its own. A thread that does not end is left behind, so that the test can say so.
fn run(seed: u64, work: impl Fn(&mut Dice, usize, &Owner) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let begin = |thread: usize| {
        let owner = Owner::new(format!("thread-{thread}"));
        let (own, work) = (owner.clone(), Arc::clone(&work));
        let mut dice = Dice(seed << 8 | thread as u64);
        (owner, thread::spawn(move || work(&mut dice, thread, &own)))
    };
    for (owner, thread) in (0..THREADS).map(begin).collect::<Vec<_>>() {
        assert!(in_time(|| thread.is_finished()), "seed {seed}: {owner:?} does not end");
        assert!(thread.join().is_ok(), "seed {seed}: {owner:?} panicked");
        assert_eq!(slots(&owner), 0, "seed {seed}");
    }
}

#[test]
fn random_sessions_on_random_hierarchies_all_end_never_conflict_and_tell_what_they_abandon() {
    for seed in 0..64 {
        let ground = Arc::new(Ground::new(&mut Dice(seed)));
        let own = Arc::clone(&ground);
        run(seed, move |dice, thread, owner| {
            for _ in 0..60 {
                let panics = dice.one_in(20);
                let mut worker = own.worker(thread, owner, dice, &Thread);
                if panics { worker.visit_and_panic() } else { worker.visit(5) }
            }
        });
        ground.assert_at_rest();
    }
}

#[test]
fn random_owners_on_a_few_locks_all_end_and_never_conflict() {
    for seed in 0..24 {
        let locks = [0, 1, 2].map(|at| SharedLock::new(format!("lock-{at}")));
        let (own, table) = (locks.clone(), LockTable::default());
        run(seed, move |dice, _, owner| {
            (0..150).for_each(|_| visit(&Thread, dice, owner, &own, &table));
        });
        assert!(locks.iter().all(|lock| admits(lock, Exclusive)), "seed {seed}");
    }
}
