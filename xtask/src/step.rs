//! Calls of cargo, one after the other.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// A call of cargo that has to succeed.
pub(crate) struct Step {
    name: &'static str,
    arguments: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    /// A folder of its own for what is built.
    folder: Option<&'static str>,
    nightly: bool,
}

impl Step {
    /// The arguments are words without blanks in them.
    pub(crate) fn new(name: &'static str, arguments: &str) -> Self {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Self { name, arguments, variables: Vec::new(), folder: None, nightly: false }
    }

    /// Adds arguments as they are.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    pub(crate) fn within(mut self, folder: &'static str) -> Self {
        self.folder = Some(folder);
        self
    }

    /// By the nightly toolchain, whichever this one is.
    pub(crate) fn nightly(self) -> Self {
        Self { nightly: true, ..self }
    }

    /// Runs the step to its end. What it prints is printed.
    pub(crate) fn run(&self) -> Result<(), String> {
        let mut cargo = self.cargo();
        cargo.current_dir(root()).stdin(Stdio::null());
        cargo.args(&self.arguments).envs(self.variables.iter().copied());
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

impl Step {
    fn cargo(&self) -> Command {
        if !self.nightly {
            return Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        }
        let mut rustup = Command::new("rustup");
        rustup.args(["run", "nightly", "cargo"]);
        rustup
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
        let toolchain = if self.nightly { " +nightly" } else { "" };
        write!(f, "cargo{toolchain} {}", self.arguments.join(" "))
    }
}

pub(crate) fn run(steps: &[Step]) -> ExitCode {
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

pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

#[expect(clippy::disallowed_methods, reason = "the library's clock is its own affair")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask stands below the root")
}

pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
