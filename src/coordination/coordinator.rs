//! Connecting to an engine and taking part.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::agent::{Agent, Hands};
use super::driver::{Capability, Driver, Key};
use super::lock::ClusterLock;
use super::member::{Member, engine_error};
use super::mourning::Lost;
use super::registry::Registry;
use super::resource::{OnAbandoned, Resource};
use super::value::Value;
use crate::core::member::MemberId;
use crate::error::{CoordinationError, DriverError, DriverErrorKind};
use crate::hold::Lock;
use crate::name::LockName;

/// How to take part; [`join`](Self::join) does.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::coordination::{Capability, Coordinator};
///
/// let coordinator = Coordinator::connect("memory:")
///     .require(Capability::CommonClock)
///     .ttl(Duration::from_secs(5))
///     .join("worker-1")?;
/// # Ok::<(), tierlock::coordination::CoordinationError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `join`"]
pub struct Connect {
    engine: Engine,
    required: Vec<Capability>,
    pub(crate) ttl: Duration,
    pub(crate) min_hold: Duration,
}

#[derive(Clone)]
enum Engine {
    At(Arc<str>),
    Given(Arc<dyn Driver>),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(url) => write!(f, "{url:?}"),
            Self::Given(driver) => write!(f, "{driver:?}"),
        }
    }
}

impl Connect {
    fn new(engine: Engine) -> Self {
        let (ttl, min_hold) = (Duration::from_secs(10), Duration::from_millis(2));
        Self { engine, required: Vec::new(), ttl, min_hold }
    }

    /// Refuses an engine that cannot do this.
    pub fn require(mut self, capability: Capability) -> Self {
        self.required.push(capability);
        self
    }

    /// How long the member lives without saying so, at an engine with [`Capability::Leases`]; 10 seconds unless said
    /// otherwise. It says so three times as often.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// How long the member keeps what it was granted, at least, if others want it and it has use for it; 2 milliseconds unless
    /// said otherwise. Longer means fewer round trips where several members want one lock, and longer waits.
    pub fn min_hold(self, min_hold: Duration) -> Self {
        Self { min_hold, ..self }
    }

    /// Takes part as a member of this name, which nobody else may have at a time.
    ///
    /// # Errors
    /// [`BadUrl`](CoordinationError::BadUrl), [`Incapable`](CoordinationError::Incapable),
    /// [`BadName`](CoordinationError::BadName), [`Engine`](CoordinationError::Engine) if the engine cannot be had or a member of this name
    /// lives.
    pub fn join(self, name: &str) -> Result<Coordinator, CoordinationError> {
        const TTL_MIN: Duration = Duration::from_millis(1);
        key_of([name], "a member", name)?;
        let driver = self.engine.driver()?;
        if self.ttl < TTL_MIN {
            let capability = format!("a time-to-live of {:?}; {TTL_MIN:?} is the least", self.ttl);
            let (at, capability) = (driver.name().into(), capability.into());
            return Err(CoordinationError::Incapable { at, capability });
        }
        if let Some(lacking) = self.required.iter().find(|c| !driver.capabilities().contains(c)) {
            let capability = format!("{lacking:?}").into();
            return Err(CoordinationError::Incapable { at: driver.name().into(), capability });
        }
        let ttl = self.ttl;
        let (coordinator, hands) = self.by_hand(driver, name)?;
        let threads = coordinator.inner.member.stay_alive(ttl).and_then(|()| hands.employ());
        threads.map_err(|error| {
            let error = DriverError::new(DriverErrorKind::Unavailable, error);
            coordinator.engine_error("starting a thread", error)
        })?;
        Ok(coordinator)
    }

    /// Takes part without any thread: somebody else says that the member lives, and does its work.
    pub(crate) fn by_hand(
        self,
        driver: Arc<dyn Driver>,
        name: &str,
    ) -> Result<(Coordinator, Hands), CoordinationError> {
        let member = Member::join(Arc::clone(&driver), name, self.ttl)?;
        let (agent, hands) = Agent::new(self.min_hold, driver);
        let told = Arc::downgrade(&agent);
        // Who waits is refused, and not only when the next look is due.
        member.on_end(Box::new(move |_| {
            if let Some(agent) = told.upgrade() {
                agent.ring_all();
            }
        }));
        let inner = Inner { member, agent, faces: Mutex::default() };
        Ok((Coordinator { inner: Arc::new(inner) }, hands))
    }
}

impl Engine {
    fn driver(&self) -> Result<Arc<dyn Driver>, CoordinationError> {
        match self {
            Self::Given(driver) => Ok(Arc::clone(driver)),
            Self::At(url) => super::connect::connect(url),
        }
    }
}

/// A part in a coordination: one member at one engine. Clones are the same member, which leaves when the last one is
/// dropped.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    member: Arc<Member>,
    agent: Arc<Agent>,
    /// Those in use here, each once.
    faces: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Coordinator {
    /// Takes part at the engine that the URL names: `memory:`, `memory:NAME` or `file:///DIR`.
    pub fn connect(url: &str) -> Connect {
        Connect::new(Engine::At(url.into()))
    }

    /// Takes part at an engine for which there is a driver already.
    pub fn over(driver: Arc<dyn Driver>) -> Connect {
        Connect::new(Engine::Given(driver))
    }

    /// Who this is.
    #[must_use]
    pub fn member(&self) -> &MemberId {
        self.seat().id()
    }

    /// Everybody who takes part now.
    ///
    /// # Errors
    /// [`Engine`](CoordinationError::Engine) if it cannot be read.
    pub fn members(&self) -> Result<Vec<MemberId>, CoordinationError> {
        let members = self.seat().driver().members();
        members.map_err(|error| self.engine_error("listing members", error))
    }

    /// Fails if the member is lost, and with it everything that it held.
    ///
    /// # Errors
    /// [`Lost`](CoordinationError::Lost).
    pub fn check(&self) -> Result<(), CoordinationError> {
        self.seat().check()
    }

    /// Calls `call` when the member is lost, or at once if it is; not when it [leaves](Self::leave). By whatever thread found out; it must not block.
    pub fn on_lost(&self, call: impl FnOnce(&CoordinationError) + Send + 'static) {
        self.seat().on_lost(Box::new(call));
    }

    /// Calls `call` when the member is no more, also because it left.
    pub(crate) fn on_end(&self, call: impl FnOnce(&CoordinationError) + Send + 'static) {
        self.seat().on_end(Box::new(call));
    }

    /// The member's end, to be awaited.
    pub fn lost(&self) -> Lost {
        self.seat().lost()
    }

    /// Leaves, and gives back everything held; whoever uses it later hears that it is lost. Once is enough.
    ///
    /// What was [kept](ClusterLock::cached) and is not used is released, so nobody is told that it was abandoned; what is used at that
    /// moment was. That is said for one lock after the other, as far as the engine can be reached.
    ///
    /// # Errors
    /// [`Engine`](CoordinationError::Engine) if it could not be said; the member dies by itself then.
    pub fn leave(&self) -> Result<(), CoordinationError> {
        self.give_back_unused();
        self.seat().leave()
    }

    fn give_back_unused(&self) {
        for resource in self.resources().all() {
            // A member that is lost has nothing to give, and no copy of its process gives for it.
            if self.seat().check_process().is_err() {
                return;
            }
            if let Err(error) = resource.keep_no_more()
                && error.is_transient()
            {
                tracing::warn!(%error, "leaves with locks that are kept");
                return;
            }
        }
    }

    /// The lock of this name, which everybody who takes part means by it.
    ///
    /// # Errors
    /// [`BadName`](CoordinationError::BadName) if it is empty or longer than some 1,000 bytes.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::Coordinator;
    /// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// assert_eq!(coordinator.lock("config")?.name().to_string(), "config");
    /// # Ok::<(), tierlock::coordination::CoordinationError>(())
    /// ```
    pub fn lock(&self, name: &str) -> Result<ClusterLock, CoordinationError> {
        let key = key_of(["lock", name], "a lock", name)?;
        let resource = self.resource(key, |_| {
            let lock = Arc::new(Lock::new(LockName::alone(name.into())));
            let told: OnAbandoned = Box::new(|lock, by| lock.abandon(by));
            (lock, told)
        });
        Ok(ClusterLock::new(resource))
    }

    pub(crate) fn resources(&self) -> &Registry {
        self.inner.agent.resources()
    }

    /// Fails if somebody here uses the resource of this key.
    pub(crate) fn check_unused(&self, key: &Key) -> Result<(), CoordinationError> {
        if self.resources().get(key).is_none() {
            return Ok(());
        }
        Err(CoordinationError::InUse {
            resource: key.as_str().into(),
            member: self.member().clone(),
        })
    }

    /// Puts a lock that nobody uses yet under the record of this key, which nobody here uses either.
    pub(crate) fn adopt(&self, key: Key, lock: Arc<Lock>, told: OnAbandoned) -> Arc<Resource> {
        let Inner { member, agent, .. } = &*self.inner;
        let resource = Resource::new(member, agent, key.clone(), lock, told);
        self.resources().put(&key, &resource);
        resource
    }

    /// Gives back what was granted of resources that nobody here uses any more.
    pub(crate) fn retire(&self, resources: impl IntoIterator<Item = Arc<Resource>>) {
        resources.into_iter().for_each(|resource| self.inner.agent.retire(resource));
    }

    /// The value of this name, which all members share.
    ///
    /// # Errors
    /// [`BadName`](CoordinationError::BadName) if the name is empty or longer than some 1,000 bytes.
    ///
    /// # Examples
    /// See [`Value`].
    pub fn value(&self, name: &str) -> Result<Value, CoordinationError> {
        Ok(Value::new(self.seat(), key_of(["value", name], "a value", name)?))
    }

    /// The resource of this key, made if nobody here uses it.
    pub(crate) fn resource(
        &self,
        key: Key,
        make: impl FnOnce(&Key) -> (Arc<Lock>, OnAbandoned),
    ) -> Arc<Resource> {
        self.resources().get_or_make(&key, || {
            let (lock, told) = make(&key);
            let Inner { member, agent, .. } = &*self.inner;
            Resource::new(member, agent, key.clone(), lock, told)
        })
    }

    /// What a face keeps for all who use it by way of this member; made by the first of them.
    pub(crate) fn face<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut faces = self.inner.faces.lock();
        let face = faces.entry(TypeId::of::<T>()).or_insert_with(|| make());
        Arc::clone(face).downcast().expect("it is there under its own type")
    }

    pub(crate) fn seat(&self) -> &Arc<Member> {
        &self.inner.member
    }

    pub(crate) fn engine_error(&self, what: &str, error: DriverError) -> CoordinationError {
        engine_error(what.to_owned(), self.seat().at(), error)
    }
}

/// No caller's code runs while anything of it changes, so no panic of theirs is seen half way.
impl UnwindSafe for Coordinator {}
impl RefUnwindSafe for Coordinator {}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Coordinator").field(&self.inner.member).finish()
    }
}

/// The key of something called `name`.
pub(crate) fn key_of<'p>(
    parts: impl IntoIterator<Item = &'p str>,
    what: &'static str,
    name: &str,
) -> Result<Key, CoordinationError> {
    Key::of(parts).map_err(|error| CoordinationError::BadName {
        what,
        name: name.into(),
        reason: error.to_string().into(),
    })
}
