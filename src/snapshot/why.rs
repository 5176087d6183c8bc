//! Why an owner waits: who stands in its way, and why they do not move.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::{Group, Holder, Row, Snapshot, Waiting, Who};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::name::LockName;

/// Why an owner waits: a chain of who blocks whom, down to those who wait for nothing; see [`Snapshot::why`].
///
/// Shown as indented lines, each standing in the way of the one it is indented under.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{LockMonitor, Mode, monitor::{Provider, Fields, Row}};
///
/// struct Jobs;
/// impl Provider for Jobs {
///     fn rows(&self, _: Fields) -> Vec<Row> {
///         let row = Row::new("job/1").held_by("job-1", Mode::Exclusive);
///         vec![row.awaited_by("job-2", Mode::Shared, 0, Duration::from_secs(3))]
///     }
/// }
/// let (monitor, jobs) = (LockMonitor::new(), std::sync::Arc::new(Jobs));
/// monitor.register(&jobs);
/// let why = monitor.snapshot().why("job-2").unwrap();
/// assert_eq!(why.to_string(), "\
/// job-2 waits for job/1 shared (3.0s)
///   job-1 holds job/1 exclusive
/// ");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Why {
    steps: Vec<Step>,
}

/// One line of a [`Why`]: somebody who stands in the way of the step it belongs to, and what it waits for in turn.
///
/// # Examples
/// ```
/// use tierlock::LockMonitor;
/// if let Some(why) = LockMonitor::new().snapshot().why("job-19") {
///     let in_the_way = why.steps().iter().filter(|step| step.depth == 1);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Step {
    /// How far it is from the owner that was asked about, which has 0. It belongs to the last step before it of a lesser depth.
    pub depth: usize,
    /// Who it is.
    pub owner: Who,
    /// The lock by which it stands in the way, and the mode in which it holds that. `None` if it waits for it in front, or is
    /// the owner asked about.
    pub holds: Option<(LockName, Mode)>,
    /// What it waits for itself. `None` is the end of a chain: the owner runs, or waits for something unknown to the monitor.
    pub waits: Option<Wait>,
    /// Why the chain is not followed any further, if it goes on.
    pub repeat: Option<Repeat>,
}

/// What a step waits for.
///
/// # Examples
/// ```
/// use tierlock::LockMonitor;
/// let why = LockMonitor::new().snapshot().why("job-19");
/// let lock = why.and_then(|why| why.steps()[0].waits.clone()).map(|wait| wait.lock);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Wait {
    /// The lock.
    pub lock: LockName,
    /// The mode asked for.
    pub mode: Mode,
    /// The mode held already and kept meanwhile, if a stronger one is asked for.
    pub from: Option<Mode>,
    /// How urgent the request is: lower goes first.
    pub priority: Priority,
    /// Since the request began to wait, for this lock or for one that came before it.
    pub waited: Duration,
}

/// Why a chain is not followed any further.
///
/// # Examples
/// ```
/// use tierlock::{LockMonitor, monitor::Repeat};
/// let why = LockMonitor::new().snapshot().why("job-19");
/// let deadlocked = why.is_some_and(|why| why.steps().iter().any(|s| s.repeat == Some(Repeat::Cycle)));
/// assert!(!deadlocked);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Repeat {
    /// It leads back to a step that it stands in the way of: a deadlock, if the rows belong together.
    Cycle,
    /// What follows stands above already.
    Above,
}

impl Why {
    /// Every step, those in the way of a step right behind it: the holders whose mode conflicts, then those who wait in front.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::LockMonitor;
    /// if let Some(why) = LockMonitor::new().snapshot().why("job-19") {
    ///     assert_eq!(why.steps()[0].owner.name(), "job-19");
    /// }
    /// ```
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Those in the way who wait for nothing themselves: whom to look at, or to be patient with.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::LockMonitor;
    /// if let Some(why) = LockMonitor::new().snapshot().why("job-19") {
    ///     why.ends().for_each(|owner| println!("look at {owner}"));
    /// }
    /// ```
    pub fn ends(&self) -> impl Iterator<Item = &Who> {
        self.steps.iter().filter(|step| step.waits.is_none()).map(|step| &step.owner)
    }

    /// Tells whether a chain leads back to itself: a deadlock, if the same is seen again a little later.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::LockMonitor;
    /// let why = LockMonitor::new().snapshot().why("job-19");
    /// assert!(!why.is_some_and(|why| why.has_cycle()));
    /// ```
    #[must_use]
    pub fn has_cycle(&self) -> bool {
        self.steps.iter().any(|step| step.repeat == Some(Repeat::Cycle))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{:1$}{step}", "", 2 * step.depth)?;
        }
        if self.steps.iter().all(|step| step.depth == 0) {
            // It was granted while the monitor looked.
            writeln!(f, "  nothing is in its way any more")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.owner)?;
        if let Some((lock, mode)) = &self.holds {
            write!(f, " holds {lock} {mode}")?;
        }
        match (&self.waits, &self.holds) {
            (None, _) => {}
            (Some(wait), Some(_)) => write!(f, " and waits for {wait}")?,
            (Some(wait), None) if self.depth == 0 => write!(f, " waits for {wait}")?,
            (Some(wait), None) => write!(f, " waits in front for {wait}")?,
        }
        match self.repeat {
            None => Ok(()),
            Some(Repeat::Cycle) => f.write_str(": a cycle"),
            Some(Repeat::Above) => f.write_str(": see above"),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.lock, self.mode)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if self.priority != 0 {
            write!(f, " at {}", self.priority)?;
        }
        write!(f, " ({:.1?})", self.waited)
    }
}

impl Snapshot {
    /// Tells why an owner waits, or `None` if it does not: what it waits for, the holders that conflict with that and those who
    /// wait in front, then what each of them waits for, and so on.
    ///
    /// Each owner is followed once; a chain that leads back to itself is cut there and called a cycle. Since the rows were not
    /// read at one instant, a chain may have broken up while it was looked at: what is still there a little later is real. Needs
    /// owners and pending; for a name that several owners have, it follows each.
    ///
    /// # Examples
    /// ```
    /// use std::{thread, time::Duration};
    /// use tierlock::{LockMonitor, Owner, SharedLock};
    ///
    /// let lock = SharedLock::new("config");
    /// let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
    /// let monitor = LockMonitor::new();
    /// monitor.register(&lock);
    /// let guard = lock.exclusive(&first).now()?;
    /// thread::scope(|scope| {
    ///     scope.spawn(|| lock.shared(&second).wait());
    ///     let why = loop {
    ///         if let Some(why) = monitor.snapshot().why(&second) { break why }
    ///         thread::yield_now();
    ///     };
    ///     assert_eq!(why.ends().map(|owner| owner.name()).collect::<Vec<_>>(), ["job-1"]);
    ///     drop(guard);
    /// });
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn why(&self, owner: impl Into<Who>) -> Option<Why> {
        let who = owner.into();
        let mut teller = Teller::new(&self.rows);
        for place in teller.places_of(&who) {
            let owner = &teller.waiting(place).owner;
            teller.todo.push(Todo { depth: 0, owner, holds: None, waits: Some(place) });
        }
        teller.todo.reverse();
        let steps = teller.tell();
        (!steps.is_empty()).then_some(Why { steps })
    }
}

/// Somebody waiting: member of a pending group of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    row: usize,
    group: usize,
    member: usize,
}

/// A step to be told, with what lies behind it.
struct Todo<'s> {
    depth: usize,
    owner: &'s Who,
    holds: Option<(&'s Row, Mode)>,
    waits: Option<Place>,
}

/// Follows chains depth first, without recursion: they can be as long as a program has jobs.
struct Teller<'s> {
    rows: &'s [Row],
    /// Who waits where, by name.
    places: HashMap<&'s str, Vec<Place>>,
    todo: Vec<Todo<'s>>,
    /// The places from the first step to the present one, by depth.
    path: Vec<Option<Place>>,
    on_path: HashSet<Place>,
    told: HashSet<Place>,
}

impl<'s> Teller<'s> {
    fn new(rows: &'s [Row]) -> Self {
        let mut places: HashMap<_, Vec<_>> = HashMap::new();
        for (row, Row { pending, .. }) in rows.iter().enumerate() {
            for (group, Group { members, .. }) in pending.iter().enumerate() {
                for (member, waiting) in members.iter().enumerate() {
                    let place = Place { row, group, member };
                    places.entry(waiting.owner.name()).or_default().push(place);
                }
            }
        }
        Self {
            rows,
            places,
            todo: Vec::new(),
            path: Vec::new(),
            on_path: HashSet::new(),
            told: HashSet::new(),
        }
    }

    fn places_of(&self, who: &Who) -> Vec<Place> {
        let namesakes = self.places.get(who.name()).into_iter().flatten();
        namesakes.copied().filter(|place| self.waiting(*place).owner.is(who)).collect()
    }

    fn waiting(&self, place: Place) -> &'s Waiting {
        &self.rows[place.row].pending[place.group].members[place.member]
    }

    fn wait(&self, place: Place) -> Wait {
        let row = &self.rows[place.row];
        let Group { mode, from, priority, .. } = row.pending[place.group];
        let waited = self.waiting(place).waited;
        Wait { lock: row.name.clone(), mode, from, priority, waited }
    }

    fn tell(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(todo) = self.todo.pop() {
            let repeat = self.follow(&todo);
            steps.push(Step {
                depth: todo.depth,
                owner: todo.owner.clone(),
                holds: todo.holds.map(|(row, mode)| (row.name.clone(), mode)),
                waits: todo.waits.map(|place| self.wait(place)),
                repeat,
            });
        }
        steps
    }

    /// Puts on the list what stands in the way of a step, unless that was done before.
    fn follow(&mut self, todo: &Todo<'s>) -> Option<Repeat> {
        self.leave(todo.depth);
        self.path.push(todo.waits);
        let place = todo.waits?;
        if self.on_path.contains(&place) {
            *self.path.last_mut().expect("just pushed") = None;
            return Some(Repeat::Cycle);
        }
        self.on_path.insert(place);
        let is_first = self.told.insert(place);
        if todo.depth > 0 && todo.holds.is_none() {
            // What keeps it waiting in front is told beside it.
            return None;
        }
        if !is_first {
            return Some(Repeat::Above);
        }
        let mut blockers = self.blockers(place, todo.depth + 1);
        blockers.reverse();
        self.todo.append(&mut blockers);
        None
    }

    /// Forgets the part of the path that does not lead to a step of this depth.
    fn leave(&mut self, depth: usize) {
        for place in self.path.drain(depth..).flatten() {
            self.on_path.remove(&place);
        }
    }

    /// Who keeps this place from being granted: the holders that conflict, then everybody in front with those who conflict with
    /// them, each once.
    fn blockers(&self, place: Place, depth: usize) -> Vec<Todo<'s>> {
        let row = &self.rows[place.row];
        let mut blockers =
            Blockers { row, said: HashSet::new(), modes: Vec::new(), list: Vec::new() };
        blockers.said.insert(&self.waiting(place).owner);
        blockers.add_holders(self, row.pending[place.group].mode, depth);
        for (at, group) in row.pending[..place.group].iter().enumerate() {
            let front = Place { group: at, ..place };
            if blockers.add_waiting(group, front, depth) && group.from.is_none() {
                blockers.add_holders(self, group.mode, depth + 1);
            }
        }
        blockers.list
    }
}

/// Those in the way of one place, as they are found.
struct Blockers<'s> {
    row: &'s Row,
    said: HashSet<&'s Who>,
    /// The modes of which the conflicting holders were said.
    modes: Vec<Mode>,
    list: Vec<Todo<'s>>,
}

impl<'s> Blockers<'s> {
    fn add_holders(&mut self, teller: &Teller<'s>, wanted: Mode, depth: usize) {
        if self.modes.contains(&wanted) {
            return;
        }
        self.modes.push(wanted);
        for Holder { owner, mode } in self.row.owners.iter().filter(|h| !h.mode.admits(wanted)) {
            if self.said.insert(owner) {
                let holds = Some((self.row, *mode));
                let places = teller.places_of(owner);
                let runs = places.is_empty().then_some(None);
                let waits = places.into_iter().map(Some).chain(runs);
                self.list.extend(waits.map(|waits| Todo { depth, owner, holds, waits }));
            }
        }
    }

    /// Returns false if each of them was said before.
    fn add_waiting(&mut self, group: &'s Group, first: Place, depth: usize) -> bool {
        let before = self.list.len();
        for (member, Waiting { owner, .. }) in group.members.iter().enumerate() {
            if self.said.insert(owner) {
                let holds = group.from.map(|mode| (self.row, mode));
                let waits = Some(Place { member, ..first });
                self.list.push(Todo { depth, owner, holds, waits });
            }
        }
        self.list.len() > before
    }
}
