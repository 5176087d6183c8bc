//! Row 11: the example's jobs, two workers, with all durations zero: what remains is locking, and the referee that checks it.

use std::hint::black_box;
use std::sync::Arc;

use parking_lot::RwLock;
use tierlock::ganeti::{self, Level::*};
use tierlock::{Level as _, Mode};

use super::{HELD, Inputs};
use crate::effort::Effort;
use crate::harness::Contender;
use crate::names::names;
use crate::programs;
use crate::table::{Case, Line, Quartiles, Target, Unit};

pub(super) fn measure(effort: Effort, inputs: &Inputs) -> Vec<Case> {
    let mut arguments = vec!["--time-scale".to_owned(), "0".into(), "--workers".into(), "2".into()];
    arguments.extend(inputs.workload.iter().cloned());
    let runs: Vec<Run> = (0..effort.pick(25, 3))
        .map(|_| Run::read(&programs::run("examples/orchestrator", &arguments)))
        .collect();
    let median = |figure: fn(&Run) -> f64| Quartiles::of(runs.iter().map(figure)).median;
    let title = format!("workload of {:.0} jobs, referee included", runs[0].jobs);
    let lines = vec![
        Line::new("jobs", median(|run| run.jobs_a_second), Unit::PerSecond),
        Line::new("requests", median(|run| run.a_second(run.requests)), Unit::PerSecond),
        Line::new("locks taken", median(|run| run.a_second(run.holds)), Unit::PerSecond),
    ];
    vec![Case::new(11, title, lines), four_levels(effort)]
}

/// What the published `locking.py` of Ganeti 2.10.8 took for the same, once made to run under Python 3.11 (with `-O`, which
/// is its fastest); the code is not ours to ship, so the figure is quoted.
const GANETI: (&str, f64) = ("Ganeti 2.10.8's own, Python 3.11, quoted", 51_000.0);

/// Five locks at four levels, one level at a time as Ganeti's manager has it, and given back from the deepest.
fn four_levels(effort: Effort) -> Case {
    let title = "five locks at four levels, one level at a time";
    let mut case = Case::race(11, title, effort, vec![session(), parking_lot()]);
    let (name, figure) = GANETI;
    let ratio = Quartiles::exactly(case.lines[0].figure / figure);
    let quoted = Line { ratio: Some(ratio), ..Line::new(name, figure, Unit::Nanoseconds) };
    case.lines.push(quoted.target(Target::Ratio(0.1)));
    case
}

fn session() -> Contender<'static> {
    let nodes = names(1_000);
    let wanted = [Arc::clone(&nodes[10]), Arc::clone(&nodes[500])];
    let manager = ganeti::manager(names(1_000), ["default"], nodes, ["lan"]).build().unwrap();
    let (mut session, instance) = (manager.session("job"), Arc::clone(&wanted[0]));
    Contender::new("tierlock", move |closely| {
        session.acquire(Cluster.shared("BGL")).now().unwrap();
        session.acquire(Instance.exclusive(Arc::clone(&instance))).now().unwrap();
        session.acquire(NodeGroup.shared("default")).now().unwrap();
        session.acquire(Node.exclusive(&wanted[..])).now().unwrap();
        if closely {
            assert_eq!(session.holds(Cluster, "BGL"), Some(Mode::Shared));
            assert_eq!(session.holds(Instance, &instance), Some(Mode::Exclusive));
            assert_eq!(session.owned(Node), wanted);
        }
        session.release_all();
    })
}

/// As many locks of no name.
fn parking_lot() -> Contender<'static> {
    let [cluster, instance, group, one, other] = [(); 5].map(|()| Box::new(RwLock::new(HELD)));
    Contender::new("five parking_lot 0.13", move |_| {
        let above = (black_box(&cluster).read(), instance.write(), group.read());
        let nodes = (black_box(&one).write(), other.write());
        assert_eq!([*above.0, *above.1, *above.2, *nodes.0, *nodes.1], [HELD; 5]);
    })
}

/// What the example says of itself.
#[derive(Debug, PartialEq)]
struct Run {
    jobs: f64,
    jobs_a_second: f64,
    holds: f64,
    requests: f64,
}

impl Run {
    /// Finds the figures by the words around them.
    ///
    /// # Panics
    /// If they are not there.
    fn read(text: &str) -> Self {
        Self {
            jobs: number(text, "jobs      ", ":"),
            jobs_a_second: number(text, " s, ", " jobs a second"),
            holds: number(text, "checker: ", " holds of "),
            requests: number(text, " holds of ", " requests"),
        }
    }

    fn a_second(&self, count: f64) -> f64 {
        count / (self.jobs / self.jobs_a_second)
    }
}

fn number(text: &str, before: &str, after: &str) -> f64 {
    let found = text.split_once(after).and_then(|(text, _)| text.rsplit_once(before));
    let number = found.and_then(|(_, number)| number.replace(',', "").parse().ok());
    number.unwrap_or_else(|| panic!("no number between {before:?} and {after:?} in:\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_read_from_the_summary() {
        let text = "2,000 jobs on 200 instances\n\n\
                    jobs      2,000: 1,999 done, 1 failed\n\
                    time      0.04 s, 50000.0 jobs a second\n\n\
                    checker: 22,940 holds of 6,760 requests, no two in conflict\n";
        let run = Run::read(text);
        let wanted =
            Run { jobs: 2_000.0, jobs_a_second: 50_000.0, holds: 22_940.0, requests: 6_760.0 };
        assert_eq!(run, wanted);
        assert_eq!(run.a_second(1_000.0), 25_000.0);
    }
}
