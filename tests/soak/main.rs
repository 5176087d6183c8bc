//! Everything at once, for as long as it is told: threads that wait in every way there is, change their minds, panic, and delete
//! what others wait for. What is held is checked by another hand, and memory and descriptors must not grow.
//!
//! `cargo xtask soak --minutes 20`; by itself, as one of the tests, it takes a few seconds.

mod deletions;
mod faces;
#[path = "../it/properties/model.rs"]
#[allow(dead_code, reason = "the rest is for the properties")]
mod model;
mod usage;
#[path = "../it/properties/visitor.rs"]
mod visitor;
#[path = "../it/properties/worker.rs"]
mod worker;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tierlock::{Owner, SharedLock};

use crate::deletions::Rooms;
use crate::faces::AnyFace;
use crate::usage::Usage;
use crate::visitor::{LockTable, visit};
use crate::worker::{Dice, Ground};

/// More than there are processors, so that some are stopped at any place.
const THREADS: usize = 12;
/// What a thread does before everybody comes to rest.
const VISITS: usize = 200;
/// Longer than a round takes; then somebody waits in vain.
const ROUND_MAX: Duration = Duration::from_secs(300);

fn main() {
    let length = length();
    let begun = now();
    let (mut usage, mut rounds, mut told) = (Usage::default(), 0, Duration::ZERO);
    while begun.elapsed() < length {
        round(rounds);
        rounds += 1;
        usage.measure();
        if begun.elapsed() >= told + Duration::from_secs(60) {
            told = begun.elapsed();
            println!("{} s: {}, {usage}", told.as_secs(), done(rounds));
        }
    }
    println!("{} s: {}, {usage}", begun.elapsed().as_secs(), done(rounds));
    usage.assert_flat();
}

fn done(rounds: u64) -> String {
    format!("{rounds} rounds, {} visits, {}", rounds * (THREADS * VISITS) as u64, faces::count())
}

/// `--minutes N`; what libtest may be told is passed over.
fn length() -> Duration {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--minutes").skip(1);
    let minutes = arguments.next().map(|text| text.parse().expect("a number of minutes"));
    minutes.map_or(Duration::from_secs(4), |minutes: u64| Duration::from_secs(60 * minutes))
}

#[expect(clippy::disallowed_methods, reason = "the library's clock is its own affair")]
fn now() -> Instant {
    Instant::now()
}

/// Everybody does something for a while; then nothing is held any more.
fn round(number: u64) {
    let ground = Arc::new(Ground::new(&mut Dice(number)));
    let locks = ["one", "two", "three"].map(SharedLock::new);
    let (table, rooms) = (Arc::new(LockTable::default()), Arc::new(Rooms::new()));
    let begin = |at: usize| {
        let (ground, locks) = (Arc::clone(&ground), locks.clone());
        let (table, rooms) = (Arc::clone(&table), Arc::clone(&rooms));
        thread::spawn(move || {
            let mut dice = Dice(number << 8 | at as u64);
            let (owner, face) = (Owner::new(format!("thread-{at}")), AnyFace::new());
            for _ in 0..VISITS {
                match dice.below(40) {
                    0 => ground.worker(at, &owner, &mut dice, &face).visit_and_panic(),
                    1..20 => ground.worker(at, &owner, &mut dice, &face).visit(5),
                    20..30 => visit(&face, &mut dice, &owner, &locks, &table),
                    _ => rooms.visit(&face, &mut dice, &owner),
                }
            }
        })
    };
    let threads: Vec<_> = (0..THREADS).map(begin).collect();
    let limit = now() + ROUND_MAX;
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        assert!(now() < limit, "somebody waits in vain:\n{}", ground.snapshot());
        thread::park_timeout(Duration::from_millis(1));
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    ground.assert_at_rest();
    assert!(locks.iter().all(|lock| lock.mode().is_none()));
}
