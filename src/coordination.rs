//! Locks across processes: the same locks, the same rules, and somewhere to keep the records that all share.
//!
//! A process takes part as a *member* of a [`Coordinator`]. What members hold and wait for stands in one *record* per resource,
//! in a store that a [`Driver`] leads to: `memory:` for tests and one process, `file:///dir` for the processes of
//! one host. A driver only stores; who may go next is decided by the same code as for a lock in one process.
//!
//! ```
//! use tierlock::coordination::Coordinator;
//! use tierlock::{Level, LevelId, LockManager, Owner};
//!
//! let coordinator = Coordinator::connect("memory:").join("worker-1")?;
//! coordinator.on_lost(|why| eprintln!("{why}: whatever we held may be somebody else's by now"));
//!
//! // One lock by itself.
//! let (lock, job) = (coordinator.lock("config")?, Owner::new("job-17"));
//! let guard = lock.exclusive(&job).wait()?;
//! let fenced = guard.token()?; // goes along with whatever is written outside
//! drop(guard);
//!
//! // Or a level of a manager, everything else as it was.
//! let volume = LevelId::new(0, "volume");
//! let manager = LockManager::builder().on_demand_level(&volume).cluster_wide(&volume, &coordinator).build()?;
//! manager.session("job-17").acquire(volume.exclusive("vol-1")).wait()?;
//! # assert!(fenced > 0);
//! # Ok::<(), tierlock::Error>(())
//! ```
//!
//! # What is promised
//! - Two owners never hold a lock in modes that do not admit one another, whatever processes they are in, as long as each
//!   believes what it is told: a hold can be [lost](CoordinationError::is_lost), when its member is, or somebody breaks it.
//! - A member knows of its end no later than anybody else: its life is a deadline counted from before the last word it sent,
//!   on a clock that also runs while the machine sleeps. With `file:` there is no deadline: the kernel knows who lives.
//! - Every hold has a [fencing token](ClusterGuard::token), greater than those of all holds before it that conflict with it.
//! - Who died while it held a lock exclusively is told to the next who does: see [`ClusterGuard::abandoned`].
//! - What cannot be read is an error and nobody's lock; what could not be written is held as before.
//!
//! # How it works
//! A member is one party to a record, in the strongest mode that its owners need. What *others* hold is held in this process
//! by one more owner of the local lock, which shows as `elsewhere at ..` in a [monitor](crate::LockMonitor): so the local queue
//! decides between those here and those elsewhere, and a lock that the member keeps after its use is taken again at the
//! cost of a local one. That is the scheme of Perseus's global locks, whose vocabulary [`global`] has.
//!
//! Two threads work for each member: one says that it lives, one settles what changed. A fork without exec is not a member; it
//! is told so when it next goes to the engine.
//!
//! # Faces
//! | module | is what users know from |
//! |---|---|
//! | [`synchronized`] | OpenStack Manila's coordination on Tooz |
//! | [`global`] | Perseus' global locks, which nodes own |
//! | [`lease`] | Ariba's leased locks, groups and pools |
//! | [`ledger`] | Ganga's session ledger of ids |

mod agent;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod connect;
mod coordinator;
pub mod driver;
mod elsewhere;
#[cfg(unix)]
pub mod file;
pub mod global;
pub mod lease;
pub mod ledger;
pub(crate) mod level;
mod lock;
mod member;
pub mod memory;
mod mourning;
mod registry;
mod resource;
#[cfg(test)]
mod simulation;
mod stake;
pub mod synchronized;
mod value;

pub use self::coordinator::{Connect, Coordinator};
pub use self::driver::*;
#[cfg(all(unix, fuzzing))]
pub(crate) use self::file::fuzzed;
pub use self::lock::{AcquireCluster, ClusterGuard, ClusterLock, HeldBy, UpgradeCluster};
pub use self::mourning::Lost;
pub use self::value::Value;
pub use crate::core::member::MemberId;
pub use crate::core::record::Moment;
pub use crate::error::{CoordinationError, DriverError, DriverErrorKind};
