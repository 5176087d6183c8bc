//! What lies beyond the process: whoever grants the locks of a set to this process among others.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::core::mode::Mode;
use crate::core::queue::Priority;
use crate::error::Outside;
use crate::hold::Lock;
use crate::owner::Owner;

/// Grants locks of a set to this process. A lock that it was not granted is held here by an owner that stands for all others.
pub(crate) trait Beyond: fmt::Debug + Send + Sync + RefUnwindSafe {
    /// Comes to know a lock that nobody uses yet. Returns those made on demand that nobody uses any more: they are members no
    /// longer.
    fn adopt(&self, lock: &Arc<Lock>) -> Vec<Arc<Lock>>;

    /// Hears that the lock is no member of the set any more.
    fn forget(&self, lock: &Arc<Lock>);

    /// Fails if this process holds nothing there any more.
    fn check(&self) -> Result<(), Outside>;

    /// Fails for a name that cannot be granted across processes.
    fn check_name(&self, name: &str) -> Result<(), Outside>;

    /// Fails if what an owner here holds of the lock is held no more.
    fn check_lock(&self, lock: &Arc<Lock>) -> Result<(), Outside>;

    /// Makes one attempt to be granted what this asks for; whether it was, the lock knows.
    fn ask(&self, lock: &Arc<Lock>, asked: &AskedBeyond<'_>) -> Result<Promise, Outside>;

    /// Has an owner here go before whoever comes anew elsewhere, when it upgrades what it holds of the lock, for as long as what
    /// this returns is kept.
    fn hold_off(&self, lock: &Arc<Lock>) -> Option<Promise>;

    /// Waits until this process was granted a lock that no owner elsewhere can be using.
    fn bring(&self, lock: &Arc<Lock>, mode: Mode) -> Result<(), Outside>;

    /// The next fencing token of what this process was granted of the lock.
    fn token(&self, lock: &Arc<Lock>) -> Result<u64, Outside>;
}

/// Kept as long as what it promises is to hold: that what an attempt was granted is not taken for unused before it has the last, or
/// that newcomers elsewhere come after an upgrade here.
pub(crate) type Promise = Box<dyn Promised>;

/// Something that is done with when it is dropped.
pub(crate) trait Promised: fmt::Debug + Send + Sync + UnwindSafe + RefUnwindSafe {}

/// What one attempt asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedBeyond<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) mode: Mode,
    /// The mode in which the owner holds the lock already.
    pub(crate) from: Option<Mode>,
    pub(crate) priority: Priority,
}
