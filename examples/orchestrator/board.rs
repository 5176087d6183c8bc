//! Who does what, where several processes share a cluster.
//!
//! Jobs that depend on each other, directly or by others, are one *piece*: whatever a job creates, only jobs of its piece name.
//! A process claims a piece before it begins its first job, on a board that all processes see, and strikes it off after its
//! last. Pieces of a process that died are claimed by those that live, and done from the start: what they had created so far
//! was known to the dead process alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tierlock::coordination::{CoordinationError, Coordinator, MemberId, Value};

use crate::pool::Pool;
use crate::summary::grouped;
use crate::workload::{Job, JobIndex};

/// The number of a piece of work.
type Piece = u32;

/// What this process knows of the board.
pub(crate) struct Board {
    coordinator: Coordinator,
    value: Value,
    piece_of: Vec<Piece>,
    pieces: Mutex<Vec<Known>>,
}

/// A piece, as this process knows it.
struct Known {
    jobs: Vec<JobIndex>,
    unfinished: usize,
    whose: Whose,
    /// Jobs that were ready and not this process's to do.
    aside: Vec<JobIndex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Unknown,
    Mine,
    TakenOver,
    Theirs,
    Done,
}

/// What all processes see.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    /// Those who take part in this run.
    parties: Vec<MemberId>,
    /// How many jobs there are, so that nobody plays other files.
    jobs: usize,
    claims: BTreeMap<Piece, MemberId>,
    /// Pieces done, as ranges of numbers.
    done: Vec<(Piece, Piece)>,
}

/// Whether a job is this process's to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    Ours,
    /// Somebody else does it, or did.
    Others,
}

/// What this process did of a shared run.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) done: usize,
    pub(crate) taken_over: usize,
    pub(crate) by_others: usize,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, taken_over, by_others } = self;
        let [done, taken_over, by_others] = [done, taken_over, by_others].map(|n| grouped(*n));
        writeln!(
            f,
            "shared: {done} jobs done here, {taken_over} of them taken over from the dead, {by_others} by others"
        )
    }
}

/// Why a process cannot take part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoardError {
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
    #[error("the board is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("{theirs} jobs are played there, not these {ours}")]
    OtherJobs { ours: usize, theirs: usize },
}

impl Written {
    fn read(bytes: Option<&[u8]>) -> Result<Self, serde_json::Error> {
        bytes.map_or_else(|| Ok(Self::default()), serde_json::from_slice)
    }

    fn write(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// Takes part in the run that is under way, or begins one if nobody of an earlier one is left.
    fn join(&mut self, me: &MemberId, alive: &[MemberId], jobs: usize) -> Result<(), usize> {
        if !self.parties.iter().any(|party| alive.contains(party)) {
            *self = Self { jobs, ..Self::default() };
        }
        self.parties.push(me.clone());
        if self.jobs == jobs { Ok(()) } else { Err(self.jobs) }
    }

    fn claim(&mut self, piece: Piece, me: &MemberId) -> Whose {
        if self.is_done(piece) {
            return Whose::Done;
        }
        let claimed = self.claims.entry(piece).or_insert_with(|| me.clone());
        if claimed == me { Whose::Mine } else { Whose::Theirs }
    }

    /// Claims what members claimed that live no more.
    fn take_over(&mut self, me: &MemberId, alive: &[MemberId]) -> Vec<Piece> {
        let dead = |claim: &(&Piece, &mut MemberId)| !alive.contains(&*claim.1);
        let taken = self.claims.iter_mut().filter(dead).map(|(&piece, member)| {
            *member = me.clone();
            piece
        });
        taken.collect()
    }

    fn is_done(&self, piece: Piece) -> bool {
        self.done.iter().any(|&(first, last)| (first..=last).contains(&piece))
    }

    fn strike_off(&mut self, piece: Piece) {
        self.claims.remove(&piece);
        if self.is_done(piece) {
            return;
        }
        let at = self.done.partition_point(|&(first, _)| first < piece);
        self.done.insert(at, (piece, piece));
        self.done.dedup_by(|next, range| {
            let adjoins = next.0 == range.1 + 1;
            if adjoins {
                range.1 = next.1;
            }
            adjoins
        });
    }
}

impl Board {
    /// Takes part in doing these jobs.
    pub(crate) fn join(coordinator: &Coordinator, jobs: &[Job<'_>]) -> Result<Self, BoardError> {
        let value = coordinator.value("orchestrator/board")?;
        let alive = coordinator.members()?;
        value.update(|bytes| {
            let mut written = match Written::read(bytes) {
                Ok(written) => written,
                Err(error) => return (None, Err(BoardError::Damaged(error))),
            };
            match written.join(coordinator.member(), &alive, jobs.len()) {
                Ok(()) => (written.write(), Ok(())),
                Err(theirs) => (None, Err(BoardError::OtherJobs { ours: jobs.len(), theirs })),
            }
        })??;
        let deps: Vec<&[JobIndex]> = jobs.iter().map(|job| job.deps.as_slice()).collect();
        let (piece_of, pieces) = pieces(&deps);
        let known = |jobs: Vec<JobIndex>| Known {
            unfinished: jobs.len(),
            jobs,
            whose: Whose::Unknown,
            aside: Vec::new(),
        };
        let pieces = Mutex::new(pieces.into_iter().map(known).collect());
        Ok(Self { coordinator: coordinator.clone(), value, piece_of, pieces })
    }

    /// Tells whether a job that is ready is this process's to do, and claims its piece if nobody did.
    pub(crate) fn share(&self, job: JobIndex) -> Result<Share, CoordinationError> {
        let piece = self.piece_of[job];
        let whose = self.pieces.lock()[piece as usize].whose;
        let whose = if whose == Whose::Unknown { self.claim(piece)? } else { whose };
        let mut pieces = self.pieces.lock();
        let known = &mut pieces[piece as usize];
        if known.whose == Whose::Unknown {
            known.whose = whose;
        }
        match known.whose {
            Whose::Mine | Whose::TakenOver => Ok(Share::Ours),
            Whose::Theirs | Whose::Unknown => {
                known.aside.push(job);
                Ok(Share::Others)
            }
            Whose::Done => Ok(Share::Others),
        }
    }

    fn claim(&self, piece: Piece) -> Result<Whose, CoordinationError> {
        self.update(|written| written.claim(piece, self.coordinator.member()))
    }

    /// A board that was damaged since is nobody's to guess at: nothing is claimed any more.
    fn update<R>(&self, change: impl Fn(&mut Written) -> R) -> Result<R, CoordinationError> {
        self.value.update(|bytes| {
            let mut written = Written::read(bytes).unwrap_or_default();
            let result = change(&mut written);
            (written.write(), result)
        })
    }

    /// Ends a job, and strikes its piece off if it was the last.
    pub(crate) fn finish(&self, job: JobIndex) -> Result<(), CoordinationError> {
        let piece = self.piece_of[job];
        let is_last = {
            let mut pieces = self.pieces.lock();
            let known = &mut pieces[piece as usize];
            known.unfinished -= 1;
            known.unfinished == 0
        };
        if is_last { self.update(|written| written.strike_off(piece)) } else { Ok(()) }
    }

    /// Looks what the others did since, and takes over what the dead left; tells the pool.
    pub(crate) fn look(&self, pool: &Pool) -> Result<(), CoordinationError> {
        let alive = self.coordinator.members()?;
        let me = self.coordinator.member();
        let (done, taken) = self.update(|written| {
            let taken = written.take_over(me, &alive);
            (written.done.clone(), taken)
        })?;
        let taken: BTreeSet<Piece> = taken.into_iter().collect();
        let done = |piece| done.iter().any(|&(first, last)| (first..=last).contains(&piece));
        let mut pieces = self.pieces.lock();
        for (piece, known) in (0..).zip(pieces.iter_mut()) {
            if taken.contains(&piece) {
                known.whose = Whose::TakenOver;
                known.aside.drain(..).for_each(|job| pool.put_back(job));
            } else if known.unfinished > 0 && !known.is_ours() && done(piece) {
                known.whose = Whose::Done;
                known.unfinished = 0;
                pool.finish_elsewhere(&known.jobs);
            }
        }
        Ok(())
    }

    pub(crate) fn part(&self) -> Part {
        let mut part = Part::default();
        for known in self.pieces.lock().iter() {
            let done = known.jobs.len() - known.unfinished;
            match known.whose {
                Whose::Mine => part.done += done,
                Whose::TakenOver => {
                    part.done += done;
                    part.taken_over += done;
                }
                Whose::Done => part.by_others += done,
                Whose::Unknown | Whose::Theirs => {}
            }
        }
        part
    }
}

impl Known {
    fn is_ours(&self) -> bool {
        matches!(self.whose, Whose::Mine | Whose::TakenOver)
    }
}

/// Which piece each job belongs to, and the jobs of each piece.
fn pieces(deps: &[&[JobIndex]]) -> (Vec<Piece>, Vec<Vec<JobIndex>>) {
    let mut leader: Vec<JobIndex> = (0..deps.len()).collect();
    fn find(leader: &mut [JobIndex], job: JobIndex) -> JobIndex {
        let mut at = job;
        while leader[at] != at {
            leader[at] = leader[leader[at]];
            at = leader[at];
        }
        at
    }
    for (job, deps) in deps.iter().enumerate() {
        for &dep in *deps {
            let (a, b) = (find(&mut leader, job), find(&mut leader, dep));
            leader[a.max(b)] = a.min(b);
        }
    }
    let mut numbers: BTreeMap<JobIndex, Piece> = BTreeMap::new();
    let mut pieces: Vec<Vec<JobIndex>> = Vec::new();
    let piece_of = (0..deps.len()).map(|job| {
        let piece = *numbers.entry(find(&mut leader, job)).or_insert_with(|| {
            pieces.push(Vec::new());
            pieces.len() as Piece - 1
        });
        pieces[piece as usize].push(job);
        piece
    });
    let piece_of = piece_of.collect();
    (piece_of, pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> MemberId {
        MemberId::new(name, "host", 1, 1)
    }

    #[test]
    fn jobs_that_depend_on_each_other_by_whatever_way_are_one_piece() {
        let (of, pieces) = pieces(&[&[], &[], &[0], &[1, 2], &[], &[4]]);
        assert_eq!(of, [0, 0, 0, 0, 1, 1]);
        assert_eq!(pieces, [vec![0, 1, 2, 3], vec![4, 5]]);
    }

    #[test]
    fn a_piece_is_claimed_once_and_again_only_when_its_member_is_dead() {
        let (a, b) = (member("a"), member("b"));
        let mut board = Written::default();
        assert_eq!(board.claim(3, &a), Whose::Mine);
        assert_eq!(board.claim(3, &b), Whose::Theirs);
        assert!(board.take_over(&b, &[a.clone(), b.clone()]).is_empty());
        assert_eq!(board.take_over(&b, std::slice::from_ref(&b)), [3]);
        assert_eq!((board.claim(3, &b), board.claim(3, &a)), (Whose::Mine, Whose::Theirs));
    }

    #[test]
    fn what_is_struck_off_is_done_for_all_and_kept_as_ranges() {
        let a = member("a");
        let mut board = Written::default();
        for piece in [1, 3, 2, 5, 4, 0, 7] {
            board.claim(piece, &a);
            board.strike_off(piece);
        }
        assert_eq!((&board.done, board.claims.len()), (&vec![(0, 5), (7, 7)], 0));
        assert_eq!(board.claim(4, &a), Whose::Done);
        assert_eq!(board.claim(6, &a), Whose::Mine);
    }

    #[test]
    fn a_run_begins_anew_when_nobody_of_the_last_is_left_and_is_joined_otherwise() {
        let (a, b) = (member("a"), member("b"));
        let mut board = Written::default();
        board.join(&a, std::slice::from_ref(&a), 10).unwrap();
        board.strike_off(0);
        board.join(&b, &[a.clone(), b.clone()], 10).unwrap();
        assert!(board.is_done(0));
        assert_eq!(board.join(&b, &[a, b.clone()], 11), Err(10));
        board.parties.pop();
        board.join(&member("c"), &[member("c")], 11).unwrap();
        assert_eq!((board.is_done(0), board.jobs), (false, 11));
    }
}
