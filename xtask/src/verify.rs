//! The long form of what `test` does shortly: further, longer, and with tools that not everybody has.

use std::fs;
use std::process::ExitCode;

use crate::bugs;
use crate::step::{Seconds, Step, now, root};
use crate::{models, shuttle};

/// Half an hour for each target.
const FUZZ: &str = "-max_total_time=1800";
const TARGETS: [&str; 8] =
    ["guards", "lock", "name", "record", "requests", "sessions", "template", "url"];

/// What is changed at random to see whether a test notices: the files that decide, and those that join and wait.
const MUTATED: &[&str] = &[
    "src/core/**",
    "src/raw.rs",
    "src/pending.rs",
    "src/chain.rs",
    "src/task.rs",
    "src/task/**",
    "src/target.rs",
    "src/set.rs",
    "src/set_hold.rs",
    "src/set_hold/**",
    "src/lock_set.rs",
    "src/change.rs",
    "src/manager.rs",
    "src/session.rs",
    "src/session/**",
];

/// A part, by the name it is asked for with.
type Part = (&'static str, fn() -> Result<(), String>);

const PARTS: [Part; 8] = [
    ("models", || all(&[models()])),
    ("bugs", bugs::run),
    // A million in each test: a third by each way of making them.
    ("shuttle", || all(&[shuttle("340000")])),
    ("fuzz", || all(&TARGETS.map(fuzz))),
    ("thread-sanitizer", || all(&[sanitizer("thread").env("TSAN_OPTIONS", "halt_on_error=1")])),
    ("address-sanitizer", || all(&[address_sanitizer()])),
    ("mutants", || all(&[mutants()])),
    ("soak", || all(&[soak("20")])),
];

/// Runs the parts named, or all; goes on when one fails, so that a night is not lost.
pub(crate) fn run(wanted: &[&str]) -> ExitCode {
    if let Some(unknown) = wanted.iter().find(|name| PARTS.iter().all(|(part, _)| part != *name)) {
        let parts: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("{unknown}: no such part; there are {}", parts.join(", "));
        return ExitCode::from(2);
    }
    let mut outcomes = Vec::new();
    for (name, part) in PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
    {
        println!("\n== {name}");
        let begun = now();
        let outcome = part();
        outcomes.push((name, outcome, Seconds(begun.elapsed())));
    }
    println!();
    for (name, outcome, took) in &outcomes {
        match outcome {
            Ok(()) => println!("{name}: ok, {took}"),
            Err(reason) => println!("{name}: failed after {took}: {reason}"),
        }
    }
    let failed = outcomes.iter().any(|(_, outcome, _)| outcome.is_err());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn all(steps: &[Step]) -> Result<(), String> {
    steps.iter().try_for_each(|step| {
        println!("{step}");
        step.run().map_err(|reason| format!("{step}: {reason}"))
    })
}

/// Into a folder that is not committed, from there and from what is. Needs nightly and `cargo install cargo-fuzz`.
fn fuzz(target: &'static str) -> Step {
    let committed = match target {
        "record" => "src/core/record/tests/records".to_owned(),
        "template" => "macros/tests/corpora/template".to_owned(),
        other => format!("tests/corpora/{other}"),
    };
    // The first folder is written to, and has to be there.
    let found = root().join("fuzz/corpus").join(target);
    if let Err(error) = fs::create_dir_all(&found) {
        eprintln!("{}: {error}", found.display());
    }
    let run = format!("fuzz run {target} fuzz/corpus/{target} {committed} -- {FUZZ} -max_len=600");
    Step::new("fuzz", &run).nightly()
}

/// Needs nightly, and for threads the sources of std (`rustup component add rust-src --toolchain nightly`): std's own threads
/// would be taken for races.
fn sanitizer(kind: &'static str) -> Step {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let std = if kind == "thread" { "-Zbuild-std" } else { "" };
    let test =
        format!("test {std} --target {target} --package tierlock --lib --test it --test soak");
    let flags = if kind == "thread" { "-Zsanitizer=thread" } else { "-Zsanitizer=address" };
    Step::new("sanitizer", &test).nightly().within(kind).env("RUSTFLAGS", flags)
}

/// A leak is an error, but for those that `tests/sanitizers/leaks.txt` gives a reason for.
fn address_sanitizer() -> Step {
    // Memory that was freed is kept for a while, so nothing is said of how much there is.
    let skipped = ["--", "--skip", "remembers_nothing_of_requests_that_are_over"];
    let suppressions = "suppressions=tests/sanitizers/leaks.txt";
    sanitizer("address").env("LSAN_OPTIONS", suppressions).with(&skipped)
}

/// Needs `cargo install cargo-mutants`. Takes a night, or two.
fn mutants() -> Step {
    let files: Vec<_> = MUTATED.iter().map(|file| format!("--file {file}")).collect();
    let tests = "--timeout 120 -- --lib --test it";
    Step::new("mutants", &format!("mutants --package tierlock {} {tests}", files.join(" ")))
}

pub(crate) fn soak(minutes: &str) -> Step {
    Step::new("soak", "test --release --package tierlock --test soak --")
        .with(&["--minutes", minutes])
}
