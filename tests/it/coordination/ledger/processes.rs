//! Sessions in processes of their own, on files, some of which are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::{env, iter};

use tierlock::coordination::Coordinator;
use tierlock::coordination::ledger::{Ids, Ledger};

use super::super::Dice;
use super::ids;

/// What a process started by a test is told: what it does, as whom, and where.
const PART: &str = "TIERLOCK_LEDGER_PART";

/// A directory of the test's own, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ledger-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn session(&self, name: &str) -> Ledger {
        session(&self.0, name)
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The files of the store whose path says this.
    fn files(&self, what: &str) -> Vec<PathBuf> {
        let mut folders = vec![self.0.join("store")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path),
                }
            }
        }
        files.retain(|path| path.to_string_lossy().contains(what));
        files
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn session(directory: &Path, name: &str) -> Ledger {
    let url = format!("file://{}", directory.join("store").display());
    let coordinator = Coordinator::connect(&url).join(name).unwrap();
    let ledger = Ledger::open(&coordinator, "jobs").unwrap();
    ledger.startup(0).unwrap();
    ledger
}

/// A process of its own, killed when it is dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(directory: &Directory, part: &str, name: &str) -> Self {
        let test = std::any::type_name_of_val(&what_another_process_does);
        let (_, test) = test.split_once("::").unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(PART, format!("{part} {name} {}", directory.0.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Waits until it has said something; what the test harness says does not count.
    fn hear(&mut self) -> String {
        let lines = iter::repeat_with(|| {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the process ended by itself");
            line
        });
        let mut said =
            lines.filter_map(|line| Some(line.split_once("says: ")?.1.trim().to_owned()));
        said.next().unwrap()
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_another_process_does() {
    let Ok(part) = env::var(PART) else { return };
    let [part, name, directory] = part.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!() };
    let session = session(Path::new(directory), name);
    match part {
        "holds" => hold(&session),
        "hammers" => hammer(&session, name, &Path::new(directory).join("log")),
        _ => panic!("no part {part:?}"),
    }
}

fn say(what: &str) {
    std::io::stdout().write_all(format!("says: {what}\n").as_bytes()).unwrap();
}

/// Makes three ids, and more whenever it is told to.
fn hold(session: &Ledger) {
    loop {
        say(&format!("{:?}", session.make_new_ids(3).unwrap()));
        if std::io::stdin().read_line(&mut String::new()).unwrap() == 0 {
            return;
        }
    }
}

/// Makes, locks and releases ids, and enters in the log what it got, afterwards, and what it gives back, before.
fn hammer(session: &Ledger, name: &str, log: &Path) {
    let mut log = OpenOptions::new().append(true).create(true).open(log).unwrap();
    let mut enter = |what: &str, ids: &Ids| {
        let ids: Vec<_> = ids.iter().map(|id| id.to_string()).collect();
        let line = format!("{} {name} {what} {}\n", std::process::id(), ids.join(","));
        log.write_all(line.as_bytes()).unwrap();
    };
    let mut dice = Dice(u64::from(std::process::id()));
    let mut mine = Ids::default();
    loop {
        match dice.roll(3) {
            0 => {
                let made = Ids::from(session.make_new_ids(1 + dice.roll(4)).unwrap());
                enter("made", &made);
                mine = mine.union(&made);
            }
            1 => {
                let from = dice.roll(300);
                let got = session.lock_ids(from..from + dice.roll(30)).unwrap();
                enter("got", &got.difference(&mine));
                mine = mine.union(&got);
            }
            _ => {
                let from = dice.roll(300);
                let released = mine.intersection(&Ids::from(from..from + 60));
                enter("gives", &released);
                assert_eq!(session.release_ids(&released).unwrap(), released);
                mine = mine.difference(&released);
            }
        }
        assert_eq!(session.ids().unwrap(), mine);
        say("a step");
    }
}

/// Reads the log, and says what is wrong with it: an id that was made twice, or held by two who lived.
fn read_log(log: &str) -> Result<usize, String> {
    let (mut made, mut holders) = (BTreeSet::new(), BTreeMap::<u64, &str>::new());
    let mut killed = BTreeSet::new();
    for line in log.lines() {
        let [pid, _, what, list] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("not a line: {line:?}"));
        };
        if what == "killed" {
            killed.insert(pid);
            holders.retain(|_, holder| *holder != pid);
            continue;
        }
        for id in list.split(',').filter(|id| !id.is_empty()).map(|id| id.parse::<u64>().unwrap()) {
            if what == "made" && !made.insert(id) {
                return Err(format!("{id} was made twice, at last by {pid}"));
            }
            match what {
                "gives" => drop(holders.remove(&id)),
                // It was said to be dead before it was.
                _ if killed.contains(pid) => {}
                _ => {
                    if let Some(other) = holders.insert(id, pid) {
                        return Err(format!("{id} is held by {other} and by {pid}"));
                    }
                }
            }
        }
    }
    Ok(made.len())
}

#[test]
fn the_log_of_a_run_is_read_well_enough_to_find_what_is_wrong() {
    assert_eq!(read_log("1 a made 0,1\n2 b got 5\n1 a gives 1\n2 b got 1\n"), Ok(2));
    assert_eq!(read_log("1 a made 0,1\n1 a killed \n2 b got 1\n1 a got 7\n2 b got 7\n"), Ok(2));
    assert!(read_log("1 a made 0,1\n2 b got 1\n").unwrap_err().contains("1 is held by 1 and by 2"));
    assert!(read_log("1 a made 0\n1 a gives 0\n2 b made 0\n").unwrap_err().contains("made twice"));
}

const PROCESSES: u64 = 8;
const LIVES: u64 = 8;

#[test]
fn eight_processes_killed_at_random_share_no_id_and_lose_none() {
    let directory = Directory::new();
    thread::scope(|scope| {
        for at in 0..PROCESSES {
            let directory = &directory;
            scope.spawn(move || live_and_die(directory, at));
        }
    });
    let last = directory.session("last");
    last.check().unwrap();
    let log = fs::read_to_string(directory.log()).unwrap();
    let made = read_log(&log).unwrap();
    assert!(made > 100, "only {made} ids were made");
    let all = Ids::from(0..last.make_new_ids(1).unwrap().end);
    assert_eq!(last.lock_ids(&all).unwrap(), all, "an id is held by nobody that lives");
    last.reap().unwrap();
    assert_eq!(last.other_sessions().unwrap(), []);
}

fn live_and_die(directory: &Directory, at: u64) {
    let mut dice = Dice(at + 1);
    let mut log = OpenOptions::new().append(true).create(true).open(directory.log()).unwrap();
    for _ in 0..LIVES {
        let mut process = Process::start(directory, "hammers", &format!("p{at}"));
        for _ in 0..dice.roll(25) {
            process.hear();
        }
        let line = format!("{} p{at} killed \n", process.child.id());
        log.write_all(line.as_bytes()).unwrap();
        process.kill();
    }
}

#[test]
fn what_a_killed_process_held_is_free_when_it_is_gone() {
    let directory = Directory::new();
    let mut other = Process::start(&directory, "holds", "other");
    assert_eq!(other.hear(), "0..3");
    let session = directory.session("a");
    let holder = session.session_of(1).unwrap().unwrap();
    assert_eq!(holder.member().pid(), other.child.id());
    assert_eq!(session.lock_ids(0..3).unwrap(), Ids::default());
    other.kill();
    assert_eq!(session.session_of(1).unwrap(), None);
    assert_eq!(session.reap().unwrap()[0].ids(), Some(&ids(0..3)));
    assert_eq!(session.lock_ids(0..3).unwrap(), ids(0..3));
}

/// Ganga's trap 9.
#[test]
fn a_stopped_process_keeps_what_it_holds_and_works_on_later() {
    let directory = Directory::new();
    let mut other = Process::start(&directory, "holds", "other");
    assert_eq!(other.hear(), "0..3");
    let session = directory.session("a");
    other.signal("-STOP");
    assert_eq!(session.reap().unwrap(), []);
    assert_eq!(session.lock_ids(0..4).unwrap(), ids(3));
    other.signal("-CONT");
    other.input.write_all(b"more\n").unwrap();
    assert_eq!(other.hear(), "4..7");
}

/// Ganga's trap 1: every call of one process opens and closes what the others lock.
#[test]
fn a_process_that_asks_and_audits_keeps_what_it_holds() {
    let directory = Directory::new();
    let session = directory.session("a");
    session.make_new_ids(2).unwrap();
    session.session_of(0).unwrap().unwrap();
    session.other_sessions().unwrap();
    session.check().unwrap();
    let mut other = Process::start(&directory, "holds", "other");
    assert_eq!(other.hear(), "2..5");
    assert_eq!(session.ids().unwrap(), ids(0..2));
    assert_eq!(session.other_sessions().unwrap().len(), 1);
}

#[test]
fn deleted_files_make_no_process_count_back_or_lose_an_id() {
    for deleted in ["registry", "counter"] {
        let directory = Directory::new();
        let mut other = Process::start(&directory, "holds", "other");
        assert_eq!(other.hear(), "0..3");
        let session = directory.session("a");
        session.make_new_ids(1).unwrap();
        let files = directory.files(deleted);
        assert!(!files.is_empty(), "no file of the {deleted} in {:?}", directory.files(""));
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(session.make_new_ids(1).unwrap(), 4..5);
        assert_eq!(session.lock_ids(0..3).unwrap(), Ids::default());
        other.input.write_all(b"more\n").unwrap();
        assert_eq!(other.hear(), "5..8");
        assert_eq!(session.session_of(2).unwrap().unwrap().member().pid(), other.child.id());
        session.check().unwrap();
    }
}

#[test]
fn a_damaged_file_is_an_error_that_names_it_and_all_goes_on_when_it_is_deleted() {
    for damaged in ["counter", "registry"] {
        let directory = Directory::new();
        let (a, b) = (directory.session("a"), directory.session("b"));
        assert_eq!((a.make_new_ids(3).unwrap(), b.make_new_ids(1).unwrap()), (0..3, 3..4));
        for nonsense in ["", "?", r#"{"format":1}"#] {
            let files = directory.files(damaged);
            files.iter().for_each(|file| fs::write(file, nonsense).unwrap());
            let error = b.make_new_ids(1).unwrap_err().to_string();
            assert!(error.contains(&format!("ledger+jobs+{damaged}")), "{error}");
            // Whoever does not count further does not need the counter.
            let got = b.lock_ids(0..4);
            assert!(if damaged == "counter" { got.unwrap() == ids(3) } else { got.is_err() });
            files.iter().for_each(|file| fs::remove_file(file).unwrap());
            let made = b.make_new_ids(1).unwrap();
            assert!(made.start > 3);
            b.release_ids(made).unwrap();
            assert_eq!(b.lock_ids(0..4).unwrap(), ids(3));
        }
        assert_eq!((a.ids().unwrap(), b.ids().unwrap()), (ids(0..3), ids(3)));
        a.check().unwrap();
    }
}

#[test]
fn a_million_ids_in_a_row_and_half_a_million_ranges_lie_in_files() {
    let directory = Directory::new();
    let (a, b) = (directory.session("a"), directory.session("b"));
    assert_eq!(a.make_new_ids(1_000_000).unwrap(), 0..1_000_000);
    let scattered: Ids = (0..500_000).map(|at| 2_000_000 + 2 * at).collect();
    assert_eq!(a.lock_ids(&scattered).unwrap(), scattered);
    assert_eq!(
        b.lock_ids(999_999..2_000_003).unwrap(),
        Ids::from(1_000_000..2_000_003).difference(&scattered)
    );
    assert_eq!(a.release_ids(0..u64::MAX).unwrap().len(), 1_500_000);
}
