//! What one owner holds in one set, and every way to give some of it back or to hold it otherwise.
//!
//! Invariant: the set-lock is held in a mode that covers the intention of every member held, and its hold goes last.

use std::iter;
use std::sync::Arc;

use crate::core::mode::Mode;
use crate::error::Abandoned;
use crate::hold::{Decisions, Had, Hold, Lock};
use crate::name::LockName;
use crate::owner::{LockId, Owner, Slot};
use crate::raw::Tried;
use crate::request::{Names, Which};
use crate::set::Set;
use crate::task::{Conversion, Directory};

#[derive(Debug)]
pub(crate) struct SetHold {
    set: Arc<Set>,
    top: Hold,
    /// In byte order of their names.
    members: Vec<Hold>,
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
    pub(crate) fn new(set: &Arc<Set>, had: Had) -> Option<Self> {
        Some(Self { set: Arc::clone(set), top: had.top?, members: had.members })
    }

    pub(crate) fn set(&self) -> &Arc<Set> {
        &self.set
    }

    /// The mode in which every name is held through the set-lock.
    pub(crate) fn all(&self) -> Option<Mode> {
        match self.top.mode {
            Mode::Exclusive => Some(Mode::Exclusive),
            Mode::Shared | Mode::SharedIntentExclusive => Some(Mode::Shared),
            Mode::IntentShared | Mode::IntentExclusive => None,
        }
    }

    pub(crate) fn top_mode(&self) -> Mode {
        self.top.mode
    }

    /// The mode in which this name is held.
    pub(crate) fn mode_of(&self, name: &str) -> Option<Mode> {
        match self.position(name) {
            Ok(at) => Some(self.members[at].mode),
            Err(_) => self.all().filter(|_| self.set.offers(name)),
        }
    }

    /// The names held, in byte order.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        match self.all() {
            Some(_) => self.set.names(),
            None => self.members.iter().map(|hold| Arc::clone(name_of(hold))).collect(),
        }
    }

    /// One lock held and its mode, to name in an error.
    pub(crate) fn witness(&self) -> (LockName, Mode) {
        let hold = self.members.first().unwrap_or(&self.top);
        (hold.lock.name().clone(), hold.mode)
    }

    /// Tells of members that were abandoned and are held exclusively now.
    pub(crate) fn take_abandoned(&self) -> Vec<Abandoned> {
        if self.all() == Some(Mode::Exclusive) {
            return self.set.take_abandoned(None);
        }
        let exclusive: Vec<_> =
            self.members.iter().filter(|h| h.mode == Mode::Exclusive).map(|h| &h.lock).collect();
        if exclusive.is_empty() { Vec::new() } else { self.set.take_abandoned(Some(&exclusive)) }
    }

    /// Gives everything back, the set-lock last.
    pub(crate) fn release_all(self, owner: &Owner, decisions: &mut Decisions) {
        Had { top: Some(self.top), members: self.members }.release(owner, decisions);
    }

    /// Records that the owner ended in the middle of what it did with the names it holds exclusively.
    pub(crate) fn abandon(&self, owner: &Owner) {
        let name = owner.name_arc();
        if self.all() == Some(Mode::Exclusive) {
            self.set.abandon(&self.set.list(), name);
        } else {
            let exclusive = self.members.iter().filter(|hold| hold.mode == Mode::Exclusive);
            self.set.abandon(exclusive.map(|hold| &hold.lock), name);
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
        let (stay, go) = std::mem::take(&mut self.members)
            .into_iter()
            .partition(|hold| kept.binary_search(name_of(hold)).is_ok());
        self.members = stay;
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
            let mut kept = self.names();
            kept.retain(|name| released.binary_search(name).is_err());
            return self.keep(&Names(Which::These(kept)), owner, decisions);
        }
        let (go, stay) = std::mem::take(&mut self.members)
            .into_iter()
            .partition(|hold| released.binary_search(name_of(hold)).is_ok());
        self.members = stay;
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
        for hold in std::mem::take(&mut self.members).into_iter().rev() {
            hold.release(owner, decisions);
        }
        self.top.downgrade(owner, Mode::Shared, decisions);
    }

    fn downgrade_some(&mut self, names: &[Arc<str>], owner: &Owner, decisions: &mut Decisions) {
        let from_all = self.top.mode == Mode::Exclusive && !names.is_empty();
        if from_all {
            self.spread(&self.names_and(names), owner);
        }
        for hold in &mut self.members {
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
                these.iter().filter_map(|name| self.position(name).ok()).collect()
            }
        };
        let intention = self.top.mode.join(Mode::IntentExclusive);
        if !wanted.is_empty() && !self.top.try_convert(owner, intention) {
            return Ok(Upgrading::stuck(&self.top, intention));
        }
        for at in wanted {
            let greatest = at + 1 == self.members.len();
            let hold = &mut self.members[at];
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
            Which::All if self.top.try_convert(owner, Mode::Exclusive) => Ok(Upgrading::Done),
            Which::All if last && self.members.is_empty() => {
                Ok(Upgrading::Blocked { member: None, to: Mode::Exclusive })
            }
            Which::All => Ok(Upgrading::stuck(&self.top, Mode::Exclusive)),
        }
    }

    /// Holds some names exclusively and the set-lock in `SharedIntentExclusive` beside them.
    fn upgrade_some(&mut self, names: &[Arc<str>], owner: &Owner) -> Result<Upgrading, NotHeld> {
        self.check_held(names)?;
        if names.is_empty() || self.top.mode == Mode::Exclusive {
            return Ok(Upgrading::Done);
        }
        if !self.top.try_convert(owner, Mode::SharedIntentExclusive) {
            return Ok(Upgrading::stuck(&self.top, Mode::SharedIntentExclusive));
        }
        for name in names {
            let Some(lock) = self.set.find(name).filter(|_| self.position(name).is_err()) else {
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
        let members = self.members.iter().map(|hold| (hold.slot, hold.mode)).collect();
        Modes { top: self.top.mode, members }
    }

    /// What is held in a stronger mode than it was, and that mode; the set-lock first.
    pub(crate) fn stronger_than(&self, modes: &Modes) -> Vec<(Hold, Mode)> {
        let members =
            self.members.iter().zip(&modes.members).map(|(hold, (_, mode))| (hold, *mode));
        iter::once((&self.top, modes.top))
            .chain(members)
            .filter(|(hold, mode)| hold.mode != *mode)
            .map(|(hold, mode)| (hold.again(), mode))
            .collect()
    }

    /// Records that all is held as it was again, by the hand of whoever ended the upgrade.
    pub(crate) fn restored(&mut self, modes: &Modes) {
        self.top.mode = modes.top;
        for (hold, (_, mode)) in self.members.iter_mut().zip(&modes.members) {
            hold.mode = *mode;
        }
    }

    pub(crate) fn restore(&mut self, modes: &Modes, owner: &Owner, decisions: &mut Decisions) {
        for mut hold in std::mem::take(&mut self.members) {
            match modes.members.iter().find(|(slot, _)| *slot == hold.slot) {
                Some((_, mode)) => {
                    hold.downgrade(owner, *mode, decisions);
                    self.members.push(hold);
                }
                None => hold.release(owner, decisions),
            }
        }
        self.top.downgrade(owner, modes.top, decisions);
    }

    /// The conversion that an upgrade waits for.
    pub(crate) fn conversion(&self, member: Option<usize>, to: Mode, owner: &Owner) -> Conversion {
        let hold = member.map_or(&self.top, |at| &self.members[at]);
        Conversion::new(owner, hold.again(), to)
    }

    /// Records that the conversion was granted.
    pub(crate) fn converted(&mut self, member: Option<usize>, to: Mode) {
        let hold = member.map_or(&mut self.top, |at| &mut self.members[at]);
        hold.mode = to;
    }

    /// Takes in members that were added already held.
    pub(crate) fn adopt(&mut self, added: Vec<Hold>) {
        self.members.extend(added);
        self.members.sort_unstable_by(|a, b| name_of(a).cmp(name_of(b)));
    }

    /// Takes out the hold of a name that is about to be deleted.
    pub(crate) fn take_out(&mut self, name: &Arc<str>, owner: &Owner) -> Option<Hold> {
        match self.position(name) {
            Ok(at) => Some(self.members.remove(at)),
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
        let Some(mode) = self.all() else { return };
        let new: Vec<_> = names
            .iter()
            .filter(|name| self.position(name).is_err())
            .filter_map(|name| self.set.find(name))
            .map(|lock| take_free(lock, mode, owner))
            .collect();
        self.adopt(new);
    }

    /// The names held and these, which may come on demand.
    fn names_and(&self, names: &[Arc<str>]) -> Vec<Arc<str>> {
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
            self.top.downgrade(owner, needed, decisions);
        }
    }

    /// Gives up members that are held no stronger than the set-lock holds them.
    fn settle_all(&mut self, owner: &Owner, decisions: &mut Decisions) {
        for hold in std::mem::take(&mut self.members) {
            if hold.mode == Mode::Exclusive {
                self.members.push(hold);
            } else {
                hold.release(owner, decisions);
            }
        }
        if self.members.is_empty() && self.top.mode == Mode::SharedIntentExclusive {
            self.top.downgrade(owner, Mode::Shared, decisions);
        }
    }

    /// The intention that the members need of the set-lock.
    fn needed(&self) -> Option<Mode> {
        self.members.iter().map(|hold| hold.mode.intention()).reduce(Mode::join)
    }

    fn check_held(&self, names: &[Arc<str>]) -> Result<(), NotHeld> {
        match names.iter().find(|name| self.mode_of(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(NotHeld(self.set.full_name(name))),
        }
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.members.binary_search_by(|hold| name_of(hold).as_ref().cmp(name))
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
