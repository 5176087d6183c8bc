//! Ranks of a hierarchy, and requests that name one.

use std::sync::Arc;

use crate::core::mode::Mode;
use crate::request::{Membership, Names, SetRequest};

/// A rank in a hierarchy of locks: locks are taken in increasing rank.
///
/// Derived for an enum of yours whose variants are the levels: see [`macro@crate::Level`]. Implemented by hand it works as well, or given by [`LockManager::level`](crate::LockManager::level)
/// for levels known at run time.
///
/// # Examples
/// ```
/// use tierlock::{Level, LockManager};
///
/// #[derive(Level)]
/// enum Tier { Cluster, Tenant }
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

/// Every level of a hierarchy, as an enum declares them. Implemented by [`#[derive(Level)]`](macro@crate::Level), and used by
/// [`LockManagerBuilder::levels`](crate::LockManagerBuilder::levels).
///
/// # Examples
/// ```
/// use tierlock::{Level, Levels, Membership};
///
/// #[derive(Level)]
/// enum Tier {
///     #[level(root = "BIG", fixed)]
///     Cluster,
///     Tenant,
/// }
/// assert_eq!(Tier::LEVELS.len(), 2);
/// assert_eq!((Tier::ROOT, Tier::Cluster.membership()), (Some("BIG"), Membership::Fixed));
/// ```
pub trait Levels: Level + Sized + 'static {
    /// In order.
    const LEVELS: &'static [Self];

    /// The lock of the first level that is held before anything else.
    const ROOT: Option<&'static str>;

    /// Whether the names of this level can change, and how.
    fn membership(&self) -> Membership;
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
    pub(crate) fn new<L: Level + ?Sized>(level: &L, mode: Mode, names: Names) -> Self {
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
