//! The annotations of [`tierlock`](https://docs.rs/tierlock), which re-exports them: use them from there.
//!
//! They read what is written and write what calls the library; whatever happens at run time is in `tierlock::annotation`.

mod args;
mod duration;
mod expand;
mod level;
mod order;
mod template;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Holds a lock for the body of a function: taken before the first statement, given back after the last, and on `return`, `?` and
/// panic; of an async function, also when its future is dropped.
///
/// # A lock by expression
/// ```
/// use std::sync::LazyLock;
/// use tierlock::{Error, SharedLock, ssynchronized};
///
/// static CONFIG: LazyLock<SharedLock> = LazyLock::new(|| SharedLock::new("config"));
///
/// struct Store {
///     lock: SharedLock,
///     entries: Vec<String>,
/// }
///
/// impl Store {
///     #[ssynchronized(self.lock)] // exclusively, unless said otherwise
///     fn push(&mut self, entry: &str) -> Result<(), Error> {
///         self.entries.push(entry.to_owned());
///         Ok(())
///     }
///
///     #[ssynchronized(self.lock, shared, timeout = "2s", priority = -5)]
///     async fn len(&self) -> Result<usize, Error> {
///         Ok(self.entries.len())
///     }
/// }
///
/// #[ssynchronized(CONFIG, now, on_error = |_| None)]
/// fn peek() -> Option<u32> {
///     Some(17)
/// }
///
/// let mut store = Store { lock: SharedLock::new("store"), entries: vec![] };
/// store.push("a")?;
/// assert_eq!(pollster::block_on(store.len())?, 1);
/// assert_eq!(peek(), Some(17));
/// # Ok::<(), Error>(())
/// ```
/// The expression is whatever `&` makes a [`SharedLock`](https://docs.rs/tierlock/latest/tierlock/struct.SharedLock.html) of: a
/// field, a static, a call. It is evaluated before the lock is taken, and need not outlive the call.
///
/// # A lock by name
/// ```
/// use std::collections::HashMap;
/// use tierlock::{Error, LockManager, LockSet, Session, ganeti::{self, Level::*}, ssynchronized};
///
/// struct Share { id: u32 }
///
/// struct Shares { locks: LockSet }
///
/// impl Shares {
///     #[ssynchronized("share-{share.id}-{f_name}", in = self.locks)] // share-7-grow
///     fn grow(&self, share: &Share, by: u64) -> Result<u64, Error> {
///         assert_eq!(self.locks.names(), ["share-7-grow".into()]);
///         Ok(by)
///     }
///
///     #[ssynchronized(r#"{snap["name"]:_>8}-{ids[0]:03}"#, in = self.locks, shared)] // ___daily-001
///     fn copy(&self, snap: &HashMap<&str, String>, ids: &[u32]) -> Result<(), Error> {
///         assert_eq!(self.locks.names(), ["___daily-001".into()]);
///         Ok(())
///     }
/// }
///
/// #[ssynchronized("BGL", in = job.at(Cluster), shared)] // in order, as they are written
/// #[ssynchronized("{node}", in = job.at(Node))]
/// fn reboot(job: &mut Session, node: &str) -> Result<(), Error> {
///     assert!(job.holds(Node, node).is_some());
///     Ok(())
/// }
///
/// #[ssynchronized("BGL", in = manager.at(Cluster), shared)] // without a session
/// fn survey(manager: &LockManager) -> Result<usize, Error> {
///     Ok(manager.names(Node).len())
/// }
///
/// let shares = Shares { locks: LockSet::on_demand("shares") };
/// assert_eq!(shares.grow(&Share { id: 7 }, 100)?, 100);
/// shares.copy(&HashMap::from([("name", "daily".to_owned())]), &[1, 2])?;
///
/// let manager = ganeti::manager([""; 0], [""; 0], ["n1", "n2"], [""; 0]).build()?;
/// reboot(&mut manager.session("job-17"), "n1")?;
/// assert_eq!(survey(&manager)?, 2);
/// # Ok::<(), Error>(())
/// ```
/// `in` is a place where a name means a lock: a `LockSet`, `session.at(level)`, `manager.at(level)`, or what else implements
/// `tierlock::annotation::Within`; behind a reference, a `Box`, an `Arc` or a `LazyLock` as well.
///
/// In braces stands an argument, with fields, methods without arguments and indices, and how it is shown, as `format!` has it;
/// `f_name` is the function's name; `{{` and `}}` are braces. An argument is what the signature calls so, however it is passed.
/// What is not there, or has no `Display`, does not compile. A value that is empty when it comes to it is an error, `EmptyValue`:
/// it would be one lock for all who have none. The name that errors, traces and the monitor show is the one with its values.
///
/// # Options
/// | | |
/// |---|---|
/// | `shared`, `exclusive`, `intent_shared`, `intent_exclusive`, `shared_intent_exclusive`, `mode = expr` | the mode; exclusive, unless said otherwise |
/// | `priority = expr` | lower goes first |
/// | `timeout = "2s"`, `timeout = expr`, `deadline = expr` | how long to wait; `ns`, `us`, `ms`, `s`, `min` and `h` are read when it is compiled |
/// | `now` | tries, and does not wait |
/// | `owner = expr` | who asks, instead of `Owner::current()` |
/// | `on_error = panic`, `on_error = expr` | what becomes of a failure to acquire |
///
/// # Who asks
/// `Owner::current()`: the owner set by `scope` or `sync_scope`, else, in an async function, one of the call's own, and the thread's
/// own otherwise. An async function that is called inside of an annotated one has that one's owner, so a lock that is held already
/// is noticed: recursion is `AlreadyHeld`, never a wait for oneself. That is so of what is joined inside, too. Tasks that are spawned
/// are owners of their own, and so is what is blocked on in a function that is not async: `owner.scope(..)` gives it one.
/// A session is its own owner, so `owner` does not go with `job.at(..)`.
///
/// # When it is not acquired
/// A function that returns `Result<_, E>`, where `E: From<tierlock::Error>`, returns the error. Any other has to choose:
/// `on_error = panic`, or a function or closure that makes what is returned of the `tierlock::Error`.
/// ```
/// use tierlock::{LockSet, Owner, exclusive, ssynchronized};
///
/// #[ssynchronized("{user}", in = users, timeout = "1ms", on_error = |error| Err(error.to_string()))]
/// fn rename(users: &LockSet, user: &str) -> Result<(), String> {
///     Ok(())
/// }
///
/// let users = LockSet::on_demand("user");
/// let guard = users.acquire(&Owner::new("job-3"), exclusive("ann")).wait()?;
/// assert!(rename(&users, "ann").unwrap_err().contains("waiting for user/ann exclusive, blocked by job-3"));
/// # Ok::<(), tierlock::AcquireError>(())
/// ```
///
/// # Several locks
/// Annotations nest in the order written: the first is taken first and given back last. Levels that are out of order are an error
/// when it comes to it, and do not compile if both are written as `place.at(Type::Variant)` of one derived type.
/// ```compile_fail
/// use tierlock::{Error, Session, ganeti::Level, ssynchronized};
///
/// #[ssynchronized("n1", in = job.at(Level::Node))]
/// #[ssynchronized("BGL", in = job.at(Level::Cluster), shared)] // comes before
/// fn reboot(job: &mut Session) -> Result<(), Error> {
///     Ok(())
/// }
/// ```
///
/// # What it writes
/// A guard, then the body. The signature and all other attributes stay as they are.
/// ```
/// # use tierlock::{Error, SharedLock, ssynchronized};
/// # struct Store { lock: SharedLock, entries: Vec<String> }
/// # impl Store {
/// #[ssynchronized(self.lock, shared, timeout = "2s")]
/// fn len(&self) -> Result<usize, Error> {
///     Ok(self.entries.len())
/// }
/// # }
/// ```
/// becomes
/// ```
/// # use tierlock::{Error, SharedLock};
/// # struct Store { lock: SharedLock, entries: Vec<String> }
/// # impl Store {
/// fn len(&self) -> Result<usize, Error> {
///     let asked = ::tierlock::annotation::lock(&self.lock, ::tierlock::Mode::Shared)
///         .timeout(::core::time::Duration::from_secs(2));
///     let held = match asked.wait() {
///         ::core::result::Result::Ok(held) => held,
///         ::core::result::Result::Err(error) => return ::tierlock::annotation::failed(error),
///     };
///     Ok(self.entries.len())
/// }
/// # }
/// ```
/// An async function says `.await` for `.wait()`, and unless it names an owner the guard and the body are an async block within
/// `annotation::task(..).await`, which keeps the owner. No name in it can be seen in the body, nor hides one of yours.
///
/// # Where it does not go
/// On `const`, `unsafe` and `extern` functions; on functions that return a future without being `async`, since the lock would be
/// given back before the future runs; on what has no body. What an iterator or a closure does that is returned is not done under the
/// lock either.
#[proc_macro_attribute]
pub fn ssynchronized(args: TokenStream, item: TokenStream) -> TokenStream {
    match expand::expand(args.into(), item.clone().into()) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            // The function stays, so that its callers do not complain as well.
            let mut tokens = TokenStream::from(error.into_compile_error());
            tokens.extend(item);
            tokens
        }
    }
}

/// Makes levels of the variants of an enum: ranked as they are declared, called as they are in kebab-case.
///
/// Implements `tierlock::Level`, and `tierlock::Levels` for `LockManagerBuilder::levels`.
///
/// # Examples
/// ```
/// use tierlock::{Level, LockManager};
///
/// #[derive(Level)]
/// enum Tier {
///     #[level(root = "BGL", fixed)] // held before all else; no names come or go
///     Cluster,
///     #[level(name = "tenants")] // instead of `tenant`
///     Tenant,
///     #[level(on_demand)] // any name, while somebody needs it
///     BlockDevice,
/// }
///
/// let manager = LockManager::builder()
///     .levels(|tier| match tier {
///         Tier::Tenant => vec!["acme", "umbrella"],
///         Tier::Cluster | Tier::BlockDevice => vec![],
///     })
///     .build()?;
/// assert_eq!((Tier::BlockDevice.rank(), Tier::BlockDevice.name()), (2, "block-device"));
///
/// let mut job = manager.session("job-17");
/// job.acquire([Tier::Cluster.shared("BGL"), Tier::Tenant.exclusive("acme")]).wait()?;
/// job.acquire(Tier::BlockDevice.exclusive("sda")).wait()?;
/// # Ok::<(), tierlock::Error>(())
/// ```
#[proc_macro_derive(Level, attributes(level))]
pub fn level(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    level::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
