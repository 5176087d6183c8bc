//! Row 10: memory, counted in a program of its own, since counting slows down whoever allocates.
//!
//! What is asked for is counted by the allocator; a million locks by what the system says is resident, which has all that the
//! allocator adds.

use super::Inputs;
use crate::effort::Effort;
use crate::programs;
use crate::table::{Case, Line, Target, Unit};

pub(super) fn measure(effort: Effort, _: &Inputs) -> Vec<Case> {
    let count = effort.pick("1000000", "50000");
    let lines = programs::run("bench-memory", &[count]).lines().map(line).collect();
    let most = effort.pick(250e6, 250e6 / 20.0);
    let all = format!("a set of {count} in all, resident");
    let case = Case::new(10, "memory", lines)
        .target("idle lock, beside its name", Target::AtMost(96.0))
        .target("pending request", Target::AtMost(320.0))
        .target(&all, Target::AtMost(most));
    vec![case]
}

/// A line of that program: a number of bytes, and of what.
fn line(text: &str) -> Line {
    let (bytes, name) = text.split_once(' ').expect("bytes and a name");
    Line::new(name, bytes.parse().expect("a number of bytes"), Unit::Bytes)
}
