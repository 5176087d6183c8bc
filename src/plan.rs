//! The levels of a manager as one order, and requests over several of them.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::AcquireError;
use crate::level::{Level, LevelRequest};
use crate::owner::Owner;
use crate::request::{SetRequest, Which};
use crate::set::Set;
use crate::task::Stage;

/// The sets of all levels, by rank.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    pub(crate) sets: Vec<Arc<Set>>,
    /// The lock of the first level that is held before anything deeper.
    pub(crate) root: Option<Arc<str>>,
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
    fn part(&self, owner: &Owner, wanted: LevelRequest) -> Result<Part, AcquireError> {
        let LevelRequest { rank, level, request } = wanted;
        let owner = || Arc::clone(owner.name_arc());
        let Some(set) = self.set(rank, &level) else {
            return Err(AcquireError::UnknownLevel { owner: owner(), level });
        };
        let generation = set.generation();
        let stage = set.stage(&request).map_err(|lock| AcquireError::NotFound {
            owner: owner(),
            lock,
            wanted: request.mode,
        })?;
        Ok(Part { rank, request, stage, generation })
    }
}

/// One level of a request, its names looked up.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) rank: usize,
    pub(crate) request: SetRequest,
    pub(crate) stage: Option<Stage>,
    /// Of the set, when the names were looked up.
    generation: u64,
}

impl Part {
    /// Tells whether this name is held once the request is granted, by itself or among all.
    pub(crate) fn takes(&self, name: &str) -> bool {
        let asks = match &self.request.names.0 {
            Which::All => true,
            Which::These(names) => names.iter().any(|n| n.as_ref() == name),
        };
        asks && self.request.at_least.is_none()
    }

    /// Tells whether the request is for this name and no other.
    pub(crate) fn asks_only_for(&self, name: &str) -> bool {
        matches!(&self.request.names.0, Which::These(names) if matches!(&names[..], [n] if n.as_ref() == name))
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
pub struct Wanted<'p>(Source<'p>);

#[derive(Debug)]
enum Source<'p> {
    Requests(Vec<LevelRequest>),
    Plan(Cow<'p, Plan>),
}

impl From<LevelRequest> for Wanted<'_> {
    fn from(request: LevelRequest) -> Self {
        Self(Source::Requests(vec![request]))
    }
}

impl<const COUNT: usize> From<[LevelRequest; COUNT]> for Wanted<'_> {
    fn from(requests: [LevelRequest; COUNT]) -> Self {
        Self(Source::Requests(requests.into()))
    }
}

impl From<Vec<LevelRequest>> for Wanted<'_> {
    fn from(requests: Vec<LevelRequest>) -> Self {
        Self(Source::Requests(requests))
    }
}

impl<'p> From<&'p Plan> for Wanted<'p> {
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
    /// The parts asked for, their names looked up in `hierarchy` as they are now.
    ///
    /// # Errors
    /// [`AcquireError::UnknownLevel`], also for a plan of another manager, and [`AcquireError::NotFound`].
    pub(crate) fn parts(
        self,
        hierarchy: &Arc<Hierarchy>,
        owner: &Owner,
    ) -> Result<Vec<Part>, AcquireError> {
        match self.0 {
            Source::Requests(requests) => {
                requests.into_iter().map(|wanted| hierarchy.part(owner, wanted)).collect()
            }
            Source::Plan(plan) => plan.parts_for(hierarchy, owner),
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
    parts: Arc<[Part]>,
}

impl Plan {
    pub(crate) fn new(
        hierarchy: &Arc<Hierarchy>,
        requests: Vec<LevelRequest>,
    ) -> Result<Self, AcquireError> {
        let planner = Owner::new("a plan");
        let parts = Wanted::from(requests).parts(hierarchy, &planner)?;
        check_order(hierarchy, &planner, &parts)?;
        Ok(Self { hierarchy: Arc::clone(hierarchy), parts: parts.into() })
    }

    fn parts_for(
        &self,
        hierarchy: &Arc<Hierarchy>,
        owner: &Owner,
    ) -> Result<Vec<Part>, AcquireError> {
        let refresh = |part: &Part| {
            let set = &self.hierarchy.sets[part.rank];
            let level = Arc::clone(set.name());
            if !Arc::ptr_eq(hierarchy, &self.hierarchy) {
                let owner = Arc::clone(owner.name_arc());
                return Err(AcquireError::UnknownLevel { owner, level });
            }
            if part.generation == set.generation() {
                return Ok(part.clone());
            }
            let request = part.request.clone();
            hierarchy.part(owner, LevelRequest { rank: part.rank, level, request })
        };
        self.parts.iter().map(refresh).collect()
    }
}

/// Checks that each part comes after the one before it.
///
/// # Errors
/// [`AcquireError::OutOfOrder`].
pub(crate) fn check_order(
    hierarchy: &Hierarchy,
    owner: &Owner,
    parts: &[Part],
) -> Result<(), AcquireError> {
    for pair in parts.windows(2) {
        if pair[1].rank <= pair[0].rank {
            let (wanted, held) = (&hierarchy.sets[pair[1].rank], &hierarchy.sets[pair[0].rank]);
            return Err(AcquireError::OutOfOrder {
                owner: Arc::clone(owner.name_arc()),
                wanted: Arc::clone(wanted.name()),
                held: held.top().name().clone(),
                mode: pair[0].request.mode,
            });
        }
    }
    Ok(())
}
