//! The rules of a lock, as obviously and as slowly as they can be written.

use super::{Answer, Effect, Outcome, Step, Who};
use crate::core::mode::Mode;
use crate::core::queue::Priority;

pub(super) type Pending = crate::core::queue::tests::Pending<Who>;

/// Gray's table, as the paper prints it.
const TABLE: [[bool; 5]; 5] = [
    [true, true, true, true, false],
    [true, true, false, false, false],
    [true, false, true, false, false],
    [true, false, false, false, false],
    [false, false, false, false, false],
];

fn compatible(a: Mode, b: Mode) -> bool {
    TABLE[a as usize][b as usize]
}

/// Who holds the lock, and who waits for it.
#[derive(Clone, Debug)]
pub(super) struct Naive {
    holders: Vec<(Who, Mode)>,
    /// In queue order.
    pending: Vec<Pending>,
    arrivals: u64,
    deleted: bool,
    /// Those who waited, were told, and have done nothing since.
    told: Vec<Who>,
}

impl Naive {
    pub(super) fn new() -> Self {
        let (holders, pending, told) = (Vec::new(), Vec::new(), Vec::new());
        Self { holders, pending, arrivals: 0, deleted: false, told }
    }

    pub(super) fn holders(&self) -> &[(Who, Mode)] {
        &self.holders
    }

    pub(super) fn pending(&self) -> &[Pending] {
        &self.pending
    }

    pub(super) fn told(&self) -> &[Who] {
        &self.told
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(super) fn mode_of(&self, who: Who) -> Option<Mode> {
        self.holders.iter().find(|holder| holder.0 == who).map(|holder| holder.1)
    }

    pub(super) fn count(&self, mode: Mode) -> u64 {
        self.holders.iter().filter(|holder| holder.1 == mode).count() as u64
    }

    pub(super) fn waits(&self, who: Who) -> bool {
        self.pending.iter().any(|request| request.waiter == who)
    }

    /// Requests that go before this one.
    pub(super) fn position(&self, who: Who) -> Option<usize> {
        let kind = |p: &Pending| (p.from.is_some(), p.priority, p.place);
        let own = self.pending.iter().find(|p| p.waiter == who).map(kind)?;
        self.pending.iter().position(|p| kind(p) == own)
    }

    /// Whether an owner that is not mistaken takes such a step.
    pub(super) fn permits(&self, step: Step) -> bool {
        let who = step.who();
        // Whoever waits does nothing else with this lock, not even if it is to convert a hold.
        let held = self.mode_of(who).filter(|_| !self.waits(who));
        match step {
            Step::Request { .. } | Step::Try { .. } => {
                self.mode_of(who).is_none() && !self.waits(who)
            }
            Step::Release { .. } => held.is_some(),
            Step::Cancel { .. } | Step::SetPriority { .. } => {
                self.waits(who) || self.told.contains(&who)
            }
            Step::Downgrade { to, .. } => held.is_some_and(|from| from != to && from.covers(to)),
            Step::Upgrade { to, .. } | Step::TryUpgrade { to, .. } => {
                held.is_some_and(|from| from != to && to.covers(from))
            }
            Step::Delete { .. } => held == Some(Mode::Exclusive),
        }
    }

    pub(super) fn take(&mut self, step: Step) -> Effect {
        let who = step.who();
        if !matches!(step, Step::Cancel { .. } | Step::SetPriority { .. }) {
            self.told.retain(|told| *told != who);
        }
        let mut told = Vec::new();
        let answer = match step {
            Step::Request { mode, priority, .. } => self.request(who, mode, priority),
            Step::Try { mode, priority, .. } => self.try_take(who, mode, priority),
            Step::Release { .. } => self.release(who),
            Step::Cancel { .. } => self.cancel(who),
            Step::Downgrade { to, .. } => self.downgrade(who, to, &mut told),
            Step::Upgrade { to, priority, .. } => self.upgrade(who, to, priority),
            Step::TryUpgrade { to, .. } => self.try_upgrade(who, to),
            Step::Delete { .. } => self.delete(&mut told),
            Step::SetPriority { priority, .. } => self.set_priority(who, priority),
        };
        while let Some(group) = self.next() {
            self.grant(&group, &mut told);
        }
        self.told.extend(told.iter().map(|told| told.0));
        Effect { answer, told }
    }

    /// Who waits although the rules let it go.
    pub(super) fn left_behind(&self) -> Option<Who> {
        self.next().map(|group| group[0].waiter)
    }

    /// A holder that does not wait for a stronger mode.
    pub(super) fn somebody_who_can_leave(&self) -> Option<Who> {
        self.holders.iter().map(|holder| holder.0).find(|who| !self.waits(*who))
    }

    /// Whoever waits gets its turn once those before it have had theirs.
    pub(super) fn assert_nobody_waits_in_a_circle(&self) {
        let mut future = self.clone();
        while let Some(who) = future.somebody_who_can_leave() {
            future.take(Step::Release { who });
        }
        assert!(future.pending.is_empty(), "{:#?} wait for ever", future.pending);
    }

    fn request(&mut self, who: Who, mode: Mode, priority: Priority) -> Answer {
        let tried = self.try_take(who, mode, priority);
        if tried != Answer::Blocked {
            return tried;
        }
        let arrival = self.arrive();
        self.line_up(Pending { waiter: who, from: None, mode, priority, place: arrival, arrival });
        Answer::Waits
    }

    fn try_take(&mut self, who: Who, mode: Mode, priority: Priority) -> Answer {
        // Who converts comes before everybody, however urgent.
        let passes_all = self.pending.iter().all(|p| p.from.is_none() && priority < p.priority);
        if self.deleted {
            Answer::Deleted
        } else if passes_all && self.admits(who, mode) {
            self.holders.push((who, mode));
            Answer::Granted
        } else {
            Answer::Blocked
        }
    }

    fn release(&mut self, who: Who) -> Answer {
        self.holders.retain(|holder| holder.0 != who);
        Answer::Done
    }

    fn cancel(&mut self, who: Who) -> Answer {
        if self.waits(who) {
            self.pending.retain(|request| request.waiter != who);
            Answer::Withdrawn
        } else if self.deleted {
            Answer::Deleted
        } else {
            Answer::Granted
        }
    }

    fn downgrade(&mut self, who: Who, to: Mode, told: &mut Vec<(Who, Outcome)>) -> Answer {
        let from = self.mode_of(who);
        self.hold(who, to);
        if (from, to) == (Some(Mode::Exclusive), Mode::Shared) {
            let front = self.pending.first().map(|first| first.priority);
            let shared = |p: &&Pending| p.mode == Mode::Shared && Some(p.priority) == front;
            let group: Vec<_> = self.pending.iter().filter(shared).copied().collect();
            self.grant(&group, told);
        }
        Answer::Done
    }

    fn upgrade(&mut self, who: Who, to: Mode, priority: Priority) -> Answer {
        if self.try_upgrade(who, to) == Answer::Granted {
            return Answer::Granted;
        }
        let from = self.mode_of(who).expect("it holds the lock");
        let conversions = self.pending.iter().filter_map(|p| Some((p.from?, p.mode)));
        if conversions.clone().any(|other| stand_in_each_others_way((from, to), other)) {
            return Answer::WouldDeadlock;
        }
        let arrival = self.arrive();
        let from = Some(from);
        self.line_up(Pending { waiter: who, from, mode: to, priority, place: arrival, arrival });
        Answer::Waits
    }

    fn try_upgrade(&mut self, who: Who, to: Mode) -> Answer {
        if !self.admits(who, to) {
            return Answer::Blocked;
        }
        self.hold(who, to);
        Answer::Granted
    }

    fn delete(&mut self, told: &mut Vec<(Who, Outcome)>) -> Answer {
        self.deleted = true;
        self.holders.clear();
        told.extend(self.pending.drain(..).map(|request| (request.waiter, Outcome::Deleted)));
        Answer::Done
    }

    fn set_priority(&mut self, who: Who, priority: Priority) -> Answer {
        let Some(at) = self.pending.iter().position(|request| request.waiter == who) else {
            return Answer::TooLate;
        };
        if self.pending[at].priority != priority {
            let request = self.pending.remove(at);
            self.line_up(Pending { priority, place: request.arrival, ..request });
        }
        Answer::Done
    }

    fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Nobody but `who` itself holds the lock in a mode that excludes this one.
    fn admits(&self, who: Who, mode: Mode) -> bool {
        self.holders.iter().all(|holder| holder.0 == who || compatible(holder.1, mode))
    }

    fn hold(&mut self, who: Who, mode: Mode) {
        self.release(who);
        self.holders.push((who, mode));
    }

    /// Conversions first, then by priority, then by arrival. Who is not alone in its mode and priority shares the earliest place.
    fn line_up(&mut self, mut new: Pending) {
        let of_a_kind = |p: &&mut Pending| {
            p.from.is_none()
                && new.from.is_none()
                && (p.mode, p.priority) == (new.mode, new.priority)
        };
        if compatible(new.mode, new.mode) {
            let mut group: Vec<_> = self.pending.iter_mut().filter(of_a_kind).collect();
            let earliest = group.iter().map(|p| p.place).min().unwrap_or(new.place);
            new.place = new.place.min(earliest);
            group.iter_mut().for_each(|p| p.place = new.place);
        }
        self.pending.push(new);
        self.pending.sort_by_key(|p| (p.from.is_none(), p.priority, p.place, p.arrival));
    }

    /// Those who may go now: any conversion; else, when none is pending, the front group as a whole.
    fn next(&self) -> Option<Vec<Pending>> {
        let front = self.pending.first()?;
        let can_go = |p: &&Pending| self.admits(p.waiter, p.mode);
        if front.from.is_some() {
            let conversion = self.pending.iter().filter(|p| p.from.is_some()).find(can_go)?;
            return Some(vec![*conversion]);
        }
        can_go(&front).then(|| {
            let kind = |p: &Pending| (p.priority, p.place);
            self.pending.iter().filter(|p| kind(p) == kind(front)).copied().collect()
        })
    }

    fn grant(&mut self, group: &[Pending], told: &mut Vec<(Who, Outcome)>) {
        for request in group {
            self.pending.retain(|p| p.waiter != request.waiter);
            self.hold(request.waiter, request.mode);
            told.push((request.waiter, Outcome::Granted));
        }
    }
}

fn stand_in_each_others_way(a: (Mode, Mode), b: (Mode, Mode)) -> bool {
    !compatible(a.1, b.0) && !compatible(b.1, a.0)
}

/// What is pending, with its times of arrival counted from 0: which of them came first is all that matters.
pub(super) fn ranked(pending: &[Pending]) -> Vec<Pending> {
    let mut times: Vec<_> = pending.iter().flat_map(|p| [p.place, p.arrival]).collect();
    times.sort_unstable();
    times.dedup();
    let rank = |time| times.partition_point(|t| *t < time) as u64;
    let ranked = |p: &Pending| Pending { place: rank(p.place), arrival: rank(p.arrival), ..*p };
    pending.iter().map(ranked).collect()
}
