//! The chores of the project, each one command: what CI runs is what you run.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

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

/// A call of cargo that has to succeed.
struct Step {
    name: &'static str,
    /// Words without blanks in them.
    arguments: &'static str,
    variables: Vec<(&'static str, &'static str)>,
    /// A folder of its own for what is built.
    folder: Option<&'static str>,
}

impl Step {
    fn new(name: &'static str, arguments: &'static str) -> Self {
        Self { name, arguments, variables: Vec::new(), folder: None }
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn within(mut self, folder: &'static str) -> Self {
        self.folder = Some(folder);
        self
    }

    /// Runs the step to its end. What it prints is printed.
    fn run(&self) -> Result<(), String> {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(root()).stdin(Stdio::null());
        cargo.args(self.arguments.split_whitespace()).envs(self.variables.iter().copied());
        if let Some(folder) = self.folder {
            cargo.env("CARGO_TARGET_DIR", target().join(folder));
        }
        match cargo.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(status.to_string()),
            Err(error) => Err(format!("cargo did not start: {error}")),
        }
    }
}

/// As one would type it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(folder) = self.folder {
            write!(f, "CARGO_TARGET_DIR=target/{folder} ")?;
        }
        for (name, value) in &self.variables {
            write!(f, "{name}={value:?} ")?;
        }
        write!(f, "cargo {}", self.arguments.replace('*', "'*'"))
    }
}

fn run(steps: &[Step]) -> ExitCode {
    let begun = now();
    for (index, step) in steps.iter().enumerate() {
        println!("\n[{}/{}] {}: {step}", index + 1, steps.len(), step.name);
        let step_begun = now();
        let ended = step.run();
        let took = Seconds(step_begun.elapsed());
        match ended {
            Ok(()) => println!("[{}/{}] {}: ok, {took}", index + 1, steps.len(), step.name),
            Err(reason) => {
                eprintln!("\nfailed: {}, after {took}: {reason}\n  {step}", step.name);
                return ExitCode::FAILURE;
            }
        }
    }
    println!("\nall {} steps ok, {}", steps.len(), Seconds(begun.elapsed()));
    ExitCode::SUCCESS
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

#[expect(clippy::disallowed_methods, reason = "the library's clock is its own affair")]
fn now() -> Instant {
    Instant::now()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask stands below the root")
}

fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
