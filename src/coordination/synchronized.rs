//! Locks by name across processes, called as OpenStack Manila calls those that it takes through Tooz.
//!
//! An agent has a [`Coordinator`], which it starts once. A [`Lock`] has a name, which may be a
//! [template](crate::template) filled from data, and is taken for as long as one likes to wait: [`Blocking`]. [`synchronized`] holds
//! one for the time of a call, and so does `#[ssynchronized("..", in = coordinator)]`, whose template is checked when it is compiled.
//!
//! # Porting
//!
//! | Manila and Tooz | here |
//! |---|---|
//! | `[coordination] backend_url` | the URL of [`Connect`]: `memory:`, `file:///DIR` |
//! | `get_coordinator(url, member, CHARACTERISTICS)` | [`Connect::require`] a [`Capability`](super::Capability) |
//! | `Coordinator(agent_id, prefix)` | [`Coordinator::new`], [`agent_id`](Coordinator::agent_id), [`prefix`](Coordinator::prefix) |
//! | `LOCK_COORDINATOR` | a `static` of yours: `LazyLock<Coordinator>` |
//! | `coordinator.start()`, `stop()`, `started` | [`start`](Coordinator::start), [`stop`](Coordinator::stop), [`started`](Coordinator::started) |
//! | `coordinator.get_lock(name)` | [`get_lock`](Coordinator::get_lock) |
//! | `Lock(lock_name, lock_data, coordinator)` | [`Lock::new`] |
//! | `lock.acquire(blocking, shared)` | [`acquire`](Lock::acquire) with [`Blocking`] and [`Mode`]; `shared` is heeded |
//! | `blocking=True`, `False`, `2.5` | `true`, `false`, `Duration::from_millis(2500)`, or [`Blocking`] itself |
//! | `timeout=..` of Manila (ignored) | `Blocking::For` |
//! | `lock.release()` | [`release`](Lock::release); also when the lock is dropped |
//! | `with lock:`, `with lock(blocking, shared):` | [`with`](Lock::with), [`guard`](Lock::guard) |
//! | `lock.break_()` | [`break_lock`](Lock::break_lock) |
//! | `lock.is_still_owner()`, `lock.acquired` | [`is_still_owner`](Lock::is_still_owner), [`acquired`](Lock::acquired) |
//! | `lock.name` | [`name`](Lock::name), with the prefix |
//! | `heartbeat()`, the thread `Heart` | nothing to call: the member keeps itself alive, see [`Connect::ttl`]. [`heartbeat`](Coordinator::heartbeat) tells whether it does |
//! | `@synchronized('{f_name}-{share.id}')` | `#[ssynchronized("{f_name}-{share.id}", in = coordinator)]`, or [`synchronized`] |
//! | `LockCreationFailed`, `LockAcquireFailed` | the cases of [`SynchronizedError`] |
//! | `ToozError` | [`SynchronizedError::Coordination`], [`CoordinationError`] |
//!
//! # What is otherwise here
//!
//! - **Shared means shared**, across processes too, at every engine. In Manila it is ignored, in most of Tooz not there, and
//!   between processes at its file driver refused.
//! - **Who waits is in line**, and is told when its turn comes. Nobody polls, nobody is overtaken, and giving up leaves nothing behind.
//! - **A timeout is `false`**, or `LockAcquireFailed` where there is no `bool`; at no engine anything else. `true` waits for ever, and
//!   is no number.
//! - **Waiting for oneself is an error.** Who waits without limit for a name that the [current owner](Owner::current) holds would never
//!   get it: that fails at once, be it held by another lock of the same agent, by an annotated function or by
//!   [`cluster_lock`](Lock::cluster_lock). Limited waits end by themselves, so they are waited for; but a lock that is held already is
//!   not waited for by that lock itself, which is `false` at once.
//! - **What is lost is known to be lost.** An agent that could not say in time that it lives knows so before another gets the lock:
//!   [`is_still_owner`](Lock::is_still_owner) and [`release`](Lock::release) are false then. What it writes meanwhile, it writes with its
//!   [`token`](Lock::token), so that whoever receives it can refuse what comes too late.
//! - **A name is what it says.** It must not be blank; may be any text (Manila's has to be ASCII) of up to some 1,000 bytes; is compared
//!   whole, not by a hash; and is no path. A template fails where a value is missing, nothing or blank, before anything is asked for.
//! - **A copy of the process is not started.** After a fork only the parent is the agent; what the child asks for is refused.
//! - **A lock of a lost agent stays lost.** After the coordinator was stopped, or was lost and started again, locks are made anew.
//!
//! # Examples
//! ```
//! use std::time::Duration;
//! use tierlock::Mode;
//! use tierlock::coordination::{self, synchronized::Coordinator};
//!
//! let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:")).prefix("manila-");
//! coordinator.start()?;
//! let lock = coordinator.get_lock("share-7")?;
//! if lock.acquire(Duration::from_secs(2), Mode::Exclusive)? {
//!     assert_eq!(lock.name(), "manila-share-7");
//!     lock.release();
//! }
//! coordinator.stop()?;
//! # Ok::<(), tierlock::Error>(())
//! ```

mod holds;
mod lock;
mod within;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, ReentrantMutex};

use self::holds::Holds;
pub use self::lock::{Lock, LockGuard};
pub use self::within::AcquireNamed;
use super::Connect;
use crate::core::mode::Mode;
pub use crate::error::SynchronizedError;
use crate::error::{CoordinationError, TemplateError};
#[cfg(doc)]
use crate::owner::Owner;
use crate::template::{Data, Template};

/// How long to wait for a lock.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::coordination::synchronized::Blocking;
///
/// assert_eq!(Blocking::from(true), Blocking::Yes);
/// assert_eq!(Blocking::from(Duration::from_secs(2)), Blocking::For(Duration::from_secs(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blocking {
    /// As long as it takes.
    Yes,
    /// Not at all: now or never.
    No,
    /// So long at most.
    For(Duration),
}

impl From<bool> for Blocking {
    fn from(blocking: bool) -> Self {
        if blocking { Self::Yes } else { Self::No }
    }
}

impl From<Duration> for Blocking {
    fn from(time: Duration) -> Self {
        Self::For(time)
    }
}

/// An agent of a cluster, and the locks that it shares with others.
///
/// Clones are the same agent. It takes part from [`start`](Self::start) until [`stop`](Self::stop), or until the last clone and
/// the last of its locks are dropped.
///
/// It is a place where a name means a lock: `#[ssynchronized("share-{id}", in = coordinator)]`.
///
/// # Examples
/// ```
/// use std::sync::LazyLock;
/// use tierlock::coordination::{self, synchronized::Coordinator};
/// use tierlock::{Error, ssynchronized};
///
/// static LOCK_COORDINATOR: LazyLock<Coordinator> = LazyLock::new(|| {
///     Coordinator::new(coordination::Coordinator::connect("memory:")).prefix("manila-")
/// });
///
/// #[ssynchronized("share-{share_id}-{f_name}", in = LOCK_COORDINATOR)]
/// fn delete(share_id: u32) -> Result<(), Error> {
///     Ok(())
/// }
///
/// assert!(delete(7).is_err(), "not started");
/// LOCK_COORDINATOR.start()?;
/// delete(7)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Coordinator {
    connect: Connect,
    agent_id: Arc<str>,
    prefix: Arc<str>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// One thread starts or stops at a time. Who is told of what comes of that may do so in the midst of it.
    turn: ReentrantMutex<()>,
    part: Mutex<Option<Part>>,
}

/// A life of the agent.
#[derive(Clone)]
struct Part {
    coordinator: super::Coordinator,
    holds: Arc<Holds>,
    pid: u32,
}

impl Part {
    /// Neither lost, nor somebody else's: of the process that this one was forked from.
    fn lives(&self) -> bool {
        self.pid == process::id() && self.coordinator.check().is_ok()
    }

    /// Frees the name of one that is lost, which the engine may not know of yet.
    fn vacate(&self) {
        if self.pid == process::id() {
            // Whoever finds itself lost says so, by what would have been its next word.
            let _ = self.coordinator.seat().beat(Duration::ZERO);
        }
    }
}

impl Coordinator {
    /// An agent that does not take part yet; its id is new, and it has no prefix. Nothing is connected to.
    ///
    /// # Examples
    /// ```
    /// use tierlock::coordination::{self, synchronized::Coordinator};
    ///
    /// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// assert!(!coordinator.started());
    /// ```
    #[must_use]
    pub fn new(connect: Connect) -> Self {
        let agent_id = new_id();
        Self { connect, agent_id: agent_id.into(), prefix: "".into(), state: Arc::default() }
    }

    /// Calls the agent so, from the next start on. No two that live have one id, of one prefix.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::Coordinator};
    /// let connect = coordination::Coordinator::connect("memory:");
    /// let coordinator = Coordinator::new(connect).agent_id("host-a");
    /// coordinator.start()?;
    /// assert_eq!(&**coordinator.joined().unwrap().member().name(), "host-a");
    /// # Ok::<(), coordination::CoordinationError>(())
    /// ```
    #[must_use]
    pub fn agent_id(self, agent_id: &str) -> Self {
        Self { agent_id: agent_id.into(), ..self }
    }

    /// Begins the names of the agent and of its locks so; those of locks at once, that of the agent from the next start on.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::Coordinator};
    /// let connect = coordination::Coordinator::connect("memory:");
    /// let coordinator = Coordinator::new(connect).prefix("manila-");
    /// coordinator.start()?;
    /// assert_eq!(coordinator.get_lock("share-7")?.name(), "manila-share-7");
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Takes part, and stays alive from then on. Does nothing if it does already.
    ///
    /// An agent that was lost begins a new life; what it made in the one before stays lost.
    ///
    /// # Errors
    /// As [`Connect::join`]; it is not started then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::Coordinator};
    /// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// coordinator.start()?;
    /// coordinator.start()?;
    /// assert!(coordinator.started());
    /// # Ok::<(), coordination::CoordinationError>(())
    /// ```
    pub fn start(&self) -> Result<(), CoordinationError> {
        // Who is told that it is lost may start it anew.
        if self.started() {
            return Ok(());
        }
        let _turn = self.state.turn.lock();
        if self.started() {
            return Ok(());
        }
        let former = self.state.part.lock().clone();
        former.inspect(Part::vacate);
        let coordinator = self.connect.clone().join(&self.behind_prefix(&self.agent_id))?;
        let part = Part { coordinator, holds: Arc::default(), pid: process::id() };
        // The former is dropped when nothing is locked.
        let former = self.state.part.lock().replace(part);
        drop(former);
        Ok(())
    }

    /// Leaves; whatever the agent held is given back. Does nothing if it does not take part.
    ///
    /// # Errors
    /// [`Engine`](CoordinationError::Engine) if it could not be said; it is stopped nevertheless, and others learn of it by themselves.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::Coordinator};
    /// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// coordinator.start()?;
    /// coordinator.stop()?;
    /// coordinator.stop()?;
    /// assert!(!coordinator.started());
    /// # Ok::<(), coordination::CoordinationError>(())
    /// ```
    pub fn stop(&self) -> Result<(), CoordinationError> {
        // Who is told that it is lost may start it anew: before this stops it.
        let _ = self.started();
        let _turn = self.state.turn.lock();
        let Some(part) = self.state.part.lock().take() else {
            tracing::debug!(agent = %self.agent_id, "stopped before it was started");
            return Ok(());
        };
        part.holds.clear();
        if part.lives() {
            return part.coordinator.leave();
        }
        part.vacate();
        Ok(())
    }

    /// Tells whether it takes part: it was started and not stopped, lives, and this is the process that started it.
    ///
    /// # Examples
    /// See [`start`](Self::start).
    #[must_use]
    pub fn started(&self) -> bool {
        self.part().is_some()
    }

    /// Asks the engine whether the agent lives: false also if it is not started. It lives without this.
    ///
    /// # Errors
    /// [`Engine`](CoordinationError::Engine) if it could not be asked; the agent lives until its time is up then.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::Coordinator};
    /// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// assert!(!coordinator.heartbeat()?);
    /// coordinator.start()?;
    /// assert!(coordinator.heartbeat()?);
    /// # Ok::<(), coordination::CoordinationError>(())
    /// ```
    pub fn heartbeat(&self) -> Result<bool, CoordinationError> {
        let Some(part) = self.part() else { return Ok(false) };
        match part.coordinator.seat().check_with_engine() {
            Ok(()) => Ok(true),
            Err(error) if error.is_lost() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The member that it is while it takes part: who else there is, and when it is lost.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::Coordinator};
    /// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// coordinator.start()?;
    /// let member = coordinator.joined().unwrap();
    /// member.on_lost(|error| eprintln!("{error}"));
    /// assert_eq!(member.members()?.len(), 1);
    /// # Ok::<(), coordination::CoordinationError>(())
    /// ```
    #[must_use]
    pub fn joined(&self) -> Option<super::Coordinator> {
        self.part().map(|part| part.coordinator)
    }

    /// A new lock of this name behind the prefix. Two of one name exclude each other, wherever they are.
    ///
    /// # Errors
    /// [`NotStarted`](SynchronizedError::NotStarted); [`LockCreationFailed`](SynchronizedError::LockCreationFailed) if the name is
    /// blank or too long.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{Mode, coordination::{self, synchronized::Coordinator}};
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// coordinator.start()?;
    /// let (one, two) = (coordinator.get_lock("größe")?, coordinator.get_lock("größe")?);
    /// assert!(one.acquire(true, Mode::Exclusive)?);
    /// assert!(!two.acquire(false, Mode::Exclusive)?);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn get_lock(&self, name: &str) -> Result<Lock, SynchronizedError> {
        let (part, lock) = self.lock(name)?;
        Ok(Lock::over(lock, part.holds))
    }

    fn lock(&self, name: &str) -> Result<(Part, super::ClusterLock), SynchronizedError> {
        let part = self.part().ok_or_else(|| SynchronizedError::NotStarted {
            agent: self.behind_prefix(&self.agent_id),
            name: self.behind_prefix(name),
        })?;
        if name.trim().is_empty() {
            return Err(self.refusal(name, "a blank name would be one lock for everybody"));
        }
        let lock = part.coordinator.lock(&self.behind_prefix(name));
        let lock = lock.map_err(|error| self.refusal(name, &error.to_string()))?;
        part.holds.watch(&lock);
        Ok((part, lock))
    }

    fn refusal(&self, name: &str, reason: &str) -> SynchronizedError {
        SynchronizedError::LockCreationFailed {
            agent: self.behind_prefix(&self.agent_id),
            name: self.behind_prefix(name),
            reason: reason.into(),
        }
    }

    fn behind_prefix(&self, name: &str) -> Arc<str> {
        format!("{}{name}", self.prefix).into()
    }

    fn part(&self) -> Option<Part> {
        let part = self.state.part.lock().clone();
        part.filter(Part::lives)
    }
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("agent_id", &self.agent_id)
            .field("prefix", &self.prefix)
            .field("started", &self.started())
            .finish_non_exhaustive()
    }
}

/// An id like a random UUID, of the randomness that hash maps are seeded with.
fn new_id() -> String {
    let random = || {
        let mut hasher = RandomState::new().build_hasher();
        // A copy of the process goes on with the same seeds.
        hasher.write_u32(process::id());
        hasher.finish()
    };
    let high = (random() & !0xf000) | 0x4000;
    let low = (random() & (u64::MAX >> 2)) | (1 << 63);
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}

/// Makes calls that hold a lock by a name made of their arguments.
///
/// Where the function is known when it is compiled, write `#[ssynchronized("..", in = coordinator)]` above it instead.
///
/// # Errors
/// As [`Template::parse`]. The coordinator need not be started yet.
///
/// # Examples
/// ```
/// use tierlock::coordination::{self, synchronized::{Coordinator, synchronized}};
/// use tierlock::template::Data;
///
/// let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
/// let exclusively = synchronized("{f_name}-{share.id}", true, &coordinator)?;
/// coordinator.start()?;
/// let arguments = Data::new().with("share", Data::new().with("id", 7));
/// assert_eq!(exclusively.call("delete", &arguments, || 17)?, 17);
/// # Ok::<(), tierlock::Error>(())
/// ```
pub fn synchronized(
    template: &str,
    blocking: impl Into<Blocking>,
    coordinator: &Coordinator,
) -> Result<Synchronized, TemplateError> {
    Ok(Synchronized {
        template: Template::parse(template)?,
        blocking: blocking.into(),
        mode: Mode::Exclusive,
        coordinator: coordinator.clone(),
    })
}

/// How calls are made that hold a lock: see [`synchronized`].
#[derive(Clone, Debug)]
pub struct Synchronized {
    template: Template,
    blocking: Blocking,
    mode: Mode,
    coordinator: Coordinator,
}

impl Synchronized {
    /// Lets those go together that call this way.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::{self, synchronized::{Coordinator, synchronized}};
    /// # use tierlock::template::Data;
    /// # let coordinator = Coordinator::new(coordination::Coordinator::connect("memory:"));
    /// coordinator.start()?;
    /// let together = synchronized("share-{id}", false, &coordinator)?.shared();
    /// let data = Data::new().with("id", 7);
    /// assert!(together.call("read", &data, || together.call("read", &data, || ()).is_ok())?);
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn shared(self) -> Self {
        Self { mode: Mode::Shared, ..self }
    }

    /// Makes the name of `arguments`, with `f_name` as what is called, and holds the lock while `work` runs; it is given back
    /// also if that panics.
    ///
    /// # Errors
    /// As [`Lock::new`] and [`Lock::with`]; `work` did not run then.
    ///
    /// # Examples
    /// See [`synchronized`].
    pub fn call<R>(
        &self,
        f_name: &str,
        arguments: &Data,
        work: impl FnOnce() -> R,
    ) -> Result<R, SynchronizedError> {
        let data = arguments.clone().with("f_name", f_name);
        let lock = self.coordinator.get_lock(&self.template.format(&data)?)?;
        lock.with(self.blocking, self.mode, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_process_is_not_started() {
        let coordinator = Coordinator::new(crate::coordination::Coordinator::connect("memory:"));
        coordinator.start().unwrap();
        // What a fork leaves of it.
        coordinator.state.part.lock().as_mut().unwrap().pid += 1;
        assert!(!coordinator.started());
        let refused = coordinator.get_lock("share-7");
        assert!(matches!(refused, Err(SynchronizedError::NotStarted { .. })));
        assert!(!coordinator.heartbeat().unwrap());
    }

    #[test]
    fn ids_look_like_random_ones_and_are_all_different() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(id[14..].starts_with('4') && "89ab".contains(&id[19..20]), "{id}");
        }
    }
}
