//! The recorder: every event of every job, in one order.
//!
//! It feeds the [`checker`](crate::checker) and, if asked for, a file that a stranger can check again: one JSON object a
//! line, in the order of recording, with the keys `t_us`, `job`, `event`, `level`, `names` (a list, or `"ALL"`), `mode` and
//! `priority`; a request for whatever is free of its names has `"opportunistic":true` as well.
//!
//! # The rule
//! **A recorded hold lies within the true one**, so whatever order the recorder sees, two holds that never overlapped are
//! never recorded as overlapping:
//! - A `grant` is recorded after the call that got it has returned, a `release` before the call that gives it back.
//! - A `downgrade` is recorded before it is done: from then on less is claimed than is held.
//! - From ALL to some names: the `release` of ALL and the `grant` of the names are recorded together, before the call. While
//!   both are recorded the job truly holds ALL, which covers the names, and nobody can get them until the call gives the
//!   others back.
//! - A lock added as held: `add` and `grant` are recorded after the call, while it is held. Nobody held ALL when it was
//!   added, and nobody gets ALL before it is released.
//! - A lock added free, or removed without being held: only under the exclusive BGL, where nobody else holds anything.
//! - A held lock removed: `remove` is recorded before the call, and ends the hold.
//!
//! The recorder's mutex is never held across a call into the lock manager, which might wait for a job that wants to record.
//!
//! A `request` ends with a `grant`, a `timeout`, or, if one of its names is gone, with the `release` of what its job held.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::checker::{Checker, Verdict};
use crate::clock::Clock;
use crate::names::{Name, NameTable};

/// What happened to some locks of one level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) job: u32,
    pub(crate) kind: Kind,
    /// The rank of the level.
    pub(crate) level: usize,
    pub(crate) names: Span<'a>,
    pub(crate) access: Access,
    pub(crate) priority: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    /// A request for whatever is free of its names.
    Opportunity,
    Grant,
    Release,
    Downgrade,
    Timeout,
    Add,
    Remove,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Request | Self::Opportunity => "request",
            Self::Grant => "grant",
            Self::Release => "release",
            Self::Downgrade => "downgrade",
            Self::Timeout => "timeout",
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }
}

impl Kind {
    /// The kind of this name in a trace.
    pub(crate) fn of(text: &str, opportunistic: bool) -> Option<Self> {
        let all = [
            Self::Request,
            Self::Grant,
            Self::Release,
            Self::Downgrade,
            Self::Timeout,
            Self::Add,
            Self::Remove,
        ];
        let kind = all.into_iter().find(|kind| kind.text() == text)?;
        Some(if opportunistic && kind == Self::Request { Self::Opportunity } else { kind })
    }
}

/// Which locks of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span<'a> {
    All,
    Names(&'a [Name]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Shared,
    Exclusive,
}

impl Access {
    fn text(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        }
    }
}

/// Takes events from all workers.
pub(crate) struct Recorder {
    journal: Mutex<Journal>,
}

struct Journal {
    checker: Checker,
    trace: Option<Trace>,
    clock: Clock,
}

impl Recorder {
    /// Starts a record of locks on `levels`, called so in the trace.
    pub(crate) fn new(checker: Checker, trace: Option<Trace>, clock: Clock) -> Self {
        Self { journal: Mutex::new(Journal { checker, trace, clock }) }
    }

    /// Records events that happen at one instant.
    pub(crate) fn record(&self, events: &[Event<'_>]) {
        let mut journal = self.journal.lock();
        // Read under the mutex, so that times never go back from one line to the next.
        let t_us = journal.clock.stamp_us();
        for event in events {
            journal.checker.observe(event);
            if let Some(trace) = &mut journal.trace {
                trace.write(t_us, event);
            }
        }
        if let Some(trace) = &mut journal.trace {
            trace.written();
        }
    }

    /// Ends the record.
    ///
    /// # Errors
    /// If the trace could not be written, now or before.
    pub(crate) fn finish(self) -> (Verdict, io::Result<()>) {
        let journal = self.journal.into_inner();
        (journal.checker.finish(), journal.trace.map_or(Ok(()), Trace::finish))
    }
}

/// The file of events.
pub(crate) struct Trace {
    file: BufWriter<File>,
    levels: Vec<String>,
    /// Every name as a JSON string.
    names: Vec<String>,
    failure: Option<io::Error>,
    /// Whether each event is in the file once it is recorded, in case the process is killed.
    at_once: bool,
}

impl Trace {
    pub(crate) fn create(path: &Path, levels: Vec<String>, names: &NameTable) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let quote = |name: &Arc<str>| serde_json::to_string(&**name).map_err(io::Error::from);
        let names = names.iter().map(quote).collect::<Result<_, _>>()?;
        Ok(Self { file, levels, names, failure: None, at_once: false })
    }

    /// Has each event in the file once it is recorded.
    pub(crate) fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }

    fn written(&mut self) {
        if self.at_once && self.failure.is_none() {
            self.failure = self.file.flush().err();
        }
    }

    /// Writes one line; after a failure, none.
    fn write(&mut self, t_us: u128, event: &Event<'_>) {
        if self.failure.is_none() {
            self.failure = self.write_line(t_us, event).err();
        }
    }

    fn write_line(&mut self, t_us: u128, event: &Event<'_>) -> io::Result<()> {
        let Event { job, kind, level, names, access, priority } = *event;
        let (kind, level, access) = (kind.text(), &self.levels[level], access.text());
        write!(
            self.file,
            r#"{{"t_us":{t_us},"job":{job},"event":"{kind}","level":"{level}","names":"#
        )?;
        match names {
            Span::All => write!(self.file, r#""ALL""#)?,
            Span::Names(names) => write_list(&mut self.file, &self.names, names)?,
        }
        let opportunity = match event.kind {
            Kind::Opportunity => r#","opportunistic":true"#,
            _ => "",
        };
        writeln!(self.file, r#","mode":"{access}","priority":{priority}{opportunity}}}"#)
    }

    fn finish(mut self) -> io::Result<()> {
        self.failure.map_or_else(|| self.file.flush(), Err)
    }
}

fn write_list(file: &mut impl Write, texts: &[String], names: &[Name]) -> io::Result<()> {
    for (i, name) in names.iter().enumerate() {
        let separator = if i == 0 { "[" } else { "," };
        write!(file, "{separator}{}", texts[name.index()])?;
    }
    file.write_all(if names.is_empty() { b"[]" } else { b"]" })
}
