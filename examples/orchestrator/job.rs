//! One attempt at one job: takes its locks level by level, works, changes what it holds on the way, and gives all back.
//!
//! What is recorded when, and why, is in [`record`](crate::record).

use std::time::Instant;

use tierlock::ganeti::{BGL, LEVELS, Level, MODIFIABLE_LEVELS, PRIORITY_MIN};
use tierlock::{
    ALL, Acquire, Ageing, Level as _, LevelRequest, MembershipError, Mode, Names, Session,
};

use crate::clock;
use crate::engine::{Engine, Strategy};
use crate::names::Name;
use crate::opcodes::{Change, ChangeAction, Effect, Phase, Rule, Step, StepAction};
use crate::pool::Assignment;
use crate::record::{Access, Event, Kind, Span};
use crate::resolve::{Holding, Holdings, Resolver, Selection};
use crate::setback::Setback;
use crate::summary::Tally;
use crate::workload::Job;

/// How long an attempt waits for locks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// One budget for all levels.
    Until(Instant),
    /// However long it takes, becoming more urgent on the way.
    Ageing(Ageing),
    /// Both: becoming more urgent on the way, and giving everything back if even that takes too long.
    AgeingUntil(Ageing, Instant),
}

impl Patience {
    /// The request, with as much patience as this.
    fn of<T>(self, request: Acquire<T>) -> Acquire<T> {
        match self {
            Self::Until(deadline) => request.deadline(deadline),
            Self::Ageing(ageing) => request.ageing(ageing),
            Self::AgeingUntil(ageing, deadline) => request.ageing(ageing).deadline(deadline),
        }
    }
}

/// By how much less urgently than its job a patient request for all of a level begins. Once it is the most urgent, such a
/// request keeps newcomers out of the level until everybody there has left, and they wait with all they hold elsewhere; so it
/// first waits for a moment in which nobody is there anyway. Ageing sees to it that it need not wait for ever.
const WIDE_YIELDS: i32 = 20;

/// An attempt under way.
pub(crate) struct Attempt<'e> {
    engine: &'e Engine<'e>,
    assignment: &'e Assignment,
    job: &'e Job<'e>,
    patience: Patience,
    priority: i32,
    session: Session,
    held: Holdings,
    asked_nodes: Option<Selection>,
    /// The nodes that a new instance gets, if not those it was to get.
    placed: Option<Vec<Name>>,
    /// The level at which it created its names, which it has to remove if it fails.
    created: Option<Level>,
    tally: &'e mut Tally,
}

impl<'e> Attempt<'e> {
    pub(crate) fn new(
        engine: &'e Engine<'e>,
        assignment: &'e Assignment,
        patience: Patience,
        tally: &'e mut Tally,
    ) -> Self {
        let job = &engine.workload.jobs[assignment.job];
        Self {
            engine,
            assignment,
            job,
            patience,
            priority: assignment.attempt.priority,
            session: engine.manager.session(format!("job-{}", job.id)),
            held: Holdings::default(),
            asked_nodes: None,
            placed: None,
            created: None,
            tally,
        }
    }

    /// Makes the attempt. Afterwards nothing is held, whatever came of it.
    pub(crate) async fn run(mut self) -> Result<(), Setback> {
        let result = match self.take_locks_and_work().await {
            Ok(()) => Ok(()),
            Err(setback) => self.undo_creation().await.and(Err(setback)),
        };
        self.release_all();
        result
    }

    async fn take_locks_and_work(&mut self) -> Result<(), Setback> {
        self.take_locks().await?;
        self.check()?;
        self.work().await
    }

    async fn take_locks(&mut self) -> Result<(), Setback> {
        let variant = self.job.variant;
        let root = Selection::Names(vec![self.engine.root]);
        self.acquire(Level::Cluster, variant.bgl, root, None).await?;
        for step in &variant.steps {
            self.take_step(step).await?;
        }
        Ok(())
    }

    /// Takes the locks of one level, whose names are worked out only now.
    async fn take_step(&mut self, step: &Step) -> Result<(), Setback> {
        let names = self.resolver(|resolver| resolver.names(&step.rules, step.level));
        if step.level == Level::Node {
            self.asked_nodes = Some(names.clone());
        }
        if names.is_empty() {
            return Ok(());
        }
        match (step.action, names) {
            (StepAction::Add, Selection::Names(names)) => self.create(step.level, names).await,
            (_, names) => {
                let at_least = step.opportunistic.then(|| self.nodes_needed(step.level));
                self.acquire(step.level, step.mode, names, at_least).await
            }
        }
    }

    /// Asks for `names`, and waits as long as there is time; for what is free of them if only so many are needed.
    async fn acquire(
        &mut self,
        level: Level,
        mode: Mode,
        names: Selection,
        at_least: Option<usize>,
    ) -> Result<(), Setback> {
        let kind = if at_least.is_some() { Kind::Opportunity } else { Kind::Request };
        let asked = self.ask(kind, level, mode, &names);
        let wanted = request(level, mode, self.texts(&names), at_least);
        let wanted = self.session.acquire(wanted).priority(self.priority);
        let result = self.engine.runner.outcome(self.patience.of(wanted)).await;
        self.tally.waited(level, self.job.priority, asked.elapsed());
        match result {
            Err(error) => return Err(self.refused(level, mode, &names, error.into())),
            Ok(_) if at_least.is_some() => self.had_some(level, mode),
            Ok(_) => self.granted(level, mode, names),
        }
        Ok(())
    }

    /// Creates locks, held from the start. Unlike Ganeti's, this waits no longer than any other request, and as urgently.
    async fn create(&mut self, level: Level, names: Vec<Name>) -> Result<(), Setback> {
        let mode = Mode::Exclusive;
        let names = Selection::Names(names);
        let asked = self.ask(Kind::Request, level, mode, &names);
        let result = match self.engine.board {
            None => self.add_held(level, &names).await,
            Some(_) => self.add_and_take(level, &names).await,
        };
        self.tally.waited(level, self.job.priority, asked.elapsed());
        if let Err(error) = result {
            return Err(self.refused(level, mode, &names, error));
        }
        let events = [Kind::Add, Kind::Grant].map(|kind| self.event(kind, level, mode, &names));
        self.engine.recorder.record(&events);
        self.held.set(level, Some(Holding { mode, names }));
        self.created = Some(level);
        Ok(())
    }

    async fn add_held(&mut self, level: Level, names: &Selection) -> Result<(), Setback> {
        let texts = self.texts(names);
        let wanted = self.session.add_held(level, texts).priority(self.priority);
        Ok(self.engine.runner.outcome(self.patience.of(wanted)).await?)
    }

    /// Where processes share the locks, somebody elsewhere might hold what is new here: it is taken like anything else.
    async fn add_and_take(&mut self, level: Level, names: &Selection) -> Result<(), Setback> {
        let texts = self.texts(names);
        let wanted = self.session.add(level, texts.clone()).priority(self.priority);
        match self.engine.runner.outcome(self.patience.of(wanted)).await {
            // An earlier attempt may have got so far.
            Ok(()) | Err(MembershipError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let wanted = request(level, Mode::Exclusive, texts, None);
        let wanted = self.session.acquire(wanted).priority(self.priority);
        self.engine.runner.outcome(self.patience.of(wanted)).await?;
        Ok(())
    }

    /// Begins a request.
    fn ask(&mut self, kind: Kind, level: Level, mode: Mode, names: &Selection) -> Instant {
        let now = clock::now();
        self.priority = self.urgency(level, names, now);
        self.record(kind, level, mode, names);
        now
    }

    /// The priority of a request: as in Ganeti, that of the job at this moment. A patient job has aged since it could begin.
    fn urgency(&self, level: Level, names: &Selection, now: Instant) -> i32 {
        let priority = self.engine.pool.priority(self.assignment.job);
        if self.engine.strategy == Strategy::Ganeti {
            return priority;
        }
        let is_wide = matches!(names, Selection::All) && MODIFIABLE_LEVELS.contains(&level);
        let yielded = if is_wide { WIDE_YIELDS } else { 0 };
        let aged = self.engine.steps_aged(now - self.assignment.ready);
        (priority + yielded).saturating_sub(aged).max(PRIORITY_MIN)
    }

    fn refused(&self, level: Level, mode: Mode, names: &Selection, setback: Setback) -> Setback {
        if matches!(setback, Setback::TimedOut | Setback::TooFew) {
            self.record(Kind::Timeout, level, mode, names);
        }
        setback
    }

    fn granted(&mut self, level: Level, mode: Mode, names: Selection) {
        self.record(Kind::Grant, level, mode, &names);
        self.held.set(level, Some(Holding { mode, names }));
    }

    /// Takes note of what an opportunistic request got, and places a new instance there.
    fn had_some(&mut self, level: Level, mode: Mode) {
        let had = self.session.owned(level);
        let had: Vec<Name> = had.iter().filter_map(|text| self.engine.names.find(text)).collect();
        self.placed = Some(place(&self.job.args.chosen, &had));
        self.granted(level, mode, Selection::of(had));
    }

    /// How many locks of `level` the job cannot do without.
    fn nodes_needed(&self, level: Level) -> usize {
        let keeps = |change: &Change| {
            change.action == ChangeAction::Keep
                && change.level == level
                && change.rules.contains(&Rule::Chosen)
        };
        let is_placed = self.job.variant.later.iter().any(keeps);
        if is_placed { self.job.args.chosen.len() } else { 1 }
    }

    /// Looks, with everything held, whether the job makes sense.
    fn check(&self) -> Result<(), Setback> {
        let cluster = self.engine.cluster.read();
        match cluster.objection(self.job.variant.effect, &self.job.args) {
            Some(objection) => Err(Setback::Failed(objection.to_owned())),
            None => Ok(()),
        }
    }

    /// Works with everything held, changing on the way what is held and what the cluster is like.
    async fn work(&mut self) -> Result<(), Setback> {
        let started = clock::now();
        let submitted = self.engine.clock.at(self.job.submitted);
        self.tally.all_held(
            self.job.priority,
            started - submitted,
            started - self.assignment.ready,
        );
        let duration = self.engine.clock.scaled(self.job.duration);
        for phase in Phase::ALL {
            if self.has_part_in(phase) {
                let part = duration.mul_f64(self.engine.opcodes.fractions.of(phase));
                self.engine.pool.sleep_until(started + part).await;
                self.enter(phase).await?;
            }
        }
        self.tally.working += started.elapsed();
        Ok(())
    }

    fn has_part_in(&self, phase: Phase) -> bool {
        phase == Phase::End
            || (phase == Phase::Commit && self.job.variant.effect != Effect::None)
            || self.job.variant.later.iter().any(|change| change.at == phase)
    }

    async fn enter(&mut self, phase: Phase) -> Result<(), Setback> {
        if phase == Phase::Commit {
            self.commit();
        }
        for change in self.job.variant.later.iter().filter(|change| change.at == phase) {
            self.change(change).await?;
        }
        Ok(())
    }

    /// Enters what the job did into the configuration, while it holds the locks concerned.
    fn commit(&mut self) {
        let effect = self.job.variant.effect;
        if effect == Effect::None {
            return;
        }
        let chosen = self.placed.as_deref().unwrap_or(&self.job.args.chosen);
        self.engine.cluster.write().apply(effect, &self.job.args, chosen);
        self.created = None;
    }

    async fn change(&mut self, change: &Change) -> Result<(), Setback> {
        let level = change.level;
        match change.action {
            ChangeAction::Release => self.release(level),
            ChangeAction::Keep => {
                match self.resolver(|resolver| resolver.names_kept(&change.rules, level)) {
                    Selection::All => Ok(()),
                    Selection::Names(names) => self.keep(level, names),
                }
            }
            ChangeAction::Downgrade => self.downgrade(level),
            ChangeAction::Add => {
                let names = self.resolver(|resolver| resolver.names(&change.rules, level));
                self.add(level, &names).await
            }
            ChangeAction::Remove => {
                let names = self.resolver(|resolver| resolver.names(&change.rules, level));
                self.remove(level, &names).await
            }
        }
    }

    /// Gives back a whole level.
    fn release(&mut self, level: Level) -> Result<(), Setback> {
        let Some(Holding { mode, names }) = self.held.of(level).cloned() else { return Ok(()) };
        self.record(Kind::Release, level, mode, &names);
        self.held.set(level, None);
        self.session.release(level, ALL)?;
        Ok(())
    }

    /// Gives back a level but for `wanted`, as far as that is held.
    fn keep(&mut self, level: Level, wanted: Vec<Name>) -> Result<(), Setback> {
        let Some(Holding { mode, names }) = self.held.of(level).cloned() else { return Ok(()) };
        let is_held =
            |name: &Name| self.session.holds(level, self.engine.names.text(*name)).is_some();
        let kept: Vec<Name> = wanted.into_iter().filter(is_held).collect();
        if kept.is_empty() {
            return self.release(level);
        }
        let given_back = match names {
            Selection::All => Selection::All,
            Selection::Names(mut names) => {
                names.retain(|name| kept.binary_search(name).is_err());
                Selection::Names(names)
            }
        };
        let texts = self.engine.names.texts(&kept);
        let kept = Selection::Names(kept);
        let release = self.event(Kind::Release, level, mode, &given_back);
        let grant = self.event(Kind::Grant, level, mode, &kept);
        match &given_back {
            Selection::All => self.engine.recorder.record(&[release, grant]),
            Selection::Names(none) if none.is_empty() => return Ok(()),
            Selection::Names(_) => self.engine.recorder.record(&[release]),
        }
        self.held.set(level, Some(Holding { mode, names: kept }));
        self.session.keep(level, texts)?;
        Ok(())
    }

    fn downgrade(&mut self, level: Level) -> Result<(), Setback> {
        let Some(Holding { mode, names }) = self.held.of(level).cloned() else { return Ok(()) };
        if mode == Mode::Shared {
            return Ok(());
        }
        self.record(Kind::Downgrade, level, Mode::Shared, &names);
        let texts = self.texts(&names);
        self.held.set(level, Some(Holding { mode: Mode::Shared, names }));
        self.session.downgrade(level, texts)?;
        Ok(())
    }

    /// Adds locks that nobody holds; only under the exclusive BGL.
    async fn add(&mut self, level: Level, names: &Selection) -> Result<(), Setback> {
        let texts = self.texts(names);
        self.engine.runner.outcome(self.session.add(level, texts)).await?;
        self.record(Kind::Add, level, Mode::Exclusive, names);
        Ok(())
    }

    /// Removes locks, deeper levels first: those held exclusively, or any under the exclusive BGL.
    async fn remove(&mut self, level: Level, names: &Selection) -> Result<(), Setback> {
        if !self.may_remove(level, names) {
            return Err(Setback::Failed("a lock to be removed is not held exclusively".to_owned()));
        }
        for deeper in LEVELS.into_iter().rev().take_while(|deeper| *deeper != level) {
            self.release(deeper)?;
        }
        self.record(Kind::Remove, level, Mode::Exclusive, names);
        let texts = self.texts(names);
        self.engine.runner.outcome(self.session.remove(level, texts)).await?;
        self.forget(level, names);
        Ok(())
    }

    /// Tells whether nothing can prevent a removal: it is recorded before it is done.
    fn may_remove(&self, level: Level, names: &Selection) -> bool {
        let Selection::Names(names) = names else { return false };
        let held = |name: &Name| self.session.holds(level, self.engine.names.text(*name));
        let alone = self.session.holds(Level::Cluster, BGL) == Some(Mode::Exclusive);
        names.iter().all(|name| held(name) == Some(Mode::Exclusive))
            || (alone && self.held.of(level).is_none())
    }

    fn forget(&mut self, level: Level, gone: &Selection) {
        let Some(mut holding) = self.held.of(level).cloned() else { return };
        if let (Selection::Names(names), Selection::Names(gone)) = (&mut holding.names, gone) {
            names.retain(|name| !gone.contains(name));
        }
        let left = (!holding.names.is_empty()).then_some(holding);
        self.held.set(level, left);
    }

    /// Removes what the attempt created, as if it had never been.
    async fn undo_creation(&mut self) -> Result<(), Setback> {
        let created = self.created.take();
        match created.and_then(|level| Some((level, self.held.of(level)?.names.clone()))) {
            Some((level, names)) => self.remove(level, &names).await,
            None => Ok(()),
        }
    }

    /// Gives everything back, deepest level first.
    fn release_all(&mut self) {
        for level in LEVELS.into_iter().rev() {
            if let Some(Holding { mode, names }) = self.held.of(level).cloned() {
                self.record(Kind::Release, level, mode, &names);
                self.held.set(level, None);
            }
        }
        self.session.release_all();
    }

    /// Looks at the configuration as it is now.
    fn resolver<T>(&self, look: impl FnOnce(&Resolver<'_>) -> T) -> T {
        let cluster = self.engine.cluster.read();
        look(&Resolver {
            cluster: &cluster,
            args: &self.job.args,
            chosen: self.placed.as_deref().unwrap_or(&self.job.args.chosen),
            held: &self.held,
            asked_nodes: self.asked_nodes.as_ref(),
        })
    }

    fn texts(&self, names: &Selection) -> Names {
        match names {
            Selection::All => ALL.into(),
            Selection::Names(names) => self.engine.names.texts(names).into(),
        }
    }

    fn record(&self, kind: Kind, level: Level, mode: Mode, names: &Selection) {
        self.engine.recorder.record(&[self.event(kind, level, mode, names)]);
    }

    fn event<'n>(&self, kind: Kind, level: Level, mode: Mode, names: &'n Selection) -> Event<'n> {
        let names = match names {
            Selection::All => Span::All,
            Selection::Names(names) => Span::Names(names),
        };
        let access = if mode == Mode::Shared { Access::Shared } else { Access::Exclusive };
        let (job, level, priority) = (self.job.id, level.rank(), self.priority);
        Event { job, kind, level, names, access, priority }
    }
}

fn request(level: Level, mode: Mode, names: Names, at_least: Option<usize>) -> LevelRequest {
    let request = match mode {
        Mode::Shared => level.shared(names),
        _ => level.exclusive(names),
    };
    match at_least {
        Some(count) => request.at_least(count),
        None => request,
    }
}

/// What an allocator would do: the nodes that were wanted, as far as they were had, and others in place of the rest.
fn place(wanted: &[Name], had: &[Name]) -> Vec<Name> {
    let mut spare = had.iter().filter(|node| !wanted.contains(node));
    let pick = |node: &Name| {
        if had.contains(node) { Some(*node) } else { spare.next().copied() }
    };
    wanted.iter().filter_map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_placed_where_it_was_to_be_as_far_as_possible() {
        let node = Name::numbered;
        let wanted = [node(1), node(2)];
        assert_eq!(place(&wanted, &[node(1), node(2), node(3)]), wanted);
        assert_eq!(place(&wanted, &[node(2), node(3), node(4)]), [node(3), node(2)]);
        assert_eq!(place(&wanted, &[node(3), node(4)]), [node(3), node(4)]);
        assert_eq!(place(&wanted, &[node(3)]), [node(3)]);
    }
}
