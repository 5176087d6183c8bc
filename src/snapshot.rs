//! What a monitor saw: rows of data, and ways to read them.
//!
//! Pure: nothing here looks at a lock. The views are in [`table`], [`dot`] and [`why`].

mod dot;
mod fields;
mod table;
mod who;
mod why;

use std::sync::Arc;
use std::time::Duration;

pub use self::fields::{Field, Fields};
pub use self::who::Who;
pub use self::why::{Repeat, Step, Wait, Why};
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::name::LockName;

/// Somebody who holds a lock.
///
/// # Examples
/// ```
/// use tierlock::{Mode, monitor::Row};
/// let row = Row::new("job/123").held_by("job-123", Mode::Exclusive);
/// assert_eq!((row.owners[0].owner.name(), row.owners[0].mode), ("job-123", Mode::Exclusive));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holder {
    /// Who it is.
    pub owner: Who,
    /// How it holds the lock.
    pub mode: Mode,
}

/// Requests that will be granted together: one, or any number in a mode that admits itself.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{Mode, monitor::Row};
/// let row = Row::new("job/123").awaited_by("job-124", Mode::Shared, 0, Duration::from_secs(3));
/// assert_eq!((row.pending[0].mode, row.pending[0].members.len()), (Mode::Shared, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Group {
    /// What they ask for.
    pub mode: Mode,
    /// What the owner holds already and keeps while it waits, if it asks for a stronger mode.
    pub from: Option<Mode>,
    /// How urgent they are: lower goes first.
    pub priority: Priority,
    /// Who they are, in natural order of names.
    pub members: Vec<Waiting>,
}

/// Somebody who waits for a lock.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tierlock::{Mode, monitor::Row};
/// let row = Row::new("job/123").awaited_by("job-124", Mode::Shared, 0, Duration::from_secs(3));
/// assert_eq!(row.pending[0].members[0].waited.as_secs(), 3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Waiting {
    /// Who it is.
    pub owner: Who,
    /// For how long: since its request began to wait, for this lock or for one that came before it.
    pub waited: Duration,
}

/// One lock, or whatever a provider counts as one.
///
/// What was not asked for is empty.
///
/// # Examples
/// ```
/// use tierlock::{LockMonitor, Mode, Owner, SharedLock};
///
/// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
/// let monitor = LockMonitor::new();
/// monitor.register(&lock);
/// let _guard = lock.shared(&owner).now()?;
/// let snapshot = monitor.snapshot();
/// let row = &snapshot.rows()[0];
/// assert_eq!((row.name.name(), row.mode), ("config", Some(Mode::Shared)));
/// assert_eq!(row.owners[0].owner.name(), "job-19");
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Row {
    /// What it is called.
    pub name: LockName,
    /// The strongest mode in which it is held.
    pub mode: Option<Mode>,
    /// Who holds it, in natural order of names.
    pub owners: Vec<Holder>,
    /// Who waits for it, in the order in which they will be granted.
    pub pending: Vec<Group>,
    /// It was deleted, and somebody refers to it still.
    pub deleted: bool,
    /// Who ended while holding it exclusively, if no later exclusive holder was told of it.
    pub abandoned: Option<Arc<str>>,
    /// Its owners changed faster than they could be read: `mode` and `pending` are right, but `owners` has only those that
    /// agree with them, and may lack some.
    pub unsettled: bool,
}

impl Row {
    /// A row of this name, which nobody holds: for a [`Provider`](crate::monitor::Provider) to begin with.
    ///
    /// # Examples
    /// ```
    /// let row = tierlock::monitor::Row::new("job/123");
    /// assert!(row.owners.is_empty() && row.mode.is_none());
    /// ```
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::of(LockName::alone(name.into()))
    }

    pub(crate) fn of(name: LockName) -> Self {
        Self {
            name,
            mode: None,
            owners: Vec::new(),
            pending: Vec::new(),
            deleted: false,
            abandoned: None,
            unsettled: false,
        }
    }

    /// Adds somebody who holds it.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{Mode, monitor::Row};
    /// let row = Row::new("job/123").held_by("job-123", Mode::Exclusive);
    /// assert_eq!(row.mode, Some(Mode::Exclusive));
    /// ```
    #[must_use]
    pub fn held_by(mut self, owner: impl Into<Who>, mode: Mode) -> Self {
        self.mode = self.mode.max(Some(mode));
        self.owners.push(Holder { owner: owner.into(), mode });
        self
    }

    /// Adds somebody who waits for it, behind everybody there: to the last group, if that has the same mode and priority.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tierlock::{Mode, monitor::Row};
    /// let row = Row::new("job/123")
    ///     .awaited_by("job-124", Mode::Shared, 0, Duration::from_secs(3))
    ///     .awaited_by("job-125", Mode::Shared, 0, Duration::from_secs(1));
    /// assert_eq!(row.pending.len(), 1);
    /// ```
    #[must_use]
    pub fn awaited_by(
        mut self,
        owner: impl Into<Who>,
        mode: Mode,
        priority: Priority,
        waited: Duration,
    ) -> Self {
        let waiting = Waiting { owner: owner.into(), waited };
        match self.pending.last_mut() {
            Some(last) if mode.admits(mode) && (last.mode, last.priority) == (mode, priority) => {
                last.members.push(waiting);
            }
            _ => self.pending.push(Group { mode, from: None, priority, members: vec![waiting] }),
        }
        self
    }

    /// Tells whether nobody holds it and nobody waits for it.
    ///
    /// # Examples
    /// ```
    /// assert!(tierlock::monitor::Row::new("job/123").is_free());
    /// ```
    #[must_use]
    pub fn is_free(&self) -> bool {
        !self.is_held() && self.pending.is_empty()
    }

    fn is_held(&self) -> bool {
        self.mode.is_some() || !self.owners.is_empty()
    }

    fn concerns(&self, who: &Who) -> bool {
        let waits = || self.pending.iter().flat_map(|group| &group.members);
        self.owners.iter().any(|holder| holder.owner.is(who)) || waits().any(|w| w.owner.is(who))
    }

    /// Puts the names in natural order.
    pub(crate) fn sorted(mut self) -> Self {
        self.owners.sort_by(|a, b| a.owner.natural(&b.owner));
        for group in &mut self.pending {
            group.members.sort_by(|a, b| a.owner.natural(&b.owner));
        }
        self
    }

    /// Drops what was not asked for.
    pub(crate) fn narrow(mut self, fields: Fields) -> Self {
        if !fields.contains(Field::Mode) {
            self = Self { mode: None, deleted: false, abandoned: None, ..self };
        }
        if !fields.contains(Field::Owner) {
            self.owners.clear();
        }
        if !fields.contains(Field::Pending) {
            self.pending.clear();
        }
        self
    }
}

/// What a monitor saw of every lock it knows; see [`LockMonitor`](crate::LockMonitor) for what that promises.
///
/// Shown as a table, one line for each lock: control characters in names are escaped, and a name that could be taken for
/// something else stands in quotation marks. Columns are aligned up to a width of 48.
///
/// # Examples
/// ```
/// use tierlock::{LockMonitor, Owner, SharedLock};
///
/// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
/// let monitor = LockMonitor::new();
/// monitor.register(&lock);
/// let _guard = lock.exclusive(&owner).now()?;
/// let table = "\
/// Name    Mode       Owner   Pending
/// config  exclusive  job-19  -
/// ";
/// assert_eq!(monitor.snapshot().to_string(), table);
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Snapshot {
    fields: Fields,
    rows: Vec<Row>,
}

impl Snapshot {
    pub(crate) fn new(fields: Fields, rows: Vec<Row>) -> Self {
        Self { fields, rows }
    }

    /// What was asked for.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockMonitor, monitor::Fields};
    /// assert_eq!(LockMonitor::new().snapshot().fields(), Fields::ALL);
    /// ```
    #[must_use]
    pub fn fields(&self) -> Fields {
        self.fields
    }

    /// The locks, in natural order of their names (`node2` before `node10`), then in the order of registration.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockMonitor, SharedLock};
    ///
    /// let (ten, two) = (SharedLock::new("n10"), SharedLock::new("n2"));
    /// let monitor = LockMonitor::new();
    /// monitor.register(&ten);
    /// monitor.register(&two);
    /// let names: Vec<_> = monitor.snapshot().rows().iter().map(|row| row.name.to_string()).collect();
    /// assert_eq!(names, ["n2", "n10"]);
    /// ```
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The first row of this name, as it is shown: `node/n1`. Looks through all of them.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockMonitor, LockSet};
    ///
    /// let paths = LockSet::on_demand("paths");
    /// let monitor = LockMonitor::new();
    /// monitor.register(&paths);
    /// assert!(monitor.snapshot().row("paths/[lockset]").unwrap().is_free());
    /// ```
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name.to_string() == name)
    }

    /// Those that are held.
    ///
    /// # Examples
    /// ```
    /// use tierlock::LockMonitor;
    /// println!("{}", LockMonitor::new().snapshot().held());
    /// ```
    #[must_use]
    pub fn held(&self) -> Self {
        self.filter(Row::is_held)
    }

    /// Those that somebody waits for.
    ///
    /// # Examples
    /// ```
    /// use tierlock::LockMonitor;
    /// println!("{}", LockMonitor::new().snapshot().contended());
    /// ```
    #[must_use]
    pub fn contended(&self) -> Self {
        self.filter(|row| !row.pending.is_empty())
    }

    /// Those that this owner holds or waits for.
    ///
    /// # Examples
    /// ```
    /// use tierlock::LockMonitor;
    /// println!("{}", LockMonitor::new().snapshot().of("job-19"));
    /// ```
    #[must_use]
    pub fn of(&self, owner: impl Into<Who>) -> Self {
        let who = owner.into();
        self.filter(|row| row.concerns(&who))
    }

    fn filter(&self, keep: impl Fn(&Row) -> bool) -> Self {
        let rows = self.rows.iter().filter(|row| keep(row)).cloned().collect();
        Self { fields: self.fields, rows }
    }
}
