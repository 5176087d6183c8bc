//! An orchestration engine in one process: a stream of jobs, each of which takes its locks level by level as Ganeti's
//! operations do, works for a while, gives some back early, and releases the rest.
//!
//! `cargo run --release --example orchestrator` plays two thousand jobs against a small cluster in about five seconds, with a
//! thread for each worker; `-- --engine tokio` does the same with tasks, and `-- --help` tells the rest. Read [`job`] first: it
//! is where the locks are taken, then [`runner`]: it is where they are waited for.

mod args;
mod board;
mod check;
mod checker;
mod clock;
mod cluster;
mod contention;
mod engine;
mod input;
mod job;
mod names;
mod opcodes;
mod options;
mod pool;
mod record;
mod resolve;
mod runner;
mod setback;
mod summary;
mod workload;

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::RwLock;
use tierlock::coordination::{CoordinationError, Coordinator};
use tierlock::ganeti::{self, BGL, LEVELS, Level};
use tierlock::{BuildError, Level as _, LockManager, LockManagerBuilder};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::board::Board;
use crate::checker::Checker;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::contention::Contention;
use crate::engine::Engine;
use crate::input::{InputError, Source};
use crate::names::NameTable;
use crate::options::{HELP, Options};
use crate::pool::Pool;
use crate::record::{Recorder, Trace};
use crate::summary::{Summary, grouped};
use crate::workload::Workload;

const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;
const LOST: u8 = 3;
/// 128 and the number of SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// How many of the most contended locks are shown.
const CONTENDED_SHOWN: usize = 8;

fn main() -> ExitCode {
    match Options::parse(std::env::args_os().skip(1)).map_err(Into::into).and_then(|o| run(&o)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn run(options: &Options) -> Result<u8, Box<dyn Error>> {
    if options.help {
        say(&HELP);
        return Ok(0);
    }
    if !options.check.is_empty() {
        let judgement = check::judge(&options.check)?;
        say(&judgement);
        return Ok(if judgement.verdict.is_clean() { 0 } else { FAILED });
    }
    let sources = Sources::open(options)?;
    let mut names = NameTable::default();
    let root = names.intern(BGL);
    let opcodes = opcodes::read(&sources.opcodes)?;
    let (cluster, catalogue) = cluster::read(&sources.cluster, &mut names)?;
    let workload = workload::read(&sources.jobs, &opcodes, &catalogue, &mut names)?;
    let coordinator = options.coordinator.as_deref().map(take_part).transpose()?;
    let manager = manager_of(&cluster, &names, coordinator.as_ref())?;
    let board = coordinator.as_ref().map(|c| Board::join(c, &workload.jobs)).transpose()?;
    let trace = open_trace(options, &names)?;
    let contention = Contention::default();
    tracing_subscriber::registry().with(contention.clone()).try_init()?;
    say(&opening(options, &cluster, &workload));

    let clock = Clock::start(options.time_scale);
    let clock = if coordinator.is_some() { clock.common() } else { clock };
    let pool = Arc::new(Pool::new(&workload, &clock));
    let to_stop = Arc::clone(&pool);
    ctrlc::set_handler(move || to_stop.stop())?;
    if let Some(coordinator) = &coordinator {
        let to_stop = Arc::clone(&pool);
        coordinator.on_lost(move |error| {
            complain(error);
            to_stop.stop();
        });
    }
    let engine = Engine {
        manager,
        opcodes: &opcodes,
        workload: &workload,
        names: &names,
        root,
        cluster: RwLock::new(cluster),
        pool: &pool,
        recorder: Recorder::new(Checker::default(), trace, clock),
        clock,
        runner: options.engine,
        strategy: options.strategy,
        seed: options.seed,
        board,
    };
    let progress = progress(workload.jobs.len());
    let tally = engine.run(options.workers, &progress);
    progress.finish_and_clear();
    let wall = clock.elapsed();

    let part = engine.board.as_ref().map(Board::part);
    let (verdict, traced) = engine.recorder.finish();
    let lost = coordinator.as_ref().is_some_and(|coordinator| coordinator.check().is_err());
    let interrupted = pool.is_stopping();
    say(&Summary {
        jobs: workload.jobs.len(),
        workers: options.workers,
        wall,
        tally: &tally,
        contended: &contention.top(CONTENDED_SHOWN),
        interrupted,
        verdict: &verdict,
    });
    if let Some(part) = part {
        say(&part);
    }
    if let (Err(error), Some(path)) = (&traced, &options.trace) {
        complain(&at(path, error));
    }
    let failed = !verdict.is_clean() || traced.is_err();
    Ok(if lost {
        LOST
    } else if failed {
        FAILED
    } else {
        u8::from(interrupted) * INTERRUPTED
    })
}

/// The files named, or those shipped.
struct Sources {
    opcodes: Source,
    cluster: Source,
    jobs: Source,
}

impl Sources {
    fn open(options: &Options) -> Result<Self, InputError> {
        let open = |path: &Option<_>, name: &str, shipped: &str| {
            path.as_deref().map_or_else(|| Ok(Source::new(name, shipped)), Source::read)
        };
        let opcodes = include_str!("../data/opcodes.json");
        let cluster = include_str!("../data/cluster-small.json");
        let jobs = include_str!("../data/jobs-small.json");
        Ok(Self {
            opcodes: open(&options.opcodes, "opcodes.json", opcodes)?,
            cluster: open(&options.cluster, "cluster-small.json", cluster)?,
            jobs: open(&options.jobs, "jobs-small.json", jobs)?,
        })
    }
}

/// Takes part in a coordination, under a name that no other process has.
fn take_part(url: &str) -> Result<Coordinator, CoordinationError> {
    Coordinator::connect(url).join(&format!("orchestrator-{}", std::process::id()))
}

/// A manager with Ganeti's levels, and a lock for everything in the cluster; shared with others, if there is a coordinator.
fn manager_of(
    cluster: &Cluster,
    names: &NameTable,
    coordinator: Option<&Coordinator>,
) -> Result<LockManager, BuildError> {
    let texts = |level| {
        let names = cluster.names(level).map(|name| Arc::clone(names.text(name)));
        names.collect::<Vec<Arc<str>>>()
    };
    let [instances, groups, nodes, networks] =
        [Level::Instance, Level::NodeGroup, Level::Node, Level::Network].map(texts);
    let manager = ganeti::manager(instances, groups, nodes, networks);
    let shared = |manager: LockManagerBuilder, coordinator: &Coordinator| {
        let levels = LEVELS.into_iter();
        levels.fold(manager, |manager, level| manager.cluster_wide(level, coordinator))
    };
    match coordinator {
        None => manager.build(),
        Some(coordinator) => shared(manager, coordinator).build(),
    }
}

fn open_trace(options: &Options, names: &NameTable) -> Result<Option<Trace>, String> {
    let Some(path) = &options.trace else { return Ok(None) };
    let levels = LEVELS.map(|level| level.name().to_owned()).to_vec();
    let trace = Trace::create(path, levels, names).map_err(|error| at(path, &error))?;
    Ok(Some(if options.coordinator.is_some() { trace.at_once() } else { trace }))
}

fn opening(options: &Options, cluster: &Cluster, workload: &Workload<'_>) -> String {
    let jobs = grouped(workload.jobs.len());
    let (instances, nodes) = (grouped(cluster.instances.len()), grouped(cluster.nodes.len()));
    let (groups, networks) = (cluster.groups.len(), cluster.networks.len());
    let Options { workers, engine, strategy, time_scale, .. } = options;
    format!(
        "{jobs} jobs on {instances} instances, {nodes} nodes, {groups} groups, {networks} networks\n\
         {workers} workers on {engine}, strategy {strategy}, time scale {time_scale}\n\n"
    )
}

/// A bar on stderr, or nothing if that is no terminal.
fn progress(jobs: usize) -> ProgressBar {
    let bar = ProgressBar::new(jobs as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} jobs, {per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Prints; a reader who has gone away is no reason to fail.
fn say(text: &dyn std::fmt::Display) {
    let _ = write!(io::stdout(), "{text}");
}

fn complain(problem: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "error: {problem}");
}
