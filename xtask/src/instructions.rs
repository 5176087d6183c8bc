//! Counts the instructions of the library's operations, and compares them with those of a baseline.
//!
//! Times of a few nanoseconds say little on a machine that others use; instructions are the same each time. The locked ones,
//! which cost as much as ten to twenty others, are counted by themselves too. What all of it takes is for `cargo xtask bench`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use crate::step::{Step, root, target};
use crate::valgrind;

/// How far a count may be from the baseline. Less would stumble over other allocators and hash seeds.
const TOLERANCE: f64 = 0.03;

/// The function in whose calls instructions are counted.
const MEASURED: &str = "bench_instructions::measured*";

/// What becomes of the counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Purpose {
    Compare,
    Bless,
}

pub(crate) fn run(purpose: Purpose) -> ExitCode {
    if let Err(reason) = valgrind::find_or_install() {
        let text = format!("instructions are not counted: {reason}");
        return if env::var_os("CI").is_some() { fail(&text) } else { skip(&text) };
    }
    match count_all().and_then(|counts| conclude(&counts, purpose)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(reason) => fail(&reason),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("\nfailed: {text}");
    ExitCode::FAILURE
}

fn skip(text: &str) -> ExitCode {
    eprintln!("\nskipped: {text}");
    ExitCode::SUCCESS
}

/// Instructions of one operation, by its name, and those of them that lock the bus, by its name and [`LOCKED`].
type Counts = BTreeMap<String, f64>;

const LOCKED: &str = "/locked";

fn count_all() -> Result<Counts, String> {
    let build = "build --release --package tierlock-bench --bin bench-instructions";
    Step::new("build", build).run()?;
    let program = target().join("release/bench-instructions");
    let names = output(&mut Command::new(&program))?;
    let mut counts = Counts::new();
    for name in names.lines() {
        let [all, locked] = count(&program, name)?;
        counts.extend([(name.to_owned(), all), (format!("{name}{LOCKED}"), locked)]);
    }
    Ok(counts)
}

/// Runs one operation under callgrind.
fn count(program: &Path, name: &str) -> Result<[f64; 2], String> {
    let counted = target().join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--collect-bus=yes", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .arg(program)
        .arg(name);
    let times = output(&mut valgrind)?;
    let times: f64 = times.trim().parse().map_err(|_| format!("{name}: {times:?} is no number"))?;
    let text = fs::read_to_string(&counted).map_err(|error| at(&counted, &error))?;
    let totals = totals(&text).filter(|&[all, _]| all > 0.0);
    let totals = totals.ok_or(format!("{name}: callgrind counted nothing"))?;
    Ok(totals.map(|total| total / times))
}

/// What a command prints, if it succeeds.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} did not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// The sums at the end of what callgrind writes: of instructions, and of those that lock the bus.
fn totals(text: &str) -> Option<[f64; 2]> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
    let sums: Vec<f64> = line.split(' ').map_while(|sum| sum.parse().ok()).collect();
    sums.try_into().ok()
}

fn conclude(counts: &Counts, purpose: Purpose) -> Result<String, String> {
    let path = baseline();
    if purpose == Purpose::Bless {
        fs::write(&path, render(counts, &tools())).map_err(|error| at(&path, &error))?;
        return Ok(format!("written to {}", path.display()));
    }
    let text = fs::read_to_string(&path).map_err(|error| at(&path, &error))?;
    let (table, broken) = compare(&parse(&text)?, counts);
    println!("{table}");
    if broken.is_empty() {
        return Ok(format!("all {} within {} % of the baseline", counts.len(), TOLERANCE * 100.0));
    }
    let made = text.lines().next().unwrap_or_default().trim_start_matches("# ");
    Err(format!(
        "{}\nIf that is as it should be, `cargo xtask instructions --bless` and commit {}.\n\
         The baseline is by {made}; here it is {}.",
        broken.join("\n"),
        path.display(),
        tools()
    ))
}

/// The table of both, and what is not as it was.
fn compare(before: &Counts, now: &Counts) -> (String, Vec<String>) {
    let (mut table, mut broken) =
        (format!("{:<28}{:>12}{:>12}\n", "operation", "baseline", "now"), Vec::new());
    for (name, &count) in now {
        let Some(&old) = before.get(name) else {
            broken.push(format!("{name} is not in the baseline"));
            continue;
        };
        // None where there were none is no change.
        let change = if count == old { 0.0 } else { count / old - 1.0 };
        writeln!(table, "{name:<28}{old:>12.1}{count:>12.1}{:>+9.2} %", change * 100.0)
            .expect("a string takes all");
        if change.abs() > TOLERANCE {
            broken.push(format!(
                "{name}: {count:.1} instructions, {old:.1} in the baseline, {:+.1} %",
                change * 100.0
            ));
        }
    }
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    broken.extend(gone.map(|name| format!("{name} is in the baseline alone")));
    (table, broken)
}

fn render(counts: &Counts, tools: &str) -> String {
    let mut text = format!("# {tools}\n");
    for (name, count) in counts {
        writeln!(text, "{name} {count:.1}").expect("a string takes all");
    }
    text
}

fn parse(text: &str) -> Result<Counts, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    lines.map(|line| pair(line).ok_or(format!("no name and count: {line:?}"))).collect()
}

/// What a count depends on besides the source; the C library has the allocator and what copies memory.
fn tools() -> String {
    let version = |program: &str| match output(Command::new(program).arg("--version")) {
        Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
        Err(_) => format!("an unknown {program}"),
    };
    ["rustc", "valgrind", "ldd"].map(version).join(", ") + ", " + env::consts::ARCH
}

fn baseline() -> PathBuf {
    root().join("bench/instructions.txt")
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, f64)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let counts = counts(&[("one/exclusive", 485.1), ("plan/10", 8936.1)]);
        let text = render(&counts, "rustc 1.95.0");
        assert_eq!(text, "# rustc 1.95.0\none/exclusive 485.1\nplan/10 8936.1\n");
        assert_eq!(parse(&text), Ok(counts));
        assert!(parse("one/exclusive many").is_err());
    }

    #[test]
    fn what_changed_by_more_than_the_tolerance_is_told_either_way() {
        let before = counts(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("gone", 1.0)]);
        let now = counts(&[("a", 102.9), ("b", 103.1), ("c", 96.0), ("new", 1.0)]);
        let (_, broken) = compare(&before, &now);
        let names: Vec<&str> =
            broken.iter().filter_map(|text| text.split([':', ' ']).next()).collect();
        assert_eq!(names, ["b", "c", "new", "gone"]);
    }

    #[test]
    fn the_sums_are_found() {
        let text = "events: Ir Ge\nsummary: 5 1\n\ntotals: 485013 3000\n";
        assert_eq!(totals(text), Some([485_013.0, 3_000.0]));
        assert_eq!(totals("events: Ir Ge\n"), None);
    }
}
