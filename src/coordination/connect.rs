//! Which driver a URL means.

use std::sync::Arc;

use super::driver::Driver;
#[cfg(unix)]
use super::file::File;
use super::memory::Memory;
use crate::error::CoordinationError;
#[cfg(unix)]
use crate::error::DriverErrorKind;

/// The driver of this URL.
pub(crate) fn connect(url: &str) -> Result<Arc<dyn Driver>, CoordinationError> {
    let bad = |reason: &str| CoordinationError::BadUrl { url: url.into(), reason: reason.into() };
    const KNOWN: &str = "write file:///DIR, memory: or memory:NAME";
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(bad(&format!("it has no scheme: {KNOWN}")));
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Arc::new(Memory::new())),
        "memory" => Ok(Arc::new(Memory::named(rest))),
        #[cfg(unix)]
        "file" => match File::connect(url) {
            Ok(file) => Ok(Arc::new(file)),
            Err(error) if error.kind() == DriverErrorKind::Refused => Err(bad(&error.to_string())),
            Err(error) => {
                let what = "connecting".into();
                Err(CoordinationError::Engine { what, at: url.into(), error })
            }
        },
        _ => Err(bad(&format!("it begins with no scheme known here: {KNOWN}"))),
    }
}
