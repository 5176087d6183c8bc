//! An independent judge of what was recorded.
//!
//! Knows nothing of the lock manager: it has its own tables, filled from the events alone, and its own idea of what
//! conflicts. Judged are exclusion, the order of levels, that all is done below the root, and that nothing is left.

use std::collections::HashMap;
use std::fmt;

use crate::names::Name;
use crate::record::{Access, Event, Kind, Span};

/// The level of the lock that comes before all others and goes after them.
const ROOT: usize = 0;

/// How many levels there are.
const LEVELS: usize = 7;

/// Enough to understand what went wrong.
const VIOLATIONS_KEPT: usize = 20;

#[derive(Default)]
pub(crate) struct Checker {
    levels: [LevelTable; LEVELS],
    jobs: HashMap<u32, JobTable>,
    /// The job and level of the event before, if that gave back ALL: names granted next are a part of it.
    narrowing: Option<(u32, usize, Access)>,
    verdict: Verdict,
}

/// Who holds what of one level.
#[derive(Default)]
struct LevelTable {
    all_shared: usize,
    all_exclusive: usize,
    names_shared: usize,
    names_exclusive: usize,
    /// By [`Name::index`].
    names: Vec<Holders>,
}

#[derive(Clone, Copy, Default)]
struct Holders {
    shared: u32,
    exclusive: u32,
}

/// What a job holds of each level.
type JobTable = [JobLevel; LEVELS];

#[derive(Default)]
enum JobLevel {
    #[default]
    Nothing,
    All(Access),
    Names(HashMap<Name, Access>),
}

impl JobLevel {
    fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::All(_) => false,
            Self::Names(names) => names.is_empty(),
        }
    }
}

/// What the checker found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) requests: u64,
    pub(crate) holds: u64,
    /// Holds that nobody gave back.
    pub(crate) left: usize,
    violations: Vec<String>,
    violation_count: usize,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        self.violation_count == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, holds, left, violation_count, .. } = self;
        let (requests, holds) =
            (crate::summary::grouped(*requests), crate::summary::grouped(*holds));
        if self.is_clean() {
            return write!(
                f,
                "checker: {holds} holds of {requests} requests, no two in conflict, levels in order, {left} left"
            );
        }
        writeln!(
            f,
            "checker: {violation_count} VIOLATIONS in {holds} holds of {requests} requests"
        )?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

impl Checker {
    /// Judges one more event.
    pub(crate) fn observe(&mut self, event: &Event<'_>) {
        let narrowing = self.narrowing.take();
        match event.kind {
            Kind::Request | Kind::Opportunity => self.on_request(event),
            Kind::Grant => self.on_grant(event, narrowing),
            Kind::Release => self.on_release(event),
            Kind::Downgrade => self.on_downgrade(event),
            Kind::Timeout => {}
            Kind::Add => self.on_add(event),
            Kind::Remove => self.on_remove(event),
        }
    }

    /// Ends all that a job holds whose process was killed; tells whether it held anything.
    pub(crate) fn let_go(&mut self, job: u32) -> bool {
        let Some(held) = self.jobs.remove(&job) else { return false };
        let mut any = false;
        for (level, held) in held.into_iter().enumerate() {
            any |= !held.is_empty();
            match held {
                JobLevel::Nothing => {}
                JobLevel::All(access) => *self.levels[level].all(access) -= 1,
                JobLevel::Names(names) => {
                    for (name, access) in names {
                        self.levels[level].count(name, access, -1);
                    }
                }
            }
        }
        any
    }

    /// Judges what is left at the end.
    pub(crate) fn finish(mut self) -> Verdict {
        let level = |level: &LevelTable| {
            level.all_shared + level.all_exclusive + level.names_shared + level.names_exclusive
        };
        self.verdict.left = self.levels.iter().map(level).sum();
        let mut jobs: Vec<_> = self.jobs.keys().copied().collect();
        jobs.sort_unstable();
        for job in jobs {
            self.violation(format_args!("job {job} still holds locks at the end"));
        }
        self.verdict
    }

    fn on_request(&mut self, event: &Event<'_>) {
        self.verdict.requests += 1;
        self.check_order(event);
    }

    fn on_grant(&mut self, event: &Event<'_>, narrowing: Option<(u32, usize, Access)>) {
        match narrowing {
            Some((job, level, access)) if (job, level) == (event.job, event.level) => {
                if (access, event.access) == (Access::Shared, Access::Exclusive) {
                    self.violation(format_args!("{} gets stronger by narrowing", Shown(event)));
                }
            }
            _ => self.check_order(event),
        }
        match event.names {
            Span::All => self.hold_all(event),
            Span::Names(names) => names.iter().for_each(|&name| self.hold(event, name)),
        }
    }

    fn on_release(&mut self, event: &Event<'_>) {
        match event.names {
            Span::All => self.give_back_all(event),
            Span::Names(names) => {
                for &name in names {
                    if self.give_back(event, name).is_none() {
                        self.violation(format_args!("{} of what it does not hold", Shown(event)));
                    }
                }
            }
        }
        self.forget_if_done(event);
    }

    fn on_downgrade(&mut self, event: &Event<'_>) {
        let table = &mut self.levels[event.level];
        let held = job_level(&mut self.jobs, event);
        let done = match (event.names, held) {
            (Span::All, JobLevel::All(access)) if *access == Access::Exclusive => {
                *access = Access::Shared;
                table.all_exclusive -= 1;
                table.all_shared += 1;
                true
            }
            (Span::Names(names), JobLevel::Names(held)) => names.iter().all(|name| {
                let was = held.insert(*name, Access::Shared);
                table.count(*name, Access::Exclusive, -1);
                table.count(*name, Access::Shared, 1);
                was == Some(Access::Exclusive)
            }),
            _ => false,
        };
        if !done {
            self.violation(format_args!("{} of what it does not hold exclusively", Shown(event)));
        }
    }

    /// A name comes into being, unknown to all.
    fn on_add(&mut self, event: &Event<'_>) {
        self.check_unseen(event);
    }

    /// A name ends, and with it its own job's hold.
    fn on_remove(&mut self, event: &Event<'_>) {
        if let Span::Names(names) = event.names {
            for &name in names {
                self.give_back(event, name);
            }
        }
        self.check_unseen(event);
        self.forget_if_done(event);
    }

    /// Nobody holds the name, and no other job all names there are.
    fn check_unseen(&mut self, event: &Event<'_>) {
        let table = &self.levels[event.level];
        let own = usize::from(matches!(self.held(event), JobLevel::All(_)));
        if table.all_shared + table.all_exclusive > own {
            self.violation(format_args!("{} while another holds ALL", Shown(event)));
        }
        let Span::Names(names) = event.names else { return };
        for &name in names {
            let holders = self.levels[event.level].holders(name);
            if holders.shared + holders.exclusive > 0 {
                self.violation(format_args!("{} while the name is held", Shown(event)));
            }
        }
    }

    /// Nothing deeper is held, nothing of the same level, and the root is.
    fn check_order(&mut self, event: &Event<'_>) {
        let held = self.jobs.get(&event.job);
        let deepest = held.and_then(|held| held.iter().rposition(|level| !level.is_empty()));
        let has_root = held.is_some_and(|held| !held[ROOT].is_empty());
        if let Some(deepest) = deepest
            && deepest >= event.level
        {
            self.violation(format_args!("{} while it holds level {deepest}", Shown(event)));
        }
        if event.level != ROOT && !has_root {
            self.violation(format_args!("{} without the root", Shown(event)));
        }
    }

    fn hold(&mut self, event: &Event<'_>, name: Name) {
        let table = &mut self.levels[event.level];
        let holders = table.holders(name);
        let conflict = match event.access {
            Access::Shared => holders.exclusive > 0 || table.all_exclusive > 0,
            Access::Exclusive => {
                holders.exclusive + holders.shared > 0 || table.all_exclusive + table.all_shared > 0
            }
        };
        table.count(name, event.access, 1);
        let held = job_level(&mut self.jobs, event);
        if !matches!(held, JobLevel::Names(_)) {
            *held = JobLevel::Names(HashMap::new());
        }
        if let JobLevel::Names(names) = held {
            names.insert(name, event.access);
        }
        self.verdict.holds += 1;
        if conflict {
            self.violation(format_args!("{} of what another holds", Shown(event)));
        }
    }

    fn hold_all(&mut self, event: &Event<'_>) {
        let table = &mut self.levels[event.level];
        let exclusive = table.all_exclusive + table.names_exclusive;
        let shared = table.all_shared + table.names_shared;
        let conflict = match event.access {
            Access::Shared => exclusive > 0,
            Access::Exclusive => exclusive + shared > 0,
        };
        *table.all(event.access) += 1;
        *job_level(&mut self.jobs, event) = JobLevel::All(event.access);
        self.verdict.holds += 1;
        if conflict {
            self.violation(format_args!("{} while another holds a part", Shown(event)));
        }
    }

    /// Takes `name` from what the job holds; tells in which way it held it.
    fn give_back(&mut self, event: &Event<'_>, name: Name) -> Option<Access> {
        let JobLevel::Names(held) = self.jobs.get_mut(&event.job)?.get_mut(event.level)? else {
            return None;
        };
        let access = held.remove(&name)?;
        self.levels[event.level].count(name, access, -1);
        Some(access)
    }

    fn give_back_all(&mut self, event: &Event<'_>) {
        let held = job_level(&mut self.jobs, event);
        if let JobLevel::All(access) = *held {
            *held = JobLevel::Nothing;
            *self.levels[event.level].all(access) -= 1;
            self.narrowing = Some((event.job, event.level, access));
        } else {
            self.violation(format_args!("{} of ALL, which it does not hold", Shown(event)));
        }
    }

    /// Forgets a job that holds nothing; one that gave back the root must hold nothing.
    fn forget_if_done(&mut self, event: &Event<'_>) {
        if event.level != ROOT {
            return;
        }
        let done = self.jobs.get(&event.job).is_none_or(|held| held.iter().all(JobLevel::is_empty));
        if done {
            self.jobs.remove(&event.job);
        } else {
            self.violation(format_args!("{} of the root before the rest", Shown(event)));
        }
    }

    fn held(&self, event: &Event<'_>) -> &JobLevel {
        self.jobs.get(&event.job).map_or(&JobLevel::Nothing, |levels| &levels[event.level])
    }

    fn violation(&mut self, text: fmt::Arguments<'_>) {
        self.verdict.violation_count += 1;
        if self.verdict.violations.len() < VIOLATIONS_KEPT {
            self.verdict.violations.push(text.to_string());
        }
    }
}

fn job_level<'a>(jobs: &'a mut HashMap<u32, JobTable>, event: &Event<'_>) -> &'a mut JobLevel {
    &mut jobs.entry(event.job).or_default()[event.level]
}

impl LevelTable {
    fn all(&mut self, access: Access) -> &mut usize {
        match access {
            Access::Shared => &mut self.all_shared,
            Access::Exclusive => &mut self.all_exclusive,
        }
    }

    fn holders(&self, name: Name) -> Holders {
        self.names.get(name.index()).copied().unwrap_or_default()
    }

    /// Counts one hold more or less of `name`.
    fn count(&mut self, name: Name, access: Access, step: i32) {
        if self.names.len() <= name.index() {
            self.names.resize(name.index() + 1, Holders::default());
        }
        let holders = &mut self.names[name.index()];
        let (one, sum) = match access {
            Access::Shared => (&mut holders.shared, &mut self.names_shared),
            Access::Exclusive => (&mut holders.exclusive, &mut self.names_exclusive),
        };
        *one = one.saturating_add_signed(step);
        *sum = sum.saturating_add_signed(step as isize);
    }
}

/// An event as a violation tells it.
struct Shown<'a>(&'a Event<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { job, kind, level, names, access, .. } = self.0;
        write!(f, "job {job}: {kind:?} at level {level}, {access:?}, ")?;
        match names {
            Span::All => write!(f, "ALL"),
            Span::Names([name]) => write!(f, "name {}", name.index()),
            Span::Names(names) => write!(f, "{} names", names.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{Exclusive, Shared};
    use Kind::{Add, Downgrade, Grant, Release, Remove, Request};

    const A: &[Name] = &[Name::numbered(1)];
    const B: &[Name] = &[Name::numbered(2)];
    const AB: &[Name] = &[Name::numbered(1), Name::numbered(2)];

    type Line = (u32, Kind, usize, Option<&'static [Name]>, Access);

    /// Plays `lines` by jobs that hold the root, and gives what was found against them.
    fn play(lines: &[Line]) -> Vec<String> {
        let mut checker = Checker::default();
        let root: &[Line] = &[(1, Grant, ROOT, Some(A), Shared), (2, Grant, ROOT, Some(A), Shared)];
        for &(job, kind, level, names, access) in root.iter().chain(lines) {
            let names = names.map_or(Span::All, Span::Names);
            checker.observe(&Event { job, kind, level, names, access, priority: 0 });
        }
        checker.verdict.violations
    }

    fn assert_found(lines: &[Line], violation: &str) {
        let found = play(lines);
        assert!(found.iter().any(|found| found.contains(violation)), "{violation}: {found:?}");
    }

    #[test]
    fn holds_that_go_together_are_no_violation() {
        let lines = [
            (1, Request, 1, Some(AB), Shared),
            (1, Grant, 1, Some(AB), Shared),
            (2, Grant, 1, None, Shared),
            (1, Grant, 2, Some(A), Exclusive),
            (2, Grant, 2, Some(B), Exclusive),
            (1, Downgrade, 2, Some(A), Shared),
            (1, Release, 2, Some(A), Shared),
            (2, Remove, 2, Some(B), Exclusive),
            (2, Release, 1, None, Shared),
            (1, Release, 1, Some(AB), Shared),
            (1, Release, 0, Some(A), Shared),
            (2, Release, 0, Some(A), Shared),
        ];
        assert_eq!(play(&lines), Vec::<String>::new());
    }

    #[test]
    fn overlapping_holds_are_found() {
        let (name, other, all) = (Some(A), "of what another holds", "while another holds a part");
        for (first, second) in [(Exclusive, Exclusive), (Exclusive, Shared), (Shared, Exclusive)] {
            assert_found(&[(1, Grant, 1, Some(AB), first), (2, Grant, 1, name, second)], other);
            assert_found(&[(1, Grant, 1, None, first), (2, Grant, 1, name, second)], other);
            assert_found(&[(1, Grant, 1, name, first), (2, Grant, 1, None, second)], all);
            assert_found(&[(1, Grant, 1, None, first), (2, Grant, 1, None, second)], all);
        }
    }

    #[test]
    fn a_lock_given_back_is_free() {
        let lines = [
            (1, Grant, 1, None, Exclusive),
            (1, Release, 1, None, Exclusive),
            (1, Grant, 1, Some(A), Exclusive),
            (2, Grant, 1, Some(B), Exclusive),
            (1, Downgrade, 1, Some(A), Shared),
        ];
        assert_eq!(play(&lines), Vec::<String>::new());
    }

    #[test]
    fn narrowing_may_happen_above_a_deeper_level() {
        let lines = [
            (1, Grant, 1, None, Shared),
            (1, Grant, 2, None, Shared),
            (1, Release, 1, None, Shared),
            (1, Grant, 1, Some(A), Shared),
        ];
        assert_eq!(play(&lines), Vec::<String>::new());
        let mut stronger = lines;
        stronger[3].4 = Exclusive;
        assert_found(&stronger, "gets stronger");
    }

    #[test]
    fn levels_out_of_order_are_found() {
        let deeper = (1, Grant, 2, Some(A), Shared);
        assert_found(&[deeper, (1, Request, 1, Some(A), Shared)], "while it holds level 2");
        assert_found(&[deeper, (1, Grant, 1, Some(A), Shared)], "while it holds level 2");
        assert_found(&[deeper, (1, Grant, 2, Some(B), Shared)], "while it holds level 2");
        assert_found(&[(3, Request, 1, Some(A), Shared)], "without the root");
        assert_found(&[deeper, (1, Release, 0, Some(A), Shared)], "before the rest");
    }

    #[test]
    fn what_is_not_held_is_not_given_back() {
        assert_found(&[(1, Release, 1, Some(A), Shared)], "does not hold");
        assert_found(&[(1, Release, 1, None, Shared)], "does not hold");
        assert_found(
            &[(1, Grant, 1, Some(A), Shared), (1, Downgrade, 1, Some(A), Shared)],
            "does not hold exclusively",
        );
    }

    #[test]
    fn names_come_and_go_only_unseen() {
        assert_found(&[(2, Grant, 1, None, Shared), (1, Add, 1, Some(A), Exclusive)], "holds ALL");
        assert_found(
            &[(2, Grant, 1, None, Shared), (1, Remove, 1, Some(A), Exclusive)],
            "holds ALL",
        );
        assert_found(
            &[(2, Grant, 1, Some(A), Shared), (1, Remove, 1, Some(A), Exclusive)],
            "while the name is held",
        );
    }

    #[test]
    fn leftovers_are_found() {
        let mut checker = Checker::default();
        let names = Span::Names(A);
        let event = Event { job: 1, kind: Grant, level: 0, names, access: Shared, priority: 0 };
        checker.observe(&event);
        let verdict = checker.finish();
        assert_eq!(verdict.left, 1);
        assert!(verdict.to_string().contains("job 1 still holds locks"), "{verdict}");
    }
}
