//! What can be wrong with a name that is made of a template and data.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::core::print::Printable;

/// Why a template is none, or makes no name of these data.
///
/// # Examples
/// ```
/// use tierlock::template::{Data, Template, TemplateFault};
///
/// let template = Template::parse("share-{share.id}")?;
/// let error = template.format(&Data::new().with("share", Data::new())).unwrap_err();
/// assert!(matches!(error.fault, TemplateFault::Missing { .. }));
/// assert_eq!(error.to_string(), "{share.id} in share-{share.id}: there is no `id`, nor anything else");
/// # Ok::<(), tierlock::template::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateError {
    /// The template.
    pub template: Arc<str>,
    /// The part of it that is at fault; all of it, if none is.
    pub placeholder: Arc<str>,
    /// What is wrong there.
    pub fault: TemplateFault,
}

/// What is wrong with a placeholder of a template.
///
/// # Examples
/// ```
/// use tierlock::template::{Data, Template, TemplateFault};
///
/// let template = Template::parse("share-{id}").unwrap();
/// let error = template.format(&Data::new().with("id", None::<u32>)).unwrap_err();
/// assert_eq!(error.fault, TemplateFault::Empty);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateFault {
    /// It cannot be read.
    #[error("{reason}")]
    #[allow(missing_docs, reason = "the variant says it")]
    Malformed { reason: &'static str },

    /// The data have nothing of this name there; what they have instead is `known`.
    #[error("there is no `{}`, {}", Printable(name), Known(known))]
    #[allow(missing_docs, reason = "the variant says it")]
    Missing { name: Arc<str>, known: Vec<Arc<str>> },

    /// The value is nothing, or shown as nothing: with it, all for whom it is so would share one name.
    #[error("its value is empty")]
    Empty,

    /// The value has parts and is no name itself, or it was to have parts and has none.
    #[error("{found} where {wanted} has to be")]
    #[allow(missing_docs, reason = "the variant says it")]
    WrongKind { found: &'static str, wanted: &'static str },
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Printable(&self.placeholder))?;
        if self.placeholder != self.template {
            write!(f, " in {}", Printable(&self.template))?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for TemplateError {}

/// What is there instead of what is missing: the first few.
struct Known<'a>(&'a [Arc<str>]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        if self.0.is_empty() {
            return f.write_str("nor anything else");
        }
        for (at, name) in self.0.iter().take(SHOWN).enumerate() {
            let before = if at == 0 { "but " } else { ", " };
            write!(f, "{before}`{}`", Printable(name))?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
