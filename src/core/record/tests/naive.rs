//! What becomes of a record, as obviously and as slowly as it can be written.

use super::{Deadlock, Mode, Moment, Priority, Record, Step, TOKENS_PER_GRANT, Who, who};
use crate::core::queue::tests::Pending as Placed;

/// Who asked, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker {
    pub(super) who: Who,
    pub(super) lifetime_ms: u64,
}

pub(super) type Pending = Placed<Asker>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) who: Who,
    pub(super) mode: Mode,
    token: u64,
    since: u64,
    pub(super) until: Option<u64>,
    previous: Option<End>,
}

/// An exclusive hold that ended without a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    who: Who,
    token: u64,
    since: u64,
    at: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Naive {
    pub(super) now: u64,
    /// In the order of their grants.
    pub(super) holders: Vec<Holder>,
    /// In queue order.
    pub(super) pending: Vec<Pending>,
    arrivals: u64,
    next_token: u64,
    abandoned: Option<End>,
}

impl Default for Naive {
    fn default() -> Self {
        let (holders, pending) = (Vec::new(), Vec::new());
        Self { now: 0, holders, pending, arrivals: 0, next_token: 1, abandoned: None }
    }
}

impl Naive {
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.is_some()
    }

    pub(super) fn mode_of(&self, who: Who) -> Option<Mode> {
        self.holders.iter().find(|holder| holder.who == who).map(|holder| holder.mode)
    }

    pub(super) fn waits(&self, who: Who) -> Option<Pending> {
        self.pending.iter().find(|pending| pending.waiter.who == who).copied()
    }

    pub(super) fn first_end(&self) -> Option<u64> {
        self.holders.iter().filter_map(|holder| holder.until).min()
    }

    /// When a step happens.
    pub(super) fn at(&self, step: Step) -> Moment {
        let passed = (step == Step::Expire).then(|| self.first_end()).flatten();
        Moment(passed.unwrap_or(self.now))
    }

    pub(super) fn take(&mut self, step: Step) -> Result<(), Deadlock> {
        self.now = self.at(step).0;
        match step {
            Step::Ask { who, mode, priority, lifetime_ms } => {
                self.ask(Asker { who, lifetime_ms }, mode, priority)?;
            }
            Step::Withdraw { who } => self.withdraw(who),
            Step::SetPriority { who, priority } => self.set_priority(who, priority),
            Step::Lower { who, to } => self.lower(who, to),
            Step::Bury { who } => {
                self.withdraw(who);
                self.end(|holder| holder.who == who);
            }
            Step::Dispossess { who } => self.end(|holder| holder.who == who),
            Step::Abandon { who } => {
                let at = self.now;
                if let Some(holder) = self.holders.iter().find(|holder| holder.who == who) {
                    let Holder { token, since, .. } = *holder;
                    self.abandoned = Some(End { who, token, since, at });
                }
            }
            Step::Renumber { who } => {
                if let Some(holder) = self.holders.iter_mut().find(|holder| holder.who == who) {
                    holder.token = self.next_token;
                    self.next_token += TOKENS_PER_GRANT;
                }
            }
            Step::SetEnd { who, in_ms } => {
                let until = Some(self.now + in_ms);
                let of_who = self.holders.iter_mut().filter(|holder| holder.who == who);
                of_who.for_each(|holder| holder.until = until);
            }
            Step::Expire => {
                let now = self.now;
                self.end(|holder| holder.until.is_some_and(|until| until <= now));
            }
        }
        while let Some(group) = self.next() {
            self.grant(&group);
        }
        Ok(())
    }

    fn ask(&mut self, asker: Asker, mode: Mode, priority: Priority) -> Result<(), Deadlock> {
        let held = self.mode_of(asker.who);
        let wanted = held.map_or(mode, |held| held.join(mode));
        if held == Some(wanted) {
            self.withdraw(asker.who);
            return Ok(());
        }
        if self.waits(asker.who).is_some_and(|pending| pending.mode == wanted) {
            let own = self.pending.iter_mut().filter(|pending| pending.waiter.who == asker.who);
            own.for_each(|pending| pending.waiter = asker);
            self.set_priority(asker.who, priority);
            return Ok(());
        }
        if held.is_some_and(|held| self.deadlocks(asker.who, held, wanted)) {
            return Err(Deadlock);
        }
        self.withdraw(asker.who);
        self.arrivals += 1;
        let (place, arrival) = (self.arrivals, self.arrivals);
        self.line_up(Pending { waiter: asker, from: held, mode: wanted, priority, place, arrival });
        Ok(())
    }

    /// Another member wants more, for which `who` would have to go, who wants what that one would have to go for.
    fn deadlocks(&self, who: Who, held: Mode, wanted: Mode) -> bool {
        let others = self.pending.iter().filter(|pending| pending.waiter.who != who);
        let mut conversions = others.filter_map(|pending| Some((pending.from?, pending.mode)));
        conversions.any(|(from, to)| !wanted.admits(from) && !to.admits(held))
    }

    fn withdraw(&mut self, who: Who) {
        self.pending.retain(|pending| pending.waiter.who != who);
    }

    fn set_priority(&mut self, who: Who, priority: Priority) {
        let Some(request) = self.waits(who) else { return };
        if request.priority != priority {
            self.withdraw(who);
            self.line_up(Pending { priority, place: request.arrival, ..request });
        }
    }

    fn lower(&mut self, who: Who, to: Option<Mode>) {
        let held = self.mode_of(who);
        if held.is_none() || held == to {
            return;
        }
        self.withdraw(who);
        match to {
            None => self.holders.retain(|holder| holder.who != who),
            Some(to) => {
                let of_who = self.holders.iter_mut().filter(|holder| holder.who == who);
                of_who.for_each(|holder| holder.mode = to);
            }
        }
        if (held, to) == (Some(Mode::Exclusive), Some(Mode::Shared)) {
            let front = self.pending.first().map(|first| first.priority);
            let shared = |p: &&Pending| p.mode == Mode::Shared && Some(p.priority) == front;
            let group: Vec<_> = self.pending.iter().filter(shared).copied().collect();
            self.grant(&group);
        }
    }

    fn end(&mut self, ends: impl Fn(&Holder) -> bool) {
        let ended: Vec<_> = self.holders.iter().filter(|holder| ends(holder)).copied().collect();
        for Holder { who, mode, token, since, .. } in ended {
            self.holders.retain(|holder| holder.who != who);
            self.withdraw(who);
            if mode == Mode::Exclusive {
                self.abandoned = Some(End { who, token, since, at: self.now });
            }
        }
    }

    fn admits(&self, who: Who, mode: Mode) -> bool {
        self.holders.iter().all(|holder| holder.who == who || holder.mode.admits(mode))
    }

    /// Conversions first, then by priority, then by arrival; who is not alone in its mode and priority shares the earliest place.
    fn line_up(&mut self, mut new: Pending) {
        let is_like = |p: &Pending| {
            (p.from, new.from) == (None, None) && (p.mode, p.priority) == (new.mode, new.priority)
        };
        if new.mode.admits(new.mode) {
            let group = self.pending.iter().filter(|p| is_like(p));
            let place = group.map(|p| p.place).fold(new.place, u64::min);
            self.pending.iter_mut().filter(|p| is_like(p)).for_each(|p| p.place = place);
            new.place = place;
        }
        self.pending.push(new);
        self.pending.sort_by_key(|p| (p.from.is_none(), p.priority, p.place, p.arrival));
    }

    /// Those who may go now: any conversion; else, when none is pending, the front group as a whole.
    fn next(&self) -> Option<Vec<Pending>> {
        let front = *self.pending.first()?;
        let can_go = |p: &&Pending| self.admits(p.waiter.who, p.mode);
        if front.from.is_some() {
            let conversion = self.pending.iter().filter(|p| p.from.is_some()).find(can_go)?;
            return Some(vec![*conversion]);
        }
        let kind = |p: &Pending| (p.priority, p.place);
        can_go(&&front)
            .then(|| self.pending.iter().filter(|p| kind(p) == kind(&front)).copied().collect())
    }

    fn grant(&mut self, group: &[Pending]) {
        for request in group {
            let Asker { who, lifetime_ms } = request.waiter;
            self.withdraw(who);
            self.holders.retain(|holder| holder.who != who);
            let until = (lifetime_ms > 0).then_some(self.now + lifetime_ms);
            let told = request.mode == Mode::Exclusive;
            let previous = if told { self.abandoned.take() } else { None };
            let (mode, token, since) = (request.mode, self.next_token, self.now);
            self.next_token += TOKENS_PER_GRANT;
            self.holders.push(Holder { who, mode, token, since, until, previous });
        }
    }

    /// Compares all there is, and what the record says when asked.
    pub(super) fn assert_is(&self, record: &Record) {
        let end = |end: &super::Abandonment| End {
            who: who(&end.party.member),
            token: end.token,
            since: end.since.0,
            at: end.at.0,
        };
        let holders = record.holders().iter().map(|holder| Holder {
            who: who(&holder.party.member),
            mode: holder.mode,
            token: holder.token,
            since: holder.since.0,
            until: holder.until.map(|until| until.0),
            previous: holder.previous.as_ref().map(end),
        });
        assert_eq!(holders.collect::<Vec<_>>(), self.holders);
        let pending = record.queue.anatomy().into_iter().map(|p| Pending {
            waiter: Asker {
                who: who(&p.waiter.member),
                lifetime_ms: p.waiter.lifetime_ms.unwrap_or(0),
            },
            from: p.from,
            mode: p.mode,
            priority: p.priority,
            place: p.place,
            arrival: p.arrival,
        });
        assert_eq!(pending.collect::<Vec<_>>(), self.pending);
        assert_eq!(record.queue.arrivals(), self.arrivals);
        assert_eq!(record.next_token, self.next_token);
        assert_eq!(record.abandoned().map(end), self.abandoned);
        assert_eq!(record.first_end().map(|end| end.0), self.first_end());
    }
}
