//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::engine::Strategy;
use crate::runner::Runner;

pub(crate) const HELP: &str = "\
Plays a stream of jobs against a cluster, through a tierlock lock manager with Ganeti's levels.

Usage: orchestrator [OPTIONS]

  --cluster FILE      what exists at the start       [a small cluster, shipped]
  --jobs FILE         the jobs                       [2,000 jobs for that cluster]
  --opcodes FILE      which locks each opcode takes  [Ganeti 2.10's, shipped]
  --workers N         how many run jobs at a time, 1 to 1000               [25]
  --engine NAME       threads: each worker is a thread, and blocks for a lock
                      tokio: each worker is a task, and awaits it; there is a
                      thread for each processor                       [threads]
  --time-scale F      how long a microsecond of the files lasts here, 0 to 1000:
                      arrivals, durations and timeouts (Ganeti's, a thousandth
                      of them at 1; below a millisecond they never queue). At 0
                      all jobs arrive at once and take no time, with the
                      timeouts of 1                                     [1.0]
  --strategy NAME     ganeti: one timeout for all locks of an attempt, then back
                      to the queue, more urgent after many attempts
                      patient: waits in place for a long time and becomes more
                      urgent; ALL of a level lets others pass first    [ganeti]
  --seed N            for the random part of the timeouts              [1]
  --trace FILE        writes every event as one line of JSON
  --coordinator URL   shares the cluster with all who name the same one, as in
                      file:///var/tmp/cluster: the jobs are divided among them
  --check TRACE..     plays nothing, but judges the traces of processes that
                      shared a cluster, by their times
  --help              this

Ctrl-C ends the run early, with a summary of what was done.
Exit codes: 0 all is well, 1 the checker or the trace failed, 2 bad input, 3 no longer a member of the coordination, 130
interrupted.
";

/// What the user wants.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) cluster: Option<PathBuf>,
    pub(crate) jobs: Option<PathBuf>,
    pub(crate) opcodes: Option<PathBuf>,
    pub(crate) workers: usize,
    pub(crate) engine: Runner,
    pub(crate) time_scale: f64,
    pub(crate) strategy: Strategy,
    pub(crate) seed: u64,
    pub(crate) trace: Option<PathBuf>,
    pub(crate) coordinator: Option<String>,
    pub(crate) check: Vec<PathBuf>,
    pub(crate) help: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cluster: None,
            jobs: None,
            opcodes: None,
            // As many as Ganeti has.
            workers: 25,
            engine: Runner::Threads,
            time_scale: 1.0,
            strategy: Strategy::Ganeti,
            seed: 1,
            trace: None,
            coordinator: None,
            check: Vec::new(),
            help: false,
        }
    }
}

impl Options {
    /// Reads arguments, of the form `--option value` or `--option=value`.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self::default();
        let text = |arg: OsString| arg.into_string().map_err(|arg| format!("not UTF-8: {arg:?}"));
        let args: Vec<String> = args.into_iter().map(text).collect::<Result<_, _>>()?;
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "--check" {
                options.check = args.by_ref().map(PathBuf::from).collect();
                if options.check.is_empty() {
                    return Err("--check needs a file".to_owned());
                }
                continue;
            }
            if arg == "--help" || arg == "-h" {
                options.help = true;
                continue;
            }
            let (option, value) = match arg.split_once('=') {
                Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            let mut value =
                || value.clone().or_else(|| args.next()).ok_or(format!("{option} needs a value"));
            match option.as_str() {
                "--cluster" => options.cluster = Some(value()?.into()),
                "--jobs" => options.jobs = Some(value()?.into()),
                "--opcodes" => options.opcodes = Some(value()?.into()),
                "--trace" => options.trace = Some(value()?.into()),
                "--coordinator" => options.coordinator = Some(value()?),
                "--workers" => options.workers = workers(&value()?)?,
                "--engine" => options.engine = engine(&value()?)?,
                "--time-scale" => options.time_scale = time_scale(&value()?)?,
                "--strategy" => options.strategy = strategy(&value()?)?,
                "--seed" => options.seed = seed(&value()?)?,
                _ => return Err(format!("there is no option {option:?}; see --help")),
            }
        }
        Ok(options)
    }
}

fn workers(text: &str) -> Result<usize, String> {
    let workers = text.parse().ok().filter(|workers| (1..=1000).contains(workers));
    workers.ok_or(format!("--workers: not a number from 1 to 1000: {text:?}"))
}

fn engine(text: &str) -> Result<Runner, String> {
    match text {
        "threads" => Ok(Runner::Threads),
        "tokio" => Ok(Runner::Tokio),
        _ => Err(format!("--engine: neither threads nor tokio: {text:?}")),
    }
}

fn time_scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|scale| (0.0..=1000.0).contains(scale));
    scale.ok_or(format!("--time-scale: not a number from 0 to 1000: {text:?}"))
}

fn strategy(text: &str) -> Result<Strategy, String> {
    match text {
        "ganeti" => Ok(Strategy::Ganeti),
        "patient" => Ok(Strategy::Patient),
        _ => Err(format!("--strategy: neither ganeti nor patient: {text:?}")),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("--seed: not a whole number: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_take_their_value_in_either_form() {
        let line = "--workers 3 --engine=tokio --time-scale=0.5 --strategy patient --seed=9";
        let options = parse(line).unwrap();
        assert_eq!((options.workers, options.seed), (3, 9));
        assert_eq!((options.time_scale, options.strategy), (0.5, Strategy::Patient));
        assert_eq!((options.engine, parse("").unwrap().engine), (Runner::Tokio, Runner::Threads));
        assert!(parse("--help").unwrap().help);
    }

    #[test]
    fn a_wrong_command_line_is_an_error() {
        let wrong = [
            ("--workers", "--workers needs a value"),
            ("--workers 0", "--workers: not a number from 1 to 1000: \"0\""),
            ("--workers -1", "--workers: not a number from 1 to 1000: \"-1\""),
            ("--engine smol", "--engine: neither threads nor tokio: \"smol\""),
            ("--time-scale nan", "--time-scale: not a number from 0 to 1000: \"nan\""),
            ("--time-scale -0.1", "--time-scale: not a number from 0 to 1000: \"-0.1\""),
            ("--strategy hasty", "--strategy: neither ganeti nor patient: \"hasty\""),
            ("--seed 1.5", "--seed: not a whole number: \"1.5\""),
            ("--tracee x", "there is no option \"--tracee\"; see --help"),
            ("jobs.json", "there is no option \"jobs.json\"; see --help"),
        ];
        for (line, message) in wrong {
            assert_eq!(parse(line).unwrap_err(), message);
        }
    }
}
