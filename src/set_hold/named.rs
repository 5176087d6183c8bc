//! Which locks a hold consists of by name, for whoever has them granted from beyond the process.

#[cfg(feature = "coordination")]
use std::iter;
use std::sync::Arc;

use super::{SetHold, is_among};
use crate::core::mode::Mode;
use crate::hold::Lock;
use crate::name::Name;
use crate::request::{Names, Which};
use crate::set::Set;
use crate::task::Directory;

impl SetHold {
    /// The locks held, the set-lock first.
    #[cfg(feature = "coordination")]
    pub(crate) fn locks(&self, set: &Set) -> Vec<Arc<Lock>> {
        let members = self.members.iter().map(|(lock, ..)| Arc::clone(lock));
        iter::once(Arc::clone(set.top())).chain(members).collect()
    }

    /// The lock of this name if it is held; with the mode, if the set-lock alone gives it.
    #[cfg(feature = "coordination")]
    pub(crate) fn lock_of(&self, set: &Set, name: &Arc<str>) -> Option<(Arc<Lock>, Option<Mode>)> {
        match self.members.position(name) {
            Ok(at) => Some((Arc::clone(self.members.get(at).0), None)),
            Err(_) => Some((set.find(name)?, Some(self.mode_of(set, name)?))),
        }
    }

    /// The locks of these names, as far as the set-lock gives them and they are not held by themselves; and the mode in which
    /// they are held so.
    pub(crate) fn given_by_all(&self, set: &Set, names: &[Name]) -> Option<(Mode, Vec<Arc<Lock>>)> {
        let mode = self.all()?;
        let alone = names.iter().filter(|name| self.members.position(name).is_err());
        Some((mode, alone.filter_map(|name| set.find(name)).collect()))
    }

    /// The locks of these names that are held, in whatever mode, or given by the set-lock alone.
    pub(crate) fn concerned(&self, set: &Set, names: &Names) -> Vec<(Arc<Lock>, Option<Mode>)> {
        let asked = |lock: &Arc<Lock>| match &names.0 {
            Which::All => true,
            Which::These(these) => is_among(these, lock.name().name()),
        };
        let held = self.members.iter().filter(|(lock, ..)| asked(lock));
        let held = held.map(|(lock, mode, _)| (Arc::clone(lock), Some(mode)));
        let given = match &names.0 {
            Which::These(these) => self.given_by_all(set, these).map(|(_, locks)| locks),
            Which::All => None,
        };
        held.chain(given.unwrap_or_default().into_iter().map(|lock| (lock, None))).collect()
    }

    /// The names held and not these.
    pub(crate) fn names_but(&self, set: &Set, names: &[Name]) -> Vec<Name> {
        let mut rest = self.names_held(set);
        rest.retain(|name| names.binary_search(name).is_err());
        rest
    }
}
