//! Processes of their own: this program again, with a part to play.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tierlock::coordination::file::File;
use tierlock::coordination::{Driver, Swap};

use super::{TTL, key, shell};
use crate::support::LONG;

const PART: &str = "TIERLOCK_TEST_PART";
const STORE: &str = "TIERLOCK_TEST_STORE";

/// Begins a line that is said to the process that started this one.
const SAYS: &str = "says: ";

/// Another process. Killed when it is dropped.
pub(super) struct Process {
    child: Child,
    _input: ChildStdin,
    said: Receiver<String>,
}

impl Process {
    /// Starts one that plays this part in the store, under this name.
    pub(super) fn start(part: &str, store: &Path, name: &str) -> Self {
        let test = std::any::type_name_of_val(&a_part_that_another_process_plays);
        let (_, test) = test.split_once("::").expect("a test is in a module");
        let mut child = Command::new(env::current_exe().expect("it was started from a file"))
            .args(["--exact", test, "--nocapture"])
            .env(PART, format!("{part} {name}"))
            .env(STORE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started again");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, said) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test harness begins a line of its own and does not end it.
                if let Some((_, said)) = line.split_once(SAYS) {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Self { child, _input: input, said }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next it says.
    #[track_caller]
    pub(super) fn hear(&self) -> String {
        self.said.recv_timeout(LONG).expect("it says something")
    }

    /// All it said until it ended.
    pub(super) fn hear_all(&self) -> Vec<String> {
        self.said.iter().collect()
    }

    pub(super) fn send_signal(&self, signal: &str) {
        assert!(shell(&format!("kill -{signal} {}", self.pid())), "it is there");
    }

    /// Kills it, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Kills it, and does not wait.
    pub(super) fn begin_to_kill(&mut self) {
        self.child.kill().expect("it is ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: &str) {
    // One write, so that a process that is killed said all of it or nothing.
    let line = format!("{SAYS}{what}\n");
    let said = std::io::stdout().write_all(line.as_bytes());
    said.expect("somebody hears it");
}

/// Returns when whoever started this process lets it go on, or is dead.
fn wait_for_the_end() {
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_part_that_another_process_plays() {
    let Ok(part) = env::var(PART) else { return };
    let (part, name) = part.split_once(' ').expect("part and name");
    let driver = File::open(env::var_os(STORE).expect("it is told where")).expect("it opens");
    match part {
        "member" => be_member(&driver, name),
        "adds" => add(&driver, name, true),
        "spins" => add(&driver, name, false),
        _ => panic!("no part {part:?}"),
    }
}

/// Joins, and says who it is.
fn be_member(driver: &File, name: &str) {
    match driver.join(name, TTL) {
        Ok(seat) => {
            say(&format!("{:?}", seat.id()));
            wait_for_the_end();
        }
        Err(error) => say(&format!("{:?} {error}", error.kind())),
    }
}

/// Adds one to the number in a record again and again, and says under which version.
fn add(driver: &File, name: &str, counts: bool) {
    let seat = driver.join(name, TTL).expect("the name is free");
    say("joined");
    let key = key("number");
    loop {
        let stored = driver.read(&key).expect("it can be read");
        let text = stored.content.map(|content| String::from_utf8(content).expect("digits"));
        let number: u64 = text.map_or(0, |text| text.parse().expect("digits"));
        let next = (number + 1).to_string();
        let swapped = driver.compare_and_swap(&key, stored.version, next.as_bytes(), seat.id());
        if let Swap::Done(version) = swapped.expect("it can be written")
            && counts
        {
            say(&format!("{} {next}", version.0));
        }
    }
}
