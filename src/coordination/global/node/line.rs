//! Those of one node who wait for a greater value, in the order in which they go.

use std::collections::VecDeque;
use std::task::Waker;

use super::super::LockValue;
use crate::error::GlobalLockError;

/// One place in line; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct PlaceId(u64);

/// How far somebody in line is.
#[derive(Debug)]
pub(super) enum Stage {
    Waits,
    /// It is granted what it wants, and nobody took that yet.
    Granted,
    /// It has what it wants, and the next waits until it says that it did what it wanted it for.
    Taken,
    /// It stands in nobody's way.
    Refused(GlobalLockError),
}

struct Place<V> {
    id: PlaceId,
    value: V,
    stage: Stage,
    waker: Option<Waker>,
}

/// Invariant: of those not refused only the first is granted or has taken what it wants.
pub(super) struct Line<V> {
    places: VecDeque<Place<V>>,
    given: u64,
}

impl<V: LockValue> Line<V> {
    pub(super) fn new() -> Self {
        Self { places: VecDeque::new(), given: 0 }
    }

    /// Stands in line: last, or before those whose node has to give something up first.
    pub(super) fn stand(&mut self, value: V) -> PlaceId {
        self.given += 1;
        let id = PlaceId(self.given);
        let yields = |place: &Place<V>| !place.value.keeps() && matches!(place.stage, Stage::Waits);
        let at = self.places.iter().position(yields).filter(|_| value.keeps());
        let at = at.unwrap_or(self.places.len());
        self.places.insert(at, Place { id, value, stage: Stage::Waits, waker: None });
        id
    }

    /// Leaves the line; tells whether it was granted something that it did not take, and returns its waker.
    pub(super) fn leave(&mut self, id: PlaceId) -> (bool, Option<Waker>) {
        let at = self.places.iter().position(|place| place.id == id);
        let left = at.and_then(|at| self.places.remove(at));
        left.map_or((false, None), |place| (matches!(place.stage, Stage::Granted), place.waker))
    }

    /// Who goes first of those not refused, and how far that is.
    pub(super) fn front(&self) -> Option<(V, &Stage)> {
        let front = self.places.iter().find(|place| !place.is_refused())?;
        Some((front.value, &front.stage))
    }

    /// Decides about the first that is not refused.
    pub(super) fn decide(&mut self, stage: Stage) {
        if let Some(front) = self.places.iter_mut().find(|place| !place.is_refused()) {
            front.stage = stage;
        }
    }

    pub(super) fn stage(&self, id: PlaceId) -> &Stage {
        &self.place(id).stage
    }

    /// Takes what it was granted.
    pub(super) fn take(&mut self, id: PlaceId) -> V {
        let place = self.place_mut(id);
        place.stage = Stage::Taken;
        place.value
    }

    /// Has the waker woken when it is decided; returns an earlier one.
    pub(super) fn listen(&mut self, id: PlaceId, waker: Waker) -> Option<Waker> {
        self.place_mut(id).waker.replace(waker)
    }

    /// The wakers of those decided.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        let decided = self.places.iter_mut().filter(|place| !matches!(place.stage, Stage::Waits));
        decided.filter_map(|place| place.waker.take()).collect()
    }

    fn place(&self, id: PlaceId) -> &Place<V> {
        self.places.iter().find(|place| place.id == id).expect("its waiter has not left")
    }

    fn place_mut(&mut self, id: PlaceId) -> &mut Place<V> {
        self.places.iter_mut().find(|place| place.id == id).expect("its waiter has not left")
    }
}

impl<V> Place<V> {
    fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused(_))
    }
}
