//! Which driver a URL means.

use std::sync::Arc;

use super::driver::Driver;
use crate::error::CoordinationError;

/// The driver of this URL.
pub(crate) fn connect(url: &str) -> Result<Arc<dyn Driver>, CoordinationError> {
    let bad = |reason: &str| CoordinationError::BadUrl { url: url.into(), reason: reason.into() };
    let Some((scheme, _)) = url.split_once(':') else { return Err(bad("it has no scheme")) };
    match scheme {
        _ => Err(bad("it begins with no scheme known here: memory:, file:")),
    }
}
