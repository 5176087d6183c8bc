//! The rules between levels: what a session may take and give back, given what it holds.

use std::sync::Arc;

use super::Session;
use crate::core::mode::Mode;
use crate::error::{AcquireError, HoldError};
use crate::name::LockName;
use crate::plan::{Ask, check_order};
use crate::set_hold::SetHold;

impl Session {
    /// Checks that these levels may be taken, given what is held.
    pub(super) fn check(&self, asks: &[Ask]) -> Result<(), AcquireError> {
        check_order(&self.hierarchy, &self.owner, asks)?;
        if self.hierarchy.extends {
            self.check_beyond(asks)?;
        }
        let Some(first) = asks.first() else { return Ok(()) };
        let takes_root = first.root.takes();
        for ask in asks {
            // Without it there may be nothing of its level either.
            self.check_root(ask.rank, takes_root || ask.root.is_only())?;
            self.check_free(ask.rank, ask.mode)?;
        }
        self.check_nothing_deeper(first.rank)
    }

    pub(super) fn check_root(&self, rank: usize, takes_root: bool) -> Result<(), AcquireError> {
        let Some(root) = &self.hierarchy.root else { return Ok(()) };
        let holds_root = || self.look_at(0, |hold, set| hold.mode_of(set, root).is_some());
        if takes_root || holds_root() == Some(true) {
            return Ok(());
        }
        Err(AcquireError::RootNotHeld {
            owner: self.owner_name(),
            wanted: Arc::clone(self.hierarchy.sets[rank].name()),
            root: self.hierarchy.sets[0].full_name(root),
        })
    }

    pub(super) fn check_nothing_deeper(&self, rank: usize) -> Result<(), AcquireError> {
        let Some((held, mode)) = self.deepest_below(rank) else { return Ok(()) };
        let wanted = Arc::clone(self.hierarchy.sets[rank].name());
        Err(AcquireError::OutOfOrder { owner: self.owner_name(), wanted, held, mode })
    }

    /// What a guard holds is not the session's to change.
    pub(super) fn check_not_lent(&self, rank: usize) -> Result<(), AcquireError> {
        self.check_free(rank, Mode::Exclusive)
    }

    fn check_free(&self, rank: usize, wanted: Mode) -> Result<(), AcquireError> {
        let Some((lock, mode)) = self.look_at(rank, SetHold::witness) else { return Ok(()) };
        Err(AcquireError::AlreadyHeld { owner: self.owner_name(), lock, wanted, held: Some(mode) })
    }

    pub(super) fn check_root_stays(&self, stays: bool) -> Result<(), HoldError> {
        match (&self.hierarchy.root, self.deepest_below(0)) {
            (Some(root), Some((held, mode))) if !stays => Err(HoldError::RootNeeded {
                owner: self.owner_name(),
                root: self.hierarchy.sets[0].full_name(root),
                held,
                mode,
            }),
            _ => Ok(()),
        }
    }

    /// A lock held at a deeper level than this.
    pub(super) fn deepest_below(&self, rank: usize) -> Option<(LockName, Mode)> {
        let deepest = self.held().next_back().filter(|(held, ..)| *held > rank);
        let own = deepest.map(|(_, set, hold)| hold.witness(set));
        own.or_else(|| self.lent.as_ref()?.deepest_below(rank))
    }
}
