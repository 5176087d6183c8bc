//! Other processes, which play a part in a claim.
//!
//! What one does it is told by a line on its standard input, and answers by a line on its standard output; it ends when nobody is there
//! to tell it anything.

use std::env;
use std::error::Error;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use super::super::{ClusterGuard, Coordinator, Driver, Key, MemberId, Swap};
use super::peer::{Asked, Peer};
use super::{Ground, PATIENCE};
use crate::core::mode::Mode;

/// How another process is started that takes part, for claims about members in several of them.
///
/// The program that is started calls [`child`], which plays the part; it is the caller's, since it has to contain the driver. A test
/// can start its own program again, with a test that does nothing but that:
///
/// # Examples
/// ```standalone_crate,ignore-windows
/// use std::{env, process::Command, sync::Arc};
/// use tierlock::coordination::conformance::{self, Processes};
/// use tierlock::coordination::file::File; // in place of a driver of one's own
///
/// // A test.
/// fn my_driver_conforms() {
///     let directory = env::temp_dir().join(format!("my-driver-{}", std::process::id()));
///     let url = format!("file://{}", directory.display());
///     let processes = Processes::started_by(|| {
///         let mut again = Command::new(env::current_exe().unwrap());
///         again.args(["--exact", "plays_a_part_in_another_process"]);
///         again
///     });
///     let connect = move || Arc::new(File::connect(&url).unwrap()) as _;
///     # // The whole suite takes some seconds.
///     # let claim = |claim: &str| claim == "modes_of_two_processes_go_together_as_those_of_one";
///     # let report = conformance::check_coordinator(connect, processes, claim);
///     # let _ = std::fs::remove_dir_all(directory);
///     # assert_eq!(report.kept.len(), 1, "{report}");
///     # fn suite(connect: impl Fn() -> Arc<dyn tierlock::coordination::Driver> + Send + Sync + 'static, processes: Processes) {
///     conformance::coordinator(connect, processes);
///     # }
/// }
///
/// // Another, which does nothing unless the suite starts it.
/// fn plays_a_part_in_another_process() {
///     conformance::child(|url| Arc::new(File::connect(url).unwrap()));
/// }
/// # fn main() {
/// #     if !conformance::child(|url| Arc::new(File::connect(url).unwrap())) {
/// #         plays_a_part_in_another_process();
/// #         my_driver_conforms();
/// #     }
/// # }
/// ```
pub struct Processes {
    command: Option<Box<dyn Fn() -> Command + Send + Sync>>,
}

impl Processes {
    /// There is no way to start one: what is claimed of several processes is skipped.
    #[must_use]
    pub fn none() -> Self {
        Self { command: None }
    }

    /// `command` makes a command each time it is called, that runs a program which calls [`child`]. Its standard input and output are
    /// the suite's; what else the program writes there does not disturb.
    #[must_use]
    pub fn started_by(command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self { command: Some(Box::new(command)) }
    }

    pub(super) fn is_none(&self) -> bool {
        self.command.is_none()
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").field("is_none", &self.is_none()).finish()
    }
}

/// Where the engine is, by the name that its driver gives itself.
const AT: &str = "TIERLOCK_CONFORMANCE_AT";
/// As whom it takes part.
const MEMBER: &str = "TIERLOCK_CONFORMANCE_MEMBER";
/// The lock it is about.
const LOCK: &str = "TIERLOCK_CONFORMANCE_LOCK";

/// Begins a line that the suite is to hear.
const SAYS: &str = "conformance says: ";

/// How long a process lives that says nothing, where members die by a time-to-live.
const TTL_OF_PROCESSES: Duration = Duration::from_secs(5);

/// Another process that takes part. Killed when it is dropped.
pub(super) struct Process {
    child: Child,
    /// There until it is to end.
    input: Option<ChildStdin>,
    heard: Receiver<String>,
    name: String,
}

impl Ground {
    /// Starts another process, which takes part under this name.
    pub(super) fn start(&self, name: &str) -> Process {
        let command = self.suite.processes.command.as_ref().expect("asked of those that have one");
        let mut child = command()
            .env(AT, self.connect().name())
            .env(MEMBER, self.name(name))
            .env(LOCK, self.name("lock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("the program cannot be started: {error}"));
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let process = Process { child, input, heard: hear(output), name: self.name(name) };
        process.expect("joined");
        process
    }
}

/// What is said on the output, line by line, until it ends.
fn hear(output: impl BufRead + Send + 'static) -> Receiver<String> {
    let (says, heard) = unbounded();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // A harness may have begun a line of its own and not ended it.
            if let Some((_, said)) = line.split_once(SAYS) {
                let _ = says.send(said.to_owned());
            }
        }
    });
    heard
}

impl Process {
    /// The name of its member.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Has it do something.
    pub(super) fn tell(&mut self, what: &str) {
        let mut input = self.input.as_ref().expect("it goes on until it is to end");
        let told = writeln!(input, "{what}");
        told.unwrap_or_else(|error| panic!("process {} ended: {error}", self.name));
    }

    /// The next it says.
    pub(super) fn answer(&self) -> String {
        self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!(
                "process {} says nothing for {PATIENCE:?}, or ended; does its program call `conformance::child`?",
                self.name
            )
        })
    }

    pub(super) fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.answer()
    }

    #[track_caller]
    pub(super) fn expect(&self, answer: &str) {
        assert_eq!(self.answer(), answer, "what process {} says", self.name);
    }

    /// Kills it: `SIGKILL`, where there are signals. Comes back when it is gone, with what it had said and nobody heard.
    pub(super) fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
        self.hear_the_rest()
    }

    /// Has it come to its end, and hears the rest.
    pub(super) fn end(mut self) -> Vec<String> {
        drop(self.input.take());
        self.hear_the_rest()
    }

    fn hear_the_rest(&self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(said) => rest.push(said),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("process {} does not end", self.name),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays a part in another process, if [`coordinator`](super::coordinator) started this one for that, and tells whether it did; returns
/// when it is over, or at once in any other process. `connect` gets the [name](Driver::name) that the suite's driver gives itself,
/// which is its URL.
///
/// # Examples
/// See [`Processes`].
pub fn child(connect: impl FnOnce(&str) -> Arc<dyn Driver>) -> bool {
    let [Ok(at), Ok(member), Ok(lock)] = [AT, MEMBER, LOCK].map(env::var) else { return false };
    let driver = connect(&at);
    let connect = Coordinator::over(Arc::clone(&driver)).ttl(TTL_OF_PROCESSES);
    match connect.join(&member) {
        Ok(joined) => Part::new(driver, Peer::new(joined, &lock, OWNER)).play(),
        Err(error) => say(&format!("cannot join: {error}")),
    }
    true
}

/// Who locks in another process.
pub(super) const OWNER: &str = "owner-elsewhere";

fn say(what: &str) {
    // One write, so that whoever is killed said all of it or nothing.
    let line = format!("{SAYS}{what}\n");
    let mut output = std::io::stdout();
    // If nobody hears it, this process is about to end.
    let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
}

/// What another process has and does.
struct Part {
    driver: Arc<dyn Driver>,
    peer: Peer,
    key: Key,
    asked: Option<Asked>,
    guard: Option<ClusterGuard<'static>>,
}

impl Part {
    fn new(driver: Arc<dyn Driver>, peer: Peer) -> Self {
        let key = written_key(&peer.lock.name().to_string());
        Self { driver, peer, key, asked: None, guard: None }
    }

    fn play(mut self) {
        say("joined");
        for told in std::io::stdin().lines().map_while(Result::ok) {
            match self.obey(&told) {
                Ok(answer) => say(&answer),
                Err(error) => say(&format!("cannot {told}: {error}")),
            }
        }
    }

    fn obey(&mut self, told: &str) -> Result<String, Box<dyn Error>> {
        let (what, how) = told.split_once(' ').unwrap_or((told, ""));
        Ok(match what {
            "try" => {
                self.guard = self.peer.attempt(mode(how)?);
                if self.guard.is_some() { "granted" } else { "refused" }.to_owned()
            }
            "queue" => {
                self.asked = Some(self.peer.acquire(mode(how)?).enqueue());
                "asked".to_owned()
            }
            "await" => {
                let asked = self.asked.take().ok_or("it asked for nothing")?;
                self.guard = Some(asked.wait()?);
                "granted".to_owned()
            }
            "release" => {
                let guard = self.guard.take().ok_or("it holds nothing")?;
                format!("held {}", guard.release()?)
            }
            "token" => self.guard.as_ref().ok_or("it holds nothing")?.token()?.to_string(),
            "write" => self.write(how.parse()?)?,
            _ => Err("nobody knows how")?,
        })
    }

    /// Writes so often, and says each time what.
    fn write(&self, times: u64) -> Result<String, Box<dyn Error>> {
        for _ in 0..times {
            let guard = self.peer.acquire(Mode::Exclusive).timeout(PATIENCE).wait()?;
            say(&write(&*self.driver, &self.key, self.peer.id(), guard.token()?)?);
        }
        Ok("wrote all".to_owned())
    }
}

fn mode(name: &str) -> Result<Mode, &'static str> {
    let found = Mode::ALL.into_iter().find(|mode| mode.to_string() == name);
    found.ok_or("there is no such mode")
}

/// What is written under the protection of a lock.
pub(super) fn written_key(lock: &str) -> Key {
    Key::of(["written", lock]).expect("a short name makes a key")
}

/// Writes one more, with the token of whoever holds the lock: how often something was written, and the token it was written with.
///
/// # Errors
/// Something was written meanwhile, or with this token or a greater one before.
fn write(
    driver: &dyn Driver,
    key: &Key,
    by: &MemberId,
    token: u64,
) -> Result<String, Box<dyn Error>> {
    let stored = driver.read(key)?;
    let (count, last) = written(stored.content.as_deref());
    if token <= last {
        Err(format!("token {token} came after {last}"))?;
    }
    let next = format!("{} {token}", count + 1);
    match driver.compare_and_swap(key, stored.version, next.as_bytes(), by)? {
        Swap::Done(_) => Ok(format!("wrote {next}")),
        Swap::Conflict => Err("somebody else wrote while the lock was held exclusively".into()),
    }
}

/// How often something was written, and with which token last.
pub(super) fn written(content: Option<&[u8]>) -> (u64, u64) {
    let Some(content) = content else { return (0, 0) };
    let text = std::str::from_utf8(content).expect("digits were written");
    let (count, token) = text.split_once(' ').expect("two numbers were written");
    let number = |digits: &str| digits.parse().expect("digits were written");
    (number(count), number(token))
}
