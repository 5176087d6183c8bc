//! What sessions and sets should do, in plain maps: who holds what, and the obvious rules. Nobody waits here.

use std::collections::{BTreeMap, BTreeSet};

use tierlock::Mode::{
    self, Exclusive, IntentExclusive, IntentShared, Shared, SharedIntentExclusive,
};
use tierlock::{ALL, Membership, Names};

pub(crate) type Name = &'static str;

/// Every name that histories speak of.
pub(crate) const UNIVERSE: [Name; 6] = ["a", "b", "c", "d", "e", "root"];

/// Gray's table, as the paper prints it.
pub(crate) fn compatible(a: Mode, b: Mode) -> bool {
    const TABLE: [[bool; 5]; 5] = [
        [true, true, true, true, false],
        [true, true, false, false, false],
        [true, false, true, false, false],
        [true, false, false, false, false],
        [false, false, false, false, false],
    ];
    TABLE[a as usize][b as usize]
}

/// Some names, or all.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    These(BTreeSet<Name>),
}

impl Which {
    fn contains(&self, name: Name) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(name),
        }
    }
}

impl From<&Which> for Names {
    fn from(which: &Which) -> Self {
        match which {
            Which::All => ALL.into(),
            Which::These(names) => names.iter().copied().collect(),
        }
    }
}

/// What is asked of one level.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) level: usize,
    pub(crate) mode: Mode,
    pub(crate) names: Which,
    pub(crate) at_least: Option<usize>,
}

/// What an owner holds of a level.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Held {
    /// All of it in this mode,
    pub(crate) all: Option<Mode>,
    /// and these names in theirs.
    pub(crate) names: BTreeMap<Name, Mode>,
}

impl Held {
    fn is_nothing(&self) -> bool {
        self.all.is_none() && self.names.is_empty()
    }

    /// Tells whether another owner could hold this beside it.
    pub(crate) fn admits(&self, other: &Self) -> bool {
        let tops = self.top().zip(other.top());
        let names =
            self.names.iter().filter_map(|(name, mode)| Some((mode, other.names.get(name)?)));
        tops.is_none_or(|(a, b)| compatible(a, b))
            && names.into_iter().all(|(a, b)| compatible(*a, *b))
    }

    /// The mode of the set-lock.
    fn top(&self) -> Option<Mode> {
        let writes = self.names.values().any(|mode| *mode == Exclusive);
        match self.all {
            Some(Shared) if writes => Some(SharedIntentExclusive),
            Some(mode) => Some(mode),
            None if self.names.is_empty() => None,
            None if writes => Some(IntentExclusive),
            None => Some(IntentShared),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Level {
    pub(crate) name: &'static str,
    pub(crate) membership: Membership,
    /// Unless they come on demand.
    pub(crate) names: BTreeSet<Name>,
}

impl Level {
    fn has(&self, name: Name) -> bool {
        self.membership == Membership::OnDemand || self.names.contains(name)
    }

    fn lock(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    fn top(&self) -> String {
        self.lock("[lockset]")
    }
}

/// The variant of an error and the lock that it names.
pub(crate) type Refused = String;
type Outcome = Result<(), Refused>;

fn refused(variant: &str, lock: &str) -> Outcome {
    Err(format!("{variant} {lock}"))
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) levels: Vec<Level>,
    pub(crate) root: Option<Name>,
    /// By owner, then by level.
    pub(crate) held: Vec<Vec<Held>>,
    pub(crate) plans: Vec<Vec<Wanted>>,
}

impl Model {
    pub(crate) fn new(levels: Vec<Level>, root: Option<Name>, owners: usize) -> Self {
        let held = vec![vec![Held::default(); levels.len()]; owners];
        Self { levels, root, held, plans: Vec::new() }
    }

    pub(crate) fn mode_of(&self, owner: usize, level: usize, name: Name) -> Option<Mode> {
        let held = &self.held[owner][level];
        let by_all = held.all.filter(|_| self.levels[level].has(name));
        held.names.get(name).copied().or(by_all)
    }

    /// The names that are there.
    pub(crate) fn names(&self, level: usize) -> BTreeSet<Name> {
        if self.levels[level].membership != Membership::OnDemand {
            return self.levels[level].names.clone();
        }
        let held = self.held.iter().flat_map(|owner| owner[level].names.keys().copied());
        let planned = self.plans.iter().flatten().filter(|wanted| wanted.level == level);
        let planned = planned.flat_map(|wanted| match &wanted.names {
            Which::All => BTreeSet::new(),
            Which::These(names) => names.clone(),
        });
        held.chain(planned).collect()
    }

    pub(crate) fn owned(&self, owner: usize, level: usize) -> BTreeSet<Name> {
        match self.held[owner][level].all {
            Some(_) => self.names(level),
            None => self.held[owner][level].names.keys().copied().collect(),
        }
    }

    /// No two hold what they could not hold together.
    pub(crate) fn assert_sound(&self) {
        for (at, one) in self.held.iter().enumerate() {
            for (level, held) in one.iter().enumerate() {
                for other in &self.held[..at] {
                    assert!(held.admits(&other[level]), "{held:?} beside {:?}", other[level]);
                }
            }
        }
    }

    fn others(&self, owner: usize, level: usize) -> impl Iterator<Item = &Held> {
        let others = self.held.iter().enumerate().filter(move |(at, _)| *at != owner);
        others.map(move |(_, held)| &held[level])
    }

    fn admits_top(&self, owner: usize, level: usize, mode: Mode) -> bool {
        self.others(owner, level).filter_map(Held::top).all(|other| compatible(other, mode))
    }

    fn admits_name(&self, owner: usize, level: usize, name: Name, mode: Mode) -> bool {
        self.others(owner, level)
            .filter_map(|held| held.names.get(name))
            .all(|other| compatible(*other, mode))
    }

    /// One lock held of a level, to be named in an error.
    fn witness(&self, owner: usize, level: usize) -> String {
        let first = self.held[owner][level].names.keys().next();
        first.map_or_else(|| self.levels[level].top(), |name| self.levels[level].lock(name))
    }

    fn deepest_below(&self, owner: usize, level: usize) -> Option<String> {
        let below = (level + 1..self.levels.len()).rev();
        let mut held = below.filter(|level| !self.held[owner][*level].is_nothing());
        held.next().map(|level| self.witness(owner, level))
    }

    fn check_level(&self, level: usize) -> Outcome {
        if level < self.levels.len() { Ok(()) } else { refused("UnknownLevel", "moon") }
    }

    /// Everything asked for by name has to be there.
    fn check_names(&self, wanted: &Wanted) -> Outcome {
        self.check_level(wanted.level)?;
        let level = &self.levels[wanted.level];
        match (&wanted.names, wanted.at_least) {
            (Which::These(names), None) => match names.iter().find(|name| !level.has(name)) {
                Some(name) => refused("NotFound", &level.lock(name)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn check_order(&self, wanted: &[Wanted]) -> Outcome {
        wanted.iter().try_for_each(|wanted| self.check_names(wanted))?;
        match wanted.windows(2).find(|pair| pair[1].level <= pair[0].level) {
            Some(pair) => refused("OutOfOrder", &self.levels[pair[0].level].top()),
            None => Ok(()),
        }
    }

    fn check_root(&self, owner: usize, covered: bool) -> Outcome {
        match self.root {
            Some(root) if !covered && self.mode_of(owner, 0, root).is_none() => {
                refused("RootNotHeld", &self.levels[0].lock(root))
            }
            _ => Ok(()),
        }
    }

    fn check_nothing_deeper(&self, owner: usize, level: usize) -> Outcome {
        match self.deepest_below(owner, level) {
            Some(lock) => refused("OutOfOrder", &lock),
            None => Ok(()),
        }
    }

    pub(crate) fn plan(&mut self, wanted: &[Wanted]) -> Outcome {
        self.check_order(wanted)?;
        self.plans.push(wanted.to_vec());
        Ok(())
    }

    /// A session asks for these levels.
    pub(crate) fn acquire(&mut self, owner: usize, wanted: &[Wanted]) -> Outcome {
        self.check_order(wanted)?;
        let Some(first) = wanted.first() else { return Ok(()) };
        let root = self.root.unwrap_or("root");
        let takes_root = first.level == 0 && first.names.contains(root) && first.at_least.is_none();
        for part in wanted {
            let only_root = matches!(&part.names, Which::These(names) if names.iter().eq([&root]));
            self.check_root(owner, takes_root || part.level == 0 && only_root)?;
            if !self.held[owner][part.level].is_nothing() {
                return refused("AlreadyHeld", &self.witness(owner, part.level));
            }
        }
        self.check_nothing_deeper(owner, first.level)?;
        let before = self.held[owner].clone();
        let taken = wanted.iter().try_for_each(|part| self.take(owner, part));
        if taken.is_err() {
            self.held[owner] = before;
        }
        taken
    }

    /// The owner of no guard yet, or of one, asks a set for names.
    pub(crate) fn acquire_of_set(&mut self, owner: usize, wanted: &Wanted) -> Outcome {
        self.check_names(wanted)?;
        if !self.held[owner][0].is_nothing() {
            return match &wanted.names {
                Which::These(names) if names.is_empty() && wanted.at_least.is_none() => Ok(()),
                _ => refused("AlreadyHeld", &self.levels[0].top()),
            };
        }
        self.take(owner, wanted)
    }

    /// Takes what is asked of a level of which nothing is held.
    fn take(&mut self, owner: usize, wanted: &Wanted) -> Outcome {
        let Wanted { level, mode, names, at_least } = wanted;
        let (level, mode) = (*level, *mode);
        let intention = if mode == Shared { IntentShared } else { IntentExclusive };
        let mut held = Held::default();
        match (names, at_least) {
            (Which::All, None) => {
                if !self.admits_top(owner, level, mode) {
                    return refused("WouldBlock", &self.levels[level].top());
                }
                held.all = Some(mode);
            }
            (Which::These(names), None) => {
                if names.is_empty() {
                    return Ok(());
                }
                if !self.admits_top(owner, level, intention) {
                    return refused("WouldBlock", &self.levels[level].top());
                }
                for name in names {
                    if !self.admits_name(owner, level, name, mode) {
                        return refused("WouldBlock", &self.levels[level].lock(name));
                    }
                    held.names.insert(name, mode);
                }
            }
            (names, Some(at_least)) => {
                if self.admits_top(owner, level, intention) {
                    let candidates = match names {
                        Which::All => self.names(level),
                        Which::These(names) => {
                            names.iter().copied().filter(|n| self.levels[level].has(n)).collect()
                        }
                    };
                    let free =
                        candidates.into_iter().filter(|n| self.admits_name(owner, level, n, mode));
                    held.names = free.map(|name| (name, mode)).collect();
                }
                if held.names.len() < *at_least {
                    return refused("NotEnough", self.levels[level].name);
                }
            }
        }
        self.held[owner][level] = held;
        Ok(())
    }

    fn check_root_stays(
        &self,
        owner: usize,
        level: usize,
        stays: impl Fn(Name) -> bool,
    ) -> Outcome {
        match (self.root, self.deepest_below(owner, 0)) {
            (Some(root), Some(_)) if level == 0 && !stays(root) => {
                refused("RootNeeded", &self.levels[0].lock(root))
            }
            _ => Ok(()),
        }
    }

    /// Every name has to be held; if nothing is, there is nothing to be done with any.
    fn check_held(&self, owner: usize, level: usize, names: &Which) -> Outcome {
        let missing = match names {
            Which::All if self.held[owner][level].is_nothing() => Some(self.levels[level].top()),
            Which::All => None,
            Which::These(names) => names
                .iter()
                .find(|name| self.mode_of(owner, level, name).is_none())
                .map(|name| self.levels[level].lock(name)),
        };
        missing.map_or(Ok(()), |lock| refused("NotHeld", &lock))
    }

    pub(crate) fn release(&mut self, owner: usize, level: usize, names: &Which) -> Outcome {
        self.check_level(level)?;
        self.check_root_stays(owner, level, |root| !names.contains(root))?;
        self.check_held(owner, level, names)?;
        match names {
            Which::All => self.held[owner][level] = Held::default(),
            Which::These(names) if names.is_empty() => {}
            Which::These(names) => {
                let kept = self.owned(owner, level).difference(names).copied().collect();
                self.narrow(owner, level, &kept);
            }
        }
        Ok(())
    }

    pub(crate) fn keep(&mut self, owner: usize, level: usize, names: &Which) -> Outcome {
        self.check_level(level)?;
        self.check_root_stays(owner, level, |root| names.contains(root))?;
        self.check_held(owner, level, names)?;
        if let Which::These(names) = names {
            self.narrow(owner, level, names);
        }
        Ok(())
    }

    fn narrow(&mut self, owner: usize, level: usize, kept: &BTreeSet<Name>) {
        let kept = kept.iter().filter_map(|n| Some((*n, self.mode_of(owner, level, n)?))).collect();
        self.held[owner][level] = Held { all: None, names: kept };
    }

    pub(crate) fn downgrade(&mut self, owner: usize, level: usize, names: &Which) -> Outcome {
        self.check_level(level)?;
        self.check_held(owner, level, names)?;
        let owned = self.owned(owner, level);
        let held = &mut self.held[owner][level];
        match (names, held.all) {
            (Which::All, Some(_)) => *held = Held { all: Some(Shared), names: BTreeMap::new() },
            (Which::All, None) => held.names.values_mut().for_each(|mode| *mode = Shared),
            (Which::These(these), Some(Exclusive)) if !these.is_empty() => {
                let mode = |name| if these.contains(name) { Shared } else { Exclusive };
                let names = owned.union(these).map(|name| (*name, mode(name))).collect();
                *held = Held { all: None, names };
            }
            (Which::These(these), Some(_)) => held.names.retain(|name, _| !these.contains(name)),
            (Which::These(these), None) => {
                held.names.extend(these.iter().map(|name| (*name, Shared)));
            }
        }
        Ok(())
    }

    /// Without waiting.
    pub(crate) fn upgrade(&mut self, owner: usize, level: usize, names: &Which) -> Outcome {
        self.check_level(level)?;
        self.check_held(owner, level, names)?;
        let held = self.held[owner][level].clone();
        let top = self.levels[level].top();
        let these: Vec<Name> = match (names, held.all) {
            (_, Some(Exclusive)) => return Ok(()),
            (Which::All, Some(_)) => {
                if !self.admits_top(owner, level, Exclusive) {
                    return refused("WouldBlock", &top);
                }
                self.held[owner][level].all = Some(Exclusive);
                return Ok(());
            }
            (Which::All, None) => held.names.keys().copied().collect(),
            (Which::These(these), _) => these.iter().copied().collect(),
        };
        if these.is_empty() {
            return Ok(());
        }
        let intention = held.all.map_or(IntentExclusive, |_| SharedIntentExclusive);
        if !self.admits_top(owner, level, intention) {
            return refused("WouldBlock", &top);
        }
        if let Some(name) = these.iter().find(|n| !self.admits_name(owner, level, n, Exclusive)) {
            return refused("WouldBlock", &self.levels[level].lock(name));
        }
        self.held[owner][level].names.extend(these.iter().map(|name| (*name, Exclusive)));
        Ok(())
    }

    /// What every change of members needs, unless something of the level is held.
    fn check_change(&self, owner: usize, level: usize) -> Outcome {
        self.check_level(level)?;
        if self.held[owner][level].is_nothing() {
            self.check_root(owner, false)?;
            self.check_nothing_deeper(owner, level)?;
        }
        match self.levels[level].membership {
            Membership::Listed => Ok(()),
            _ => refused("NotModifiable", self.levels[level].name),
        }
    }

    fn spoken_of(&self, level: usize, names: &Which) -> BTreeSet<Name> {
        match names {
            Which::All => self.names(level),
            Which::These(names) => names.clone(),
        }
    }

    pub(crate) fn add(&mut self, owner: usize, level: usize, names: &Which, held: bool) -> Outcome {
        self.check_change(owner, level)?;
        let names = self.spoken_of(level, names);
        if let Some(name) = names.iter().find(|name| self.levels[level].has(name)) {
            return refused("AlreadyExists", &self.levels[level].lock(name));
        }
        let top = self.held[owner][level].top();
        if top.is_none() && !self.admits_top(owner, level, IntentExclusive) {
            return refused("WouldBlock", &self.levels[level].top());
        }
        if top.is_some_and(|top| !top.covers(IntentExclusive)) {
            return refused("HeldOtherwise", &self.levels[level].top());
        }
        self.levels[level].names.extend(&names);
        if held && top != Some(Exclusive) {
            let held = &mut self.held[owner][level].names;
            held.extend(names.into_iter().map(|name| (name, Exclusive)));
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, owner: usize, level: usize, names: &Which) -> Outcome {
        self.check_change(owner, level)?;
        let names = self.spoken_of(level, names);
        if let Some(root) = self.root.filter(|root| level == 0 && names.contains(root)) {
            return refused("RootStays", &self.levels[0].lock(root));
        }
        if let Some(name) = names.iter().find(|name| !self.levels[level].has(name)) {
            return refused("NotFound", &self.levels[level].lock(name));
        }
        if self.held[owner][level].is_nothing() {
            let names = Which::These(names.clone());
            self.take(owner, &Wanted { level, mode: Exclusive, names, at_least: None })?;
        }
        let not_exclusive = |name: &&Name| self.mode_of(owner, level, name) != Some(Exclusive);
        if let Some(name) = names.iter().find(not_exclusive) {
            return refused("HeldOtherwise", &self.levels[level].lock(name));
        }
        for name in names {
            self.levels[level].names.remove(name);
            self.held[owner][level].names.remove(name);
        }
        Ok(())
    }

    pub(crate) fn release_all(&mut self, owner: usize) {
        self.held[owner].fill(Held::default());
    }
}
