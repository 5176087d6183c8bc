//! What processes held and when, as they wrote it down, and whether that may be.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one process holds, line by line in a file of its own. A process that is killed leaves whole lines, all but the last one.
pub(super) struct Log {
    file: File,
    next: AtomicU64,
}

/// Something that was held. Times are in nanoseconds on the clock that all processes read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) name: String,
    pub(super) exclusive: bool,
    pub(super) token: u64,
    pub(super) begin: u64,
    /// When it was given back at the earliest, or its holder killed.
    pub(super) end: u64,
    pub(super) killed: bool,
}

impl Log {
    pub(super) fn create(path: &Path) -> Self {
        let file = OpenOptions::new().create_new(true).append(true).open(path);
        Self { file: file.expect("each life has a file of its own"), next: AtomicU64::new(0) }
    }

    /// To be called once it is held; what is returned belongs to [`ends`](Self::ends).
    pub(super) fn begins(&self, name: &str, exclusive: bool, token: u64) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mode = if exclusive { "exclusive" } else { "shared" };
        self.write(&format!("begin {id} {name} {mode} {token} {}\n", super::common_ns()));
        id
    }

    /// To be called while it is still held.
    pub(super) fn ends(&self, id: u64) {
        self.write(&format!("end {id} {}\n", super::common_ns()));
    }

    fn write(&self, line: &str) {
        // One write: lines of two threads do not mix.
        (&self.file).write_all(line.as_bytes()).expect("there is room");
    }
}

/// What a process held that ended by itself, or was killed at this moment.
pub(super) fn read(path: &Path, killed: Option<u64>) -> Vec<Hold> {
    // Killed before it began to write.
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut holds = BTreeMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["begin", id, name, mode, token, begin] => {
                let hold = Hold {
                    name: name.to_owned(),
                    exclusive: mode == "exclusive",
                    token: number(token),
                    begin: number(begin),
                    end: killed.unwrap_or(u64::MAX),
                    killed: killed.is_some(),
                };
                assert!(holds.insert(number(id), hold).is_none(), "{line}");
            }
            ["end", id, end] => {
                let hold: &mut Hold = holds.get_mut(&number(id)).expect("it began");
                // What it says to give back when it is killed may be with others by then.
                (hold.end, hold.killed) = (number(end), false);
            }
            _ => panic!("{line:?} in {}", path.display()),
        }
    }
    assert!(killed.is_some() || holds.values().all(|hold| hold.end < u64::MAX), "it gave all back");
    holds.into_values().collect()
}

fn number(digits: &str) -> u64 {
    digits.parse().expect("digits")
}

/// Finds two holds that conflict and overlap, or whose tokens do not grow.
pub(super) fn check(holds: &[Hold]) -> Result<(), String> {
    by_name(holds).values().try_for_each(|holds| check_name(holds))
}

/// The holds of each name, as they began.
fn by_name(holds: &[Hold]) -> BTreeMap<&str, Vec<&Hold>> {
    let mut of: BTreeMap<&str, Vec<&Hold>> = BTreeMap::new();
    for hold in holds {
        of.entry(&hold.name).or_default().push(hold);
    }
    of.values_mut().for_each(|holds| holds.sort_by_key(|hold| hold.begin));
    of
}

fn check_name(holds: &[&Hold]) -> Result<(), String> {
    let mut held: Vec<&Hold> = Vec::new();
    let (mut last, mut last_exclusive) = (None, None);
    for next in holds {
        held.retain(|hold| hold.end > next.begin);
        let conflicts = |hold: &&&Hold| hold.exclusive || next.exclusive;
        if let Some(holder) = held.iter().find(conflicts) {
            return Err(format!("{next:?} while {holder:?}"));
        }
        let before: Option<&Hold> = if next.exclusive { last } else { last_exclusive };
        if let Some(before) = before.filter(|before| before.token >= next.token) {
            return Err(format!("the token of {next:?} after {before:?}"));
        }
        held.push(next);
        let later = |known: Option<&Hold>| known.is_none_or(|known| known.token < next.token);
        if later(last) {
            last = Some(next);
        }
        if next.exclusive && later(last_exclusive) {
            last_exclusive = Some(next);
        }
    }
    Ok(())
}

/// How long it took until somebody else had what somebody held who was killed.
pub(super) fn pauses(holds: &[Hold]) -> Vec<u64> {
    let mut pauses = Vec::new();
    for holds in by_name(holds).values() {
        for (at, killed) in holds.iter().enumerate().filter(|(_, hold)| hold.killed) {
            let conflicts =
                |next: &&&Hold| next.begin > killed.end && (next.exclusive || killed.exclusive);
            let next = holds[at..].iter().find(conflicts);
            pauses.extend(next.map(|next| next.begin - killed.end));
        }
    }
    pauses.sort_unstable();
    pauses
}

fn hold(exclusive: bool, token: u64, begin: u64, end: u64) -> Hold {
    Hold { name: "a".to_owned(), exclusive, token, begin, end, killed: false }
}

#[test]
fn the_checker_lets_pass_what_may_be() {
    let other = Hold { name: "b".to_owned(), ..hold(true, 1, 0, 100) };
    let holds = [hold(false, 2, 5, 15), hold(false, 1, 6, 20), hold(true, 3, 20, 30), other];
    check(&holds).unwrap();
    check(&[hold(true, 3, 20, 30), hold(false, 5, 30, 40), hold(false, 4, 31, 33)]).unwrap();
}

#[test]
fn the_checker_finds_what_may_not_be() {
    let finds = |first: Hold, second: Hold, says: &str| {
        for holds in [[first.clone(), second.clone()], [second, first]] {
            let found = check(&holds).unwrap_err();
            assert!(found.contains(says), "{found}");
        }
    };
    finds(hold(true, 1, 0, 10), hold(true, 2, 9, 11), "while");
    finds(hold(true, 1, 0, 10), hold(false, 2, 1, 2), "while");
    finds(hold(false, 1, 0, 10), hold(true, 2, 1, 2), "while");
    finds(hold(true, 2, 0, 1), hold(true, 2, 1, 2), "token");
    finds(hold(true, 2, 0, 1), hold(false, 1, 1, 2), "token");
    finds(hold(false, 2, 0, 1), hold(true, 1, 1, 2), "token");
}
