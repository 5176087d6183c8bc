//! Which locks are in which group, as it is stored.
//!
//! One record for all groups. It never says who holds a lock, as the record of a lock never says in which group it is: so the two
//! cannot come to disagree, whoever dies between writing one and the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::coordination::Key;
use crate::coordination::coordinator::{Coordinator, key_of};
use crate::core::record::{RECORD_BYTES_MAX, Unreadable, other_format};
use crate::error::{CoordinationError, LeaseError};

/// All groups.
///
/// Invariants: a lock is in one group at most; a group has no more locks than places.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Groups(BTreeMap<Arc<str>, Group>);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    capacity: usize,
    locks: BTreeSet<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<G> {
    format: u32,
    groups: G,
}

const FORMAT: u32 = 1;
const WHAT: &str = "the lease groups";

impl Groups {
    /// The groups as they are.
    pub(super) fn read(coordinator: &Coordinator) -> Result<Self, LeaseError> {
        let stored = coordinator.seat().read(&key())?;
        Ok(Self::decode(stored.content.as_deref(), coordinator.seat().at())?)
    }

    /// Changes the groups, all at once or not at all.
    pub(super) fn update<R>(
        coordinator: &Coordinator,
        mut change: impl FnMut(&mut Self) -> Result<R, LeaseError>,
    ) -> Result<R, LeaseError> {
        let at = coordinator.seat().at();
        coordinator.seat().update(&key(), |bytes| {
            let mut groups = Self::decode(bytes, at)?;
            match change(&mut groups) {
                Ok(result) => Ok((Some(groups.encode(at)?), Ok(result))),
                Err(refusal) => Ok((None, Err(refusal))),
            }
        })?
    }

    fn decode(bytes: Option<&[u8]>, at: &Arc<str>) -> Result<Self, CoordinationError> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let (resource, at) = (WHAT.into(), Arc::clone(at));
        Self::understand(bytes).map_err(|error| match error {
            Unreadable::Format(format) => CoordinationError::UnknownFormat { resource, at, format },
            Unreadable::Damaged(reason) => {
                CoordinationError::Damaged { resource, at, reason: reason.into() }
            }
        })
    }

    fn understand(bytes: &[u8]) -> Result<Self, Unreadable> {
        let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let written: Written<BTreeMap<Arc<str>, Group>> = match serde_json::from_slice(bytes) {
            Ok(written) => written,
            Err(error) => return Err(other_format(bytes, FORMAT).unwrap_or_else(|| damaged(error))),
        };
        if written.format != FORMAT {
            return Err(Unreadable::Format(written.format));
        }
        let groups = Self(written.groups);
        groups.check().map_err(|flaw| Unreadable::Damaged(flaw.to_owned()))?;
        Ok(groups)
    }

    fn encode(&self, at: &Arc<str>) -> Result<Vec<u8>, CoordinationError> {
        let written = Written { format: FORMAT, groups: &self.0 };
        let bytes = serde_json::to_vec(&written).expect("its maps have keys of text");
        if bytes.len() > RECORD_BYTES_MAX { Err(too_large(bytes.len(), at)) } else { Ok(bytes) }
    }

    fn check(&self) -> Result<(), &'static str> {
        let mut seen = BTreeSet::new();
        for group in self.0.values() {
            if group.locks.len() > group.capacity {
                return Err("a group with more locks than places");
            }
            if !group.locks.iter().all(|lock| seen.insert(lock)) {
                return Err("a lock in two groups");
            }
        }
        Ok(())
    }

    /// The locks of a group.
    pub(super) fn locks(&self, group: &str) -> Result<&BTreeSet<Arc<str>>, LeaseError> {
        self.0.get(group).map(|group| &group.locks).ok_or_else(|| no_group(group))
    }

    pub(super) fn group_of(&self, lock: &str) -> Option<&Arc<str>> {
        self.0.iter().find(|(_, group)| group.locks.contains(lock)).map(|(name, _)| name)
    }

    /// A new group of these locks, of which none may be in another.
    pub(super) fn create(
        &mut self,
        group: &str,
        capacity: usize,
        locks: &BTreeSet<Arc<str>>,
    ) -> Result<(), LeaseError> {
        if self.0.contains_key(group) {
            return Err(LeaseError::GroupExists { group: group.into() });
        }
        for lock in locks {
            if let Some(other) = self.group_of(lock) {
                return Err(in_group(lock, other));
            }
        }
        self.0.insert(group.into(), Group { capacity, locks: locks.clone() });
        Ok(())
    }

    pub(super) fn add(&mut self, group: &str, lock: &Arc<str>) -> Result<(), LeaseError> {
        let old = self.group_of(lock).cloned();
        let Some(Group { capacity, locks }) = self.0.get_mut(group) else {
            return Err(no_group(group));
        };
        match old {
            Some(old) if *old == *group => return Ok(()),
            Some(old) => return Err(in_group(lock, &old)),
            None => {}
        }
        if locks.len() >= *capacity {
            let (lock, group) = (Arc::clone(lock), group.into());
            return Err(LeaseError::GroupFull { lock, group, capacity: *capacity });
        }
        locks.insert(Arc::clone(lock));
        Ok(())
    }

    pub(super) fn remove(&mut self, group: &str) {
        self.0.remove(group);
    }
}

/// The key of the record of all groups.
pub(super) fn key() -> Key {
    Key::of(["lease", "groups"]).expect("it is short and has no empty part")
}

/// Refuses what no group can be called.
pub(super) fn check_name(group: &str) -> Result<(), LeaseError> {
    key_of(["lease", "group", group], "a group", group)?;
    Ok(())
}

/// Refuses a pool that could not be written down, before its names are made.
pub(super) fn check_size(locks: usize, at: &Arc<str>) -> Result<(), LeaseError> {
    const NAME_BYTES_MIN: usize = 9; // `"gLock0",`
    let bytes = locks.saturating_mul(NAME_BYTES_MIN);
    if bytes > RECORD_BYTES_MAX { Err(too_large(bytes, at).into()) } else { Ok(()) }
}

fn too_large(bytes: usize, at: &Arc<str>) -> CoordinationError {
    CoordinationError::TooLarge { resource: WHAT.into(), at: Arc::clone(at), bytes }
}

fn no_group(group: &str) -> LeaseError {
    LeaseError::NoGroup { group: group.into() }
}

fn in_group(lock: &Arc<str>, group: &Arc<str>) -> LeaseError {
    LeaseError::InGroup { lock: Arc::clone(lock), group: Arc::clone(group) }
}
