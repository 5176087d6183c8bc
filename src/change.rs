//! Requests about what is held in a set: to hold names in a stronger mode, to add names, to remove them.
//!
//! The same for a [`SetGuard`](crate::SetGuard) and for a level of a [`Session`](crate::Session): each gives a [`Seat`].

use std::sync::Arc;

use crate::beyond::{AskedBeyond, Promise};
use crate::core::mode::Mode;
use crate::error::{AcquireError, HoldError, MembershipError, UpgradeError};
use crate::hold::{Decisions, Hold, Lock, dispatch};
use crate::name::{LockName, Name};
use crate::owner::Owner;
use crate::request::{Membership, Names, SetRequest, Which};
use crate::set::{NoLock, Set};
use crate::set_hold::{Modes, NotHeld, SetHold, Upgrading, take_free};
use crate::target::{Patience, Target};
use crate::task::{Reason, Refusal, Stage, Stages, Task, conflicting_holders};

/// One owner before one set.
#[derive(Debug)]
pub struct Seat<'a> {
    pub(crate) set: &'a Arc<Set>,
    pub(crate) owner: &'a Owner,
    pub(crate) hold: &'a mut Option<SetHold>,
    /// Nothing that comes later in the order of locks is held.
    pub(crate) last: bool,
    /// The name that cannot be removed.
    pub(crate) root: Option<&'a Arc<str>>,
}

/// Whoever has a seat. Not to be implemented elsewhere.
pub trait Holder {
    /// What the caller gets back when the change is made.
    type Out;
    /// Its seat.
    fn seat(&mut self) -> Seat<'_>;
    /// Ends the change.
    fn done(self) -> Self::Out;
}

impl Seat<'_> {
    fn owner_name(&self) -> Arc<str> {
        Arc::clone(self.owner.name_arc())
    }

    /// Gives back all but these names.
    pub(crate) fn keep(self, names: &Names) -> Result<(), HoldError> {
        if let Which::These(kept) = &names.0 {
            self.bring(|_| kept.to_vec()).map_err(Kept::hold_error)?;
        }
        self.narrow(SetHold::keep, names)
    }

    /// Gives these names back.
    pub(crate) fn release(self, names: &Names) -> Result<(), HoldError> {
        if let Which::These(released) = &names.0
            && !released.is_empty()
        {
            self.bring(|hold| hold.names_but(self.set, released)).map_err(Kept::hold_error)?;
        }
        self.narrow(SetHold::release, names)
    }

    /// Has names granted to this process by themselves which the set-lock has given until now, if somebody beyond grants
    /// them.
    fn bring(&self, names: impl FnOnce(&SetHold) -> Vec<Name>) -> Result<(), Kept> {
        let (Some(beyond), Some(hold)) = (self.set.beyond(), self.hold.as_ref()) else {
            return Ok(());
        };
        if hold.all().is_none() {
            return Ok(());
        }
        let Some((mode, locks)) = hold.given_by_all(self.set, &names(hold)) else { return Ok(()) };
        for lock in locks {
            if let Err(why) = beyond.bring(&lock, mode) {
                let (owner, reason) = (self.owner.clone(), Reason::Outside(why));
                return Err(Kept(Box::new(Refusal { owner, lock, wanted: mode, reason })));
            }
        }
        Ok(())
    }

    /// Has what is to be held in a stronger mode granted to this process, if that can be done at once, for as long as the promises
    /// are kept. If not, the attempt fails by itself.
    fn ask_beyond(&self, names: &Names) -> Vec<Promise> {
        let (Some(beyond), Some(hold)) = (self.set.beyond(), self.hold.as_ref()) else {
            return Vec::new();
        };
        let (top, to) = match (&names.0, hold.all()) {
            (Which::All, Some(_)) => (hold.top_mode(), Mode::Exclusive),
            _ => (hold.top_mode(), hold.top_mode().join(Mode::IntentExclusive)),
        };
        let ask = |lock: &Arc<Lock>, from: Option<Mode>, mode: Mode| {
            let asked = AskedBeyond { owner: self.owner, mode, from, priority: 0 };
            beyond.ask(lock, &asked).ok()
        };
        let top = ask(self.set.top(), Some(top), to);
        let concerned = hold.concerned(self.set, names).into_iter();
        top.into_iter()
            .chain(concerned.filter_map(|(lock, from)| ask(&lock, from, Mode::Exclusive)))
            .collect()
    }

    fn narrow(
        self,
        change: impl FnOnce(
            SetHold,
            &Set,
            &Names,
            &Owner,
            &mut Decisions,
        ) -> Result<Option<SetHold>, (SetHold, NotHeld)>,
        names: &Names,
    ) -> Result<(), HoldError> {
        let Some(hold) = self.hold.take() else { return self.nothing_held(names) };
        let mut decisions = Vec::new();
        let result = match change(hold, self.set, names, self.owner, &mut decisions) {
            Ok(rest) => {
                *self.hold = rest;
                Ok(())
            }
            Err((hold, NotHeld(lock))) => {
                *self.hold = Some(hold);
                Err(HoldError::NotHeld { owner: self.owner_name(), lock })
            }
        };
        dispatch(decisions);
        result
    }

    /// Goes on with these names in `Shared`.
    pub(crate) fn downgrade(self, names: &Names) -> Result<(), HoldError> {
        if let Which::These(these) = &names.0
            && !these.is_empty()
        {
            self.bring(|hold| hold.names_and(self.set, these)).map_err(Kept::hold_error)?;
        }
        let Some(hold) = self.hold.as_mut() else { return self.nothing_held(names) };
        let mut decisions = Vec::new();
        let result = hold.downgrade(self.set, names, self.owner, &mut decisions);
        dispatch(decisions);
        result.map_err(|NotHeld(lock)| HoldError::NotHeld { owner: self.owner_name(), lock })
    }

    /// Nothing can be done with names that are not held, unless there are none.
    fn nothing_held(&self, names: &Names) -> Result<(), HoldError> {
        let lock = match &names.0 {
            Which::All => self.set.top().name().clone(),
            Which::These(names) => match names.first() {
                None => return Ok(()),
                Some(name) => self.set.full_name(name),
            },
        };
        Err(HoldError::NotHeld { owner: self.owner_name(), lock })
    }
}

/// A name that somebody beyond this process did not grant by itself, and why.
struct Kept(Box<Refusal>);

impl Kept {
    fn hold_error(self) -> HoldError {
        let Refusal { owner, lock, reason, .. } = *self.0;
        match reason {
            #[cfg(feature = "coordination")]
            Reason::Outside(reason) => {
                let owner = Arc::clone(owner.name_arc());
                HoldError::Coordination { owner, lock: lock.name().clone(), reason }
            }
            _ => HoldError::NotHeld {
                owner: Arc::clone(owner.name_arc()),
                lock: lock.name().clone(),
            },
        }
    }
}

/// A request to hold names of a set exclusively that are held shared.
///
/// Only ever named by the compiler, so without an example of its own: see [`Session::upgrade`](crate::Session::upgrade).
#[derive(Debug)]
pub struct UpgradeNames<H> {
    holder: Option<Result<H, UpgradeError>>,
    names: Names,
    before: Option<Modes>,
    member: Option<usize>,
    /// What is held of the set, while part of it waits. It comes back with the outcome; if that is never taken, since the
    /// request was forgotten, nobody can give it back a second time.
    away: Option<SetHold>,
    /// Kept until the outcome is there.
    held_off: Option<Promise>,
}

impl<H: Holder> UpgradeNames<H> {
    pub(crate) fn new(holder: Result<H, UpgradeError>, names: Names) -> Self {
        Self { holder: Some(holder), names, before: None, member: None, away: None, held_off: None }
    }

    fn refuse_stuck(seat: &Seat<'_>, upgrading: Upgrading, waits: Patience) -> UpgradeError {
        let Upgrading::Stuck { lock, held, to } = upgrading else {
            unreachable!("only what is stuck is refused")
        };
        let (owner, name) = (seat.owner_name(), lock.name().clone());
        match waits {
            Patience::Tries => AcquireError::WouldBlock { owner, lock: name, wanted: to }.into(),
            Patience::Blocks | Patience::Waits => {
                let blockers = conflicting_holders(seat.owner, &lock, to);
                UpgradeError::WouldDeadlock { owner, lock: name, held, wanted: to, blockers }
            }
        }
    }

    fn restore(seat: &mut Seat<'_>, before: &Modes) {
        let mut decisions = Vec::new();
        if let Some(hold) = seat.hold.as_mut() {
            hold.restore(seat.set, before, seat.owner, &mut decisions);
        }
        dispatch(decisions);
    }
}

impl<H: Holder> Target for UpgradeNames<H> {
    type Granted = H::Out;
    type Error = UpgradeError;

    fn prepare(&mut self, waits: Patience) -> Result<Option<Task>, UpgradeError> {
        let mut holder = self.holder.take().expect("prepared once")?;
        let mut seat = holder.seat();
        let _promises = seat.ask_beyond(&self.names);
        let Some(hold) = seat.hold.as_mut() else {
            seat.nothing_held(&self.names)?;
            self.holder = Some(Ok(holder));
            return Ok(None);
        };
        let before = hold.modes();
        let upgrading = hold.upgrade(seat.set, &self.names, seat.last, seat.owner).map_err(
            |NotHeld(lock)| HoldError::NotHeld { owner: Arc::clone(seat.owner.name_arc()), lock },
        )?;
        let task = match upgrading {
            Upgrading::Done => None,
            Upgrading::Blocked { member, to } => {
                self.member = member;
                let conversion = hold.conversion(seat.set, member, to, seat.owner);
                let conversion = conversion.after(hold.stronger_than(seat.set, &before));
                let beyond = seat.set.beyond();
                self.held_off = beyond.and_then(|beyond| beyond.hold_off(conversion.lock()));
                self.away = seat.hold.take();
                Some(Task::Convert(conversion))
            }
            stuck @ Upgrading::Stuck { .. } => {
                let error = Self::refuse_stuck(&seat, stuck, waits);
                Self::restore(&mut seat, &before);
                return Err(error);
            }
        };
        self.before = Some(before);
        self.holder = Some(Ok(holder));
        Ok(task)
    }

    fn granted(self, task: Option<Task>) -> Result<H::Out, UpgradeError> {
        let mut holder = self.holder.expect("prepared")?;
        if let (Some(Task::Convert(conversion)), Some(mut hold)) = (task, self.away) {
            hold.converted(self.member, conversion.to);
            *holder.seat().hold = Some(hold);
        }
        Ok(holder.done())
    }

    fn undo(&mut self) {
        let (Some(Ok(holder)), Some(before)) = (&mut self.holder, &self.before) else { return };
        let mut seat = holder.seat();
        match self.away.take() {
            None => Self::restore(&mut seat, before),
            Some(mut hold) => {
                hold.restored(before);
                *seat.hold = Some(hold);
            }
        }
    }

    fn refused(self, refusal: Refusal) -> UpgradeError {
        refusal.into()
    }
}

/// A request to add names to a set, or to remove some.
///
/// Only ever named by the compiler, so without an example of its own: see [`Session::add`](crate::Session::add).
#[derive(Debug)]
pub struct ChangeMembers<H> {
    holder: Option<Result<H, MembershipError>>,
    asked: Names,
    /// What is asked for by name; all, as they were when the request was made.
    names: Vec<Name>,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    /// Added held exclusively, before anybody else can see them.
    AddHeld,
    Remove,
}

impl<H: Holder> ChangeMembers<H> {
    pub(crate) fn new(holder: Result<H, MembershipError>, names: Names, change: Change) -> Self {
        Self { holder: Some(holder), asked: names, names: Vec::new(), change }
    }
}

impl<H: Holder> Target for ChangeMembers<H> {
    type Granted = H::Out;
    type Error = MembershipError;

    fn prepare(&mut self, _: Patience) -> Result<Option<Task>, MembershipError> {
        let mut holder = self.holder.take().expect("prepared once")?;
        let seat = holder.seat();
        if seat.set.membership() != Membership::Listed {
            return Err(MembershipError::NotModifiable {
                owner: seat.owner_name(),
                set: Arc::clone(seat.set.name()),
                membership: seat.set.membership(),
            });
        }
        self.names = match &self.asked.0 {
            Which::These(names) => names.to_vec(),
            Which::All => seat.set.names().iter().map(Name::from).collect(),
        };
        let task = match self.change {
            Change::AddHeld if seat.set.beyond().is_some() => {
                let (owner, set) = (seat.owner_name(), Arc::clone(seat.set.name()));
                Err(MembershipError::HeldAcross { owner, set })
            }
            Change::Add | Change::AddHeld => seat.prepare_add(&self.names),
            Change::Remove => seat.prepare_remove(&self.names),
        }?;
        self.holder = Some(Ok(holder));
        Ok(task)
    }

    fn granted(self, task: Option<Task>) -> Result<H::Out, MembershipError> {
        let mut holder = self.holder.expect("prepared")?;
        let mut decisions = Vec::new();
        let result = {
            let mut seat = holder.seat();
            seat.sit_down(task);
            match self.change {
                Change::Add => seat.add(&self.names, false, &mut decisions),
                Change::AddHeld => seat.add(&self.names, true, &mut decisions),
                Change::Remove => {
                    seat.remove(&self.names, &mut decisions);
                    Ok(())
                }
            }
            .map(|()| seat.stand_up(&mut decisions))
        };
        dispatch(decisions);
        result.map(|()| holder.done())
    }

    fn refused(self, refusal: Refusal) -> MembershipError {
        AcquireError::from(refusal).into()
    }
}

impl Seat<'_> {
    /// Adding takes the set-lock in `IntentExclusive`, so it waits for whoever holds all of the set.
    fn prepare_add(&self, names: &[Name]) -> Result<Option<Task>, MembershipError> {
        let exists = names.iter().find(|name| self.set.contains(name));
        if let Some(name) = exists {
            let lock = self.set.full_name(name);
            return Err(MembershipError::AlreadyExists { owner: self.owner_name(), lock });
        }
        if let Some(beyond) = self.set.beyond() {
            for name in names {
                let told = |why| {
                    self.set.no_lock(name, Some(why)).told(self.owner_name(), Mode::Exclusive)
                };
                beyond.check_name(name).map_err(told)?;
            }
        }
        let Some(hold) = self.hold.as_ref() else {
            let stage = Stage::only(self.set.top(), Mode::IntentExclusive);
            return Ok(Some(Task::take(self.owner, Stages::One(stage))));
        };
        if hold.top_mode().covers(Mode::IntentExclusive) {
            return Ok(None);
        }
        // Waiting for a stronger set-lock while names below it are held could deadlock.
        Err(self.held_otherwise(self.set.top().name().clone()))
    }

    fn add(
        &mut self,
        names: &[Name],
        held: bool,
        decisions: &mut Decisions,
    ) -> Result<(), MembershipError> {
        let mut added: Vec<Hold> = Vec::new();
        let covered = self.hold.as_ref().is_some_and(|h| h.top_mode() == Mode::Exclusive);
        let result = self.set.add(names, |lock| {
            if held && !covered {
                added.push(take_free(lock, Mode::Exclusive, self.owner));
            }
        });
        if let Some(hold) = self.hold.as_mut() {
            hold.adopt(added);
        }
        result.map_err(|lock| {
            // Somebody else added it since the request began.
            self.stand_up(decisions);
            MembershipError::AlreadyExists { owner: self.owner_name(), lock }
        })
    }

    /// Removing takes the names exclusively, all of them before the first is deleted.
    fn prepare_remove(&self, names: &[Name]) -> Result<Option<Task>, MembershipError> {
        if let Some(root) = self.root.filter(|root| names.iter().any(|name| **name == ***root)) {
            let root = self.set.full_name(root);
            return Err(MembershipError::RootStays { owner: self.owner_name(), root });
        }
        if let Some(name) = names.iter().find(|name| !self.set.contains(name)) {
            return Err(self.not_found(self.set.full_name(name)));
        }
        let Some(hold) = self.hold.as_ref() else {
            let request = SetRequest { mode: Mode::Exclusive, names: names.into(), at_least: None };
            let told = |no: NoLock| no.told(self.owner_name(), Mode::Exclusive);
            let stage = self.set.stage(&request).map_err(told)?;
            return Ok(stage.map(|stage| Task::take(self.owner, Stages::One(stage))));
        };
        if let Some(name) =
            names.iter().find(|name| hold.mode_of(self.set, name) != Some(Mode::Exclusive))
        {
            return Err(self.held_otherwise(self.set.full_name(name)));
        }
        self.bring(|_| names.to_vec()).map_err(|Kept(refusal)| AcquireError::from(*refusal))?;
        Ok(None)
    }

    fn remove(&mut self, names: &[Name], decisions: &mut Decisions) {
        let Some(hold) = self.hold.as_mut() else { return };
        for name in names {
            if let Some(removed) = hold.take_out(self.set, name, self.owner) {
                self.set.forget(name);
                removed.delete(self.owner, decisions);
            }
        }
        hold.settle_top(self.set, self.owner, decisions);
    }

    /// Takes in what was acquired.
    pub(crate) fn sit_down(&mut self, task: Option<Task>) {
        if let Some(Task::Take(taking)) = task {
            let had = taking.into_had().next();
            *self.hold = had.and_then(|(_, mode, had)| SetHold::new(mode, had));
        }
    }

    /// Leaves, if nothing but an intention is left of the set.
    pub(crate) fn stand_up(&mut self, decisions: &mut Decisions) {
        if let Some(hold) = self.hold.take_if(|hold| hold.is_void()) {
            hold.release_all(self.set, self.owner, decisions);
        }
    }

    fn not_found(&self, lock: LockName) -> MembershipError {
        let wanted = Mode::Exclusive;
        AcquireError::NotFound { owner: self.owner_name(), lock, wanted }.into()
    }

    fn held_otherwise(&self, lock: LockName) -> MembershipError {
        let (held, mode) =
            self.hold.as_ref().expect("asked while something is held").witness(self.set);
        MembershipError::HeldOtherwise { owner: self.owner_name(), lock, held, mode }
    }
}
