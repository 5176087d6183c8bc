//! tierlock beside what one would use instead. Run by `cargo xtask bench`, whose `--help` tells how.
//!
//! The unit is a row of the table in `docs/performance.md`, made of cases; in each, contenders do the same thing in turn.

#![forbid(unsafe_code)]

mod clock;
mod effort;
mod harness;
mod names;
mod programs;
mod report;
mod rows;
mod table;
mod takers;
mod threads;

use std::env;
use std::process::ExitCode;

use crate::clock::now;
use crate::effort::Effort;
use crate::rows::{Inputs, ROWS, Row};
use crate::table::{Case, render};

/// A quick check is of these rows only, and looser: a noisy machine has to pass it.
const QUICK_ROWS: [u32; 2] = [1, 3];
const QUICK_LOOSER: f64 = 2.5;

const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("error: {reason}; see `cargo xtask --help`");
            return ExitCode::from(BAD_USAGE);
        }
    };
    let cases = options.measure();
    let table = render(&cases);
    println!("\n{table}");
    if options.is_complete() {
        match report::write(&table) {
            Ok(path) => println!("written to {}", path.display()),
            Err(error) => {
                eprintln!("error: {}: {error}", report::path().display());
                return ExitCode::FAILURE;
            }
        }
    }
    options.verdict(&cases)
}

#[derive(Debug, Default)]
struct Options {
    check: bool,
    quick: bool,
    rows: Vec<u32>,
    inputs: Inputs,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--check" => options.check = true,
                "--quick" => options.quick = true,
                "--cluster" | "--jobs" | "--opcodes" => {
                    let file = arguments.next().ok_or(format!("{argument} needs a file"))?;
                    options.inputs.workload.extend([argument, file]);
                }
                _ => options.rows.push(row_number(&argument)?),
            }
        }
        Ok(options)
    }

    fn effort(&self) -> Effort {
        if self.quick { Effort::QUICK } else { Effort::FULL }
    }

    /// Every row was measured as thoroughly as can be, with what is shipped: worth writing down.
    fn is_complete(&self) -> bool {
        !self.quick && self.rows.is_empty() && self.inputs.workload.is_empty()
    }

    fn measure(&self) -> Vec<Case> {
        let asked = |row: &&Row| self.rows.is_empty() || self.rows.contains(&row.number);
        ROWS.iter().filter(asked).flat_map(|row| self.measure_row(row)).collect()
    }

    fn measure_row(&self, row: &Row) -> Vec<Case> {
        eprint!("row {:>2}, {} ... ", row.number, row.subject);
        let begun = now();
        let cases = (row.measure)(self.effort(), &self.inputs);
        eprintln!("{:.1} s", begun.elapsed().as_secs_f64());
        cases
    }

    /// Says which targets are missed; that is a failure if they are to be checked.
    fn verdict(&self, cases: &[Case]) -> ExitCode {
        let checked = |case: &&Case| !self.quick || QUICK_ROWS.contains(&case.row);
        let looser = if self.quick { QUICK_LOOSER } else { 1.0 };
        let misses: Vec<String> =
            cases.iter().filter(checked).flat_map(|case| case.misses(looser)).collect();
        misses.iter().for_each(|miss| eprintln!("missed: {miss}"));
        if self.quick && !misses.is_empty() {
            eprintln!("and that by more than {QUICK_LOOSER} times what the target says");
        }
        if self.check && !misses.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

fn row_number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| ROWS.iter().any(|row| row.number == *number));
    number.ok_or(format!("neither an option nor a row from 1 to {}: {text:?}", ROWS.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_and_rows_come_in_any_order() {
        let options = parse("3 --check 1 --jobs jobs.json --quick").unwrap();
        assert!(options.check && options.quick && !options.is_complete());
        assert_eq!(options.rows, [3, 1]);
        assert_eq!(options.inputs.workload, ["--jobs", "jobs.json"]);
        assert!(parse("--check").unwrap().is_complete());
    }

    #[test]
    fn a_wrong_command_line_is_an_error() {
        for line in ["14", "0", "--fast", "--jobs"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn rows_are_numbered_from_one() {
        let numbers: Vec<u32> = ROWS.iter().map(|row| row.number).collect();
        assert_eq!(numbers, (1..=ROWS.len() as u32).collect::<Vec<_>>());
    }
}
