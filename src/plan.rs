//! The levels of a manager as one order, and requests over several of them.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::core::mode::Mode;
use crate::error::AcquireError;
use crate::lent::Visitors;
use crate::level::{Level, LevelRequest};
use crate::owner::Owner;
use crate::request::{SetRequest, Which};
use crate::set::Set;
use crate::task::{Stage, Stages};

/// The sets of all levels, by rank.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    pub(crate) sets: Vec<Arc<Set>>,
    /// Whether locks of some level are granted by somebody beyond this process.
    pub(crate) extends: bool,
    /// The lock of the first level that is held before anything deeper.
    pub(crate) root: Option<Arc<str>>,
    /// Owners that take locks at a level without a session of theirs.
    pub(crate) visitors: Visitors,
}

impl Hierarchy {
    /// The set of a level, if there is one of this rank and name.
    pub(crate) fn set(&self, rank: usize, name: &str) -> Option<&Arc<Set>> {
        self.sets.get(rank).filter(|set| set.name().as_ref() == name)
    }

    pub(crate) fn level<L: Level + ?Sized>(&self, level: &L) -> Option<(usize, &Arc<Set>)> {
        Some((level.rank(), self.set(level.rank(), level.name())?))
    }

    /// Looks up the names of a request.
    ///
    /// # Errors
    /// [`AcquireError::UnknownLevel`] and [`AcquireError::NotFound`].
    fn part(
        &self,
        owner: &Owner,
        wanted: LevelRequest,
    ) -> Result<(Ask, Part, Option<Stage>), AcquireError> {
        let owner = || Arc::clone(owner.name_arc());
        let Some((ask, set)) = self.ask(&wanted) else {
            return Err(AcquireError::UnknownLevel { owner: owner(), level: wanted.level });
        };
        let request = wanted.request;
        let generation = set.generation();
        let stage = set.stage(&request).map_err(|no| no.told(owner(), request.mode))?;
        let stage = stage.map(|stage| Stage { rank: ask.rank, ..stage });
        Ok((ask, Part { request, generation }, stage))
    }

    /// What the rules between levels have to know of a request, and the set of its level; `None` if there is no such level.
    #[inline]
    pub(crate) fn ask(&self, wanted: &LevelRequest) -> Option<(Ask, &Arc<Set>)> {
        let LevelRequest { rank, ref level, ref request } = *wanted;
        let set = self.set(rank, level)?;
        let root = self.root.as_ref().filter(|_| rank == 0);
        let root = root.map_or(RootUse::None, |root| RootUse::of(request, root));
        Some((Ask { rank, mode: request.mode, root }, set))
    }

    /// Looks up the names of several requests.
    ///
    /// # Errors
    /// As [`part`](Self::part).
    fn prepare(
        &self,
        owner: &Owner,
        requests: impl IntoIterator<Item = LevelRequest>,
    ) -> Result<Prepared, AcquireError> {
        let (mut asks, mut parts, mut stages) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in requests {
            let (ask, part, stage) = self.part(owner, wanted)?;
            asks.push(ask);
            parts.push(part);
            stages.extend(stage);
        }
        Ok(Prepared { asks, parts, stages: stages.into() })
    }
}

/// A request over levels, its names looked up.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) asks: Vec<Ask>,
    /// One for each of them.
    parts: Vec<Part>,
    /// Of the parts that ask for anything.
    pub(crate) stages: Stages,
}

/// One level of a request, as far as the rules between levels care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) rank: usize,
    pub(crate) mode: Mode,
    pub(crate) root: RootUse,
}

/// Where the stage of a level came from.
#[derive(Clone, Debug)]
struct Part {
    request: SetRequest,
    /// Of the set, when the names were looked up.
    generation: u64,
}

impl Prepared {
    fn levels(&self) -> impl Iterator<Item = (&Ask, &Part)> {
        self.asks.iter().zip(&self.parts)
    }
}

/// What a request has to do with the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootUse {
    None,
    /// Holds it once it is granted, by itself or among all.
    Takes,
    /// The same, and asks for nothing else.
    TakesOnly,
    /// Asks for it alone, but may not get it.
    TriesOnly,
}

impl RootUse {
    fn of(request: &SetRequest, root: &Arc<str>) -> Self {
        let (asks, only) = match &request.names.0 {
            Which::All => (true, false),
            Which::These(names) => (names.iter().any(|name| **name == **root), names.len() == 1),
        };
        match (asks, only, request.at_least) {
            (true, true, None) => Self::TakesOnly,
            (true, false, None) => Self::Takes,
            (true, true, Some(_)) => Self::TriesOnly,
            _ => Self::None,
        }
    }

    pub(crate) fn takes(self) -> bool {
        matches!(self, Self::Takes | Self::TakesOnly)
    }

    pub(crate) fn is_only(self) -> bool {
        matches!(self, Self::TakesOnly | Self::TriesOnly)
    }
}

/// What a session asks for: one level, several, or a prepared plan.
///
/// # Examples
/// ```
/// use tierlock::{Level, ganeti::{self, Level::*}};
///
/// let manager = ganeti::manager(["web1"], ["default"], ["n1"], [""; 0]).build()?;
/// let mut job = manager.session("job-17");
/// job.acquire([Cluster.shared("BGL"), Instance.exclusive("web1")]).wait()?;
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Debug)]
pub struct Wanted<'p>(pub(crate) Source<'p>);

#[derive(Debug)]
pub(crate) enum Source<'p> {
    Requests(SmallVec<[LevelRequest; 2]>),
    Plan(Cow<'p, Plan>),
}

impl From<LevelRequest> for Wanted<'_> {
    fn from(request: LevelRequest) -> Self {
        Self(Source::Requests(smallvec![request]))
    }
}

impl<const COUNT: usize> From<[LevelRequest; COUNT]> for Wanted<'_> {
    fn from(requests: [LevelRequest; COUNT]) -> Self {
        Self(Source::Requests(requests.into_iter().collect()))
    }
}

impl From<Vec<LevelRequest>> for Wanted<'_> {
    fn from(requests: Vec<LevelRequest>) -> Self {
        Self(Source::Requests(requests.into()))
    }
}

impl<'p> From<&'p Plan> for Wanted<'p> {
    #[inline]
    fn from(plan: &'p Plan) -> Self {
        Self(Source::Plan(Cow::Borrowed(plan)))
    }
}

impl From<Plan> for Wanted<'_> {
    fn from(plan: Plan) -> Self {
        Self(Source::Plan(Cow::Owned(plan)))
    }
}

impl Wanted<'_> {
    /// The request, its names looked up in `hierarchy` as they are now. To be asked once.
    ///
    /// # Errors
    /// [`AcquireError::UnknownLevel`], also for a plan of another manager, and [`AcquireError::NotFound`].
    pub(crate) fn prepared(
        &mut self,
        hierarchy: &Arc<Hierarchy>,
        owner: &Owner,
    ) -> Result<Cow<'_, Prepared>, AcquireError> {
        match &mut self.0 {
            Source::Requests(requests) => {
                hierarchy.prepare(owner, std::mem::take(requests)).map(Cow::Owned)
            }
            Source::Plan(plan) => plan.prepared_for(hierarchy, owner),
        }
    }
}

/// A request over several levels, prepared once and used often, by any session of its manager.
///
/// The names are sorted and looked up when the plan is made; a level whose members changed since is looked up again when the
/// plan is used, so a plan never names a lock that is gone. A plan keeps its names of on-demand levels in being.
///
/// # Examples
/// ```
/// use tierlock::{ALL, Level, ganeti::{self, Level::*}};
///
/// let manager = ganeti::manager(["web1"], ["default"], ["n1", "n2"], [""; 0]).build()?;
/// let plan = manager.plan([Cluster.shared("BGL"), Instance.exclusive("web1"), Node.shared(ALL)])?;
/// for name in ["job-18", "job-19"] {
///     let mut job = manager.session(name);
///     job.acquire(&plan).priority(3).wait()?;
/// }
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    hierarchy: Arc<Hierarchy>,
    prepared: Arc<Prepared>,
}

impl Plan {
    pub(crate) fn new(
        hierarchy: &Arc<Hierarchy>,
        requests: Vec<LevelRequest>,
    ) -> Result<Self, AcquireError> {
        let planner = Owner::new("a plan");
        let prepared = hierarchy.prepare(&planner, requests)?;
        check_order(hierarchy, &planner, &prepared.asks)?;
        Ok(Self { hierarchy: Arc::clone(hierarchy), prepared: Arc::new(prepared) })
    }

    /// The request, if its names were looked up in `hierarchy`, and nothing has changed there since.
    #[inline]
    pub(crate) fn current(&self, hierarchy: &Arc<Hierarchy>) -> Option<&Prepared> {
        self.is_current(hierarchy).then_some(&*self.prepared)
    }

    fn is_current(&self, hierarchy: &Arc<Hierarchy>) -> bool {
        let is_current =
            |(ask, part): (&Ask, &Part)| part.generation == hierarchy.sets[ask.rank].generation();
        Arc::ptr_eq(hierarchy, &self.hierarchy) && self.prepared.levels().all(is_current)
    }

    fn prepared_for(
        &self,
        hierarchy: &Arc<Hierarchy>,
        owner: &Owner,
    ) -> Result<Cow<'_, Prepared>, AcquireError> {
        if self.is_current(hierarchy) {
            return Ok(Cow::Borrowed(&self.prepared));
        }
        let Prepared { asks, .. } = &*self.prepared;
        let level = |ask: &Ask| Arc::clone(self.hierarchy.sets[ask.rank].name());
        match asks.first() {
            Some(first) if !Arc::ptr_eq(hierarchy, &self.hierarchy) => {
                Err(AcquireError::UnknownLevel {
                    owner: Arc::clone(owner.name_arc()),
                    level: level(first),
                })
            }
            _ => {
                let request = |(ask, part): (&Ask, &Part)| LevelRequest {
                    rank: ask.rank,
                    level: level(ask),
                    request: part.request.clone(),
                };
                hierarchy.prepare(owner, self.prepared.levels().map(request)).map(Cow::Owned)
            }
        }
    }
}

/// Checks that each level comes after the one before it.
///
/// # Errors
/// [`AcquireError::OutOfOrder`].
pub(crate) fn check_order(
    hierarchy: &Hierarchy,
    owner: &Owner,
    asks: &[Ask],
) -> Result<(), AcquireError> {
    for pair in asks.windows(2) {
        if pair[1].rank <= pair[0].rank {
            let (wanted, held) = (&hierarchy.sets[pair[1].rank], &hierarchy.sets[pair[0].rank]);
            return Err(AcquireError::OutOfOrder {
                owner: Arc::clone(owner.name_arc()),
                wanted: Arc::clone(wanted.name()),
                held: held.top().name().clone(),
                mode: pair[0].mode,
            });
        }
    }
    Ok(())
}
