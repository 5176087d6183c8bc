//! Seeing every lock: who holds it, who waits for it, and why.
//!
//! # What a snapshot promises
//! - **Each row is consistent in itself.** Its owners are those that its mode and count of holders speak of: never two whose
//!   modes conflict, never an owner both as holding and as waiting for the same grant. Where the owners change faster than they
//!   can be read, the row says so ([`Row::unsettled`]) and lists only those that agree with the rest.
//! - Every hold shown was held at some instant of the scan; one that lasted throughout is shown, but for an unsettled row.
//! - The pending requests of a lock are those of one instant.
//!
//! # What it does not
//! - **The rows are not of one instant.** Two holds in two rows may not have been held together, and what moved from one lock to
//!   another meanwhile may be seen at both, or at neither. Of a chain or a circle of waiting, believe what is there twice.
//! - Names held through their set as a whole are not owned one by one: the set-lock `node/[lockset]` shows who holds all.
//!
//! # Cost
//! One look at each owner's holds, one load for each lock, the mutex of a lock's queue only where somebody waits, and the sorting of
//! the names: some 20 ms for 100,000 locks of which 1,000 are held. Nobody is stopped meanwhile: locks are taken and released as
//! ever, and that costs nothing for being watched. Names are added to a set, or removed, when its names have been listed, which is a
//! quarter of that time.

mod collect;
mod order;
mod registry;

use std::cell::RefCell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

// Not the facade's: no lock is decided in here, and models need not look into it.
use parking_lot::Mutex;

use self::collect::Subject;
pub(crate) use self::registry::Source;
pub use self::registry::Watched;
use self::registry::{Live, Registry};
use crate::hold::Lock;
use crate::name::natural;
use crate::waits::Tally;

pub use crate::snapshot::{
    Field, Fields, Group, Holder, Repeat, Row, Snapshot, Step, Wait, Waiting, Who, Why,
};
pub use crate::waits::Waits;

/// Sees every lock registered with it. Cheap to clone: clones are the same monitor.
///
/// It refers to what is registered weakly: what nobody else refers to any more drops out. A deleted lock that somebody still
/// refers to is shown as deleted. See the [module](self) for what is promised of a snapshot, and for its cost.
///
/// # Examples
/// ```
/// use tierlock::{Level, ganeti::{self, Level::*}};
///
/// let manager = ganeti::manager(["web1"], [""; 0], ["n1", "n2"], [""; 0]).build()?;
/// let monitor = manager.monitor();
/// let mut job = manager.session("job-17");
/// job.acquire([Cluster.shared("BGL"), Node.exclusive("n2")]).wait()?;
/// print!("{}", monitor.snapshot().held());
/// # assert_eq!(monitor.snapshot().held().rows().len(), 4);
/// # Ok::<(), tierlock::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct LockMonitor(Arc<Mutex<Registry>>);

/// Providers are asked while nothing is locked, so no panic of theirs is seen half way.
impl UnwindSafe for LockMonitor {}
impl RefUnwindSafe for LockMonitor {}

/// Has rows of its own to show beside those of locks: jobs that wait for other jobs, say. Registered as an `Arc` of it.
///
/// Rows link to others by their owners: [`Snapshot::why`] follows a job that waits for a job that waits for a lock.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tierlock::{LockMonitor, Mode, monitor::{Fields, Provider, Row}};
///
/// struct Jobs(Vec<u64>);
///
/// impl Provider for Jobs {
///     fn rows(&self, _: Fields) -> Vec<Row> {
///         let row = |job| Row::new(format!("job/{job}")).held_by(format!("job-{job}"), Mode::Exclusive);
///         self.0.iter().map(row).collect()
///     }
/// }
///
/// let (monitor, jobs) = (LockMonitor::new(), Arc::new(Jobs(vec![10, 9])));
/// monitor.register(&jobs);
/// let names: Vec<_> = monitor.snapshot().rows().iter().map(|row| row.name.to_string()).collect();
/// assert_eq!(names, ["job/9", "job/10"]);
/// ```
pub trait Provider: Send + Sync {
    /// The rows as they are now; only these fields are wanted, and others are not shown.
    ///
    /// Called with nothing locked, so it may call the monitor; in a snapshot that it takes itself it is left out.
    fn rows(&self, fields: Fields) -> Vec<Row>;
}

impl LockMonitor {
    /// Makes a monitor that knows no locks; for one that knows those of a manager, see
    /// [`LockManager::monitor`](crate::LockManager::monitor).
    ///
    /// # Examples
    /// ```
    /// assert!(tierlock::LockMonitor::new().snapshot().rows().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a lock, a set with all names that come into it, the sets of a manager, or what a provider has to show.
    ///
    /// Equal names are fine: their rows stand in the order of registration. Registering something again changes nothing.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockMonitor, LockSet, SharedLock};
    ///
    /// let (lock, paths) = (SharedLock::new("config"), LockSet::on_demand("paths"));
    /// let monitor = LockMonitor::new();
    /// monitor.register(&lock);
    /// monitor.register(&paths);
    /// assert_eq!(monitor.snapshot().rows().len(), 2);
    /// drop(lock);
    /// assert_eq!(monitor.snapshot().rows().len(), 1);
    /// ```
    pub fn register(&self, watched: &(impl Watched + ?Sized)) {
        let sources = watched.sources();
        let mut registry = self.0.lock();
        for source in sources {
            registry.add(source);
        }
    }

    /// Looks at every lock.
    ///
    /// # Panics
    /// If a provider does.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockMonitor, SharedLock};
    ///
    /// let lock = SharedLock::new("config");
    /// let monitor = LockMonitor::new();
    /// monitor.register(&lock);
    /// assert!(monitor.snapshot().row("config").unwrap().is_free());
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.query(Fields::ALL)
    }

    /// Looks at every lock for these fields only, and does not find out the others: without owners no owner is looked at, and
    /// without pending no queue.
    ///
    /// # Panics
    /// If a provider does.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockMonitor, SharedLock, monitor::Field};
    ///
    /// let lock = SharedLock::new("config");
    /// let monitor = LockMonitor::new();
    /// monitor.register(&lock);
    /// assert_eq!(monitor.query([Field::Name, Field::Mode]).to_string(), "Name    Mode\nconfig  -\n");
    /// ```
    #[must_use]
    pub fn query(&self, fields: impl Into<Fields>) -> Snapshot {
        let fields = fields.into();
        let mut subjects = Vec::new();
        for source in self.live() {
            match source {
                Live::Lock(lock) => subjects.push(Subject::Lock(lock)),
                Live::Set(set) => subjects.extend(set.locks().into_iter().map(Subject::Lock)),
                Live::Provider(provider) => subjects.extend(ask(&provider, fields)),
            }
        }
        Snapshot::new(fields, collect::rows(subjects, fields))
    }

    /// How often, and for how long, locks were waited for: for each set as a whole and for each lock by itself, in natural order of
    /// names.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockMonitor, LockSet};
    ///
    /// let paths = LockSet::on_demand("paths");
    /// let monitor = LockMonitor::new();
    /// monitor.register(&paths);
    /// for waits in monitor.waits() {
    ///     println!("{}: {} waits, {:?} in all", waits.name(), waits.count(), waits.total());
    /// }
    /// ```
    #[must_use]
    pub fn waits(&self) -> Vec<Waits> {
        let read = |name: &Arc<str>, lock: &Lock| match lock.tally() {
            Some(tally) => tally.read(Arc::clone(name)),
            None => Tally::new().read(Arc::clone(name)),
        };
        let waits = |source| match source {
            Live::Lock(lock) => Some(read(lock.name().name_arc(), &lock)),
            Live::Set(set) => Some(set.tally().read(Arc::clone(set.name()))),
            Live::Provider(_) => None,
        };
        let mut all: Vec<_> = self.live().into_iter().filter_map(waits).collect();
        all.sort_by(|a, b| natural(a.name(), b.name()));
        all
    }

    fn live(&self) -> Vec<Live> {
        self.0.lock().live()
    }
}

impl fmt::Debug for LockMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.0.lock().len();
        f.debug_struct("LockMonitor").field("registered", &registered).finish()
    }
}

thread_local! {
    /// The providers that this thread is asking.
    static ASKING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The rows of a provider; none while this thread is asking it already.
fn ask(provider: &Arc<dyn Provider>, fields: Fields) -> Vec<Subject> {
    let address = Arc::as_ptr(provider).addr();
    if ASKING.with_borrow(|asking| asking.contains(&address)) {
        return Vec::new();
    }
    ASKING.with_borrow_mut(|asking| asking.push(address));
    let _asked = Asked;
    let row = |row: Row| Subject::Row(Box::new(row.narrow(fields).sorted()));
    provider.rows(fields).into_iter().map(row).collect()
}

/// Ends asking, by a panic too.
struct Asked;

impl Drop for Asked {
    fn drop(&mut self) {
        ASKING.with_borrow_mut(Vec::pop);
    }
}
