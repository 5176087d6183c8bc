//! Scenarios in `tests/scripts`: commands, `----`, and what comes of each; rewritten with `UPDATE=1`.
//!
//! | command | does |
//! |---|---|
//! | `request a shared [at -5]`, `try a exclusive [at -5]` | asks for the lock, waiting or not |
//! | `release a`, `withdraw a`, `timeout a` | ends a hold; ends a request |
//! | `downgrade a shared`, `upgrade a exclusive [at -5]`, `try-upgrade a exclusive` | changes the mode of a hold |
//! | `delete a [at -5]` | takes the lock exclusively, if need be, and deletes it |
//! | `priority a -5` | changes the priority of a request |
//!
//! An outcome says what `a` is answered and who else is told what; and, unless that is all there is to say, who holds then and
//! who waits, in queue order, groups with `+`.

use std::path::Path;
use std::{env, fs};

use super::{Answer, Effect, Mode, Outcome, Priority, Step, Trial, Who};

#[test]
fn every_script_comes_to_its_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> =
        files.map(|file| file.expect("a folder that can be read").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no script in {}", folder.display());
    paths.iter().for_each(|path| check(path));
}

/// Runs a script and compares what comes of it with what it says.
fn check(path: &Path) {
    let text = fs::read_to_string(path).expect("a script is text");
    let actual = rewritten(&text);
    if env::var_os("UPDATE").is_some() {
        fs::write(path, actual).expect("a script can be rewritten");
    } else {
        assert!(
            text == actual,
            "{} comes to:\n\n{actual}\nIf so it should: UPDATE=1",
            path.display()
        );
    }
}

/// The script with the outcomes that its commands have.
fn rewritten(text: &str) -> String {
    let mut scene = Scene { lock: Trial::new(), deleting: Vec::new() };
    let blocks = text.split("\n\n").map(|block| {
        let commands = block.trim_end().split("\n----").next().expect("a split has a first part");
        let outcomes = commands.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let outcomes: Vec<_> = outcomes.map(|command| scene.run(command)).collect();
        if outcomes.is_empty() {
            return commands.to_owned();
        }
        format!("{commands}\n----\n{}", outcomes.join("\n"))
    });
    blocks.collect::<Vec<_>>().join("\n\n") + "\n"
}

struct Scene {
    lock: Trial,
    /// Those who delete the lock once they have it.
    deleting: Vec<Who>,
}

impl Scene {
    /// Carries a command out; tells what came of it.
    fn run(&mut self, command: &str) -> String {
        let words: Vec<_> = command.split_whitespace().collect();
        let [verb, who, rest @ ..] = &words[..] else { panic!("{command}: who does what?") };
        let who = who.parse().unwrap_or_else(|_| panic!("{command}: owners are letters"));
        let step =
            self.step(verb, who, rest).unwrap_or_else(|| panic!("{command}: not understood"));
        let effects = self.take(step);
        let answer = answer(step, effects[0].answer).map(|answer| format!("{who} {answer}"));
        let told = effects.iter().flat_map(told);
        let changes = effects.iter().any(|e| matches!(e.answer, Answer::Done | Answer::Withdrawn));
        let state = changes.then(|| self.state());
        answer.into_iter().chain(told).chain(state).collect::<Vec<_>>().join("; ")
    }

    fn step(&mut self, verb: &str, who: Who, rest: &[&str]) -> Option<Step> {
        let mode = || mode(rest.first()?);
        Some(match verb {
            "request" => Step::Request { who, mode: mode()?, priority: priority(&rest[1..])? },
            "try" => Step::Try { who, mode: mode()?, priority: priority(&rest[1..])? },
            "release" => Step::Release { who },
            "withdraw" | "timeout" => Step::Cancel { who },
            "downgrade" => Step::Downgrade { who, to: mode()? },
            "upgrade" => Step::Upgrade { who, to: mode()?, priority: priority(&rest[1..])? },
            "try-upgrade" => Step::TryUpgrade { who, to: mode()? },
            "delete" if self.lock.model.mode_of(who) == Some(Mode::Exclusive) => {
                Step::Delete { who }
            }
            "delete" => {
                self.deleting.push(who);
                Step::Request { who, mode: Mode::Exclusive, priority: priority(rest)? }
            }
            "priority" => Step::SetPriority { who, priority: rest.first()?.parse().ok()? },
            _ => return None,
        })
    }

    /// Takes a step, and lets whoever came to delete do so.
    fn take(&mut self, step: Step) -> Vec<Effect> {
        let mut effects = vec![self.lock.take(step)];
        let holders = self.lock.model.holders();
        let deleter =
            self.deleting.iter().copied().find(|who| holders.contains(&(*who, Mode::Exclusive)));
        effects.extend(deleter.map(|who| self.lock.delete(who)));
        effects
    }

    /// Who holds, and who waits.
    fn state(&self) -> String {
        let model = &self.lock.model;
        if model.is_deleted() {
            return "deleted".to_owned();
        }
        let mut held = Vec::new();
        for mode in Mode::ALL {
            let who =
                model.holders().iter().filter(|holder| holder.1 == mode).map(|holder| holder.0);
            held.extend(
                Some(list(who, ","))
                    .filter(|who| !who.is_empty())
                    .map(|who| format!("{who} {mode}")),
            );
        }
        let held = if held.is_empty() { "free".to_owned() } else { held.join(", ") };
        let groups = model.pending().chunk_by(|a, b| a.from.is_none() && a.place == b.place);
        let groups: Vec<_> =
            groups.map(|group| list(group.iter().map(|p| p.waiter), "+")).collect();
        match model.pending().len() {
            0 => held,
            1 => format!("{held}; {} waits", groups[0]),
            _ => format!("{held}; {} wait", groups.join(", ")),
        }
    }
}

fn mode(word: &str) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| mode.to_string() == word)
}

fn priority(words: &[&str]) -> Option<Priority> {
    match words {
        [] => Some(0),
        ["at", priority] => priority.parse().ok(),
        _ => None,
    }
}

fn answer(step: Step, answer: Answer) -> Option<&'static str> {
    Some(match answer {
        Answer::Done => return None,
        Answer::Granted if matches!(step, Step::Cancel { .. }) => "owns it already",
        Answer::Granted => "granted",
        Answer::Waits => "waits",
        Answer::Blocked => "blocked",
        Answer::WouldDeadlock => "would deadlock",
        Answer::Deleted => "finds it deleted",
        Answer::Withdrawn => "withdraws",
        Answer::TooLate => "is too late",
    })
}

fn told(effect: &Effect) -> Vec<String> {
    let outcomes = effect.told.chunk_by(|a, b| a.1 == b.1);
    let told = outcomes.map(|told| {
        let what = match told[0].1 {
            Outcome::Granted => "granted",
            Outcome::Deleted => "told that it is deleted",
            Outcome::Changed => unreachable!("nobody observes"),
        };
        format!("{} {what}", list(told.iter().map(|told| told.0), ","))
    });
    told.collect()
}

fn list(who: impl Iterator<Item = Who>, separator: &str) -> String {
    who.map(String::from).collect::<Vec<_>>().join(separator)
}
