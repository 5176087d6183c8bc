//! A resource of the cluster as one member sees it: a lock of this process, and what its record says.
//!
//! The member is one party to the record, in the strongest mode that its owners need; they share what it was granted by the lock
//! of this process, from which [`Elsewhere`] keeps the rest. What was granted is kept after its use, until another member
//! asks for it or as long as the policy says, so that taking it again costs what it costs in one process.
//!
//! Everything happens in [`settle`](Resource::settle): it compares what the owners want, what is granted and what others want, and
//! does the one next thing, until there is nothing to do. Whoever has news calls it: owners through the lock's observer,
//! others through a watch, time through the agent.

mod bell;
mod entry;
mod leftover;
mod rivals;
mod round;

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::thread::{self, ThreadId};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use self::bell::{Bell, Echo};
use self::entry::Entry;
pub(crate) use self::leftover::Leftover;
use self::rivals::Rivals;
pub(crate) use self::rivals::Upgrading;
use self::round::{End, State};
use super::agent::Agent;
use super::driver::Key;
use super::elsewhere::Elsewhere;
use super::member::Member;
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::core::record::{Abandonment, Moment, Record, TOKENS_PER_GRANT};
use crate::error::CoordinationError;
use crate::hold::{Lock, Waiter};

/// Who is told that a grant came from a holder that ended without releasing it.
pub(crate) type OnAbandoned = Box<dyn Fn(&Arc<Lock>, &Arc<str>) + Send + Sync>;
/// Who is told that a hold was lost though the member lives.
pub(crate) type OnBroken = Box<dyn Fn() + Send + Sync>;

/// Whoever uses a resource on behalf of all of this process, and hears what happens to it. Called in the middle of settling, with no
/// mutex held.
pub(crate) trait User: Any + Send + Sync {
    /// Others want of this member that it holds no more than what admits this mode, or nothing any more.
    fn on_recall(&self, mode: Option<Mode>);

    /// What was held is lost.
    fn on_loss(&self);
}

/// What others want of this member, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recalled {
    /// To hold no more than what admits it.
    pub(crate) mode: Mode,
    pub(crate) since: Instant,
}

pub(crate) struct Resource {
    entry: Entry,
    agent: Arc<Agent>,
    lock: Arc<Lock>,
    /// Whether what nobody here uses is kept until another member asks for it, or given back.
    cached: AtomicBool,
    turn: Mutex<Turn>,
    /// Told when a turn ends.
    turned: Condvar,
    /// How many owners are about to use what was granted on foresight.
    expected: AtomicUsize,
    rivals: Rivals,
    /// The fencing tokens that are left of those granted.
    tokens: Mutex<Range<u64>>,
    /// Until when the member holds what it was granted, in milliseconds on the engine's clock: 0 if it holds nothing.
    until_ms: AtomicU64,
    /// Moves when the record lost what this member held.
    breaks: AtomicU64,
    /// How long a grant lasts, in milliseconds; 0 for ever.
    lifetime_ms: AtomicU64,
    /// Who ended before the member's grant without releasing the resource, and how the lock was told.
    previous: Mutex<Option<(Arc<str>, Abandonment)>>,
    /// When the agent settles it by itself, and where it stands in the agent's list.
    pub(super) alarm: Mutex<Option<(Moment, u64)>>,
    bell: Arc<Bell>,
    /// Whether the agent was told of news, and nobody looked since.
    is_rung: AtomicBool,
    /// Whether it may have been granted something by the record of which it does not know.
    takes_over: AtomicBool,
    echo: Echo,
    on_abandoned: OnAbandoned,
    on_broken: OnceLock<OnBroken>,
    /// What others want that this member holds, and was told to its owners.
    recalled: Mutex<Option<Recalled>>,
    /// Whether others want it, told or not yet.
    is_wanted: AtomicBool,
    user: Mutex<Option<Weak<dyn User>>>,
    me: Weak<Self>,
}

/// A hold that ends only when it is given back.
const FOR_EVER: u64 = u64::MAX;

/// Whose turn it is to settle. No mutex is held meanwhile, since settling goes to the engine and tells waiters.
struct Turn {
    /// There unless somebody settles.
    state: Option<Box<State>>,
    /// Who settles.
    by: Option<ThreadId>,
    /// There was news meanwhile.
    again: bool,
    /// What is to be carried out in the next round.
    orders: Vec<Order>,
}

type Order = Box<dyn FnOnce(&mut State) + Send>;

/// What an owner is about to ask of the lock, and will ask whatever comes of it.
#[derive(Clone, Debug)]
pub(crate) struct Foresight {
    pub(crate) mode: Mode,
    /// The mode in which it holds the lock already.
    pub(crate) from: Option<Mode>,
    pub(crate) priority: Priority,
    pub(crate) owner: Arc<str>,
    /// Whether the request stays in the record when it has to wait.
    pub(crate) waits: bool,
}

/// As long as this is kept, nobody takes what was granted on foresight for unused.
#[derive(Debug)]
#[must_use = "what was granted may be given back when it is dropped"]
pub(crate) struct Expected {
    resource: Arc<Resource>,
    is_fulfilled: bool,
}

impl Expected {
    fn new(resource: &Arc<Resource>) -> Self {
        resource.expected.fetch_add(1, Ordering::AcqRel);
        Self { resource: Arc::clone(resource), is_fulfilled: false }
    }

    /// It is used now.
    pub(crate) fn fulfil(mut self) {
        self.is_fulfilled = true;
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.resource.expected.fetch_sub(1, Ordering::AcqRel);
        if !self.is_fulfilled && !self.resource.keeps_what_is_given() {
            // Nothing came of it, so it may be given back.
            self.resource.ring();
        }
    }
}

/// Nobody else's code runs while it changes, so no panic of theirs is seen half way.
impl UnwindSafe for Expected {}
impl RefUnwindSafe for Expected {}

impl Resource {
    /// Puts `lock`, which nobody uses yet, under the record of `key`.
    pub(crate) fn new(
        member: &Arc<Member>,
        agent: &Arc<Agent>,
        key: Key,
        lock: Arc<Lock>,
        on_abandoned: OnAbandoned,
    ) -> Arc<Self> {
        let (member, name) = (Arc::clone(member), lock.name().to_string().into());
        let elsewhere = Elsewhere::new(&lock, format!("elsewhere at {}", member.at()).into());
        let owner = elsewhere.owner().clone();
        let resource = Arc::new_cyclic(|me: &Weak<Self>| Self {
            entry: Entry { member, key, name },
            agent: Arc::clone(agent),
            lock,
            cached: AtomicBool::new(false),
            turn: Mutex::new(Turn {
                state: Some(Box::new(State::new(elsewhere))),
                by: None,
                again: false,
                orders: Vec::new(),
            }),
            turned: Condvar::new(),
            expected: AtomicUsize::new(0),
            rivals: Rivals::default(),
            tokens: Mutex::new(0..0),
            until_ms: AtomicU64::new(0),
            breaks: AtomicU64::new(0),
            lifetime_ms: AtomicU64::new(0),
            previous: Mutex::new(None),
            alarm: Mutex::new(None),
            bell: Arc::new(Bell::new(Weak::clone(me), owner)),
            is_rung: AtomicBool::new(false),
            takes_over: AtomicBool::new(false),
            echo: Echo::default(),
            on_abandoned,
            on_broken: OnceLock::new(),
            recalled: Mutex::new(None),
            is_wanted: AtomicBool::new(false),
            user: Mutex::new(None),
            me: Weak::clone(me),
        });
        resource.lock.observe(Arc::clone(&resource.bell) as Arc<dyn Waiter>);
        resource
    }

    pub(crate) fn lock(&self) -> &Arc<Lock> {
        &self.lock
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.entry.member
    }

    pub(crate) fn on_broken(&self, call: OnBroken) {
        let _ = self.on_broken.set(call);
    }

    /// Has grants last so long from now on; `None` for as long as the member lives.
    pub(crate) fn set_lifetime(&self, ms: Option<u64>) {
        self.lifetime_ms.store(ms.unwrap_or(0), Ordering::Release);
    }

    fn lifetime_ms(&self) -> Option<u64> {
        Some(self.lifetime_ms.load(Ordering::Acquire)).filter(|ms| *ms > 0)
    }

    /// Has the grant of this token end so many milliseconds from now; false if it is held no more.
    ///
    /// # Errors
    /// As of any request to the coordinator; the grant ends when it would have then, or so, and for this member no later than that.
    pub(crate) fn set_end(&self, token: u64, ms: u64) -> Result<bool, CoordinationError> {
        let done = Arc::new(AtomicBool::new(false));
        let end = End { token, ms, done: Arc::clone(&done) };
        let settled = self.take_turn(true, |state| state.end = Some(end));
        // What else there was to do may have failed.
        if done.load(Ordering::Acquire) { Ok(true) } else { settled.map(|()| false) }
    }

    /// When what the member holds ends by itself, if it does.
    pub(crate) fn until(&self) -> Option<Moment> {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        (until_ms != FOR_EVER).then_some(Moment(until_ms))
    }

    /// Who ended before this member's grant without releasing the resource, if that is what the lock was told in these words.
    ///
    /// Whoever has it from the lock was told. If the lock has it still when it is given back, the next exclusive holder is.
    pub(crate) fn previous(&self, told: &Arc<str>) -> Option<Abandonment> {
        let previous = self.previous.lock();
        // An owner here may have left it behind since.
        let same = |(words, _): &&(Arc<str>, Abandonment)| Arc::ptr_eq(words, told);
        previous.as_ref().filter(same).map(|(_, previous)| previous.clone())
    }

    /// Keeps what nobody here uses until another member asks for it.
    pub(crate) fn cache(&self) {
        self.cached.store(true, Ordering::Release);
    }

    #[inline(always)]
    fn is_cached(&self) -> bool {
        self.cached.load(Ordering::Acquire)
    }

    /// What tells whether a hold of an owner of this process, which was just granted, is lost later.
    ///
    /// # Errors
    /// [`Broken`](CoordinationError::Broken) or [`Lost`](CoordinationError::Lost) if it is already.
    pub(crate) fn hold_mark(&self) -> Result<u64, CoordinationError> {
        let breaks = self.breaks.load(Ordering::Acquire);
        self.check(breaks)?;
        Ok(breaks)
    }

    /// As [`hold_mark`](Self::hold_mark), for one who asks what is the matter later.
    #[inline(always)]
    pub(crate) fn mark_at_once(&self) -> Option<u64> {
        let breaks = self.breaks.load(Ordering::Acquire);
        let for_ever = self.until_ms.load(Ordering::Acquire) == FOR_EVER;
        if self.entry.member.lives_as_its_process() && for_ever {
            Some(breaks)
        } else {
            self.mark_by_time()
        }
    }

    #[inline(never)]
    fn mark_by_time(&self) -> Option<u64> {
        self.hold_mark().ok()
    }

    /// Fails unless what was held at this mark is held still.
    pub(crate) fn check(&self, mark: u64) -> Result<(), CoordinationError> {
        self.entry.member.check()?;
        let until_ms = self.until_ms.load(Ordering::Acquire);
        let over = until_ms != FOR_EVER && self.entry.member.now().0 >= until_ms;
        if over || !self.is_intact(mark) { Err(self.broken()) } else { Ok(()) }
    }

    /// Tells whether nothing was taken from this member since this mark.
    pub(crate) fn is_intact(&self, mark: u64) -> bool {
        self.breaks.load(Ordering::Acquire) == mark
    }

    pub(crate) fn broken(&self) -> CoordinationError {
        CoordinationError::Broken {
            resource: Arc::clone(&self.entry.name),
            at: Arc::clone(self.entry.member.at()),
        }
    }

    /// The next fencing token of what the member holds: greater than all that anybody had before whose hold conflicted.
    ///
    /// # Errors
    /// [`Broken`](CoordinationError::Broken) if it holds nothing; others as of any request to the coordinator.
    pub(crate) fn next_token(&self) -> Result<u64, CoordinationError> {
        self.entry.member.check_process()?;
        if let Some(token) = self.tokens.lock().next() {
            return Ok(token);
        }
        let me = self.entry.member.id();
        let first = self.update(|record| {
            record.renumber(me);
            Ok(record.holder(me).map(|holder| holder.token))
        })?;
        self.number(first.ok_or_else(|| self.broken())?);
        self.tokens.lock().next().ok_or_else(|| self.broken())
    }

    /// Counts tokens from `first`, unless later ones were given already.
    fn number(&self, first: u64) {
        let mut tokens = self.tokens.lock();
        if first >= tokens.end {
            *tokens = first..first + TOKENS_PER_GRANT;
        }
    }

    /// Changes the record, once whatever ended by itself has ended.
    pub(crate) fn update<R>(
        &self,
        change: impl FnMut(&mut Record) -> Result<R, CoordinationError>,
    ) -> Result<R, CoordinationError> {
        self.entry.update(change)
    }

    /// The record as it is.
    pub(crate) fn record(&self) -> Result<Record, CoordinationError> {
        self.entry.read()
    }

    /// Asks the coordinator ahead of the lock, in this thread, so that the lock is free by then if it can be. It stays so as long as the
    /// expectation is kept.
    ///
    /// # Errors
    /// Why the coordinator cannot be asked.
    pub(crate) fn foresee(
        self: &Arc<Self>,
        foresight: Foresight,
    ) -> Result<Expected, CoordinationError> {
        self.entry.member.check()?;
        let expected = Expected::new(self);
        let held = self.lock.held();
        let free = match foresight.from {
            None => held.admits_newcomer(foresight.mode),
            Some(from) => held.without(from).admits(foresight.mode, 1),
        };
        if !free {
            self.take_turn(true, |state| state.foresight = Some(foresight))?;
        }
        Ok(expected)
    }

    /// Tells whether an owner is about to use what was granted.
    fn is_expected(&self) -> bool {
        self.expected.load(Ordering::Acquire) > 0
    }

    /// Does whatever there is to do; waits for whoever does so already, if `waits`.
    ///
    /// # Errors
    /// Why it could not all be done; the agent tries again.
    pub(crate) fn settle(&self, waits: bool) -> Result<(), CoordinationError> {
        self.take_turn(waits, |_| ())
    }

    /// Gives back what nobody here uses.
    ///
    /// # Errors
    /// Why that could not be said to the coordinator; the agent tries again.
    pub(crate) fn uncache(&self) -> Result<(), CoordinationError> {
        self.take_turn(true, |state| state.uncache = true)
    }

    /// Gives back what nobody here uses, now and later.
    ///
    /// # Errors
    /// As [`uncache`](Self::uncache).
    pub(crate) fn keep_no_more(&self) -> Result<(), CoordinationError> {
        self.cached.store(false, Ordering::Release);
        self.uncache()
    }

    /// What others want of this member, if it is to make way.
    pub(crate) fn recalled(&self) -> Option<Recalled> {
        *self.recalled.lock()
    }

    /// Tells whether what was given back here makes no difference to anybody elsewhere, who need not be told.
    #[inline(always)]
    pub(crate) fn keeps_what_is_given(&self) -> bool {
        // Should others come to want it just now, whoever hears of that finds what was given back.
        self.is_cached() && !self.is_wanted.load(Ordering::Acquire)
    }

    /// Tells the coordinator of what was given back here, if that makes a difference to anybody elsewhere.
    ///
    /// # Errors
    /// Why it could not be told; the agent tries again.
    pub(crate) fn settle_given(&self) -> Result<(), CoordinationError> {
        if self.keeps_what_is_given() { Ok(()) } else { self.settle(true) }
    }

    /// The one user of this resource in this process, which `make` makes if there is none; `None` if there is one of another type.
    pub(crate) fn user<U: User>(&self, make: impl FnOnce() -> Arc<U>) -> Option<Arc<U>> {
        let mut user = self.user.lock();
        if let Some(known) = user.as_ref().and_then(Weak::upgrade) {
            return (known as Arc<dyn Any + Send + Sync>).downcast().ok();
        }
        let made = make();
        let weak = Arc::downgrade(&made);
        *user = Some(weak);
        Some(made)
    }

    fn with_user(&self, tell: impl FnOnce(&dyn User)) {
        let user = self.user.lock().as_ref().and_then(Weak::upgrade);
        if let Some(user) = user {
            tell(&*user);
        }
    }

    /// Settles, and has the order carried out in the first round. In the middle of settling, in the one that follows.
    ///
    /// # Errors
    /// Why the first round could not do all there was to do.
    fn take_turn(
        &self,
        waits: bool,
        order: impl FnOnce(&mut State) + Send + 'static,
    ) -> Result<(), CoordinationError> {
        let own = thread::current().id();
        let mut turn = self.turn.lock();
        let (mut order, mut first) = (Some(order), None);
        loop {
            let Some(state) = turn.state.take() else {
                turn.again = true;
                // Whoever settles in the middle of settling was called by a waiter that was just told.
                let nested = turn.by == Some(own);
                if nested {
                    turn.orders.extend(order.take().map(|order| Box::new(order) as Order));
                }
                if nested || !waits {
                    return Ok(());
                }
                self.turned.wait(&mut turn);
                continue;
            };
            turn.by = Some(own);
            turn.again = false;
            let orders = std::mem::take(&mut turn.orders);
            drop(turn);
            let (state, result) = self.carry_out(state, orders, order.take());
            turn = self.turn.lock();
            turn.state = Some(state);
            turn.by = None;
            let result = result.unwrap_or_else(|panic| {
                self.turned.notify_all();
                resume_unwind(panic)
            });
            let first = first.get_or_insert(result);
            if turn.again {
                continue;
            }
            drop(turn);
            self.turned.notify_all();
            return first.clone();
        }
    }

    /// Makes one round. The state comes back from one that panics, too: else nobody would ever have a turn again.
    fn carry_out(
        &self,
        mut state: Box<State>,
        orders: Vec<Order>,
        order: Option<impl FnOnce(&mut State)>,
    ) -> (Box<State>, thread::Result<Result<(), CoordinationError>>) {
        // What there was news of is found now.
        self.is_rung.swap(false, Ordering::AcqRel);
        let result = catch_unwind(AssertUnwindSafe(|| {
            orders.into_iter().for_each(|order| order(&mut state));
            order.into_iter().for_each(|order| order(&mut state));
            self.round(&mut state)
        }));
        (state, result)
    }

    /// Has this one find out what the record gives the member, since another that stood for it here is no more.
    fn take_over(&self) {
        self.takes_over.store(true, Ordering::Release);
        self.ring();
    }

    /// Tells whether another stands for the record now.
    fn is_succeeded(&self) -> bool {
        let stands = self.agent.resources().get(&self.entry.key);
        stands.is_some_and(|stands| !std::ptr::eq(&*stands, self))
    }

    /// Tells whether nobody but this knows the lock.
    pub(crate) fn is_alone(&self) -> bool {
        // Here, and with `Elsewhere`.
        Arc::strong_count(&self.lock) == 2
    }

    /// Tells whether this thread is settling it, and finds what it changes by itself.
    fn is_in_turn(&self) -> bool {
        self.turn.lock().by == Some(thread::current().id())
    }

    /// Has the agent settle it soon, if it is not about to do so already.
    pub(crate) fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            self.agent.ring(&self.me);
        }
    }

    /// Settles it, unless somebody did since it was rung for.
    pub(crate) fn answer(&self) {
        if self.is_rung.load(Ordering::Acquire) {
            // Why it could not be, its waiters were told.
            let _ = self.settle(false);
        }
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    fn ring_at(&self, at: Moment) {
        self.agent.ring_at(at, self, &self.me);
    }
}

impl Drop for Resource {
    /// Nobody here uses it any more, so what is cached of it is of no use.
    fn drop(&mut self) {
        let Some(state) = self.turn.get_mut().state.take() else { return };
        if state.has_part() || self.takes_over.load(Ordering::Acquire) {
            let ended = self.ended(&state);
            self.agent.say(Leftover::new(self.entry.clone(), ended));
        }
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("key", &self.entry.key)
            .field("at", self.entry.member.at())
            .field("lock", &self.lock.held())
            .field("state", &self.turn.try_lock().map(|turn| format!("{:?}", turn.state)))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
