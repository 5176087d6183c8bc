//! What one owner holds in one set, and every way to give some of it back or to hold it otherwise.
//!
//! Invariant: the set-lock is held in a mode that covers the intention of every member held, and its hold goes last.

mod named;

use std::iter;
use std::sync::Arc;

use crate::bundle::{Bundle, Had, slots_for};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::Abandoned;
use crate::hold::{Decisions, Hold, Lock, dispatch};
use crate::name::{LockName, Name};
use crate::owner::{LockId, Owner, Slot};
use crate::raw::Tried;
use crate::request::{Names, Which};
use crate::set::Set;
use crate::task::{Conversion, Directory, Members, take_each, take_top};

/// Whoever has it knows the set, and names it where it is needed: a count of the set for each hold would be dearer than the lock.
#[derive(Debug)]
pub(crate) struct SetHold {
    /// The mode in which the set-lock is held, and the slot that says so.
    top: (Mode, Slot),
    members: Bundle,
}

/// A name of the set that is not held.
pub(crate) struct NotHeld(pub(crate) LockName);

/// What was held how before an upgrade.
#[derive(Debug)]
pub(crate) struct Modes {
    top: Mode,
    members: Vec<(Slot, Mode)>,
}

/// What an upgrade still has to wait for.
pub(crate) enum Upgrading {
    Done,
    /// This lock, the last one held, is wanted in this mode.
    Blocked {
        member: Option<usize>,
        to: Mode,
    },
    /// This lock is not free for it, and waiting for it could deadlock.
    Stuck {
        lock: Arc<Lock>,
        held: Mode,
        to: Mode,
    },
}

impl SetHold {
    /// What came of a request; `None` if it did not even get the set-lock.
    pub(crate) fn new(mode: Mode, had: Had) -> Option<Self> {
        Some(Self { top: (mode, had.top?), members: had.members })
    }

    /// Takes the set-lock and members in these modes, if all of them are asked for and can be had at once.
    #[inline]
    pub(crate) fn at_once(
        set: &Set,
        (top_mode, mode): (Mode, Mode),
        members: Members,
        priority: Priority,
        owner: &Owner,
    ) -> Option<Self> {
        let locks = match members {
            Members::None => None,
            Members::Exactly(locks) => Some(locks),
            Members::Free(..) | Members::AnyFree(_) => return None,
        };
        let top = set.top();
        let slot = owner.claim(LockId::of(top)).ok()?;
        let mut decisions = Vec::new();
        if take_top(top, top_mode, priority, owner, slot, &mut decisions) != Tried::Taken {
            owner.clear(slot);
            dispatch(decisions);
            return None;
        }
        let top = (top_mode, slot);
        let mut tried = Tried::Taken;
        let members = locks.map_or_else(Bundle::default, |locks| {
            let mut slots = slots_for(&locks);
            tried = take_each(&locks, mode, priority, owner, &mut slots, &mut decisions);
            Bundle::Alike { locks, mode, slots }
        });
        let mut hold = Some(Self { top, members });
        if tried != Tried::Taken {
            hold.take()?.release_all(set, owner, &mut decisions);
        }
        dispatch(decisions);
        hold
    }

    /// The mode in which every name is held through the set-lock.
    pub(crate) fn all(&self) -> Option<Mode> {
        match self.top.0 {
            Mode::Exclusive => Some(Mode::Exclusive),
            Mode::Shared | Mode::SharedIntentExclusive => Some(Mode::Shared),
            Mode::IntentShared | Mode::IntentExclusive => None,
        }
    }

    pub(crate) fn top_mode(&self) -> Mode {
        self.top.0
    }

    /// The hold of the set-lock by itself.
    fn top(&self, set: &Set) -> Hold {
        Hold { lock: Arc::clone(set.top()), mode: self.top.0, slot: self.top.1 }
    }

    /// The mode in which this name is held.
    pub(crate) fn mode_of(&self, set: &Set, name: &str) -> Option<Mode> {
        match self.members.position(name) {
            Ok(at) => Some(self.members.get(at).1),
            Err(_) => self.all().filter(|_| set.offers(name)),
        }
    }

    /// The names held, in byte order.
    pub(crate) fn names(&self, set: &Set) -> Vec<Arc<str>> {
        match self.all() {
            Some(_) => set.names(),
            None => {
                self.members.iter().map(|(lock, ..)| Arc::clone(lock.name().name_arc())).collect()
            }
        }
    }

    /// One lock held and its mode, to name in an error.
    pub(crate) fn witness(&self, set: &Set) -> (LockName, Mode) {
        match self.members.iter().next() {
            Some((lock, mode, _)) => (lock.name().clone(), mode),
            None => (set.top().name().clone(), self.top.0),
        }
    }

    /// Tells of members that were abandoned and are held exclusively now.
    #[inline]
    pub(crate) fn take_abandoned(&self, set: &Set) -> Vec<Abandoned> {
        if set.has_abandoned() { self.tell_abandoned(set) } else { Vec::new() }
    }

    #[cold]
    fn tell_abandoned(&self, set: &Set) -> Vec<Abandoned> {
        if self.all() == Some(Mode::Exclusive) {
            return set.take_abandoned(None);
        }
        let exclusive: Vec<_> = self.members.exclusive().collect();
        if exclusive.is_empty() { Vec::new() } else { set.take_abandoned(Some(&exclusive)) }
    }

    /// Gives everything back, the set-lock last.
    #[inline]
    pub(crate) fn release_all(self, set: &Set, owner: &Owner, decisions: &mut Decisions) {
        let Self { top: (mode, slot), members } = self;
        members.release(owner, decisions);
        owner.clear(slot);
        set.top().release(mode, owner.stripe(), decisions);
    }

    /// Records that the owner ended in the middle of what it did with the names it holds exclusively.
    pub(crate) fn abandon(&self, set: &Set, owner: &Owner) {
        let name = owner.name_arc();
        if self.all() == Some(Mode::Exclusive) {
            set.abandon(&set.list(), name);
        } else {
            set.abandon(self.members.exclusive(), name);
        }
    }

    /// Gives back all but these; returns `None` if that leaves nothing.
    ///
    /// # Errors
    /// A name that is not held; nothing changes then.
    pub(crate) fn keep(
        mut self,
        set: &Set,
        names: &Names,
        owner: &Owner,
        decisions: &mut Decisions,
    ) -> Result<Option<Self>, (Self, NotHeld)> {
        let Which::These(kept) = &names.0 else { return Ok(Some(self)) };
        if let Err(not_held) = self.check_held(set, kept) {
            return Err((self, not_held));
        }
        self.spread(set, kept, owner);
        let (stay, go) = std::mem::take(self.members.each())
            .into_iter()
            .partition(|hold| is_among(kept, name_of(hold)));
        *self.members.each() = stay;
        Ok(self.without(set, go, owner, decisions))
    }

    /// Gives these back; returns `None` if that leaves nothing.
    ///
    /// # Errors
    /// A name that is not held; nothing changes then.
    pub(crate) fn release(
        mut self,
        set: &Set,
        names: &Names,
        owner: &Owner,
        decisions: &mut Decisions,
    ) -> Result<Option<Self>, (Self, NotHeld)> {
        let Which::These(released) = &names.0 else {
            self.release_all(set, owner, decisions);
            return Ok(None);
        };
        if released.is_empty() {
            return Ok(Some(self));
        }
        if let Err(not_held) = self.check_held(set, released) {
            return Err((self, not_held));
        }
        if self.all().is_some() {
            let kept = self.names_but(set, released).into();
            return self.keep(set, &Names(Which::These(kept)), owner, decisions);
        }
        let (go, stay) = std::mem::take(self.members.each())
            .into_iter()
            .partition(|hold| is_among(released, name_of(hold)));
        *self.members.each() = stay;
        Ok(self.without(set, go, owner, decisions))
    }

    /// Releases some holds taken out before, and what of the set-lock the rest does not need.
    fn without(
        mut self,
        set: &Set,
        go: Vec<Hold>,
        owner: &Owner,
        decisions: &mut Decisions,
    ) -> Option<Self> {
        for hold in go.into_iter().rev() {
            hold.release(owner, decisions);
        }
        if self.members.is_empty() {
            self.release_all(set, owner, decisions);
            return None;
        }
        self.narrow_top(set, owner, decisions);
        Some(self)
    }

    /// Makes every name held shared, or these.
    ///
    /// # Errors
    /// A name that is not held; nothing changes then.
    pub(crate) fn downgrade(
        &mut self,
        set: &Set,
        names: &Names,
        owner: &Owner,
        decisions: &mut Decisions,
    ) -> Result<(), NotHeld> {
        match &names.0 {
            Which::All if self.all().is_some() => self.downgrade_all(set, owner, decisions),
            Which::All => self.downgrade_some(set, &self.names_held(set), owner, decisions),
            Which::These(these) => {
                self.check_held(set, these)?;
                self.downgrade_some(set, these, owner, decisions);
            }
        }
        Ok(())
    }

    /// Goes on with the set-lock alone, which gives every name in the mode it leads to.
    fn downgrade_all(&mut self, set: &Set, owner: &Owner, decisions: &mut Decisions) {
        std::mem::take(&mut self.members).release(owner, decisions);
        self.downgrade_top(set, owner, Mode::Shared, decisions);
    }

    fn downgrade_some(
        &mut self,
        set: &Set,
        names: &[Name],
        owner: &Owner,
        decisions: &mut Decisions,
    ) {
        let from_all = self.top.0 == Mode::Exclusive && !names.is_empty();
        if from_all {
            self.spread(set, &self.names_and(set, names), owner);
        }
        for hold in self.members.each() {
            if is_among(names, name_of(hold)) {
                hold.downgrade(owner, Mode::Shared, decisions);
            }
        }
        if from_all {
            self.narrow_top(set, owner, decisions);
        } else {
            self.settle_top(set, owner, decisions);
        }
    }

    /// Makes names held shared exclusive, without waiting, until one is not free for it; `last` says that nothing deeper is
    /// held, so that waiting for the greatest name held cannot deadlock.
    ///
    /// # Errors
    /// A name that is not held; nothing changes then.
    pub(crate) fn upgrade(
        &mut self,
        set: &Set,
        names: &Names,
        last: bool,
        owner: &Owner,
    ) -> Result<Upgrading, NotHeld> {
        if self.all().is_some() {
            return self.upgrade_all(set, names, last, owner);
        }
        let wanted: Vec<usize> = match &names.0 {
            Which::All => (0..self.members.len()).collect(),
            Which::These(these) => {
                self.check_held(set, these)?;
                these.iter().filter_map(|name| self.members.position(name).ok()).collect()
            }
        };
        let intention = self.top.0.join(Mode::IntentExclusive);
        if !wanted.is_empty() && !self.try_convert_top(set, owner, intention) {
            return Ok(Upgrading::stuck(&self.top(set), intention));
        }
        for at in wanted {
            let greatest = at + 1 == self.members.len();
            let hold = &mut self.members.each()[at];
            if !hold.try_convert(owner, Mode::Exclusive) {
                return Ok(if last && greatest {
                    Upgrading::Blocked { member: Some(at), to: Mode::Exclusive }
                } else {
                    Upgrading::stuck(hold, Mode::Exclusive)
                });
            }
        }
        Ok(Upgrading::Done)
    }

    /// Upgrades where every name is held shared through the set-lock: all of them by it, or some by themselves.
    fn upgrade_all(
        &mut self,
        set: &Set,
        names: &Names,
        last: bool,
        owner: &Owner,
    ) -> Result<Upgrading, NotHeld> {
        match &names.0 {
            Which::These(these) => self.upgrade_some(set, these, owner),
            Which::All if self.try_convert_top(set, owner, Mode::Exclusive) => Ok(Upgrading::Done),
            Which::All if last && self.members.is_empty() => {
                Ok(Upgrading::Blocked { member: None, to: Mode::Exclusive })
            }
            Which::All => Ok(Upgrading::stuck(&self.top(set), Mode::Exclusive)),
        }
    }

    /// Holds some names exclusively and the set-lock in `SharedIntentExclusive` beside them.
    fn upgrade_some(
        &mut self,
        set: &Set,
        names: &[Name],
        owner: &Owner,
    ) -> Result<Upgrading, NotHeld> {
        self.check_held(set, names)?;
        if names.is_empty() || self.top.0 == Mode::Exclusive {
            return Ok(Upgrading::Done);
        }
        if !self.try_convert_top(set, owner, Mode::SharedIntentExclusive) {
            return Ok(Upgrading::stuck(&self.top(set), Mode::SharedIntentExclusive));
        }
        for name in names {
            let Some(lock) = set.find(name).filter(|_| self.members.position(name).is_err()) else {
                continue;
            };
            match try_take(&lock, Mode::Exclusive, owner) {
                Some(hold) => self.adopt(vec![hold]),
                None => {
                    let (held, to) = (Mode::Shared, Mode::Exclusive);
                    return Ok(Upgrading::Stuck { lock, held, to });
                }
            }
        }
        Ok(Upgrading::Done)
    }

    /// What is held how, to be restored if an upgrade fails half way.
    pub(crate) fn modes(&self) -> Modes {
        let members = self.members.iter().map(|(_, mode, slot)| (slot, mode)).collect();
        Modes { top: self.top.0, members }
    }

    /// What is held in a stronger mode than it was, and that mode; the set-lock first.
    pub(crate) fn stronger_than(&self, set: &Set, modes: &Modes) -> Vec<(Hold, Mode)> {
        let members = (0..self.members.len()).map(|at| self.members.hold(at));
        let before = modes.members.iter().map(|(_, mode)| *mode);
        iter::once((self.top(set), modes.top))
            .chain(members.zip(before))
            .filter(|(hold, before)| hold.mode != *before)
            .collect()
    }

    /// Records that all is held as it was again, by the hand of whoever ended the upgrade.
    pub(crate) fn restored(&mut self, modes: &Modes) {
        self.top.0 = modes.top;
        for (hold, (_, mode)) in self.members.each().iter_mut().zip(&modes.members) {
            hold.mode = *mode;
        }
    }

    pub(crate) fn restore(
        &mut self,
        set: &Set,
        modes: &Modes,
        owner: &Owner,
        decisions: &mut Decisions,
    ) {
        let members = self.members.each();
        for mut hold in std::mem::take(members) {
            match modes.members.iter().find(|(slot, _)| *slot == hold.slot) {
                Some((_, mode)) => {
                    hold.downgrade(owner, *mode, decisions);
                    members.push(hold);
                }
                None => hold.release(owner, decisions),
            }
        }
        self.downgrade_top(set, owner, modes.top, decisions);
    }

    /// The conversion that an upgrade waits for.
    pub(crate) fn conversion(
        &self,
        set: &Set,
        member: Option<usize>,
        to: Mode,
        owner: &Owner,
    ) -> Conversion {
        let hold = member.map_or_else(|| self.top(set), |at| self.members.hold(at));
        Conversion::new(owner, hold, to)
    }

    /// Records that the conversion was granted.
    pub(crate) fn converted(&mut self, member: Option<usize>, to: Mode) {
        match member {
            None => self.top.0 = to,
            Some(at) => self.members.each()[at].mode = to,
        }
    }

    /// Takes in members that were added already held.
    pub(crate) fn adopt(&mut self, added: Vec<Hold>) {
        let members = self.members.each();
        members.extend(added);
        members.sort_unstable_by(|a, b| name_of(a).cmp(name_of(b)));
    }

    /// Takes out the hold of a name that is about to be deleted.
    pub(crate) fn take_out(&mut self, set: &Set, name: &str, owner: &Owner) -> Option<Hold> {
        match self.members.position(name) {
            Ok(at) => Some(self.members.each().remove(at)),
            Err(_) => Some(take_free(set.find(name)?, Mode::Exclusive, owner)),
        }
    }

    /// Holds nothing but an intention.
    pub(crate) fn is_void(&self) -> bool {
        self.members.is_empty() && self.all().is_none()
    }

    /// Holds these names by themselves where the set-lock gives all of them. The set-lock stays as it is until they are as
    /// they shall be: whoever is let in there finds them so.
    fn spread(&mut self, set: &Set, names: &[Name], owner: &Owner) {
        let Some((mode, locks)) = self.given_by_all(set, names) else { return };
        self.adopt(locks.into_iter().map(|lock| take_free(lock, mode, owner)).collect());
    }

    /// The names held, as names are asked for.
    fn names_held(&self, set: &Set) -> Vec<Name> {
        self.names(set).iter().map(Name::from).collect()
    }

    /// The names held and these, which may come on demand.
    pub(crate) fn names_and(&self, set: &Set, names: &[Name]) -> Vec<Name> {
        let mut all = self.names_held(set);
        all.extend_from_slice(names);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Weakens the set-lock to what is needed of it.
    pub(crate) fn settle_top(&mut self, set: &Set, owner: &Owner, decisions: &mut Decisions) {
        if self.all().is_some() {
            self.settle_all(set, owner, decisions);
        } else {
            self.narrow_top(set, owner, decisions);
        }
    }

    /// Weakens the set-lock to the intention that the members need.
    fn narrow_top(&mut self, set: &Set, owner: &Owner, decisions: &mut Decisions) {
        if let Some(needed) = self.needed() {
            self.downgrade_top(set, owner, needed, decisions);
        }
    }

    fn downgrade_top(&mut self, set: &Set, owner: &Owner, to: Mode, decisions: &mut Decisions) {
        self.top(set).downgrade(owner, to, decisions);
        self.top.0 = to;
    }

    fn try_convert_top(&mut self, set: &Set, owner: &Owner, to: Mode) -> bool {
        let converted = self.top(set).try_convert(owner, to);
        if converted {
            self.top.0 = to;
        }
        converted
    }

    /// Gives up members that are held no stronger than the set-lock holds them.
    fn settle_all(&mut self, set: &Set, owner: &Owner, decisions: &mut Decisions) {
        let members = self.members.each();
        for hold in std::mem::take(members) {
            if hold.mode == Mode::Exclusive {
                members.push(hold);
            } else {
                hold.release(owner, decisions);
            }
        }
        if self.members.is_empty() && self.top.0 == Mode::SharedIntentExclusive {
            self.downgrade_top(set, owner, Mode::Shared, decisions);
        }
    }

    /// The intention that the members need of the set-lock.
    fn needed(&self) -> Option<Mode> {
        self.members.iter().map(|(_, mode, _)| mode.intention()).reduce(Mode::join)
    }

    fn check_held(&self, set: &Set, names: &[Name]) -> Result<(), NotHeld> {
        match names.iter().find(|name| self.mode_of(set, name).is_none()) {
            None => Ok(()),
            Some(name) => Err(NotHeld(set.full_name(name))),
        }
    }
}

impl Upgrading {
    fn stuck(hold: &Hold, to: Mode) -> Self {
        Self::Stuck { lock: Arc::clone(&hold.lock), held: hold.mode, to }
    }
}

/// Tells whether a name is among these, which are in byte order.
fn is_among(names: &[Name], name: &str) -> bool {
    names.binary_search_by(|other| (**other).cmp(name)).is_ok()
}

fn name_of(hold: &Hold) -> &Arc<str> {
    hold.lock.name().name_arc()
}

/// Takes a lock if it is free for it.
fn try_take(lock: &Arc<Lock>, mode: Mode, owner: &Owner) -> Option<Hold> {
    let id = LockId::of(lock);
    let slot = owner.reserve(id);
    // The most urgent priority there is: whoever waits for a name while the set-lock keeps it free waits in vain.
    let mut decisions = Vec::new();
    let tried = lock.try_take_at(mode, i32::MIN, owner.stripe(), &mut decisions);
    dispatch(decisions);
    if tried == Tried::Taken {
        owner.record_hold(slot, id, mode);
        Some(Hold { lock: Arc::clone(lock), mode, slot })
    } else {
        owner.clear(slot);
        None
    }
}

/// Takes a lock that nobody else can hold, since the set-lock keeps them out or nobody knows of it yet.
///
/// # Panics
/// If that is not so, which is a defect of this crate.
pub(crate) fn take_free(lock: Arc<Lock>, mode: Mode, owner: &Owner) -> Hold {
    match try_take(&lock, mode, owner) {
        Some(hold) => hold,
        None => {
            panic!("{} was to be kept free by its set-lock, but is {:?}", lock.name(), lock.held())
        }
    }
}
