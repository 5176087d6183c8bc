//! Steps as bytes, which a fuzzer writes: three for each. Whatever the bytes are, they are steps.

use tierlock::Mode::{Exclusive, Shared};

use super::model::{UNIVERSE, Wanted, Which};
use super::steps::{CHANGES, KINDS, LEVELS, OWNERS, PLANS, Step, compare_guards, compare_sessions};

/// The first byte says whether there is a root, the rest are steps.
pub(crate) fn sessions(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    compare_sessions(first % 2 == 1, &steps(rest, LEVELS));
}

/// The first byte says of which kind the set is, the rest are steps.
pub(crate) fn guards(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let kind = KINDS.start + usize::from(*first) % KINDS.len();
    compare_guards(kind, &steps(rest, 1));
}

/// | byte | says |
/// |---|---|
/// | 0 | what is done, and by whom |
/// | 1 | at which level, shared or exclusively, and of how many at least |
/// | 2 | with which names |
fn steps(bytes: &[u8], levels: usize) -> Vec<Step> {
    let mut chunks = bytes.chunks_exact(3);
    let mut steps = Vec::new();
    while let Some([what, how, names]) = chunks.next() {
        let (what, owner) = (usize::from(*what) / OWNERS, usize::from(*what) % OWNERS);
        let first = wanted(*how, *names, levels);
        steps.push(match what % 16 {
            0..4 => Step::Acquire { owner, wanted: vec![first] },
            4 | 5 => {
                let more = chunks.next().map(|more| wanted(more[1], more[2], levels));
                let wanted = [first].into_iter().chain(more).collect();
                if what % 2 == 0 { Step::Acquire { owner, wanted } } else { Step::Plan(wanted) }
            }
            6 => Step::AcquirePlan { owner, plan: usize::from(*how) % PLANS },
            7 => Step::ReleaseAll { owner },
            8 => Step::NewSession { owner },
            change => {
                let Wanted { level, names, .. } = first;
                Step::Change { owner, level, names, change: CHANGES[change - 9] }
            }
        });
    }
    steps
}

fn wanted(how: u8, names: u8, levels: usize) -> Wanted {
    let how = usize::from(how);
    // Now and then one that there is not.
    let (level, how) = (how % (levels + 1), how / (levels + 1));
    let mode = if how % 2 == 0 { Shared } else { Exclusive };
    let at_least = Some(how / 2 % 8).filter(|count| *count < 3);
    let set = |at: usize| names & 1 << at != 0;
    let these = || UNIVERSE.iter().enumerate().filter(|(at, _)| set(*at)).map(|(_, name)| *name);
    let names = if set(7) { Which::All } else { Which::These(these().collect()) };
    Wanted { level, mode, names, at_least }
}
