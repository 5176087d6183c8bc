//! Which driver a URL means.

use std::sync::Arc;

use super::driver::Driver;
use super::memory::Memory;
use crate::error::CoordinationError;

/// The driver of this URL.
pub(crate) fn connect(url: &str) -> Result<Arc<dyn Driver>, CoordinationError> {
    let bad = |reason: &str| CoordinationError::BadUrl { url: url.into(), reason: reason.into() };
    let Some((scheme, rest)) = url.split_once(':') else { return Err(bad("it has no scheme")) };
    match scheme {
        "memory" if rest.is_empty() => Ok(Arc::new(Memory::new())),
        "memory" => Ok(Arc::new(Memory::named(rest))),
        _ => Err(bad("it begins with no scheme known here: memory:, file:")),
    }
}
