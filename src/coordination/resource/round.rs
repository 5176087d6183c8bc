//! The one next thing to do about a resource, until there is nothing to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::leftover::Ended;
use super::{FOR_EVER, Foresight, Recalled, Resource, User};
use crate::clock;
use crate::coordination::driver::{Reporter, Subject, Watch};
use crate::coordination::elsewhere::{Elsewhere, Head, Here};
use crate::core::member::MemberId;
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::core::record::{Holder, Moment, Party, Recall, Record};
use crate::error::CoordinationError;

/// What a member knows of a resource.
#[derive(Debug)]
pub(super) struct State {
    pub(super) elsewhere: Elsewhere,
    /// What the record says that the member holds, as it was read last.
    granted: Option<Grant>,
    pub(super) foresight: Option<Foresight>,
    pub(super) uncache: bool,
    /// When what is granted shall end, if that is still to be said.
    pub(super) end: Option<End>,
    /// Whether the member is in line in the record.
    waits: bool,
    /// Whether something was said to the engine, and nobody knows whether it heard.
    unsure: bool,
    /// Whether the member is known to be no more.
    is_lost: bool,
    /// How often in a row the record could not be read or written.
    failures: u32,
    watch: Option<Watch>,
    /// Whoever stands in the way, and has to be seen to die.
    watched: BTreeMap<MemberId, Watch>,
}

/// That the grant of this token shall end so many milliseconds from now.
#[derive(Debug)]
pub(super) struct End {
    pub(super) token: u64,
    pub(super) ms: u64,
    /// Told when the record says so.
    pub(super) done: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    mode: Mode,
    token: u64,
    since: Moment,
}

/// What a round at the record found.
struct View {
    /// Whether the member held the resource before.
    held: bool,
    /// Whether its hold ends now when it shall.
    ends: bool,
    holder: Option<Holder>,
    waits: bool,
    deadlock: bool,
    recall: Option<Recall>,
    others: Vec<MemberId>,
    first_end: Option<Moment>,
}

/// What the member wants of the record on behalf of its owners.
#[derive(PartialEq, Eq)]
struct Want {
    mode: Mode,
    priority: Priority,
    owner: Arc<str>,
    /// The mode in which the owner holds the resource already.
    from: Option<Mode>,
    waits: bool,
}

impl State {
    pub(super) fn new(elsewhere: Elsewhere) -> Self {
        Self {
            elsewhere,
            granted: None,
            foresight: None,
            uncache: false,
            end: None,
            waits: false,
            unsure: false,
            is_lost: false,
            failures: 0,
            watch: None,
            watched: BTreeMap::new(),
        }
    }

    /// The first fencing token of what is granted.
    fn granted_token(&self) -> Option<u64> {
        self.granted.map(|grant| grant.token)
    }

    /// Tells whether the record says what is held here.
    fn is_level(&self) -> bool {
        self.granted.is_none_or(|grant| Some(grant.mode) == self.elsewhere.leaves())
    }

    /// Tells whether the record has this member among its parties.
    pub(super) fn has_part(&self) -> bool {
        self.granted.is_some() || self.waits || self.unsure
    }

    /// Tells whether the record gives the member what this knows of.
    pub(super) fn knows(&self, holder: Option<&Holder>) -> bool {
        self.unsure || holder.map(|holder| holder.token) == self.granted_token()
    }
}

impl Resource {
    /// Does all there is to do. Where the record cannot be read or written, owners who wait for it are told why.
    pub(super) fn round(&self, state: &mut State) -> Result<(), CoordinationError> {
        let result = self.rounds(state);
        state.foresight = None;
        state.uncache = false;
        state.end = None;
        match &result {
            Ok(()) => self.recover(state),
            Err(error) => self.fail(state, error),
        }
        result
    }

    fn rounds(&self, state: &mut State) -> Result<(), CoordinationError> {
        self.entry.member.check()?;
        if self.is_succeeded() {
            return Ok(());
        }
        state.unsure |= self.takes_over.swap(false, Ordering::AcqRel);
        loop {
            self.collect(state);
            let want = self.want(state);
            if want.is_none() && !state.has_part() {
                state.watch = None;
                return Ok(());
            }
            self.watch(state)?;
            let mut view = self.consult(state, want.as_ref())?;
            let buried = self.bury(state, &view);
            // With one who is dead nobody is deadlocked.
            view.deadlock &= matches!(buried, Ok(false));
            if view.deadlock {
                // Whoever is refused finds what for.
                self.hear_recall(state, &view);
            }
            self.take_note(state, &view, want.as_ref());
            if buried? {
                // What the dead wanted is wanted no more.
                continue;
            }
            // After a grant that came along: who waited for it has it first.
            self.hear_recall(state, &view);
            let asked =
                view.waits || view.deadlock || want.as_ref().is_some_and(|want| !want.waits);
            if !self.give_way(state, &view, asked) {
                self.set_alarm(state, &view);
                // What came of it here may be that something else is wanted, or nothing any more.
                let wants = self.want(state);
                let is_said = if wants.is_none() { !view.waits } else { asked && wants == want };
                if is_said && state.is_level() {
                    return Ok(());
                }
            }
        }
    }

    /// Takes what those elsewhere were given by the lock meanwhile.
    fn collect(&self, state: &mut State) {
        state.elsewhere.collect();
        if self.lock.is_deleted() {
            state.elsewhere.drop_claim();
        }
    }

    /// What to ask for; on the way, what is not used here is given up if something has to be asked for.
    fn want(&self, state: &mut State) -> Option<Want> {
        let here = state.elsewhere.look();
        let want = self.wanted(state, &here);
        let gives_back = state.uncache || !(self.is_cached() || self.is_expected());
        if want.is_some() || (gives_back && here.head.is_none()) {
            // Whoever asks for more with more in hand than it uses would go before those who wait.
            state.elsewhere.raise(Mode::beside(here.held));
        }
        want
    }

    fn wanted(&self, state: &State, here: &Here) -> Option<Want> {
        let leaves = state.elsewhere.leaves();
        let covered = |mode: Mode| leaves.is_some_and(|leaves| leaves.covers(mode));
        if let Some(Head { mode, priority, ref owner, fits, from }) = here.head
            && fits
            && !covered(mode)
        {
            return Some(Want { mode, priority, owner: Arc::clone(owner), from, waits: true });
        }
        let Foresight { mode, from, priority, ref owner, waits } = *state.foresight.as_ref()?;
        let fits = here.head.is_none() && here.fits(mode, from);
        (fits && !covered(mode)).then(|| Want {
            mode,
            priority,
            owner: Arc::clone(owner),
            from,
            waits,
        })
    }

    /// Hears of changes of the record, as long as the member has part in it.
    fn watch(&self, state: &mut State) -> Result<(), CoordinationError> {
        if state.watch.is_none() {
            state.watch = Some(self.watch_subject(Subject::Record(self.entry.key.clone()))?);
        }
        Ok(())
    }

    fn watch_subject(&self, subject: Subject) -> Result<Watch, CoordinationError> {
        let me = self.me.clone();
        let reporter = Reporter::of_versions(move |_, version| {
            if let Some(resource) = me.upgrade()
                && version.is_none_or(|version| resource.echo.is_news(version))
            {
                resource.ring();
            }
        });
        let watch = self.entry.member.driver().watch(subject, reporter);
        watch.map_err(|error| self.entry.member.engine_error(self.entry.key.as_str(), error))
    }

    /// Brings the record in line with what is kept and wanted here, and looks at it.
    fn consult(&self, state: &State, want: Option<&Want>) -> Result<View, CoordinationError> {
        let (me, now) = (self.entry.member.id(), self.entry.member.now());
        let leaves = if self.lock.is_deleted() { None } else { state.elsewhere.leaves() };
        let gives_up = leaves != Some(Mode::Exclusive);
        let ended = if gives_up { self.ended(state) } else { None };
        if let Some(end) = state.end.as_ref().filter(|end| state.granted_token() == Some(end.token))
        {
            // If it is sooner, it counts from now on: others may know before this one hears the answer.
            self.until_ms.fetch_min(now.plus_ms(end.ms).0, Ordering::AcqRel);
        }
        let change = |record: &mut Record| {
            if let Some(ended) = &ended {
                ended.tell(record, me, now);
            }
            let held = record.holder(me).is_some();
            let end = state.end.as_ref();
            let ends = end.is_some_and(|end| record.set_end(me, end.token, now.plus_ms(end.ms)));
            if self.is_to_lower(record, state, leaves) {
                record.lower(me, leaves, now);
            }
            let deadlock = self.ask(record, want, now);
            Ok(View { held, ends, ..self.look(record, state, want, deadlock) })
        };
        let (view, is_outdated) = self.echo.while_looking(|| self.entry.update_to(change))?;
        if is_outdated {
            self.ring();
        }
        if ended.is_some() {
            // Whoever is next hears of it from the record.
            self.lock.take_abandoned();
        }
        Ok(view)
    }

    /// Who ended without releasing what the member holds exclusively, if nobody was told.
    pub(super) fn ended(&self, state: &State) -> Option<Ended> {
        state.granted.filter(|grant| grant.mode == Mode::Exclusive)?;
        let owner = self.lock.abandoned_by()?;
        Some(match self.previous(&owner) {
            Some(previous) => Ended::Before(previous),
            None => Ended::Here(self.party(&owner)),
        })
    }

    /// Tells whether the record has this member hold more than is left to its owners. What it waited for and was granted since is
    /// not too much.
    fn is_to_lower(&self, record: &Record, state: &State, leaves: Option<Mode>) -> bool {
        let Some(holder) = record.holder(self.entry.member.id()) else { return false };
        let known = state.granted_token() == Some(holder.token);
        (known || !state.waits)
            && leaves.is_none_or(|leaves| holder.mode != leaves && holder.mode.covers(leaves))
    }

    /// Asks for what is wanted, if anything; tells whether that would deadlock.
    fn ask(&self, record: &mut Record, want: Option<&Want>, now: Moment) -> bool {
        let me = self.entry.member.id();
        let Some(want) = want else {
            record.withdraw(me, now);
            return false;
        };
        let asked = record.ask(self.party(&want.owner), want.mode, want.priority, now);
        if !want.waits {
            record.withdraw(me, now);
        }
        asked.is_err()
    }

    fn party(&self, owner: &Arc<str>) -> Party {
        Party {
            member: self.entry.member.id().clone(),
            owner: Arc::clone(owner),
            lifetime_ms: self.lifetime_ms(),
        }
    }

    fn look(&self, record: &Record, state: &State, want: Option<&Want>, deadlock: bool) -> View {
        let me = self.entry.member.id();
        let holder = record.holder(me).cloned();
        let has = |mode| holder.as_ref().is_some_and(|holder| holder.mode.covers(mode));
        let blocked = want.is_some_and(|want| !has(want.mode));
        let recall = record.recall(me);
        // Dead members that are in nobody's way are ended by whoever is granted something: else they would add up.
        let is_new = holder.is_some() && !state.knows(holder.as_ref());
        // Nobody waits for the dead, and nobody makes way for them.
        let concerned = blocked || recall.is_some() || is_new;
        View {
            held: false,
            ends: false,
            holder,
            waits: record.pending(me).is_some(),
            deadlock,
            recall,
            others: if concerned { record.others(me).cloned().collect() } else { Vec::new() },
            first_end: record.first_end(),
        }
    }

    /// Tells whoever uses the resource here what others want of it, once it was kept for as long as it may be: or sooner, if what
    /// is wanted here was refused for that reason.
    fn hear_recall(&self, state: &mut State, view: &View) {
        self.is_wanted.store(view.recall.is_some(), Ordering::Release);
        let mode = view.recall.map(|recall| recall.mode);
        if mode.is_none() && view.holder.is_some() {
            // Before anybody hears that the way is free.
            state.elsewhere.drop_claim();
        }
        if mode.is_some() && !view.deadlock && self.kept_until(state).is_some() {
            return;
        }
        {
            let mut recalled = self.recalled.lock();
            if recalled.map(|recalled| recalled.mode) == mode {
                return;
            }
            let since = recalled.map_or_else(clock::now, |recalled| recalled.since);
            *recalled = mode.map(|mode| Recalled { mode, since });
        }
        self.with_user(|user| user.on_recall(mode));
    }

    /// Takes over what the record says that the member holds.
    fn take_note(&self, state: &mut State, view: &View, want: Option<&Want>) {
        let before = state.granted;
        state.waits = view.waits;
        state.unsure = false;
        if let Some(end) = state.end.take() {
            end.done.store(view.ends, Ordering::Release);
        }
        let end = |holder: &Holder| holder.until.map_or(FOR_EVER, |until| until.0);
        self.until_ms.store(view.holder.as_ref().map_or(0, end), Ordering::Release);
        state.granted = view.holder.as_ref().map(|holder| Grant {
            mode: holder.mode,
            token: holder.token,
            since: holder.since,
        });
        // Whoever holds nothing here waits, until those who do have given it up, or the other has.
        if view.deadlock
            && let Some(&Want { from: Some(from), mode, .. }) = want
        {
            state.elsewhere.refuse_conversion(from, mode);
        }
        if before.is_some() && !view.held {
            self.break_off(state);
        }
        let Some(holder) = &view.holder else { return };
        if before.is_none_or(|before| before.token != holder.token) {
            self.number(holder.token);
            if let Some(previous) = &holder.previous {
                let by = format!("{} on {}", previous.party.owner, previous.party.member);
                let by: Arc<str> = by.into();
                *self.previous.lock() = Some((Arc::clone(&by), previous.clone()));
                (self.on_abandoned)(&self.lock, &by);
            }
        }
        if state.elsewhere.leaves().is_none_or(|leaves| !leaves.covers(holder.mode)) {
            state.elsewhere.lower(Mode::beside(Some(holder.mode)));
        }
    }

    /// The record does not have this member any more: whoever holds the lock here is told, and nobody else gets it.
    fn break_off(&self, state: &mut State) {
        self.breaks.fetch_add(1, Ordering::AcqRel);
        state.elsewhere.drop_claim();
        self.claim_all(state);
        if let Some(call) = self.on_broken.get() {
            call();
        }
        self.with_user(User::on_loss);
    }

    /// Ends what dead members hold and wait for; tells whether there were any.
    fn bury(&self, state: &mut State, view: &View) -> Result<bool, CoordinationError> {
        state.watched.retain(|member, _| view.others.contains(member));
        let mut dead = Vec::new();
        for other in &view.others {
            if !state.watched.contains_key(other) && (view.waits || view.recall.is_some()) {
                let watch = self.watch_subject(Subject::Member(other.clone()))?;
                state.watched.insert(other.clone(), watch);
            }
            let alive = self.entry.member.driver().is_alive(other);
            if !alive
                .map_err(|error| self.entry.member.engine_error(self.entry.key.as_str(), error))?
            {
                dead.push(other);
            }
        }
        if dead.is_empty() {
            return Ok(false);
        }
        let now = self.entry.member.now();
        self.update(|record| {
            dead.iter().for_each(|member| record.bury(member, now));
            Ok(())
        })?;
        Ok(true)
    }

    /// Makes way for whoever is in front elsewhere, as soon as the owners here do; tells whether they did at once.
    fn give_way(&self, state: &mut State, view: &View, asked: bool) -> bool {
        let Some(recall) = view.recall else {
            if view.holder.is_some() {
                state.elsewhere.drop_claim();
            }
            return false;
        };
        if let Some(at) = self.kept_until(state) {
            self.ring_at(at);
            return false;
        }
        let before = state.elsewhere.mode();
        if self.claim_for(state, recall).is_err() {
            let Some(from) = recall.from else {
                // Who comes anew comes after an upgrade here, which rings when it went.
                return false;
            };
            if !asked && self.want(state).is_some() {
                // Came meanwhile: whether it deadlocks, and with somebody who lives, the record says.
                return false;
            }
            // Those elsewhere are several: only whoever waits for what this one holds is in a circle with it. Any other conversion
            // here goes first, and rings when it went.
            state.elsewhere.refuse_opposed(from, recall.mode);
            let _ = self.claim_for(state, recall);
        }
        state.elsewhere.mode() != before
    }

    /// Until when what was granted is kept for the owners here, if that is not over.
    fn kept_until(&self, state: &State) -> Option<Moment> {
        let here = state.elsewhere.look();
        let used = here.held.is_some() || here.head.is_some() || self.is_expected();
        let until = state.granted?.since.plus_ms(self.agent.min_hold_ms());
        (used && until > self.entry.member.now()).then_some(until)
    }

    /// Comes back by itself when something may have happened that nobody reports.
    fn set_alarm(&self, state: &State, view: &View) {
        if view.waits || state.watch.is_some() {
            let poll = self.entry.member.driver().poll_interval().as_millis() as u64;
            self.ring_at(self.entry.member.now().plus_ms(poll));
        }
        if let Some(end) = view.first_end {
            self.ring_at(end);
        }
    }

    /// The record is out of reach, or the member lost: whoever waits here is told, and nobody is let in.
    fn fail(&self, state: &mut State, error: &CoordinationError) {
        state.elsewhere.refuse(&Box::new(error.clone()));
        if error.is_lost() {
            if !std::mem::replace(&mut state.is_lost, true) {
                self.be_lost(state);
            }
            return;
        }
        // What was written may be there without an answer: a grant that nobody knows of would keep everybody out.
        state.unsure |= error.is_transient();
        if state.failures == 0 {
            let again = if error.is_transient() { "will try again" } else { UNREADABLE };
            tracing::warn!(resource = %self.entry.key, %error, "{again}");
        }
        if state.has_part() {
            let pause_ms = pause_ms(state.failures, error.is_transient());
            self.ring_at(self.entry.member.now().plus_ms(pause_ms));
        }
        state.failures = state.failures.saturating_add(1);
    }

    /// The member is no more, and says nothing to the record ever again.
    fn be_lost(&self, state: &mut State) {
        state.granted = None;
        state.waits = false;
        state.unsure = false;
        self.until_ms.store(0, Ordering::Release);
        state.watch = None;
        state.watched.clear();
        self.is_wanted.store(false, Ordering::Release);
        *self.recalled.lock() = None;
        self.claim_all(state);
        self.with_user(User::on_loss);
    }

    fn recover(&self, state: &mut State) {
        if std::mem::take(&mut state.failures) > 0 {
            tracing::info!(resource = %self.entry.key, "its record is as it should be again");
        }
    }
}

/// What is said of a record that nobody can make sense of.
const UNREADABLE: &str = "nobody gets this until its record is repaired or removed";

/// How long to wait before the engine is asked again, after so many failures in a row: longer each time. An engine out of reach is
/// back by itself; what somebody has to repair is reported when it is, and looked at now and then should the report be lost.
pub(super) fn pause_ms(failures: u32, is_transient: bool) -> u64 {
    const FIRST_MS: u64 = 100;
    const TRANSIENT_MS_MAX: u64 = 1_000;
    const LASTING_MS_MAX: u64 = 60_000;
    let max_ms = if is_transient { TRANSIENT_MS_MAX } else { LASTING_MS_MAX };
    (FIRST_MS << failures.min(16)).min(max_ms)
}
