//! What `#[ssynchronized]` is made of: where a name means a lock, how a name is made, and what a refusal becomes.
//!
//! Of use by itself is [`Within`], which opens `in = ..` to other places than those of this crate.

use std::borrow::Cow;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use crate::acquire::Acquire;
use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::{AcquireError, Error};
use crate::lock_set::{AcquireSet, LockSet};
use crate::name::LockName;
use crate::owner::Owner;
use crate::request::{Names, SetRequest};
use crate::session::{AcquireLevel, ManagerLevel, SessionLevel};
use crate::shared_lock::{AcquireLock, SharedLock};
use crate::target::{Patience, Target};
use crate::task::{Refusal, Task};

#[doc(hidden)]
pub use crate::current::task;

/// A place where a name means a lock: what `in = ..` takes.
///
/// [`LockSet`], [`Session::at`](crate::Session::at) and [`LockManager::at`](crate::LockManager::at) are such places, and so
/// are references and pointers to them.
///
/// # Examples
/// ```
/// use tierlock::annotation::{Name, Within};
/// use tierlock::{Error, LockSet, Mode, ssynchronized};
///
/// /// One set of locks for each kind of thing.
/// struct Kinds(Vec<(&'static str, LockSet)>);
///
/// impl Within for Kinds {
///     type Request = <LockSet as Within>::Request;
///
///     fn request(&self, name: Name, mode: Mode) -> Self::Request {
///         let kind = self.0.iter().find(|(kind, _)| name.as_str().starts_with(kind));
///         kind.unwrap_or(&self.0[0]).1.request(name, mode)
///     }
/// }
///
/// #[ssynchronized("vol-{id}", in = kinds)]
/// fn grow(kinds: &Kinds, id: u32) -> Result<(), Error> {
///     assert_eq!(kinds.0[1].1.names(), ["vol-7".into()]);
///     Ok(())
/// }
///
/// let kinds = Kinds(vec![("any", LockSet::on_demand("any")), ("vol", LockSet::on_demand("volumes"))]);
/// grow(&kinds, 7)?;
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no place where a name means a lock",
    label = "not a `LockSet`, nor a level",
    note = "`in` takes a `LockSet`, `session.at(level)`, `manager.at(level)`, or what implements `Within`"
)]
pub trait Within {
    /// A request like [`Acquire`]: `priority`, `timeout`, `deadline`, and then `now`, `wait` or `.await`, as far as annotations
    /// ask for them. Its error converts into [`Error`]. It should own what the guard needs, which is there for the whole body.
    type Request;

    /// Asks for the lock of this name as whoever asks here: the [current owner](Owner::current), unless the place has its own.
    fn request(&self, name: Name, mode: Mode) -> Self::Request;
}

/// A place where it can be said who asks: what `in = ..` takes beside `owner = ..`.
///
/// # Examples
/// ```
/// use tierlock::annotation::WithinAs;
/// use tierlock::{LockSet, Mode, Owner};
///
/// let (paths, job) = (LockSet::on_demand("paths"), Owner::new("job-17"));
/// let guard = paths.request_as(&job, "/etc".into(), Mode::Shared).wait()?;
/// assert_eq!(guard.holds("/etc"), Some(Mode::Shared));
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has an owner already",
    label = "asks as its own owner",
    note = "a session acts for its owner: leave `owner = ..` out"
)]
pub trait WithinAs: Within {
    /// Asks for the lock of this name as `owner`.
    fn request_as(&self, owner: &Owner, name: Name, mode: Mode) -> Self::Request;
}

impl Within for LockSet {
    type Request = Acquire<Named<AcquireSet>>;

    fn request(&self, name: Name, mode: Mode) -> Self::Request {
        self.request_as(&Owner::current(), name, mode)
    }
}

impl WithinAs for LockSet {
    fn request_as(&self, owner: &Owner, name: Name, mode: Mode) -> Self::Request {
        let set = self.name();
        named(owner, set, name, |name| {
            AcquireSet::new(
                self,
                owner,
                SetRequest { mode, names: Names::from(name), at_least: None },
            )
        })
    }
}

impl<'s> Within for SessionLevel<'s> {
    type Request = Acquire<Named<AcquireLevel<'s>>>;

    fn request(&self, name: Name, mode: Mode) -> Self::Request {
        let session = self.take();
        let owner = session.owner().clone();
        named(&owner, self.name(), name, |name| self.acquire(session, name, mode))
    }
}

impl Within for ManagerLevel {
    type Request = Acquire<Named<AcquireLevel<'static>>>;

    fn request(&self, name: Name, mode: Mode) -> Self::Request {
        self.request_as(&Owner::current(), name, mode)
    }
}

impl WithinAs for ManagerLevel {
    fn request_as(&self, owner: &Owner, name: Name, mode: Mode) -> Self::Request {
        named(owner, self.name(), name, |name| self.acquire(owner, name, mode))
    }
}

macro_rules! within_what_it_points_to {
    ($($pointer:ty),*) => {$(
        impl<W: Within + ?Sized> Within for $pointer {
            type Request = W::Request;

            fn request(&self, name: Name, mode: Mode) -> W::Request {
                (**self).request(name, mode)
            }
        }

        impl<W: WithinAs + ?Sized> WithinAs for $pointer {
            fn request_as(&self, owner: &Owner, name: Name, mode: Mode) -> W::Request {
                (**self).request_as(owner, name, mode)
            }
        }
    )*};
}

within_what_it_points_to!(&W, &mut W, Box<W>, Rc<W>, Arc<W>);

impl<W: Within> Within for LazyLock<W> {
    type Request = W::Request;

    fn request(&self, name: Name, mode: Mode) -> W::Request {
        (**self).request(name, mode)
    }
}

impl<W: WithinAs> WithinAs for LazyLock<W> {
    fn request_as(&self, owner: &Owner, name: Name, mode: Mode) -> W::Request {
        (**self).request_as(owner, name, mode)
    }
}

/// The name of a lock, made of text and values; it knows whether a value was empty.
///
/// # Examples
/// ```
/// use tierlock::annotation::Name;
///
/// let name = Name::default().text("share-").value("{id}", &17);
/// assert_eq!(name.as_str(), "share-17");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Name {
    text: Cow<'static, str>,
    /// The first placeholder without a value.
    empty: Option<&'static str>,
}

impl Name {
    /// As it is so far.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::annotation::Name::from("config").as_str(), "config");
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first placeholder whose value was empty.
    #[cfg(feature = "coordination")]
    pub(crate) fn empty_value(&self) -> Option<&'static str> {
        self.empty
    }

    /// Goes on with text.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::annotation::Name;
    /// assert_eq!(Name::from("share").text("-a").as_str(), "share-a");
    /// ```
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// Goes on with a value, which must not be empty.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::annotation::Name;
    /// assert_eq!(Name::from("share-").value("{id}", &17).as_str(), "share-17");
    /// ```
    #[must_use]
    pub fn value(mut self, placeholder: &'static str, value: &(impl Display + ?Sized)) -> Self {
        let shown = value.to_string();
        if is_empty(&shown) {
            self.empty.get_or_insert(placeholder);
        }
        self.text(&shown)
    }

    /// Goes on with a value as `shown` shows it; neither must be empty.
    #[doc(hidden)]
    #[must_use]
    pub fn padded(
        mut self,
        placeholder: &'static str,
        value: &(impl Display + ?Sized),
        shown: &(impl Display + ?Sized),
    ) -> Self {
        let shown = shown.to_string();
        if is_empty(&shown) || is_empty(&value.to_string()) {
            self.empty.get_or_insert(placeholder);
        }
        self.text(&shown)
    }
}

/// Tells whether a value tells nothing; a string shown by `Debug` has its quotes.
fn is_empty(value: &str) -> bool {
    value.trim().is_empty() || value == "\"\""
}

impl From<&'static str> for Name {
    fn from(text: &'static str) -> Self {
        Self { text: text.into(), empty: None }
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self { text: text.into(), empty: None }
    }
}

/// A request for a lock by a name that was made at run time, and is refused if a value in it was empty.
///
/// Only ever named by the compiler, so without an example of its own: see [`Within`].
#[derive(Debug)]
pub struct Named<T> {
    target: T,
    refused: Option<AcquireError>,
}

fn named<T>(
    owner: &Owner,
    set: &str,
    name: Name,
    target: impl FnOnce(String) -> T,
) -> Acquire<Named<T>> {
    let text = name.text.into_owned();
    let refused = name.empty.map(|placeholder| AcquireError::EmptyValue {
        owner: Arc::clone(owner.name_arc()),
        lock: LockName::within(&set.into(), text.as_str().into()),
        placeholder,
    });
    Acquire::new(Named { target: target(text), refused })
}

impl<T: Target<Error = AcquireError>> Target for Named<T> {
    type Granted = T::Granted;
    type Error = AcquireError;

    fn immediate(self, priority: Priority) -> Result<T::Granted, Self> {
        match self.refused {
            Some(_) => Err(self),
            None => {
                self.target.immediate(priority).map_err(|target| Self { target, refused: None })
            }
        }
    }

    fn prepare(&mut self, waits: Patience) -> Result<Option<Task>, AcquireError> {
        match self.refused.take() {
            Some(refused) => Err(refused),
            None => self.target.prepare(waits),
        }
    }

    fn undo(&mut self) {
        self.target.undo();
    }

    fn granted(self, task: Option<Task>) -> Result<T::Granted, AcquireError> {
        self.target.granted(task)
    }

    fn refused(self, refusal: Refusal) -> AcquireError {
        self.target.refused(refusal)
    }
}

#[doc(hidden)]
pub fn lock(lock: &SharedLock, mode: Mode) -> Acquire<AcquireLock<'static>> {
    lock_as(&Owner::current(), lock, mode)
}

#[doc(hidden)]
pub fn lock_as(owner: &Owner, lock: &SharedLock, mode: Mode) -> Acquire<AcquireLock<'static>> {
    // The body may move or change what the lock and the owner are part of.
    lock.acquire(owner, mode).into_owned()
}

#[doc(hidden)]
pub fn within<W: Within + ?Sized>(place: &W, name: impl Into<Name>, mode: Mode) -> W::Request {
    place.request(name.into(), mode)
}

#[doc(hidden)]
pub fn within_as<W: WithinAs + ?Sized>(
    owner: &Owner,
    place: &W,
    name: impl Into<Name>,
    mode: Mode,
) -> W::Request {
    place.request_as(owner, name.into(), mode)
}

/// What a function returns that may fail to acquire its lock.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that a lock was not acquired",
    label = "not a `Result<_, E>` where `E: From<tierlock::Error>`",
    note = "say what is to happen then: `on_error = panic`, or `on_error = |error| ..` that makes a `{Self}` of the error"
)]
pub trait Fails {
    fn failed(error: Error) -> Self;
}

impl<T, E: From<Error>> Fails for Result<T, E> {
    fn failed(error: Error) -> Self {
        Err(error.into())
    }
}

#[doc(hidden)]
#[cold]
pub fn failed<R: Fails>(error: impl Into<Error>) -> R {
    R::failed(error.into())
}

#[doc(hidden)]
#[cold]
pub fn handled<R>(error: impl Into<Error>, handle: impl FnOnce(Error) -> R) -> R {
    handle(error.into())
}

#[doc(hidden)]
#[cold]
#[track_caller]
pub fn panicked<R>(error: impl Into<Error>) -> R {
    panic!("{}", error.into())
}
