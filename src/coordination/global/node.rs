//! What a node has of one resource, who of it waits for more, and the one next thing to do about that.
//!
//! The node is one owner of the resource's lock in this process; the other is everybody elsewhere. What it holds there covers what is
//! granted, and in between what is granted but not taken yet. All that a change entails is done in [`advance`](Node::advance), under
//! one mutex; the coordinator is told afterwards, when it is free.

mod line;

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

pub(super) use self::line::PlaceId;
use self::line::{Line, Stage};
use super::value::{check_one, greatest_within, least};
use super::{CallBack, GlobalLockEvent, GlobalLockUser, LockValue};
use crate::coordination::resource::{Resource, Upgrading, User};
use crate::coordination::stake::Stake;
use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::error::{CoordinationError, GlobalLockError};
use crate::listeners::alone;
use crate::task::{Reason, Refusal};

type Subscriber<V> = Arc<dyn Fn(&GlobalLockUser<V>, &GlobalLockEvent<V>) + Send + Sync>;

/// One node's use of one resource.
pub(super) struct Node<V: LockValue> {
    resource: Arc<Resource>,
    state: Mutex<State<V>>,
    /// Told when somebody in line is decided.
    decided: Condvar,
    subscribers: Mutex<Vec<Subscriber<V>>>,
    /// Wakes it when what it claims is decided.
    waker: Waker,
    me: Weak<Self>,
}

pub(super) struct State<V> {
    /// What those who asked were told that the node has.
    granted: V,
    stake: Stake,
    line: Line<V>,
    /// Tells whether what the stake holds is lost.
    mark: u64,
    /// How often the stake came to hold something else.
    gains: u64,
    /// Of what it gained last.
    token: Option<u64>,
    /// Who left behind what the stake holds exclusively, while nobody asked for that.
    abandoned: Option<Arc<str>>,
    /// What was held is lost, and those who subscribed were told.
    is_lost: bool,
    /// The first in line was refused because of what is granted, and waits until that, or what others want, changes.
    is_hopeless: bool,
    /// There while an upgrade waits that goes before nodes which hold nothing.
    held_off: Option<Upgrading>,
}

impl<V: LockValue> Node<V> {
    pub(super) fn new(resource: &Arc<Resource>) -> Arc<Self> {
        let name = resource.member().id().to_string();
        let stake = Stake::new(resource.lock(), name.into());
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            resource: Arc::clone(resource),
            state: Mutex::new(State {
                granted: least(),
                stake,
                line: Line::new(),
                mark: 0,
                gains: 0,
                token: None,
                abandoned: None,
                is_lost: false,
                is_hopeless: false,
                held_off: None,
            }),
            decided: Condvar::new(),
            subscribers: Mutex::default(),
            waker: Waker::from(Arc::new(Bell(Weak::clone(me)))),
            me: Weak::clone(me),
        })
    }

    pub(super) fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// Has the node hold `value`: at once (`None`), or later, to be seen at the place that it gets in line.
    pub(super) fn ask(&self, value: V) -> Result<Option<PlaceId>, GlobalLockError> {
        check_one(value)?;
        match self.ask_once(value) {
            Err(GlobalLockError::Deadlock { .. }) => {
                // The other may be dead, or have given up, which nobody here heard of yet.
                self.resource.settle(true)?;
                self.ask_once(value)
            }
            asked => asked,
        }
    }

    fn ask_once(&self, value: V) -> Result<Option<PlaceId>, GlobalLockError> {
        let asked = self.act(|state| {
            if value <= state.granted && !self.has_to_yield(state, value) {
                return Ok(Asked::Had);
            }
            let place = state.line.stand(value);
            self.advance(state);
            match state.line.stage(place) {
                Stage::Waits => return Ok(Asked::Waits(place)),
                Stage::Refused(error) => {
                    let error = error.clone();
                    state.line.leave(place);
                    return Err(error);
                }
                Stage::Granted | Stage::Taken => {}
            }
            state.granted = state.granted.max(value);
            state.line.leave(place);
            Ok(Asked::Granted)
        })?;
        match asked {
            Asked::Had => self.check().map(|()| None),
            Asked::Granted => Ok(None),
            Asked::Waits(place) => {
                // Goes to the coordinator in this thread. What comes of it is said at the place.
                let _ = self.resource.settle(true);
                Ok(Some(place))
            }
        }
    }

    /// What became of the place, if it is decided; else, `waker` is woken when it is.
    pub(super) fn poll(
        &self,
        place: PlaceId,
        waker: &Waker,
    ) -> Option<Result<(), GlobalLockError>> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if state.waits(place) {
            let earlier = state.line.listen(place, waker);
            drop(state);
            // Dropping a waker is the caller's code.
            drop(earlier);
            return None;
        }
        drop(state);
        self.take(place)
    }

    /// Blocks this thread until the place is decided, or the time is up (`None`).
    pub(super) fn wait(
        &self,
        place: PlaceId,
        until: Option<Instant>,
    ) -> Option<Result<(), GlobalLockError>> {
        let mut state = self.state.lock();
        let waits = |state: &mut State<V>| state.waits(place);
        match until {
            None => self.decided.wait_while(&mut state, waits),
            Some(until) => {
                self.decided.wait_while_until(&mut state, waits, until);
            }
        }
        drop(state);
        self.take(place)
    }

    pub(super) fn is_decided(&self, place: PlaceId) -> bool {
        !self.state.lock().waits(place)
    }

    /// Takes what the place was granted: from now on the node has it.
    fn take(&self, place: PlaceId) -> Option<Result<(), GlobalLockError>> {
        match self.state.lock().line.stage(place) {
            Stage::Waits => return None,
            Stage::Refused(error) => return Some(Err(error.clone())),
            Stage::Taken => return Some(Ok(())),
            Stage::Granted => {}
        }
        Some(self.check().map(|()| {
            let state = &mut *self.state.lock();
            state.granted = state.granted.max(state.line.take(place));
        }))
    }

    /// Gives up the place in line, and what it was granted if nobody took that; the next may go.
    pub(super) fn leave(&self, place: PlaceId) {
        let (given, _waker) = self.act(|state| state.line.leave(place));
        if given {
            let _ = self.resource.settle_given();
        }
    }

    /// Has the node hold no more than `value`.
    pub(super) fn downgrade(&self, value: V) -> Result<(), GlobalLockError> {
        check_one(value)?;
        // Before it is given up, which is no loss.
        let held = self.check();
        self.act(|state| {
            if value > state.granted {
                return Err(GlobalLockError::NotLower {
                    resource: self.name(),
                    wanted: shown(value),
                    granted: shown(state.granted),
                });
            }
            state.granted = value;
            Ok(())
        })?;
        let told = self.resource.settle_given();
        held.and(told.map_err(Into::into))
    }

    pub(super) fn granted(&self) -> V {
        self.state.lock().granted
    }

    pub(super) fn requested(&self) -> Option<V> {
        let state = self.state.lock();
        let (value, stage) = state.line.front()?;
        (matches!(stage, Stage::Waits) && state.stake.claimed().is_some()).then_some(value)
    }

    /// What would be granted now without asking the coordinator.
    pub(super) fn grantable(&self) -> V {
        let left = self.left(&self.state.lock());
        if self.check().is_ok() { left } else { least() }
    }

    /// What those elsewhere leave to the node.
    fn left(&self, state: &State<V>) -> V {
        let held = self.resource.lock().held();
        let own = state.stake.mode().filter(|own| held.count(*own) > 0);
        let others = own.map_or(held, |own| held.without(own));
        let left = greatest_within::<V>(Mode::beside(others.mode()));
        let left = self.called_to().map_or(left, |called| left.min(called));
        // Nobody overtakes those who wait, but for what the node has anyway.
        if held.is(Held::QUEUED) || state.line.front().is_some() {
            left.min(state.granted)
        } else {
            left
        }
    }

    pub(super) fn called_back(&self) -> Option<CallBack<V>> {
        let since = self.resource.recalled()?.since;
        Some(CallBack { to: self.called_to()?, since })
    }

    /// Fails if what is held is lost. With nothing locked, since whoever is told that the member is lost may come by here.
    pub(super) fn check(&self) -> Result<(), GlobalLockError> {
        loop {
            let hold = self.state.lock().hold();
            let checked = self.check_hold(hold);
            // What was given back meanwhile looks lost.
            if checked.is_ok() || self.state.lock().hold() == hold {
                return checked;
            }
        }
    }

    /// The fencing token of what is granted.
    pub(super) fn token(&self) -> Result<u64, GlobalLockError> {
        self.check()?;
        let (granted, known, gains) = {
            let state = self.state.lock();
            (state.granted, state.token, state.gains)
        };
        if granted == least() {
            return Err(GlobalLockError::NotGranted { resource: self.name() });
        }
        if let Some(token) = known {
            return Ok(token);
        }
        let token = self.resource.next_token()?;
        let mut state = self.state.lock();
        // Else it is of what was held before, and no token of what is held now.
        Ok(if state.gains == gains { *state.token.get_or_insert(token) } else { token })
    }

    pub(super) fn take_abandoned(&self) -> Option<Arc<str>> {
        self.state.lock().abandoned.take()
    }

    pub(super) fn subscribe(&self, subscriber: Subscriber<V>) {
        self.subscribers.lock().push(subscriber);
    }

    pub(super) fn name(&self) -> Arc<str> {
        self.resource.lock().name().name().into()
    }

    fn tell(&self, event: &GlobalLockEvent<V>) {
        // Nobody subscribes to what nobody uses.
        let Some(user) = self.me.upgrade().map(GlobalLockUser) else { return };
        let subscribers = self.subscribers.lock().clone();
        subscribers.iter().for_each(|subscriber| alone(|| subscriber(&user, event)));
    }
}

impl<V: LockValue> Node<V> {
    /// Changes something, does what follows from that, and tells those who are decided by it.
    fn act<R>(&self, change: impl FnOnce(&mut State<V>) -> R) -> R {
        // If time is up, those who want to know of it are told while nothing is locked.
        let _ = self.resource.member().check();
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.advance(&mut state);
        let wakers = state.line.take_wakers();
        MutexGuard::unlock_fair(state);
        self.decided.notify_all();
        wakers.into_iter().for_each(|waker| alone(|| waker.wake()));
        result
    }

    /// Does whatever there is to do here.
    fn advance(&self, state: &mut State<V>) {
        self.decide_those_due(state);
        let keeps = |(value, stage): (V, &Stage)| value.keeps() && matches!(stage, Stage::Waits);
        if !state.line.front().is_some_and(keeps) {
            state.held_off = None;
        }
    }

    fn decide_those_due(&self, state: &mut State<V>) {
        loop {
            self.trim(state);
            let Some((value, Stage::Waits)) = state.line.front() else {
                state.stake.drop_claim();
                return;
            };
            let before = state.stake.mode();
            match self.decide(state, value) {
                Ok(false) => return,
                Ok(true) => match self.note_gain(state, before) {
                    Ok(()) => return state.line.decide(Stage::Granted),
                    Err(error) => state.line.decide(Stage::Refused(error)),
                },
                Err(error) => state.line.decide(Stage::Refused(error)),
            }
        }
    }

    /// Holds no more than what is granted, or about to be.
    fn trim(&self, state: &mut State<V>) {
        let untaken = state.line.front().filter(|(_, stage)| matches!(stage, Stage::Granted));
        let due = untaken.map_or(state.granted, |(value, _)| value.max(state.granted)).mode();
        if state.stake.mode().is_some_and(|held| Some(held) != due) {
            state.pass_on_notice(&self.resource);
            state.stake.lower(due);
            state.is_hopeless = false;
        }
    }

    /// Has the stake cover `value`, the first in line; tells whether it does.
    fn decide(&self, state: &mut State<V>, value: V) -> Result<bool, GlobalLockError> {
        self.check_hold(state.hold())?;
        let wanted = value.mode();
        let claimed = state.stake.claimed();
        let mut result = state.stake.collect();
        let collected = claimed.is_some() && state.stake.claimed().is_none();
        let has = collected && covers(state.stake.mode(), wanted);
        if result.is_ok() && !has {
            if self.has_to_yield(state, value) || state.is_hopeless {
                state.stake.drop_claim();
                return Ok(false);
            }
            if let Some(mode) = wanted {
                self.hold_off(state, value);
                result = state.stake.claim(mode, 0, &self.waker);
            }
        }
        match result {
            Ok(()) if state.stake.claimed().is_some() => Ok(false),
            Ok(()) => Ok(covers(state.stake.mode(), wanted)),
            Err(refusal) => self.refused(state, value, &refusal).map(|()| false),
        }
    }

    /// Has an upgrade that keeps go before nodes which hold nothing.
    fn hold_off(&self, state: &mut State<V>, value: V) {
        let is_upgrade = value.keeps() && state.stake.mode().is_some();
        if is_upgrade && state.held_off.is_none() {
            // What is claimed already is not to be granted here, under the mutex that its waker takes.
            state.stake.drop_claim();
            state.held_off = Some(self.resource.hold_off());
        }
    }

    /// What a refusal means to the first in line; nothing, if it may wait for what is granted to be given up.
    fn refused(
        &self,
        state: &mut State<V>,
        value: V,
        refusal: &Refusal,
    ) -> Result<(), GlobalLockError> {
        match &refusal.reason {
            Reason::Deadlock(..) if value.keeps() => Err(GlobalLockError::Deadlock {
                resource: self.name(),
                wanted: shown(value),
                granted: shown(state.granted),
            }),
            Reason::Deadlock(..) => {
                state.is_hopeless = true;
                Ok(())
            }
            Reason::Outside(error) => Err(CoordinationError::clone(error).into()),
            _ => Err(self.resource.broken().into()),
        }
    }

    /// Tells whether those who ask for this value wait until the node has given up what it is called back for.
    fn has_to_yield(&self, state: &State<V>, value: V) -> bool {
        let below = |called: V| value > called && state.granted > called;
        !value.keeps() && self.called_to().is_some_and(below)
    }

    fn called_to(&self) -> Option<V> {
        self.resource.recalled().map(|recalled| greatest_within(Mode::beside(Some(recalled.mode))))
    }

    /// Takes note that the stake holds more than it did.
    fn note_gain(&self, state: &mut State<V>, before: Option<Mode>) -> Result<(), GlobalLockError> {
        if before.is_none() && state.stake.mode().is_some() {
            state.mark = self.resource.hold_mark()?;
            state.is_lost = false;
        }
        self.check_hold(state.hold())?;
        if state.stake.mode() != before {
            state.gains += 1;
            state.token = None;
        }
        if state.stake.mode() == Some(Mode::Exclusive)
            && let Some(owner) = self.resource.lock().take_abandoned()
        {
            state.abandoned = Some(owner);
        }
        Ok(())
    }

    /// Fails if what was held is lost.
    fn check_hold(&self, hold: Option<Hold>) -> Result<(), GlobalLockError> {
        match hold {
            Some(Hold { mark, .. }) => self.resource.check(mark),
            None => self.resource.member().check(),
        }
        .map_err(Into::into)
    }
}

impl<V: LockValue> State<V> {
    /// What is held; `None` if nothing is.
    fn hold(&self) -> Option<Hold> {
        self.stake.mode().map(|_| Hold { mark: self.mark, gains: self.gains })
    }

    fn waits(&self, place: PlaceId) -> bool {
        matches!(self.line.stage(place), Stage::Waits)
    }

    /// Has the next exclusive holder told of whoever nobody here asked for, before that one can have the resource.
    fn pass_on_notice(&mut self, resource: &Resource) {
        // Where this node lost it, the next one is to clean up after this node.
        if let Some(owner) = self.abandoned.take()
            && resource.is_intact(self.mark)
        {
            resource.lock().abandon(&owner);
        }
    }
}

/// What a stake holds: what tells whether it is lost, and what tells it from others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Hold {
    mark: u64,
    gains: u64,
}

/// What came of asking.
enum Asked {
    /// It was granted before, if it is not lost.
    Had,
    Granted,
    Waits(PlaceId),
}

fn covers(held: Option<Mode>, wanted: Option<Mode>) -> bool {
    wanted.is_none_or(|wanted| held.is_some_and(|held| held.covers(wanted)))
}

pub(super) fn shown<V: LockValue>(value: V) -> Arc<str> {
    format!("{value:?}").into()
}

impl<V: LockValue> User for Node<V> {
    fn on_recall(&self, _: Option<Mode>) {
        self.act(|state| state.is_hopeless = false);
        let event =
            self.called_back().map_or(GlobalLockEvent::CallBackOver, GlobalLockEvent::CalledBack);
        self.tell(&event);
    }

    fn on_loss(&self) {
        if self.act(|state| !std::mem::replace(&mut state.is_lost, true)) {
            self.tell(&GlobalLockEvent::Lost);
        }
    }
}

impl<V: LockValue> Drop for Node<V> {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        state.pass_on_notice(&self.resource);
        state.stake.lower(None);
        if self.resource.lock().is_abandoned() {
            // What is given back by the end of the resource tells nobody.
            let _ = self.resource.uncache();
        }
    }
}

/// Has the node look at what came of its claim.
struct Bell<V: LockValue>(Weak<Node<V>>);

impl<V: LockValue> Wake for Bell<V> {
    fn wake(self: Arc<Self>) {
        if let Some(node) = self.0.upgrade() {
            node.act(|_| ());
        }
    }
}
