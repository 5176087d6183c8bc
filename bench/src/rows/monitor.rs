//! Row 12: a look at every lock of a large set, and what it costs those who take locks meanwhile.

use std::cell::Cell;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tierlock::{LockMonitor, LockSet, Membership, Mode, Owner, SetGuard, exclusive};

use super::Inputs;
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::{Dice, Ring, names};
use crate::table::{Case, Line, Target, Unit};

const HELD: usize = 1_000;

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let count = effort.pick(100_000, 10_000);
    let watched = Watched::new(count);
    let title = format!("snapshot of {count} locks, {HELD} held");
    let snapshot = Contender::new("tierlock", |closely| {
        let snapshot = watched.monitor.snapshot();
        if closely {
            let held = snapshot.rows().iter().filter(|row| !row.owners.is_empty()).count();
            // And the set-lock, which all of them hold.
            assert_eq!((snapshot.rows().len(), held), (count + 1, HELD + 1));
        }
        black_box(snapshot);
    });
    let rounds = effort.pick(31, 3);
    let snapshots = Case::race(12, title, Effort { rounds, ..effort }, vec![snapshot])
        .target("tierlock", Target::AtMost(20e6));
    let meanwhile = Effort { rounds: effort.pick(41, 3), ..effort.longer(25) };
    let (look, sort) = (|| drop(watched.monitor.snapshot()), || sort(count));
    let (waits, none, others) = Default::default();
    let taking = vec![
        watched.taking("tierlock, snapshots meanwhile", Some(&look), &waits),
        watched.taking("tierlock, nothing meanwhile", None, &none),
        watched.taking("tierlock, other names sorted meanwhile", Some(&sort), &others),
    ];
    let mut taking = Case::race(12, "taking one of them by name", meanwhile, taking)
        .target("tierlock, nothing meanwhile", Target::Ratio(1.1));
    let waited = Line::new("waits for a snapshot in all that time", waits.get(), Unit::Count);
    taking.lines.push(waited.target(Target::Exactly(0.0)));
    vec![snapshots, taking]
}

/// A set in which some names are held, each by another owner.
struct Watched {
    monitor: LockMonitor,
    set: LockSet,
    free: Vec<Arc<str>>,
    _held: Vec<SetGuard>,
}

impl Watched {
    fn new(count: usize) -> Self {
        let mut free = Dice::new().some(&names(count), count);
        let set = LockSet::new("node", Membership::Listed, free.clone()).unwrap();
        let hold = |name| set.acquire(&Owner::new("job"), exclusive(name)).now().unwrap();
        let held = free.drain(..HELD).map(hold).collect();
        free.truncate(HELD);
        let monitor = LockMonitor::new();
        monitor.register(&set);
        Self { monitor, set, free, _held: held }
    }

    /// Takes free names on this thread while another one does something over and over. How long that takes is this thread's own
    /// time, which stands still when it waits; so that is counted besides.
    fn taking<'a>(
        &'a self,
        name: &str,
        meanwhile: Option<&'a (dyn Fn() + Sync)>,
        waits: &'a Cell<f64>,
    ) -> Contender<'a> {
        let (owner, mut names) = (Owner::new("taker"), Ring::new(self.free.clone()));
        let mut take = Contender::new(name, move |closely| {
            let name = names.next();
            let guard = self.set.acquire(&owner, exclusive(Arc::clone(name))).now().unwrap();
            if closely {
                assert_eq!(guard.holds(name), Some(Mode::Exclusive));
            }
            black_box(&guard);
        });
        Contender::custom(name, move |batch| {
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                if let Some(meanwhile) = meanwhile {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            meanwhile();
                        }
                    });
                }
                let before = waits_of_this_thread();
                let taken = take.run(batch);
                waits.update(|waits| waits + waits_of_this_thread() - before);
                over.store(true, Ordering::Relaxed);
                taken
            })
        })
    }
}

/// How often this thread gave up its core because it had to wait, by what the system says.
fn waits_of_this_thread() -> f64 {
    let status = fs::read_to_string("/proc/thread-self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("as it does")
}

/// As much memory as a snapshot touches, and no lock.
fn sort(count: usize) {
    let mut names = Dice::new().some(&names(count), count);
    names.sort_unstable();
    black_box(names);
}
