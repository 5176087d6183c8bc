//! Sessions that do anything on hierarchies of any shape.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::thread;
use tierlock::Owner;

use crate::support::{AnyWay, dice, explore};
use crate::worker::{Dice, Ground};

#[test]
fn four_sessions_all_end_never_conflict_and_are_refused_what_is_out_of_order() {
    explore(|| all_end(4, |_, _, _| ()));
}

#[test]
fn eight_sessions_all_end_never_conflict_and_are_refused_what_is_out_of_order() {
    explore(|| all_end(8, |_, _, _| ()));
}

#[test]
fn sessions_that_panic_leave_everything_to_the_others_and_tell_what_they_abandon() {
    explore(|| {
        // Two panics at once would be one too many for the thread that stands for all.
        let panics = AtomicBool::new(false);
        all_end(5, move |ground, thread, dice| {
            if dice.one_in(2) && !panics.swap(true, Ordering::Relaxed) {
                ground.worker(thread, &Owner::new("hasty"), dice, &AnyWay).visit_and_panic();
                panics.store(false, Ordering::Relaxed);
            }
        });
    });
}

/// So many threads, each of which visits a few times, and does what is to come then.
fn all_end(threads: usize, then: impl Fn(&Ground, usize, &mut Dice) + Send + Sync + 'static) {
    let mut dice = dice();
    let ground = Arc::new((Ground::new(&mut dice), then));
    let begin = |thread| {
        let (own, mut dice) = (Arc::clone(&ground), Dice(dice.roll()));
        thread::spawn(move || {
            let (ground, then) = &*own;
            let owner = Owner::new(format!("thread-{thread}"));
            for _ in 0..1 + dice.below(3) {
                ground.worker(thread, &owner, &mut dice, &AnyWay).visit(4);
            }
            then(ground, thread, &mut dice);
        })
    };
    let threads: Vec<_> = (0..threads).map(begin).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    ground.0.assert_at_rest();
}
