//! The stream of jobs, checked so far that nothing later has to doubt it.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::args::{Args, ArgsEntry};
use crate::cluster::Catalogue;
use crate::input::{Entry, InputError, Source};
use crate::names::NameTable;
use crate::opcodes::{Opcodes, Variant};

/// Ganeti's range.
const PRIORITIES: std::ops::RangeInclusive<i32> = -20..=19;

/// Thirty years in microseconds: more is a mistake, and would overflow once scaled.
const TIME_MAX_US: u64 = 1_000_000_000_000_000;

/// Where a job is in [`Workload::jobs`].
pub(crate) type JobIndex = usize;

/// Jobs in the order of the file, and changes of priority in the order of time.
#[derive(Debug)]
pub(crate) struct Workload<'o> {
    pub(crate) jobs: Vec<Job<'o>>,
    pub(crate) priority_changes: Vec<PriorityChange>,
}

#[derive(Debug)]
pub(crate) struct Job<'o> {
    /// Its number in the file.
    pub(crate) id: u32,
    pub(crate) submitted: Duration,
    pub(crate) priority: i32,
    pub(crate) variant: &'o Variant,
    pub(crate) duration: Duration,
    pub(crate) args: Args,
    /// Jobs that must have ended before.
    pub(crate) deps: Vec<JobIndex>,
}

#[derive(Debug)]
pub(crate) struct PriorityChange {
    pub(crate) at: Duration,
    pub(crate) job: JobIndex,
    pub(crate) priority: i32,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with ops, jobs and so on")]
struct JobsFile<'a> {
    ops: Vec<String>,
    #[serde(borrow)]
    jobs: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    prio_changes: Vec<&'a RawValue>,
}

const JOB_COLUMNS: [&str; 7] = ["id", "submit_us", "priority", "op", "duration_us", "args", "deps"];

#[derive(Deserialize)]
#[serde(expecting = "[id, submit_us, priority, op, duration_us, args, deps]")]
struct JobRow(u32, u64, i32, usize, u64, ArgsEntry, Vec<u32>);

#[derive(Deserialize)]
#[serde(expecting = "[time_us, job, priority]")]
struct ChangeRow(u64, u32, i32);

/// Reads jobs that name things of `catalogue`, entering the names they will create into `names`.
pub(crate) fn read<'o>(
    source: &Source,
    opcodes: &'o Opcodes,
    catalogue: &Catalogue,
    names: &mut NameTable,
) -> Result<Workload<'o>, InputError> {
    let file: JobsFile<'_> = source.document()?;
    let entries = source.entries("jobs", &file.jobs);
    let rows: Vec<JobRow> =
        entries.iter().map(|entry| entry.row(&JOB_COLUMNS)).collect::<Result<_, _>>()?;
    for new in rows.iter().filter_map(|row| row.5.new_name()) {
        names.intern(new);
    }
    let by_id = number_jobs(&entries, &rows)?;
    let reader = Reader { ops: &file.ops, opcodes, catalogue, names, by_id };
    let jobs: Vec<Job<'o>> = entries
        .iter()
        .zip(rows)
        .map(|(entry, row)| reader.job(entry, row))
        .collect::<Result<_, _>>()?;
    check_deps_end(&entries, &jobs)?;
    let mut priority_changes: Vec<PriorityChange> = source
        .entries("prio_changes", &file.prio_changes)
        .iter()
        .map(|entry| reader.change(entry))
        .collect::<Result<_, _>>()?;
    priority_changes.sort_by_key(|change| change.at);
    Ok(Workload { jobs, priority_changes })
}

fn number_jobs(
    entries: &[Entry<'_>],
    rows: &[JobRow],
) -> Result<HashMap<u32, JobIndex>, InputError> {
    let mut by_id = HashMap::new();
    for (index, (entry, row)) in entries.iter().zip(rows).enumerate() {
        if by_id.insert(row.0, index).is_some() {
            return Err(entry.error("id", format_args!("job {} is there twice", row.0)));
        }
    }
    Ok(by_id)
}

struct Reader<'a, 'o> {
    ops: &'a [String],
    opcodes: &'o Opcodes,
    catalogue: &'a Catalogue,
    names: &'a NameTable,
    by_id: HashMap<u32, JobIndex>,
}

impl<'o> Reader<'_, 'o> {
    fn job(&self, entry: &Entry<'_>, row: JobRow) -> Result<Job<'o>, InputError> {
        let JobRow(id, submit_us, priority, op, duration_us, args, deps) = row;
        let variant = self.variant(entry, op)?;
        if let Some(arg) = args.missing(&variant.args) {
            return Err(entry.error("args", format_args!("{} needs {arg:?}", self.ops[op])));
        }
        Ok(Job {
            id,
            submitted: time(entry, "submit_us", submit_us)?,
            priority: check_priority(entry, priority)?,
            variant,
            duration: time(entry, "duration_us", duration_us)?,
            args: args.resolve(entry, self.catalogue, self.names)?,
            deps: deps.iter().map(|&id| self.index(entry, "deps", id)).collect::<Result<_, _>>()?,
        })
    }

    fn change(&self, entry: &Entry<'_>) -> Result<PriorityChange, InputError> {
        let ChangeRow(time_us, job, priority) = entry.row(&["time_us", "job", "priority"])?;
        Ok(PriorityChange {
            at: time(entry, "time_us", time_us)?,
            job: self.index(entry, "job", job)?,
            priority: check_priority(entry, priority)?,
        })
    }

    fn variant(&self, entry: &Entry<'_>, op: usize) -> Result<&'o Variant, InputError> {
        let Some(name) = self.ops.get(op) else {
            let problem = format!("index {op}, but there are {} ops", self.ops.len());
            return Err(entry.error("op", problem));
        };
        self.opcodes.variants.get(name).ok_or_else(|| {
            entry.error("op", format_args!("{name:?} is not in the file of opcodes"))
        })
    }

    fn index(&self, entry: &Entry<'_>, field: &str, id: u32) -> Result<JobIndex, InputError> {
        let index = self.by_id.get(&id).copied();
        index.ok_or_else(|| entry.error(field, format_args!("there is no job {id}")))
    }
}

fn time(entry: &Entry<'_>, field: &str, us: u64) -> Result<Duration, InputError> {
    if us > TIME_MAX_US {
        return Err(entry.error(field, format_args!("{us} is more than {TIME_MAX_US}")));
    }
    Ok(Duration::from_micros(us))
}

fn check_priority(entry: &Entry<'_>, priority: i32) -> Result<i32, InputError> {
    if PRIORITIES.contains(&priority) {
        return Ok(priority);
    }
    let (first, last) = (PRIORITIES.start(), PRIORITIES.end());
    Err(entry.error("priority", format_args!("{priority} is not between {first} and {last}")))
}

/// Ends jobs whose dependencies have ended until no more can; what is left would wait for itself.
fn check_deps_end(entries: &[Entry<'_>], jobs: &[Job<'_>]) -> Result<(), InputError> {
    let mut waits_for: Vec<usize> = jobs.iter().map(|job| job.deps.len()).collect();
    let mut ended: Vec<JobIndex> = (0..jobs.len()).filter(|&job| waits_for[job] == 0).collect();
    let dependents = dependents(jobs);
    while let Some(job) = ended.pop() {
        for &dependent in &dependents[job] {
            waits_for[dependent] -= 1;
            if waits_for[dependent] == 0 {
                ended.push(dependent);
            }
        }
    }
    match waits_for.iter().position(|&left| left > 0) {
        Some(job) => {
            let problem =
                format_args!("job {} would wait for itself for ever", jobs[job].id).to_string();
            Err(entries[job].error("deps", problem))
        }
        None => Ok(()),
    }
}

/// For each job, those that wait for its end.
pub(crate) fn dependents(jobs: &[Job<'_>]) -> Vec<Vec<JobIndex>> {
    let mut dependents = vec![Vec::new(); jobs.len()];
    for (index, job) in jobs.iter().enumerate() {
        for &dep in &job.deps {
            dependents[dep].push(index);
        }
    }
    dependents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster;

    const JOB: &str = "[1, 0, 1, 58, 7068, {\"i\": 26}, []]";

    /// Reads a file of jobs against the shipped cluster, with `jobs` on lines of their own from line 2 on.
    fn read_jobs(jobs: &[&str], changes: &str) -> Result<usize, String> {
        let shipped = |name: &str, text: &str| Source::new(name, text);
        let mut names = NameTable::default();
        let opcodes = shipped("o.json", include_str!("../data/opcodes.json"));
        let opcodes = crate::opcodes::read(&opcodes).expect("the shipped file is well formed");
        let cluster = shipped("c.json", include_str!("../data/cluster-small.json"));
        let (_, catalogue) = cluster::read(&cluster, &mut names).expect("well formed");
        let ops = r#"["OP_INSTANCE_REBOOT/default", "OP_INSTANCE_CREATE/nodes", "OP_NONE/x"]"#;
        let list = jobs.join(",\n");
        let text = format!("{{\"ops\": {ops}, \"prio_changes\": {changes}, \"jobs\": [\n{list}]}}");
        let source = Source::new("j.json", text);
        let workload = read(&source, &opcodes, &catalogue, &mut names);
        workload.map(|workload| workload.jobs.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_jobs_are_read() {
        let mut names = NameTable::default();
        let opcodes = Source::new("o.json", include_str!("../data/opcodes.json"));
        let opcodes = crate::opcodes::read(&opcodes).expect("well formed");
        let cluster = Source::new("c.json", include_str!("../data/cluster-small.json"));
        let (_, catalogue) = cluster::read(&cluster, &mut names).expect("well formed");
        let jobs = Source::new("j.json", include_str!("../data/jobs-small.json"));
        let workload = read(&jobs, &opcodes, &catalogue, &mut names).expect("well formed");
        assert_eq!((workload.jobs.len(), workload.priority_changes.len()), (2000, 25));
    }

    #[test]
    fn a_malformed_job_is_an_error_with_line_and_field() {
        let good = "[1, 0, 0, 0, 5, {\"i\": 0}, []]";
        let cases = [
            (
                "[2, 0, 0, 0, 5, {\"i\": 200}, []]",
                "j.json:3: jobs[1].args.i: index 200, but there are 200 instances",
            ),
            (
                "[2, 0, 0, 0, 5, {\"i\": -1}, []]",
                "j.json:3: jobs[1].args.i: invalid type: integer `-1`, expected an index into the cluster file, a name, or a list of them",
            ),
            (
                "[2, 0, 0, 0, 5, {\"i\": [0, {}]}, []]",
                "j.json:3: jobs[1].args.i[1]: invalid type: map, expected an index into the cluster file, a name, or a list of them",
            ),
            (
                "[2, 0, 0, 0, 5, {\"i\": \"ghost\"}, []]",
                "j.json:3: jobs[1].args.i: \"ghost\" is neither in the cluster nor created by a job",
            ),
            (
                "[2, 0, 0, 0, 5, {}, []]",
                "j.json:3: jobs[1].args: OP_INSTANCE_REBOOT/default needs I",
            ),
            (
                "[2, 0, 0, 0, 5, {\"q\": 1}, []]",
                "j.json:3: jobs[1].args.q: unknown field `q`, expected one of `i`, `n`, `g`, `w`, `x`, `xg`, `new`, `p`, `s`, `children`",
            ),
            (
                "[2, 0, 0, 0, 5, {\"i\": 0}]",
                "j.json:3: jobs[1]: invalid length 6, expected [id, submit_us, priority, op, duration_us, args, deps]",
            ),
            ("[2, 0, 0, 0, 5, {\"i\": 0}, [3]]", "j.json:3: jobs[1].deps: there is no job 3"),
            (
                "[2, 0, 0, 0, 5, {\"i\": 0}, [2]]",
                "j.json:3: jobs[1].deps: job 2 would wait for itself for ever",
            ),
            ("[1, 0, 0, 0, 5, {\"i\": 0}, []]", "j.json:3: jobs[1].id: job 1 is there twice"),
            (
                "[2, 0, 20, 0, 5, {\"i\": 0}, []]",
                "j.json:3: jobs[1].priority: 20 is not between -20 and 19",
            ),
            (
                "[2, 0, 0, 3, 5, {\"i\": 0}, []]",
                "j.json:3: jobs[1].op: index 3, but there are 3 ops",
            ),
            (
                "[2, 0, 0, 2, 5, {\"i\": 0}, []]",
                "j.json:3: jobs[1].op: \"OP_NONE/x\" is not in the file of opcodes",
            ),
            (
                "[2, 18446744073709551615, 0, 0, 5, {\"i\": 0}, []]",
                "j.json:3: jobs[1].submit_us: 18446744073709551615 is more than 1000000000000000",
            ),
            (
                "[2, 0, 0, 0,\n5.5, {\"i\": 0}, []]",
                "j.json:4: jobs[1].duration_us: invalid type: floating point `5.5`, expected u64",
            ),
            (
                "7",
                "j.json:3: jobs[1]: invalid type: integer `7`, expected [id, submit_us, priority, op, duration_us, args, deps]",
            ),
        ];
        for (bad, message) in cases {
            assert_eq!(read_jobs(&[good, bad], "[]").unwrap_err(), message);
        }
    }

    #[test]
    fn a_change_of_an_unknown_job_is_an_error() {
        let error = read_jobs(&["[1, 0, 0, 0, 5, {\"i\": 0}, []]"], "[[5, 9, 0]]").unwrap_err();
        assert_eq!(error, "j.json:1: prio_changes[0].job: there is no job 9");
    }

    #[test]
    fn a_ring_of_jobs_is_an_error() {
        let ring = ["[1, 0, 0, 0, 5, {\"i\": 0}, [2]]", "[2, 0, 0, 0, 5, {\"i\": 0}, [1]]"];
        let error = read_jobs(&ring, "[]").unwrap_err();
        assert_eq!(error, "j.json:2: jobs[0].deps: job 1 would wait for itself for ever");
    }

    #[test]
    fn a_name_may_come_from_another_job() {
        let create = "[1, 0, 0, 1, 5, {\"new\": \"fresh\", \"p\": 1}, []]";
        let reboot = "[2, 0, 0, 0, 5, {\"i\": \"fresh\"}, [1]]";
        assert_eq!(read_jobs(&[create, reboot], "[]"), Ok(2));
        assert!(read_jobs(&[JOB], "[]").unwrap_err().contains("index 58"));
    }
}
