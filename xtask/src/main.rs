//! The chores of the project, each one command: what CI runs is what you run.

mod step;

use std::env;
use std::process::ExitCode;

use crate::step::{Step, run};

const HELP: &str = "\
The chores of the project. Each runs its steps in turn, prints how long each took, and stops at the first that fails.

Usage: cargo xtask <CHORE>

Chores:
  test   Every test: units, behaviour, documentation, examples, and the models of what threads may do to each
         other. Needs nothing but Rust and a C compiler; no test needs a server.
  ci     What a change has to pass: format, lints, documentation, `test`, the builds with other features, and one
         short run of each example and benchmark.

Options:
  -h, --help   Print this.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["test"] => run(&test()),
        ["ci"] => run(&ci()),
        ["help"] | [.., "-h" | "--help"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("cargo xtask {}: no such chore\n\n{HELP}", arguments.join(" "));
            ExitCode::from(2)
        }
    }
}

fn test() -> Vec<Step> {
    vec![
        Step::new("tests", "test --workspace --all-features"),
        // Optimised, since a model runs each history of its threads, and apart, since the flags reach every crate.
        Step::new("models", "test --package tierlock --test models --release")
            .within("loom")
            .env("RUSTFLAGS", "--cfg tierlock_loom -C debug-assertions")
            // Fewer miss a weakened ordering, more take hours.
            .env("LOOM_MAX_PREEMPTIONS", "3"),
    ]
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
    ];
    let examples = [
        "run --release --package tierlock --example orchestrator",
        "run --release --package tierlock --example orchestrator -- --engine tokio",
        "run --release --package tierlock --example tokio_tenants",
        "run --release --package tierlock --example select_loop",
        "run --release --package tierlock --example event_loop",
    ]
    .map(|run| Step::new("example", run));
    let benchmarks =
        [Step::new("benchmarks, once each", "bench --package tierlock --bench * -- --test")];
    let smoke = builds.into_iter().chain(examples).chain(benchmarks);
    checks.into_iter().chain(test()).chain(smoke).collect()
}
