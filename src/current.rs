//! Who asks, where nobody says: an owner for each thread, and one for a while wherever it is set.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use pin_project_lite::pin_project;

use crate::owner::Owner;

thread_local! {
    /// The thread's own, made when it is asked for.
    static OWN: RefCell<Option<Owner>> = const { RefCell::new(None) };
    /// The one set for a while.
    static SET: RefCell<Option<Owner>> = const { RefCell::new(None) };
}

impl Owner {
    /// Whoever asks where no owner is named: the one set by [`scope`](Self::scope) or [`sync_scope`](Self::sync_scope), else the
    /// thread's own, which is called as the thread is.
    ///
    /// # Examples
    /// ```
    /// use tierlock::Owner;
    ///
    /// assert_eq!(Owner::current(), Owner::current());
    /// let other = std::thread::Builder::new().name("backup".into()).spawn(Owner::current);
    /// assert_eq!(other.unwrap().join().unwrap().name(), "backup");
    /// ```
    #[must_use]
    pub fn current() -> Self {
        set().unwrap_or_else(own)
    }

    /// Is the [`current`](Self::current) owner of whatever `future` does, on whatever threads that is: a task's owner.
    ///
    /// What it spawns is another task, and has the owner only if it is given it.
    ///
    /// # Examples
    /// ```
    /// use tierlock::Owner;
    ///
    /// let job = Owner::new("job-17");
    /// let name = pollster::block_on(job.scope(async { Owner::current().name().to_owned() }));
    /// assert_eq!(name, "job-17");
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped { owner: Some(self.clone()), name: "", future: Some(future) }
    }

    /// Is the [`current`](Self::current) owner of what `work` does on this thread.
    ///
    /// # Examples
    /// ```
    /// use tierlock::Owner;
    ///
    /// let job = Owner::new("job-17");
    /// assert_eq!(job.sync_scope(Owner::current), job);
    /// ```
    pub fn sync_scope<R>(&self, work: impl FnOnce() -> R) -> R {
        let _entered = Entered::new(self.clone());
        work()
    }
}

/// Runs `future` as the owner that is set, or as one of its own called `name`, so that tasks on one thread are not taken for
/// one owner.
pub fn task<F: Future>(name: &'static str, future: F) -> Scoped<F> {
    Scoped { owner: None, name, future: Some(future) }
}

/// `None` also while the thread ends, when what was set is gone.
fn set() -> Option<Owner> {
    SET.try_with(|set| set.borrow().clone()).ok().flatten()
}

fn own() -> Owner {
    let make = || Owner::new(thread_name());
    // While the thread ends there is nothing left to keep it in, and each asks for itself.
    OWN.try_with(|own| own.borrow_mut().get_or_insert_with(make).clone()).unwrap_or_else(|_| make())
}

fn thread_name() -> String {
    let thread = thread::current();
    thread.name().map_or_else(|| format!("{:?}", thread.id()), str::to_owned)
}

/// An owner is set while this is there; then the one before is again.
struct Entered(Option<Owner>);

impl Entered {
    fn new(owner: Owner) -> Self {
        Self(exchange(Some(owner)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Dropped when nothing is borrowed any more.
        drop(exchange(self.0.take()));
    }
}

fn exchange(owner: Option<Owner>) -> Option<Owner> {
    SET.try_with(|set| set.replace(owner)).ok().flatten()
}

pin_project! {
    /// A future and the owner that it acts as.
    ///
    /// Only ever named by the compiler, so without an example of its own: see [`Owner::scope`].
    #[must_use = "a future does nothing until it is awaited"]
    pub struct Scoped<F> {
        // None before the first poll of a task that makes do with whoever is set.
        owner: Option<Owner>,
        name: &'static str,
        // Gone when it is dropped.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Scoped<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // What goes with a future that is given up may ask for locks, and is still its owner's.
            let _entered = this.owner.take().map(Entered::new);
            this.future.set(None);
        }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let name = *this.name;
        let owner = this.owner.get_or_insert_with(|| set().unwrap_or_else(|| Owner::new(name)));
        let _entered = Entered::new(owner.clone());
        let future = this.future.as_pin_mut();
        future.expect("there until it is dropped").poll(context)
    }
}

impl<F> fmt::Debug for Scoped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").field("owner", &self.owner).finish_non_exhaustive()
    }
}
