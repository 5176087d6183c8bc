//! Bugs put into a copy of the tree, each of which has to be caught.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, io, thread};

use serde::Deserialize;

use crate::step::{now, root, target};

/// Longer than any model takes that finds nothing.
const MODEL_MAX: Duration = Duration::from_secs(900);

#[derive(Deserialize)]
struct Table {
    bug: Vec<Bug>,
}

#[derive(Deserialize)]
struct Bug {
    what: String,
    file: String,
    from: String,
    to: String,
    /// Models, unless it says that schedules do.
    #[serde(default)]
    by: By,
    caught_by: Vec<String>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum By {
    #[default]
    Models,
    Shuttle,
}

impl By {
    fn test(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Shuttle => "shuttle",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Models => "loom",
            Self::Shuttle => "shuttle",
        }
    }
}

/// Puts in one bug after the other, runs the models that catch it, and takes it out again. Only those models whose names begin
/// with `TIERLOCK_BUGS`, if that is set: `striped::`.
///
/// # Errors
/// Models that caught nothing, bugs that cannot be put in, models that have no bug.
pub(crate) fn run() -> Result<(), String> {
    let bugs = read()?;
    let tree = target().join("bugs/tree");
    copy(root(), &tree).map_err(|error| format!("{}: {error}", tree.display()))?;
    let mut wrong = Vec::new();
    for by in [By::Models, By::Shuttle] {
        wrong.extend(without_bug(&build(&tree, by)?, by, &bugs)?);
    }
    let bugs = wanted(bugs, &env::var("TIERLOCK_BUGS").unwrap_or_default());
    for (at, bug) in bugs.iter().enumerate() {
        println!("[{}/{}] {}", at + 1, bugs.len(), bug.what);
        wrong.extend(with_bug(&tree, bug)?);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn read() -> Result<Vec<Bug>, String> {
    let path = root().join("tests/models/bugs.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let table: Table =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(table.bug)
}

/// What models of these names catch.
fn wanted(mut bugs: Vec<Bug>, names: &str) -> Vec<Bug> {
    bugs.iter_mut().for_each(|bug| bug.caught_by.retain(|model| model.starts_with(names)));
    bugs.retain(|bug| !bug.caught_by.is_empty());
    bugs
}

/// The tests that no bug of the table is for.
fn without_bug(models: &Path, by: By, bugs: &[Bug]) -> Result<Vec<String>, String> {
    let list = Command::new(models).args(["--list", "--format=terse"]).output();
    let list = list.map_err(|error| format!("{}: {error}", models.display()))?.stdout;
    let list = String::from_utf8_lossy(&list).into_owned();
    let all: BTreeSet<_> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let own = bugs.iter().filter(|bug| bug.by == by);
    let caught: BTreeSet<_> = own.flat_map(|bug| &bug.caught_by).map(String::as_str).collect();
    let unknown = caught.difference(&all).map(|name| format!("{name} is no test"));
    let without = all.difference(&caught).map(|name| format!("{name} has no bug to catch"));
    Ok(unknown.chain(without).collect())
}

/// What is wrong with a bug, or with the models that should catch it.
fn with_bug(tree: &Path, bug: &Bug) -> Result<Vec<String>, String> {
    let path = tree.join(&bug.file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let count = text.matches(&bug.from).count();
    if count != 1 {
        return Ok(vec![format!("{}: found {count} times in {}", bug.what, bug.file)]);
    }
    let write =
        |text: &str| fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    write(&text.replace(&bug.from, &bug.to))?;
    let models = build(tree, bug.by);
    write(&text)?;
    let models = models.map_err(|error| format!("{}: {error}", bug.what))?;
    let missed = bug.caught_by.iter().filter(|model| passes(&models, model));
    Ok(missed.map(|model| format!("{}: not caught by {model}", bug.what)).collect())
}

/// Builds the models or the schedules, and says where they are.
fn build(tree: &Path, by: By) -> Result<PathBuf, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(tree).stdin(Stdio::null()).stderr(Stdio::null());
    cargo.args(["test", "--package=tierlock", "--test", by.test(), "--release", "--no-run"]);
    // Apart from what is built without bugs, which cargo could not tell from it. Each is built once, and ends early.
    cargo.args(["--config", "profile.release.package.tierlock.opt-level=0"]);
    cargo
        .args(["--message-format=json"])
        .env("CARGO_TARGET_DIR", target().join("bugs").join(by.folder()));
    cargo.env("RUSTFLAGS", format!("--cfg tierlock_{} -C debug-assertions", by.folder()));
    let output = cargo.output().map_err(|error| format!("cargo did not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let built = text.lines().find_map(|line| line.split_once("\"executable\":\""));
    match built.and_then(|(_, rest)| rest.split('"').next()) {
        Some(path) if output.status.success() => Ok(path.into()),
        _ => Err(format!("the {} do not compile", by.test())),
    }
}

fn passes(models: &Path, model: &str) -> bool {
    let mut command = Command::new(models);
    command
        .args(["--exact", model])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let passed = command.spawn().and_then(|child| in_time(child, MODEL_MAX));
    println!("    {} {model}", if matches!(passed, Ok(false)) { "caught by" } else { "MISSED by" });
    !matches!(passed, Ok(false))
}

/// Whether it succeeds; a model that does not end has caught something, too.
fn in_time(mut child: Child, limit: Duration) -> io::Result<bool> {
    let begun = now();
    while begun.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        thread::park_timeout(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait().map(|_| false)
}

/// Copies what is built, and no more often than needed, so that cargo sees what changed.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, name) = (entry.path(), entry.file_name());
        if ["target", ".git", "fuzz"].iter().any(|left| name == OsStr::new(left))
            || source == target()
        {
            continue;
        }
        let copied = to.join(&name);
        if source.is_dir() {
            copy(&source, &copied)?;
        } else if fs::read(&copied).ok() != Some(fs::read(&source)?) {
            fs::copy(&source, &copied)?;
        }
    }
    Ok(())
}
