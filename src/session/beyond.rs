//! Levels of a session whose locks are granted by somebody beyond this process.

use std::sync::Arc;

use super::Session;
use crate::beyond::{AskedBeyond, Beyond, Promise};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::{AcquireError, Outside};
use crate::hold::Lock;
use crate::plan::Ask;
use crate::set::Set;
use crate::target::Patience;
use crate::task::{Members, Reason, Refusal, Stage, Task};

impl Session {
    /// Fails if what the session holds at some level is lost, or what it asks for cannot be had any more.
    #[cold]
    pub(super) fn check_beyond(&self, asks: &[Ask]) -> Result<(), AcquireError> {
        let wanted = asks.iter().map(|ask| (ask.rank, ask.mode));
        let held = (0..self.hierarchy.sets.len())
            .filter_map(|rank| Some((rank, self.look_at(rank, |hold, _| hold.top_mode())?)));
        for (rank, mode) in wanted.chain(held) {
            let set = &self.hierarchy.sets[rank];
            if let Some(beyond) = set.beyond() {
                beyond.check().map_err(|why| self.kept_away(set.top(), mode, why))?;
            }
        }
        Ok(())
    }

    /// Has what is only tried granted to this process, if that can be done at once, for as long as the promises are kept.
    #[cold]
    pub(super) fn ask_beyond(
        &self,
        stages: &[Stage],
        priority: Priority,
        patience: Patience,
    ) -> Result<Vec<Promise>, AcquireError> {
        let mut promises = Vec::new();
        for stage in stages {
            let set = &self.hierarchy.sets[stage.rank];
            let Some(beyond) = set.beyond() else { continue };
            let (locks, picks) = tried(set, &stage.members);
            if patience == Patience::Tries || picks {
                let (top, mode) = &stage.top;
                promises.push(self.ask_for(&**beyond, top, *mode, priority)?);
                for lock in &locks {
                    promises.push(self.ask_for(&**beyond, lock, stage.mode, priority)?);
                }
            }
        }
        Ok(promises)
    }

    fn ask_for(
        &self,
        beyond: &dyn Beyond,
        lock: &Arc<Lock>,
        mode: Mode,
        priority: Priority,
    ) -> Result<Promise, AcquireError> {
        let asked = AskedBeyond { owner: &self.owner, mode, from: None, priority };
        beyond.ask(lock, &asked).map_err(|why| self.kept_away(lock, mode, why))
    }

    /// Gives back what was granted if it is lost already: the process may have slept since.
    pub(super) fn still_beyond(&self, task: Option<Task>) -> Result<Option<Task>, AcquireError> {
        if let Some(Task::Take(taking)) = &task
            && self.hierarchy.extends
        {
            for stage in taking.stages() {
                let (lock, mode) = &stage.top;
                let beyond = self.hierarchy.sets[stage.rank].beyond();
                if let Some(Err(why)) = beyond.map(|beyond| beyond.check_lock(lock)) {
                    let error = self.kept_away(lock, *mode, why);
                    task.into_iter().for_each(Task::give_up);
                    return Err(error);
                }
            }
        }
        Ok(task)
    }

    fn kept_away(&self, lock: &Arc<Lock>, wanted: Mode, why: Outside) -> AcquireError {
        let (owner, lock) = (self.owner.clone(), Arc::clone(lock));
        Refusal { owner, lock, wanted, reason: Reason::Outside(why) }.into()
    }
}

/// The members that a stage takes, and whether it picks from them what is free.
fn tried(set: &Set, members: &Members) -> (Vec<Arc<Lock>>, bool) {
    match members {
        Members::None => (Vec::new(), false),
        Members::Exactly(locks) => (locks.to_vec(), false),
        Members::Free(locks, _) => (locks.to_vec(), true),
        Members::AnyFree(_) => (crate::task::Directory::list(set), true),
    }
}

#[cfg(feature = "coordination")]
mod across {
    use crate::error::CoordinationError;
    use crate::level::Level;
    use crate::session::Session;
    use crate::set_hold::SetHold;

    impl Session {
        /// Fails if something that the session holds at a level [held across
        /// processes](crate::LockManagerBuilder::cluster_wide) is lost: the member is, or somebody broke it. What does not fail was
        /// true a moment ago: whoever writes to something outside sends the [`token`](Self::token) along.
        ///
        /// # Errors
        /// [`Lost`](CoordinationError::Lost), [`Broken`](CoordinationError::Broken).
        ///
        /// # Examples
        /// ```
        /// # use tierlock::ganeti;
        /// # let manager = ganeti::manager(["web1"], [""; 0], [""; 0], [""; 0]).build()?;
        /// let job = manager.session("job-17");
        /// assert!(job.verify().is_ok());
        /// # Ok::<(), tierlock::Error>(())
        /// ```
        pub fn verify(&self) -> Result<(), CoordinationError> {
            for (rank, set) in self.hierarchy.sets.iter().enumerate() {
                let Some(beyond) = set.beyond() else { continue };
                let locks = self.look_at(rank, SetHold::locks).unwrap_or_default();
                for lock in locks {
                    beyond.check_lock(&lock).map_err(|why| *why)?;
                }
            }
            Ok(())
        }

        /// A fencing token for what the session holds by this name, or by all of the level: greater than all tokens before it of
        /// holds that conflict, over the life of the store. Each call gives a greater one. `None` if nothing of this name is held, or
        /// the level is not [held across processes](crate::LockManagerBuilder::cluster_wide).
        ///
        /// # Errors
        /// As [`verify`](Self::verify); rarely, as of any request to the coordinator.
        ///
        /// # Examples
        /// See [`cluster_wide`](crate::LockManagerBuilder::cluster_wide).
        pub fn token(
            &self,
            level: impl Level,
            name: &str,
        ) -> Result<Option<u64>, CoordinationError> {
            let Some((rank, set)) = self.hierarchy.level(&level) else { return Ok(None) };
            let Some(beyond) = set.beyond() else { return Ok(None) };
            let found = self.look_at(rank, |hold, set| hold.lock_of(set, &name.into())).flatten();
            let Some((lock, given)) = found else { return Ok(None) };
            let token = || {
                if let Some(mode) = given {
                    // Only the record of the name itself numbers all who held it.
                    beyond.check_lock(set.top())?;
                    beyond.bring(&lock, mode)?;
                }
                beyond.check_lock(&lock)?;
                beyond.token(&lock).map(Some)
            };
            token().map_err(|why| *why)
        }
    }
}
