//! An agent that is one loop over `crossbeam_channel::select!`: it takes commands, waits for a lock and hears of its shutdown,
//! all at once. It answers while it waits, gives up by itself at a deadline, and leaves no request behind when it ends.
//!
//! `cargo run --example select_loop`. The lock is `production`: whoever deploys or repairs has it alone.

use std::collections::VecDeque;
use std::error::Error;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use tierlock::{AcquireLock, Mode, Owner, Pending, SharedLock};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

type Release = &'static str;

enum Command {
    /// Deploys a release, if production can be had in this time.
    Deploy(Release, Duration),
    /// Says what the agent is at.
    Report(Sender<String>),
}

struct Agent {
    production: SharedLock,
    owner: Owner,
    /// The release that production is asked for.
    asked: Option<(Release, Pending<AcquireLock<'static>>)>,
    /// Those after it, and how long each may wait.
    queue: VecDeque<(Release, Duration)>,
    events: Sender<String>,
}

impl Agent {
    /// Works until the other end of `shutdown` is gone; returns the releases it did not come to.
    fn run(mut self, commands: &Receiver<Command>, shutdown: &Receiver<()>) -> Vec<Release> {
        let nothing = never();
        loop {
            let decided = self.asked.as_ref().map_or(&nothing, |(_, pending)| pending.receiver());
            select! {
                recv(commands) -> command => match command {
                    Ok(Command::Deploy(release, limit)) => self.queue.push_back((release, limit)),
                    Ok(Command::Report(answer)) => drop(answer.send(self.report())),
                    Err(_) => break,
                },
                recv(decided) -> _ => self.deploy(),
                recv(shutdown) -> _ => break,
            }
            if self.asked.is_none() {
                self.ask();
            }
        }
        // Dropping what is pending withdraws it.
        let asked = self.asked.map(|(release, _pending)| release);
        asked.into_iter().chain(self.queue.into_iter().map(|(release, _)| release)).collect()
    }

    /// Asks for production, if there is something to deploy.
    fn ask(&mut self) {
        let Some((release, limit)) = self.queue.pop_front() else { return };
        let request = self.production.exclusive(&self.owner).timeout(limit);
        self.asked = Some((release, request.into_owned().enqueue()));
    }

    fn deploy(&mut self) {
        let Some((release, pending)) = self.asked.take() else { return };
        // Decided, so this does not block.
        let event = match pending.wait() {
            Ok(_guard) => {
                assert!(self.production.is_held_by(&self.owner, Mode::Exclusive));
                format!("{release} is deployed")
            }
            Err(error) => format!("{release} is not: {error}"),
        };
        let _ = self.events.send(event);
    }

    fn report(&self) -> String {
        let place = self.asked.as_ref().and_then(|(release, pending)| {
            let place = pending.position()? + 1;
            Some(format!("{release} is number {place} in line, {} to come", self.queue.len()))
        });
        place.unwrap_or_else(|| "nothing waits".to_owned())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let production = SharedLock::new("production");
    let (commands, inbox) = unbounded();
    let (shutdown, stopped) = bounded(0);
    let (events, happened) = unbounded();
    let agent = Agent {
        production: production.clone(),
        owner: Owner::new("agent"),
        asked: None,
        queue: VecDeque::new(),
        events,
    };
    let agent = thread::spawn(move || agent.run(&inbox, &stopped));
    let say = |said: &str, expected: &str| {
        println!("{said}");
        assert!(said.contains(expected), "expected: {expected}");
    };
    let report = || -> Result<String, Box<dyn Error>> {
        let (answer, answered) = bounded(1);
        commands.send(Command::Report(answer))?;
        Ok(answered.recv_timeout(LONG)?)
    };

    let engineer = Owner::new("engineer");
    let repair = production.exclusive(&engineer).now()?;
    commands.send(Command::Deploy("v1", LONG))?;
    say(&report()?, "v1 is number 1 in line, 0 to come");
    drop(repair);
    say(&happened.recv_timeout(LONG)?, "v1 is deployed");

    let repair = production.exclusive(&engineer).timeout(LONG).wait()?;
    commands.send(Command::Deploy("v2", SHORT))?;
    say(&happened.recv_timeout(LONG)?, "v2 is not: agent timed out");

    for release in ["v3", "v4"] {
        commands.send(Command::Deploy(release, LONG))?;
    }
    say(&report()?, "v3 is number 1 in line, 1 to come");
    drop(shutdown);
    let left = agent.join().map_err(|_| "the agent panicked")?;
    say(&format!("shut down before {left:?}"), r#"["v3", "v4"]"#);

    // Had the agent left its request in line, it would own production now.
    drop(repair);
    assert_eq!(production.mode(), None);
    drop(production.exclusive(&engineer).now()?);
    println!("production is free");
    Ok(())
}
