//! Why an attempt ended early, and which errors of the library amount to that.

use tierlock::{AcquireError, HoldError, MembershipError};

/// Why an attempt ended early.
#[derive(Debug)]
pub(crate) enum Setback {
    /// Its time was up: to be tried again.
    TimedOut,
    /// Fewer locks were free than it needs: to be tried again, but not at once.
    TooFew,
    /// It cannot succeed.
    Failed(String),
}

impl From<AcquireError> for Setback {
    fn from(error: AcquireError) -> Self {
        // Counted by reason, so without the name of the lock.
        let gone = |why: &str| Self::Failed(why.to_owned());
        match error {
            AcquireError::NotEnough { .. } => Self::TooFew,
            AcquireError::NotFound { .. } => gone("a name was gone before its lock was asked for"),
            AcquireError::Deleted { .. } => gone("a lock was removed while the job waited for it"),
            error if error.is_timeout() => Self::TimedOut,
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<MembershipError> for Setback {
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::Acquire(error) => error.into(),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// A job gives back what it holds by its own account, so this says that the account is wrong.
impl From<HoldError> for Setback {
    fn from(error: HoldError) -> Self {
        Self::Failed(error.to_string())
    }
}
