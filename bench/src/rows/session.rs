//! Row 6: what each job of an orchestrator does: the root shared and something below it, on two threads at once.

use std::borrow::Borrow;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use tierlock::{Level as _, LevelId, LockManager, Mode, Plan, Session};

use super::Inputs;
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::names;
use crate::table::{Case, Target};

const THREADS: usize = 2;
const PAIR: &str = "two parking_lot 0.13";

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    // Short, so that two cores can be had for so long.
    let effort = Effort { rounds: effort.rounds / 2, batch: effort.batch / 2, ..effort };
    vec![
        leaves(effort).target(PAIR, Target::Ratio(0.7)),
        // Twice as many threads: 1.7 times as many a second, or each in 1 / 1.7 of the time.
        roots(effort).target("tierlock, 1 thread", Target::Ratio(1.0 / 1.7)),
    ]
}

/// A root, and below it a leaf for each thread.
struct Tree {
    root: LevelId,
    node: LevelId,
    manager: LockManager,
}

impl Tree {
    fn new() -> Self {
        let (root, node) = (LevelId::new(0, "cluster"), LevelId::new(1, "node"));
        let manager = LockManager::builder()
            .fixed_level(&root, ["ALL"])
            .root("ALL")
            .level(&node, names(1_000))
            .build()
            .unwrap();
        Self { root, node, manager }
    }

    fn leaf_plan(&self, leaf: &str) -> Plan {
        let wanted = [self.root.shared("ALL"), self.node.exclusive(leaf)];
        self.manager.plan(wanted).unwrap()
    }

    fn root_plan(&self) -> Plan {
        self.manager.plan([self.root.shared("ALL")]).unwrap()
    }

    fn assert_held(&self, session: &Session, leaf: &str) {
        assert_eq!(session.holds(&self.root, "ALL"), Some(Mode::Shared));
        assert_eq!(session.holds(&self.node, leaf), Some(Mode::Exclusive));
    }
}

fn leaves(effort: Effort) -> Case {
    let (prepared, by_name) = (Tree::new(), Tree::new());
    let (new, old, std) = (Default::default(), Default::default(), Default::default());
    let leaf = |thread: usize| names(1_000)[thread * 500].to_string();
    let contenders = vec![
        Contender::threads("tierlock, prepared plan", THREADS, |thread| {
            let (tree, leaf) = (&prepared, leaf(thread));
            let (plan, mut session) = (tree.leaf_plan(&leaf), tree.manager.session("job"));
            move |closely: bool| {
                session.acquire(black_box(&plan)).now().unwrap();
                if closely {
                    tree.assert_held(&session, &leaf);
                }
                session.release_all();
            }
        }),
        Contender::threads("tierlock, by names", THREADS, |thread| {
            let (tree, leaf) = (&by_name, leaf(thread));
            let mut session = tree.manager.session("job");
            move |closely: bool| {
                let wanted = [tree.root.shared("ALL"), tree.node.exclusive(leaf.as_str())];
                session.acquire(wanted).now().unwrap();
                if closely {
                    tree.assert_held(&session, &leaf);
                }
                session.release_all();
            }
        }),
        parking_lot(&new),
        parking_lot_before(&old),
        std_locks(&std),
    ];
    Case::race(6, "root shared, one leaf exclusive, 2 threads", effort, contenders)
}

/// On cache lines of its own, as long as nobody packs locks as tightly as they go.
#[repr(align(128))]
struct Apart<T>(T);

fn parking_lot(root: &parking_lot::RwLock<u64>) -> Contender<'_> {
    Contender::threads(PAIR, THREADS, move |_| {
        let leaf = Box::new(Apart(parking_lot::RwLock::new(0)));
        move |_: bool| {
            let above = black_box(root).read();
            assert_eq!(*black_box(&leaf.0).write(), *above);
        }
    })
}

fn parking_lot_before(root: &parking_lot_12::RwLock<u64>) -> Contender<'_> {
    Contender::threads("two parking_lot 0.12", THREADS, move |_| {
        let leaf = Box::new(Apart(parking_lot_12::RwLock::new(0)));
        move |_: bool| {
            let above = black_box(root).read();
            assert_eq!(*black_box(&leaf.0).write(), *above);
        }
    })
}

fn std_locks(root: &std::sync::RwLock<u64>) -> Contender<'_> {
    Contender::threads("two std", THREADS, move |_| {
        let leaf = Box::new(Apart(std::sync::RwLock::new(0)));
        move |_: bool| {
            let above = black_box(root).read().unwrap();
            assert_eq!(*black_box(&leaf.0).write().unwrap(), *above);
        }
    })
}

/// The last lines are what the machine can do: two threads that share nothing, and two that share one word. The latter tells
/// two threads of one core from two cores, which a virtual machine may exchange at any time.
fn roots(effort: Effort) -> Case {
    let (together, alone, lock) = (Tree::new(), Tree::new(), parking_lot::RwLock::new(0));
    let turn = Apart(AtomicUsize::new(0));
    let contenders = vec![
        Contender::threads("tierlock, 2 threads", 2, |_| root_of(&together)),
        Contender::threads("tierlock, 1 thread", 1, |_| root_of(&alone)),
        Contender::threads("parking_lot 0.13, 2 threads", 2, |_| {
            let lock = &lock;
            move |_: bool| assert_eq!(*black_box(lock).read(), 0)
        }),
        Contender::threads("tierlock, 2 threads, a root each", 2, |_| root_of(Tree::new())),
        Contender::threads("one word passed on, 2 threads", 2, |who| {
            let turn = &turn.0;
            move |_: bool| pass(turn, who)
        }),
    ];
    Case::race(6, "root shared alone, 2 threads", effort, contenders)
}

/// Waits for its turn, but not for ever, since the other one may have stopped.
fn pass(turn: &AtomicUsize, who: usize) {
    let is_mine = |_: &i32| turn.load(Ordering::Acquire) == who;
    if (0..1_000).find(is_mine).is_some() {
        turn.store(1 - who, Ordering::Release);
    }
}

fn root_of(tree: impl Borrow<Tree>) -> impl FnMut(bool) {
    let root = tree.borrow().root_plan();
    let mut session = tree.borrow().manager.session("job");
    move |closely| {
        session.acquire(black_box(&root)).now().unwrap();
        if closely {
            assert_eq!(session.holds(&tree.borrow().root, "ALL"), Some(Mode::Shared));
        }
        session.release_all();
    }
}
