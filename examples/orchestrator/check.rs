//! Judging the traces of several processes that shared a cluster, as one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tierlock::Level as _;
use tierlock::ganeti::LEVELS;

use crate::checker::{Checker, Verdict};
use crate::names::{Name, NameTable};
use crate::record::{Access, Event, Kind, Span};

/// One line of a trace.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    t_us: u64,
    job: u32,
    event: String,
    level: String,
    names: Named,
    mode: String,
    priority: i32,
    #[serde(default)]
    opportunistic: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    All(String),
    Names(Vec<String>),
}

/// An event of one of the traces, or the end of one.
struct Entry {
    t_us: u64,
    trace: usize,
    what: What,
}

enum What {
    Event {
        job: u32,
        kind: Kind,
        level: usize,
        names: Option<Vec<Name>>,
        access: Access,
        priority: i32,
    },
    /// The process wrote nothing more; if it was killed, what its jobs held ended then.
    End,
}

/// What comes of traces that were judged together.
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    events: usize,
    ends: Vec<Ending>,
}

/// A process that ended while its jobs held locks.
struct Ending {
    path: PathBuf,
    jobs: usize,
    at_us: u64,
    /// When another process was first granted one of its locks.
    next_us: Option<u64>,
}

/// Reads traces and judges them in the order of their times.
///
/// # Errors
/// A file that cannot be read, or a line that is none; a last line cut short is left out.
pub(crate) fn judge(paths: &[PathBuf]) -> io::Result<Judgement> {
    let mut names = NameTable::default();
    let mut entries = Vec::new();
    for (trace, path) in paths.iter().enumerate() {
        read(path, trace, &mut names, &mut entries)?;
    }
    // Of one time, in the order of one trace.
    entries.sort_by_key(|entry| entry.t_us);
    let events = entries.len() - paths.len();
    let mut checker = Checker::default();
    let mut ends: Vec<Ending> = Vec::new();
    let mut jobs: Vec<std::collections::BTreeSet<u32>> = vec![Default::default(); paths.len()];
    for entry in &entries {
        match &entry.what {
            What::End => {
                let held: Vec<u32> =
                    jobs[entry.trace].iter().copied().filter(|&job| checker.let_go(job)).collect();
                if !held.is_empty() {
                    let (path, at_us) = (paths[entry.trace].clone(), entry.t_us);
                    ends.push(Ending { path, jobs: held.len(), at_us, next_us: None });
                }
            }
            &What::Event { job, kind, level, ref names, access, priority } => {
                jobs[entry.trace].insert(job);
                let names = names.as_deref().map_or(Span::All, Span::Names);
                checker.observe(&Event { job, kind, level, names, access, priority });
                if kind == Kind::Grant {
                    // Whoever is granted anything exclusively after an end had to wait for it, as a rule.
                    let waits =
                        |end: &&mut Ending| end.next_us.is_none() && access == Access::Exclusive;
                    ends.iter_mut().filter(waits).for_each(|end| end.next_us = Some(entry.t_us));
                }
            }
        }
    }
    Ok(Judgement { verdict: checker.finish(), events, ends })
}

fn read(
    path: &Path,
    trace: usize,
    names: &mut NameTable,
    entries: &mut Vec<Entry>,
) -> io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let cut = !text.is_empty() && !text.ends_with('\n');
    let count = text.lines().count();
    let mut last_us = 0;
    for (at, line) in text.lines().enumerate() {
        if cut && at + 1 == count {
            break;
        }
        let (t_us, what) = parse(line, names).map_err(|problem| {
            io::Error::other(format!("{}:{}: {problem}", path.display(), at + 1))
        })?;
        last_us = t_us;
        entries.push(Entry { t_us, trace, what });
    }
    entries.push(Entry { t_us: last_us, trace, what: What::End });
    Ok(())
}

fn parse(line: &str, names: &mut NameTable) -> Result<(u64, What), String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let level = LEVELS.iter().position(|level| level.name() == line.level);
    let level = level.ok_or_else(|| format!("there is no level {:?}", line.level))?;
    let kind = Kind::of(&line.event, line.opportunistic)
        .ok_or_else(|| format!("there is no event {:?}", line.event))?;
    let access = match line.mode.as_str() {
        "shared" => Access::Shared,
        "exclusive" => Access::Exclusive,
        other => return Err(format!("there is no mode {other:?}")),
    };
    let names = match line.names {
        Named::All(all) if all == "ALL" => None,
        Named::All(other) => return Err(format!("neither ALL nor a list: {other:?}")),
        Named::Names(texts) => Some(texts.iter().map(|text| names.intern(text)).collect()),
    };
    let (job, priority) = (line.job, line.priority);
    Ok((line.t_us, What::Event { job, kind, level, names, access, priority }))
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} events", crate::summary::grouped(self.events))?;
        for Ending { path, jobs, at_us, next_us } in &self.ends {
            write!(f, "{} ended while {jobs} of its jobs held locks", path.display())?;
            match next_us {
                Some(next) => {
                    writeln!(f, "; others went on {:.1} ms later", (next - at_us) as f64 / 1000.0)?;
                }
                None => writeln!(f)?,
            }
        }
        writeln!(f, "{}", self.verdict)
    }
}
