//! A lock held for a time.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::groups::Groups;
use super::line::Claim;
use super::node::Named;
use crate::core::member::MemberId;
use crate::core::record::{Abandonment, Moment};
use crate::error::LeaseError;
use crate::listeners::alone;

type OnLost = Box<dyn FnOnce(&LeaseError) + Send>;

/// A lock held for a time: Ariba's `GlobalLock`. Dropping it releases the lock, if it is held still.
///
/// Valid until it is released, its time is over, or its member is lost; after that each operation is an error that names the
/// lock and says which. What is said of it was true a moment ago: a thread that pauses can always find its lease over when it
/// goes on. So whoever acts on something outside looks again at what it found before, under the lock, and sends the
/// [`token`](Self::token) along.
///
/// Threads may share it. Of two that release it, one hears that it was released.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::coordination::{Coordinator, lease::Leases};
///
/// let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
/// let lock = leases.lasting(Duration::from_secs(30)).acquire_lock("report")?.expect("it is free");
/// lock.set_expiration(Duration::from_secs(300))?;
/// assert!(lock.is_valid());
/// lock.release()?;
/// assert!(!lock.is_valid() && lock.name() == "report");
/// # Ok::<(), tierlock::Error>(())
/// ```
#[must_use = "dropping a lease releases the lock"]
pub struct Lease {
    held: Arc<Held>,
    cleanup: Option<Cleanup>,
}

/// That the lock was left behind: its holder's time was over, or its member died, before it was released. Ariba's clean-up
/// notification.
///
/// What the lock guards may be half done, and whoever is told, the next holder, has to clean it up. It is told once. Whoever
/// lets its own time pass instead is the one that the holder after it is told of.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::coordination::{Coordinator, lease::Leases};
///
/// let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
/// let hasty = leases.owned_by("hasty").acquire_lock("report")?.expect("it is free");
/// hasty.set_expiration(Duration::from_millis(1))?;
/// let next = leases.acquire_lock_within("report", Duration::from_secs(10))?.expect("it expires");
/// let cleanup = next.cleanup().expect("it was not released");
/// assert_eq!(cleanup.owner.as_ref(), "hasty");
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cleanup {
    /// The lock.
    pub lock: Arc<str>,
    /// The member that held it.
    pub member: MemberId,
    /// The owner there.
    pub owner: Arc<str>,
    /// The fencing token of its hold.
    pub token: u64,
    /// Since when it held the lock, on the engine's clock.
    pub since: Moment,
    /// When that was found to be over.
    pub until: Moment,
}

/// What a lease and whoever ends it share.
pub(super) struct Held {
    named: Arc<Named>,
    token: u64,
    /// What tells whether the hold is lost.
    mark: u64,
    state: Mutex<State>,
    /// Disconnects when the lock was given back.
    freed: Receiver<Infallible>,
}

enum State {
    Held(Box<Hold>),
    Ended(LeaseError),
}

/// What there is while it is held, to be given back in this order.
struct Hold {
    claim: Claim,
    freed: Sender<Infallible>,
    on_lost: Vec<OnLost>,
}

impl Lease {
    /// Makes a lease of what was granted, and tells whoever wants to know what is to be cleaned up.
    pub(super) fn new(mut claim: Claim) -> Result<Self, LeaseError> {
        let named = Arc::clone(&claim.named);
        let (mark, token) = (named.resource().hold_mark(), claim.token()?);
        let mark = mark.map_err(|error| named.lost(error))?;
        let cleanup = claim.take_notice().map(|previous| Cleanup::new(&named.name, previous));
        let (to_free, freed) = bounded(0);
        let hold = Hold { claim, freed: to_free, on_lost: Vec::new() };
        let state = Mutex::new(State::Held(Box::new(hold)));
        let held = Arc::new(Held { named: Arc::clone(&named), token, mark, state, freed });
        named.set_current(&held);
        // It may have ended while nobody knew of it.
        named.end_if_over();
        let lease = Self { held, cleanup };
        lease.cleanup.iter().for_each(|cleanup| named.tell(cleanup));
        Ok(lease)
    }

    /// The lock's name; always to be had.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.held.named.name
    }

    /// Tells whether it is held still; always to be had.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.check().is_ok()
    }

    /// Fails if it is held no more, with why.
    ///
    /// # Errors
    /// [`Released`](LeaseError::Released), [`Expired`](LeaseError::Expired), [`Lost`](LeaseError::Lost).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// let lock = leases.acquire_lock("report")?.expect("it is free");
    /// lock.check()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn check(&self) -> Result<(), LeaseError> {
        self.held.check()
    }

    /// Whom to clean up after, if somebody had the lock before and did not release it. What it says stays true when the lease is
    /// over.
    #[must_use]
    pub fn cleanup(&self) -> Option<&Cleanup> {
        self.cleanup.as_ref()
    }

    /// The fencing token: greater than those of all leases of this lock before it, over the life of the store. Whatever the lock
    /// protects outside can keep the greatest that it saw, and refuse who comes with a smaller one.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn token(&self) -> Result<u64, LeaseError> {
        self.check()?;
        Ok(self.held.token)
    }

    /// How long it is still valid, if nothing happens to it.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::{Leases, LIFETIME}};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// let lock = leases.acquire_lock("report")?.expect("it is free");
    /// assert!(lock.expires_in()? <= LIFETIME);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn expires_in(&self) -> Result<Duration, LeaseError> {
        self.check()?;
        let resource = self.held.named.resource();
        let (until, now) = (resource.until().unwrap_or(Moment(u64::MAX)), resource.member().now());
        Ok(Duration::from_millis(until.0.saturating_sub(now.0)))
    }

    /// Has it end so long from now: later than it would have, or sooner. At once, if that is zero. In whole milliseconds, rounded
    /// up, counted from before the engine was asked.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`Coordination`](LeaseError::Coordination) if the engine could not be asked: it ends when it would
    /// have, or as was asked.
    pub fn set_expiration(&self, from_now: Duration) -> Result<(), LeaseError> {
        self.check()?;
        let resource = self.held.named.resource();
        match resource.set_end(self.held.token, whole_ms(from_now)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.held.why_over()),
            Err(error) if error.is_lost() => Err(self.held.named.lost(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Calls `call` with why when the lease is lost: its time is over, or its member is lost. At once, if that is so; never, if
    /// it is released. By whatever thread found out, within milliseconds; it must not block, and a panic of it ends there.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tierlock::coordination::{Coordinator, lease::{LeaseError, Leases}};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// let lock = leases.acquire_lock("report")?.expect("it is free");
    /// let (tell, told) = std::sync::mpsc::channel();
    /// lock.on_lost(move |why| tell.send(why.clone()).unwrap());
    /// lock.set_expiration(Duration::from_millis(1))?;
    /// assert!(matches!(told.recv().unwrap(), LeaseError::Expired { .. }));
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn on_lost(&self, call: impl FnOnce(&LeaseError) + Send + 'static) {
        let why = match &mut *self.held.state.lock() {
            State::Held(hold) => return hold.on_lost.push(Box::new(call)),
            State::Ended(LeaseError::Released { .. }) => return,
            State::Ended(why) => why.clone(),
        };
        alone(|| call(&why));
    }

    /// Gives the lock back. This object is good for nothing afterwards.
    ///
    /// # Errors
    /// As [`check`](Self::check): once it is over, it cannot be released, also not a second time.
    /// [`Coordination`](LeaseError::Coordination) if the engine could not be told; it is told later then, and this object is over.
    pub fn release(&self) -> Result<(), LeaseError> {
        if let Err(why) = self.check() {
            self.held.lose(&why);
            return Err(why);
        }
        let lock = Arc::clone(&self.held.named.name);
        let Some(Hold { claim, freed: _freed, .. }) = self.held.end(&LeaseError::Released { lock })
        else {
            return Err(self.held.why_over());
        };
        if claim.release()? { Ok(()) } else { Err(self.held.expired()) }
    }

    /// Puts the lock into the group. It cannot leave it; it is in the group, held or not, until the group is deleted.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`NoGroup`](LeaseError::NoGroup), [`GroupFull`](LeaseError::GroupFull),
    /// [`InGroup`](LeaseError::InGroup) if it is in another one. As of any request to the coordinator.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{Coordinator, lease::Leases};
    /// # let leases = Leases::new(&Coordinator::connect("memory:").join("worker-1")?)?;
    /// leases.create_group("printers", 2)?;
    /// let lock = leases.acquire_lock("laser")?.expect("it is free");
    /// lock.set_group("printers")?;
    /// assert_eq!(lock.group()?.as_deref(), Some("printers"));
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn set_group(&self, group: &str) -> Result<(), LeaseError> {
        self.check()?;
        let Named { coordinator, name, .. } = &*self.held.named;
        Groups::update(coordinator, |groups| {
            self.check()?;
            groups.add(group, name)
        })
    }

    /// The group in which the lock is.
    ///
    /// # Errors
    /// As [`check`](Self::check), and as of any request to the coordinator.
    pub fn group(&self) -> Result<Option<Arc<str>>, LeaseError> {
        self.check()?;
        let Named { coordinator, name, .. } = &*self.held.named;
        Ok(Groups::read(coordinator)?.group_of(name).cloned())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let lock = Arc::clone(&self.held.named.name);
        // Released if it is held, and given back here if it is over.
        drop(self.held.end(&LeaseError::Released { lock }));
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("name", &self.name())
            .field("token", &self.held.token)
            .field("state", &self.check())
            .finish_non_exhaustive()
    }
}

impl Held {
    pub(super) fn check(&self) -> Result<(), LeaseError> {
        if let Some(why) = self.ended() {
            return Err(why);
        }
        // What looks lost may have been released meanwhile.
        let over = |error| self.ended().unwrap_or_else(|| self.named.lost(error));
        self.named.resource().check(self.mark).map_err(over)
    }

    fn ended(&self) -> Option<LeaseError> {
        match &*self.state.lock() {
            State::Held(_) => None,
            State::Ended(why) => Some(why.clone()),
        }
    }

    fn expired(&self) -> LeaseError {
        LeaseError::Expired { lock: Arc::clone(&self.named.name) }
    }

    /// Why it is over, as is known from elsewhere.
    fn why_over(&self) -> LeaseError {
        self.check().err().unwrap_or_else(|| self.expired())
    }

    /// Ends it, unless it is over; what was held is to be given back where nothing is locked.
    fn end(&self, why: &LeaseError) -> Option<Hold> {
        let mut state = self.state.lock();
        if matches!(*state, State::Ended(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Ended(why.clone())) {
            State::Held(hold) => Some(*hold),
            State::Ended(_) => None,
        }
    }

    /// Waits for whoever ended it to give the lock back, which takes no longer than to tell the engine; not, if it is held.
    pub(super) fn wait_until_freed(&self) {
        if self.ended().is_some() {
            let _ = self.freed.recv();
        }
    }

    /// Ends it against its holder's will: frees the lock for the others of this process, and tells.
    pub(super) fn lose(&self, why: &LeaseError) {
        if let Some(Hold { claim, freed, on_lost }) = self.end(why) {
            drop(claim);
            drop(freed);
            on_lost.into_iter().for_each(|call| alone(|| call(why)));
        }
    }
}

impl Cleanup {
    fn new(lock: &Arc<str>, abandonment: Abandonment) -> Self {
        let Abandonment { party, token, since, at } = abandonment;
        Self {
            lock: Arc::clone(lock),
            member: party.member,
            owner: party.owner,
            token,
            since,
            until: at,
        }
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::core::print::Printable;
        let (lock, owner) = (Printable(&self.lock), Printable(&self.owner));
        write!(f, "{lock} was not released by {owner} at {}", self.member)
    }
}

/// So many milliseconds, or one more.
pub(super) fn whole_ms(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX)
}
