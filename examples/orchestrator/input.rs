//! JSON files, and errors that say where in them: file, line, entry and field.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_path_to_error::{Path as FieldPath, Segment};

/// A file's text, and its name for error messages.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    text: String,
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    pub(crate) fn read(path: &Path) -> Result<Self, InputError> {
        let name = path.display().to_string();
        let fail =
            |line, problem| InputError { file: name.clone(), line, field: String::new(), problem };
        let bytes = std::fs::read(path).map_err(|error| fail(None, error.to_string()))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                Err(fail(Some(count_lines(good) + 1), "not UTF-8".to_owned()))
            }
        }
    }

    /// Reads the whole file as one value.
    pub(crate) fn document<'a, T: Deserialize<'a>>(&'a self) -> Result<T, InputError> {
        self.deserialise(&self.text, 0, ToString::to_string)
    }

    /// Takes `raw`, a part of this source's document, as an entry called `place`.
    pub(crate) fn entry<'a>(&'a self, raw: &'a RawValue, place: String) -> Entry<'a> {
        Entry { source: self, raw: raw.get(), place }
    }

    /// Splits a list of the document into entries `list[0]`, `list[1]` and so on.
    pub(crate) fn entries<'a>(
        &'a self,
        list: &'static str,
        raws: &[&'a RawValue],
    ) -> Vec<Entry<'a>> {
        raws.iter().enumerate().map(|(i, raw)| self.entry(raw, format!("{list}[{i}]"))).collect()
    }

    fn deserialise<'a, T: Deserialize<'a>>(
        &'a self,
        text: &'a str,
        lines_before: usize,
        field: impl FnOnce(&FieldPath) -> String,
    ) -> Result<T, InputError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = field(error.path());
            self.json_error(error.inner(), lines_before, field)
        })?;
        json.end().map_err(|error| self.json_error(&error, lines_before, String::new()))?;
        Ok(value)
    }

    fn json_error(
        &self,
        error: &serde_json::Error,
        lines_before: usize,
        field: String,
    ) -> InputError {
        let position = format!(" at line {} column {}", error.line(), error.column());
        let text = error.to_string();
        InputError {
            file: self.name.clone(),
            line: Some(lines_before + error.line()),
            field: if field == "." { String::new() } else { field },
            problem: text.strip_suffix(&position).unwrap_or(&text).to_owned(),
        }
    }

    /// The number of line ends before `part`, which is a slice of this text.
    fn lines_before(&self, part: &str) -> usize {
        let offset = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        count_lines(self.text.as_bytes().get(..offset).unwrap_or_default())
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// One element of a list in a file. Read by itself, so that it knows its line.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    source: &'a Source,
    raw: &'a str,
    place: String,
}

impl<'a> Entry<'a> {
    /// Reads an object.
    pub(crate) fn object<T: Deserialize<'a>>(&self) -> Result<T, InputError> {
        self.row(&[])
    }

    /// Reads an array whose elements have names.
    pub(crate) fn row<T: Deserialize<'a>>(&self, columns: &[&str]) -> Result<T, InputError> {
        self.source.deserialise(self.raw, 0, |path| self.field(path, columns)).map_err(|error| {
            InputError {
                line: error.line.map(|line| line + self.source.lines_before(self.raw)),
                ..error
            }
        })
    }

    /// An error in `field` of this entry, or in all of it if that is empty.
    pub(crate) fn error(&self, field: &str, problem: impl fmt::Display) -> InputError {
        let dot = if field.is_empty() { "" } else { "." };
        InputError {
            file: self.source.name.clone(),
            line: Some(self.source.lines_before(self.raw) + 1),
            field: format!("{}{dot}{field}", self.place),
            problem: problem.to_string(),
        }
    }

    fn field(&self, path: &FieldPath, columns: &[&str]) -> String {
        let mut field = self.place.clone();
        for (depth, segment) in path.iter().enumerate() {
            match segment {
                Segment::Seq { index } if depth == 0 && *index < columns.len() => {
                    field = format!("{field}.{}", columns[*index]);
                }
                Segment::Seq { index } => field = format!("{field}[{index}]"),
                other => field = format!("{field}.{other}"),
            }
        }
        field
    }
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InputError {
    file: String,
    line: Option<usize>,
    field: String,
    problem: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for InputError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        rows: Vec<&'a RawValue>,
    }

    fn rows(text: &str) -> Result<Vec<(u32, Vec<i64>)>, String> {
        let source = Source::new("f.json", text);
        let document: Document<'_> = source.document().map_err(|error| error.to_string())?;
        let entries = source.entries("rows", &document.rows);
        entries
            .iter()
            .map(|entry| entry.row(&["id", "deps"]).map_err(|error| error.to_string()))
            .collect()
    }

    #[test]
    fn an_error_names_file_line_and_field() {
        let cases = [
            (
                "{\n\"rows\": [\n[1, [2]],\n[2, [3, \"x\"]]]}",
                "f.json:4: rows[1].deps[1]: invalid type: string \"x\", expected i64",
            ),
            (
                "{\"rows\": [[-1, []]]}",
                "f.json:1: rows[0].id: invalid value: integer `-1`, expected u32",
            ),
            (
                "{\"rows\": [[1]]}",
                "f.json:1: rows[0]: invalid length 1, expected a tuple of size 2",
            ),
            ("{\"rows\": [[1, [],\n 3]]}", "f.json:2: rows[0]: trailing characters"),
            ("{\"rows\": 5}", "f.json:1: rows: invalid type: integer `5`, expected a sequence"),
            ("{}", "f.json:1: missing field `rows`"),
            ("{\"rows\": []}\n]", "f.json:2: trailing characters"),
            ("", "f.json:1: EOF while parsing a value"),
            (
                "{\"rows\": [[99999999999999999999, []]]}",
                "f.json:1: rows[0].id: invalid type: floating point `1e+20`, expected u32",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(rows(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        let error = Source::read(Path::new("/nowhere/jobs.json")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/jobs.json: No such file"), "{error}");
    }
}
