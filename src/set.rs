//! The named locks of one level and the set-lock above them: finding names, adding and removing them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::beyond::Beyond;
use crate::bundle::Locks;
use crate::core::mode::Mode;
use crate::error::{Abandoned, AcquireError, BuildError, Outside};
use crate::hold::Lock;
use crate::name::{LockName, Name};
use crate::request::{Membership, SetRequest, Which};
use crate::sync::{Mutex, RwLock};
use crate::task::{Directory, Members, Stage};
use crate::waits::Tally;

/// The name under which a set-lock is shown; Ganeti's.
pub(crate) const LOCKSET: &str = "[lockset]";

/// The locks of one level.
pub(crate) struct Set {
    name: Arc<str>,
    membership: Membership,
    top: Arc<Lock>,
    /// The waits for any of its locks.
    tally: Arc<Tally>,
    members: RwLock<ByName>,
    /// Entries on demand when the dead ones were swept last.
    swept: Mutex<usize>,
    /// Who grants the locks to this process among others, if it is not alone.
    beyond: OnceLock<Arc<dyn Beyond>>,
    /// Moves with every change of the members; what a plan compares.
    generation: AtomicU64,
    any_abandoned: AtomicBool,
    /// Members abandoned and not told of yet; kept here, since one on demand would vanish with its mark.
    abandoned: Mutex<BTreeMap<Arc<str>, Arc<Lock>>>,
}

/// No caller's code runs while the members change, so no panic of theirs is seen half way.
impl RefUnwindSafe for Set {}

/// Names may come from strangers, so the hash has a seed of its own.
type ByName = HashMap<Arc<str>, Member, foldhash::fast::RandomState>;

#[derive(Debug)]
enum Member {
    Listed(Arc<Lock>),
    OnDemand(Weak<Lock>),
}

/// A name that has no lock: it is not there, or cannot be granted across processes.
#[derive(Debug)]
pub(crate) struct NoLock {
    lock: LockName,
    why: Option<Outside>,
}

impl NoLock {
    /// What the owner of this name is told, who wanted it in this mode.
    pub(crate) fn told(self, owner: Arc<str>, wanted: Mode) -> AcquireError {
        let lock = self.lock;
        match self.why {
            None => AcquireError::NotFound { owner, lock, wanted },
            #[cfg(feature = "coordination")]
            Some(reason) => AcquireError::Coordination { owner, lock, wanted, reason },
            #[cfg(not(feature = "coordination"))]
            Some(never) => match never {},
        }
    }
}

impl Member {
    fn lock(&self) -> Option<Arc<Lock>> {
        match self {
            Self::Listed(lock) => Some(Arc::clone(lock)),
            Self::OnDemand(lock) => lock.upgrade(),
        }
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set")
            .field("name", &self.name)
            .field("membership", &self.membership)
            .field("members", &self.members.read().len())
            .field("top", &self.top.held())
            .finish_non_exhaustive()
    }
}

impl Set {
    pub(crate) fn new(
        name: Arc<str>,
        membership: Membership,
        names: impl IntoIterator<Item = Arc<str>>,
    ) -> Result<Self, BuildError> {
        let tally = Arc::new(Tally::new());
        let top = Lock::new(LockName::within(&name, LOCKSET.into())).counted_in(&tally);
        // Everybody who takes a name passes by.
        let top = top.striped(Mode::IntentExclusive);
        let set = Self {
            name,
            membership,
            top: Arc::new(top),
            tally,
            members: RwLock::default(),
            swept: Mutex::new(0),
            beyond: OnceLock::new(),
            generation: AtomicU64::new(0),
            any_abandoned: AtomicBool::new(false),
            abandoned: Mutex::default(),
        };
        {
            let mut members = set.members.write();
            for name in names {
                let (lock, _) = set.make(Arc::clone(&name));
                if members.insert(name, Member::Listed(Arc::clone(&lock))).is_some() {
                    return Err(BuildError::DuplicateName { lock: lock.name().clone() });
                }
            }
        }
        Ok(set)
    }

    /// Has the locks, of which none is in use yet, granted by somebody beyond this process.
    #[cfg(feature = "coordination")]
    pub(crate) fn extend(&self, beyond: Arc<dyn Beyond>) {
        let locks = self.locks();
        if self.beyond.set(Arc::clone(&beyond)).is_ok() {
            locks.iter().for_each(|lock| drop(beyond.adopt(lock)));
        }
    }

    /// Who grants the locks to this process among others, if it is not alone.
    #[inline]
    pub(crate) fn beyond(&self) -> Option<&Arc<dyn Beyond>> {
        self.beyond.get()
    }

    /// Expects everybody to share the lock of this name, if it is there; to be called before anybody takes it.
    pub(crate) fn expect_all_at(&self, name: &Arc<str>) {
        if let Some(member) = self.members.write().get_mut(name) {
            let lock = Lock::new(self.full_name(name)).counted_in(&self.tally);
            *member = Member::Listed(Arc::new(lock.striped(Mode::Shared)));
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn top(&self) -> &Arc<Lock> {
        &self.top
    }

    pub(crate) fn membership(&self) -> Membership {
        self.membership
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How a member of this name would be called in full.
    pub(crate) fn full_name(&self, name: &str) -> LockName {
        LockName::within(&self.name, name.into())
    }

    /// The names that are there now, in byte order.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.list().iter().map(|lock| Arc::clone(lock.name().name_arc())).collect()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.members.read().get(name).and_then(Member::lock).is_some()
    }

    /// Tells whether a request for this name would find it.
    pub(crate) fn offers(&self, name: &str) -> bool {
        self.membership == Membership::OnDemand || self.contains(name)
    }

    /// The set-lock and every lock of the set, as they lie in memory: that makes looking at all of them twice as fast.
    pub(crate) fn locks(&self) -> Vec<Arc<Lock>> {
        let members = self.members.read();
        let mut locks = Vec::with_capacity(1 + members.len());
        locks.push(Arc::clone(&self.top));
        locks.extend(members.values().filter_map(Member::lock));
        drop(members);
        locks.sort_unstable_by_key(|lock| Arc::as_ptr(lock).addr());
        locks
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What a request comes to in locks; `None` if it asks for nothing.
    ///
    /// # Errors
    /// The first name that is not there.
    pub(crate) fn stage(self: &Arc<Self>, request: &SetRequest) -> Result<Option<Stage>, NoLock> {
        let Some((top_mode, members)) = self.wanted(request)? else { return Ok(None) };
        let top = (Arc::clone(&self.top), top_mode);
        // All of the set is never looked up again.
        let looks_up = !matches!(members, Members::None);
        let members = members.counted_once();
        let directory = looks_up.then(|| Arc::clone(self) as Arc<dyn Directory>);
        Ok(Some(Stage { rank: 0, top, members, mode: request.mode, directory }))
    }

    /// The mode in which a request takes the set-lock, and the members that it takes; `None` if it asks for nothing.
    ///
    /// # Errors
    /// The first name that is not there.
    pub(crate) fn wanted(&self, request: &SetRequest) -> Result<Option<(Mode, Members)>, NoLock> {
        let mode = request.mode;
        Ok(Some(match (&request.names.0, request.at_least) {
            (Which::All, None) => (mode, Members::None),
            (Which::All, Some(count)) => (mode.intention(), Members::AnyFree(count)),
            (Which::These(names), None) if names.is_empty() => return Ok(None),
            (Which::These(names), None) => {
                (mode.intention(), Members::Exactly(self.resolve(names)?))
            }
            (Which::These(names), Some(count)) => {
                let found: Vec<_> = names.iter().filter_map(|name| self.find(name)).collect();
                (mode.intention(), Members::Free(found.into(), count))
            }
        }))
    }

    /// The locks of these names, made if they come on demand.
    ///
    /// # Errors
    /// The first name that is not there.
    pub(crate) fn resolve(&self, names: &[Name]) -> Result<Locks, NoLock> {
        if let [name] = names {
            return self.look_up(name).map(Locks::One);
        }
        if self.membership == Membership::OnDemand {
            let locks: Result<Vec<_>, _> = names.iter().map(|name| self.look_up(name)).collect();
            return Ok(locks?.into());
        }
        let mut locks = Vec::with_capacity(names.len());
        let members = self.members.read();
        for name in names {
            let found = members.get(&**name).and_then(Member::lock);
            locks.push(found.ok_or_else(|| self.no_lock(name, None))?);
        }
        Ok(locks.into())
    }

    #[inline]
    fn look_up(&self, name: &str) -> Result<Arc<Lock>, NoLock> {
        if self.membership == Membership::OnDemand {
            return self.find_or_make(name).map_err(|why| self.no_lock(name, Some(why)));
        }
        let found = self.members.read().get(name).and_then(Member::lock);
        found.ok_or_else(|| self.no_lock(name, None))
    }

    #[cold]
    pub(crate) fn no_lock(&self, name: &str, why: Option<Outside>) -> NoLock {
        NoLock { lock: self.full_name(name), why }
    }

    fn find_or_make(&self, name: &str) -> Result<Arc<Lock>, Outside> {
        if let Some(lock) = self.members.read().get(name).and_then(Member::lock) {
            return Ok(lock);
        }
        self.beyond().map_or(Ok(()), |beyond| beyond.check_name(name))?;
        let mut members = self.members.write();
        if let Some(lock) = members.get(name).and_then(Member::lock) {
            return Ok(lock);
        }
        self.sweep(&mut members);
        let (lock, gone) = self.make(name.into());
        for gone in gone {
            members.remove(gone.name().name_arc());
        }
        let name = Arc::clone(lock.name().name_arc());
        members.insert(name, Member::OnDemand(Arc::downgrade(&lock)));
        Ok(lock)
    }

    /// Drops the entries of locks that vanished, each time there are twice as many as after the last sweep.
    fn sweep(&self, members: &mut ByName) {
        const SWEPT_MIN: usize = 64;
        let mut swept = self.swept.lock();
        if members.len() >= 2 * (*swept).max(SWEPT_MIN) {
            members.retain(|_, member| member.lock().is_some());
            *swept = members.len();
        }
    }

    /// A new lock, and those on demand that are members no longer.
    fn make(&self, name: Arc<str>) -> (Arc<Lock>, Vec<Arc<Lock>>) {
        let lock = Arc::new(Lock::new(LockName::within(&self.name, name)).counted_in(&self.tally));
        let gone = self.beyond().map(|beyond| beyond.adopt(&lock)).unwrap_or_default();
        (lock, gone)
    }

    /// Adds free locks; all of them or none. `prepare` sees each before anybody else can.
    ///
    /// # Errors
    /// The first name that is there already, or twice in the request.
    pub(crate) fn add(
        &self,
        names: &[Name],
        mut prepare: impl FnMut(Arc<Lock>),
    ) -> Result<(), LockName> {
        let mut members = self.members.write();
        let mut seen = HashSet::new();
        for name in names {
            if members.contains_key(&**name) || !seen.insert(name) {
                return Err(self.full_name(name));
            }
        }
        for name in names {
            let (lock, _) = self.make((**name).into());
            prepare(Arc::clone(&lock));
            members.insert(Arc::clone(lock.name().name_arc()), Member::Listed(lock));
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Forgets a lock; to be called before it is deleted, so that nobody finds the deleted one.
    pub(crate) fn forget(&self, name: &str) {
        let forgotten = self.members.write().remove(name);
        if let (Some(beyond), Some(lock)) = (self.beyond(), forgotten.and_then(|m| m.lock())) {
            beyond.forget(&lock);
        }
        self.abandoned.lock().remove(name);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Records that `owner` ended while it held these locks exclusively.
    pub(crate) fn abandon<'l>(
        &self,
        locks: impl IntoIterator<Item = &'l Arc<Lock>>,
        owner: &Arc<str>,
    ) {
        let mut abandoned = self.abandoned.lock();
        for lock in locks {
            lock.abandon(owner);
            abandoned.insert(Arc::clone(lock.name().name_arc()), Arc::clone(lock));
        }
        self.any_abandoned.store(!abandoned.is_empty(), Ordering::Release);
    }

    #[inline]
    pub(crate) fn has_abandoned(&self) -> bool {
        self.any_abandoned.load(Ordering::Acquire)
    }

    /// Tells which of `names` were abandoned, or which of all of them; each once.
    pub(crate) fn take_abandoned(&self, names: Option<&[&Arc<Lock>]>) -> Vec<Abandoned> {
        let mut abandoned = self.abandoned.lock();
        let taken: Vec<Arc<Lock>> = match names {
            None => std::mem::take(&mut *abandoned).into_values().collect(),
            Some(locks) => {
                locks.iter().filter_map(|lock| abandoned.remove(lock.name().name_arc())).collect()
            }
        };
        self.any_abandoned.store(!abandoned.is_empty(), Ordering::Release);
        let told = |lock: Arc<Lock>| {
            Some(Abandoned { owner: lock.take_abandoned()?, lock: lock.name().clone() })
        };
        taken.into_iter().filter_map(told).collect()
    }
}

impl Directory for Set {
    fn set_name(&self) -> &Arc<str> {
        &self.name
    }

    fn find(&self, name: &str) -> Option<Arc<Lock>> {
        self.look_up(name).ok()
    }

    fn list(&self) -> Vec<Arc<Lock>> {
        let mut locks: Vec<_> = self.members.read().values().filter_map(Member::lock).collect();
        locks.sort_unstable_by(|a, b| a.name().name().cmp(b.name().name()));
        locks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_demand_that_nobody_uses_any_more_are_not_remembered() {
        let set = Set::new("path".into(), Membership::OnDemand, []).unwrap();
        for at in 0..10_000 {
            drop(set.find(&format!("path-{at}")));
        }
        assert!(set.members.read().len() < 200);
    }
}
