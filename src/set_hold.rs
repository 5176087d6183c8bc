//! What one owner holds in one set, and every way to give some of it back or to hold it otherwise.
//!
//! Invariant: the set-lock is held in a mode that covers the intention of every member held, and its hold goes last.

use std::iter;
use std::sync::Arc;

use crate::bundle::{Bundle, Had};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::Abandoned;
use crate::hold::{Decisions, Hold, Lock, dispatch};
use crate::name::LockName;
use crate::owner::{LockId, Owner, Slot};
use crate::raw::Tried;
use crate::request::{Names, Which};
use crate::set::Set;
use crate::task::{Conversion, Directory, Members, take_at_once, take_each};

#[derive(Debug)]
pub(crate) struct SetHold {
    set: Arc<Set>,
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
    pub(crate) fn new(set: &Arc<Set>, mode: Mode, had: Had) -> Option<Self> {
        Some(Self { set: Arc::clone(set), top: (mode, had.top?), members: had.members })
    }

    /// Takes the set-lock and members in these modes, if all of them are asked for and can be had at once.
    #[inline]
    pub(crate) fn at_once(
        set: &Arc<Set>,
        (top_mode, mode): (Mode, Mode),
        members: &Members,
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
        if take_at_once(top, top_mode, priority, owner, slot) != Tried::Taken {
            owner.clear(slot);
            return None;
        }
        let members = Bundle::default();
        let mut hold = Self { set: Arc::clone(set), top: (top_mode, slot), members };
        let Some(locks) = locks else { return Some(hold) };
        let slots = hold.members.alike(locks, mode);
        if take_each(locks, mode, priority, owner, slots) == Tried::Taken {
            return Some(hold);
        }
        let mut decisions = Vec::new();
        hold.release_all(owner, &mut decisions);
        dispatch(decisions);
        None
    }

    pub(crate) fn set(&self) -> &Arc<Set> {
        &self.set
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
    fn top(&self) -> Hold {
        Hold { lock: Arc::clone(self.set.top()), mode: self.top.0, slot: self.top.1 }
    }

    /// The mode in which this name is held.
    pub(crate) fn mode_of(&self, name: &str) -> Option<Mode> {
        match self.members.position(name) {
            Ok(at) => Some(self.members.get(at).1),
            Err(_) => self.all().filter(|_| self.set.offers(name)),
        }
    }

    /// The names held, in byte order.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        match self.all() {
            Some(_) => self.set.names(),
            None => {
                self.members.iter().map(|(lock, ..)| Arc::clone(lock.name().name_arc())).collect()
            }
        }
    }

    /// The locks held, the set-lock first.
    #[cfg(feature = "coordination")]
    pub(crate) fn locks(&self) -> Vec<Arc<Lock>> {
        let members = self.members.iter().map(|(lock, ..)| Arc::clone(lock));
        iter::once(Arc::clone(self.set.top())).chain(members).collect()
    }

    /// The lock of this name if it is held; with the mode, if the set-lock alone gives it.
    #[cfg(feature = "coordination")]
    pub(crate) fn lock_of(&self, name: &Arc<str>) -> Option<(Arc<Lock>, Option<Mode>)> {
        match self.members.position(name) {
            Ok(at) => Some((Arc::clone(self.members.get(at).0), None)),
            Err(_) => Some((self.set.find(name)?, Some(self.mode_of(name)?))),
        }
    }

    /// The locks of these names, as far as the set-lock gives them and they are not held by themselves; and the mode in which
    /// they are held so.
    pub(crate) fn given_by_all(&self, names: &[Arc<str>]) -> Option<(Mode, Vec<Arc<Lock>>)> {
        let mode = self.all()?;
        let alone = names.iter().filter(|name| self.members.position(name).is_err());
        Some((mode, alone.filter_map(|name| self.set.find(name)).collect()))
    }

    /// The locks of these names that are held, in whatever mode, or given by the set-lock alone.
    pub(crate) fn concerned(&self, names: &Names) -> Vec<(Arc<Lock>, Option<Mode>)> {
        let asked = |lock: &Arc<Lock>| match &names.0 {
            Which::All => true,
            Which::These(these) => these.binary_search(lock.name().name_arc()).is_ok(),
        };
        let held = self.members.iter().filter(|(lock, ..)| asked(lock));
        let held = held.map(|(lock, mode, _)| (Arc::clone(lock), Some(mode)));
        let given = match &names.0 {
            Which::These(these) => self.given_by_all(these).map(|(_, locks)| locks),
            Which::All => None,
        };
        held.chain(given.unwrap_or_default().into_iter().map(|lock| (lock, None))).collect()
    }

    /// One lock held and its mode, to name in an error.
    pub(crate) fn witness(&self) -> (LockName, Mode) {
        match self.members.iter().next() {
            Some((lock, mode, _)) => (lock.name().clone(), mode),
            None => (self.set.top().name().clone(), self.top.0),
        }
    }

    /// Tells of members that were abandoned and are held exclusively now.
    pub(crate) fn take_abandoned(&self) -> Vec<Abandoned> {
        if self.all() == Some(Mode::Exclusive) {
            return self.set.take_abandoned(None);
        }
        if !self.set.has_abandoned() {
            return Vec::new();
        }
        let exclusive: Vec<_> = self.members.exclusive().collect();
        if exclusive.is_empty() { Vec::new() } else { self.set.take_abandoned(Some(&exclusive)) }
    }

    /// Gives everything back, the set-lock last.
    #[inline]
    pub(crate) fn release_all(self, owner: &Owner, decisions: &mut Decisions) {
        let Self { set, top: (mode, slot), members } = self;
        members.release(owner, decisions);
        owner.clear(slot);
        set.top().release(mode, decisions);
    }

    /// Records that the owner ended in the middle of what it did with the names it holds exclusively.
    pub(crate) fn abandon(&self, owner: &Owner) {
        let name = owner.name_arc();
        if self.all() == Some(Mode::Exclusive) {
            self.set.abandon(&self.set.list(), name);
        } else {
            self.set.abandon(self.members.exclusive(), name);
        }
    }

    /// Gives back all but these; returns `None` if that leaves nothing.
    ///
    /// # Errors
    /// A name that is not held; nothing changes then.
    pub(crate) fn keep(
        mut self,
        names: &Names,
        owner: &Owner,
        decisions: &mut Decisions,
    ) -> Result<Option<Self>, (Self, NotHeld)> {
        let Which::These(kept) = &names.0 else { return Ok(Some(self)) };
        if let Err(not_held) = self.check_held(kept) {
            return Err((self, not_held));
        }
        self.spread(kept, owner);
        let (stay, go) = std::mem::take(self.members.each())
            .into_iter()
            .partition(|hold| kept.binary_search(name_of(hold)).is_ok());
        *self.members.each() = stay;
        Ok(self.without(go, owner, decisions))
    }

    /// Gives these back; returns `None` if that leaves nothing.
    ///
    /// # Errors
    /// A name that is not held; nothing changes then.
    pub(crate) fn release(
        mut self,
        names: &Names,
        owner: &Owner,
        decisions: &mut Decisions,
    ) -> Result<Option<Self>, (Self, NotHeld)> {
        let Which::These(released) = &names.0 else {
            self.release_all(owner, decisions);
            return Ok(None);
        };
        if released.is_empty() {
            return Ok(Some(self));
        }
        if let Err(not_held) = self.check_held(released) {
            return Err((self, not_held));
        }
        if self.all().is_some() {
            let kept = self.names_but(released).into();
            return self.keep(&Names(Which::These(kept)), owner, decisions);
        }
        let (go, stay) = std::mem::take(self.members.each())
            .into_iter()
            .partition(|hold| released.binary_search(name_of(hold)).is_ok());
        *self.members.each() = stay;
        Ok(self.without(go, owner, decisions))
    }

    /// Releases some holds taken out before, and what of the set-lock the rest does not need.
    fn without(mut self, go: Vec<Hold>, owner: &Owner, decisions: &mut Decisions) -> Option<Self> {
        for hold in go.into_iter().rev() {
            hold.release(owner, decisions);
        }
        if self.members.is_empty() {
            self.release_all(owner, decisions);
            return None;
        }
        self.narrow_top(owner, decisions);
        Some(self)
    }

    /// Makes every name held shared, or these.
    ///
    /// # Errors
    /// A name that is not held; nothing changes then.
    pub(crate) fn downgrade(
        &mut self,
        names: &Names,
        owner: &Owner,
        decisions: &mut Decisions,
    ) -> Result<(), NotHeld> {
        match &names.0 {
            Which::All if self.all().is_some() => self.downgrade_all(owner, decisions),
            Which::All => self.downgrade_some(&self.names(), owner, decisions),
            Which::These(these) => {
                self.check_held(these)?;
                self.downgrade_some(these, owner, decisions);
            }
        }
        Ok(())
    }

    /// Goes on with the set-lock alone, which gives every name in the mode it leads to.
    fn downgrade_all(&mut self, owner: &Owner, decisions: &mut Decisions) {
        std::mem::take(&mut self.members).release(owner, decisions);
        self.downgrade_top(owner, Mode::Shared, decisions);
    }

    fn downgrade_some(&mut self, names: &[Arc<str>], owner: &Owner, decisions: &mut Decisions) {
        let from_all = self.top.0 == Mode::Exclusive && !names.is_empty();
        if from_all {
            self.spread(&self.names_and(names), owner);
        }
        for hold in self.members.each() {
            if names.binary_search(name_of(hold)).is_ok() {
                hold.downgrade(owner, Mode::Shared, decisions);
            }
        }
        if from_all {
            self.narrow_top(owner, decisions);
        } else {
            self.settle_top(owner, decisions);
        }
    }

    /// Makes names held shared exclusive, without waiting, until one is not free for it; `last` says that nothing deeper is
    /// held, so that waiting for the greatest name held cannot deadlock.
    ///
    /// # Errors
    /// A name that is not held; nothing changes then.
    pub(crate) fn upgrade(
        &mut self,
        names: &Names,
        last: bool,
        owner: &Owner,
    ) -> Result<Upgrading, NotHeld> {
        if self.all().is_some() {
            return self.upgrade_all(names, last, owner);
        }
        let wanted: Vec<usize> = match &names.0 {
            Which::All => (0..self.members.len()).collect(),
            Which::These(these) => {
                self.check_held(these)?;
                these.iter().filter_map(|name| self.members.position(name).ok()).collect()
            }
        };
        let intention = self.top.0.join(Mode::IntentExclusive);
        if !wanted.is_empty() && !self.try_convert_top(owner, intention) {
            return Ok(Upgrading::stuck(&self.top(), intention));
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
        names: &Names,
        last: bool,
        owner: &Owner,
    ) -> Result<Upgrading, NotHeld> {
        match &names.0 {
            Which::These(these) => self.upgrade_some(these, owner),
            Which::All if self.try_convert_top(owner, Mode::Exclusive) => Ok(Upgrading::Done),
            Which::All if last && self.members.is_empty() => {
                Ok(Upgrading::Blocked { member: None, to: Mode::Exclusive })
            }
            Which::All => Ok(Upgrading::stuck(&self.top(), Mode::Exclusive)),
        }
    }

    /// Holds some names exclusively and the set-lock in `SharedIntentExclusive` beside them.
    fn upgrade_some(&mut self, names: &[Arc<str>], owner: &Owner) -> Result<Upgrading, NotHeld> {
        self.check_held(names)?;
        if names.is_empty() || self.top.0 == Mode::Exclusive {
            return Ok(Upgrading::Done);
        }
        if !self.try_convert_top(owner, Mode::SharedIntentExclusive) {
            return Ok(Upgrading::stuck(&self.top(), Mode::SharedIntentExclusive));
        }
        for name in names {
            let Some(lock) = self.set.find(name).filter(|_| self.members.position(name).is_err())
            else {
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
    pub(crate) fn stronger_than(&self, modes: &Modes) -> Vec<(Hold, Mode)> {
        let members = (0..self.members.len()).map(|at| self.members.hold(at));
        let before = modes.members.iter().map(|(_, mode)| *mode);
        iter::once((self.top(), modes.top))
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

    pub(crate) fn restore(&mut self, modes: &Modes, owner: &Owner, decisions: &mut Decisions) {
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
        self.downgrade_top(owner, modes.top, decisions);
    }

    /// The conversion that an upgrade waits for.
    pub(crate) fn conversion(&self, member: Option<usize>, to: Mode, owner: &Owner) -> Conversion {
        let hold = member.map_or_else(|| self.top(), |at| self.members.hold(at));
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
    pub(crate) fn take_out(&mut self, name: &Arc<str>, owner: &Owner) -> Option<Hold> {
        match self.members.position(name) {
            Ok(at) => Some(self.members.each().remove(at)),
            Err(_) => Some(take_free(self.set.find(name)?, Mode::Exclusive, owner)),
        }
    }

    /// Holds nothing but an intention.
    pub(crate) fn is_void(&self) -> bool {
        self.members.is_empty() && self.all().is_none()
    }

    /// Holds these names by themselves where the set-lock gives all of them. The set-lock stays as it is until they are as
    /// they shall be: whoever is let in there finds them so.
    fn spread(&mut self, names: &[Arc<str>], owner: &Owner) {
        let Some((mode, locks)) = self.given_by_all(names) else { return };
        self.adopt(locks.into_iter().map(|lock| take_free(lock, mode, owner)).collect());
    }

    /// The names held and not these.
    pub(crate) fn names_but(&self, names: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut rest = self.names();
        rest.retain(|name| names.binary_search(name).is_err());
        rest
    }

    /// The names held and these, which may come on demand.
    pub(crate) fn names_and(&self, names: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut all = self.names();
        all.extend_from_slice(names);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Weakens the set-lock to what is needed of it.
    pub(crate) fn settle_top(&mut self, owner: &Owner, decisions: &mut Decisions) {
        if self.all().is_some() {
            self.settle_all(owner, decisions);
        } else {
            self.narrow_top(owner, decisions);
        }
    }

    /// Weakens the set-lock to the intention that the members need.
    fn narrow_top(&mut self, owner: &Owner, decisions: &mut Decisions) {
        if let Some(needed) = self.needed() {
            self.downgrade_top(owner, needed, decisions);
        }
    }

    fn downgrade_top(&mut self, owner: &Owner, to: Mode, decisions: &mut Decisions) {
        self.top().downgrade(owner, to, decisions);
        self.top.0 = to;
    }

    fn try_convert_top(&mut self, owner: &Owner, to: Mode) -> bool {
        let converted = self.top().try_convert(owner, to);
        if converted {
            self.top.0 = to;
        }
        converted
    }

    /// Gives up members that are held no stronger than the set-lock holds them.
    fn settle_all(&mut self, owner: &Owner, decisions: &mut Decisions) {
        let members = self.members.each();
        for hold in std::mem::take(members) {
            if hold.mode == Mode::Exclusive {
                members.push(hold);
            } else {
                hold.release(owner, decisions);
            }
        }
        if self.members.is_empty() && self.top.0 == Mode::SharedIntentExclusive {
            self.downgrade_top(owner, Mode::Shared, decisions);
        }
    }

    /// The intention that the members need of the set-lock.
    fn needed(&self) -> Option<Mode> {
        self.members.iter().map(|(_, mode, _)| mode.intention()).reduce(Mode::join)
    }

    fn check_held(&self, names: &[Arc<str>]) -> Result<(), NotHeld> {
        match names.iter().find(|name| self.mode_of(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(NotHeld(self.set.full_name(name))),
        }
    }
}

impl Upgrading {
    fn stuck(hold: &Hold, to: Mode) -> Self {
        Self::Stuck { lock: Arc::clone(&hold.lock), held: hold.mode, to }
    }
}

fn name_of(hold: &Hold) -> &Arc<str> {
    hold.lock.name().name_arc()
}

/// Takes a lock if it is free for it.
fn try_take(lock: &Arc<Lock>, mode: Mode, owner: &Owner) -> Option<Hold> {
    let id = LockId::of(lock);
    let slot = owner.reserve(id);
    // The most urgent priority there is: whoever waits for a name while the set-lock keeps it free waits in vain.
    if lock.try_take(mode, i32::MIN) == Tried::Taken {
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
