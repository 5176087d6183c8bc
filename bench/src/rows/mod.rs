//! The rows of the table. Each has a number, and says what it measures and against whom.

mod across;
mod all;
mod contended;
mod handover;
mod memory;
mod monitor;
mod name;
mod one;
mod pending;
mod plan;
mod session;
mod unsorted;
mod workload;

use crate::effort::Effort;
use crate::table::Case;

/// What one looks up where a lock is no more than a name: a value to see that it was there.
const HELD: u64 = 42;

/// One row: its number, what it measures, and how.
pub(crate) struct Row {
    pub(crate) number: u32,
    pub(crate) subject: &'static str,
    pub(crate) measure: fn(Effort, &Inputs) -> Vec<Case>,
}

/// Files for the row that plays a workload; what is shipped, if there are none.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Options of the example, each with its file.
    pub(crate) workload: Vec<String>,
}

const fn row(number: u32, subject: &'static str, measure: fn(Effort, &Inputs) -> Vec<Case>) -> Row {
    Row { number, subject, measure }
}

pub(crate) const ROWS: [Row; 13] = [
    row(1, "one lock, handle in hand", one::measure),
    row(2, "one lock by name", name::measure),
    row(3, "a prepared plan", plan::measure),
    row(4, "names as they come, unsorted", unsorted::measure),
    row(5, "all of a set", all::measure),
    row(6, "root and leaf in a session, two threads", session::measure),
    row(7, "contended", contended::measure),
    row(8, "hand-over", handover::measure),
    row(9, "many pending", pending::measure),
    row(10, "memory", memory::measure),
    row(11, "a whole workload", workload::measure),
    row(12, "a snapshot", monitor::measure),
    row(13, "across processes", across::measure),
];
