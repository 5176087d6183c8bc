//! Processes that lock on files, and are killed, stopped and started again at random: no two hold what conflicts, and nothing stays
//! behind.
//!
//! Each writes down what it holds and when. `TIERLOCK_SECONDS=60` lets them go on for so long.

mod log;

use std::env;
use std::fs;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tierlock::coordination::file::File;
use tierlock::coordination::{ClusterGuard, ClusterLock, Coordinator, Driver, Key};
use tierlock::{ALL, AcquireError, Level, LevelId, LockManager, Mode, Owner};

use self::log::{Hold, Log};
use super::Dice;
use crate::support::{LONG, in_time, ms, now, until};

/// What a process started by the test is told: who it is, in which of its lives, and where.
const PART: &str = "TIERLOCK_PROCESSES_PART";
const STORE: &str = "TIERLOCK_PROCESSES_STORE";
const SECONDS: &str = "TIERLOCK_SECONDS";

const PROCESSES: u64 = 8;
const THREADS: u64 = 2;
const NODES: [&str; 3] = ["n1", "n2", "n3"];
const LOCKS: [&str; 3] = ["a", "b", "c"];

/// Nanoseconds on a clock that all processes of the host read alike.
#[expect(clippy::disallowed_methods, reason = "measured from outside, by the clock it promises")]
fn common_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is one");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Nothing is ordered by this: it lets some time pass, of which chance says how much.
fn pause(milliseconds: u64) {
    thread::park_timeout(ms(milliseconds));
}

/// A directory of the test's own, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("processes-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(store(&self.0).join(folder)).expect("it is there");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("ASCII");
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("it can be read"))).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn store(directory: &Path) -> PathBuf {
    directory.join("store")
}

fn join(directory: &Path, name: &str) -> Coordinator {
    let url = format!("file://{}", store(directory).display());
    Coordinator::connect(&url).join(name).unwrap_or_else(|error| panic!("{error}"))
}

fn cluster() -> LevelId {
    LevelId::new(0, "cluster")
}

fn node() -> LevelId {
    LevelId::new(1, "node")
}

fn manager(member: &Coordinator) -> LockManager {
    let builder = LockManager::builder().fixed_level(cluster(), ["BIG"]).root("BIG");
    let builder = builder.level(node(), NODES).cluster_wide(cluster(), member);
    builder.cluster_wide(node(), member).build().unwrap_or_else(|error| panic!("{error}"))
}

/// Another process, in one of its lives. Killed when it is dropped.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
    is_stopped: bool,
}

impl Process {
    fn start(directory: &Path, number: u64, life: u64) -> Self {
        let test = std::any::type_name_of_val(&a_part_that_another_process_plays);
        let (_, test) = test.split_once("::").expect("a test is in a module");
        let mut child = Command::new(env::current_exe().expect("it was started from a file"))
            .args(["--exact", test, "--nocapture"])
            .env(PART, format!("{number} {life}"))
            .env(STORE, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it can be started again");
        let input = child.stdin.take();
        Self { child, input, log: log_of(directory, number, life), is_stopped: false }
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it is ours");
    }

    /// Stops it if it goes on, has it go on if it is stopped.
    fn turn(&mut self) {
        self.send(if self.is_stopped { Signal::SIGCONT } else { Signal::SIGSTOP });
        self.is_stopped = !self.is_stopped;
    }

    /// Kills it; what it held.
    fn kill(mut self) -> Vec<Hold> {
        self.expect_running();
        let killed = common_ns();
        self.send(Signal::SIGKILL);
        self.child.wait().expect("it is ours");
        log::read(&self.log, Some(killed))
    }

    /// Has it come to its end; what it held.
    fn end(mut self) -> Vec<Hold> {
        if self.is_stopped {
            self.turn();
        }
        drop(self.input.take());
        assert!(in_time(|| self.child.try_wait().expect("it is ours").is_some()), "it ends");
        assert!(self.child.wait().expect("it is ours").success());
        log::read(&self.log, None)
    }

    fn expect_running(&mut self) {
        let ended = self.child.try_wait().expect("it is ours");
        assert!(ended.is_none(), "{} ended by itself: {ended:?}", self.log.display());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(directory: &Path, number: u64, life: u64) -> PathBuf {
    directory.join(format!("log-{number}-{life}"))
}

/// What came of it when processes were killed and stopped.
#[derive(Default)]
struct Rage {
    holds: Vec<Hold>,
    kills: u64,
    stops: u64,
}

/// Kills processes at random for so long, and stops them if `stops`, then has them end.
fn rage(directory: &Path, seconds: u64, stops: bool) -> Rage {
    let (mut dice, mut rage, mut hit) = (Dice(0x7165), Rage::default(), 0);
    let first_life = if stops { 0 } else { 1_000_000 };
    let mut lives = [first_life; PROCESSES as usize];
    let start = |number| Process::start(directory, number, first_life);
    let mut processes: Vec<_> = (0..PROCESSES).map(start).collect();
    let (end, limit) = (now() + ms(seconds * 1000), now() + ms(seconds * 1000) + LONG);
    // On a slow machine until some were killed who held something.
    while (now() < end || hit < 3) && now() < limit {
        pause(dice.roll(60));
        let number = dice.roll(PROCESSES);
        let process = &mut processes[number as usize];
        process.expect_running();
        if stops && dice.roll(3) > 0 {
            process.turn();
            rage.stops += u64::from(process.is_stopped);
        } else if fs::metadata(&process.log).is_ok() {
            // It has joined, or is about to.
            lives[number as usize] += 1;
            let killed = processes.remove(number as usize).kill();
            let next = Process::start(directory, number, lives[number as usize]);
            processes.insert(number as usize, next);
            rage.kills += 1;
            hit += u64::from(killed.iter().any(|hold| hold.killed));
            rage.holds.extend(killed);
        }
    }
    processes.iter_mut().filter(|process| process.is_stopped).for_each(Process::turn);
    rage.holds.extend(processes.into_iter().flat_map(Process::end));
    rage
}

#[test]
fn processes_that_are_killed_and_stopped_never_hold_what_conflicts_and_leave_nothing_behind() {
    let seconds = env::var(SECONDS).map_or(4, |text| text.parse().expect("digits"));
    let directory = Directory::new();
    // Only where nobody is stopped it can be told how long a death keeps the others waiting.
    let phases = [true, false].map(|stops| rage(&directory.0, seconds / 2, stops));
    let pauses = log::pauses(&phases[1].holds);
    let [kills, stops] = [|phase: &Rage| phase.kills, |phase: &Rage| phase.stops]
        .map(|of| phases.iter().map(of).sum::<u64>());
    let holds: Vec<_> = phases.into_iter().flat_map(|phase| phase.holds).collect();
    log::check(&holds).unwrap_or_else(|found| panic!("{found}"));
    let killed = holds.iter().filter(|hold| hold.killed).count();
    assert!(killed > 0 && stops > 0, "{killed} holds ended by {kills} kills, {stops} stops");
    let milliseconds = |pause: Option<&u64>| pause.map_or(f64::NAN, |pause| *pause as f64 / 1e6);
    eprintln!(
        "{} holds, {kills} kills, which ended {killed} of them, {stops} stops; {} times somebody waited for what one had who was \
         killed: {:.1} ms (median), {:.1} ms (longest)",
        holds.len(),
        pauses.len(),
        milliseconds(pauses.get(pauses.len() / 2)),
        milliseconds(pauses.last()),
    );
    expect_nothing_left(&directory);
}

/// Whoever comes next asks for everything, gives it back, and leaves.
fn expect_nothing_left(directory: &Directory) {
    let owner = Owner::new("whoever comes next");
    let member = join(&directory.0, "next");
    for name in LOCKS {
        let lock = member.lock(name).unwrap();
        drop(lock.exclusive(&owner).timeout(LONG).wait().unwrap());
    }
    let manager = manager(&member);
    let mut session = manager.session_of(owner);
    session.acquire(cluster().exclusive("BIG")).timeout(LONG).wait().unwrap();
    session.acquire(node().exclusive(NODES)).timeout(LONG).wait().unwrap();
    session.release(node(), ALL).unwrap();
    session.acquire(node().exclusive(ALL)).timeout(LONG).wait().unwrap();
    drop((session, manager));
    drop(member);
    // Its agent may be at something yet.
    until(|| directory.names("members").iter().all(|name| name != "next"));

    let driver = File::open(store(&directory.0)).unwrap();
    assert!(directory.names("members").is_empty(), "{:?}", directory.names("members"));
    assert_eq!(directory.names(""), ["FORMAT", "LOCK", "members", "records"]);
    let locks = LOCKS.map(|name| vec!["lock", name]);
    let nodes = NODES.map(|name| vec!["level", "node", name]);
    let tops = [vec!["level", "cluster"], vec!["level", "cluster", "BIG"], vec!["level", "node"]];
    let keys: Vec<_> = locks.into_iter().chain(nodes).chain(tops).collect();
    assert_eq!(directory.names("records").len(), keys.len(), "{:?}", directory.names("records"));
    for key in keys {
        let stored = driver.read(&Key::of(key.iter().copied()).unwrap()).unwrap();
        let record = serde_json::from_slice(&stored.content.expect("it was locked")).unwrap();
        expect_nobody(&key, &record);
    }
}

fn expect_nobody(key: &[&str], record: &serde_json::Value) {
    assert_eq!(record["holders"], serde_json::json!([]), "{key:?}: {record}");
    let waits = ["conversions", "groups"].map(|kind| record["queue"].get(kind));
    assert_eq!(waits, [None, None], "{key:?}: {record}");
}

#[test]
fn a_part_that_another_process_plays() {
    let Ok(part) = env::var(PART) else { return };
    let (number, life) = part.split_once(' ').expect("who and in which life");
    let [number, life] = [number, life].map(|digits| digits.parse().expect("digits"));
    let directory = PathBuf::from(env::var_os(STORE).expect("it is told where"));
    Worker::new(&directory, number, life).work(number * 1000 + life);
}

/// What a process does: it holds locks and writes that down.
struct Worker {
    log: Log,
    locks: [ClusterLock; LOCKS.len()],
    manager: LockManager,
    over: AtomicBool,
    // Leaves last.
    _member: Coordinator,
}

/// How long a request waits.
#[derive(Clone, Copy)]
enum Patience {
    Tries,
    Short(u64),
    Long,
}

impl Worker {
    fn new(directory: &Path, number: u64, life: u64) -> Self {
        let log = Log::create(&log_of(directory, number, life));
        let member = join(directory, &format!("worker-{number}"));
        let [a, b, c] = LOCKS.map(|name| member.lock(name).unwrap());
        // One that all keep, one that some keep, one that nobody keeps.
        let b = if number.is_multiple_of(2) { b.cached() } else { b };
        Self {
            log,
            locks: [a.cached(), b, c],
            manager: manager(&member),
            over: AtomicBool::new(false),
            _member: member,
        }
    }

    /// Works on several threads until whoever started this process says so, or is dead.
    fn work(&self, seed: u64) {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    let dice = Dice(seed * THREADS + thread);
                    // The others would wait for the end.
                    if catch_unwind(AssertUnwindSafe(|| self.play(dice))).is_err() {
                        std::process::exit(1);
                    }
                });
            }
            let _ = std::io::stdin().read(&mut [0]);
            self.over.store(true, Ordering::Relaxed);
        });
    }

    fn play(&self, mut dice: Dice) {
        let owner = Owner::new("owner");
        while !self.over.load(Ordering::Relaxed) {
            match dice.roll(3) {
                0 => self.use_session(&mut dice),
                _ => self.use_lock(&owner, &mut dice),
            }
        }
    }

    fn use_lock(&self, owner: &Owner, dice: &mut Dice) {
        let lock = &self.locks[dice.roll(LOCKS.len() as u64) as usize];
        let mode = if dice.roll(2) == 0 { Mode::Exclusive } else { Mode::Shared };
        let asked = lock.acquire(owner, mode);
        let patience = Patience::roll(dice);
        let asked = match patience {
            Patience::Tries => asked.now(),
            // Who waits for long is not to starve.
            Patience::Short(time) => asked.priority(1).timeout(ms(time)).wait(),
            Patience::Long => asked.timeout(LONG).wait(),
        };
        let Some(mut guard) = patience.granted(asked) else { return };
        self.hold(&guard, dice);
        if mode == Mode::Shared && dice.roll(4) == 0 {
            // Refused where somebody else converts as well; then it is shared still.
            let _ = guard.upgrade().timeout(ms(dice.roll(20))).wait();
            self.hold(&guard, dice);
        }
    }

    fn hold(&self, guard: &ClusterGuard<'_>, dice: &mut Dice) {
        let token = guard.token().unwrap_or_else(|error| panic!("{error}"));
        let exclusive = guard.mode() == Mode::Exclusive;
        let id = self.log.begins(&guard.name().to_string(), exclusive, token);
        use_it(dice);
        guard.check().unwrap_or_else(|error| panic!("{error}"));
        self.log.ends(id);
    }

    fn use_session(&self, dice: &mut Dice) {
        let mut session = self.manager.session("job");
        let name = NODES[dice.roll(NODES.len() as u64) as usize];
        let wanted = match dice.roll(8) {
            0 => vec![cluster().exclusive("BIG")],
            1 => vec![cluster().shared("BIG"), node().exclusive(ALL)],
            2 => vec![cluster().shared("BIG"), node().shared(ALL)],
            3 => vec![cluster().shared("BIG"), node().shared(NODES)],
            4 | 5 => vec![cluster().shared("BIG"), node().shared(name)],
            _ => vec![cluster().shared("BIG"), node().exclusive(name)],
        };
        let patience = Patience::roll(dice);
        let asked = session.acquire(wanted);
        let asked = match patience {
            Patience::Tries => asked.now().map(drop),
            Patience::Short(time) => asked.timeout(ms(time)).wait().map(drop),
            Patience::Long => asked.timeout(LONG).wait().map(drop),
        };
        if patience.granted(asked).is_none() {
            return;
        }
        let mut ids = Vec::new();
        for (level, names) in [(cluster(), &["BIG"][..]), (node(), &NODES)] {
            for name in names {
                let Some(mode) = session.holds(&level, name) else { continue };
                let token = session.token(&level, name).unwrap_or_else(|error| panic!("{error}"));
                let token = token.expect("it is held");
                ids.push(self.log.begins(name, mode == Mode::Exclusive, token));
            }
        }
        use_it(dice);
        session.verify().unwrap_or_else(|error| panic!("{error}"));
        ids.into_iter().for_each(|id| self.log.ends(id));
    }
}

/// Does something with what is held.
fn use_it(dice: &mut Dice) {
    (0..dice.roll(20)).for_each(|_| thread::yield_now());
}

impl Patience {
    fn roll(dice: &mut Dice) -> Self {
        match dice.roll(4) {
            0 => Self::Tries,
            1 => Self::Short(dice.roll(20)),
            _ => Self::Long,
        }
    }

    /// What was granted, if it was.
    ///
    /// # Panics
    /// If it was not, and should have been.
    fn granted<T>(self, asked: Result<T, AcquireError>) -> Option<T> {
        match (self, asked) {
            (_, Ok(granted)) => Some(granted),
            (Self::Tries, Err(AcquireError::WouldBlock { .. })) => None,
            (Self::Tries | Self::Short(_), Err(error)) if error.is_timeout() => None,
            (_, Err(error)) => panic!("{error}"),
        }
    }
}
