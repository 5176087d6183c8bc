//! A hierarchy of lock sets: its levels, its root, and the sessions in it.

use std::sync::Arc;

#[cfg(feature = "coordination")]
use crate::coordination::{Coordinator, level::ClusterLevel};
use crate::error::{AcquireError, BuildError};
use crate::lent::Visitors;
use crate::level::{Level, LevelId, LevelRequest, Levels};
use crate::monitor::{LockMonitor, Source, Watched};
use crate::owner::Owner;
use crate::plan::{Hierarchy, Plan};
use crate::request::Membership;
use crate::session::{ManagerLevel, Session};
use crate::set::Set;

/// The locks of a program, in levels. Cheap to clone: clones are the same manager.
///
/// Owners take locks by [`session`](Self::session), in increasing order of levels and, within a level, in byte order of names:
/// so no two can wait for each other.
///
/// # Examples
/// ```
/// use tierlock::{Level, LevelId, LockManager};
///
/// let (tenant, volume) = (LevelId::new(0, "tenant"), LevelId::new(1, "volume"));
/// let manager = LockManager::builder()
///     .level(&tenant, ["acme", "umbrella"])
///     .on_demand_level(&volume)
///     .build()?;
/// let mut job = manager.session("job-17");
/// job.acquire(tenant.shared("acme")).wait()?;
/// job.acquire(volume.exclusive("vol-1")).wait()?;
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LockManager {
    hierarchy: Arc<Hierarchy>,
}

impl LockManager {
    /// Begins to describe a manager.
    ///
    /// # Examples
    /// ```
    /// let manager = tierlock::LockManager::builder().build()?;
    /// # Ok::<(), tierlock::BuildError>(())
    /// ```
    pub fn builder() -> LockManagerBuilder {
        LockManagerBuilder::default()
    }

    /// Opens a session for a new owner called `name`.
    ///
    /// # Examples
    /// ```
    /// # let manager = tierlock::LockManager::builder().build()?;
    /// let job = manager.session("job-17");
    /// # Ok::<(), tierlock::BuildError>(())
    /// ```
    #[must_use]
    pub fn session(&self, name: impl Into<Arc<str>>) -> Session {
        self.session_of(Owner::new(name))
    }

    /// Opens a session for an owner of yours, which may hold other locks besides. Two sessions of one owner share its right
    /// to hold a lock once.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::Owner;
    /// # let manager = tierlock::LockManager::builder().build()?;
    /// let job = manager.session_of(Owner::new("job-17"));
    /// # Ok::<(), tierlock::BuildError>(())
    /// ```
    #[must_use]
    pub fn session_of(&self, owner: Owner) -> Session {
        Session::new(&self.hierarchy, owner)
    }

    /// A level as a place where locks are taken by name, for `in = ..` of an [annotation](crate::ssynchronized).
    ///
    /// Whoever asks there needs no session. What guards hold for an owner in this manager counts as one session's: levels
    /// are taken in increasing order, the root first. A session of the same owner is another matter, and not looked at.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Error, LockManager, ganeti::{self, Level::*}, ssynchronized};
    ///
    /// #[ssynchronized("BGL", in = manager.at(Cluster), shared)]
    /// #[ssynchronized("{node}", in = manager.at(Node))]
    /// fn reboot(manager: &LockManager, node: &str) -> Result<usize, Error> {
    ///     Ok(manager.names(Node).len())
    /// }
    ///
    /// let manager = ganeti::manager([""; 0], [""; 0], ["n1"], [""; 0]).build()?;
    /// reboot(&manager, "n1")?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn at(&self, level: impl Level) -> ManagerLevel {
        ManagerLevel::new(&self.hierarchy, &level)
    }

    /// Prepares a request over several levels, in increasing order, to be used often.
    ///
    /// # Errors
    /// [`UnknownLevel`](AcquireError::UnknownLevel), [`OutOfOrder`](AcquireError::OutOfOrder),
    /// [`NotFound`](AcquireError::NotFound).
    ///
    /// # Examples
    /// ```
    /// use tierlock::{ALL, Level, ganeti::{self, Level::*}};
    ///
    /// let manager = ganeti::manager(["web1"], [""; 0], ["n1"], [""; 0]).build()?;
    /// let plan = manager.plan([Cluster.shared("BGL"), Node.shared(ALL)])?;
    /// manager.session("job-17").acquire(&plan).wait()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn plan(
        &self,
        requests: impl IntoIterator<Item = LevelRequest>,
    ) -> Result<Plan, AcquireError> {
        Plan::new(&self.hierarchy, requests.into_iter().collect())
    }

    /// A monitor that sees every lock of the manager, with set-locks shown as `node/[lockset]`. More can be registered with it.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Level, ganeti::{self, Level::*}};
    ///
    /// let manager = ganeti::manager(["web1"], [""; 0], ["n1"], [""; 0]).build()?;
    /// let monitor = manager.monitor();
    /// let mut job = manager.session("job-17");
    /// job.acquire([Cluster.shared("BGL"), Node.exclusive("n1")]).wait()?;
    /// let snapshot = monitor.snapshot();
    /// assert_eq!(snapshot.row("node/n1").unwrap().owners[0].owner.name(), "job-17");
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[must_use]
    pub fn monitor(&self) -> LockMonitor {
        let monitor = LockMonitor::new();
        monitor.register(self);
        monitor
    }

    /// The level of this name, for those known at run time.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Level, LevelId, LockManager};
    ///
    /// let manager = LockManager::builder().level(LevelId::new(0, "node"), ["n1"]).build()?;
    /// assert_eq!(manager.level("node").map(|level| level.rank()), Some(0));
    /// # Ok::<(), tierlock::BuildError>(())
    /// ```
    #[must_use]
    pub fn level(&self, name: &str) -> Option<LevelId> {
        let rank = self.hierarchy.sets.iter().position(|set| set.name().as_ref() == name)?;
        Some(LevelId::new(rank, Arc::clone(self.hierarchy.sets[rank].name())))
    }

    /// The names that are at a level now, in byte order; none, if there is no such level.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LevelId, LockManager};
    ///
    /// let node = LevelId::new(0, "node");
    /// let manager = LockManager::builder().level(&node, ["n2", "n1"]).build()?;
    /// assert_eq!(manager.names(&node), ["n1".into(), "n2".into()]);
    /// # Ok::<(), tierlock::BuildError>(())
    /// ```
    #[must_use]
    pub fn names(&self, level: impl Level) -> Vec<Arc<str>> {
        self.hierarchy.level(&level).map_or_else(Vec::new, |(_, set)| set.names())
    }
}

impl Watched for LockManager {
    fn sources(&self) -> Vec<Source> {
        self.hierarchy.sets.iter().map(Source::set).collect()
    }
}

/// A manager being described: levels in any order, each by one call.
///
/// # Examples
/// ```
/// use tierlock::{LevelId, LockManager};
///
/// let (cluster, node) = (LevelId::new(0, "cluster"), LevelId::new(1, "node"));
/// let manager = LockManager::builder()
///     .fixed_level(&cluster, ["BIG"])
///     .root("BIG")
///     .level(&node, ["n1", "n2"])
///     .build()?;
/// # Ok::<(), tierlock::BuildError>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a manager is made by `build()`"]
pub struct LockManagerBuilder {
    levels: Vec<Described>,
    root: Option<Arc<str>>,
    #[cfg(feature = "coordination")]
    cluster_wide: ClusterWide,
}

/// Levels whose locks are held across processes, and with whom.
#[cfg(feature = "coordination")]
#[derive(Debug, Default)]
struct ClusterWide(Vec<(LevelId, Coordinator)>);

#[cfg(feature = "coordination")]
impl ClusterWide {
    fn extend(self, sets: &[Arc<Set>]) -> Result<(), BuildError> {
        for (level, coordinator) in self.0 {
            let named = |set: &&Arc<Set>| set.name().as_ref() == level.name();
            let Some(set) = sets.get(level.rank()).filter(named) else {
                return Err(BuildError::UnknownLevel { level: level.name().into() });
            };
            ClusterLevel::extend(set, &coordinator)
                .map_err(|error| BuildError::Coordination(Box::new(error)))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Described {
    rank: usize,
    name: Arc<str>,
    membership: Membership,
    names: Vec<Arc<str>>,
}

/// Whether a level's locks are granted by somebody beyond this process.
fn extends(sets: &[Arc<Set>]) -> bool {
    sets.iter().any(|set| set.beyond().is_some())
}

impl LockManagerBuilder {
    /// A level of these names, to which others may be added and from which they may be removed.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LevelId, LockManager};
    /// let builder = LockManager::builder().level(LevelId::new(0, "node"), ["n1", "n2"]);
    /// ```
    pub fn level<N: Into<Arc<str>>>(
        self,
        level: impl Level,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.describe(&level, Membership::Listed, names.into_iter().map(Into::into).collect())
    }

    /// A level of these names and no others.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LevelId, LockManager};
    /// let builder = LockManager::builder().fixed_level(LevelId::new(0, "cluster"), ["BIG"]);
    /// ```
    pub fn fixed_level<N: Into<Arc<str>>>(
        self,
        level: impl Level,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.describe(&level, Membership::Fixed, names.into_iter().map(Into::into).collect())
    }

    /// A level where any name is there when it is asked for, and gone when nobody needs it.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LevelId, LockManager};
    /// let builder = LockManager::builder().on_demand_level(LevelId::new(0, "path"));
    /// ```
    pub fn on_demand_level(self, level: impl Level) -> Self {
        self.describe(&level, Membership::OnDemand, Vec::new())
    }

    /// Every level of an enum, as its `#[derive(Level)]` declares it, with the names that `names` gives it; levels on demand are
    /// not asked. The root is there whether or not it is given.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Level, LockManager};
    ///
    /// #[derive(Level)]
    /// enum Tier {
    ///     #[level(root = "BIG", fixed)]
    ///     Cluster,
    ///     Tenant,
    ///     #[level(on_demand)]
    ///     Volume,
    /// }
    ///
    /// let builder = LockManager::builder().levels(|tier| match tier {
    ///     Tier::Tenant => vec!["acme", "umbrella"],
    ///     _ => vec![],
    /// });
    /// let mut job = builder.build()?.session("job-17");
    /// job.acquire(Tier::Cluster.shared("BIG")).wait()?;
    /// job.acquire([Tier::Tenant.exclusive("acme"), Tier::Volume.exclusive("vol-1")]).wait()?;
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    pub fn levels<L: Levels, N: IntoIterator<Item: Into<Arc<str>>>>(
        self,
        mut names: impl FnMut(&'static L) -> N,
    ) -> Self {
        let builder = L::LEVELS.iter().fold(self, |builder, level| {
            let mut here: Vec<Arc<str>> = Vec::new();
            if level.membership() != Membership::OnDemand {
                here.extend(names(level).into_iter().map(Into::into));
            }
            if let Some(root) = L::ROOT.filter(|_| level.rank() == 0)
                && !here.iter().any(|name| name.as_ref() == root)
            {
                here.push(root.into());
            }
            builder.describe(level, level.membership(), here)
        });
        match L::ROOT {
            Some(root) => builder.root(root),
            None => builder,
        }
    }

    /// Has the locks of a level held across processes: by all who take part in the coordination and have a level of this name
    /// there, in whatever manager. Everything else about the level stays as it is, [`ALL`](crate::ALL) and the order of levels
    /// among it.
    ///
    /// What this process was granted it keeps until another member asks, so that taking it again costs what it costs in one
    /// process. A name never taken here costs a word with the engine at first. Which names a listed level has is each manager's own
    /// affair; removing one removes it here. If the member is lost, every request of a session at such a level, or that holds
    /// something there, fails.
    ///
    /// `now()` and [opportunistic](crate::LevelRequest::opportunistic) requests ask the engine once for each lock that was not granted
    /// here, in the calling thread, one after the other: set-lock, then names. They wait for nobody, so a lock that another member
    /// keeps unused counts as held. What was granted on the way stays with the attempt until it is over, for
    /// [`min_hold`](crate::coordination::Connect::min_hold) at least if others want it; an attempt that takes longer may lose it
    /// again, and fails then. What is had by an attempt that fails is kept like anything unused.
    ///
    /// # Examples
    /// ```
    /// use tierlock::coordination::Coordinator;
    /// use tierlock::{Level, LevelId, LockManager};
    ///
    /// let (cluster, volume) = (LevelId::new(0, "cluster"), LevelId::new(1, "volume"));
    /// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
    /// let manager = LockManager::builder()
    ///     .fixed_level(&cluster, ["BIG"])
    ///     .on_demand_level(&volume)
    ///     .cluster_wide(&volume, &coordinator)
    ///     .build()?;
    /// let mut job = manager.session("job-17");
    /// job.acquire([cluster.shared("BIG"), volume.exclusive("vol-1")]).wait()?;
    /// assert!(job.token(&volume, "vol-1")?.is_some());
    /// # Ok::<(), tierlock::Error>(())
    /// ```
    #[cfg(feature = "coordination")]
    pub fn cluster_wide(mut self, level: impl Level, coordinator: &Coordinator) -> Self {
        let level = LevelId::new(level.rank(), level.name());
        self.cluster_wide.0.push((level, coordinator.clone()));
        self
    }

    /// The lock of the first level that every session holds, in any mode, before anything else and until the end.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{LevelId, LockManager};
    /// let builder = LockManager::builder().fixed_level(LevelId::new(0, "cluster"), ["BIG"]).root("BIG");
    /// ```
    pub fn root(self, name: impl Into<Arc<str>>) -> Self {
        Self { root: Some(name.into()), ..self }
    }

    /// Makes the manager.
    ///
    /// # Errors
    /// [`DuplicateLevel`](BuildError::DuplicateLevel), [`MissingRank`](BuildError::MissingRank),
    /// [`DuplicateName`](BuildError::DuplicateName), [`NoRoot`](BuildError::NoRoot).
    ///
    /// # Examples
    /// ```
    /// # use tierlock::{BuildError, LevelId, LockManager};
    /// let error = LockManager::builder().on_demand_level(LevelId::new(1, "path")).build().unwrap_err();
    /// assert_eq!(error, BuildError::MissingRank { rank: 0 });
    /// ```
    pub fn build(mut self) -> Result<LockManager, BuildError> {
        self.levels.sort_by_key(|level| level.rank);
        self.check_ranks()?;
        let root = self.root;
        let make =
            |level: Described| Set::new(level.name, level.membership, level.names).map(Arc::new);
        let sets = self.levels.into_iter().map(make).collect::<Result<Vec<_>, _>>()?;
        if let (Some(root), Some(set)) = (&root, sets.first()) {
            set.expect_all_at(root);
        }
        if let Some(root) = &root
            && !sets.first().is_some_and(|set| set.contains(root))
        {
            let level: Arc<str> = sets.first().map_or("".into(), |set| Arc::clone(set.name()));
            let root = crate::name::LockName::within(&level, Arc::clone(root));
            return Err(BuildError::NoRoot { root });
        }
        #[cfg(feature = "coordination")]
        self.cluster_wide.extend(&sets)?;
        let extends = extends(&sets);
        let hierarchy = Hierarchy { sets, extends, root, visitors: Visitors::default() };
        Ok(LockManager { hierarchy: Arc::new(hierarchy) })
    }

    fn check_ranks(&self) -> Result<(), BuildError> {
        for (rank, level) in self.levels.iter().enumerate() {
            let twin = self.levels[..rank]
                .iter()
                .any(|other| other.rank == level.rank || other.name == level.name);
            if twin {
                let (level, rank) = (Arc::clone(&level.name), level.rank);
                return Err(BuildError::DuplicateLevel { level, rank });
            }
            if level.rank != rank {
                return Err(BuildError::MissingRank { rank });
            }
        }
        Ok(())
    }

    fn describe(
        mut self,
        level: &impl Level,
        membership: Membership,
        names: Vec<Arc<str>>,
    ) -> Self {
        let name = level.name().into();
        self.levels.push(Described { rank: level.rank(), name, membership, names });
        self
    }
}

#[cfg(all(test, feature = "coordination"))]
mod tests;
