//! Agents in processes of their own, which share a directory.

use std::any::type_name_of_val;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tierlock::Mode;
use tierlock::coordination;
use tierlock::coordination::synchronized::{Blocking, Coordinator, Lock};

use super::{EXCLUSIVE, SHARED};

/// A directory that goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            env::temp_dir().join(format!("tierlock-synchronized-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.display())
    }

    fn lock(&self) -> Lock {
        let agent = Coordinator::new(coordination::Coordinator::connect(&self.url()));
        agent.start().unwrap();
        agent.get_lock("lock").unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const URL: &str = "TIERLOCK_TEST_AGENT";

/// An agent in another process: told what to do by a word on a line, it answers `true` or `false`.
struct Agent {
    process: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    fn new(folder: &Folder) -> Self {
        let (_, name) = type_name_of_val(&an_agent_does_what_it_is_told).split_once("::").unwrap();
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(URL, folder.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (words, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, words, answers: BufReader::new(answers) }
    }

    fn say(&mut self, word: &str) {
        writeln!(self.words, "{word}").unwrap();
    }

    #[track_caller]
    fn answer(&mut self) -> bool {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the agent ended");
            if let Some((_, answer)) = line.split_once("answer ") {
                return answer.trim() == "true";
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, word: &str) -> bool {
        self.say(word);
        self.answer()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other process. In a run of all tests nobody tells it anything.
#[test]
fn an_agent_does_what_it_is_told() {
    let Some(url) = env::var_os(URL) else { return };
    let agent = Coordinator::new(coordination::Coordinator::connect(url.to_str().unwrap()));
    agent.start().unwrap();
    let lock = agent.get_lock("lock").unwrap();
    let acquire = |blocking: Blocking, mode: Mode| lock.acquire(blocking, mode).unwrap();
    for word in std::io::stdin().lines() {
        let answer = match &*word.unwrap() {
            "try" => acquire(Blocking::No, EXCLUSIVE),
            "share" => acquire(Blocking::No, SHARED),
            "wait" => acquire(Blocking::Yes, EXCLUSIVE),
            "release" => lock.release(),
            "is_still_owner" => lock.is_still_owner(),
            "break" => !lock.break_lock().unwrap().is_empty(),
            "touch" => touch_everything(url.to_str().unwrap().strip_prefix("file://").unwrap()),
            other => panic!("{other}?"),
        };
        println!("answer {answer}");
    }
}

/// Opens and closes every file below, as a backup does.
fn touch_everything(folder: &str) -> bool {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            touch_everything(path.to_str().unwrap());
        } else {
            drop(File::open(path));
        }
    }
    true
}

#[test]
fn processes_exclude_each_other() {
    let folder = Folder::new("exclude");
    let (mut one, mut other) = (Agent::new(&folder), Agent::new(&folder));
    assert!(one.ask("try"));
    assert!(!other.ask("try") && !other.ask("share") && !other.ask("release"));
    other.say("wait");
    assert!(one.ask("release"));
    assert!(other.answer());
    assert!(!one.ask("try"));
}

#[test]
fn trap_1_shared_is_shared_between_processes() {
    let folder = Folder::new("share");
    let (mut one, mut other) = (Agent::new(&folder), Agent::new(&folder));
    assert!(one.ask("share") && other.ask("share"));
    assert!(!folder.lock().acquire(false, EXCLUSIVE).unwrap());
    assert!(one.ask("release") && other.ask("is_still_owner") && other.ask("release"));
    assert!(folder.lock().acquire(false, EXCLUSIVE).unwrap());
}

#[test]
fn trap_2_a_lock_stays_though_its_holder_opens_and_closes_its_files() {
    let folder = Folder::new("touch");
    let (mut one, mut other) = (Agent::new(&folder), Agent::new(&folder));
    assert!(one.ask("try") && one.ask("touch"));
    assert!(!other.ask("try"));
    assert!(one.ask("is_still_owner"));
}

#[test]
fn trap_8_no_name_leaves_the_directory() {
    let folder = Folder::new("paths");
    let inside = Folder(folder.0.join("inside"));
    fs::create_dir(&inside.0).unwrap();
    let agent = Coordinator::new(coordination::Coordinator::connect(&inside.url()));
    agent.start().unwrap();
    for name in ["../xevil", "../insidevil", "/xevil", "..", "."] {
        assert!(agent.get_lock(name).unwrap().acquire(false, EXCLUSIVE).unwrap());
    }
    let names: Vec<_> =
        fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["inside"]);
}

#[test]
fn whoever_waits_has_the_lock_of_a_process_that_is_killed() {
    let folder = Folder::new("killed");
    let (mut one, mut other) = (Agent::new(&folder), Agent::new(&folder));
    assert!(one.ask("try"));
    other.say("wait");
    drop(one);
    assert!(other.answer() && other.ask("is_still_owner"));
}

#[test]
fn a_lock_can_be_broken_from_another_process() {
    let folder = Folder::new("break");
    let (mut one, mut other) = (Agent::new(&folder), Agent::new(&folder));
    assert!(one.ask("try") && other.ask("break") && other.ask("try"));
    assert!(!one.ask("is_still_owner") && !one.ask("release"));
    assert!(other.ask("is_still_owner"));
}
