//! Ranks of a hierarchy, and requests that name one.

use std::sync::Arc;

use crate::core::mode::Mode;
use crate::request::{Names, SetRequest};

/// A rank in a hierarchy of locks: locks are taken in increasing rank.
///
/// Implemented by an enum of yours whose variants are the levels, or given by [`LockManager::level`](crate::LockManager::level)
/// for levels known at run time.
///
/// # Examples
/// ```
/// use tierlock::{Level, LockManager};
///
/// #[derive(Clone, Copy)]
/// enum Tier { Cluster, Tenant }
///
/// impl Level for Tier {
///     fn rank(&self) -> usize { *self as usize }
///     fn name(&self) -> &str { match self { Tier::Cluster => "cluster", Tier::Tenant => "tenant" } }
/// }
///
/// let manager = LockManager::builder()
///     .level(Tier::Cluster, ["BIG"])
///     .on_demand_level(Tier::Tenant)
///     .build()?;
/// let mut job = manager.session("job-17");
/// job.acquire(Tier::Cluster.shared("BIG")).wait()?;
/// job.acquire(Tier::Tenant.exclusive(["acme", "umbrella"])).wait()?;
/// # Ok::<(), tierlock::Error>(())
/// ```
pub trait Level {
    /// The place in the order, counted from 0.
    fn rank(&self) -> usize;

    /// What people call it; shown before the names of its locks, as in `node/n1`.
    fn name(&self) -> &str;

    /// Asks for names of this level in [`Mode::Shared`].
    ///
    /// # Examples
    /// ```
    /// use tierlock::{ALL, Level, ganeti};
    /// let request = ganeti::Level::Node.shared(ALL).at_least(2);
    /// ```
    fn shared(&self, names: impl Into<Names>) -> LevelRequest {
        LevelRequest::new(self, Mode::Shared, names.into())
    }

    /// Asks for names of this level in [`Mode::Exclusive`].
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Level, ganeti};
    /// let request = ganeti::Level::Instance.exclusive(["web1", "web2"]);
    /// ```
    fn exclusive(&self, names: impl Into<Names>) -> LevelRequest {
        LevelRequest::new(self, Mode::Exclusive, names.into())
    }
}

impl<L: Level + ?Sized> Level for &L {
    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn name(&self) -> &str {
        (**self).name()
    }
}

/// A level known at run time.
///
/// # Examples
/// ```
/// use tierlock::{Level, LevelId, LockManager};
///
/// let levels = ["cluster", "tenant"].iter().enumerate().map(|(rank, name)| LevelId::new(rank, *name));
/// let builder = levels.fold(LockManager::builder(), |builder, level| builder.on_demand_level(level));
/// let manager = builder.build()?;
/// let tenant = manager.level("tenant").unwrap();
/// manager.session("job").acquire(tenant.exclusive("acme")).wait()?;
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LevelId {
    rank: usize,
    name: Arc<str>,
}

impl LevelId {
    /// The level of this rank and name.
    ///
    /// # Examples
    /// ```
    /// let node = tierlock::LevelId::new(0, "node");
    /// ```
    #[must_use]
    pub fn new(rank: usize, name: impl Into<Arc<str>>) -> Self {
        Self { rank, name: name.into() }
    }
}

impl Level for LevelId {
    fn rank(&self) -> usize {
        self.rank
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// What is asked of one level.
///
/// # Examples
/// ```
/// use tierlock::{ALL, Level, ganeti};
/// let request = ganeti::Level::Node.exclusive(ALL).opportunistic();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a request does nothing by itself"]
pub struct LevelRequest {
    pub(crate) rank: usize,
    pub(crate) level: Arc<str>,
    pub(crate) request: SetRequest,
}

impl LevelRequest {
    fn new<L: Level + ?Sized>(level: &L, mode: Mode, names: Names) -> Self {
        let request = SetRequest { mode, names, at_least: None };
        Self { rank: level.rank(), level: level.name().into(), request }
    }

    /// Takes what is free and waits for nothing at this level; see [`SetRequest::opportunistic`].
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti};
    /// let request = ganeti::Level::Node.exclusive(ALL).opportunistic();
    /// ```
    pub fn opportunistic(self) -> Self {
        self.at_least(0)
    }

    /// Takes what is free, and fails if that is less than `count`; see [`SetRequest::at_least`].
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{ALL, Level, ganeti};
    /// let request = ganeti::Level::Node.exclusive(ALL).at_least(2);
    /// ```
    pub fn at_least(self, count: usize) -> Self {
        Self { request: self.request.at_least(count), ..self }
    }
}
