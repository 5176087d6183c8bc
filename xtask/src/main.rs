//! The chores of the project, each one command: what CI runs is what you run.

mod bugs;
mod instructions;
mod step;
mod valgrind;
mod verify;

use std::env;
use std::process::ExitCode;

use crate::instructions::Purpose;
use crate::step::{Step, run};

const HELP: &str = "\
The chores of the project. Each runs its steps in turn, prints how long each took, and stops at the first that fails.

Usage: cargo xtask <CHORE>

Chores:
  test          Every test: units, behaviour, documentation, examples, what fuzzers came upon, and what threads may
                do to each other: models, random schedules, a short soak. Needs nothing but Rust and a C compiler;
                no test needs a server.
  verify        The long form, and what needs more tools: what each part proves, and how far it went, is in
                docs/verification.md.
      [PART...]                These parts only: models, bugs, shuttle, fuzz, thread-sanitizer, address-sanitizer,
                               mutants, soak.
  soak          Everything at once on real threads, checked by another hand, while memory and descriptors are watched.
      --minutes N              For so long.
  ci            What a change has to pass: format, lints, documentation, `test`, the builds with other features,
                one short run of each example and benchmark, and `instructions`.
  bench         Compares tierlock with what one would use instead, and prints a table of 13 rows.
      [ROW...]                 These rows only. Without, the table and the machine are written to
                               docs/performance.md.
      --check                  Fails where a target of the table is missed.
      --quick                  A smoke test of less than a minute, which `--check` judges loosely.
      --jobs, --cluster FILE   What row 11 plays, in place of what is shipped.
  instructions  Counts the instructions of operations under valgrind, and fails where they are not within 3 % of
                bench/instructions.txt. Where valgrind is missing it is installed, if that can be done by apt-get
                as root; otherwise nothing is counted, which is a failure in CI.
      --bless                  Writes them to that file instead.

Options:
  -h, --help    Print this.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["test"] => run(&test()),
        ["ci"] => run(&ci()),
        [.., "-h" | "--help"] | ["help"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        ["verify", ref parts @ ..] => verify::run(parts),
        ["soak", "--minutes", minutes] => run(&[verify::soak(minutes)]),
        ["bench", ref options @ ..] => run(&bench(options)),
        ["instructions"] => instructions::run(Purpose::Compare),
        ["instructions", "--bless"] => instructions::run(Purpose::Bless),
        _ => {
            eprint!("cargo xtask {}: no such chore\n\n{HELP}", arguments.join(" "));
            ExitCode::from(2)
        }
    }
}

fn test() -> Vec<Step> {
    vec![
        // Not of the whole workspace, or others' locks would be built as well.
        Step::new(
            "tests",
            "test --package tierlock --package tierlock-macros --package xtask --all-features",
        ),
        models(),
        shuttle("6000"),
    ]
}

/// Optimised, since a model runs each history of its threads, and apart, since the flags reach every crate.
fn models() -> Step {
    Step::new("models", "test --package tierlock --test models --release")
        .within("loom")
        .env("RUSTFLAGS", "--cfg tierlock_loom -C debug-assertions")
}

/// So many schedules of each scheduler in each test.
fn shuttle(schedules: &'static str) -> Step {
    Step::new("schedules", "test --package tierlock --test shuttle --release")
        .within("shuttle")
        .env("RUSTFLAGS", "--cfg tierlock_shuttle -C debug-assertions")
        .env("TIERLOCK_SCHEDULES", schedules)
}

fn ci() -> Vec<Step> {
    let checks = [
        Step::new("format", "fmt --all --check"),
        Step::new("lints", "clippy --workspace --all-targets --all-features -- -D warnings"),
        Step::new("documentation", "doc --workspace --no-deps --all-features")
            .env("RUSTDOCFLAGS", "-D warnings"),
    ];
    let builds = [
        Step::new("build, default features", "build --package tierlock"),
        Step::new("build, no features", "build --package tierlock --no-default-features"),
        Step::new("build, as fuzzers have it", "check --package tierlock --lib")
            .within("fuzzing")
            .env("RUSTFLAGS", "--cfg fuzzing"),
        Step::new("tests of the benchmarks", "test --package tierlock-bench"),
        // Misuse stays an error where assertions are off.
        Step::new(
            "misuse, in a release",
            "test --release --package tierlock --test it -- misuse traps",
        ),
        Step::new("instructions", "xtask instructions"),
    ];
    let examples = [
        "run --release --package tierlock --example orchestrator",
        "run --release --package tierlock --example orchestrator -- --engine tokio",
        "run --release --package tierlock --example tokio_tenants",
        "run --release --package tierlock --example select_loop",
        "run --release --package tierlock --example event_loop",
        "run --release --package tierlock --example synchronized",
        "run --release --package tierlock --example global",
        "run --release --package tierlock --example lease",
        "run --release --package tierlock --example ledger",
    ]
    .map(|run| Step::new("example", run));
    let benchmarks = bench(&["--quick", "--check"]);
    checks.into_iter().chain(test()).chain(builds).chain(examples).chain(benchmarks).collect()
}

fn bench(options: &[&str]) -> Vec<Step> {
    vec![
        Step::new("build, example", "build --release --package tierlock --example orchestrator"),
        Step::new("build, benchmarks", "build --release --package tierlock-bench"),
        Step::new("benchmarks", "run --release --package tierlock-bench --").with(options),
    ]
}
