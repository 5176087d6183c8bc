//! Row 13: locks that the processes of one host share, in a directory.

use std::cell::RefCell;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use tierlock::coordination::Coordinator;
use tierlock::{Level as _, LevelId, LockManager, Mode, Owner, SharedLock};

use super::Inputs;
use crate::clock::{common_time, nanoseconds, process_time};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::names;
use crate::programs;
use crate::table::{Case, Target};
use crate::takers::{TAKERS, Taker, taker};

const LOCAL: &str = "tierlock, of one process";

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let folder = Folder::new();
    let cases = vec![
        kept(effort, &folder),
        sessions(effort, &folder, true),
        sessions(effort, &folder, false),
        alone(effort.longer(5), &folder),
        handed_over(effort.longer(3), &folder),
        together(effort.longer(10), &folder),
    ];
    drop(folder);
    cases
}

/// A directory beside the programs, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(programs::folder().join(format!("across-{}", std::process::id())))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn member(&self, store: &str) -> Coordinator {
        fs::create_dir_all(&self.0).expect("it can be written");
        let url = format!("file://{}", self.join(store).display());
        Coordinator::connect(&url).join("bench").expect("nobody is called so")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is kept, taken again: no word with anybody else, in no thread of the process.
fn kept(effort: Effort, folder: &Folder) -> Case {
    let member = folder.member("lock");
    let (across, local) = (member.lock("config").unwrap().cached(), SharedLock::new("config"));
    let (owner, other) = (Owner::new("job"), Owner::new("job"));
    let contenders = vec![
        Contender::timed("tierlock, across processes", process_time, move |closely| {
            let guard = across.exclusive(&owner).wait().unwrap();
            assert!(!closely || guard.check().is_ok());
        }),
        Contender::timed(LOCAL, process_time, move |closely| {
            let guard = local.exclusive(&other).wait().unwrap();
            assert!(!closely || guard.mode() == Mode::Exclusive);
        }),
    ];
    Case::race(13, "one lock, kept", effort, contenders).target(LOCAL, Target::Ratio(2.0))
}

fn sessions(effort: Effort, folder: &Folder, by_plan: bool) -> Case {
    let member = folder.member(if by_plan { "plan" } else { "names" });
    let contenders = vec![
        session("tierlock, across processes", Some(&member), by_plan),
        session(LOCAL, None, by_plan),
    ];
    let how = if by_plan { "prepared plan" } else { "by names" };
    let title = format!("root shared, one leaf exclusive, kept, {how}");
    Case::race(13, title, effort, contenders).target(LOCAL, Target::Ratio(2.0))
}

fn session<'a>(name: &str, member: Option<&Coordinator>, by_plan: bool) -> Contender<'a> {
    let (root, node) = (LevelId::new(0, "cluster"), LevelId::new(1, "node"));
    let builder = LockManager::builder().fixed_level(&root, ["ALL"]).root("ALL");
    let builder = builder.level(&node, names(10));
    let builder = match member {
        Some(member) => builder.cluster_wide(&root, member).cluster_wide(&node, member),
        None => builder,
    };
    let (manager, leaf) = (builder.build().unwrap(), names(10)[5].clone());
    let plan = manager.plan([root.shared("ALL"), node.exclusive(&*leaf)]).unwrap();
    let mut session = manager.session("job");
    Contender::timed(name, process_time, move |closely| {
        if by_plan {
            session.acquire(black_box(&plan)).wait().unwrap();
        } else {
            session.acquire([root.shared("ALL"), node.exclusive(&*leaf)]).wait().unwrap();
        }
        if closely {
            assert_eq!(session.holds(&node, &leaf), Some(Mode::Exclusive));
            session.verify().unwrap();
        }
        session.release_all();
    })
}

/// Nobody else asks.
fn alone(effort: Effort, folder: &Folder) -> Case {
    let contender = |name| {
        let mut take = taker(name, &folder.join("alone"), "bench");
        let mut count = 0_u64;
        Contender::timed(name, common_time, move |_| take(&mut || count = black_box(count + 1)))
    };
    Case::race(13, "one lock, nobody else asks", effort, TAKERS.map(contender).into())
}

/// Two processes that share a lock.
struct Pair {
    take: Taker,
    peer: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Pair {
    fn new(name: &str, directory: &Path) -> Self {
        let take = taker(name, directory, "bench");
        let mut command = programs::command("bench-peer");
        command.arg(name).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut peer = command.spawn().expect("`cargo xtask bench` builds it");
        let (input, output) = (peer.stdin.take().unwrap(), peer.stdout.take().unwrap());
        let mut pair = Self { take, peer, input, output: BufReader::new(output) };
        assert_eq!(pair.hear(), "ready");
        pair
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it is there");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it says something");
        line.trim_end().to_owned()
    }

    /// From when this process gives it back until the other one has it, which has waited for a while.
    fn hand_over(&mut self) -> f64 {
        let Self { take, input, output, .. } = self;
        let mut given = Duration::ZERO;
        take(&mut || {
            writeln!(input, "take").expect("it is there");
            let mut line = String::new();
            output.read_line(&mut line).expect("it says something");
            // Until it waits.
            thread::park_timeout(Duration::from_millis(4));
            given = common_time();
        });
        let had = Duration::from_nanos(self.hear().parse().expect("digits"));
        nanoseconds(had) - nanoseconds(given)
    }

    /// Both take it as often as they can.
    fn both(&mut self, batch: Duration) -> f64 {
        self.say(&format!("repeat {}", batch.as_millis()));
        let (begun, mut count) = (common_time(), 0_u64);
        while common_time() < begun + batch {
            (self.take)(&mut || count = black_box(count + 1));
        }
        let others: u64 = self.hear().parse().expect("digits");
        nanoseconds(common_time() - begun) / (count + others) as f64
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.peer.kill();
        let _ = self.peer.wait();
    }
}

fn pairs<'a>(
    folder: &Folder,
    run: impl Fn(&mut Pair, Duration) -> f64 + Copy + 'a,
) -> Vec<Contender<'a>> {
    let contender = |name: &'static str| {
        let pair = RefCell::new(Pair::new(name, &folder.join("pairs")));
        Contender::custom(name, move |batch| run(&mut pair.borrow_mut(), batch))
    };
    TAKERS.map(contender).into()
}

fn handed_over(effort: Effort, folder: &Folder) -> Case {
    let contenders = pairs(folder, |pair, _| pair.hand_over());
    Case::race(13, "hand-over between two processes", effort, contenders)
}

fn together(effort: Effort, folder: &Folder) -> Case {
    let contenders = pairs(folder, Pair::both);
    Case::race(13, "one lock, two processes ask all the time", effort, contenders)
}
