//! Row 7: more threads than cores want one lock, hold it for 200 ns, and want it again at once.
//!
//! Each section asserts that nobody is in there who must not be.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tierlock::{Mode, Owner, SharedLock};

use super::Inputs;
use crate::clock::{nanoseconds, now};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::Dice;
use crate::table::{Case, Target};

const SECTION_NS: f64 = 200.0;
const FASTEST: &str = "parking_lot 0.13";
const FAIR: &str = "parking_lot 0.13, fair unlock";

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let effort = Effort { rounds: effort.pick(21, 3), ..effort.longer(20) };
    let spins = spins();
    // Each exclusive section is handed over where all are, and so the fair unlock is what compares.
    let mixes =
        [(99, "99 % shared", FASTEST), (90, "90 % shared", FASTEST), (0, "exclusive", FAIR)];
    let cases = mixes.into_iter().flat_map(|(shared, mix, other)| {
        effort.pick(&[2, 4, 8][..], &[4]).iter().map(move |&threads| {
            let arena = Arena { threads, shared, spins };
            let title = format!("contended, {mix}, {threads} threads");
            let locks = Locks::default();
            Case::race(7, title, effort, contenders(arena, &locks))
                .target(other, Target::Ratio(1.2))
        })
    });
    cases.collect()
}

/// One of each kind.
#[derive(Default)]
struct Locks {
    new: RwLock<Section>,
    fair: RwLock<Section>,
    old: parking_lot_12::RwLock<Section>,
    std: std::sync::RwLock<Section>,
    tokio: tokio::sync::RwLock<Section>,
    smol: async_lock::RwLock<Section>,
}

fn contenders(arena: Arena, locks: &Locks) -> Vec<Contender<'_>> {
    let Locks { new, fair, old, std, tokio, smol } = locks;
    vec![
        tierlock(arena),
        arena.contender(FASTEST, |shared, spins| match shared {
            true => new.read().shared(spins),
            false => new.write().exclusive(spins),
        }),
        arena.contender(FAIR, |shared, spins| fairly(fair, shared, spins)),
        arena.contender("parking_lot 0.12", |shared, spins| match shared {
            true => old.read().shared(spins),
            false => old.write().exclusive(spins),
        }),
        arena.contender("std", |shared, spins| match shared {
            true => std.read().unwrap().shared(spins),
            false => std.write().unwrap().exclusive(spins),
        }),
        arena.contender("tokio, blocking", |shared, spins| match shared {
            true => tokio.blocking_read().shared(spins),
            false => tokio.blocking_write().exclusive(spins),
        }),
        arena.contender("async-lock, blocking", |shared, spins| match shared {
            true => smol.read_blocking().shared(spins),
            false => smol.write_blocking().exclusive(spins),
        }),
    ]
}

/// Owners differ from thread to thread, so it needs more than a lock.
fn tierlock(arena: Arena) -> Contender<'static> {
    let shared = Arc::new((SharedLock::new("config"), Section::default()));
    Contender::crowd("tierlock", arena.threads, move |thread| {
        let (both, owner, mut dice) =
            (Arc::clone(&shared), Owner::new("job"), Dice::seeded(thread));
        move |_| {
            let (lock, section) = &*both;
            let mode = if arena.is_shared(&mut dice) { Mode::Shared } else { Mode::Exclusive };
            let guard = lock.acquire(&owner, mode).wait().unwrap();
            match guard.mode() {
                Mode::Shared => section.shared(arena.spins),
                _ => section.exclusive(arena.spins),
            }
        }
    })
}

fn fairly(lock: &RwLock<Section>, shared: bool, spins: u32) {
    if shared {
        let guard = lock.read();
        guard.shared(spins);
        RwLockReadGuard::unlock_fair(guard);
    } else {
        let guard = lock.write();
        guard.exclusive(spins);
        RwLockWriteGuard::unlock_fair(guard);
    }
}

/// Who meets, how many in a hundred want it shared, and how long a section is.
#[derive(Clone, Copy)]
struct Arena {
    threads: usize,
    shared: usize,
    spins: u32,
}

impl Arena {
    fn contender<'l>(
        self,
        name: &str,
        enter: impl Fn(bool, u32) + Copy + Sync + 'l,
    ) -> Contender<'l> {
        Contender::crowd(name, self.threads, move |thread| {
            let mut dice = Dice::seeded(thread);
            move |_| enter(self.is_shared(&mut dice), self.spins)
        })
    }

    fn is_shared(self, dice: &mut Dice) -> bool {
        dice.below(100) < self.shared
    }
}

/// What the lock is for.
#[derive(Default)]
struct Section {
    taken: AtomicBool,
}

impl Section {
    fn shared(&self, spins: u32) {
        spin(spins);
        assert!(!self.taken.load(Ordering::Relaxed), "shared beside exclusive");
    }

    fn exclusive(&self, spins: u32) {
        assert!(!self.taken.swap(true, Ordering::Relaxed), "exclusive beside another");
        spin(spins);
        self.taken.store(false, Ordering::Relaxed);
    }
}

fn spin(spins: u32) {
    (0..spins).for_each(|spin| {
        black_box(spin);
    });
}

/// How many spins make a section: by the fastest of some attempts, which nobody interrupted.
fn spins() -> u32 {
    const SPINS: u32 = 20_000;
    let attempt = |_| {
        let begun = now();
        spin(SPINS);
        nanoseconds(begun.elapsed()) / f64::from(SPINS)
    };
    let each = (0..50).map(attempt).fold(f64::INFINITY, f64::min);
    (SECTION_NS / each).round() as u32
}
