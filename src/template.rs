//! Names made at run time, of a template and data: `share-{share.id}-{f_name}`.
//!
//! Templates are those of Python's `str.format`, as far as names need them: fields, attributes and items, and doubled
//! braces. What would show a value otherwise than it is, a format or a conversion, is refused. Where the template is known when
//! the program is compiled, [`ssynchronized`](crate::ssynchronized) checks it then.
//!
//! A name that is not made of what it should be is a lock that the wrong ones share. So whatever is missing or empty is an error,
//! which names template and placeholder; nothing ever becomes the text `None`.
//!
//! | template | of `share` = { `id`: 7, `tags`: ["a", "b"] } |
//! |---|---|
//! | `share-{share.id}`, `share-{share[id]}` | `share-7` |
//! | `{share.tags[1]}` | `b` |
//! | `{{{share.id}}}` | `{7}` |
//! | `{share}` | an error: it has parts |
//! | `{share.name}` | an error: there is no `name` |
//! | `{}`, `{0}`, `{share.id:>8}`, `{share.id!r}`, `{`, `}` | errors of [`Template::parse`] |
//!
//! Different values make different names, if what stands between two placeholders cannot be part of the values:
//! `{host}/{path}` of hosts does, `{a}{b}` does not.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use crate::error::{TemplateError, TemplateFault};

/// A text with placeholders.
///
/// Shown as it was read.
///
/// # Examples
/// ```
/// use tierlock::template::{Data, Template};
///
/// let template = Template::parse("{f_name}-{share.id}-{snap[name]}")?;
/// let data = Data::new()
///     .with("f_name", "create")
///     .with("share", Data::new().with("id", 7))
///     .with("snap", Data::new().with("name", "nightly"));
/// assert_eq!(template.format(&data)?, "create-7-nightly");
/// # Ok::<(), tierlock::template::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// No two texts stand side by side, and none is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    Text(String),
    Placeholder(Path),
}

/// What a placeholder names: a field of the data, and the way from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Path {
    field: String,
    steps: Vec<Step>,
}

/// They lead to the same, and are shown as they were written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Attribute(String),
    Item(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`Malformed`](TemplateFault::Malformed) if a brace or bracket is not closed, a placeholder names nothing, names by number, or has
    /// a format or a conversion, or if there is nothing but blanks.
    ///
    /// # Examples
    /// ```
    /// use tierlock::template::Template;
    ///
    /// assert_eq!(Template::parse("share-{id}").unwrap().to_string(), "share-{id}");
    /// let error = Template::parse("share-{id:>8}").unwrap_err();
    /// assert_eq!(error.to_string(), "{id:>8} in share-{id:>8}: a value is shown as it is: leave the format out");
    /// ```
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let malformed = |placeholder: &str, reason| TemplateError {
            template: template.into(),
            placeholder: placeholder.into(),
            fault: TemplateFault::Malformed { reason },
        };
        if template.trim().is_empty() {
            return Err(malformed(template, "an empty name would be one for everybody"));
        }
        let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), template);
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                text.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            if rest.starts_with('}') {
                return Err(malformed("}", "nothing to close: write `}}` for a brace"));
            }
            let Some(end) = end_of(rest) else {
                return Err(malformed(rest, "never closed: write `{{` for a brace"));
            };
            let path = Path::parse(&rest[1..end - 1]);
            let path = path.map_err(|reason| malformed(&rest[..end], reason))?;
            push_text(&mut pieces, &mut text);
            pieces.push(Piece::Placeholder(path));
            rest = &rest[end..];
        }
        text.push_str(rest);
        push_text(&mut pieces, &mut text);
        Ok(Self { pieces })
    }

    /// Makes a name of the data. Of them it needs what the template names; there may be more.
    ///
    /// # Errors
    /// [`Missing`](TemplateFault::Missing), [`Empty`](TemplateFault::Empty) and [`WrongKind`](TemplateFault::WrongKind), each with the placeholder.
    ///
    /// # Examples
    /// ```
    /// use tierlock::template::{Data, Template};
    ///
    /// let template = Template::parse("share-{id}")?;
    /// assert_eq!(template.format(&Data::new().with("id", 7))?, "share-7");
    /// let error = template.format(&Data::new().with("share_id", 7)).unwrap_err();
    /// assert_eq!(error.to_string(), "{id} in share-{id}: there is no `id`, but `share_id`");
    /// # Ok::<(), tierlock::template::TemplateError>(())
    /// ```
    pub fn format(&self, data: &Data) -> Result<String, TemplateError> {
        let mut name = String::new();
        for piece in &self.pieces {
            name.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Placeholder(path) => path.find(data).map_err(|fault| TemplateError {
                    template: self.to_string().into(),
                    placeholder: piece.to_string().into(),
                    fault,
                })?,
            });
        }
        Ok(name)
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &mut String) {
    if !text.is_empty() {
        pieces.push(Piece::Text(std::mem::take(text)));
    }
}

/// Just behind the brace that closes the one `text` begins with. What stands in brackets closes nothing.
fn end_of(text: &str) -> Option<usize> {
    let mut in_brackets = false;
    let end = text.find(|c: char| {
        in_brackets = (in_brackets || c == '[') && c != ']';
        c == '}' && !in_brackets
    });
    end.map(|at| at + 1)
}

impl Path {
    /// Reads what stands between the braces.
    fn parse(inner: &str) -> Result<Self, &'static str> {
        let (field, mut rest) = take_name(inner)?;
        if field.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("data go by name, not by number");
        }
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = Step::take(rest)?;
            steps.push(step);
            rest = after;
        }
        Ok(Self { field: field.to_owned(), steps })
    }

    /// The text that it leads to.
    fn find<'d>(&self, data: &'d Data) -> Result<&'d str, TemplateFault> {
        let mut value = data.find(&self.field)?;
        for Step::Attribute(name) | Step::Item(name) in &self.steps {
            value = value.find(name)?;
        }
        match value {
            Value::Nothing => Err(TemplateFault::Empty),
            Value::Text(text) if text.trim().is_empty() => Err(TemplateFault::Empty),
            Value::Text(text) => Ok(text),
            parts => {
                Err(TemplateFault::WrongKind { found: parts.kind(), wanted: "a single value" })
            }
        }
    }
}

impl Step {
    fn take(rest: &str) -> Result<(Self, &str), &'static str> {
        if let Some(rest) = rest.strip_prefix('.') {
            return take_name(rest).map(|(name, rest)| (Self::Attribute(name.to_owned()), rest));
        }
        let Some(rest) = rest.strip_prefix('[') else {
            return Err(follows("only `.` or `[` follows a bracket", rest));
        };
        match rest.split_once(']') {
            Some(("", _)) => Err("nothing stands in the brackets"),
            Some((key, rest)) => Ok((Self::Item(key.to_owned()), rest)),
            None => Err("a bracket is never closed"),
        }
    }
}

/// The name that `text` begins with, and what follows.
fn take_name(text: &str) -> Result<(&str, &str), &'static str> {
    let (name, rest) =
        text.split_at(text.find(['.', '[', ']', '{', ':', '!']).unwrap_or(text.len()));
    if !rest.is_empty() && !rest.starts_with(['.', '[']) {
        return Err(follows("a brace or bracket within a name", rest));
    }
    if name.is_empty() { Err("nothing is named") } else { Ok((name, rest)) }
}

/// Why a name or a bracket must not be followed by `rest`.
fn follows(otherwise: &'static str, rest: &str) -> &'static str {
    match rest.chars().next() {
        Some(':') => "a value is shown as it is: leave the format out",
        Some('!') => "a value is shown as it is: leave the conversion out",
        _ => otherwise,
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| piece.fmt(f))
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Self::Placeholder(Path { field, steps }) => {
                write!(f, "{{{field}")?;
                for step in steps {
                    match step {
                        Step::Attribute(name) => write!(f, ".{name}")?,
                        Step::Item(key) => write!(f, "[{key}]")?,
                    }
                }
                f.write_str("}")
            }
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        Self::parse(template)
    }
}

/// What a name is made of: values by name.
///
/// # Examples
/// ```
/// use tierlock::template::Data;
///
/// let data = Data::new().with("f_name", "create").with("share", Data::new().with("id", 7));
/// assert_eq!(Data::from_iter([("a", 1), ("b", 2)]), Data::new().with("b", 2).with("a", 1));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    values: BTreeMap<Arc<str>, Value>,
}

impl Data {
    /// No values.
    ///
    /// # Examples
    /// ```
    /// use tierlock::template::{Data, Template};
    ///
    /// assert_eq!(Template::parse("config").unwrap().format(&Data::new()).unwrap(), "config");
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value, in place of one that had this name.
    ///
    /// # Examples
    /// ```
    /// use tierlock::template::Data;
    ///
    /// assert_eq!(Data::new().with("id", 1).with("id", 2), Data::new().with("id", 2));
    /// ```
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.values.insert(name.into(), value.into());
        self
    }

    fn find(&self, name: &str) -> Result<&Value, TemplateFault> {
        self.values.get(name).ok_or_else(|| TemplateFault::Missing {
            name: name.into(),
            known: self.values.keys().cloned().collect(),
        })
    }
}

impl<K: Into<Arc<str>>, V: Into<Value>> FromIterator<(K, V)> for Data {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(values: I) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { values: values.collect() }
    }
}

/// A value of [`Data`]: made of text, numbers, truth values and what is optional; of lists and of other data.
///
/// Whatever implements `serde::Serialize` is one by way of `serde_json::to_value`, if the crate has the feature `coordination`.
///
/// # Examples
/// ```
/// use tierlock::template::Value;
///
/// assert_eq!(Value::from(7), Value::Text("7".into()));
/// assert_eq!(Value::from(None::<u32>), Value::Nothing);
/// ```
/// With the fields of a type of one's own:
/// ```
/// # #[cfg(feature = "coordination")] {
/// use tierlock::template::{Data, Template};
///
/// #[derive(serde::Serialize)]
/// struct Share { id: u32, host: String }
///
/// let share = serde_json::to_value(Share { id: 7, host: "a".into() }).unwrap();
/// let template = Template::parse("{share.host}/{share.id}").unwrap();
/// assert_eq!(template.format(&Data::new().with("share", share)).unwrap(), "a/7");
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// None: never part of a name.
    Nothing,
    /// As it is shown.
    Text(String),
    /// Values by number, the first being 0.
    List(Vec<Self>),
    /// Values by name.
    Map(Data),
}

impl Value {
    /// The part of it that has this name, or this number.
    fn find(&self, name: &str) -> Result<&Self, TemplateFault> {
        match self {
            Self::Map(data) => data.find(name),
            Self::List(list) => {
                number(name).and_then(|at| list.get(at)).ok_or_else(|| TemplateFault::Missing {
                    name: name.into(),
                    known: (0..list.len()).map(|at| at.to_string().into()).collect(),
                })
            }
            Self::Nothing => Err(TemplateFault::Empty),
            Self::Text(_) => {
                Err(TemplateFault::WrongKind { found: self.kind(), wanted: "a list or a map" })
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Text(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Digits alone: a sign would be read as a number as well.
fn number(name: &str) -> Option<usize> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| digits)
}

macro_rules! value_as_shown {
    ($($shown:ty),*) => {$(
        impl From<$shown> for Value {
            fn from(value: $shown) -> Self {
                Self::Text(value.to_string())
            }
        }
    )*};
}

value_as_shown!(&str, &String, Arc<str>, bool, char);
value_as_shown!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Data> for Value {
    fn from(data: Data) -> Self {
        Self::Map(data)
    }
}

impl<V: Into<Self>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Nothing, Into::into)
    }
}

impl<V: Into<Self>> From<Vec<V>> for Value {
    fn from(list: Vec<V>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

#[cfg(feature = "coordination")]
impl From<serde_json::Value> for Value {
    /// Text becomes itself; numbers and truth values become what JSON writes for them.
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match value {
            Json::Null => Self::Nothing,
            Json::Bool(value) => value.into(),
            Json::Number(number) => Self::Text(number.to_string()),
            Json::String(text) => Self::Text(text),
            Json::Array(list) => list.into(),
            Json::Object(map) => Self::Map(map.into_iter().collect()),
        }
    }
}
