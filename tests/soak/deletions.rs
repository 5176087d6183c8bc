//! Locks that are deleted while others wait for them, and made anew.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tierlock::{AcquireError, Mode, Owner, SharedLock};

use crate::worker::{Dice, Waits};

/// A few places, each of which has a lock at a time.
pub(crate) struct Rooms([Mutex<Room>; 3]);

/// A lock, and who is inside by another count: readers, or one who writes below zero.
#[derive(Clone)]
struct Room {
    lock: SharedLock,
    inside: std::sync::Arc<(AtomicI64, AtomicBool)>,
}

impl Room {
    fn new() -> Mutex<Self> {
        Mutex::new(Self { lock: SharedLock::new("room"), inside: Default::default() })
    }
}

impl Rooms {
    pub(crate) fn new() -> Self {
        Self([Room::new(), Room::new(), Room::new()])
    }

    /// Enters one of them, or deletes its lock and puts another in its place.
    pub(crate) fn visit<W: Waits>(&self, waits: &W, dice: &mut Dice, owner: &Owner) {
        let place = &self.0[dice.below(3)];
        let room = place.lock().unwrap().clone();
        if dice.one_in(8) {
            if let Some(Ok(())) = waits.outcome(dice, room.lock.delete(owner)) {
                assert_eq!(room.inside.0.load(Ordering::SeqCst), 0, "somebody is inside");
                assert!(!room.inside.1.swap(true, Ordering::SeqCst), "it was deleted twice");
                *place.lock().unwrap() = Room::new().into_inner().unwrap();
            }
            return;
        }
        let mode = if dice.one_in(3) { Mode::Exclusive } else { Mode::Shared };
        match waits.outcome(dice, room.lock.acquire(owner, mode)) {
            Some(Ok(_guard)) => room.stay(mode),
            Some(Err(AcquireError::Deleted { .. })) => {
                assert!(room.lock.is_deleted());
            }
            Some(Err(AcquireError::TimedOut { .. } | AcquireError::WouldBlock { .. })) | None => {}
            Some(Err(other)) => panic!("{other}"),
        }
    }
}

impl Room {
    /// To be called by whoever holds the lock.
    fn stay(&self, mode: Mode) {
        let (inside, deleted) = &*self.inside;
        let step = if mode == Mode::Exclusive { -1_000 } else { 1 };
        let before = inside.fetch_add(step, Ordering::SeqCst);
        let alone = mode == Mode::Exclusive;
        assert!(if alone { before == 0 } else { before >= 0 }, "{mode} beside {before}");
        assert!(!deleted.load(Ordering::SeqCst), "the lock was deleted");
        inside.fetch_sub(step, Ordering::SeqCst);
    }
}
