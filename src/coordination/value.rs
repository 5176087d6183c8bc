//! A small value that members share beside their locks.

use std::fmt;
use std::sync::Arc;

use super::driver::Key;
use super::member::Member;
use crate::error::{CoordinationError, DriverError, DriverErrorKind};

/// A value of some kilobytes that all members see, and change by compare-and-swap: what is done already, who does what.
///
/// Made by [`Coordinator::value`](super::Coordinator::value). It lasts as long as the engine's records do.
///
/// # Examples
/// ```
/// use tierlock::coordination::Coordinator;
///
/// let coordinator = Coordinator::connect("memory:").join("worker-1")?;
/// let done = coordinator.value("done")?;
/// let count = done.update(|count| {
///     let count = count.map_or(0, |bytes| bytes[0]) + 1;
///     (Some(vec![count]), count)
/// })?;
/// assert_eq!((count, done.read()?), (1, Some(vec![1])));
/// # Ok::<(), tierlock::coordination::CoordinationError>(())
/// ```
#[derive(Clone)]
pub struct Value {
    member: Arc<Member>,
    key: Key,
}

impl Value {
    /// A value's size in bytes, at most.
    pub const BYTES_MAX: usize = 1 << 20;

    pub(crate) fn new(member: &Arc<Member>, key: Key) -> Self {
        Self { member: Arc::clone(member), key }
    }

    /// Reads the value; `None` if nobody ever wrote it.
    ///
    /// # Errors
    /// As of any request to the coordinator.
    pub fn read(&self) -> Result<Option<Vec<u8>>, CoordinationError> {
        Ok(self.member.read(&self.key)?.content)
    }

    /// Changes the value, if no other member does at that moment: `change` gets what is there, and returns what shall be there
    /// instead, or `None` to leave it, and a result. If somebody else was quicker it is called again, so it should do nothing
    /// else.
    ///
    /// # Errors
    /// As of any request to the coordinator; after [`Engine`](CoordinationError::Engine) the value may have been changed or
    /// not. More than [`BYTES_MAX`](Self::BYTES_MAX) bytes are refused.
    pub fn update<R>(
        &self,
        mut change: impl FnMut(Option<&[u8]>) -> (Option<Vec<u8>>, R),
    ) -> Result<R, CoordinationError> {
        self.member.update(&self.key, |bytes| {
            let (content, result) = change(bytes);
            match &content {
                Some(content) if content.len() > Self::BYTES_MAX => {
                    let what = format!("a value of {} bytes is too large", content.len());
                    let error = DriverError::new(DriverErrorKind::Refused, what);
                    Err(self.member.engine_error(self.key.as_str(), error))
                }
                _ => Ok((content, result)),
            }
        })
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("key", &self.key).field("at", self.member.at()).finish()
    }
}
